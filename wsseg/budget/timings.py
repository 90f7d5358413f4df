"""Seconds for an action from many timings of it: the median, and how sure it is.

The median, because timings have long tails: a phone call is no part of a box. What many labels
cost in all is nearer the mean, so that is told as well.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Timing:
    """number: of timings; low, high: interval of the median, None for too few of them."""

    number: int
    median: float
    mean: float
    low: float | None
    high: float | None


def timing(seconds: Sequence[float]) -> Timing:
    """Summarise the timings of one action, one at least.

    The interval is free of any distribution: it lies between two of the sorted timings, chosen
    so that at most 2.5 % of all samples have their median's truth below and above (binomial).
    Fewer than six timings cannot give one of 95 %.
    """
    from scipy.special import bdtr

    ordered = sorted(seconds)
    n = len(ordered)
    tail = (1 - CONFIDENCE) / 2
    rank = 0  # the largest number of timings that may be cut off at each end
    while bdtr(rank, n, 0.5) <= tail:
        rank += 1
    low, high = (ordered[rank - 1], ordered[n - rank]) if rank else (None, None)
    return Timing(n, statistics.median(ordered), math.fsum(ordered) / n, low, high)


def timings(pairs: Iterable[tuple[str, float]]) -> dict[str, Timing]:
    """Return action -> timing, in the order in which actions appear."""
    found: dict[str, list[float]] = {}
    for action, value in pairs:
        found.setdefault(action, []).append(value)
    return {action: timing(values) for action, values in found.items()}
