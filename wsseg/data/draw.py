"""Polygons and strokes as pixels, by rules that need no drawing library."""

from __future__ import annotations

import numpy as np

from wsseg.data.rle import changes_of
from wsseg.errors import RecordError

_FINE = 5                # COCO walks a polygon's border on a grid 5 times as fine
_MAX_STEPS = 1 << 24     # of that walk: far more than any polygon drawn by a person
_FARTHEST = 1 << 20      # pixels: keeps the integer arithmetic exact


def polygon_changes(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a polygon, as the changes of ``wsseg.data.rle``.

    xy: float (N, 2), corners in pixels, where pixel i covers i <= x < i + 1. size: (H, W).
    The rule is that of COCO's own tools, bit for bit: the border is walked in steps of 1/5
    pixel, and a column changes where the border crosses its middle. What leaves the image is
    cut off, what a self-intersecting border encloses twice is outside, and fewer than three
    corners enclose nothing. Raises RecordError for corners that are not finite or so far out
    that the border has no sensible length.
    """
    if not np.isfinite(xy).all() or np.abs(xy).max(initial=0) > _FARTHEST:
        raise RecordError(f"polygon has a corner that is not finite or more than {_FARTHEST} "
                          "pixels away")
    if len(xy) < 3:
        return np.zeros(0, np.int64)
    corners = np.trunc(_FINE * xy + 0.5).astype(np.int64)
    start, stop = corners, np.roll(corners, -1, axis=0)
    steps = np.abs(stop - start).max(axis=1)
    start, stop, steps = start[steps > 0], stop[steps > 0], steps[steps > 0]
    if steps.sum() > _MAX_STEPS:
        raise RecordError(f"polygon with a border of {int(steps.sum()) // _FINE} pixels")
    x, y = _walk(start, stop, steps)
    turn = np.flatnonzero(x[1:] != x[:-1])
    left, top = np.minimum(x[turn], x[turn + 1]) - 2, np.minimum(y[turn], y[turn + 1]) - 2
    column, height, width = left // _FINE, *size
    middle = (left % _FINE == 0) & (column >= 0) & (column < width)
    row = np.clip(-(-top // _FINE), 0, height)
    return changes_of((column * height + row)[middle], size)


def _walk(start: np.ndarray, stop: np.ndarray, steps: np.ndarray
          ) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of all points on the edges, both ends included, one edge after another."""
    along = np.abs(stop - start)
    major = (along[:, 0] < along[:, 1]).astype(np.int64)  # axis with the longer way
    edges = np.arange(len(steps))
    turned = start[edges, major] > stop[edges, major]
    low = np.where(turned[:, None], stop, start)
    high = np.where(turned[:, None], start, stop)
    slope = (high - low)[edges, 1 - major] / np.maximum(steps, 1)
    edge = np.repeat(edges, steps + 1)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(steps + 1) - steps - 1, steps + 1)
    place = np.where(turned[edge], steps[edge] - place, place)
    longer = low[edge, major[edge]] + place
    other = np.trunc(low[edge, 1 - major[edge]] + slope[edge] * place + 0.5).astype(np.int64)
    upright = major[edge] == 1
    return np.where(upright, other, longer), np.where(upright, longer, other)


def stroke(canvas: np.ndarray, xy: np.ndarray, value: int) -> None:
    """Draw a poly-line 3 pixels wide into ``canvas``, uint8 (H, W), in place.

    xy: float (N, 2); a point means the pixel it falls into. The line of 8-connected pixels
    between the points is widened by one pixel to all sides; a single point gives 3x3 pixels,
    and what lies outside is left out. Raises RecordError for points that are not finite or
    more than 2**20 pixels away.
    """
    if not np.isfinite(xy).all() or np.abs(xy).max(initial=0) > _FARTHEST:
        raise RecordError(f"stroke has a point that is not finite or more than {_FARTHEST} "
                          "pixels away")
    pixels = np.floor(xy).astype(np.int64)
    height, width = canvas.shape
    pairs = zip(pixels, pixels[1:]) if len(pixels) > 1 else zip(pixels, pixels)
    for a, b in pairs:
        x, y = _line(a, b, width, height)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                inside = (x + dx >= 0) & (x + dx < width) & (y + dy >= 0) & (y + dy < height)
                canvas[(y + dy)[inside], (x + dx)[inside]] = value


def _line(a: np.ndarray, b: np.ndarray, width: int, height: int
          ) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of the pixels on a line, the same in both directions, as far as they lie
    at most one pixel outside of the image."""
    major = int(abs(b - a)[1] > abs(b - a)[0])
    low, high = (a, b) if a[major] <= b[major] else (b, a)
    limit = (width, height)[major]
    along = np.arange(max(low[major], -1), min(high[major], limit) + 1)
    way = max(int(high[major] - low[major]), 1)
    rise = int(high[1 - major] - low[1 - major])
    # the nearest pixel, halves up, in whole numbers
    other = low[1 - major] + (2 * rise * (along - low[major]) + way) // (2 * way)
    return (other, along) if major else (along, other)
