"""Confidence intervals of a score over images, and paired differences of two predictions.

The images are resampled with replacement (Efron's percentile bootstrap). A score of a whole
split comes from sums over images, so a resample only changes how often each image counts, and
a thousand of them are one matrix product. Where a class is in a few images only, resamples that
lack it or repeat it score differently on average than the whole does (AP more than mIoU): an
interval of such data may lie askew about its score.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wsseg.metrics.panoptic import mean_of, panoptic_score

#: How often each image counts, float64 (B, N) -> score of each weighting (..., B).
Score = Callable[[np.ndarray], np.ndarray]
_CELLS = 1 << 22  # of a block of weights


@dataclass(frozen=True)
class Interval:
    """low to high hold the score with the given level of confidence."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Difference:
    """How much higher one score is than another, its interval, and the two-sided p-value."""

    value: float
    interval: Interval
    p: float


def resamples(scores: list[Score], n_images: int, times: int, seed: int = 0
              ) -> list[np.ndarray]:
    """Return each score's values for ``times`` resamples, float64 (..., times).

    Every score sees the same resamples, as paired comparisons need. Raises ValueError for
    fewer than two images.
    """
    if n_images < 2 or times < 1:
        raise ValueError("resampling needs at least two images and one resample")
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // n_images)
    found: list[list[np.ndarray]] = [[] for _ in scores]
    for start in range(0, times, block):
        rows = min(block, times - start)
        drawn = rng.integers(0, n_images, (rows, n_images))
        drawn += np.arange(rows)[:, None] * n_images
        weights = np.bincount(drawn.ravel(), minlength=rows * n_images).astype(np.float64)
        weights = weights.reshape(rows, n_images)
        for values, score in zip(found, scores):
            values.append(score(weights))
    return [np.concatenate(values, axis=-1) for values in found]


def interval(values: np.ndarray, level: float = 0.95) -> Interval:
    """Return the percentile interval of one score's resamples (B,), NaN left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"), level)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def difference(one: float, other: float, ones: np.ndarray, others: np.ndarray,
               level: float = 0.95) -> Difference:
    """Compare two scores of the same images.

    one, other: the scores of all images; ones, others: of the same resamples (B,). p: twice
    the share of resamples on the rarer side of zero, at most 1 and never 0.
    """
    gaps = ones - others
    gaps = gaps[~np.isnan(gaps)]
    rarer = min(int((gaps <= 0).sum()), int((gaps >= 0).sum()))
    return Difference(one - other, interval(gaps, level),
                      min(1.0, 2 * (1 + rarer) / (1 + len(gaps))))


def miou_score(matrices: np.ndarray) -> Score:
    """Return mIoU as a score; matrices: int (N, C, C + 1), a confusion matrix for each image."""
    n_classes = matrices.shape[1]
    hits = np.diagonal(matrices[:, :, :n_classes], axis1=1, axis2=2)
    return miou_of_sums(np.stack([hits, matrices.sum(axis=2),
                                  matrices[:, :, :n_classes].sum(axis=1)], axis=1))


def miou_of_sums(sums: np.ndarray) -> Score:
    """Return mIoU as a score; sums: (N, 3, C) pixels hit, true and predicted of each image."""
    n_images, _, n_classes = sums.shape
    flat = sums.reshape(n_images, -1).astype(np.float64)

    def score(weights: np.ndarray) -> np.ndarray:
        hit, true, guess = np.moveaxis((weights @ flat).reshape(len(weights), 3, n_classes), 1,
                                       0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return mean_of(hit / (true + guess - hit))
    return score


def pq_score(counts: np.ndarray, of: np.ndarray | None = None) -> Score:
    """Return PQ as a score; counts: (N, 4, C), ``panoptic_counts`` of each image; of: bool (C,)
    chooses classes."""
    n_images = len(counts)
    flat = counts.reshape(n_images, -1)
    shape = counts.shape[1:]
    return lambda weights: panoptic_score((weights @ flat).reshape(-1, *shape)).mean(of)[0]
