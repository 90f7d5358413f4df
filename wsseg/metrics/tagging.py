"""How well scores tell which images hold a class: average precision, and its mean over classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean, over the images that hold the class, of the precision among all images
    that score at least as high; NaN where none holds it.

    scores: float (N,); truth: bool (N,). Not interpolated; images of one score rank together, so
    that their order does not matter.
    """
    if scores.shape != truth.shape or scores.ndim != 1:
        raise ValueError(f"scores {scores.shape} and truth {truth.shape} must be (N,)")
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    last = np.searchsorted(-ranked, -ranked, side="right") - 1  # of those that score alike
    return float((hits[last] / (last + 1))[truth[order]].mean())


@dataclass(frozen=True)
class TagScore:
    """mean: over the classes that occur; classes: average precision (K,), NaN for the others."""

    mean: float
    classes: np.ndarray


def tag_score(scores: np.ndarray, truth: np.ndarray) -> TagScore:
    """Score images (N,K) against the classes that they hold, bool (N,K)."""
    each = np.array([average_precision(s, t) for s, t in zip(scores.T, truth.T)])
    known = each[~np.isnan(each)]
    return TagScore(float(known.mean()) if len(known) else float("nan"), each)
