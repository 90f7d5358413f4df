"""Average precision of regions, AP^r (Hariharan et al., ECCV 2014), at any IoU thresholds.

Detections of a class are ranked over all images; one that meets a true region with at least the
threshold's IoU, and is the first to do so, is right. How a detection chooses among several true
regions and how precision is averaged over recall is where benchmarks differ: ``RULES`` names
them. All images are matched at once, so that the cost is that of the pairs that overlap.

Cityscapes' script differs in more: IoU must be above the threshold, true regions below 100 pixels
do not count, and a detection without counterpart is left out where more than the threshold's
share of it lies on void, on groups of its class and on such small regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wsseg.metrics.overlaps import Overlaps
from wsseg.metrics.panoptic import mean_of


@dataclass(frozen=True)
class Rule:
    """How a benchmark scores. choice: "free": a detection takes the best true region not yet
    taken, "best": the best one, and is wrong if that is taken; interpolation: how precision is
    averaged over recall; most: detections that count, for each image and class; least: pixels
    of true regions that count, by Cityscapes' rules if not 0."""

    choice: str
    interpolation: str
    most: int = 100
    least: int = 0


RULES = {
    "coco": Rule("free", "101-point"),
    "voc": Rule("best", "area"),       # VOC 2010 and later
    "voc2007": Rule("best", "11-point"),
    "cityscapes": Rule("best", "trapezoid", 1 << 31, 100),
}
#: COCO's sizes of objects, in pixels, both ends included.
AREAS = {"small": (0, 32 ** 2), "medium": (32 ** 2, 96 ** 2), "large": (96 ** 2, 1e10)}
COCO = tuple(np.linspace(0.5, 0.95, 10))        #: thresholds of COCO's mean
CITYSCAPES = tuple(np.arange(0.5, 1, 0.05))     #: the same but for rounding, which can matter
VOLUME = tuple(np.arange(1, 10) / 10)           #: thresholds of AP^r_vol on VOC
#: Where precision is taken. COCO's points are not exactly hundredths: some recalls fall short.
_POINTS = {"101-point": np.linspace(0, 1, 101), "11-point": np.arange(11) / 10, "area": None,
           "trapezoid": None}
_CELLS = 1 << 21  # of a block of curves


@dataclass(frozen=True, eq=False)
class Matches:
    """Detections of all images in the order of their class and rank.

    thresholds: (T,); classes, images, scores: (D,); hits, ignored: bool (T, D), right and
    neither right nor wrong; starts: (C + 1,) first detection of each class; truths: int64
    (N, C) true regions that count, by image.
    """

    thresholds: np.ndarray
    classes: np.ndarray
    images: np.ndarray
    scores: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    starts: np.ndarray
    truths: np.ndarray


def match(images: Sequence[Overlaps], n_classes: int, thresholds: Sequence[float], *,
          choice: str = "free", most: int = 100, least: int = 0,
          within: tuple[float, float] | None = None) -> Matches:
    """Match the detections of all images.

    choice, most, least: see ``Rule``; within: the areas that count: true regions of another
    area are treated as crowds, only that one detection takes each, and detections of another
    area are left out unless they take a region that counts. Equal scores keep the order of the
    images and of the detections in them. Raises ValueError for a threshold outside of (0, 1],
    for scores that are not finite and for classes that are none.
    """
    levels = np.asarray(thresholds, np.float64).reshape(-1)
    if not len(levels) or not ((levels > 0) & (levels <= 1)).all():
        raise ValueError(f"thresholds must be above 0 and at most 1, not {levels.tolist()}")
    if choice not in ("free", "best"):
        raise ValueError(f"no such choice: {choice!r}")
    count = np.array([len(one.classes) for one in images], np.int64)
    held = np.array([len(one.true_classes) for one in images], np.int64)
    classes, scores = _joined(images, "classes", np.int64), _joined(images, "scores", float)
    true_classes, crowd = (_joined(images, "true_classes", np.int64),
                           _joined(images, "crowd", bool))
    if not np.isfinite(scores).all():
        raise ValueError("a detection has a score that is no number")
    for values in (classes, true_classes):
        if len(values) and not 0 <= values.min() <= values.max() < n_classes:
            raise ValueError(f"a region is of class {int(values.max())}, but there are "
                             f"{n_classes} classes")
    image = np.repeat(np.arange(len(images)), count)
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *(one.pairs for one in images)])
    per_image = np.array([len(one.iou) for one in images], np.int64)
    pairs = pairs + np.repeat(np.stack([np.cumsum(count) - count, np.cumsum(held) - held], 1),
                              per_image, axis=0)
    iou = _joined(images, "iou", float)
    apart = crowd
    if least or within:
        areas, true_areas = _joined(images, "areas", float), _joined(images, "true_areas", float)
        small = _outside(true_areas, (least, np.inf) if within is None else within)
        apart = crowd | small

    group = image * n_classes + classes
    order = np.lexsort((-scores, group))  # stable
    rank = np.empty(len(order), np.int64)
    rank[order] = _rank_in_runs(group[order])
    kept = rank < most
    # to be above a threshold is to reach the next number
    limit = np.nextafter(levels, 2) if least else np.minimum(levels, 1 - 1e-10)
    hits, ignored = _assign(pairs, iou, group, rank, kept, crowd, apart, limit, choice)
    if least:
        p, t = pairs.T  # a small group counts twice, as it does in the script
        times = crowd[t].astype(float) + small[t]
        excused = _joined(images, "void", float) + np.bincount(
            p, times * _joined(images, "meet", float), len(areas))
        ignored = ~hits & ((excused / np.maximum(areas, 1) > levels[:, None]) | (areas == 0))
    elif within:
        ignored |= ~hits & _outside(areas, within)
        kept &= ~ignored.all(axis=0)  # not in any curve

    order = np.lexsort((rank, image, -scores, classes))
    order = order[kept[order]]
    truths = np.zeros((len(images), n_classes), np.int64)
    np.add.at(truths, (np.repeat(np.arange(len(images)), held)[~apart], true_classes[~apart]), 1)
    return Matches(levels, classes[order], image[order], scores[order], hits[:, order],
                   ignored[:, order],
                   np.searchsorted(classes[order], np.arange(n_classes + 1)), truths)


def _joined(images: Sequence[Overlaps], name: str, kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, kind), *(getattr(one, name) for one in images)]
                          ).astype(kind)


def _outside(areas: np.ndarray, within: tuple[float, float]) -> np.ndarray:
    return (areas < within[0]) | (areas > within[1])


def _rank_in_runs(values: np.ndarray) -> np.ndarray:
    """Return each element's place in its run of equal values."""
    place = np.arange(len(values))
    first = np.flatnonzero(np.diff(values, prepend=-1))
    return place - np.repeat(first, np.diff(first, append=len(values)))


def _assign(pairs: np.ndarray, iou: np.ndarray, group: np.ndarray, rank: np.ndarray,
            kept: np.ndarray, crowd: np.ndarray, apart: np.ndarray, limit: np.ndarray, choice: str
            ) -> tuple[np.ndarray, np.ndarray]:
    """Return hits and ignored, bool (T, D), in the order of the detections given.

    apart: true regions that do not count, among them the crowds; limit: the least IoU (T,).
    Only pairs above the lowest threshold can matter. The n-th detection with such a pair of
    every image and class is matched in the same round: they cannot compete.
    """
    some = kept[pairs[:, 0]] & (iou >= limit.min())
    pairs, iou = pairs[some], iou[some]
    if choice == "best":
        pairs, iou = _only_best(pairs, iou, apart)
    hits = np.zeros((len(limit), len(group)), bool)
    ignored = hits.copy()
    taken = np.zeros((len(limit), len(crowd)), bool)
    if not len(pairs):
        return hits, ignored
    order = np.lexsort((pairs[:, 1], rank[pairs[:, 0]], group[pairs[:, 0]]))
    pairs, iou = pairs[order], iou[order]
    first = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))  # pair of each detection
    turn = _rank_in_runs(group[pairs[first, 0]])
    size = np.diff(first, append=len(pairs))
    for now in range(int(turn.max()) + 1):
        mine = turn == now
        begin, count = first[mine], size[mine]
        start = np.cumsum(count) - count
        rows = np.repeat(begin - start, count) + np.arange(count.sum())
        true, aside = pairs[rows, 1], apart[pairs[rows, 1]]
        free = (iou[rows] >= limit[:, None]) & (crowd[true] | ~taken[:, true])
        worth = np.where(free, iou[rows] + 2 * ~aside, -1)  # a crowd only if nothing else
        best = np.maximum.reduceat(worth, start, axis=1)
        # of equal ones the last, as COCO has it
        last = np.where(free & (worth == np.repeat(best, count, axis=1)), np.arange(len(rows)), -1)
        chosen = np.maximum.reduceat(last, start, axis=1)
        level, which = np.nonzero(chosen >= 0)
        row = chosen[level, which]
        detection = pairs[begin[which], 0]
        ignored[level, detection] = aside[row]
        hits[level, detection] = ~aside[row]
        taken[level, true[row]] = True
    return hits, ignored


def _only_best(pairs: np.ndarray, iou: np.ndarray, apart: np.ndarray
               ) -> tuple[np.ndarray, np.ndarray]:
    """Keep each detection's best true region, the first of equal ones, and those apart."""
    apart = apart[pairs[:, 1]]
    order = np.lexsort((pairs[:, 1], -iou, apart, pairs[:, 0]))
    pairs, iou, apart = pairs[order], iou[order], apart[order]
    keep = apart | (np.diff(pairs[:, 0], prepend=-1) != 0)
    return pairs[keep], iou[keep]


def average_precision(matches: Matches, interpolation: str = "101-point",
                      weights: np.ndarray | None = None) -> np.ndarray:
    """Return the average precision by class and threshold, float64 (C, T).

    interpolation: "101-point" (COCO), "area" under the curve made monotone (VOC 2010),
    "11-point" (VOC 2007) or "trapezoid", the area under the curve as it is, with a point for
    each score and precision 1 at recall 0 (Cityscapes). weights: how often each image counts,
    whole numbers (N,), or (B, N) for B weightings at once, and the result is (B, C, T). NaN for
    a class without true region.
    """
    if interpolation not in _POINTS:
        raise ValueError(f"no such interpolation: {interpolation!r}")
    truths = matches.truths
    given = np.ones((1, len(truths))) if weights is None else np.atleast_2d(weights)
    total = given @ truths
    n_classes, n_levels = truths.shape[1], len(matches.thresholds)
    result = np.zeros((len(given), n_classes, n_levels))
    for cls in np.flatnonzero(truths.sum(axis=0)):
        part = slice(*matches.starts[cls:cls + 2])
        hits = matches.hits[:, part]
        level = hits.any(axis=1)
        if not level.any():
            continue
        hits = hits[level]
        fails = ~(hits | matches.ignored[level, part])
        rows = max(1, _CELLS // hits.size)
        for first in range(0, len(given), rows):
            block = slice(first, first + rows)
            times = given[block, None, matches.images[part]]
            right, wrong = np.cumsum(times * hits, axis=-1), np.cumsum(times * fails, axis=-1)
            if interpolation == "trapezoid":
                last = np.append(np.diff(matches.scores[part]) != 0, True)
                found = _trapezoid(right[..., last], wrong[..., last], total[block, None, cls])
            else:
                found = _averaged(right, wrong, total[block, None, cls], _POINTS[interpolation])
            result[block, cls, level] = found
    result[total == 0] = np.nan
    return result if weights is not None and np.ndim(weights) == 2 else result[0]


def _averaged(right: np.ndarray, wrong: np.ndarray, total: np.ndarray,
              points: np.ndarray | None) -> np.ndarray:
    """Return the averaged precision (B, T) of curves (B, T, D).

    right, wrong: detections so far, whole numbers; total: true regions (B, 1); points: recalls
    at which precision is taken, None for the area.
    """
    n = right.shape[-1]
    precision = right / np.maximum(right + wrong, 1)  # a sum below 1 is 0
    precision = np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]
    total = np.maximum(total, 1)[..., None]
    if points is None:
        return (np.diff(right / total, axis=-1, prepend=0) * precision).sum(axis=-1)
    # the least number of right ones whose recall, as it is rounded, reaches each point
    need = np.ceil(points * total)
    need += need / total < points
    need -= (need - 1) / total >= points
    span = right.max() + 2  # rows one after the other, so that one search serves all
    row = np.arange(right[..., 0].size).reshape(right.shape[:-1])[..., None]
    place = np.searchsorted((right + span * row).ravel(),
                            (np.minimum(need, span - 1) + span * row).ravel()
                            ).reshape(*right.shape[:-1], -1)
    padded = np.concatenate([precision, np.zeros_like(precision[..., :1])], axis=-1)
    return np.take_along_axis(padded, place - n * row, axis=-1).mean(axis=-1)


def _trapezoid(right: np.ndarray, wrong: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Return the area (B, T) under curves (B, T, D), arguments as ``_averaged`` has them."""
    precision = np.where(right + wrong > 0, right / np.maximum(right + wrong, 1), 1)
    before = np.concatenate([np.ones_like(precision[..., :1]), precision[..., :-1]], axis=-1)
    steps = np.diff(right / np.maximum(total, 1)[..., None], axis=-1, prepend=0)
    return (steps * (precision + before) / 2).sum(axis=-1)


def oracle_scores(overlaps: Overlaps) -> np.ndarray:
    """Return scores (P,) that rank the predictions by what they are worth.

    Each true region is given its best prediction, pairs of higher IoU first; a prediction's
    score is that IoU, or 0. Regions that do not overlap are so ranked with every right one
    before every wrong one at each threshold from 0.5 on, which no other ranking can better.
    """
    scores = np.zeros(len(overlaps.classes))
    real = ~overlaps.crowd[overlaps.pairs[:, 1]]
    pairs, iou = overlaps.pairs[real], overlaps.iou[real]
    taken: set[int] = set()
    for i in np.argsort(-iou, kind="stable"):
        p, t = pairs[i].tolist()
        if not scores[p] and t not in taken:
            scores[p] = iou[i]
            taken.add(t)
    return scores


def mean_precision(values: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Return the mean over the classes that have truth, of (..., C, T): (..., T). of: bool (C,)
    chooses among the classes."""
    return mean_of(np.swapaxes(values, -1, -2), of)
