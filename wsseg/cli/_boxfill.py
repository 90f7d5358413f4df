"""What ws-boxfill was asked for, and how each method fills the boxes of a record."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np

from wsseg.cli import _boxseg, _refining
from wsseg.cli._boxpaint import Job, paint
from wsseg.cli._differ import turned
from wsseg.cli._flow import Flow
from wsseg.cli._tally import Tally
from wsseg.errors import RecordError, UsageError
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.values import Boxes, InstanceMap, Segment

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
    iterations: int = 5
    margin: float = 0.5
    min_fill: float = 0.1
    alpha: float | None = None
    rule: str = "inside"
    consent: str = "strict"
    outside: str | None = None
    instances: bool = False
    write: str = "label"
    crf: _refining.Settings | None = None
    boundaries: bool = False

    @property
    def writes(self) -> tuple[str, ...]:
        """The kinds to be written."""
        maps = {"label": ("label",), "score": ("score",), "both": ("label", "score")}[self.write]
        return (*maps, *(("instance",) if self.instances else ()))


def configure(flow: Flow, preset: str | None, boundaries: str | None, **options) -> Settings:
    """Return the Settings of a run, or say what is wrong with its options (UsageError)."""
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
        options["alpha"], crf = _boxseg.configure(flow, preset, options["alpha"])
    elif method == "best" or method == "agree" and options["consent"] == "strict":
        _, note = _refining.resolve_engine(_refining.Settings("dense", {}))  # of their soft cut
        if note:
            flow.env.say(note)
    return Settings(crf=crf, boundaries=boundaries is not None, **options)


def forget_places(flow: Flow, boundaries: str | None, report: str | None) -> None:
    """Leave out of the history where files lie, which is no part of how a result was made."""
    flow.parameters.pop("report", None)
    if report is not None:
        at = flow.arguments.index("--report")
        del flow.arguments[at:at + 2]
    if boundaries is not None:
        flow.parameters["boundaries"] = name = os.path.basename(os.path.normpath(boundaries))
        flow.arguments[flow.arguments.index("--boundaries") + 1] = name


def join_boundaries(flow: Flow, place: str | None) -> None:
    """Add the boundary maps of a place to each record, and what they were learnt from, if
    that is known, to the labels that the result has cost."""
    if place is not None:
        source = flow.join(place, "boundaries", set(BOUNDARIES))
        flow.spent = dict(source.header.supervision)


# -- one record ------------------------------------------------------------------------------


def fill(record: Record, *, settings: Settings, tally: Tally | None = None) -> Record:
    """Fill the boxes of one record. tally: of those that a method failed at. RecordError."""
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
        job = Job(image, boxes, given.classes, size, 255 if outside == "ignore" else 0, settings,
                  _boundaries(record, size) if settings.boundaries and len(boxes) else None)
        label, ids, score = paint(job)
    except ValueError as error:
        raise RecordError(str(error)) from None
    if tally is not None:
        tally.add(job.counts)
    if "label" in settings.writes:
        record.set("label", label)
    if "score" in settings.writes:
        record.set("score", score)
    if settings.instances:
        record.set("instance", _instances(ids, given))
    return record


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
