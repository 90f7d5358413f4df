"""What ws-boxfill was asked for, and how each method fills the boxes of a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec

import numpy as np

from wsseg.cli import _refining
from wsseg.cli._differ import turned
from wsseg.cli._flow import Flow
from wsseg.errors import RecordError, UsageError
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.values import Boxes, InstanceMap, ScoreMap, Segment

#: Methods that need higra, and those that give probabilities.
TREES = ("proposal", "agree", "best")
SOFT = ("seg", "best")
#: Kinds that hold a boundary map: a score or cam map of one class, or a grey PNG.
BOUNDARIES = ("score", "cam", "label")


@dataclass(frozen=True)
class Settings:
    """The options of the same name; crf: of seg, None elsewhere; boundaries: whether each
    record has been given a boundary map."""

    method: str
    iterations: int
    margin: float
    min_fill: float
    alpha: float
    rule: str
    consent: str
    outside: str | None
    instances: bool
    write: str
    crf: _refining.Settings | None = None
    boundaries: bool = False

    @property
    def writes(self) -> tuple[str, ...]:
        """The kinds to be written."""
        maps = {"label": ("label",), "score": ("score",), "both": ("label", "score")}[self.write]
        return (*maps, *(("instance",) if self.instances else ()))


def configure(flow: Flow, preset: str | None, boundaries: str | None, **options) -> Settings:
    """Return the Settings of a run, or say what is wrong with its options (UsageError)."""
    from wsseg.cli.crf import configure as configure_crf

    method = options["method"]
    if options["write"] != "label" and method not in SOFT:
        raise UsageError(f"--write {options['write']}: --method {method} has no probabilities; "
                         f"{' and '.join(SOFT)} have")
    if preset is not None and method != "seg":
        raise UsageError("--preset is for the dense CRF of --method seg")
    if boundaries is not None and method not in TREES:
        raise UsageError(f"--boundaries is for --method {', '.join(TREES)}")
    if method in TREES and find_spec("higra") is None:
        raise UsageError(f"--method {method} needs higra: pip install 'wsseg[proposals]'")
    if options["min_fill"] is None:
        options["min_fill"] = 0.3 if method == "best" else 0.1
    crf = None
    if method == "seg":
        crf = configure_crf(flow, "dense", preset or "wssl", None, {})
        flow.parameters.update(method=method, crf=crf.parameters)
        flow.parameters.pop("parameters", None)
        if preset is None:
            flow.parameters.pop("preset", None)
    return Settings(crf=crf, boundaries=boundaries is not None, **options)


def join_boundaries(flow: Flow, place: str | None) -> None:
    """Add the boundary maps of a place to each record, and what they were learnt from, if
    that is known, to the labels that the result has cost."""
    if place is not None:
        source = flow.join(place, "boundaries", set(BOUNDARIES))
        flow.spent = dict(source.header.supervision)


# -- counting what is odd --------------------------------------------------------------------


@dataclass
class Census:
    """Counts boxes of which an answer says little, as records pass on their way to the step."""

    drop: bool = False
    seen: Counter = field(default_factory=Counter)

    def __call__(self, record: Record) -> Record:
        """Count the record's boxes; with ``drop`` leave out those outside the image."""
        boxes = record.get("boxes")
        size = boxes.size
        if size is None and "image" in record:
            size = record.get("image").shape[:2]
        if size is None or not len(boxes.xyxy):
            return record
        limit = np.array([size[1], size[0]])
        low, high = boxes.xyxy[:, :2], boxes.xyxy[:, 2:]
        gone = ((low >= limit) | (high <= 0)).any(axis=1)
        if self.drop and gone.any():
            self.seen["outside their image, left out"] += int(gone.sum())
            kept = ~gone
            boxes = Boxes(boxes.xyxy[kept], boxes.classes[kept], boxes.size,
                          None if boxes.scores is None else boxes.scores[kept])
            record.set("boxes", boxes)
            low, high = boxes.xyxy[:, :2], boxes.xyxy[:, 2:]
        rows = np.concatenate([low, high, boxes.classes[:, None]], axis=1)
        self.seen["the same as another one, of which the last has the pixels"] += \
            len(rows) - len(np.unique(rows, axis=0))
        whole = (low <= 0).all(axis=1) & (high >= limit).all(axis=1)
        self.seen["as large as the image, with no surroundings"] += int(whole.sum())
        return record

    def report(self, flow: Flow) -> None:
        """Say what was counted."""
        for what, count in self.seen.items():
            if count:
                flow.env.say(f"{count} boxes are {what}")


# -- one record ------------------------------------------------------------------------------


def fill(record: Record, *, settings: Settings) -> Record:
    """Fill the boxes of one record. Raises RecordError."""
    from wsseg.annotate.rect import pixel_boxes

    given = record.get("boxes")
    image = record.get("image") if settings.method != "rect" else None
    size = _size(record, given.size, image)
    if 0 in size:
        raise RecordError("the photo has no pixel")
    free = background_id(record.names)
    outside = settings.outside or ("ignore" if free is None else "background")
    try:
        boxes = pixel_boxes(given.xyxy, size)
        if settings.write != "label" and (free != 0 or (given.classes == 0).any()):
            raise RecordError("probabilities need a background, class 0, which no box has")
        label, ids, score = _paint(record, image, boxes, given.classes, size,
                                   255 if outside == "ignore" else 0, settings)
    except ValueError as error:
        raise RecordError(str(error)) from None
    if "label" in settings.writes:
        record.set("label", label)
    if "score" in settings.writes:
        record.set("score", score)
    if settings.instances:
        record.set("instance", _instances(ids, given))
    return record


def _paint(record, image, boxes, classes, size, outside, settings
           ) -> tuple[np.ndarray, np.ndarray, ScoreMap | None]:
    from wsseg.annotate.rect import fill_box, paint_boxes

    cut = {"iterations": settings.iterations, "min_fill": settings.min_fill}
    if settings.method == "seg":
        return _seg(image, boxes, classes, size, outside, settings)
    regions = _regions(record, image, settings) if settings.method in TREES and len(boxes) else None
    if settings.method == "agree":
        from wsseg.annotate.agree import opinions, paint_agreed

        methods = partial(opinions, image, regions=regions, margin=settings.margin,
                          rule=settings.rule, consent=settings.consent, **cut)
        return *paint_agreed(boxes, classes, size, methods, outside=outside,
                             contested=settings.consent == "paper"), None
    one: Callable = fill_box
    if settings.method == "grabcut":
        from wsseg.annotate.grabcut import grabcut_box

        one = partial(grabcut_box, image, margin=settings.margin, **cut)
    elif settings.method == "proposal":
        one = partial(regions.propose_or_whole, rule=settings.rule) if regions else fill_box
    elif settings.method == "best":
        return _best(image, boxes, classes, size, outside, settings, regions, cut)
    return *paint_boxes(boxes, classes, size, one, outside=outside), None


def _best(image, boxes, classes, size, outside, settings, regions, cut):
    from wsseg.annotate import best
    from wsseg.annotate.rect import paint_boxes

    shares = {box: best.share(best.voters(image, box, regions, **cut), box)
              for box in dict.fromkeys(map(tuple, boxes.tolist()))}
    label, ids = paint_boxes(boxes, classes, size, lambda box: shares[box] > 0.5, outside=outside)
    score = None
    if "score" in settings.writes:
        present, prob = best.soft_map(boxes, classes, size, shares)
        score = ScoreMap(prob.astype(np.float16), present, size)
    return label, ids, score


def _seg(image, boxes, classes, size, outside, settings):
    from wsseg.annotate import bboxseg
    from wsseg.annotate.rect import paint_boxes, smallest_last

    if (np.asarray(classes) == 0).any():
        raise RecordError("--method seg needs class 0 for the background, and a box has it")
    present, prob = bboxseg.fill(image, boxes, classes, alpha=settings.alpha,
                                 regularise=partial(_refining.regularise, settings=settings.crf))
    found = present[prob.argmax(axis=0)]
    order = smallest_last(boxes)

    def of_its_class(box):
        x0, y0, x1, y1 = box
        return found[y0:y1, x0:x1] == classes[next(order)]

    label, ids = paint_boxes(boxes, classes, size, of_its_class, outside=outside)
    return label, ids, ScoreMap(prob.astype(np.float16), present, size)


def _regions(record: Record, image: np.ndarray, settings: Settings):
    from wsseg.annotate import proposals

    return proposals.build(_boundaries(record, image.shape[:2]) if settings.boundaries
                           else proposals.gradient(image))


def _boundaries(record: Record, size: tuple[int, int]) -> np.ndarray:
    from wsseg.refine.fuse import resample

    kind = next((k for k in BOUNDARIES if k in record), None)
    if kind is None:
        raise RecordError(f"has no boundary map (a {', '.join(BOUNDARIES)})")
    value = record.get(kind)
    data, shape = (value[None], value.shape) if kind == "label" else (value.data, value.size)
    if tuple(shape) != tuple(size) or len(data) != 1:
        raise RecordError(f"a boundary map is of one class and the photo's size, not of "
                          f"{len(data)} and {shape[0]}x{shape[1]}")
    return resample(data.astype(np.float32), size)[0]


def _instances(ids: np.ndarray, boxes: Boxes) -> InstanceMap:
    seen = sorted(set(ids.ravel().tolist()) - {0})
    scores = np.ones(len(boxes.classes)) if boxes.scores is None else boxes.scores
    return InstanceMap(ids, tuple(Segment(i, int(boxes.classes[i - 1]), float(scores[i - 1]))
                                  for i in seen))


def _size(record, size, image):
    if image is None:
        if size is None and "image" in record:
            return record.get("image").shape[:2]
        if size is None:
            raise RecordError("its boxes do not say the image's size: add it or give --images")
        return size
    if size is not None and tuple(size) != image.shape[:2]:
        raise RecordError(f"boxes are for a {size[0]}x{size[1]} image, but the photo is "
                          f"{image.shape[0]}x{image.shape[1]}{turned(size, image.shape[:2])}")
    return image.shape[:2]
