"""Which predicted regions meet which true ones, and by how much.

A region is a segment of an instance map or a mask given by its run-lengths. Overlaps are
counted over runs and never over stacked masks, so that thousands of possibly overlapping masks
cost no more than their outlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

import numpy as np

from wsseg.metrics.iou import pair_counts

try:
    from wsseg.native import _spans as _native
except ImportError:  # not built: numpy does the same, slower
    _native = None


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one image, as a map or as run-lengths.

    classes: int64 (N,); scores: float64 (N,); crowd: bool (N,), a true region that stands for
    many objects; size: (H, W). ids: uint8 or uint16 (H, W) where numbers (N,) are the regions' ids,
    ascending, 0 is void, and any other value is no region but not void either. Or None, and
    runs: COCO's uncompressed run-lengths of each region. areas: float64 (N,) by which small and
    large true regions are told, None for their pixels (COCO's files state areas of polygons).
    """

    classes: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray
    size: tuple[int, int]
    ids: np.ndarray | None = None
    numbers: np.ndarray | None = None
    runs: Sequence[Sequence[int]] = ()
    areas: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.classes)


def map_regions(ids: np.ndarray, numbers: Sequence[int], classes: Sequence[int],
                scores: Sequence[float] | None = None, crowd: Sequence[bool] | None = None
                ) -> Regions:
    """Return the regions of an instance map.

    ids: uint8 or uint16 (H, W); numbers: the ids that are regions, in any order, classes, scores
    and crowd in the same order. Raises ValueError for an id that comes twice or is 0.
    """
    number = np.asarray(numbers, np.int64).reshape(-1)
    n = len(number)
    of = (np.asarray(classes, np.int64).reshape(-1),
          np.ones(n) if scores is None else np.asarray(scores, np.float64),
          np.zeros(n, bool) if crowd is None else np.asarray(crowd, bool))
    if not (number[1:] > number[:-1]).all():
        order = np.argsort(number)
        number, of = number[order], tuple(values[order] for values in of)
    if n and (number[0] < 1 or not (number[1:] > number[:-1]).all()):
        raise ValueError("ids of regions must be unique and above 0, which means void")
    return Regions(*of, ids.shape, ids=ids, numbers=number)


def run_regions(size: tuple[int, int], runs: Sequence[Sequence[int]], classes: Sequence[int],
                scores: Sequence[float] | None = None, crowd: Sequence[bool] | None = None,
                areas: Sequence[float] | None = None) -> Regions:
    """Return the regions of COCO's uncompressed run-lengths (column-major, background first),
    which must cover the image. They are read when they are needed."""
    n = len(runs)
    return Regions(np.asarray(classes, np.int64).reshape(-1),
                   np.ones(n) if scores is None else np.asarray(scores, np.float64),
                   np.zeros(n, bool) if crowd is None else np.asarray(crowd, bool),
                   tuple(size), runs=runs,
                   areas=None if areas is None else np.asarray(areas, np.float64))


class Spans(NamedTuple):
    """Pixels start to stop, in column-major order, of a region; int64 (S,) each, ascending by
    region and then by place."""

    region: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def areas(self, n: int) -> np.ndarray:
        """Return the pixels of each of n regions, int64 (n,)."""
        return np.bincount(self.region, self.stop - self.start, n).astype(np.int64)


def spans_of(regions: Regions, some: np.ndarray | None = None) -> Spans:
    """Return the spans of regions, or of ``some``, bool (N,), of them.

    Raises ValueError for run-lengths that do not sum to H * W.
    """
    if regions.ids is None:
        return _spans_of_runs(regions, np.arange(len(regions)) if some is None
                              else np.flatnonzero(some))
    flat = np.ascontiguousarray(regions.ids.T).ravel()
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = np.concatenate([[0], change])
    stop = np.append(change, len(flat))
    value = flat[start].astype(np.int64)
    place = np.searchsorted(regions.numbers, value)
    place[place == len(regions)] = 0
    held = regions.numbers[place] == value if len(regions) else np.zeros(len(value), bool)
    if some is not None and len(regions):
        held &= some[place]
    held = np.flatnonzero(held)
    held = held[np.argsort(place[held], kind="stable")]
    return Spans(place[held], start[held], stop[held])


def _spans_of_runs(regions: Regions, chosen: np.ndarray) -> Spans:
    if _native is not None:
        return Spans(*_native.spans(regions.runs, chosen, *regions.size))
    total = regions.size[0] * regions.size[1]
    runs = [regions.runs[i] for i in chosen.tolist()]
    count = np.fromiter(map(len, runs), np.int64, len(runs))
    last = np.cumsum(count)
    flat = np.fromiter(chain.from_iterable(runs), np.int64, int(count.sum()))
    ends = np.cumsum(flat)
    if len(flat) and flat.min() < 0 or (count == 0).any() or (
            ends[last - 1] != total * np.arange(1, len(runs) + 1)).any():
        raise ValueError(f"run-lengths do not cover {regions.size[0]}x{regions.size[1]} pixels")
    objects = count // 2  # every second run
    before = np.cumsum(objects) - objects
    at = np.repeat(last - count + 1 - 2 * before, objects)
    at += 2 * np.arange(len(at))
    past = np.repeat(total * np.arange(len(runs)), objects)
    found = Spans(np.repeat(chosen, objects), ends[at - 1] - past, ends[at] - past)
    some = flat[at] > 0
    return found if some.all() else Spans(*(values[some] for values in found))


@dataclass(frozen=True, eq=False)
class Overlaps:
    """One image's predicted and true regions, and the pairs of one class that overlap.

    classes, scores: (P,) of the predictions; true_classes, crowd: (T,); pairs: int64 (K, 2)
    rows of prediction and truth, ascending; iou: float64 (K,) of the pairs, which for a crowd
    is the share of the prediction that lies in it (COCO's rule). areas (P,) and true_areas (T,)
    tell small from large; meet: int64 (K,) pixels of the pairs, and void:
    int64 (P,) pixels on void.
    """

    classes: np.ndarray
    scores: np.ndarray
    true_classes: np.ndarray
    crowd: np.ndarray
    pairs: np.ndarray
    iou: np.ndarray
    areas: np.ndarray | None = None
    true_areas: np.ndarray | None = None
    meet: np.ndarray | None = None
    void: np.ndarray | None = None


def overlaps(truth: Regions, prediction: Regions, *, void: bool = False) -> Overlaps:
    """Return how the predicted regions of an image overlap the true ones of the same class.

    void: count also what of them lies where the truth is void. Raises ValueError for sizes
    that differ.
    """
    if tuple(truth.size) != tuple(prediction.size):
        raise ValueError(f"sizes differ: truth {truth.size}, prediction {prediction.size}")
    if truth.ids is not None and prediction.ids is not None:
        found = _of_maps(truth, prediction)
    else:
        found = _of_spans(truth, prediction)
    pairs, meet, true_area, area = found
    p, t = pairs.T
    union = np.where(truth.crowd[t], area[p], true_area[t] + area[p] - meet)
    return Overlaps(prediction.classes, prediction.scores, truth.classes, truth.crowd, pairs,
                    meet / union, area, true_area if truth.areas is None else truth.areas, meet,
                    _on_void(truth, prediction) if void else None)


def without_void(found: Overlaps) -> tuple[Overlaps, np.ndarray]:
    """Return overlaps as if predictions had no pixel on void, without those that have no other,
    and which are left, bool (P,).

    Nobody knows what lies there, so it counts neither for nor against a prediction (budget-2019
    zeroes these pixels). found: from ``overlaps`` with ``void``.
    """
    area = found.areas - found.void
    kept = (area > 0) | (found.areas == 0)
    rows, (p, t) = np.cumsum(kept) - 1, found.pairs.T
    union = np.rint(found.meet / found.iou).astype(np.int64) - found.void[p]
    return replace(found, classes=found.classes[kept], scores=found.scores[kept],
                   pairs=np.stack([rows[p], t], axis=1), iou=found.meet / union,
                   areas=area[kept], void=np.zeros(int(kept.sum()), np.int64)), kept


def _on_void(truth: Regions, prediction: Regions) -> np.ndarray:
    """Return the void pixels of each predicted region, int64 (P,)."""
    if truth.ids is None or truth.ids.all():
        return np.zeros(len(prediction), np.int64)
    spans = spans_of(prediction)
    before = np.concatenate([[0], np.cumsum(np.ascontiguousarray(truth.ids.T).ravel() == 0)])
    return np.bincount(spans.region, before[spans.stop] - before[spans.start],
                       len(prediction)).astype(np.int64)


_Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _of_maps(truth: Regions, prediction: Regions) -> _Found:
    """Return pairs, intersections, true areas and predicted areas of two maps."""
    t, p, number, (true_area, area) = met(truth, prediction)
    both = (t >= 0) & (p >= 0)
    t, p, number = t[both], p[both], number[both]
    same = truth.classes[t] == prediction.classes[p]
    pairs = np.stack([p[same], t[same]], axis=1)
    order = np.lexsort(pairs.T[::-1])
    return pairs[order], number[same][order], true_area, area


def met(truth: Regions, prediction: Regions
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Return how often regions of two maps meet: true region, predicted region (-1: void, -2:
    no region and not void) and pixels, int64 (M,) each, by ascending ids; and the areas of the
    true (T,) and of the predicted regions (P,)."""
    kind = np.promote_types(truth.ids.dtype, prediction.ids.dtype)
    rows = pair_counts(*(r.ids.astype(kind, copy=False) for r in (truth, prediction)))
    t_id, p_id, number = rows[np.argsort(rows[:, 0] << 16 | rows[:, 1])].T
    places, areas = [], []
    for regions, ids in ((truth, t_id), (prediction, p_id)):
        n = len(regions)
        place = np.searchsorted(regions.numbers, ids)
        if n:
            place[place == n] = 0
            held = regions.numbers[place] == ids
        else:
            held = np.zeros(len(ids), bool)
        areas.append(np.bincount(place[held], number[held], n).astype(np.int64))
        places.append(np.where(held, place, np.where(ids == 0, -1, -2)))
    return places[0], places[1], number, (areas[0], areas[1])


def _of_spans(truth: Regions, prediction: Regions) -> _Found:
    """As ``_of_maps``, for any regions.

    The spans of each pair are gone through side by side. Without the native kernel the pixels of
    a true region before a place are a sum that a binary search finds; a predicted span meets it
    in the difference of two such sums.
    """
    same = prediction.classes[:, None] == truth.classes
    spans, true_spans = spans_of(prediction, same.any(axis=1)), spans_of(truth, same.any(axis=0))
    area, true_area = _areas(prediction, spans), _areas(truth, true_spans)
    first = np.searchsorted(spans.region, np.arange(len(prediction) + 1))
    true_first = np.searchsorted(true_spans.region, np.arange(len(truth) + 1))
    p, t = np.nonzero(same)
    some = (area[p] > 0) & (true_area[t] > 0)
    p, t = p[some], t[some]
    near = ((spans.start[first[p]] < true_spans.stop[true_first[t + 1] - 1])
            & (true_spans.start[true_first[t]] < spans.stop[first[p + 1] - 1]))
    p, t = p[near], t[near]
    if not len(p):
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64), true_area, area
    if _native is not None:
        meet = _native.meets(p, t, first, *spans[1:], true_first, *true_spans[1:])
    else:
        meet = _meets(p, t, first, spans, true_spans, truth.size[0] * truth.size[1] + 1)
    some = meet > 0
    return np.stack([p[some], t[some]], axis=1), meet[some], true_area, area


def _meets(p: np.ndarray, t: np.ndarray, first: np.ndarray, spans: Spans, true_spans: Spans,
           wide: int) -> np.ndarray:
    """Return the pixels of each pair, int64 (K,). first: the first span of each prediction and
    the number of spans; wide: more than the pixels of the image."""
    key = true_spans.region * wide + true_spans.start
    length = true_spans.stop - true_spans.start
    before = np.cumsum(length) - length
    count = first[p + 1] - first[p]
    of_pair = np.repeat(np.arange(len(p)), count)
    row = np.arange(len(of_pair)) + np.repeat(first[p] - (np.cumsum(count) - count), count)
    base = t[of_pair] * wide

    def pixels_before(place: np.ndarray) -> np.ndarray:
        at = np.searchsorted(key, base + place, "right") - 1
        part = np.minimum(base + place - key[at], length[at])  # all of an earlier region's span
        return np.where(at < 0, 0, before[at] + part)

    return np.bincount(of_pair, pixels_before(spans.stop[row]) - pixels_before(spans.start[row]),
                       len(p)).astype(np.int64)


def _areas(regions: Regions, spans: Spans) -> np.ndarray:
    """Return the pixels of each region, int64 (N,), of which ``spans`` has some."""
    area = spans.areas(len(regions))
    if regions.ids is not None:
        return np.bincount(regions.ids.ravel(), minlength=1 << 16)[regions.numbers]
    left = np.flatnonzero(area == 0)
    if _native is not None:
        area[left] = _native.areas(regions.runs, left)
    else:
        area[left] = [sum(regions.runs[i][1::2]) for i in left.tolist()]
    return area


def mean_confidence(regions: Regions, data: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the mean probability of each region's class over its pixels, float64 (N,).

    data: probabilities (K, h, w) of ``classes`` (K,), ascending, at the regions' size or at a
    lower stride (the nearest value counts). A class without map has probability 0.
    """
    height, width = regions.size
    y = np.arange(height) * data.shape[1] // height
    x = np.arange(width) * data.shape[2] // width
    place = np.searchsorted(classes, regions.classes)
    if not len(classes) or not len(regions):
        return np.zeros(len(regions))
    place[place == len(classes)] = 0
    known = np.asarray(classes)[place] == regions.classes
    spans = spans_of(regions)
    total = np.zeros(len(regions))
    for k in np.unique(place[known]):
        some = (known & (place == k))[spans.region]
        layer = data[k][np.ix_(y, x)].astype(np.float64)
        before = np.concatenate([[0], np.cumsum(np.ascontiguousarray(layer.T).ravel())])
        total += np.bincount(spans.region[some], before[spans.stop[some]]
                             - before[spans.start[some]], len(regions))
    return total / np.maximum(spans.areas(len(regions)), 1)
