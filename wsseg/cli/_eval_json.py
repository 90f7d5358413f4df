"""What ws-eval found, for programs: JSON and tab-separated values."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from wsseg.cli import _score
from wsseg.cli._eval_parts import part_of
from wsseg.cli._evaluation import Evaluation, Result, cell, extremes, plain
from wsseg.cli._instances import PrecisionResult
from wsseg.metrics.average_precision import AREAS
from wsseg.metrics.bootstrap import Interval
from wsseg.metrics.gap import label_quality
from wsseg.metrics.iou import segmentation_score


def as_json(found: Evaluation, quality: bool, shard: tuple[int, int] | None = None) -> str:
    """Return one result as an object; several as ``results`` with their ``differences``. What
    is undefined is null. shard: adds what was counted for each record, for --merge."""
    results = [_result(found, i, quality) for i in range(len(found.results))]
    for result in results:
        result |= {} if shard is None else {"part": None}
    whole: dict[str, Any] = results[0] if len(results) == 1 else {"results": results}
    if found.plan.times and len(results) > 1:
        whole["differences"] = [
            {"one": found.results[d.one].scope.prediction,
             "other": found.results[d.other].scope.prediction, "score": d.score,
             "difference": _number(d.difference.value),
             "interval": _limits(d.difference.interval), "p": _number(d.difference.p)}
            for d in found.differences]
    text = json.dumps(whole, indent=1)
    if shard is None:
        return text
    parts = (json.dumps(part_of(result, shard), separators=(",", ":"))
             for result in found.results)
    # on one line each; within a string the quotes would not be bare
    return re.sub('"part": null', lambda _: f'"part": {next(parts)}', text)


def _number(value: Any) -> Any:
    """Return a figure as JSON holds it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return None if value != value else round(float(value), 6)


def _limits(interval: Interval) -> list[float | None]:
    return [_number(interval.low), _number(interval.high)]


def _result(found: Evaluation, i: int, quality: bool) -> dict[str, Any]:
    result = found.results[i]
    scope, plan = result.scope, found.plan
    # the order is the one that plain results have always had
    whole: dict[str, Any] = {}
    if isinstance(result, _score.Result):
        score = result.score
        whole |= {"miou": score.miou, "pixel_accuracy": score.pixel_accuracy,
                  "mean_accuracy": score.mean_accuracy, "covered": score.covered,
                  "classes_scored": score.scored}
    else:
        whole |= {"metric": result.main, **result.summary(),
                  "classes_scored": int((~np.isnan(result.of_class)).sum())}
        if isinstance(result, PrecisionResult):
            whole |= {"rule": result.how.rule, "ranking": result.how.ranking,
                      "thresholds": list(result.how.thresholds)}
    whole = {k: [_number(x) for x in v] if isinstance(v, list) else _number(v)
             for k, v in whole.items()}
    whole |= {"records": scope.records, "keys": scope.digest, "unscored": scope.unscored,
              "untrue": scope.untrue, "failed": scope.failed, "prediction": scope.prediction,
              "truth": scope.truth}
    whole["classes"] = [{"class": scope.class_name(c), "id": c,
                         **{k: _number(v) for k, v in row.items()}}
                        for c, row in enumerate(result.rows())]
    if isinstance(result, _score.Result):
        whole["confusion"] = result.matrix.tolist()
        if result.bands:
            whole["trimap"] = [_band(width, matrix) for width, matrix in result.bands.items()]
        if quality:
            whole["quality"] = {k: _number(v) for k, v in
                                vars(label_quality(result.matrix)).items()}
    if plan.times:
        whole["interval"] = {k: _limits(v) for k, v in found.intervals[i].items()}
        whole["bootstrap"] = {"resamples": plan.times, "seed": plan.seed, "level": 0.95}
    if found.gaps:
        gap = found.gaps[i]
        whole["gap"] = {"full": _number(found.full), "baseline": _number(found.baseline),
                        "remaining": _number(gap.remaining), "share_of_full": _number(gap.share),
                        "full_gap": _number(gap.full_gap), "reduction": _number(gap.reduction)}
    if plan.per_image:
        whole["worst"], whole["best"] = extremes(result, 5)
    return whole


def _band(width: int, matrix: np.ndarray) -> dict[str, Any]:
    score = segmentation_score(matrix)
    return {"width": width, "miou": _number(score.miou), "classes_scored": score.scored,
            "pixel_accuracy": _number(score.pixel_accuracy), "pixels": int(matrix.sum())}


def as_tsv(found: Evaluation, order) -> str:
    """Return a row for each prediction and class, in the order that ``order`` gives the classes
    of a result, and rows for the means."""
    lines: list[dict[str, Any]] = []
    for i, result in enumerate(found.results):
        rows = result.rows()
        shown = order(result)
        base = {"prediction": result.scope.prediction}
        lines += [{**base, "class": result.scope.class_name(c), "id": c, **rows[c]}
                  for c in shown]
        lines += [{**base, **row} for row in _means(result, found, i)]
    columns = list(dict.fromkeys(name for line in lines for name in line))
    text = ["\t".join(columns)]
    text += ["\t".join(value if isinstance(value, str) else cell(value) for value in (
        plain(v) if isinstance(v, str) else v for v in (line.get(c) for c in columns)))
        for line in lines]
    return "\n".join(text)


def _means(result: Result, found: Evaluation, i: int) -> list[dict[str, Any]]:
    if isinstance(result, _score.Result):
        means = [("", {"iou": result.score.miou, "recall": result.score.mean_accuracy,
                       "pixels": int(result.matrix.sum())})]
    else:
        summary = result.summary()
        means = []
        for group in ("", "_things", "_stuff", *(f"_{size}" for size in AREAS)):
            mine = {k.removesuffix(group): v for k, v in summary.items()
                    if k.endswith(group) and (group or "_" not in k)}
            if mine:
                means.append((group, mine))
    limits = found.intervals[i] if found.intervals else {}
    rows = []
    for group, mine in means:
        interval = limits.get(f"{result.main}{group}")
        rows.append({"class": f"mean{group.replace('_', ' of ')}", **mine,
                     **({} if interval is None else
                        {"low": interval.low, "high": interval.high})})
    return rows
