"""Boxes to masks: painting, and the filled rectangle (wssl-2015, Bbox-Rect)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

#: (x0, y0, x1, y1) in whole pixels -> bool (y1 - y0, x1 - x0), the object inside that box.
FillBox = Callable[[tuple[int, int, int, int]], np.ndarray]

#: Boxes of one image: ids are of 16 bits, and 0 is none.
MOST = 65535


def pixel_boxes(xyxy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return boxes in whole pixels, clipped to the image: int64 (N, 4), half-open.

    xyxy: float (N, 4). A side is rounded to the nearest pixel edge (.5 goes up) and a box
    keeps at least one pixel. Raises ValueError for a box that lies outside the image.
    """
    height, width = size
    low = np.floor(xyxy[:, :2] + 0.5).astype(np.int64)
    high = np.maximum(np.floor(xyxy[:, 2:] + 0.5).astype(np.int64), low + 1)
    limit = np.array([width, height])
    outside = ((xyxy[:, :2] >= limit) | (xyxy[:, 2:] <= 0)).any(axis=1)
    if outside.any():
        first = int(np.flatnonzero(outside)[0])
        raise ValueError(f"box {first} {xyxy[first].tolist()} lies outside the "
                         f"{height}x{width} image")
    low = np.clip(low, 0, limit - 1)
    return np.concatenate([low, np.clip(high, low + 1, limit)], axis=1)


def smallest_last(boxes: np.ndarray) -> Iterator[int]:
    """Yield box indices from the largest area to the smallest, the later of equals last."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    yield from np.argsort(-areas, kind="stable").tolist()


def check_count(boxes: np.ndarray) -> None:
    """Raise ValueError for more boxes than 16 bits can number."""
    if len(boxes) > MOST:
        raise ValueError(f"{len(boxes)} boxes are more than ids of 16 bits can number: {MOST}")


def fill_box(box: tuple[int, int, int, int]) -> np.ndarray:
    """Take the whole box for the object."""
    x0, y0, x1, y1 = box
    return np.ones((y1 - y0, x1 - x0), bool)


def paint_boxes(boxes: np.ndarray, classes: np.ndarray, size: tuple[int, int],
                fill: FillBox, *, outside: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Fill every box and paint the masks over one another: the smallest box wins.

    boxes: int (N, 4) within the image; classes: (N,); outside: label of pixels that no mask
    covers (0 background, 255 ignore). Returns label, uint8 or uint16 (H, W), and ids uint16
    (H, W): box number + 1, 0 = none. An object that others cover wholly has no pixel.
    Source: wssl-2015, section 3.3 (the smallest box wins where boxes overlap). Raises ValueError
    for more boxes than ids can number.
    """
    check_count(boxes)
    wide = len(classes) and int(np.max(classes)) > 255
    label = np.full(size, outside, np.uint16 if wide else np.uint8)
    ids = np.zeros(size, np.uint16)
    for i in smallest_last(boxes):
        x0, y0, x1, y1 = box = tuple(int(v) for v in boxes[i])
        mask = fill(box)
        label[y0:y1, x0:x1][mask] = classes[i]
        ids[y0:y1, x0:x1][mask] = i + 1
    return label, ids
