"""What ws-eval found, drawn: confusion matrix, bars with intervals, curve of boundary bands."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wsseg.cli import _score
from wsseg.cli._eval_text import NAMES, score_title
from wsseg.cli._evaluation import Evaluation
from wsseg.cli._figure import figure_in, label
from wsseg.metrics.iou import segmentation_score

_MARKERS = "osD^vPX*<>"


def plot(found: Evaluation, path: str) -> None:
    """Draw into a file: of one prediction's label maps the confusion matrix, of all else bars of
    the scores, with their intervals if there are some; and beside it, if there are two widths or
    more, mIoU against the width of the band along boundaries.

    Raises WssegError when matplotlib is missing or the file cannot be written.
    """
    first = found.results[0]
    curve = isinstance(first, _score.Result) and len(first.bands) > 1
    matrix = isinstance(first, _score.Result) and len(found.results) == 1
    shown = _shown(first) if matrix else []
    side = 2.5 + 0.33 * len(shown) if matrix else 4.8
    wide = side + 1 if matrix else _bars_width(found)
    with figure_in(path, width=wide + 5 * curve, height=side) as figure:
        axes = figure.subplots(1, 1 + curve, squeeze=False,
                               width_ratios=[wide, 5] if curve else None)[0]
        if matrix:
            _confusion(figure, axes[0], first, shown)
        else:
            _bars(axes[0], found)
        if curve:
            _bands(axes[1], found)


def _shown(result: _score.Result) -> list[int]:
    return [c for c in range(len(result.matrix)) if not math.isnan(result.score.iou[c])]


def _confusion(figure: Any, axes: Any, result: _score.Result, shown: list[int]) -> None:
    """Draw the confusion matrix, each row as shares of its true class."""
    part = result.matrix[np.ix_(shown, [*shown, len(result.matrix)])].astype(float)
    share = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    labels = [label(result.scope.class_name(c)) for c in shown]
    axes.set_xticks(range(len(shown) + 1), [*labels, "none"], rotation=90)
    axes.set_yticks(range(len(shown)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    miou = result.score.miou
    axes.set_title("share of each true class (mIoU "
                   f"{'n/a' if math.isnan(miou) else f'{100 * miou:.2f}'})")
    for y, x in np.argwhere(share >= 0.005):
        axes.text(x, y, f"{100 * share[y, x]:.0f}", ha="center", va="center", fontsize=7,
                  color="white" if share[y, x] > 0.5 else "black")
    figure.colorbar(image, ax=axes, shrink=0.6)


def _scores(found: Evaluation) -> list[str]:
    """Return the main score and its parts that are defined, in the order of the summaries."""
    main = found.results[0].main
    names = (name for result in found.results for name, value in result.summary().items()
             if value == value or name == main)
    return [name for name in dict.fromkeys(names) if name.partition("_")[0] == main]


def _bars_width(found: Evaluation) -> float:
    return max(4.8, 2.4 + 0.45 * len(_scores(found)) * len(found.results))


def _bars(axes: Any, found: Evaluation) -> None:
    """Draw a group of bars for each score, a bar for each prediction."""
    names, results = _scores(found), found.results
    width = 0.8 / len(results)
    for i, result in enumerate(results):
        summary = result.summary()
        values = np.array([100 * summary.get(name, math.nan) for name in names])
        place = np.arange(len(names)) + (i - (len(results) - 1) / 2) * width
        bars = None
        if found.intervals:
            limits = [found.intervals[i].get(name) for name in names]
            ends = np.array([[math.nan] * 2 if one is None else [100 * one.low, 100 * one.high]
                             for one in limits])
            bars = np.maximum(0, np.stack([values - ends[:, 0], ends[:, 1] - values]))
        axes.bar(place, values, width * 0.9, yerr=bars, capsize=3, color=f"C{i % 10}",
                 label=label(result.scope.prediction), ecolor="0.2")
        for x, value, high in zip(place, values, values if bars is None else values + bars[1]):
            if value == value:
                axes.text(x, (value if high != high else high) + 0.5, f"{value:.1f}",
                          ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(names)), [score_title(name) for name in names],
                    **({} if len(names) < 4 else {"rotation": 30, "ha": "right"}))
    axes.set_ylabel(f"{NAMES[results[0].main]} (%)"
                    + (", 95 % intervals" if found.intervals else ""))
    axes.grid(True, axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.margins(y=0.1)
    if len(results) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize=8)


def _bands(axes: Any, found: Evaluation) -> None:
    """Draw mIoU in the band against its width, one line for each prediction."""
    for i, result in enumerate(found.results):
        widths = sorted(result.bands)
        axes.plot(widths, [100 * segmentation_score(result.bands[w]).miou for w in widths],
                  marker=_MARKERS[i % len(_MARKERS)], color=f"C{i % 10}", markersize=5,
                  label=label(result.scope.prediction))
        if not math.isnan(result.score.miou):
            axes.axhline(100 * result.score.miou, color=f"C{i % 10}", linestyle=":", linewidth=1)
    axes.set_xlabel("width of the boundary band (pixels)")
    axes.set_ylabel("mIoU in it (%; dotted: of all pixels)")
    axes.set_xticks(sorted(found.results[0].bands))
    axes.grid(True, color="0.9")
    if len(found.results) > 1:
        axes.legend(fontsize=8)
