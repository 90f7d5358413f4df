"""Search for the parameters that score best on a few strongly labelled images.

wssl-2015 (section 3.1) cross-validated the dense CRF on 100 fully labelled images; its scripts
went through a grid. A search here is a generator: it yields points to be scored and is sent
their scores, so that the caller decides how a point is evaluated, in parallel and resumably.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Mapping, Sequence

Point = dict[str, float]
Axes = Mapping[str, Sequence[float]]
Search = Generator[list[Point], list[float], Point]


def grid_search(start: Point, axes: Axes) -> Search:
    """Try every combination of the values of ``axes``; other parameters stay as in ``start``.

    Returns the best point, the first one of equals. Points that scored NaN are never best.
    """
    points = [{**start, **dict(zip(axes, values))} for values in itertools.product(*axes.values())]
    scores = yield points
    return points[_best(scores)]


def coordinate_search(start: Point, axes: Axes, *, sweeps: int = 3) -> Search:
    """Improve one parameter at a time, in the order of ``axes``, until a sweep changes nothing.

    start: where to begin; it counts as a candidate, and of equals the one held already stays.
    sweeps: at most so many times through all parameters. Finds the best of the grid only where
    the parameters do not depend on each other, with far fewer points.
    """
    best = dict(start)
    for _ in range(sweeps):
        before = dict(best)
        for name, values in axes.items():
            points = [dict(best), *({**best, name: v} for v in values if v != best[name])]
            scores = yield points
            best = points[_best(scores)]
        if best == before:
            break
    return best


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda i: (-math.inf if math.isnan(scores[i])
                                                  else scores[i], -i))


def key_of(point: Point) -> tuple[tuple[str, float], ...]:
    """Return a point as something that can be looked up."""
    return tuple(sorted((name, float(value)) for name, value in point.items()))


def run(search: Search, evaluate: Callable[[list[Point]], list[float]],
        known: dict[tuple, float]) -> Point:
    """Drive a search to its end and return the best point.

    evaluate: scores points that ``known`` does not hold yet; ``known`` is filled by the way.
    """
    try:
        points = next(search)
        while True:
            new = list({key_of(p): p for p in points if key_of(p) not in known}.values())
            if new:
                known.update(zip(map(key_of, new), evaluate(new), strict=True))
            points = search.send([known[key_of(p)] for p in points])
    except StopIteration as end:
        return end.value
