"""Class probabilities and detections to instances: the energy of panoptic-2018, equations 2 to 4.

A pixel's label is one of the detections, or of the stuff classes, each of which is a detection of
score 1 that covers the image. With detection k of class l and score s, its box, and the
probability Q of the classes, the unary term of label k at a pixel is

    -ln(w1 psi_box + w2 psi_global + eps),   psi_box = s Q(l) in the box, else 0;  psi_global = Q(l)

and the pairwise term is the dense CRF's. The paper does not print w1, w2 and eps: here they are 1,
1 and 1e-6 unless they were learnt (``wsseg.nets.instance``). Without the pairwise term the best
labelling is that of each pixel alone; with it, it is taken from mean-field marginals.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from wsseg.refine.densecrf import DenseCrf, dense_crf

EPS = 1e-6
#: Ids are of 16 bits, and 0 is none.
MOST = 65535
_STRIP = 1 << 20  # numbers of one array that are worked on at once


@dataclass(frozen=True, eq=False)
class Candidates:
    """What a pixel can belong to: the things in the given order, then stuff by ascending class.

    boxes: int64 (D, 4), half-open; classes: int64 (D,); scores: float64 (D,) in [0, 1]; thing:
    bool (D,).
    """

    boxes: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    thing: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def some(self, kept: np.ndarray) -> Candidates:
        """Return those that ``kept`` (indices or bool) picks."""
        return replace(self, boxes=self.boxes[kept], classes=self.classes[kept],
                       scores=self.scores[kept], thing=self.thing[kept])


def candidates(boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray | None,
               stuff: Collection[int], size: tuple[int, int]) -> Candidates:
    """Return the labels of one image.

    boxes: int (N, 4) within the image of ``size``; classes: (N,); scores: (N,), None for 1. A box
    of a stuff class is left out. Raises ValueError for scores outside [0, 1] and for more labels
    than ids of 16 bits can number.
    """
    classes = np.asarray(classes, np.int64).reshape(-1)
    scores = np.ones(len(classes)) if scores is None else np.asarray(scores, np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        odd = int(np.flatnonzero(~((scores >= 0) & (scores <= 1)))[0])
        raise ValueError(f"box {odd} has a score of {scores[odd]:g}, not in [0, 1]")
    things, rest = ~np.isin(classes, list(stuff)), np.array(sorted(stuff), np.int64)
    if things.sum() + len(rest) > MOST:
        raise ValueError(f"{things.sum()} boxes and {len(rest)} stuff classes are more than ids "
                         f"of 16 bits can number: {MOST}")
    whole = np.tile(np.array([0, 0, size[1], size[0]], np.int64), (len(rest), 1))
    return Candidates(
        np.concatenate([np.asarray(boxes, np.int64).reshape(-1, 4)[things], whole]),
        np.concatenate([classes[things], rest]),
        np.concatenate([scores[things], np.ones(len(rest))]),
        np.arange(things.sum() + len(rest)) < things.sum())


def evidence(prob: np.ndarray, rows: np.ndarray, labels: Candidates, *, box_weight: float = 1.,
             global_weight: float = 1., top: int = 0) -> np.ndarray:
    """Return w1 psi_box + w2 psi_global of each label, float32 (D, h, W).

    prob: float (K, h, W) of classes ``rows`` (K,), rows ``top`` to ``top + h`` of the image. A
    class that has no row has probability 0.
    """
    height = prob.shape[1]
    result = np.zeros((len(labels), *prob.shape[1:]), np.float32)
    where = {int(c): i for i, c in enumerate(rows)}
    for one, cls, score, (x0, y0, x1, y1) in zip(result, labels.classes.tolist(),
                                                 labels.scores.tolist(), labels.boxes.tolist()):
        if cls not in where:
            continue
        q = prob[where[cls]]
        one += np.float32(global_weight) * q
        inside = slice(max(0, y0 - top), min(height, max(0, y1 - top))), slice(x0, x1)
        one[inside] += np.float32(box_weight * score) * q[inside]
    return result


def label_instances(prob: np.ndarray, rows: np.ndarray, labels: Candidates, *,
                    box_weight: float = 1., global_weight: float = 1.,
                    image: np.ndarray | None = None, crf: DenseCrf | None = None,
                    **options) -> np.ndarray:
    """Return the label of each pixel as its index in ``labels`` + 1, int64 (H, W); 0 is none.

    prob: float (K, H, W) of classes ``rows`` (K,), at full size. Without ``crf`` a pixel without
    any evidence has none. With it the labelling is that of the mean-field marginals; image:
    uint8 (H, W, 3); options: of ``dense_crf``. Of equal labels the one with the higher score
    wins, then the smaller box (the rule of wssl-2015), then the first. Raises ValueError for
    weights that are no weights, and RecordError as ``dense_crf`` does.
    """
    if not (0 <= box_weight < np.inf and 0 <= global_weight < np.inf and
            box_weight + global_weight > 0):
        raise ValueError(f"the weights of the terms cannot be {box_weight:g} and "
                         f"{global_weight:g}")
    area = (labels.boxes[:, 2:] - labels.boxes[:, :2]).prod(axis=1)
    order = np.lexsort((area, -labels.scores))
    order = order[np.isin(labels.classes[order], rows)]  # the others have no evidence anywhere
    size = prob.shape[1:]
    if not len(order):
        return np.zeros(size, np.int64)
    chosen, weights = labels.some(order), {"box_weight": box_weight,
                                           "global_weight": global_weight}
    if crf is not None and len(order) > 1:
        unary = evidence(prob, rows, chosen, **weights)
        unary = -np.log(unary + np.float32(EPS), out=unary)
        return 1 + order[dense_crf(unary, image, crf, energy=True, **options).argmax(axis=0)]
    result = np.zeros(size, np.int64)
    step = max(1, _STRIP // max(1, len(order) * size[1]))
    for top in range(0, size[0], step):
        part = evidence(prob[:, top:top + step], rows, chosen, top=top, **weights)
        best = 1 + order[part.argmax(axis=0)]
        result[top:top + step] = np.where(part.any(axis=0), best, 0)
    return result
