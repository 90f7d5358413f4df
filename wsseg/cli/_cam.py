"""What ws-cam makes of photos and tags, and of activation maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._options import refuse_given
from wsseg.errors import ExitStatus, RecordError, UsageError
from wsseg.io.jsons import name_id
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.source import Source
from wsseg.io.supervision import by_kind
from wsseg.io.values import ScoreMap
from wsseg.refine.camlabel import label_of_cams
from wsseg.refine.fuse import resample

_THRESHOLD = .15  # panoptic-2018 has it from ImageNet's habit, and .5 for Cityscapes
_READS = ("image", "label", "score", "cam", "conf")
#: Options that say how labels are made, and how maps are.
_LABEL = ("threshold", "overlap", "background", "saliency", "salient")
_MAPS = ("method", "scales", "flip", "tag_place", "all_classes", "min_prob", "stride", "full",
         "batch", "device", "precision", "compiled", "images")


def run(flow: Flow, place: str | None, cams: str | None, options: dict[str, Any]) -> ExitStatus:
    """Open everything, make maps or labels, write."""
    if not options["label"]:
        refuse_given(_LABEL, "is about labels: add --label")
    if options["saliency"] is None:
        refuse_given(["salient"], "is about the maps of --saliency")
    if options["full"]:
        refuse_given(["stride"], "and --full exclude each other")
    if cams is not None:
        return _relabel(flow, place, cams, options)
    if place is None:
        raise UsageError("name a model, or activation maps with --cams")
    from wsseg.cli._predicting import Model, check_classes, photos_source, scales_of
    from wsseg.nets.cam import ActivationMaps
    from wsseg.nets.model import find_model
    from wsseg.train.distributed import use_bf16

    if [*flow.inputs, flow.images, options["tag_place"], options["saliency"]].count("-") > 1:
        raise UsageError("only one input can be standard input")
    if options["all_classes"] and options["min_prob"] is not None:
        raise UsageError("--all-classes and --min-prob exclude each other")
    wanted = "all" if options["all_classes"] else "tags" if options["min_prob"] is None else "found"
    model = Model.open(flow, find_model(place), options, "classify")
    names, count = model.names, model.net.spec.classes
    if names and flow.classes and flow.classes != names:
        raise UsageError("the model's classes are not those of --classes")
    source = photos_source(flow)
    tags = _join_tags(flow, source, options["tag_place"], wanted)
    writes = _writes(flow, options, tags is not None)
    for one in (source, *([tags] if tags else [])):
        check_classes(flow, one, names, _READS, ("cam", "label"))
    unspent = partial(_unspent, kinds=_spend(flow, [source, *([tags] if tags else [])]))
    rule = _rule(flow, options, names, count) if options["label"] else None
    maps = ActivationMaps(model.net, model.device, options["method"], scales_of(options["scales"]),
                          options["flip"], 1 if options["full"] else options["stride"],
                          options["min_prob"] or 0., use_bf16(options["precision"], model.device))
    step = Cams(maps, count, background_id(names), wanted, rule, "cam" in writes)
    return flow.run(unspent, source, reads=_READS, writes=writes, classes=names,
                    through=model.predictor(step, flow.jobs, options["batch"]))


def _relabel(flow: Flow, extra: str | None, cams: str, options: dict[str, Any]) -> ExitStatus:
    """Labels of maps that were made earlier."""
    if extra is not None:
        raise UsageError(f"{extra}: with --cams there is no MODEL and no INPUT")
    if not options["label"]:
        raise UsageError("--cams: what is to be made of them? Add --label")
    refuse_given(_MAPS, "is for making maps: --cams has them")
    flow.inputs = (cams,)
    source = flow.open()
    kinds = source.header.kinds
    if kinds and "cam" not in kinds:
        raise UsageError(f"{source.where} has no cam (it holds {', '.join(kinds)})")
    names = source.header.classes or flow.classes
    rule = _rule(flow, options, names, None if names is None else len(names))
    return flow.run(partial(_label_step, rule=rule), source, reads=_READS,
                    writes=_writes(flow, options, False))


def _writes(flow: Flow, options: Mapping[str, Any], tags: bool) -> tuple[str, ...]:
    """The kinds to write; joined tags stay, ws-crf can use them."""
    made = ("cam",) if not options["label"] else ("label",) + ("cam",) * ("cam" in flow.keep)
    return made + ("tags",) * tags


def _join_tags(flow: Flow, source: Source, place: str | None, wanted: str) -> Source | None:
    """Add the tags of --tags; make sure that there are some, and of one place."""
    if wanted != "tags":
        if place is not None:
            raise UsageError("--tags: --all-classes and --min-prob do without them")
        return None
    if place is not None and "tags" in source.header.kinds:
        raise UsageError(f"{source.where} has tags of its own: leave out --tags, or read only its "
                         f"photos, with --images {source.where}")
    joined = flow.join(place, "tags", {"tags"})
    holder = joined or source
    kinds = holder.header.kinds
    if kinds and "tags" not in kinds:
        raise UsageError(f"{holder.where} has no tags (it holds {', '.join(kinds)}): name their "
                         "place with --tags, or choose --all-classes or --min-prob")
    if joined is None and not kinds and "tags" not in _first_kinds(source):
        raise UsageError(f"{holder.where} has no tags: name their place with --tags, or choose "
                         "--all-classes or --min-prob")
    return joined


def _first_kinds(source: Source) -> set[str]:
    if not hasattr(source, "get"):
        return {"tags"}  # a stream: its records will tell
    return next((source.get(key).kinds() for key in source.keys()), {"tags"})


def _rule(flow: Flow, options: Mapping[str, Any], names: Sequence[str] | None, count: int | None
          ) -> Rule:
    """How labels are made, noted for the history; with the maps of --saliency joined."""
    rule, place = Rule.of(options, names, count), options["saliency"]
    flow.parameters["thresholds"] = list(rule.thresholds)
    if place is not None:
        source = flow.join(place, "saliency", {"conf"}, "conf")
        kinds = source.header.kinds
        if kinds and "conf" not in kinds:
            raise UsageError(f"--saliency {place} has no conf maps, KEY.conf.png or plain KEY.png "
                             f"in grey (it holds {', '.join(kinds)})")
        flow.parameters["saliency"] = source.header.digest
    return rule


def _spend(flow: Flow, sources: Sequence[Source]) -> tuple[str, ...]:
    """Count the labels that the model learnt from, ``flow.spent``, in the header. Of a model that
    does not tell which they were they are taken for those of these very images, and of each kind
    the larger number counts. Returns those kinds, which records then do not count again."""
    total = {kind: numbers for kind, numbers in flow.spent.items() if "@" not in kind}
    for source in sources:
        there = by_kind(source.header.supervision, source.end.given if source.end else {})
        for kind in total:
            total[kind] = tuple(map(max, total[kind], there.get(kind, (0, 0, 0))))
    base = by_kind(sources[0].header.supervision)
    flow.spent |= {kind: tuple(n - b for n, b in zip(numbers, base.get(kind, (0, 0, 0))))
                   for kind, numbers in total.items()}
    return tuple(total)


def _unspent(record: Record, kinds: Sequence[str]) -> Record:
    for kind in kinds:
        record.supervision.pop(kind, None)
    return record


@dataclass(frozen=True)
class Rule:
    """How labels are made of maps (``label_of_cams``). thresholds: of each class, or one; count:
    of classes, if known; saliency: place of the maps by which, below ``salient``, it is dull."""

    thresholds: tuple[float, ...]
    count: int | None
    overlap: str
    background: int | None
    low: float | None
    salient: float
    saliency: str | None

    @staticmethod
    def of(options: Mapping[str, Any], names: Sequence[str] | None, count: int | None) -> Rule:
        """Raises UsageError for what makes no sense."""
        wanted = options["background"] is not None or options["saliency"] is not None
        background = background_id(None if names is None else tuple(names)) if wanted else None
        if wanted and background is None:
            raise UsageError("--background and --saliency: these classes have no background")
        thresholds = _thresholds(options["threshold"], names, count)
        low = options["background"]
        least = min([t for cls, t in enumerate(thresholds)
                     if cls != background or len(thresholds) == 1], default=1)
        if low is not None and low > least:
            raise UsageError(f"--background {low:g} is above the threshold {least:g}: a pixel "
                             "would be both")
        return Rule(thresholds, count, options["overlap"], background, low, options["salient"],
                    options["saliency"])

    def salience(self, record: Record) -> np.ndarray | None:
        """Return a record's saliency map, if they are asked for. Raises RecordError."""
        if self.saliency is None:
            return None
        if "conf" not in record:
            raise RecordError(f"has no saliency map: {self.saliency} has no conf for it, a grey "
                              "KEY.conf.png or plain KEY.png")
        return record.get("conf")

    def label(self, full: np.ndarray, classes: np.ndarray, saliency: np.ndarray | None
              ) -> np.ndarray:
        """Label maps of full size (K,H,W)."""
        if self.count is not None and classes.max(initial=-1) >= self.count:
            raise RecordError(f"cam: class {int(classes.max())}, but there are {self.count}")
        limits = np.array(self.thresholds)
        limits = limits[classes] if len(limits) > 1 else np.repeat(limits, len(classes))
        dull = None
        if saliency is not None:
            if saliency.shape != full.shape[1:]:
                raise RecordError("the saliency map is {}x{}, the photo {}x{}".format(
                    *saliency.shape, *full.shape[1:]))
            dull = saliency < self.salient * 255
        return label_of_cams(full, classes, limits, overlap=self.overlap,
                             background=self.background, low=self.low, dull=dull)


def _thresholds(text: str, names: Sequence[str] | None, count: int | None) -> tuple[float, ...]:
    """Read --threshold: one number for all classes, or a file's for each."""
    try:
        values = [float(text)]
    except ValueError:
        values = _threshold_file(text, names, count)
    if not all(0 < v <= 1 for v in values):
        raise UsageError(f"--threshold {text}: shares are above 0 and at most 1")
    return tuple(values)


def _threshold_file(path: str, names: Sequence[str] | None, count: int | None) -> list[float]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.rsplit(None, 1) for line in file if line.strip()]
        numbers = [float(words[-1]) for words in lines]
    except OSError as error:
        raise UsageError(f"--threshold {path} is neither a number nor a file "
                         f"({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"--threshold {path}: {error}") from None
    if not lines:
        raise UsageError(f"--threshold {path} is empty: it must hold a number for each class, or "
                         "lines of name and number")
    if any(len(words) == 1 for words in lines):
        if not all(len(words) == 1 for words in lines) or len(lines) != count:
            raise UsageError(f"--threshold {path} must hold one number for each of the "
                             f"{count or ''} classes, or lines of name and number")
        return numbers
    if names is None:
        raise UsageError(f"--threshold {path}: the class names are unknown; give --classes")
    values = [_THRESHOLD] * len(names)
    for (name, _), number in zip(lines, numbers):
        try:
            values[name_id(name.strip(), names)] = number
        except RecordError as error:
            raise UsageError(f"--threshold {path}: {error}") from None
    return values


@dataclass
class Cams:
    """What is made of photos of one size. wanted: ``tags``, ``all`` or ``found`` classes; cam:
    whether maps are written."""

    maps: Any
    classes: int
    background: int | None
    wanted: str
    rule: Rule | None
    cam: bool

    def __call__(self, photos: np.ndarray, records: Sequence[Record]) -> list[dict[str, Any]]:
        wanted = None
        if self.wanted == "all":
            wanted = np.ones((len(records), self.classes), bool)
        elif self.wanted == "tags":
            wanted = np.stack([self._tags(record) for record in records])
        saliency = [self.rule and self.rule.salience(record) for record in records]
        found = self.maps(photos, wanted, full=self.rule is not None, background=self.background)
        result: list[dict[str, Any]] = []
        for maps, dull in zip(found, saliency):
            values: dict[str, Any] = {}
            if self.cam:
                values["cam"] = ScoreMap(maps.low, maps.classes, photos.shape[1:3])
            if self.rule is not None:
                values["label"] = self.rule.label(maps.full, maps.classes, dull)
            result.append(values)
        return result

    def _tags(self, record: Record) -> np.ndarray:
        result = np.zeros(self.classes, bool)
        for tag in record.get("tags"):
            if tag >= self.classes:
                raise RecordError(f"tag {tag} is none of the model's {self.classes} classes")
            result[tag] = True
        return result


def _label_step(record: Record, rule: Rule) -> Record:
    cam = record.get("cam")
    size = tuple(cam.size)
    if not len(cam.classes):
        full = np.zeros((0, *size), np.float32)
    else:
        try:
            full = resample(cam.data, size)
        except ValueError as error:
            raise RecordError(f"cam: {error}") from None
        top = cam.data.max((1, 2)).astype(np.float32)[:, None, None]
        full /= np.where(top > 0, top, 1)
    record.set("label", rule.label(full, cam.classes, rule.salience(record)))
    return record
