"""Curves of accuracy against annotation time, drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from wsseg.budget.curve import Point, full_of
from wsseg.cli._figure import figure_in, label

_MARKERS = "osD^vPX*<>"


def plot_curves(points: Sequence[Point], full: Mapping[str, float], score: str,
                path: str) -> None:
    """Draw score against days, and beside it shares of full supervision where they are known.

    Points are joined in the order of their cost, with their intervals as bars. The axis of days
    is logarithmic where it spans more than a factor of ten. Equal points give equal bytes.
    Raises WssegError when matplotlib is missing or the file cannot be written.
    """
    shares = [p for p in points if full_of(full, p.method)]
    panels = [(points, lambda p: 1.0, f"{score} (%)")]
    if shares:
        panels.append((shares, lambda p: full_of(full, p.method),
                       f"{score} (% of full supervision)"))
    with figure_in(path, width=6.4 * len(panels), height=4.8) as figure:
        for axes, (some, whole, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0],
                                              panels):
            _panel(axes, some, whole, list(dict.fromkeys(p.method for p in points)))
            axes.set_xlabel("annotation time (days of 24 hours)")
            axes.set_ylabel(title)
        figure.axes[0].legend()


def _panel(axes: Any, points: Sequence[Point], whole: Any, methods: Sequence[str]) -> None:
    _days_axis(axes, [p.days for p in points])
    for i, method in enumerate(methods):
        mine = [p for p in points if p.method == method]
        if not mine:
            continue
        scale = 100 / whole(mine[0])
        bars = [[scale * max(0.0, p.score - p.low) if p.low is not None else math.nan
                 for p in mine],
                [scale * max(0.0, p.high - p.score) if p.high is not None else math.nan
                 for p in mine]]
        axes.errorbar([p.days for p in mine], [scale * p.score for p in mine], yerr=bars,
                      label=label(method),
                      marker=_MARKERS[i % len(_MARKERS)],
                      color=f"C{i % 10}", capsize=3, markersize=5, linewidth=1.4)
    axes.grid(True, which="major", color="0.9")
    axes.set_axisbelow(True)


def _days_axis(axes: Any, days: Sequence[float]) -> None:
    """Make a wide axis logarithmic, with ticks at 1, 2 and 5; linear before the first of them
    if something is free."""
    paid = [d for d in days if d > 0]
    if not paid or max(paid) <= 10 * min(paid):
        return
    if len(paid) == len(days):
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=min(paid))
    powers = range(math.floor(math.log10(min(paid))), math.ceil(math.log10(max(paid))) + 1)
    ticks = [n * 10.0 ** power for power in powers for n in (1, 2, 5)]
    ticks = [t for t in ticks if min(paid) / 2 <= t <= max(paid) * 2]
    axes.set_xticks(([] if len(paid) == len(days) else [0]) + ticks)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")
