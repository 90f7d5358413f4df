"""Several predictions against one truth: scores, intervals, differences, gaps, single images."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from wsseg.cli import _score
from wsseg.cli._flow import Flow
from wsseg.cli._instances import (How, PanopticResult, PrecisionResult, run_ap, run_pq,
                                  thresholds)
from wsseg.errors import ExitStatus, UsageError, WssegError
from wsseg.io.atomic import atomic_write
from wsseg.metrics.bootstrap import Difference, Interval, difference, interval, resamples
from wsseg.metrics.gap import Gap, gap

Result = _score.Result | PrecisionResult | PanopticResult
LEVEL = 0.95


@dataclass(frozen=True)
class Plan:
    """What is asked for. baseline, full: percentages or places; times: resamples, 0 for none;
    keep: keep what each record counts; merged: what shards come to, if that is scored."""

    metric: str = "miou"
    missing: str = "error"
    how: How = How()
    bands: tuple[int, ...] = ()
    times: int = 0
    seed: int = 0
    per_image: str | None = None
    baseline: str | None = None
    full: str | None = None
    keep: bool = False
    merged: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Pairwise:
    """How much better one prediction is than another, both by their place in the table."""

    one: int
    other: int
    score: str
    difference: Difference


@dataclass(frozen=True)
class Evaluation:
    """All that was found. intervals, by score, and gaps are of each prediction, or none."""

    plan: Plan
    results: list[Result]
    intervals: list[dict[str, Interval]]
    differences: list[Pairwise]
    gaps: list[Gap]
    full: float | None
    baseline: float | None
    status: ExitStatus


def plan(flow: Flow, places: Sequence[str], **given) -> tuple[Plan, tuple[str, ...], str]:
    """Return the plan, the predictions and the truth from the words of the command line.

    Raises UsageError for options that contradict each other, WssegError for files that cannot be
    written.
    """
    _refuse_targets(given["plot"], given["per_image"])
    if given["merge"]:
        return _merging(flow, places, **given), (), ""
    if len(places) < 2:
        raise UsageError(f"PREDICTION and TRUTH are needed; got {len(places)} place" if places
                         else "PREDICTION and TRUTH are needed; got none")
    *predictions, truth = places
    if list(places).count("-") > 1:
        raise UsageError("only one input can be standard input")
    metric = given["metric"]
    for name, of in (("--trimap", "miou"), ("--quality", "miou"), ("--rule", "ap"),
                     ("--thresholds", "ap"), ("--ranking", "ap")):
        if given[name[2:]] and metric != of:
            raise UsageError(f"{name} is for --metric {of}")
    if given["unlabelled"] and metric == "miou":
        raise UsageError("--unlabelled is for --metric ap and pq")
    if given["baseline"] and not given["full"]:
        raise UsageError("--baseline needs --full: the gap is between them")
    anew = [p for p in (given["full"], given["baseline"]) if p and _number(p) is None]
    if truth == "-" and (len(predictions) > 1 or anew):
        raise UsageError("a truth from standard input can be read only once: write it to a "
                         "directory first")
    if "-" in anew:
        raise UsageError("--full and --baseline are shares, percentages or places, not standard "
                         "input")
    rule = given["rule"] or "coco"
    # of VOC's and COCO's objects all that is none is background
    usual = "background" if metric == "ap" and rule != "cityscapes" else "void"
    how = How(rule, thresholds(given["thresholds"], rule), given["ranking"] or "score",
              (given["unlabelled"] or usual) == "void")
    made = Plan(metric, given["missing"], how, tuple(dict.fromkeys(given["trimap"])),
                given["bootstrap"] or 0, given["seed"], given["per_image"],
                given["baseline"], given["full"],
                flow.shard is not None or bool(given["worst"] or given["best"]))
    flow.inputs = tuple(places)
    return made, tuple(predictions), truth


def _merging(flow: Flow, places: Sequence[str], **given) -> Plan:
    """Return the plan for results of shards, whose own options decide how they were scored."""
    from wsseg.cli._eval_parts import merged

    decided = {name: given[name] for name in ("trimap", "rule", "thresholds", "ranking",
                                              "unlabelled")}
    decided |= {"metric": given["metric"] != "miou", "missing": given["missing"] != "error",
                "shard": flow.shard, "keys": flow.key_file, "classes": flow.classes_spec}
    for name, value in decided.items():
        if value:
            raise UsageError(f"--{name} was decided when the shards were scored; leave it out "
                             "with --merge")
    if not places:
        raise UsageError("--merge needs the files that ws-eval --shard I/N --json wrote")
    if given["baseline"] and not given["full"]:
        raise UsageError("--baseline needs --full: the gap is between them")
    for name in ("full", "baseline"):
        if given[name] and _number(given[name]) is None:
            raise UsageError(f"with --merge, --{name} is a share or a percentage")
    results = tuple(merged(places))
    metric = results[0].main
    if given["quality"] and metric != "miou":
        raise UsageError("--quality is for --metric miou")
    return Plan(metric, times=given["bootstrap"] or 0, seed=given["seed"],
                per_image=given["per_image"], baseline=given["baseline"], full=given["full"],
                merged=results)


def evaluate(flow: Flow, plan: Plan, predictions: Sequence[str], truth: str) -> Evaluation:
    """Score every prediction. Raises UsageError where records cannot be compared."""
    status = ExitStatus.OK

    def score(place: str) -> Result:
        nonlocal status
        part = replace(flow, inputs=(place, truth), failed=0, failed_keys=set())
        result = _run(part, plan)
        status = max(status, part.status())
        return result

    results = [*plan.merged, *(score(place) for place in predictions)]
    if any(r.scope.failed for r in plan.merged):
        status = ExitStatus.SOME_FAILED
    limits = [None if value is None else _value(value, score, results)
              for value in (plan.full, plan.baseline)]
    _refuse_other_names(results)
    gaps = [gap(_main(r), *limits) for r in results] if limits[0] is not None else []
    intervals, differences = _resampled(results, plan) if plan.times else ([], [])
    if plan.per_image:
        atomic_write(Path(plan.per_image), image_table(results).encode())
    return Evaluation(plan, results, intervals, differences, gaps, *limits, status)


def _refuse_targets(*paths: str | None) -> None:
    """Raise WssegError for files to be written into folders that are not there, before all is
    scored."""
    for path in filter(None, paths):
        if not os.path.isdir(os.path.dirname(path) or "."):
            raise WssegError(f"cannot write {path}: {os.strerror(errno.ENOENT)}")


def _run(flow: Flow, plan: Plan) -> Result:
    if plan.metric == "ap":
        return run_ap(flow, plan.missing, plan.how)
    if plan.metric == "pq":
        return run_pq(flow, plan.missing, plan.how)
    return _score.run(flow, plan.missing, bands=plan.bands,
                      keep=bool(plan.times or plan.per_image or plan.keep))


def _main(result: Result) -> float:
    return result.summary()[result.main]


def _number(text: str) -> float | None:
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        return None


def _value(text: str, score: Callable[[str], Result], results: Sequence[Result]) -> float:
    """Return a share, as it is or from a percentage, or the score of a place on the same
    records."""
    if _number(text) is not None:
        return _share(text)
    found = score(text)
    _refuse_other_names([*results, found])
    for other in results:
        _refuse_other_records(found, other)
    return _main(found)


def _share(text: str) -> float:
    from wsseg.budget.results import parse_score

    try:
        return parse_score(text)
    except UsageError as error:
        raise UsageError(f"{error} (a directory of that name is ./{text})") from None


def _refuse_other_names(results: Sequence[Result]) -> None:
    """Raise UsageError where predictions have other class names than the first; those of the truth
    were compared before."""
    named = [r.scope for r in results if r.scope.names is not None]
    for scope in named[1:]:
        if scope.names != named[0].names:
            raise UsageError(f"{scope.prediction} has other classes than {named[0].prediction}")


def _refuse_other_records(one: Result, other: Result) -> None:
    lacking = set(one.scope.keys) ^ set(other.scope.keys)
    if lacking:
        raise UsageError(f"{one.scope.prediction} and {other.scope.prediction} were scored on "
                         f"different records, for example {min(lacking)}: use --missing "
                         "wrong, or --keys for those that all have")


def _rows(result: Result, keys: Sequence[str]) -> list[int]:
    place = {key: i for i, key in enumerate(result.scope.keys)}
    return [place[key] for key in keys]


def _resampled(results: list[Result], plan: Plan
               ) -> tuple[list[dict[str, Interval]], list[Pairwise]]:
    """Return intervals of each prediction and differences of all pairs, from the same resamples."""
    first = results[0].scope
    for other in results[1:]:
        _refuse_other_records(results[0], other)
    keys = sorted(first.keys)
    if len(keys) < 2:
        raise UsageError("--bootstrap needs at least two records")
    scores = [r.resampled(_rows(r, keys)) for r in results]
    drawn = resamples(scores, len(keys), plan.times, plan.seed)
    names = [list(r.summary()) for r in results]
    intervals = [{name: interval(row, LEVEL) for name, row in zip(mine, values)}
                 for mine, values in zip(names, drawn)]
    differences = []
    for i in range(len(results)):
        for j in range(i + 1, len(results)):
            for name in names[i]:
                if name in names[j]:
                    differences.append(Pairwise(i, j, name, difference(
                        results[i].summary()[name], results[j].summary()[name],
                        drawn[i][names[i].index(name)], drawn[j][names[j].index(name)], LEVEL)))
    return intervals, differences


def image_table(results: list[Result]) -> str:
    """Return the scores of each record as tab-separated values, the worst by the first
    prediction first; what is undefined is empty."""
    columns: dict[str, dict[str, float]] = {}
    for number, result in enumerate(results):
        for name, values in result.of_images().items():
            title = name if len(results) == 1 else f"{name}:{result.scope.prediction}"
            while title in columns:
                title += f"#{number + 1}"
            columns[title] = dict(zip(result.scope.keys, values.tolist()))
    order = image_order(results[0])
    order += sorted({k for r in results for k in r.scope.keys} - set(order))
    lines = ["\t".join(plain(c) for c in ("key", *columns))]
    lines += ["\t".join([key, *(cell(values.get(key)) for values in columns.values())])
              for key in order]
    return "\n".join(lines) + "\n"


def image_order(result: Result) -> list[str]:
    """Return the scored keys, the worst first and those without a score last."""
    values = result.of_images()[result.main].tolist()
    return [key for _, _, key in sorted(
        (math.isnan(value), value if value == value else 0, key)
        for key, value in zip(result.scope.keys, values))]


def extremes(result: Result, number: int) -> tuple[list[str], list[str]]:
    """Return the keys of the worst and of the best records, each beginning with its extreme."""
    values = dict(zip(result.scope.keys, result.of_images()[result.main].tolist()))
    order = [key for key in image_order(result) if not math.isnan(values[key])]
    return order[:number], order[::-1][:number]


def plain(text: str) -> str:
    """Return text as one cell of tab-separated values."""
    return " ".join(str(text).split())


def cell(value: float | int | bool | None) -> str:
    """Return a figure as one cell; what is undefined is empty."""
    if value is None or value != value:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return f"{value:.6f}" if isinstance(value, float) else str(value)
