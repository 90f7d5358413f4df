"""What ws-eval found, for people: tables and the sentences under them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from wsseg.cli import _score
from wsseg.cli._evaluation import Evaluation, Result, extremes
from wsseg.cli._instances import PanopticResult, PrecisionResult
from wsseg.metrics.average_precision import AREAS
from wsseg.metrics.gap import label_quality
from wsseg.metrics.iou import segmentation_score

NAMES = {"miou": "mIoU", "ap": "AP", "pq": "PQ", "sq": "SQ", "dq": "DQ"}
_SHOWN = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9)  # thresholds of AP, where there are more than six
_RANKING = {"score": "their scores", "confidence": "their mean probability",
            "oracle": "an oracle"}


def as_text(found: Evaluation, sort: str, quality: bool) -> str:
    """Return the table, the means, what was scored, and all else that was asked for."""
    if len(found.results) > 1:
        lines = _together(found, sort)
    else:
        result = found.results[0]
        table = {"miou": _iou_table, "ap": _ap_table, "pq": _pq_table}[result.main]
        lines = [*table(result, sort), scored(result)]
    for i, result in enumerate(found.results):
        of = f"{result.scope.prediction}: " if len(found.results) > 1 else ""
        lines += [of + line for line in _more(found, i, quality)]
    lines += _differences(found)
    return "\n".join(lines)


def class_order(sort: str) -> Callable[[Result], list[int]]:
    """Return what gives the classes that are shown, in their order."""
    def order(result: Result) -> list[int]:
        values = result.of_class
        shown = [c for c in range(len(values)) if not math.isnan(values[c])]
        return sorted(shown, key=lambda c: -values[c]) if sort == "iou" else shown
    return order


def _percent(value: float) -> str:
    return "n/a" if value != value else f"{100 * value:.2f}"


def _width(result: Result, shown: Sequence[int]) -> int:
    return max(5, *(len(result.scope.class_name(i)) for i in shown), 5)


def _iou_table(result: _score.Result, sort: str) -> list[str]:
    score = result.score
    order = class_order(sort)(result)
    width = _width(result, order)
    lines = [f"{'class':{width}}  {'IoU':>6} {'prec.':>6} {'recall':>6} {'pixels':>10}"]
    lines += [f"{result.scope.class_name(i):{width}}  {_percent(score.iou[i]):>6} "
              f"{_percent(score.precision[i]):>6} {_percent(score.recall[i]):>6} "
              f"{score.pixels[i]:>10}" for i in order]
    left_out = len(score.iou) - score.scored
    lines.append(f"{'mean':{width}}  {_percent(score.miou):>6}   over {score.scored} classes"
                 + (f" ({left_out} in neither, left out)" if left_out else ""))
    lines.append(f"pixel accuracy {_percent(score.pixel_accuracy)} %, mean class accuracy "
                 f"{_percent(score.mean_accuracy)} %, {_percent(score.covered)} % of the pixels "
                 "were given a class")
    return lines


def _means(result: PrecisionResult | PanopticResult, width: int,
           columns: Sequence[str]) -> list[str]:
    """Return a row for each group of classes, of what the summary has of the columns."""
    summary = result.summary()
    there = ~np.isnan(result.of_class)
    rows = []
    for group, flag in (("", None), ("_things", 1), ("_stuff", 0)):
        if f"{result.main}{group}" not in summary:
            continue
        count = int((there if flag is None else there & (result.things == flag)).sum())
        values = (f"{_percent(summary[c + group]):>6}" if c + group in summary else f"{'':6}"
                  for c in columns)
        rows.append(f"{group[1:] or 'mean':{width}}  {' '.join(values)}   over {count} classes")
    return rows


def _ap_table(result: PrecisionResult, sort: str) -> list[str]:
    order = class_order(sort)(result)
    width = max(6, _width(result, order))
    levels = result.how.thresholds
    shown = [i for i, t in enumerate(levels)
             if 1 < len(levels) <= 6 or any(abs(t - s) < 1e-9 for s in _SHOWN)]
    if len(levels) == 1:
        shown = []
    titles = [f"ap{levels[i] * 100:g}" for i in shown]
    rows = result.rows()
    lines = [f"{'class':{width}}  {'AP':>6} " + "".join(f"{t.upper():>6} " for t in titles)
             + f"{'truths':>7} {'found':>7}"]
    lines += [f"{result.scope.class_name(c):{width}}  {_percent(result.of_class[c]):>6} "
              + "".join(f"{_percent(rows[c][t]):>6} " for t in titles)
              + f"{rows[c]['truths']:>7} {rows[c]['detections']:>7}" for c in order]
    lines += _means(result, width, ["ap", *titles])
    summary = result.summary()
    lines += [f"{size:{width}}  {_percent(summary[f'ap_{size}']):>6}   objects of "
              f"{_pixels(*ends)} pixels" for size, ends in result.sizes.items()]
    rule = result.how.rule
    lines.append(f"AP at IoU {', '.join(f'{t:g}' for t in levels)} by the rules of {rule} "
                 f"({result.rule.interpolation}); ranked by {_RANKING[result.how.ranking]}")
    return lines


def _pixels(low: float, high: float) -> str:
    return f"{low:g} and more" if high > 1e9 else f"up to {high:g}" if not low else \
        f"{low:g} to {high:g}"


def _pq_table(result: PanopticResult, sort: str) -> list[str]:
    order = class_order(sort)(result)
    width = max(6, _width(result, order))
    lines = [f"{'class':{width}}  {'PQ':>6} {'SQ':>6} {'DQ':>6} {'TP':>7} {'FP':>7} {'FN':>7}"]
    rows = result.rows()
    lines += [f"{result.scope.class_name(c):{width}}  "
              + " ".join(f"{_percent(rows[c][k]):>6}" for k in ("pq", "sq", "dq")) + " "
              + " ".join(f"{rows[c][k]:>7}" for k in ("tp", "fp", "fn")) for c in order]
    return lines + _means(result, width, ["pq", "sq", "dq"])


def scored(result: Result) -> str:
    """Return which records were scored, and which were not."""
    scope = result.scope
    text = f"{scope.records} records scored (keys {scope.digest})"
    for count, what in ((scope.unscored, "true records have no prediction"),
                        (scope.untrue, "predictions have no truth"),
                        (scope.failed, "records failed")):
        if count:
            text += f"; {count} {what}"
    return text


def _together(found: Evaluation, sort: str) -> list[str]:
    """Return one table with a column for each prediction."""
    results = found.results
    longest = max(results, key=lambda r: len(r.of_class))
    values = np.full((len(longest.of_class), len(results)), np.nan)
    for i, result in enumerate(results):
        values[:len(result.of_class), i] = result.of_class
    shown = [c for c in range(len(values)) if not np.isnan(values[c]).all()]
    if sort == "iou":
        shown.sort(key=lambda c: (math.isnan(values[c, 0]), -values[c, 0]))
    names = [r.scope.prediction for r in results]
    widths = [max(6, len(name)) for name in names]
    width = max(6, _width(longest, shown))

    def row(title: str, cells: Sequence[str]) -> str:
        return f"{title:{width}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(cells, widths))

    lines = [row(NAMES[results[0].main], names)]
    lines += [row(longest.scope.class_name(c), [_percent(v) for v in values[c]]) for c in shown]
    summaries = [r.summary() for r in results]
    for name in dict.fromkeys(k for s in summaries for k in s if k.split("_")[0] == r_main(found)):
        lines.append(row(name.partition("_")[2] or "mean",
                         [_percent(s.get(name, math.nan)) for s in summaries]))
    told = [scored(r) for r in results]
    if len(set(told)) == 1:
        return [*lines, told[0]]
    return [*lines, *(f"{name}: {text}" for name, text in zip(names, told))]


def r_main(found: Evaluation) -> str:
    return found.results[0].main


def _told(name: str, main: str) -> bool:
    """Whether a score has a sentence of its own; those of sizes are left to --json."""
    base, _, group = name.partition("_")
    return base == main and group not in AREAS


def score_title(name: str) -> str:
    """Return the name of a score of a summary, for people."""
    base, _, group = name.partition("_")
    return NAMES.get(base, base.upper()) + (f" of {group}" if group else "") + (
        " objects" if group in AREAS else "")


def _more(found: Evaluation, i: int, quality: bool) -> list[str]:
    """Return the sentences about one prediction."""
    result, plan = found.results[i], found.plan
    lines = []
    if isinstance(result, _score.Result):
        for width, matrix in result.bands.items():
            band = segmentation_score(matrix)
            lines.append(f"within {width} px of a boundary: mIoU {_percent(band.miou)} over "
                         f"{band.scored} classes, pixel accuracy "
                         f"{_percent(band.pixel_accuracy)} %")
        if quality:
            q = label_quality(result.matrix)
            lines.append(f"as labels: {_percent(q.coverage)} % of the pixels labelled, "
                         f"{_percent(q.precision)} % of those right ({_percent(q.recall)} % of "
                         f"all); by class precision {_percent(q.mean_precision)} %, recall "
                         f"{_percent(q.mean_recall)} %; mIoU of what is labelled "
                         f"{_percent(q.miou)}")
    if plan.times:
        main = {k: v for k, v in found.intervals[i].items() if _told(k, result.main)}
        lines += [f"{score_title(name)} {_percent(result.summary()[name])}, 95 % interval "
                  f"{_percent(v.low)} to {_percent(v.high)} ({plan.times} resamples of "
                  f"{result.scope.records} records, seed {plan.seed})"
                  for name, v in main.items()]
    if found.gaps:
        gap, main = found.gaps[i], NAMES[result.main]
        text = (f"full supervision has {main} {_percent(found.full)}: remaining gap "
                f"{_percent(gap.remaining)}, {_percent(gap.share)} % of full supervision")
        if found.baseline is not None:
            text += (f"; baseline {_percent(found.baseline)}: full gap {_percent(gap.full_gap)}, "
                     f"gap reduction {_percent(gap.reduction)} %")
        lines.append(text)
    if plan.per_image:
        values = dict(zip(result.scope.keys, result.of_images()[result.main].tolist()))
        for what, keys in zip(("worst", "best"), extremes(result, 5)):
            lines.append(f"{what}: " + ", ".join(f"{k} {_percent(values[k])}" for k in keys))
    return lines


def _differences(found: Evaluation) -> list[str]:
    lines = []
    for d in found.differences:
        if not _told(d.score, r_main(found)):
            continue
        one, other = (found.results[n].scope.prediction for n in (d.one, d.other))
        gap, value = d.difference.interval, 100 * d.difference.value
        lines.append(f"{one} - {other}: {score_title(d.score)} {value:+.2f}, 95 % interval "
                     f"{100 * gap.low:+.2f} to {100 * gap.high:+.2f}, p {d.difference.p:.3g}")
    return lines
