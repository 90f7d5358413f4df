"""How each method of ws-boxfill fills the boxes of one image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from wsseg.cli import _refining
from wsseg.errors import RecordError
from wsseg.io.values import ScoreMap

if TYPE_CHECKING:
    from wsseg.cli._boxfill import Settings


@dataclass
class Job:
    """One image: uint8 (H, W, 3) RGB, None for rect; boxes int (N, 4) within it, half-open, and
    classes (N,); outside: the label of what lies in no box; settings: those of ws-boxfill; edges:
    a boundary map (H, W) in place of the photo's gradient. counts: as in _boxcensus, filled here.
    """

    image: np.ndarray | None
    boxes: np.ndarray
    classes: np.ndarray
    size: tuple[int, int]
    outside: int
    settings: Settings
    edges: np.ndarray | None = None
    counts: Counter = field(default_factory=Counter)

    @property
    def cut(self) -> dict[str, float]:
        """Options of GrabCut that every method has which uses it."""
        return {"iterations": self.settings.iterations, "min_fill": self.settings.min_fill}

    def paint(self, one: Callable) -> tuple[np.ndarray, np.ndarray]:
        """Return label and ids of masks that ``one`` makes of the boxes one by one.

        A box that is there several times is filled once.
        """
        from wsseg.annotate.rect import paint_boxes

        known: dict[tuple, np.ndarray] = {}

        def fill(box):
            if box not in known:
                known[box] = one(box)
            return known[box]

        return paint_boxes(self.boxes, self.classes, self.size, fill, outside=self.outside)

    def whole_if_none(self, mask: np.ndarray | None, box: tuple) -> np.ndarray:
        """Return a mask, or the whole box, counted, where there is none."""
        from wsseg.annotate.rect import fill_box

        if mask is not None:
            return mask
        self.counts["not_found"] += 1
        return fill_box(box)

    def regions(self):
        """Return the image's hierarchy of regions."""
        from wsseg.annotate import proposals

        return proposals.build(proposals.gradient(self.image) if self.edges is None
                               else self.edges)


Painted = tuple[np.ndarray, np.ndarray, ScoreMap | None]


def paint(job: Job) -> Painted:
    """Return label (H, W), ids uint16 (H, W), box number + 1, and probabilities of methods that
    have some. Raises RecordError, and ValueError for boundaries that are none."""
    method = job.settings.method
    if method != "seg" and not len(job.boxes):
        method = "rect"
    return _METHODS[method](job)


def _rect(job: Job) -> Painted:
    from wsseg.annotate.rect import fill_box

    score = None
    if "score" in job.settings.writes:
        score = ScoreMap(np.ones((1, *job.size), np.float16), np.zeros(1, np.int64), job.size)
    return *job.paint(fill_box), score


def _grabcut(job: Job) -> Painted:
    from wsseg.annotate.grabcut import cut

    def one(box):
        return job.whole_if_none(cut(job.image, box, margin=job.settings.margin, **job.cut), box)
    return *job.paint(one), None


def _proposal(job: Job) -> Painted:
    regions = job.regions()

    def one(box):
        return job.whole_if_none(regions.propose(box, rule=job.settings.rule), box)
    return *job.paint(one), None


def _agree(job: Job) -> Painted:
    from wsseg.annotate.agree import IGNORE, opinions, paint_agreed

    regions, known = job.regions(), {}

    def methods(box):
        if box not in known:
            known[box] = opinions(job.image, box, regions=regions, regularise=soft_crf,
                                  margin=job.settings.margin, rule=job.settings.rule,
                                  consent=job.settings.consent, **job.cut)
            job.counts["not_agreed"] += any(mask is None for mask in known[box])
        return known[box]

    paper = {"contested": True, "rest": IGNORE} if job.settings.consent == "paper" else {}
    label, ids = paint_agreed(job.boxes, job.classes, job.size, methods, outside=job.outside,
                              **paper)
    return label, ids, None


def _best(job: Job) -> Painted:
    from wsseg.annotate import best

    regions, shares = job.regions(), {}
    for box in dict.fromkeys(map(tuple, job.boxes.tolist())):
        votes = best.voters(job.image, box, regions, **job.cut)
        job.counts["not_found"] += all(vote is None for vote in votes)
        shares[box] = best.settle(job.image, box, best.share(votes, box), soft_crf,
                                  min_fill=job.settings.min_fill)
    label, ids = job.paint(lambda box: shares[box] > 0.5)
    score = None
    if "score" in job.settings.writes:
        present, prob = best.soft_map(job.boxes, job.classes, job.size, shares)
        score = ScoreMap(prob.astype(np.float16), present, job.size)
    return label, ids, score


def soft_crf(prob: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The dense CRF that soft cuts were chosen with."""
    from wsseg.annotate.softcut import CRF
    from wsseg.refine.densecrf import DenseCrf, dense_crf

    return dense_crf(prob, image, DenseCrf(**CRF))


def _seg(job: Job) -> Painted:
    from wsseg.annotate import bboxseg
    from wsseg.annotate.rect import paint_boxes, smallest_last

    if (np.asarray(job.classes) == 0).any():
        raise RecordError("--method seg needs class 0 for the background, and a box has it")
    present, prob = bboxseg.fill(
        job.image, job.boxes, job.classes, alpha=job.settings.alpha,
        regularise=partial(_refining.regularise, settings=job.settings.crf))
    found = present[prob.argmax(axis=0)]
    order = smallest_last(job.boxes)

    def of_its_class(box):
        x0, y0, x1, y1 = box
        return found[y0:y1, x0:x1] == job.classes[next(order)]

    label, ids = paint_boxes(job.boxes, job.classes, job.size, of_its_class, outside=job.outside)
    return label, ids, ScoreMap(prob.astype(np.float16), present, job.size)


_METHODS = {"rect": _rect, "seg": _seg, "grabcut": _grabcut, "proposal": _proposal,
            "agree": _agree, "best": _best}
