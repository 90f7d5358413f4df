"""Confusion matrix, intersection over union and pixel accuracy of label maps.

Everywhere in this field's tables mIoU is taken from one confusion matrix over the whole
split, with the truth's ignored pixels left out: never as a mean over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def pair_counts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Count how often each pair of values meets: int64 (T, P), [truth + 1, prediction + 1].

    truth, prediction: uint8, same shape, not empty. Values are shifted by one, modulo 256, so
    that 255 comes first and the counts are only as large as the classes need. Label maps are
    mostly flat, so runs of equal pairs are counted rather than pixels.
    """
    t, p = truth.ravel(), prediction.ravel()
    change = t[1:] != t[:-1]
    change |= p[1:] != p[:-1]
    breaks = change.nonzero()[0]
    last = np.empty(len(breaks) + 1, np.int64)  # of each run
    last[:-1], last[-1] = breaks, len(t) - 1
    codes = (t[last] + np.uint8(1)).astype(np.int64)
    run_p = p[last] + np.uint8(1)
    rows, columns = int(codes.max()) + 1, int(run_p.max()) + 1
    codes *= columns
    codes += run_p
    last[1:] -= breaks
    last[0] += 1
    counts = np.bincount(codes, last, rows * columns)
    return counts.astype(np.int64).reshape(rows, columns)


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, n_classes: int,
                     ignore: int = 255) -> np.ndarray:
    """Count pixels by true class and predicted class.

    truth, prediction: uint8 or uint16 (H, W). Returns int64 (n_classes, n_classes + 1): the
    last column holds pixels predicted as ``ignore``. Pixels whose *truth* is ``ignore`` are
    left out; a prediction of ``ignore`` hides nothing, it is simply wrong. Raises ValueError
    for shapes that differ and for any other value that is no class.
    """
    if truth.shape != prediction.shape:
        raise ValueError(f"shapes differ: truth {truth.shape}, prediction {prediction.shape}")
    if not truth.size:
        return np.zeros((n_classes, n_classes + 1), np.int64)
    if truth.dtype == prediction.dtype == np.uint8 and ignore == 255:
        counts = pair_counts(truth, prediction)
        rows, columns = (np.arange(-1, n - 1) for n in counts.shape)
    else:
        rows, t = np.unique(_ignore_first(truth, ignore), return_inverse=True)
        columns, p = np.unique(_ignore_first(prediction, ignore), return_inverse=True)
        counts = np.bincount(t.ravel() * len(columns) + p.ravel(),
                             minlength=len(rows) * len(columns)).reshape(len(rows), len(columns))
    for name, values in (("truth", rows), ("prediction", columns)):
        if values[-1] >= n_classes:
            raise ValueError(f"{name} has pixels of value {int(values[-1])}, but there are "
                             f"{n_classes} classes")
    shifted = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    if len(rows) == rows[-1] + 2 and len(columns) == columns[-1] + 2:  # no gap: a plain block
        shifted[:len(rows), :len(columns)] = counts
    else:
        shifted[np.ix_(rows + 1, columns + 1)] = counts
    return np.concatenate([shifted[1:, 1:], shifted[1:, :1]], axis=1)


def _ignore_first(labels: np.ndarray, ignore: int) -> np.ndarray:
    labels = labels.astype(np.int64)
    return np.where(labels == ignore, -1, labels)


@dataclass(frozen=True)
class SegmentationScore:
    """What a confusion matrix says.

    iou, precision, recall: float64 (C,), NaN for a class that neither truth nor prediction
    has, which every mean leaves out; pixels: true pixels of each class (C,); scored: classes
    that the means are over; covered: share of the scored pixels that were given a class.
    """

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    pixels: np.ndarray
    miou: float
    pixel_accuracy: float
    mean_accuracy: float
    scored: int
    covered: float


def segmentation_score(matrix: np.ndarray) -> SegmentationScore:
    """Score a confusion matrix, int (C, C + 1) as ``confusion_matrix`` returns it.

    IoU of a class = true positives / (truth + prediction - true positives). Means are NaN
    when no class occurs.
    """
    n = len(matrix)
    hits = np.diagonal(matrix[:, :n]).astype(np.float64)
    truth, predicted = matrix.sum(axis=1), matrix[:, :n].sum(axis=0)
    union = truth + predicted - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        iou, precision, recall = hits / union, hits / predicted, hits / truth
    total = float(matrix.sum())
    there = union > 0

    def mean(values: np.ndarray) -> float:
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else float("nan")

    return SegmentationScore(iou, precision, recall, truth, mean(iou),
                             float(hits.sum() / total) if total else float("nan"), mean(recall),
                             int(there.sum()),
                             float(matrix[:, :n].sum() / total) if total else float("nan"))
