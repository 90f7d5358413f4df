"""Labels only where two methods agree (panoptic-2018, section 3.2).

The paper takes GrabCut and a proposal of MCG; a pixel has the box's class where both say so, and
is unknown in the rest of the box. Where masks of two boxes of the same class overlap it is unknown
too, for it cannot be told whose it is. Of different classes the smallest box wins, as everywhere
here. Where we differ: a box in which a method fails is unknown as a whole, not object as a whole.

That is the rule "paper". "strict" asks more, but takes for background what no method takes. Two
GrabCuts, on RGB from a start in the inner ellipse of the box and on Lab, and a soft cut must agree
with the proposal; the colour of a pixel must be e = 2.7 times likelier in what they agree on than
around the box; and what lies in boxes of two classes is unknown. Chosen on images of VOC's train
split, on all of which what no method takes is background:

    precision of object pixels, share of ignored pixels, share of objects' pixels that are right
    100 images   the paper's rule                                          92.9   11.7
                 without what lies in boxes of two classes                 93.1   12.5
                 start in the ellipse                                      95.0   18.7
                 GrabCut on Lab as well                                    95.3   19.3
    75 others    so far                                                    95.3   21.4   49.6
                 a soft cut as well                                        95.6   22.4   48.8
                 colour unlike the surroundings by a factor of 1           96.2   23.2   47.4
                                                         e^.5              96.6   23.6   45.9
                                                         e                 97.3   24.3   43.6

What did not help on the 75: the masks' intersection over their union at least .4 (95.8, 43.3
covered) or .6 (94.2, 28.7), leaving out a rim of 2 pixels (95.7, 47.9) or the corners (95.6, 46.3).
On VOC val (300 images): 96.8, 23.0 and 44.3; the paper's rule 89.5, 18.4 and 73.1.
Most of what is wrong lies in few boxes, whose holes or whose ground is taken for the object.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wsseg.annotate.grabcut import Box, cut
from wsseg.annotate.proposals import Hierarchy
from wsseg.annotate.rect import check_count, smallest_last
from wsseg.annotate.softcut import Regularise, soft_cut, unlike_surroundings

IGNORE = 255

#: What is wanted of the methods, and the size to which "strict" shrinks boxes for GrabCut.
CONSENTS, SIDE = ("strict", "paper"), 150
#: How much likelier a colour must be in the object than around the box: its logarithm.
UNLIKE = 1.0

#: A box -> masks of the methods, bool (y1 - y0, x1 - x0) each, None where one failed.
Methods = Callable[[Box], list[np.ndarray | None]]


def opinions(image: np.ndarray, box: Box, *, regions: Hierarchy,
             regularise: Regularise | None = None, consent: str = "strict", rule: str = "inside",
             margin: float = 0.5, iterations: int = 5, min_fill: float = 0.1
             ) -> list[np.ndarray | None]:
    """Return the masks that are to agree, bool (y1 - y0, x1 - x0) each, None where one failed.

    image: uint8 (H, W, 3) RGB; regions: of that image; regularise: as for ``soft_cut``, which
    "strict" needs; consent: "strict" or "paper"; rule: as for ``Hierarchy.propose``; the rest as
    for ``grabcut.cut``.
    """
    given = {"margin": margin, "iterations": iterations, "min_fill": min_fill}
    cuts = [{}] if consent == "paper" else [{"start": 0.6, "side": SIDE},
                                            {"space": "lab", "side": SIDE}]
    masks = [*(cut(image, box, **given, **one) for one in cuts), regions.propose(box, rule=rule)]
    if consent == "strict":
        soft = soft_cut(image, box, regularise, margin=margin)
        masks.append(None if soft is None or (soft > 0.5).mean() < min_fill else soft > 0.5)
        if all(mask is not None for mask in masks):
            agreed = np.logical_and.reduce(masks)
            masks.append(unlike_surroundings(image, box, agreed, margin=margin) > UNLIKE)
    return masks


def agreement(masks: list[np.ndarray | None], box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return where all masks are object, and where they differ: two bool (y1 - y0, x1 - x0)."""
    if any(mask is None for mask in masks):
        whole = np.ones((box[3] - box[1], box[2] - box[0]), bool)
        return ~whole, whole
    count = np.sum(masks, axis=0)
    return count == len(masks), (count > 0) & (count < len(masks))


def paint_agreed(boxes: np.ndarray, classes: np.ndarray, size: tuple[int, int],
                 methods: Methods, *, outside: int = 0, contested: bool = False,
                 rest: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Label the pixels on which the methods agree.

    boxes: int (N, 4) within the image; classes: (N,); outside: label of what lies in no box
    (0 background, 255 ignore), and without ``rest`` what no method takes within a box; rest: label
    of that, and what a smaller box has less than full agreement on stays with the larger one that
    has. contested: keep labels where boxes of several classes lie.
    Returns label, uint8 or uint16 (H, W), 255 where unknown, and ids uint16 (H, W): box number
    + 1, 0 = none.
    """
    check_count(boxes)
    wide = len(classes) and int(np.max(classes)) > 255
    label = np.full(size, outside, np.uint16 if wide else np.uint8)
    ids = np.zeros(size, np.uint16)
    taken: dict[int, np.ndarray] = {}
    for i in smallest_last(boxes):
        x0, y0, x1, y1 = box = tuple(int(v) for v in boxes[i])
        inside, cls = (slice(y0, y1), slice(x0, x1)), int(classes[i])
        both, doubt = agreement(methods(box), box)
        if rest is not None:
            label[inside][~(both | doubt) & (ids[inside] == 0)] = rest
        before = taken.setdefault(cls, np.zeros(size, bool))
        twice = both & before[inside]
        before[inside] |= both
        if rest is not None:
            doubt &= ids[inside] == 0
        both, doubt = both & ~twice, doubt | twice
        label[inside][both], ids[inside][both] = cls, i + 1
        label[inside][doubt], ids[inside][doubt] = IGNORE, 0
    if not contested:
        several = _classes_over(boxes, classes, size) > 1
        unclear = several & (ids > 0)
        label[unclear], ids[unclear] = IGNORE, 0
    return label, ids


def _classes_over(boxes: np.ndarray, classes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return of how many classes there are boxes over each pixel: (H, W)."""
    count = np.zeros(size, np.uint16)
    for cls in np.unique(classes):
        covered = np.zeros(size, bool)
        for x0, y0, x1, y1 in boxes[np.asarray(classes) == cls].tolist():
            covered[y0:y1, x0:x1] = True
        count += covered
    return count
