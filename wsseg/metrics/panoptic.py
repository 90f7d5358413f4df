"""Panoptic quality (Kirillov et al., CVPR 2019) by the rules of the COCO panoptic API.

A prediction matches a true segment of its class where their intersection over union is above
one half, the union leaving out what was predicted on void. True crowds are matched by nothing
and are no false negatives; an unmatched prediction with more than half of its area on void and
the crowd of its class is no false positive. A class that has neither matches nor errors is in
no mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wsseg.metrics.overlaps import Regions, met

try:
    from wsseg.native import _panoptic as _native
except ImportError:  # not built: numpy does the same, slower
    _native = None


def panoptic_counts(truth: Regions, prediction: Regions, n_classes: int) -> np.ndarray:
    """Match the segments of one image.

    truth, prediction: regions with maps of one size; 0 is void. Returns float64
    (4, n_classes): sum of the matches' IoU, true positives, false positives, false negatives.
    They add up over images. Raises ValueError for sizes that differ, regions without map, a
    prediction with an id that is no region, and a class that is none.
    """
    if truth.ids is None or prediction.ids is None:
        raise ValueError("panoptic quality needs maps, in which segments do not overlap")
    if tuple(truth.size) != tuple(prediction.size):
        raise ValueError(f"sizes differ: truth {truth.size}, prediction {prediction.size}")
    found = _at_once(truth, prediction, n_classes)
    if found is not None:
        return found
    for what, regions in (("truth", truth), ("prediction", prediction)):
        if len(regions) and not 0 <= regions.classes.min() <= regions.classes.max() < n_classes:
            raise ValueError(f"{what} has a segment of class {int(regions.classes.max())}, but "
                             f"there are {n_classes} classes")
    t, p, number, (true_area, area) = met(truth, prediction)
    if (p == -2).any():
        raise ValueError("prediction has pixels of a segment that is not listed")
    n, of = len(area), prediction.classes
    real = np.flatnonzero(p >= 0)
    t, p, number = t[real], p[real], number[real]
    on_void = np.bincount(p, number * (t == -1), n)
    real = np.flatnonzero(t >= 0)
    t, p, number = t[real], p[real], number[real]
    same = truth.classes[t] == of[p]
    t, p, number = t[same], p[same], number[same]
    iou = number / (area[p] + true_area[t] - number - on_void[p])
    hit = iou > 0.5
    missed = np.ones(len(truth), bool)
    if truth.crowd.any():
        crowd = truth.crowd[t]
        hit &= ~crowd
        missed &= ~truth.crowd
        # one crowd for each class: of several, the API keeps the last
        last = np.full(n_classes, -1)
        last[truth.classes[truth.crowd]] = np.flatnonzero(truth.crowd)
        on_void += np.bincount(p, number * (crowd & (last[of[p]] == t)), n)
    wrong = (area > 0) & (on_void <= 0.5 * area)
    missed[t[hit]] = wrong[p[hit]] = False
    counts = np.empty((4, n_classes))
    classes = of[p[hit]]
    counts[0] = np.bincount(classes, iou[hit], n_classes)
    counts[1] = np.bincount(classes, minlength=n_classes)
    counts[2] = np.bincount(of[wrong], minlength=n_classes)
    counts[3] = np.bincount(truth.classes[missed], minlength=n_classes)
    return counts


def _at_once(truth: Regions, prediction: Regions, n_classes: int) -> np.ndarray | None:
    """Return what ``panoptic_counts`` does in one call of the kernel, None without it or for
    what cannot be scored."""
    if _native is None:
        return None
    try:
        ids, guess = _alike(truth.ids, prediction.ids)
        return _native.counts(ids, truth.numbers, truth.classes, truth.crowd, guess,
                              prediction.numbers, prediction.classes, n_classes)
    except ValueError:
        return None


def has_kernel() -> bool:
    """Return whether ``labelled_counts`` has its kernel."""
    return _native is not None


def labelled_counts(truth: Regions, label: np.ndarray, prediction: Regions, n_classes: int,
                    void: int | None, background: int | None) -> np.ndarray | None:
    """Return ``panoptic_counts`` where a label map tells of the pixels without true segment,
    None without the kernel and for maps that are not whole.

    label: uint8 or uint16 (H, W); where ids are 0, ``void`` is void, ``background`` neither
    segment nor void, and any other class a crowd of it. Whole: each map's regions are just the
    ids that it draws, and all classes are below ``n_classes``; sizes agree.
    """
    if _native is None or not truth.size == prediction.size == label.shape:
        return None
    try:
        ids, labels, guess = _alike(truth.ids, label, prediction.ids)
        return _native.labelled_counts(
            ids, labels, truth.numbers, truth.classes, guess, prediction.numbers,
            prediction.classes, -1 if void is None else void,
            -1 if background is None else background, n_classes)
    except ValueError:
        return None


def _alike(*maps: np.ndarray) -> list[np.ndarray]:
    """Return maps in one type, uint8 or uint16, as the kernels read them. Raises ValueError for
    maps of other types."""
    if any(m.dtype.kind != "u" or m.itemsize > 2 for m in maps):
        raise ValueError("maps are of uint8 or uint16")
    kind = np.uint8 if all(m.dtype == np.uint8 for m in maps) else np.uint16
    return [np.ascontiguousarray(m, kind) for m in maps]


@dataclass(frozen=True, eq=False)
class PanopticScore:
    """PQ = SQ * DQ of each class: float64 (..., C), NaN for a class that does not occur."""

    pq: np.ndarray
    sq: np.ndarray
    dq: np.ndarray

    def mean(self, of: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the means (PQ, SQ, DQ) over the classes that occur; of: bool (C,) chooses
        among them. NaN where none occurs (the API divides by zero)."""
        return tuple(mean_of(v, of) for v in (self.pq, self.sq, self.dq))

    def scored(self, of: np.ndarray | None = None) -> int:
        """Return how many classes ``mean`` is over."""
        there = ~np.isnan(self.pq)
        return int((there if of is None else there & of).sum())


def mean_of(values: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Return the mean over the last axis without NaN, over those that ``of`` chooses."""
    chosen = ~np.isnan(values) if of is None else ~np.isnan(values) & of
    count = chosen.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(chosen, values, 0).sum(axis=-1) / np.where(count, count, np.nan)


def panoptic_score(counts: np.ndarray) -> PanopticScore:
    """Score sums of ``panoptic_counts`` (..., 4, C)."""
    iou, tp, fp, fn = np.moveaxis(counts, -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        size = tp + 0.5 * fp + 0.5 * fn
        pq, dq = iou / size, tp / size
        sq = np.where(size > 0, np.where(tp > 0, iou / tp, 0), np.nan)
    return PanopticScore(pq, sq, dq)
