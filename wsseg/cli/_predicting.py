"""What ws-predict makes of a model and photos; the parts that its tasks share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._options import refuse_given
from wsseg.cli._predictor import Maps, Predictor
from wsseg.cli._supervision import behind
from wsseg.cli._tasks import predictor
from wsseg.errors import ExitStatus, RecordError, UsageError
from wsseg.io.header import End, Header
from wsseg.io.jsons import name_id
from wsseg.io.kinds import KINDS, background_id
from wsseg.io.record import Record
from wsseg.io.source import Source
from wsseg.io.values import ScoreMap
from wsseg.nets.inference import Inference
from wsseg.nets.model import find_model, load_model, read_card
from wsseg.train.distributed import pick_device, use_bf16
from wsseg.train.tags import tags_vector

_READS = ("image", "label", "score", "conf")
_WRITES = {"both": ("label", "score"), "label": ("label",), "score": ("score",)}


def run(flow: Flow, place: str, options: Mapping[str, Any]) -> ExitStatus:
    """Predict with a model of any task that ws-predict serves."""
    path = find_model(place)
    return predictor(read_card(path)["task"], place)(flow, path, options)


def segment(flow: Flow, path: Path, options: Mapping[str, Any]) -> ExitStatus:
    """Label maps and probabilities from a segmentation net."""
    refuse_given(("least_score", "most"), f"is for detectors, which {path} is not")
    model = Model.open(flow, path, options, "segment")
    net, device = model.net, model.device
    rows, names = _chosen(flow, options["as_classes"], model.names)
    if options["branch"] not in net.branches:
        raise UsageError(f"{path} has one branch: --branch weak is for nets of --dual")
    source = photos_source(flow)
    if options["tags"]:
        check_tags(source)
    inference = Inference(net, device, scales_of(options["scales"]), options["flip"],
                          options["branch"], rows, options["score_stride"],
                          use_bf16(options["precision"], device))
    writes = _WRITES.get(options["write"])
    if writes is None or options["counts"]:
        raise UsageError(f"--{'counts' if writes else 'write ' + options['write']} is for models "
                         "of ws-train --task rsis or wrsis")
    check_classes(flow, source, names, _READS, writes,
                  "the model" if rows is None else "--as-classes")
    maps = Segmentation(inference, len(rows or range(net.spec.classes)), options["tags"],
                        background_id(names) is not None, writes)
    return flow.run(same, source, reads=_READS, writes=writes, classes=names,
                    through=model.predictor(maps, flow.jobs, options["batch"]))


@dataclass(frozen=True)
class Model:
    """A model on a device, ready to be asked."""

    net: Any
    card: dict[str, Any]
    device: Any

    @staticmethod
    def open(flow: Flow, path: Path, options: Mapping[str, Any], task: str) -> Model:
        """Load it; the output's history and supervision will tell of it."""
        device = pick_device(options["device"])
        net, card = load_model(path, str(device), task)
        if options["compiled"]:
            net.compile()
        with open(path, "rb") as file:
            flow.parameters["model"] = hashlib.sha256(file.read()).hexdigest()[:16]
        flow.spent = behind(card, path)
        flow.made_of["model"] = Header(history=tuple(card.get("history", ())))
        return Model(net, card, device)

    @property
    def names(self) -> tuple[str, ...] | None:
        return None if self.card["classes"] is None else tuple(self.card["classes"])

    def predictor(self, maps: Maps, jobs: int, batch: int | None) -> Predictor:
        cpu = self.device.type == "cpu"
        return Predictor(maps, jobs, batch or (1 if cpu else 16), jobs if cpu else 0)


def same(record: Record) -> Record:
    return record


def photos_source(flow: Flow) -> Source:
    """The records to predict: of INPUT with the photos of --images, or of --images alone."""
    place = flow.inputs[0]
    if place is None:
        if flow.images is None:
            raise UsageError("no photos: name their folder with --images")
        flow.inputs, flow.images = (flow.images,), None
        source = flow.open(as_kind="image")
        return source if {*source.header.kinds} <= {"image"} else _Photos(source)
    flow.inputs = (place,)
    source = flow.open(as_kind="image" if flow.images is None else None)
    flow.join_images()
    return source


class _Photos:
    """A place of --images of which only the photos go on: labels beside them may be the truth."""

    def __init__(self, source: Source) -> None:
        self._source, self.where = source, source.where
        self.header = replace(source.header, kinds=("image",), supervision={})
        if hasattr(source, "get"):
            self.keys, self.check_complete = source.keys, source.check_complete
            self.get = self._get

    @property
    def end(self) -> End | None:
        end = self._source.end
        return None if end is None else replace(end, supervision={}, labelled={})

    def __iter__(self) -> Iterator[Record]:
        return map(self._bare, self._source)

    def _get(self, key: str) -> Record:
        return self._bare(self._source.get(key))

    @staticmethod
    def _bare(record: Record) -> Record:
        record.keep({"image"})
        record.supervision = {}
        return record


def _chosen(flow: Flow, spec: str | None, names: tuple[str, ...] | None
            ) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    """The rows of the net that are used, None for all, and the names of the result's classes."""
    if spec is None:
        if names and flow.classes and flow.classes != names:
            raise UsageError("the model's classes are not those of --classes: to choose among "
                             "them, use --as-classes")
        return None, names
    from wsseg.data.names import load_names

    wanted = load_names(spec)
    lacking = [n for n in wanted if n not in (names or ())]
    if lacking:
        raise UsageError(f"the model has no class {', '.join(lacking[:5])}")
    return tuple(names.index(n) for n in wanted), wanted


def check_tags(source: Source) -> None:
    """Raise UsageError unless a place has tags."""
    kinds = source.header.kinds
    if kinds and "tags" not in kinds:
        raise UsageError(f"--tags: {source.where} has no tags (it holds {', '.join(kinds)})")


def check_classes(flow: Flow, source: Source, names: Sequence[str] | None, reads: Sequence[str],
                  writes: Sequence[str], whose: str = "the model") -> None:
    """Raise UsageError if records hold anything of other classes than ``names``, those of the
    result, under which it would be used or go on. reads, writes: as of Flow.run; reads without
    what is used."""
    kinds, theirs = source.header.kinds, source.header.classes
    held = {*kinds} & {*KINDS} - ({*reads} - {*flow.keep}) - {*writes, "image", "conf"}
    if not theirs or not names or tuple(theirs) == tuple(names) or kinds and not held:
        return
    try:
        for name in theirs:
            name_id(name, names)
    except RecordError as error:
        what = f"has classes that {whose} has not: {error}"
    else:
        what = f"numbers its classes in another way than {whose}"
    raise UsageError(f"{source.where} {what} (ws-cat --remap changes its "
                     f"{', '.join(sorted(held)) or 'labels'}, --only leaves them out)")


def scales_of(text: str) -> tuple[float, ...]:
    """Read --scales. Raises UsageError."""
    try:
        scales = tuple(float(s) for s in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0.05 <= s <= 8 for s in scales):
        raise UsageError(f"--scales {text} is not numbers from 0.05 to 8 with commas between")
    return scales


@dataclass
class Segmentation:
    """What a segmentation net says of photos of one size."""

    inference: Inference
    classes: int
    tags: bool
    background: bool
    writes: tuple[str, ...]

    def __call__(self, photos: np.ndarray, records: Sequence[Record]) -> list[dict[str, Any]]:
        allowed = np.stack([self._allowed(r) for r in records]) if self.tags else None
        labels, scores = self.inference(photos, allowed, label="label" in self.writes,
                                        score="score" in self.writes)
        found: list[dict[str, Any]] = [{} for _ in records]
        kind = np.uint8 if self.classes <= 255 else np.uint16
        for values, label in zip(found, () if labels is None else labels):
            values["label"] = label.astype(kind)
        for values, score in zip(found, () if scores is None else scores):
            present = np.flatnonzero(score.any((1, 2)))
            values["score"] = ScoreMap(score[present], present, photos.shape[1:3])
        return found

    def _allowed(self, record: Record) -> np.ndarray:
        found = tags_vector(record.get("tags"), self.classes, background=self.background)
        if not found.any():
            raise RecordError("--tags: it has none, and no class of the model is the background")
        return found
