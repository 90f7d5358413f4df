"""GrabCut inside a box (Rother, Kolmogorov and Blake 2004), by OpenCV, on a crop.

Where we differ from a plain call of OpenCV: only the box and a margin are looked at, so the cost
is that of the box and not of the image; it stops when the mask stays the same; its k-means starts
from the same seed every time; and what cannot be right (next to nothing found) is not returned.
"""

from __future__ import annotations

import cv2
import numpy as np

Box = tuple[int, int, int, int]

#: Five Gaussians need five different samples on either side, and some more to mean anything.
_FEWEST = 16


def grabcut_box(image: np.ndarray, box: Box, *, min_fill: float = 0.1, **options) -> np.ndarray:
    """Segment the object in a box: bool (y1 - y0, x1 - x0).

    As ``cut`` with the same options, but where less than ``min_fill`` of the box is found, or
    nothing can be, the answer is the whole box.
    """
    found = cut(image, box, min_fill=min_fill, **options)
    return np.ones((box[3] - box[1], box[2] - box[0]), bool) if found is None else found


def cut(image: np.ndarray, box: Box, *, iterations: int = 5, margin: float = 0.5,
        min_fill: float = 0.1, core: float = 0.0, start: float | None = None,
        side: int | None = None, space: str = "rgb") -> np.ndarray | None:
    """Segment the object in a box, or return None where that fails.

    image: uint8 (H, W, 3) RGB. box: x0, y0, x1, y1 in pixels, half-open, within the image.
    iterations: at most this many; it stops when the mask no longer changes. margin: how much
    of its surroundings the colour model of the background sees, as a share of the box's
    longer side: nothing beyond is looked at, so a small box costs little. core: the middle of
    the box, this share of each of its sides, is object for certain; 0 for none. start: where
    the object is sought first, an ellipse of this share of the area of the largest one in the
    box; None for all of the box. side: a box whose longer side has more pixels than this is
    shrunk to it first, and its mask enlarged. space: "rgb" or "lab", the colours modelled.

    Returns bool (y1 - y0, x1 - x0), or None when less than ``min_fill`` of the box is found or
    there is too little in or around it to learn colours from. The same input gives the same mask,
    in any process.
    """
    x0, y0, x1, y1 = box
    height, width = image.shape[:2]
    room = max(8, round(margin * max(x1 - x0, y1 - y0)))
    left, top = max(0, x0 - room), max(0, y0 - room)
    crop = image[top:min(height, y1 + room), left:min(width, x1 + room)]
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    mask = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    mask[inside] = cv2.GC_PR_FGD
    if start is not None:
        mask[inside][~_ellipse(y1 - y0, x1 - x0, start)] = cv2.GC_PR_BGD
    if core:
        mask[inside][_middle(y1 - y0, x1 - x0, core)] = cv2.GC_FGD
    crop = np.ascontiguousarray(crop[..., ::-1])
    if space == "lab":
        crop = cv2.cvtColor(crop, cv2.COLOR_BGR2LAB)
    shape, scale = mask.shape, 1.0 if side is None else side / max(x1 - x0, y1 - y0)
    if scale < 1:
        size = tuple(max(2, round(n * scale)) for n in shape[::-1])
        crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    found = _iterate(crop, mask, iterations)
    if found is None:
        return None
    if scale < 1:
        found = cv2.resize(255 * found, shape[::-1], interpolation=cv2.INTER_LINEAR) > 127
    found = found[inside].astype(bool)
    return found if found.any() and found.mean() >= min_fill else None


def _middle(height: int, width: int, share: float) -> tuple[slice, slice]:
    rows, columns = (round(n * (1 - share) / 2) for n in (height, width))
    return slice(rows, height - rows), slice(columns, width - columns)


def _ellipse(height: int, width: int, share: float) -> np.ndarray:
    ys, xs = ((2 * np.arange(n) + 1) / n - 1 for n in (height, width))
    return np.add.outer(ys ** 2, xs ** 2) <= share


def _iterate(crop: np.ndarray, mask: np.ndarray, iterations: int) -> np.ndarray | None:
    """Return uint8 (h, w), 1 = object; None where colours cannot be learnt. Writes to mask."""
    object_pixels = np.count_nonzero(mask & 1)
    if min(mask.size - object_pixels, object_pixels) < _FEWEST:
        return None
    cv2.setRNGSeed(0)  # its k-means draws from a generator that lives as long as the thread
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    mode, before = cv2.GC_INIT_WITH_MASK, None
    for _ in range(iterations):
        cv2.grabCut(crop, mask, None, background, foreground, 1, mode)
        mode = cv2.GC_EVAL
        found = mask & 1
        if not found.any() or before is not None and np.array_equal(found, before):
            break
        before = found
    return found
