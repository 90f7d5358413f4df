"""Objects of a map, and their boxes, points, tags and counts: strong labels to weak ones."""

from __future__ import annotations

import cv2
import numpy as np


def connected_objects(label: np.ndarray, *, background: int | None = 0, ignore: int = 255,
                      min_area: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Split a label map into 8-connected components of each foreground class.

    label: uint8 or uint16 (H, W). background: class that is no object, None if every class is
    one. min_area: pixels below which a component is no object.
    Returns ids int32 (H, W), 0 = none, and the class of each id, int64 (N,), for ids 1..N in
    the order of class and then of first pixel. Where a data set has no instance masks these
    stand in for objects: touching objects of one class are one component.
    """
    ids = np.zeros(label.shape, np.int32)
    classes: list[int] = []
    for cls in present_classes(label, background=background, ignore=ignore):
        count, parts, stats, _ = cv2.connectedComponentsWithStats(
            (label == cls).view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
        tops, areas = stats[:, cv2.CC_STAT_TOP], stats[:, cv2.CC_STAT_AREA]
        kept = [part for part in range(1, count) if areas[part] >= min_area]
        # OpenCV goes by blocks of 2x2 pixels, so its numbers do not follow the first pixels
        kept.sort(key=lambda part: (tops[part], (parts[tops[part]] == part).argmax()))
        number = np.zeros(count, np.int32)
        number[kept] = np.arange(len(kept)) + len(classes) + 1
        classes += [cls] * len(kept)
        ids += number[parts]
    return ids, np.array(classes, np.int64)


def tight_boxes(ids: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return the tight box of each object as float64 (N, 4): x0, y0, x1, y1, half-open.

    ids: integers (H, W); numbers: ids to box (N,). Raises ValueError for an id not in the map.
    """
    boxes = np.zeros((len(numbers), 4))
    for i, number in enumerate(numbers):
        mask = ids == number
        xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if not len(xs):
            raise ValueError(f"no pixel has id {number}")
        boxes[i] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return boxes


def inner_points(ids: np.ndarray, numbers: np.ndarray,
                 rng: np.random.Generator | None = None) -> np.ndarray:
    """Return one pixel inside each object, float64 (N, 2) as x, y.

    Without ``rng`` it is the pixel deepest inside (the first of equals), where a person aims;
    with ``rng`` any pixel of the object is equally likely.
    """
    points = np.zeros((len(numbers), 2))
    for i, number in enumerate(numbers):
        mask = np.pad((ids == number).astype(np.uint8), 1)
        if rng is None:
            depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        else:
            ys, xs = np.nonzero(mask)
            pick = int(rng.integers(len(ys)))
            y, x = ys[pick], xs[pick]
        points[i] = x - 1, y - 1
    return points


def present_classes(label: np.ndarray, *, background: int | None = 0,
                    ignore: int = 255) -> tuple[int, ...]:
    """Return the foreground classes of a label map, ascending: its image tags."""
    return tuple(c for c in np.unique(label).tolist() if c not in (background, ignore))


def count_objects(classes: np.ndarray) -> dict[int, int]:
    """Return class -> number of objects, from the class of each object."""
    found, counts = np.unique(np.asarray(classes, np.int64), return_counts=True)
    return {int(c): int(n) for c, n in zip(found, counts)}
