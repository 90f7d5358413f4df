"""Weak labels as a net's E-step takes them: bool vectors and maps over the classes.

Class ids are channel numbers, 0 the background. All functions are of plain arrays. ``Augment``
may crop a tagged object away. wssl-2015 keeps the tags of the whole image then, and so does
``tags_vector``; ``tags_of_boxes`` and ``tags_of_label`` tell what the crop itself still shows
where boxes or masks are known.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from wsseg.errors import RecordError

IGNORE = 255


def tags_vector(tags: Iterable[int], classes: int, *, background: bool = True) -> np.ndarray:
    """Return bool (K,), True for each listed class; background: list class 0 as well.

    Raises RecordError for an id that is no class.
    """
    result = np.zeros(classes, bool)
    for tag in tags:
        if not 0 <= tag < classes:
            raise RecordError(f"tag {tag} is none of the {classes} classes")
        result[tag] = True
    result[0] |= background
    return result


def tags_of_boxes(boxes: np.ndarray, ids: np.ndarray, classes: int, *,
                  background: bool = True) -> np.ndarray:
    """Return bool (K,) of the classes that have a box: float (N,4), ids (N,)."""
    if len(boxes) != len(ids):
        raise ValueError(f"{len(boxes)} boxes have {len(ids)} classes")
    return tags_vector(np.unique(ids).tolist(), classes, background=background)


def tags_of_label(label: np.ndarray, classes: int, *, background: bool = True) -> np.ndarray:
    """Return bool (K,) of the classes in a label map; 255 is none."""
    values = np.unique(label)
    return tags_vector(values[values != IGNORE].tolist(), classes, background=background)


def box_maps(boxes: np.ndarray, ids: np.ndarray, classes: int, *, image: tuple[int, int],
             size: tuple[int, int]) -> np.ndarray:
    """Return bool (K, *size), where each class has a box; channel 0 is True throughout.

    boxes: float (N,4) as x0, y0, x1, y1 in pixels of an ``image`` of (H,W); ids: (N,). Positions
    of the map lie corners on corners, as the nets' logits do, and are inside a box when the pixel
    under them is; a box too thin to hold any column (or row) has the one nearest to its middle.
    Raises RecordError for an id that is no class.
    """
    tags_of_boxes(boxes, ids, classes)
    result = np.zeros((classes, *size), bool)
    result[0] = True
    limit = np.array([size[1], size[0]])
    step = np.maximum(1, [image[1] - 1, image[0] - 1]) / np.maximum(1, limit - 1)
    for box, cls in zip(np.asarray(boxes, np.float64).reshape(-1, 4), ids.tolist()):
        low, high = (box[:2] - .5) / step, (box[2:] - .5) / step  # pixel i has its centre at i + .5
        first, last = (np.ceil(at).astype(int).clip(0, limit) for at in (low, high))
        middle = np.floor((low + high) / 2 + .5).astype(int).clip(0, limit - 1)
        empty = last <= first
        first, last = np.where(empty, middle, first), np.where(empty, middle + 1, last)
        result[cls, first[1]:last[1], first[0]:last[0]] = True
    return result


def check_label(label: np.ndarray, classes: int) -> None:
    """Raise RecordError, with value, number and first pixel, where a label is no class or 255.

    To be called where labels are loaded: on a GPU a wrong one ends the whole process.
    """
    limit = np.bincount(label.ravel(), minlength=IGNORE + 1)
    limit[IGNORE] = 0
    wrong = np.flatnonzero(limit[classes:]) + classes
    if len(wrong):
        value = int(wrong[0])
        y, x = np.argwhere(label == value)[0].tolist()
        raise RecordError(f"label {value} at {int(limit[value])} pixels, the first at x {x}, "
                          f"y {y}, is none of the {classes} classes")
