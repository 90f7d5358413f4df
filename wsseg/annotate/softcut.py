"""A box cut by colours, place and a dense CRF: what GrabCut does, softly.

Two colour models, histograms over CIE Lab smoothed by a Gaussian, are learnt from a map of
probabilities, and with a prior of where in a box its object lies they give the next one. In each
round the caller's regulariser (a dense CRF) makes the map follow the photo, as the graph cut does
in GrabCut; nothing is decided before the last round.

The prior needs no label: an object is likeliest in the middle of its box and rarest in the corners,
logit = 2.2 - 2.5 (u^2 + v^2) with u and v from -1 to 1 across the box. A box that ends at the
image's border is taken to go on behind it, by half its length, because the object does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from wsseg.annotate.grabcut import Box

#: (prob float32 (K, H, W), image uint8 (H, W, 3)) -> float32 (K, H, W), such as a dense CRF.
Regularise = Callable[[np.ndarray, np.ndarray], np.ndarray]

#: Height and slope of the prior's logit, and what a box at the image's border is lengthened by.
TOP, SLOPE, BEYOND = 2.2, 2.5, 0.5
#: Cells of a histogram along L, and along the middle halves of a and b, which photos keep to.
GRID = (16, 32, 32)
#: Deviation of the smoothing, in cells, and the share of a model that is spread over all colours.
SMOOTH, EVERY = 0.7, 0.005
#: The dense CRF that this was chosen with.
CRF = {"gauss_sigma": 2.0, "gauss_weight": 3.0, "rgb_sigma_xy": 20.0, "rgb_sigma": 8.0,
       "rgb_weight": 8.0, "iterations": 5}
#: Pixels that the logits are blurred by before they are regularised.
BLUR = 1.5
#: A box that leaves fewer pixels in or around it teaches nothing.
_FEWEST = 16


def place(box: Box, size: tuple[int, int]) -> np.ndarray:
    """Return the logit of the prior of an object in its box: float32 (y1 - y0, x1 - x0)."""
    def across(low: int, high: int, end: int) -> np.ndarray:
        left, right = low <= 1, high >= end - 1
        if left and right:  # the object has no end in sight
            return np.zeros(high - low)
        start = low - BEYOND * (high - low) * left
        stop = high + BEYOND * (high - low) * right
        return (2 * (np.arange(low, high) + 0.5 - start) / (stop - start) - 1) ** 2

    x0, y0, x1, y1 = box
    distance = np.add.outer(across(y0, y1, size[0]), across(x0, x1, size[1]))
    return (TOP - SLOPE * distance).astype(np.float32)


def soft_cut(image: np.ndarray, box: Box, regularise: Regularise, *, margin: float = 0.5,
             rounds: int = 4, side: int = 150, prior: np.ndarray | None = None
             ) -> np.ndarray | None:
    """Return the probability that each pixel of a box is its object, float32 (y1 - y0, x1 - x0).

    image: uint8 (H, W, 3) RGB; box: x0, y0, x1, y1 within it, half-open; margin: surroundings
    that the background is learnt from, as a share of the box's longer side; rounds: of learning;
    every second one and the last are regularised; side: a box with a longer side is shrunk to it;
    prior: logits, float32 (y1 - y0, x1 - x0), default ``place``. None is returned where there is
    too little in or around the box to learn colours from.
    """
    x0, y0, x1, y1 = box
    crop, window = _surroundings(image, box, margin)
    shape = crop.shape[:2]
    logit, inside = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    logit[window] = place(box, image.shape[:2]) if prior is None else prior
    inside[window] = 1
    scale = side / max(x1 - x0, y1 - y0)
    if scale < 1:
        small = tuple(max(2, round(n * scale)) for n in shape[::-1])
        crop = cv2.resize(crop, small, interpolation=cv2.INTER_AREA)
        logit, inside = (cv2.resize(a, small, interpolation=cv2.INTER_NEAREST)
                         for a in (logit, inside))
    within = inside > 0
    if min(np.count_nonzero(within), np.count_nonzero(~within)) < _FEWEST:
        return None
    prob = _rounds(crop, logit, within, regularise, rounds)
    if scale < 1:
        prob = cv2.resize(prob, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return prob[window]


def unlike_surroundings(image: np.ndarray, box: Box, mask: np.ndarray, *, margin: float = 0.5,
                        blur: float = 2.0) -> np.ndarray:
    """Return how much more of its colour a mask has than what lies around the box.

    mask: bool (y1 - y0, x1 - x0). Float32 of that size: log p(colour | mask) - log p(colour |
    surroundings), blurred by so many pixels; 0 where nothing lies around the box.
    """
    crop, window = _surroundings(image, box, margin)
    inner, outer = np.zeros(crop.shape[:2]), np.ones(crop.shape[:2])
    inner[window], outer[window] = mask, 0
    if not outer.any() or not mask.any():
        return np.zeros(mask.shape, np.float32)
    ratio = _log_ratio(_cells(crop), inner, outer)[window]
    return cv2.GaussianBlur(ratio, (0, 0), blur)


def _surroundings(image: np.ndarray, box: Box, margin: float
                  ) -> tuple[np.ndarray, tuple[slice, slice]]:
    """Return the photo in and around a box, and where the box lies in it."""
    x0, y0, x1, y1 = box
    height, width = image.shape[:2]
    room = max(8, round(margin * max(x1 - x0, y1 - y0)))
    left, top = max(0, x0 - room), max(0, y0 - room)
    crop = np.ascontiguousarray(image[top:min(height, y1 + room), left:min(width, x1 + room)])
    return crop, (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))


def _rounds(crop: np.ndarray, logit: np.ndarray, within: np.ndarray, regularise: Regularise,
            rounds: int) -> np.ndarray:
    cell = _cells(crop)
    prob = np.where(within, _sigmoid(logit), np.float32(0))
    for i in range(rounds):
        found = np.clip(logit + _log_ratio(cell, prob, 1 - prob), -8, 8)
        found = np.where(within, found, np.float32(-4))
        prob = np.where(within, _sigmoid(cv2.GaussianBlur(found, (0, 0), BLUR)), np.float32(0))
        if i % 2 or i == rounds - 1:
            prob = np.where(within, regularise(np.stack([1 - prob, prob]), crop)[1], np.float32(0))
    return prob


def _cells(crop: np.ndarray) -> np.ndarray:
    """Return the cell of the histogram that each pixel's colour falls in: int (H, W)."""
    lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 1:] = 2 * lab[..., 1:] - 128
    whole = np.clip(lab * (np.array(GRID, np.float32) / 256), 0, np.array(GRID) - 1).astype(int)
    return np.ravel_multi_index(tuple(np.moveaxis(whole, 2, 0)), GRID)


def _log_ratio(cell: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> np.ndarray:
    """Return log p(colour | inner) - log p(colour | outer) of each pixel, float32; both are
    weights of the pixels."""
    logs = []
    for weight in (inner, outer):
        count = np.bincount(cell.ravel(), weight.ravel(), math.prod(GRID)).reshape(GRID)
        share = gaussian_filter(count, SMOOTH, mode="constant") / max(count.sum(), 1e-6)
        logs.append(np.log(share + EVERY / count.size))
    return (logs[0] - logs[1]).ravel().astype(np.float32)[cell]


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logit.astype(np.float32)))
