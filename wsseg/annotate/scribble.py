"""Scribbles as a person might draw them, from label maps."""

from __future__ import annotations

import cv2
import numpy as np

NOT_DRAWN = 255


def draw_scribbles(label: np.ndarray, ids: np.ndarray, classes: np.ndarray,
                   rng: np.random.Generator, *, width: int = 3, strokes: int = 1,
                   ignore: int = 255) -> np.ndarray:
    """Draw strokes along the middle of every object and of the background.

    label: (H, W); ids: objects int (H, W), 0 = none; classes: class of ids 1..N. A stroke
    follows the ridge of the distance to the object's border along its longest extent, with a
    hand's jitter; it never leaves its object. strokes: per object; the background gets two
    more. Returns uint8 (H, W), NOT_DRAWN where nothing is drawn. This is a plain simulation: no
    claim is made that it has the statistics of ScribbleSup.
    """
    drawn = np.full(label.shape, NOT_DRAWN, np.uint8)
    regions = [(0, (label == 0).view(np.uint8), strokes + 2)]
    regions += [(int(c), (ids == i).view(np.uint8), strokes)
                for i, c in enumerate(classes, start=1)]
    for cls, mask, count in regions:
        for _ in range(count if mask.any() else 0):
            _stroke(drawn, mask, cls, rng, width)
    return drawn


def _stroke(drawn: np.ndarray, mask: np.ndarray, cls: int, rng: np.random.Generator,
            width: int) -> None:
    points = _ridge(mask, rng)
    canvas = np.zeros(mask.shape, np.uint8)
    cv2.polylines(canvas, [points.astype(np.int32).reshape(-1, 1, 2)], False, 1, width)
    inside = (canvas & mask).astype(bool)
    if not inside.any():  # an object thinner than the pen
        inside[points[0, 1], points[0, 0]] = True
    drawn[inside] = cls


def _ridge(mask: np.ndarray, rng: np.random.Generator, samples: int = 9) -> np.ndarray:
    """Return int (n, 2) points x, y inside ``mask``, ordered along its main direction."""
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    ys, xs = np.nonzero(mask)
    centre = np.array([xs.mean(), ys.mean()])
    spread = np.stack([xs, ys], 1) - centre
    angle = rng.normal(0, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    axis = turn @ np.linalg.eigh(spread.T @ spread + np.eye(2) * 1e-6)[1][:, 1]
    along = spread @ axis
    low, high = np.quantile(along, [rng.uniform(.02, .25), rng.uniform(.75, .98)])
    # the deepest pixel of each slice, blurred by a hand that does not aim well
    weight = depth[ys, xs] * rng.uniform(0.6, 1, len(xs))
    edges = np.linspace(low, high, samples + 1)
    slot = np.clip(np.searchsorted(edges, along, side="right") - 1, -1, samples - 1)
    slot[(along < low) | (along > high)] = -1
    best = []
    for i in range(samples):
        inside = np.flatnonzero(slot == i)
        if len(inside):
            pick = inside[int(weight[inside].argmax())]
            best.append((xs[pick], ys[pick]))
    if not best:
        pick = int(weight.argmax())
        best = [(xs[pick], ys[pick])]
    return np.array(best, np.int64)
