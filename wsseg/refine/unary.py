"""What a CRF starts from: probabilities made of labels, activation maps or scores."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from wsseg.refine.densecrf import present_classes
from wsseg.refine.fuse import one_hot


def from_labels(label: np.ndarray, classes: np.ndarray, confidence: float) -> np.ndarray:
    """Return float32 (K, H, W): ``confidence`` for a pixel's own class, the rest shared equally.

    label: integers (H, W); classes: ascending ids (K,), all that ``label`` holds. A pixel of 255
    says nothing: all classes are equally likely there. Raises ValueError for a confidence that
    does not favour the pixel's class, and for a label that is not in ``classes``.
    """
    count = len(classes)
    if count == 1:
        return np.ones((1, *label.shape), np.float32)
    if not 1 / count < confidence <= 1:
        raise ValueError(f"a confidence of {confidence:g} does not favour one of {count} classes: "
                         f"it must be above {1 / count:.3g}, and at most 1")
    return normalised(one_hot(label, classes, confidence=confidence))


def from_activations(cams: np.ndarray, power: float) -> np.ndarray:
    """Return float32 (K + 1, H, W) probabilities, the background first.

    cams: (K, H, W) activations in [0, 1], each scaled to its own maximum. The background's is
    (1 - max of them) ** power, as AffinityNet (Ahn and Kwak, CVPR 2018, eq. 2) has it, and all
    are divided by their sum.
    """
    background = (1 - cams.max(axis=0, initial=0).clip(0, 1)) ** power
    result = np.concatenate([background[None], cams]).astype(np.float32)
    result /= np.maximum(result.sum(axis=0), np.float32(1e-8))
    return result


def normalised(scores: np.ndarray) -> np.ndarray:
    """Return scores (K, H, W) that add up to 1 at each pixel; where all are 0, they are equal."""
    total = scores.sum(axis=0)
    result = scores / np.where(total > 0, total, 1)
    result[:, total <= 0] = 1 / len(scores)
    return result


def possible(scores: np.ndarray, classes: np.ndarray, *, allowed: Collection[int] | None,
             least: float) -> np.ndarray:
    """Return which of ``classes`` may occur in an image: bool (K,).

    scores: (K, h, w); allowed: class ids that the image's labels permit, None if nothing is
    known; least: without that knowledge, a class must reach this probability somewhere, or the
    largest of all. Leaving the others out is what makes a CRF fast: where they are unlikely it
    changes very little.
    """
    if allowed is not None:
        return np.isin(classes, list(allowed))
    kept = np.zeros(len(scores), bool)
    kept[present_classes(scores, least)] = True
    return kept
