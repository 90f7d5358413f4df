"""Confusion matrix, intersection over union and pixel accuracy of label maps.

Everywhere in this field's tables mIoU is taken from one confusion matrix over the whole
split, with the truth's ignored pixels left out: never as a mean over images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

try:
    from wsseg.native import _labels as _native
except ImportError:  # not built: numpy does the same, slower
    _native = None


def pair_counts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Count how often each pair of values meets.

    truth, prediction: both uint8 or both uint16, same shape. Returns int64 (M, 3) rows of true
    value, predicted value and number of pixels, in no particular order. Label maps are mostly
    flat, so runs of equal pairs are counted rather than pixels.
    """
    t, p = truth.ravel(), prediction.ravel()
    if _native is not None and t.dtype.isnative:
        return _native.pair_counts(t, p)
    if not len(t):
        return np.zeros((0, 3), np.int64)
    change = t[1:] != t[:-1]
    change |= p[1:] != p[:-1]
    last = np.append(change.nonzero()[0], len(t) - 1)  # of each run
    codes, run = np.unique(t[last].astype(np.int64) << 16 | p[last], return_inverse=True)
    counts = np.bincount(run.ravel(), np.diff(last, prepend=-1))
    return np.stack([codes >> 16, codes & 0xffff, counts.astype(np.int64)], axis=1)


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
    if truth.dtype != prediction.dtype:
        truth, prediction = truth.astype(np.uint16), prediction.astype(np.uint16)
    return matrix_of(pair_counts(truth, prediction), n_classes, ignore)


def matrix_of(counts: np.ndarray, n_classes: int, ignore: int = 255) -> np.ndarray:
    """Return the confusion matrix of rows of ``pair_counts``, of one image or of many together.

    Raises ValueError as ``confusion_matrix`` does.
    """
    t, p, number = counts.T
    for name, values in (("truth", t), ("prediction", p)):
        bad = values[(values >= n_classes) & (values != ignore)]
        if len(bad):
            raise ValueError(f"{name} has pixels of value {int(bad.max())}, but there are "
                             f"{n_classes} classes")
    matrix = np.zeros((n_classes + 1, n_classes + 1), np.int64)
    np.add.at(matrix, (np.where(t == ignore, n_classes, t),
                       np.where(p == ignore, n_classes, p)), number)
    return matrix[:-1]


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
