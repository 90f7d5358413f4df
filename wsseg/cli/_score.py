"""Label maps against the truth: what ws-eval computes for --metric miou."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from wsseg.cli._differ import turned
from wsseg.cli._flow import Flow
from wsseg.cli._pairing import Pair, Scope, compare
from wsseg.errors import RecordError
from wsseg.io.codec import check_classes
from wsseg.metrics.iou import SegmentationScore, matrix_of, pair_counts, segmentation_score
from wsseg.metrics.panoptic import mean_of

_MERGED = 4096  # records whose counts are held before they are added up


@dataclass(frozen=True, eq=False)
class Result:
    """One evaluation. matrix: int64 (C, C + 1) as ``confusion_matrix`` returns it; bands: width
    -> matrix of the band along boundaries; counts: rows of ``pair_counts`` of each record, if
    they were kept."""

    scope: Scope
    matrix: np.ndarray
    bands: dict[int, np.ndarray]
    counts: list[np.ndarray] | None = None
    main = "miou"

    @cached_property
    def score(self) -> SegmentationScore:
        return segmentation_score(self.matrix)

    @cached_property
    def sums(self) -> np.ndarray:
        """Pixels hit, true and predicted of each record and class, int64 (N, 3, C)."""
        n = len(self.matrix)
        rows = np.concatenate([np.zeros((0, 3), np.int64), *self.counts])
        record = np.repeat(np.arange(len(self.counts)), [len(c) for c in self.counts])
        known = rows[:, 0] != 255
        t, p, number = rows[known].T
        record = record[known]
        result = np.zeros((len(self.counts), 3, n), np.int64)
        hit, given = t == p, p != 255
        np.add.at(result, (record[hit], 0, t[hit]), number[hit])
        np.add.at(result, (record, 1, t), number)
        np.add.at(result, (record[given], 2, p[given]), number[given])
        return result

    @property
    def of_class(self) -> np.ndarray:
        return self.score.iou

    def summary(self) -> dict[str, float]:
        """Return the scores that have intervals."""
        return {"miou": self.score.miou}

    def resampled(self, rows: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
        """Return weights of the records in ``rows`` (B, N) -> scores of ``summary`` (M, B)."""
        from wsseg.metrics.bootstrap import miou_of_sums

        score = miou_of_sums(self.sums[list(rows)])
        return lambda weights: score(weights)[None]

    def of_images(self) -> dict[str, np.ndarray]:
        """Return scores of each record alone, float64 (N,)."""
        hit, true, guess = np.moveaxis(self.sums, 1, 0).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = hit / (true + guess - hit)
            return {"miou": mean_of(iou), "pixel_accuracy": hit.sum(1) / true.sum(1),
                    "covered": guess.sum(1) / true.sum(1)}

    def rows(self) -> list[dict[str, Any]]:
        """Return figures by class."""
        score = self.score
        return [{"iou": score.iou[c], "precision": score.precision[c],
                 "recall": score.recall[c], "pixels": int(score.pixels[c])}
                for c in range(len(score.iou))]


def run(flow: Flow, missing: str, *, keep: bool = False, bands: Sequence[int] = ()) -> Result:
    """Score every record that both places hold, and those that ``missing`` says.

    keep: keep what was counted for each record; bands: widths of bands along the true
    boundaries. Raises UsageError as ``compare`` does.
    """
    tallies = [_Tally(keep), *(_Tally(False) for _ in bands)]

    def take(found: tuple[np.ndarray, ...]) -> None:
        for tally, counts in zip(tallies, found):
            tally.add(counts)

    scope = compare(flow, missing,
                    lambda names: partial(_compare, names=names, bands=tuple(bands)), take)
    return result_of(scope, tallies[0].counts,
                     {w: _merged(t.counts) for w, t in zip(bands, tallies[1:])}, keep=keep)


def result_of(scope: Scope, counts: list[np.ndarray], bands: dict[int, np.ndarray], *,
              keep: bool = True) -> Result:
    """Return what rows of ``pair_counts`` come to, of each record or, unless ``keep``, of
    several; bands: those of each band along boundaries."""
    merged = _merged(counts)
    if scope.names:
        n = len(scope.names)
    else:
        seen = merged[:, :2]
        n = 1 + int(seen.max(where=seen != 255, initial=-1))
    scope, kept = scope.ordered(counts if keep else [])
    return Result(scope, matrix_of(merged, n),
                  {width: matrix_of(rows, n) for width, rows in bands.items()},
                  kept if keep else None)


class _Tally:
    """Counts of pairs of labels, by record or merged now and then."""

    def __init__(self, keep: bool) -> None:
        self.counts: list[np.ndarray] = []
        self._keep = keep

    def add(self, counts: np.ndarray) -> None:
        self.counts.append(counts)
        if len(self.counts) == _MERGED and not self._keep:
            self.counts = [_merged(self.counts)]


def _merged(counts: list[np.ndarray]) -> np.ndarray:
    """Join rows of ``pair_counts``, each pair once."""
    rows = np.concatenate(counts or [np.zeros((0, 3), np.int64)])
    codes, place = np.unique(rows[:, 0] << 16 | rows[:, 1], return_inverse=True)
    total = np.zeros(len(codes), np.int64)
    np.add.at(total, place.ravel(), rows[:, 2])
    return np.stack([codes >> 16, codes & 0xffff, total], axis=1)


def _compare(pair: Pair, *, names: Sequence[str] | None, bands: tuple[int, ...]
             ) -> tuple[str, tuple[np.ndarray, ...]]:
    """Return the key and the counts of pairs of labels of one record, whole and in bands."""
    truth = pair.truth.get("label")
    if pair.prediction is None:
        prediction = np.full_like(truth, 255)
    else:
        prediction = pair.prediction.get("label")
    check_sizes(truth.shape, prediction.shape)
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
    if not bands:
        return pair.key, (counts,)
    from wsseg.metrics.boundary import boundary_band

    inside = (boundary_band(truth, width) for width in bands)
    return pair.key, (counts, *(pair_counts(truth[b], prediction[b]) for b in inside))


def check_sizes(truth: Sequence[int], prediction: Sequence[int]) -> None:
    """Raise RecordError unless both (height, width) are the same."""
    if tuple(truth) != tuple(prediction):
        raise RecordError(f"prediction is {prediction[0]}x{prediction[1]}, truth is "
                          f"{truth[0]}x{truth[1]}{turned(truth, prediction)}")
