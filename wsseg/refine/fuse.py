"""Several maps of one image to one: averages of probabilities, and decisions among labels.

Soft rules (``fuse_scores``) work on probabilities:

    mean      scribbles-2019, eq. 11: P_comb = (P_local + P_global) / 2
    weighted  dualbranch-2020, eq. 4: F = lambda F_weak + (1 - lambda) F_strong
    product   weighted geometric mean, renormalised (a logarithmic opinion pool)
    max       the largest probability of each class, renormalised

Label rules (``fuse_labels``, ``smaller_area``) work on class maps:

    agree         a pixel is kept where all say the same (panoptic-2018, 3.2: GrabCut and MCG)
    priority      the first map with an opinion (panoptic-2018: things of boxes over stuff of tags)
    vote          the class with most votes; of equal numbers of votes none
    smaller-area  where regions of classes overlap, the smaller (panoptic-2018, 3.3)

In all of them 255, and a pixel whose probabilities are all 0, means *no opinion*: the map is
as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum

import numpy as np

IGNORE = 255
SOFT_RULES = ("mean", "weighted", "product", "max")
LABEL_RULES = ("agree", "priority", "smaller-area", "vote")
_TOLERANCE = 1e-2  # float16 of 21 classes adds up to 1 within 2e-3


class Reason(IntEnum):
    """Why a pixel of a fused label map is as it is: the codes of the kind ``conf``."""

    RULE = 0
    NO_OPINION = 1
    DISAGREE = 2
    TIE = 3
    UNHEARD = 4
    LOW_SCORE = 5
    ABSENT = 6
    OUTSIDE = 7
    FILLED = 8
    CLAIMED_TWICE = 9


#: What each code says; the help of ws-fuse repeats it.
MEANING = {
    Reason.RULE: "as the rule decided",
    Reason.NO_OPINION: "no input has an opinion",
    Reason.DISAGREE: "the inputs disagree",
    Reason.TIE: "equal votes",
    Reason.UNHEARD: "left out by --opinions",
    Reason.LOW_SCORE: "below --min-score",
    Reason.ABSENT: "a class that the tags lack",
    Reason.OUTSIDE: "a thing outside its boxes",
    Reason.FILLED: "filled with the class of a box",
    Reason.CLAIMED_TWICE: "in two boxes of its class, so in no instance",
}


def check_probabilities(data: np.ndarray) -> None:
    """Raise ValueError unless ``data`` (K, h, w) are probabilities of K disjoint classes.

    They may add up to less than 1, as classes can be left out, but not to more.
    """
    if data.ndim != 3:
        raise ValueError(f"scores are (K, h, w); got {data.shape}")
    if not data.size:
        return
    low = float(data.min())
    if not np.isfinite([low, float(data.max())]).all():
        raise ValueError(f"scores are not finite, first at {_first(~np.isfinite(data))}")
    if low < -1e-3:
        raise ValueError(f"scores are negative ({low:.4g}), first at {_first(data < -1e-3)}")
    total = data.sum(axis=0, dtype=np.float32)
    if total.max() > 1 + _TOLERANCE:
        y, x = np.unravel_index(int(total.argmax()), total.shape)
        raise ValueError(f"scores are not normalised: they add up to {total[y, x]:.4g} at x={x}, "
                         f"y={y} (activations that overlap are kind cam)")


def _first(bad: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(bad)[0])


def resample(data: np.ndarray, size: tuple[int, int], rows: slice = slice(None)) -> np.ndarray:
    """Bring maps to the size of their image, bilinearly.

    data: float (K, h, w) with h <= H and w <= W; size: (H, W). Pixels are areas: the centre of
    output row Y lies at (Y + 0.5) h / H - 0.5, and edges are repeated. rows: only these rows of
    the result, which do not depend on what else is asked for. Returns float32 (K, rows, W),
    not below 0. Raises ValueError for maps that are larger than the image.
    """
    height, width = data.shape[1:]
    if height > size[0] or width > size[1] or not (height and width):
        raise ValueError(f"scores of {height}x{width} for an image of {size[0]}x{size[1]}")
    if height == size[0]:
        part = data[:, rows].astype(np.float32)
    else:
        low, high, share = _taps(height, size[0], rows)
        part = data[:, low].astype(np.float32)
        part += (data[:, high] - part) * share[:, None]
    if width != size[1]:
        low, high, share = _taps(width, size[1], slice(None))
        left = part[:, :, low]
        part = left + (part[:, :, high] - left) * share
    return np.maximum(part, 0, out=part)


def _taps(have: int, want: int, chosen: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two neighbours of each output position and the share of the second."""
    at = (np.arange(want)[chosen] + 0.5) * (have / want) - 0.5
    low = np.floor(at).astype(np.int64)
    share = (at - low).astype(np.float32)
    return low.clip(0, have - 1), (low + 1).clip(0, have - 1), share


def one_hot(label: np.ndarray, classes: np.ndarray, *, confidence: float = 1.0) -> np.ndarray:
    """Return a label map as probabilities, float32 (K, H, W).

    label: integers (H, W), 255 = no opinion (all 0); classes: ids (K,). A pixel gives
    ``confidence`` to its class and shares the rest evenly among the other K - 1. Raises
    ValueError for a confidence outside [0, 1] and for a label that is not in ``classes``.
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence is {confidence}, not in [0, 1]")
    classes = np.asarray(classes, np.int64)
    result = (label == classes[:, None, None]).astype(np.float32)
    spoken = label != IGNORE
    if int(result.sum(dtype=np.int64)) != int(spoken.sum()):
        odd = sorted(set(np.unique(label).tolist()) - {*classes.tolist(), IGNORE})
        raise ValueError(f"label has classes {odd} that are not among {classes.tolist()}")
    if confidence < 1 and len(classes) > 1:
        rest = (1 - confidence) / (len(classes) - 1)
        result = np.where(spoken, rest + (confidence - rest) * result, 0).astype(np.float32)
    elif confidence < 1:
        result *= np.float32(confidence)
    return result


def fuse_scores(maps: Sequence[np.ndarray], *, rule: str = "mean",
                weights: Sequence[float] | None = None, normalise: bool = True) -> np.ndarray:
    """Fuse probabilities of the same classes.

    maps: N arrays, float (K, H, W); where all K are 0 a map has no opinion and does not count.
    rule: one of SOFT_RULES. weights: N, not negative, for ``weighted`` and ``product``; they
    need not add up to 1. normalise: scale the result of product and max to 1 a pixel (not for
    activation maps). A class that one map rules out (0) stays ruled out by ``product``; where
    that leaves no class, the result has no opinion.
    Returns float32 (K, H, W). Raises ValueError for shapes, weights or a rule that do not fit.
    """
    if rule not in SOFT_RULES:
        raise ValueError(f"{rule!r} is no rule for scores; there are {', '.join(SOFT_RULES)}")
    shares = _shares(len(maps), weights)
    _same_shape([m.shape for m in maps])
    if rule == "max":
        result = maps[0].astype(np.float32)
        for one in maps[1:]:
            np.maximum(result, one, out=result)
        return _normalised(result) if normalise else result
    product = rule == "product"
    result = np.zeros(maps[0].shape, np.float32)
    heard = np.zeros(maps[0].shape[1:], np.float32)
    for one, share in zip(maps, shares):
        if share == 0:
            continue
        spoken = (one > 0).any(axis=0)
        heard += np.float32(share) * spoken
        if product:
            with np.errstate(divide="ignore"):
                one = np.where(spoken, np.log(one, dtype=np.float32), 0)
        result += np.float32(share) * one
    silent = heard == 0
    result /= np.where(silent, 1, heard)
    if product:
        np.exp(result, out=result)
        result[:, silent] = 0
        return _normalised(result) if normalise else result
    return result


def _shares(count: int, weights: Sequence[float] | None) -> np.ndarray:
    if not count:
        raise ValueError("nothing to fuse")
    if weights is None:
        return np.full(count, 1 / count)
    values = np.asarray(weights, float)
    if values.shape != (count,):
        raise ValueError(f"{values.size} weights for {count} maps")
    if not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ValueError(f"weights are {values.tolist()}: none may be negative, and not all 0")
    return values / values.sum()


def _same_shape(shapes: Sequence[tuple[int, ...]]) -> None:
    if not shapes:
        raise ValueError("nothing to fuse")
    if len(set(shapes)) > 1:
        raise ValueError(f"maps differ in shape: {', '.join(map(str, shapes))}")


def _normalised(scores: np.ndarray) -> np.ndarray:
    total = scores.sum(axis=0)
    return scores / np.where(total > 0, total, 1)


def decide(scores: np.ndarray, classes: np.ndarray, *,
           min_score: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of largest probability, the lower id of equals, and reasons.

    scores: float (K, H, W); classes: ascending ids (K,). A pixel without opinion, or whose
    largest probability is below ``min_score``, is 255. Returns label, uint8 or uint16 (H, W),
    and Reason codes, uint8 (H, W).
    """
    size = scores.shape[1:]
    if not len(classes):
        return np.full(size, IGNORE, np.uint8), np.full(size, Reason.NO_OPINION, np.uint8)
    best = scores.max(axis=0)
    label = np.asarray(classes, label_type(classes))[scores.argmax(axis=0)]
    reasons = np.zeros(size, np.uint8)
    reasons[best < min_score] = Reason.LOW_SCORE
    reasons[best <= 0] = Reason.NO_OPINION
    label[reasons > 0] = IGNORE
    return label, reasons


def label_type(classes: Sequence[int] | np.ndarray) -> type:
    """Return the type of a label map that holds these classes and 255."""
    return np.uint16 if len(classes) and int(np.max(classes)) > 255 else np.uint8


def cam_region(activation: np.ndarray, size: tuple[int, int], *, threshold: float = 0.5,
               least: float = 0.0) -> np.ndarray:
    """Return where a class is active, bool (H, W).

    activation: float (h, w), resampled to ``size``. The region is where it reaches
    ``threshold`` times its own maximum (panoptic-2018: 15 % of it on ImageNet, 50 % on
    Cityscapes) and ``least``; an activation that is 0 throughout has none.
    """
    full = resample(activation[None], size)[0]
    least = max(threshold * float(activation.max(initial=0)), least)
    return (full >= np.float32(least)) & (full > 0)


def smaller_area(classes: Iterable[int], region: Callable[[int], np.ndarray],
                 size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Give each pixel to the class whose region there has the smallest area.

    region: class -> bool ``size``; called twice for each of ``classes``, so that only one
    region is held at a time. Of equal areas the larger class id wins. Returns label, 255 where
    there is no region, and reasons, uint8. Source: panoptic-2018, section 3.3.
    """
    area = {int(c): int(np.count_nonzero(region(int(c)))) for c in classes}
    label = np.full(size, IGNORE, label_type(list(area)))
    for cls in sorted(area, key=lambda c: (-area[c], c)):
        label[region(cls)] = cls
    return label, np.where(label == IGNORE, Reason.NO_OPINION, Reason.RULE).astype(np.uint8)


def fuse_labels(labels: Sequence[np.ndarray], *, rule: str,
                reasons: Sequence[np.ndarray] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Fuse label maps by ``agree``, ``priority`` or ``vote``.

    labels: N integer arrays (H, W), 255 = no opinion. agree: kept where all N are equal (an
    input without opinion agrees with none); priority: the first opinion; vote: the class with
    more votes than any other. reasons: why a map has no opinion somewhere, as codes of this
    module (N arrays); the first of them explains a result without opinion.
    Returns label and reasons, uint8 (H, W). Raises ValueError for another rule or shape.
    """
    _same_shape([one.shape for one in labels])
    kind = np.result_type(*labels)
    why = np.full(labels[0].shape, Reason.NO_OPINION, np.uint8)
    for one in reversed(reasons or ()):
        why = np.where(one > Reason.NO_OPINION, one, why)
    spoken = [one != IGNORE for one in labels]
    if rule == "priority":
        result = np.full(labels[0].shape, IGNORE, kind)
        for one in reversed(labels):
            result = np.where(one != IGNORE, one, result)
        clash, clashes = np.zeros(result.shape, bool), Reason.RULE
    elif rule == "agree":
        heard = np.logical_and.reduce(spoken)
        same = np.logical_and.reduce([one == labels[0] for one in labels])
        result = np.where(same & heard, labels[0], kind.type(IGNORE))
        clash, clashes = heard & ~same, Reason.DISAGREE
    elif rule == "vote":
        result, clash = _vote(labels, spoken, kind)
        clashes = Reason.TIE
    else:
        raise ValueError(f"{rule!r} is no rule for labels; there are agree, priority, vote")
    code = np.where(clash, clashes, why)
    return result.astype(kind), np.where(result != IGNORE, Reason.RULE, code).astype(np.uint8)


def _vote(labels: Sequence[np.ndarray], spoken: Sequence[np.ndarray],
          kind: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the winner of each pixel, 255 for none, and where votes are equal."""
    winner = np.full(labels[0].shape, IGNORE, kind)
    most = np.zeros(labels[0].shape, np.uint16)
    tie = np.zeros(labels[0].shape, bool)
    for one, said in zip(labels, spoken):
        votes = sum(((one == other) & said).astype(np.uint16) for other in labels)
        more = votes > most
        tie = ~more & (tie | (votes == most) & said & (one != winner))
        winner = np.where(more, one, winner)
        most = np.where(more, votes, most)
    return np.where(tie, kind.type(IGNORE), winner), tie
