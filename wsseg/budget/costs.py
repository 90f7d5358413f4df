"""What labels cost: the seconds that a person needs to give them.

The model is section 3 of Bellver et al., "Budget-aware Semi-Supervised Semantic and Instance
Segmentation" (2019), after Bearman et al., "What's the Point" (ECCV 2016). Someone asks of
every image whether each of C classes is there, and then marks the classes that are:

    tags           C * tag                     PASCAL VOC (C = 20, 1.5 classes and 2.8
    counts         tags + classes * count      objects an image): 20, 22.22, 38.1 and
    boxes, masks   (C - classes) * tag         239.7 s for tags, counts, boxes, masks
                   + objects * (box or mask)

An image without labels costs nothing. An image with masks is charged for the masks alone: its
tags and counts can be read off them. (The paper does not charge them either.)

The paper's "days" have 24 hours: 800 * 239.7 s = 191 760 s is its "2.21 days", and 2.2194 in
days of 86 400 s. Where its figures differ from ours:

- it cuts days off where we round: .2774 is printed .27, 2.2194 as 2.21, 1.1097 as 1.1;
- it gives Zhou et al. (10 582 images with tags) 2.43 days; 10 582 * 20 s are 2.4495 days;
- its 50 % of 9118 images is printed 4459; it is 4559;
- "RSIS with N = 200 and M = 6838" in its text is the W-RSIS row of its table 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from wsseg.budget.prices import KINDS, Prices, near
from wsseg.errors import UsageError, WssegError

DAY = 86400.0
WORKING_DAY = 8 * 3600.0

#: Labels of one kind, summed: images, classes present, objects marked.
Labels = tuple[float, float, float]


@dataclass(frozen=True)
class Statistics:
    """What prices need to know of a data set: means over its images, classes asked, source."""

    mean_classes: float
    mean_objects: float
    n_classes: int
    source: str = ""

    def changed(self, **values: float | None) -> Statistics:
        """Return statistics with those values replaced that are not None."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})


DATASETS = {
    "voc": Statistics(1.5, 2.8, 20, "Bearman et al. 2016, section 4"),
    "coco": Statistics(3.5, 7.7, 80, "Lin et al. 2014, section 5"),
}


def seconds(kind: str, labels: Labels, n_classes: int, prices: Prices) -> float:
    """Return the seconds that labels of one kind cost when nothing else was given.

    labels: images, classes present and objects, each summed over the images. n_classes: C,
    without the background. Counts include the tags they refine; of several points in a class
    all but the first cost a ``click``. Raises WssegError for an unknown kind and UsageError
    for more classes present than asked.
    """
    images, classes, objects = labels
    asked = prices.tag * n_classes * images
    if classes > n_classes * images * (1 + 1e-9):
        raise UsageError(f"{kind}: {classes:g} classes present in {images:g} images, but only "
                         f"{n_classes} asked for in each: give a larger --n-classes")
    if kind == "tags":
        return asked
    if kind == "counts":
        return asked + prices.count * classes
    absent = asked - prices.tag * classes
    if kind == "points":
        return absent + prices.point * classes + prices.click * max(0.0, objects - classes)
    if kind == "scribble":
        return absent + prices.scribble * classes
    if kind in ("boxes", "masks"):
        return absent + (prices.box if kind == "boxes" else prices.mask) * objects
    raise WssegError(f"labels of kind {kind!r} have no price{near(kind, KINDS)}")


def spent(labels: Mapping[str, Labels], n_classes: int, prices: Prices) -> dict[str, float]:
    """Return kind -> seconds for all labels of a place.

    Counts are given on top of tags, so images with both pay the questions once. Any other two
    kinds are added up, as if the people who gave them did not know of each other.
    """
    result = {}
    for kind in sorted(labels, key=lambda k: (KINDS.index(k) if k in KINDS else -1, k)):
        result[kind] = seconds(kind, labels[kind], n_classes, prices)
        if kind == "counts" and "tags" in labels:
            both = min(labels["tags"][0], labels["counts"][0])
            result[kind] -= prices.tag * n_classes * both
    return result
