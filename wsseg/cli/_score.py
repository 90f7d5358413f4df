"""What ws-eval computes and prints."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from wsseg.cli._differ import refuse_other_classes, turned
from wsseg.cli._flow import Flow
from wsseg.errors import RecordError, UsageError, WssegError
from wsseg.io.codec import check_classes
from wsseg.io.folder import FolderSource
from wsseg.io.record import Record
from wsseg.io.source import Source
from wsseg.metrics.iou import SegmentationScore, matrix_of, pair_counts, segmentation_score

_BATCH = 16
_MERGED = 4096  # records whose counts are held before they are added up


@dataclass(frozen=True)
class Result:
    """One evaluation. matrix: int64 (C, C + 1) as ``confusion_matrix`` returns it; digest: of
    the scored keys; unscored: true records without prediction; untrue: the reverse."""

    prediction: str
    truth: str
    names: tuple[str, ...] | None
    matrix: np.ndarray
    score: SegmentationScore
    records: int
    digest: str
    unscored: int | None
    untrue: int | None
    failed: int

    def class_name(self, number: int) -> str:
        return self.names[number] if self.names else str(number)


@dataclass(frozen=True)
class _Pair:
    """One key's prediction (None: there is none) and truth."""

    key: str
    prediction: Record | None
    truth: Record


def run(flow: Flow, missing: str) -> Result:
    """Score every record that both places hold, and those that ``missing`` says.

    Raises UsageError when there is none, or when the places' class names disagree.
    """
    prediction, truth = (flow.open(place, as_kind="label") for place in flow.inputs)
    names = _class_names(prediction, truth)
    tally = _Tally(flow, names)
    flow.lenient = missing != "error"
    if hasattr(prediction, "get") or hasattr(truth, "get"):
        _paired(flow, tally, prediction, truth, missing)
    else:
        raise UsageError("one of PREDICTION and TRUTH must be a directory or an HDF5 file")
    unscored = untrue = None
    if hasattr(truth, "get"):
        chosen = [k for k in flow.selected(truth)
                  if k not in tally.keys and k not in flow.failed_keys]
        unscored = len(chosen)
        if missing == "error" and flow.cut is None:
            _refuse(chosen)
        if missing == "wrong" and chosen:
            _all_wrong(flow, tally, truth, set(chosen))
            unscored = 0
    if hasattr(prediction, "get"):
        untrue = len(set(flow.selected(prediction)) - set(tally.keys))
    if not tally.keys:
        raise UsageError("no record was scored" + ("" if flow.failed else ": do "
                         f"{prediction.where} and {truth.where} hold the same keys?"))
    matrix = tally.matrix
    return Result(prediction.where, truth.where, names, matrix,
                  segmentation_score(matrix), len(tally.keys), _digest(tally.keys),
                  unscored, untrue, flow.failed)


class _Tally:
    """Adds up pairs of labels; the classes are those seen where names are unknown."""

    def __init__(self, flow: Flow, names: Sequence[str] | None) -> None:
        self._flow, self._names = flow, names
        self.keys: dict[str, None] = {}
        self._counts: list[np.ndarray] = []

    def take(self, source: Source) -> None:
        step = partial(_compare, names=self._names)
        for key, counts in self._flow.map(step, source, batch=_BATCH):
            self.keys[key] = None
            self._counts.append(counts)
            if len(self._counts) == _MERGED:
                self._counts = [_merged(self._counts)]

    @property
    def matrix(self) -> np.ndarray:
        counts = _merged(self._counts)
        if self._names:
            n = len(self._names)
        else:
            seen = counts[:, :2]
            n = 1 + int(seen.max(where=seen != 255, initial=-1))
        return matrix_of(counts, n)


def _merged(counts: list[np.ndarray]) -> np.ndarray:
    """Join rows of ``pair_counts``, each pair once."""
    rows = np.concatenate(counts or [np.zeros((0, 3), np.int64)])
    codes, place = np.unique(rows[:, 0] << 16 | rows[:, 1], return_inverse=True)
    total = np.zeros(len(codes), np.int64)
    np.add.at(total, place.ravel(), rows[:, 2])
    return np.stack([codes >> 16, codes & 0xffff, total], axis=1)


def _refuse(lacking: Sequence[str]) -> None:
    if lacking:
        raise UsageError(f"{len(lacking)} true records have no prediction: "
                         f"{', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else ''} "
                         "(--missing skip or wrong, or choose records with --keys)")


def _paired(flow: Flow, tally: _Tally, prediction: Source, truth: Source, missing: str) -> None:
    """Compare what both hold; the one that is a stream leads."""
    swap = not hasattr(truth, "get")
    lead, other = (truth, prediction) if swap else (prediction, truth)
    there = set(other.keys())
    lacking: list[str] = []
    if not swap or missing == "skip":
        flow.only = there.__contains__

    def pair(record: Record) -> _Pair:
        if record.key not in there:
            lacking.append(record.key)
            return _Pair(record.key, None, record)
        found = other.get(record.key)
        return _Pair(record.key, *((found, record) if swap else (record, found)))

    flow.wrap = pair
    flow.portable = isinstance(other, FolderSource)
    try:
        tally.take(lead)
    finally:
        flow.only = flow.wrap = None
    if missing == "error" and flow.cut is None:
        _refuse(lacking)


def _all_wrong(flow: Flow, tally: _Tally, truth: Source, keys: set[str]) -> None:
    flow.only = keys.__contains__
    flow.wrap = lambda record: _Pair(record.key, None, record)
    tally.take(truth)
    flow.only = flow.wrap = None


def _class_names(prediction: Source, truth: Source) -> tuple[str, ...] | None:
    ours, theirs = prediction.header.classes, truth.header.classes
    refuse_other_classes(prediction, truth)
    return theirs if theirs is not None else ours


def _compare(pair: _Pair, *, names: Sequence[str] | None) -> tuple[str, np.ndarray]:
    """Return the key and the counts of pairs of labels of one record."""
    truth = pair.truth.get("label")
    if pair.prediction is None:
        prediction = np.full_like(truth, 255)
    else:
        prediction = pair.prediction.get("label")
    if truth.shape != prediction.shape:
        raise RecordError(f"prediction is {prediction.shape[0]}x{prediction.shape[1]}, truth is "
                          f"{truth.shape[0]}x{truth.shape[1]}"
                          f"{turned(truth.shape, prediction.shape)}")
    if truth.dtype != prediction.dtype:
        truth, prediction = truth.astype(np.uint16), prediction.astype(np.uint16)
    counts = pair_counts(truth, prediction)
    if names:
        seen = counts[:, :2]
        if ((seen >= len(names)) & (seen != 255)).any():
            for what, labels in (("prediction", prediction), ("truth", truth)):
                try:
                    check_classes(labels, names)
                except RecordError as fault:
                    raise RecordError(f"{what}: {fault}") from None
    return pair.key, counts


def _digest(keys: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:12]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)


def as_json(result: Result) -> str:
    """Return the result as JSON; what is undefined is null."""
    score = result.score
    rows: list[dict[str, Any]] = [
        {"class": result.class_name(i), "id": i, "iou": _number(score.iou[i]),
         "precision": _number(score.precision[i]), "recall": _number(score.recall[i]),
         "pixels": int(score.pixels[i])} for i in range(len(score.iou))]
    return json.dumps({
        "miou": _number(score.miou), "pixel_accuracy": _number(score.pixel_accuracy),
        "mean_accuracy": _number(score.mean_accuracy), "covered": _number(score.covered),
        "classes_scored": score.scored, "records": result.records, "keys": result.digest,
        "unscored": result.unscored, "untrue": result.untrue, "failed": result.failed,
        "prediction": result.prediction, "truth": result.truth, "classes": rows,
        "confusion": result.matrix.tolist()}, indent=1)


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.2f}"


def as_table(result: Result, sort: str) -> str:
    """Return the result for people: one row a class, the means, and what was scored."""
    score = result.score
    order = [i for i in range(len(score.iou)) if not math.isnan(score.iou[i])]
    if sort == "iou":
        order.sort(key=lambda i: -score.iou[i])
    width = max(5, *(len(result.class_name(i)) for i in order), 5)
    lines = [f"{'class':{width}}  {'IoU':>6} {'prec.':>6} {'recall':>6} {'pixels':>10}"]
    lines += [f"{result.class_name(i):{width}}  {_percent(score.iou[i]):>6} "
              f"{_percent(score.precision[i]):>6} {_percent(score.recall[i]):>6} "
              f"{score.pixels[i]:>10}" for i in order]
    left_out = len(score.iou) - score.scored
    lines.append(f"{'mean':{width}}  {_percent(score.miou):>6}   over {score.scored} classes"
                 + (f" ({left_out} in neither, left out)" if left_out else ""))
    lines.append(f"pixel accuracy {_percent(score.pixel_accuracy)} %, mean class accuracy "
                 f"{_percent(score.mean_accuracy)} %, {_percent(score.covered)} % of the pixels "
                 "were given a class")
    text = f"{result.records} records scored (keys {result.digest})"
    for count, what in ((result.unscored, "true records have no prediction"),
                        (result.untrue, "predictions have no truth"),
                        (result.failed, "records failed")):
        if count:
            text += f"; {count} {what}"
    return "\n".join([*lines, text])


def plot_confusion(result: Result, path: str) -> None:
    """Draw the confusion matrix, each row as shares of its true class, into a file.

    Raises WssegError when matplotlib is missing or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise WssegError("--plot needs matplotlib: pip install 'wsseg[plot]'") from None
    shown = [i for i in range(len(result.matrix)) if not math.isnan(result.score.iou[i])]
    part = result.matrix[np.ix_(shown, [*shown, len(result.matrix)])].astype(float)
    share = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.33 * len(shown)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    labels = [result.class_name(i) for i in shown]
    axes.set_xticks(range(len(shown) + 1), [*labels, "none"], rotation=90)
    axes.set_yticks(range(len(shown)), labels)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"share of each true class (mIoU {_percent(result.score.miou)})")
    for y, x in np.argwhere(share >= 0.005):
        axes.text(x, y, f"{100 * share[y, x]:.0f}", ha="center", va="center", fontsize=7,
                  color="white" if share[y, x] > 0.5 else "black")
    figure.colorbar(image, shrink=0.6)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise WssegError(f"cannot write {path}: {error}") from None
