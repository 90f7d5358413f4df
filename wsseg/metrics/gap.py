"""How close weak supervision comes to full supervision (scribbles-2019, section 2.1).

Full gap = score under full supervision - score of the weak baseline; remaining gap = full -
this score; reduction = (full gap - remaining gap) / full gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Gap:
    """Gaps in the unit of the scores; reduction and share are fractions, NaN where undefined
    (no baseline, or one that is no worse than full supervision)."""

    remaining: float
    share: float
    full_gap: float
    reduction: float


def gap(score: float, full: float, baseline: float | None = None) -> Gap:
    """Compare a score with full supervision and, if given, with a weak baseline."""
    nan = float("nan")
    whole = nan if baseline is None else full - baseline
    remaining = full - score
    return Gap(remaining, score / full if full else nan, whole,
               (whole - remaining) / whole if whole > 0 else nan)


@dataclass(frozen=True)
class LabelQuality:
    """What pseudo labels are worth that leave pixels out.

    coverage: share of the pixels that were given a class; precision: share of those that are
    right; recall: share of all pixels that are right; mean_precision, mean_recall: over classes
    that occur; miou: of the labelled pixels only.
    """

    coverage: float
    precision: float
    recall: float
    mean_precision: float
    mean_recall: float
    miou: float


def label_quality(matrix: np.ndarray) -> LabelQuality:
    """Judge labels by their confusion matrix, int (C, C + 1), whose last column is ignore."""
    n = len(matrix)
    given = matrix[:, :n].astype(np.float64)
    hits, true, guess = np.diagonal(given), matrix.sum(axis=1), given.sum(axis=0)

    def share(part: np.ndarray, whole: np.ndarray) -> float:
        with np.errstate(invalid="ignore", divide="ignore"):
            values = np.atleast_1d(np.asarray(part / whole, np.float64))
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else float("nan")

    total, labelled, right = (np.float64(v.sum()) for v in (matrix, given, hits))
    return LabelQuality(share(labelled, total), share(right, labelled), share(right, total),
                        share(hits, guess), share(hits, true),
                        share(hits, given.sum(axis=1) + guess - hits))
