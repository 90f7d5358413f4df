"""GrabCut inside a box (Rother, Kolmogorov and Blake 2004), by OpenCV, on a crop."""

from __future__ import annotations

import cv2
import numpy as np


def grabcut_box(image: np.ndarray, box: tuple[int, int, int, int], *, iterations: int = 5,
                margin: float = 0.5, min_fill: float = 0.1) -> np.ndarray:
    """Segment the object in a box.

    image: uint8 (H, W, 3) RGB. box: x0, y0, x1, y1 in pixels, half-open, within the image.
    iterations: at most this many; it stops when the mask no longer changes. margin: how much
    of its surroundings the colour model of the background sees, as a share of the box's
    longer side: nothing beyond is looked at, so a small box costs little. min_fill: when less
    of the box than this is found, or there is nothing around the box to learn the background
    from, the answer is the whole box.

    Returns bool (y1 - y0, x1 - x0). The same input gives the same mask, in any process.
    """
    x0, y0, x1, y1 = box
    height, width = image.shape[:2]
    room = max(8, round(margin * max(x1 - x0, y1 - y0)))
    left, top = max(0, x0 - room), max(0, y0 - room)
    crop = np.ascontiguousarray(image[top:min(height, y1 + room), left:min(width, x1 + room), ::-1])
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    mask = np.full(crop.shape[:2], cv2.GC_BGD, np.uint8)
    mask[inside] = cv2.GC_PR_FGD
    whole = np.ones((y1 - y0, x1 - x0), bool)
    # five Gaussians need five different samples on either side
    if min(mask.size - whole.size, whole.size) < 16:
        return whole
    cv2.setRNGSeed(0)  # its k-means draws from a generator that lives as long as the thread
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    mode, before = cv2.GC_INIT_WITH_MASK, None
    for _ in range(iterations):
        cv2.grabCut(crop, mask, None, background, foreground, 1, mode)
        mode = cv2.GC_EVAL
        found = mask[inside] == cv2.GC_PR_FGD
        if not found.any() or before is not None and np.array_equal(found, before):
            break
        before = found
    return found if found.mean() >= min_fill else whole
