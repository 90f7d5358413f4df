"""The best masks of boxes that we know to make without strong labels: three votes and a soft cut.

Three vote on each pixel of a box: GrabCut on RGB whose middle 20 % of either side is object for
certain; GrabCut on Lab whose middle 45 % is, with twice the surroundings; and the maximal regions
of a hierarchy that lie inside the box. A voter that finds less than 30 % of the box votes for all
of it. GrabCut works on boxes shrunk to 150 pixels, in half the time. Then a soft cut settles the
votes: it learns colours from their shares and takes these as its prior.

Chosen on images of VOC's train split, mIoU. On 100, every ninth: GrabCut as in ``grabcut`` 77.7;
falling back to the box below 30 % instead of 10 % 78.6; a core of 20 % as well 80.3; Lab, core
45%, margin 1 80.8; regions alone 77.2; the three votes 82.1. Failing below 10 or 20 % instead of
30 %: 80.9, 81.3. A failed voter abstaining, or voting as the regions do: 82.1, 82.0. Other boxes as
possible background instead of certain: no gain. A dense CRF on the shares of votes alone cost 1.1
to 6.6 points. Shrinking boxes to 80 pixels cost 2 points of one GrabCut.

75 images, every twelfth, and in brackets 75 others on which what looked best was tried again:

    one GrabCut on Lab                                       80.1
    regions                                                  77.2
    a soft cut alone                                         80.0
    the three votes                                          81.2  [80.3]
    the soft cut as a fourth, two of four suffice            82.2  [80.0]
    three votes, settled; added to the logit:  0             82.4  [83.3]
                                               0.7           83.5  [82.6]
                                               0.8 (ours)    83.6  [82.4]
                                               1             83.8  [82.0]
                                               1.4           83.6  [81.2]
    settled without the CRF                                  83.0  [81.2]
    four votes, settled, 1                                   82.8  [81.7]

With four votes on the 75, 82.2: regions of seven hierarchies instead of one 82.2; the logit of the
place in the box added to the votes 81.8 to 82.2; a threshold lowered until the mask reaches all
sides of its box (tightness) 81.4 to 82.2; without small parts 82.2; holes filled 82.3; overlaps
decided by the shares instead of the smallest box 81.4 to 82.1. The mean of seven soft cuts of other
parameters settled no better than one (83.7 for 83.8).

On VOC val (300 images) this reached 78.5, plain OpenCV GrabCut 74.1, ``grabcut`` 76.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wsseg.annotate.grabcut import Box, cut
from wsseg.annotate.proposals import Hierarchy
from wsseg.annotate.rect import smallest_last
from wsseg.annotate.softcut import Regularise, soft_cut

#: What the two GrabCuts are given.
CUTS = ({"core": 0.2, "margin": 0.5, "space": "rgb", "side": 150},
        {"core": 0.45, "margin": 1.0, "space": "lab", "side": 150})

#: What is added to the logit of the votes: with none, objects come out too small.
FOR_THE_OBJECT = 0.8
#: Votes are never surer than this, so that colours can outweigh them.
SURE = 0.95


def voters(image: np.ndarray, box: Box, regions: Hierarchy, *, iterations: int = 5,
           min_fill: float = 0.3) -> list[np.ndarray | None]:
    """Return each voter's mask, bool (y1 - y0, x1 - x0), or None where it failed.

    image: uint8 (H, W, 3) RGB; regions: of that image; the rest as for ``grabcut.cut``.
    """
    found = [cut(image, box, iterations=iterations, min_fill=min_fill, **given) for given in CUTS]
    proposed = regions.propose(box)
    found.append(proposed if proposed is not None and proposed.mean() >= min_fill else None)
    return found


def share(votes: list[np.ndarray | None], box: Box) -> np.ndarray:
    """Return the share of votes for each pixel: float32 (y1 - y0, x1 - x0). None votes for all."""
    whole = np.ones((box[3] - box[1], box[2] - box[0]), bool)
    return np.mean([whole if vote is None else vote for vote in votes], axis=0, dtype=np.float32)


def settle(image: np.ndarray, box: Box, shared: np.ndarray, regularise: Regularise, *,
           min_fill: float = 0.3) -> np.ndarray:
    """Return what a soft cut makes of the votes' shares: float32 (y1 - y0, x1 - x0), in 0 ... 1.

    Its colours are learnt from the votes, which take the place of its prior. Where it can learn
    none, or finds less than ``min_fill`` of the box, the votes stay as they are.
    """
    odds = np.clip(shared, 1 - SURE, SURE)
    found = soft_cut(image, box, regularise, rounds=2,
                     prior=np.log(odds / (1 - odds)) + np.float32(FOR_THE_OBJECT))
    return shared if found is None or (found > 0.5).mean() < min_fill else found


def best_box(image: np.ndarray, box: Box, regions: Hierarchy, regularise: Regularise,
             **options) -> np.ndarray:
    """Segment the object in a box: bool (y1 - y0, x1 - x0)."""
    shared = share(voters(image, box, regions, **options), box)
    return settle(image, box, shared, regularise) > 0.5


def soft_map(boxes: np.ndarray, classes: np.ndarray, size: tuple[int, int],
             shares: Mapping[Box, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return ascending classes (K,), 0 the background first, and probabilities (K, H, W).

    boxes: int (N, 4) within the image; classes: (N,), none 0; shares: of each box. From the
    largest box to the smallest, each takes its share of what lay beneath, as a soft painting.
    Float32; a pixel sums to 1.
    """
    present = np.unique(np.concatenate([[0], np.asarray(classes, np.int64)]))
    prob = np.zeros((len(present), *size), np.float32)
    prob[0] = 1
    for i in smallest_last(boxes):
        x0, y0, x1, y1 = box = tuple(int(v) for v in boxes[i])
        prob[:, y0:y1, x0:x1] *= 1 - shares[box]
        prob[np.searchsorted(present, classes[i]), y0:y1, x0:x1] += shares[box]
    return present, prob
