"""What tags and boxes say about a map: absent classes, things outside their boxes, empty boxes.

Steps 2, 4, 5 and 6 of the iterative ground truth of panoptic-2018 (section 3.4 and its published
code; step 1 is a least score, step 3 the rule ``priority`` of ``fuse``). Where its code calls the
share of a box that its class fills an IoU, it is called a fill here.

Boxes are whole pixels within the image, half-open: int (N, 4) of x0, y0, x1, y1. things: the ids
of the classes that have boxes; a box of any other class is not looked at. No function changes
its arguments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

IGNORE = 255


def forbid_absent(label: np.ndarray, allowed: Collection[int], *,
                  region: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Return the label map with 255 wherever a class that is not allowed was (step 2).

    label: integers (H, W); allowed: class ids, the background too if it may occur. region: x0,
    y0, x1, y1, the only part that is looked at. (The tags of panoptic-2018 on Cityscapes are
    those of 15 crops of 400x500: call this once for each crop.)
    """
    result = label.copy()
    part = result
    if region is not None:
        x0, y0, x1, y1 = region
        part = result[y0:y1, x0:x1]
    part[~_among(part, allowed)] = IGNORE
    return result


def zero_absent(scores: np.ndarray, classes: np.ndarray, allowed: Collection[int], *,
                normalise: bool = True) -> np.ndarray:
    """Return the scores with absent classes at probability 0.

    scores: float (K, H, W) of ``classes`` (K,). normalise: scale the rest to add up to 1; a
    pixel that had nothing else stays 0 throughout, which means no opinion.
    """
    return _zeroed(scores, ~_among(np.asarray(classes), allowed)[:, None, None], normalise)


def box_cover(boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the union of boxes, bool ``size``."""
    cover = np.zeros(size, bool)
    for x0, y0, x1, y1 in boxes.tolist():
        cover[y0:y1, x0:x1] = True
    return cover


def outside_boxes(label: np.ndarray, boxes: np.ndarray, classes: np.ndarray,
                  things: Collection[int], *, value: int = IGNORE) -> np.ndarray:
    """Return the label map with ``value`` for things outside the boxes of their class (step 4).

    label: integers (H, W); boxes (N, 4) and classes (N,). value: 255, or the background where
    it is the only stuff, as in PASCAL VOC.
    """
    result = label.copy()
    for cls in np.unique(label).tolist():
        if cls != IGNORE and cls in things:
            cover = box_cover(boxes[classes == cls], label.shape)
            result[(label == cls) & ~cover] = value
    return result


def zero_outside(scores: np.ndarray, score_classes: np.ndarray, boxes: np.ndarray,
                 classes: np.ndarray, things: Collection[int], *, normalise: bool = True,
                 top: int = 0) -> np.ndarray:
    """Return the scores with things at probability 0 outside the boxes of their class.

    scores: float (K, H, W) of ``score_classes`` (K,): rows ``top`` to ``top + H`` of the image
    that the boxes are in. normalise: as for ``zero_absent``.
    """
    away = np.zeros(scores.shape, bool)
    shifted = np.asarray(boxes, np.int64).reshape(-1, 4) - [0, top, 0, top]
    shifted[:, 1::2] = shifted[:, 1::2].clip(0, scores.shape[1])
    for one, cls in zip(away, np.asarray(score_classes).tolist()):
        if cls in things:
            one[:] = ~box_cover(shifted[classes == cls], scores.shape[1:])
    return _zeroed(scores, away, normalise)


def _zeroed(scores: np.ndarray, where: np.ndarray, normalise: bool) -> np.ndarray:
    result = np.where(where, np.float32(0), scores.astype(np.float32))
    if normalise:
        total = result.sum(axis=0)
        touched = (scores * where).any(axis=0) & (total > 0)
        result /= np.where(touched, total, 1)
    return result


def fill_boxes(label: np.ndarray, boxes: np.ndarray, classes: np.ndarray,
               things: Collection[int], *, below: float = 0.5) -> np.ndarray:
    """Return the label map with boxes filled whose class fills too little of them (step 5).

    From the largest box to the smallest (the later of equals last): where the class covers less
    than ``below`` of a box, the box's pixels that are 255 or no thing become the class. Pixels
    of other things stay. What one box filled counts for the next.
    """
    result = label.astype(np.uint16 if len(classes) and classes.max() > 255 else label.dtype)
    for i in _largest_first(boxes):
        cls = int(classes[i])
        if cls not in things:
            continue
        x0, y0, x1, y1 = boxes[i].tolist()
        part = result[y0:y1, x0:x1]
        if (part == cls).mean() < below:
            part[(part == IGNORE) | ~_among(part, things)] = cls
    return result


def claim_instances(label: np.ndarray, boxes: np.ndarray, classes: np.ndarray,
                    things: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the instance of each pixel of a thing, by the box of its class (step 6).

    Returns ids, uint16 (H, W): box number + 1, or 0 where no box of the pixel's class covers
    it or more than one does, and that last region, bool (H, W). Boxes of groups must be left
    out by the caller.
    """
    claims = np.zeros(label.shape, np.uint16)
    ids = np.zeros(label.shape, np.uint16)
    for i, (cls, (x0, y0, x1, y1)) in enumerate(zip(classes.tolist(), boxes.tolist()), start=1):
        if cls in things:
            inside = label[y0:y1, x0:x1] == cls
            claims[y0:y1, x0:x1] += inside
            ids[y0:y1, x0:x1][inside] = i
    twice = claims > 1
    ids[twice] = 0
    return ids, twice


def _among(values: np.ndarray, classes: Collection[int]) -> np.ndarray:
    """Whether each value is one of the classes or 255."""
    return np.isin(values, [*classes, IGNORE])


def _largest_first(boxes: np.ndarray) -> Iterator[int]:
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    yield from np.argsort(-areas, kind="stable").tolist()
