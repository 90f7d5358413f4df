"""Accuracy against annotation time: measured runs to points with intervals.

As figures 2, 3, 5 and 9 of Bellver et al. 2019: several runs, each on another random subset of
the same size, make one point; a score is also given as a share of what full supervision reaches
with the same net (figure 3, right).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wsseg.budget.costs import DAY, Labels, Statistics, spent
from wsseg.budget.prices import Prices
from wsseg.errors import UsageError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Part:
    """Labels of one kind: images, classes present and objects as in ``costs.Labels`` (NaN:
    not known), and the seconds that they cost."""

    images: float
    classes: float
    objects: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """One result of one method.

    seconds: what its labels cost; score: 0 to 1; interval: of the score over test images;
    size: what runs on other subsets of the same size share, such as N; parts: kind -> labels,
    empty where only the seconds are known; n_classes: classes asked for in each image, or None.
    """

    method: str
    seconds: float
    score: float
    interval: tuple[float, float] | None = None
    size: str = ""
    parts: Mapping[str, Part] = field(default_factory=dict)
    n_classes: int | None = None
    source: str = ""


@dataclass(frozen=True)
class Point:
    """The runs of one method and size. deviation: of the scores (n - 1), None for one run;
    low, high: the interval of the mean, None where neither runs nor images give one."""

    method: str
    seconds: float
    score: float
    runs: int = 1
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    size: str = ""
    parts: Mapping[str, Part] = field(default_factory=dict)
    n_classes: int | None = None

    @property
    def days(self) -> float:
        return self.seconds / DAY


def points_of(runs: Sequence[Run]) -> list[Point]:
    """Return the points of runs, by method in the order of the runs and then by cost.

    Runs of a method are one point if they have the same size or, without one, the same cost for
    as many images of the same kinds.
    """
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        alike = (run.size,) if run.size else (f"{run.seconds:.6f}", *(
            f"{kind}={run.parts[kind].images:.6f}" for kind in sorted(run.parts)))
        groups.setdefault((run.method, *alike), []).append(run)
    return in_order([_point(group) for group in groups.values()])


def in_order(points: Sequence[Point]) -> list[Point]:
    """Sort by method, in the order in which methods appear, and then by cost."""
    order = {name: i for i, name in reversed(list(enumerate(p.method for p in points)))}
    return sorted(points, key=lambda p: (order[p.method], p.seconds))


def _point(runs: Sequence[Run]) -> Point:
    scores = [run.score for run in runs]
    mean = math.fsum(scores) / len(scores)
    deviation = None if len(runs) < 2 else \
        math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / (len(scores) - 1))
    low, high = _interval(runs, mean, deviation)
    asked = {run.n_classes for run in runs}
    return Point(runs[0].method, math.fsum(r.seconds for r in runs) / len(runs), mean, len(runs),
                 deviation, low, high, runs[0].size, _mean_parts([r.parts for r in runs]),
                 asked.pop() if len(asked) == 1 else None)


def _interval(runs: Sequence[Run], mean: float,
              deviation: float | None) -> tuple[float | None, float | None]:
    """Return the interval of a mean score.

    Subsets: Student's t over the runs. Images: all runs are scored on the same images, so that
    this error is not smaller for their mean; it is averaged. Both add up as independent errors.
    """
    if len(runs) == 1:
        return runs[0].interval or (None, None)
    over_runs = t_quantile(len(runs) - 1) * deviation / math.sqrt(len(runs))
    below = above = 0.0
    if all(run.interval for run in runs):
        # a percentile interval need not contain its score: classes are missing in resamples
        below = max(0.0, math.fsum(r.score - r.interval[0] for r in runs) / len(runs))
        above = max(0.0, math.fsum(r.interval[1] - r.score for r in runs) / len(runs))
    return (max(0.0, mean - math.hypot(over_runs, below)),
            min(1.0, mean + math.hypot(over_runs, above)))


def t_quantile(freedom: int) -> float:
    """Return the factor of a two-sided interval at CONFIDENCE by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _mean_parts(many: Sequence[Mapping[str, Part]]) -> dict[str, Part]:
    """Average labels over runs; none where a run has none known."""
    if not all(many):
        return {}
    kinds = dict.fromkeys(kind for parts in many for kind in parts)
    none = Part(0, 0, 0, 0)
    return {kind: Part(*(sum(getattr(parts.get(kind, none), name) for parts in many) / len(many)
                         for name in ("images", "classes", "objects", "seconds")))
            for kind in kinds}


def parts_of(labels: Mapping[str, Labels], n_classes: int, prices: Prices) -> dict[str, Part]:
    """Return labels with their price. Raises as ``costs.spent`` does."""
    costs = spent(labels, n_classes, prices)
    return {kind: Part(*labels[kind], cost) for kind, cost in costs.items()}


def expected_parts(images: Mapping[str, float], statistics: Statistics,
                   prices: Prices) -> dict[str, Part]:
    """Return what numbers of images of each kind are expected to hold and to cost. Every kind is
    of images of its own.

    Raises UsageError for a kind that is priced by objects where these are not known (NaN).
    """
    parts: dict[str, Part] = {}
    for kind, n in images.items():
        parts |= parts_of({kind: (n, n * statistics.mean_classes, n * statistics.mean_objects)},
                          statistics.n_classes, prices)
    for kind, part in parts.items():
        if math.isnan(part.seconds):
            raise UsageError(f"{statistics.source}: objects in an image are not known, and {kind} "
                             "are priced by them: add --mean-objects X")
    return parts


def repriced(points: Sequence[Point], prices: Prices,
             statistics: Statistics | None = None) -> list[Point]:
    """Return points at other prices, or for images with other statistics. What is free stays so.

    Raises UsageError for a point of which only the seconds are known.
    """
    result = []
    for point in points:
        if not point.parts and not point.seconds:
            result.append(point)
            continue
        known = statistics is not None or point.n_classes and \
            not any(math.isnan(p.classes + p.objects) for p in point.parts.values())
        if not (known and point.parts):
            raise UsageError(f"{point.method} at {point.days:.4g} days: which labels were bought "
                             "is not known, so they cannot be priced anew")
        if statistics is None:
            parts = parts_of({k: (p.images, p.classes, p.objects)
                              for k, p in point.parts.items()}, point.n_classes, prices)
        else:
            parts = expected_parts({k: p.images for k, p in point.parts.items()}, statistics,
                                   prices)
        n_classes = point.n_classes if statistics is None else statistics.n_classes
        result.append(replace(point, parts=parts, n_classes=n_classes,
                              seconds=math.fsum(p.seconds for p in parts.values())))
    return in_order(result)


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats: none is as cheap or cheaper and better."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.seconds, -p.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return best


def full_of(full: Mapping[str, float], method: str) -> float | None:
    """Return what full supervision reaches with the net of a method; "" stands for any."""
    return full.get(method, full.get(""))


def plain_point(point: Point, full: Mapping[str, float]) -> dict[str, Any]:
    """Return a point as JSON holds it."""
    whole = full_of(full, point.method)
    return {"method": point.method, "size": point.size, "seconds": point.seconds,
            "days": point.days, "score": point.score, "runs": point.runs,
            "deviation": point.deviation,
            "interval": None if point.low is None else [point.low, point.high],
            "of_full": point.score / whole if whole else None, "n_classes": point.n_classes,
            "labels": {kind: {k: None if math.isnan(v) else v for k, v in vars(part).items()}
                       for kind, part in point.parts.items()}}


def load_point(value: Any) -> Point:
    """Return the point that ``plain_point`` wrote. Raises ValueError for anything else."""
    def number(item: Any, low: float = 0.0, high: float = math.inf) -> float:
        if type(item) not in (int, float) or not low <= item <= high or math.isinf(item):
            raise ValueError(f"{item!r} where a number is expected")
        return float(item)

    try:
        parts = {str(kind): Part(*(math.nan if part[name] is None else number(part[name])
                                   for name in ("images", "classes", "objects", "seconds")))
                 for kind, part in value.get("labels", {}).items()}
        interval = value.get("interval")
        low, high = (None, None) if interval is None else (number(v, 0, 1) for v in interval)
        if interval is not None and low > high:
            raise ValueError(f"{interval!r} where an interval is expected")
        n_classes, deviation = value.get("n_classes"), value.get("deviation")
        return Point(str(value["method"]), number(value["seconds"]), number(value["score"], 0, 1),
                     int(number(value.get("runs", 1), 1)),
                     None if deviation is None else number(deviation), low, high,
                     str(value.get("size", "")), parts,
                     None if n_classes is None else int(number(n_classes, 1)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a point of a curve is not as it should be ({error!r})") from None
