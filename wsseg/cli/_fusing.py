"""What ws-fuse does to the records of one key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from wsseg.annotate.rect import pixel_boxes
from wsseg.cli._differ import turned
from wsseg.cli._fusion import Plan, Stack
from wsseg.cli._panoptic import instances, photo
from wsseg.cli._parts import Whole
from wsseg.cli._supervision import spent
from wsseg.errors import RecordError
from wsseg.io.codec import check_classes
from wsseg.io.kinds import KINDS, background_id, kind_of
from wsseg.io.record import Record
from wsseg.io.supervision import union
from wsseg.io.values import Boxes, InstanceMap, ScoreMap, Segment
from wsseg.refine import constrain, fuse
from wsseg.refine.fuse import IGNORE, Reason

MAX_BYTES = 1 << 32  # of the scores of one image
_STRIP = 1 << 18  # numbers of one map that are worked on at once


def step(stack: Stack, *, plan: Plan) -> Record:
    """Fuse the maps of one key and put the result into the first input's record."""
    try:
        layers = [_layer(stack, i, plan) for i in range(len(stack.inputs))]
        _same_size(layers)
        limits = _Limits.of(stack, plan, layers)
        if plan.rule == "instance":
            return _instances(stack, layers, plan, limits)
        if plan.soft:
            label, reasons, scores = _soft(layers, plan, limits)
        else:
            label, reasons, scores = *_hard(layers, plan, limits), None
        label, found = limits.shape(label, reasons)
    except ValueError as error:
        raise RecordError(str(error)) from None
    _pass_on(stack, limits)
    made = {"cam" if plan.cams else "score": scores, "label": label, "instance": found,
            "conf": reasons}
    for kind in plan.writes:
        stack.set(kind, made[kind])
    return stack


def _instances(stack: Stack, layers: Sequence[_Layer], plan: Plan, limits: _Limits) -> Record:
    """Label instances by the mean of the inputs' scores and the boxes."""
    _, _, scores = _soft(layers, replace(plan, rule="mean", write="score"), limits)
    given = Boxes(limits.boxes, limits.classes, layers[0].size, limits.scores)
    found = instances(scores, given, limits.things, limits.background,
                      (plan.box_weight, plan.global_weight),
                      photo((*stack.inputs, *stack.weak)) if plan.crf else None, plan.crf)
    if limits.scores is not None:  # a net's boxes, which no person drew
        limits.used = [(kind, one) for kind, one in limits.used if kind != "boxes"]
    _pass_on(stack, limits)
    stack.set("instance", found)
    return stack


# -- inputs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """One input's map, either labels (H, W) or scores. hears: see --opinions."""

    where: str
    size: tuple[int, int]
    labels: np.ndarray | None = None
    scores: ScoreMap | None = None
    cam: bool = False
    confidence: float = 1.0
    hears: str = "all"

    def classes(self) -> list[int]:
        if self.scores is not None:
            return [int(c) for c in self.scores.classes]
        return [c for c in np.unique(self.labels).tolist() if c != IGNORE]


def _layer(stack: Stack, number: int, plan: Plan) -> _Layer:
    record, where = stack.inputs[number], stack.where[number]
    kind = next((k for k in plan.order if k in record), None)
    try:
        if kind is None:
            raise RecordError(f"has no {' or '.join(plan.order)} (it holds "
                              f"{', '.join(sorted(record.kinds())) or 'nothing'})")
        if plan.soft and (kind == "cam") != plan.cams:
            raise RecordError(f"its map is of kind {kind}: cams are no probabilities, and can be "
                              "averaged with cams only (--use cam)")
        value = record.get(kind)
        several = {"hears": plan.opinions[number]} if plan.opinions else {}
        if kind in ("score", "cam"):
            _check_scores(value, kind, stack.names)
            return _Layer(where, value.size, scores=value, cam=kind == "cam", **several)
        if kind == "instance":
            value = _classes_of(value)
        check_classes(value, stack.names)
        if plan.confidence:
            several["confidence"] = plan.confidence[number % len(plan.confidence)]
        return _Layer(where, value.shape, value, **several)
    except (RecordError, ValueError) as error:
        raise RecordError(f"{where}: {error}" if len(stack.inputs) > 1 else str(error)) from None


def _check_scores(value: ScoreMap, kind: str, names: Sequence[str] | None) -> None:
    if kind == "score":
        fuse.check_probabilities(value.data)
    if names is not None and len(value.classes) and value.classes.max() >= len(names):
        raise RecordError(f"{kind} has class {value.classes.max()}, but there are {len(names)} "
                          "classes")


def _classes_of(value: InstanceMap) -> np.ndarray:
    """Return the class of each pixel of an instance map, 255 where there is no instance."""
    wide = any(s.cls > IGNORE for s in value.segments)
    table = np.full(1 + max((s.id for s in value.segments), default=0), IGNORE,
                    np.uint16 if wide else np.uint8)
    for segment in value.segments:
        table[segment.id] = segment.cls
    return table[value.ids]


def _same_size(layers: Sequence[_Layer]) -> None:
    first = layers[0]
    for other in layers[1:]:
        if other.size != first.size:
            raise RecordError("maps differ in size: {}x{} in {}, {}x{} in {}{}".format(
                *first.size, first.where, *other.size, other.where,
                turned(other.size, first.size)))


# -- what tags and boxes say ---------------------------------------------------------------


@dataclass
class _Limits:
    """What may be where in one image. allowed: classes by tags, None for all; boxes: int (N, 4)
    in pixels, None if not asked for; parts: the same as allowed, of rectangles x0, y0, x1, y1;
    used: (kind, record) of the labels that say so."""

    plan: Plan
    allowed: frozenset[int] | None
    things: frozenset[int]
    background: int | None
    boxes: np.ndarray | None = None
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: np.ndarray | None = None
    parts: list[tuple[tuple[int, ...], frozenset[int]]] = field(default_factory=list)
    used: list[tuple[str, Record]] = field(default_factory=list)

    @staticmethod
    def of(stack: Stack, plan: Plan, layers: Sequence[_Layer]) -> _Limits:
        """Raises RecordError where tags or boxes are needed and missing or do not fit."""
        background = background_id(stack.names)
        limits = _Limits(plan, None, frozenset(), background)
        if plan.absent and not limits._parts(stack, layers[0].size):
            limits.allowed = limits._named(limits._find(stack, "tags", "counts"))
        if plan.boxes:
            value = limits._find(stack, "boxes")
            size = layers[0].size
            if value.size is not None and tuple(value.size) != tuple(size):
                raise RecordError("boxes are for a {}x{} image, but its maps are {}x{}".format(
                    *value.size, *size))
            limits.boxes, limits.classes = pixel_boxes(value.xyxy, size), value.classes
            limits.scores = value.scores
        things = plan.things
        if things is None:
            seen = {c for layer in layers for c in layer.classes()} if not stack.names else \
                range(len(stack.names))
            things = {*seen, *limits.classes.tolist()} - {background, IGNORE}
        limits.things = frozenset(things)
        return limits

    def _named(self, tags: Any) -> frozenset[int]:
        tags = [c for c, n in tags.items() if n] if isinstance(tags, dict) else tags
        return frozenset(tags) | ({self.background} - {None})

    def _parts(self, stack: Stack, size: tuple[int, int]) -> bool:
        """Note what the tags of parts say; whether there are such."""
        for record in stack.weak:
            for part, (rows, columns) in record.windows(size) if isinstance(record, Whole) else ():
                if kind := next((k for k in ("tags", "counts") if k in part), None):
                    self.parts.append(((columns.start, rows.start, columns.stop, rows.stop),
                                       self._named(part.get(kind))))
        if self.parts and self.plan.absent == "zero":
            raise RecordError("--absent zero goes by the tags of whole images, not of parts")
        return bool(self.parts)

    def _find(self, stack: Stack, *kinds: str) -> Any:
        for record in (*stack.inputs, *stack.weak):
            for kind in kinds:
                if kind in record:
                    self.used.append((kind, record))
                    return record.get(kind)
        raise RecordError(f"has no {' or '.join(kinds)} in any input: name their place with "
                          "--weak")

    def zero(self, scores: np.ndarray, classes: np.ndarray, top: int
             ) -> tuple[np.ndarray, np.ndarray]:
        """Return rows of scores without what cannot be, and why a pixel has nothing left."""
        why = np.zeros(scores.shape[1:], np.uint8)
        for wanted, code in ((self.plan.absent, Reason.ABSENT), (self.plan.outside,
                                                                 Reason.OUTSIDE)):
            if wanted != "zero":
                continue
            before = scores.any(axis=0)
            if code == Reason.ABSENT:
                scores = constrain.zero_absent(scores, classes, self.allowed,
                                               normalise=not self.plan.cams)
            else:
                scores = constrain.zero_outside(scores, classes, self.boxes, self.classes,
                                                self.things, top=top,
                                                normalise=not self.plan.cams)
            why[before & ~scores.any(axis=0)] = code
        return scores, why

    def present(self, label: np.ndarray, reasons: np.ndarray) -> np.ndarray:
        """Return the label map without absent classes."""
        after = label if self.allowed is None else constrain.forbid_absent(label, self.allowed)
        for region, allowed in self.parts:
            after = constrain.forbid_absent(after, allowed, region=region)
        return label if after is label else _noted(label, after, reasons, Reason.ABSENT)

    def shape(self, label: np.ndarray, reasons: np.ndarray
              ) -> tuple[np.ndarray, InstanceMap | None]:
        """Return what boxes make of a fused label map, and its instances; notes reasons."""
        plan, given = self.plan, (self.boxes, self.classes, self.things)
        if plan.outside:
            value = self.background if plan.outside == "background" else IGNORE
            label = _noted(label, constrain.outside_boxes(label, *given, value=value), reasons,
                           Reason.OUTSIDE)
        if plan.fill_below is not None:
            label = _noted(label, constrain.fill_boxes(label, *given, below=plan.fill_below),
                           reasons, Reason.FILLED)
        if not plan.instances:
            return label, None
        ids, twice = constrain.claim_instances(label, *given)
        reasons[twice] = Reason.CLAIMED_TWICE
        found = sorted(set(np.unique(ids).tolist()) - {0})
        return label, InstanceMap(ids, tuple(
            Segment(i, int(self.classes[i - 1]),
                    1.0 if self.scores is None else float(self.scores[i - 1])) for i in found))


def _noted(before: np.ndarray, after: np.ndarray, reasons: np.ndarray,
           code: Reason) -> np.ndarray:
    reasons[before != after] = code
    return after


# -- rules ---------------------------------------------------------------------------------


def _strips(size: tuple[int, int], maps: int) -> Iterator[slice]:
    """Yield rows of an image such that ``maps`` of them are never much to hold."""
    rows = max(1, _STRIP // max(1, maps * size[1]))
    for top in range(0, size[0], rows):
        yield slice(top, min(top + rows, size[0]))


def _soft(layers: Sequence[_Layer], plan: Plan, limits: _Limits
          ) -> tuple[np.ndarray, np.ndarray, ScoreMap | None]:
    classes = np.array(sorted({c for layer in layers for c in layer.classes()}), np.int64)
    size = layers[0].size
    given = [layer.scores.data.dtype for layer in layers if layer.scores is not None]
    kind = np.result_type(*given) if given else np.dtype(np.float32)
    need = len(classes) * size[0] * size[1] * kind.itemsize
    if plan.write != "label" and need > MAX_BYTES:
        raise RecordError(f"scores of {len(classes)} classes in {size[0]}x{size[1]} pixels need "
                          f"{need / 1e9:.1f} GB: ask for --write label")
    scores = np.zeros((len(classes), *size), kind) if plan.write != "label" else None
    label = np.full(size, IGNORE, fuse.label_type(classes))
    reasons = np.zeros(size, np.uint8)
    for rows in _strips(size, len(classes)):
        fused = fuse.fuse_scores([_spread(layer, classes, rows) for layer in layers],
                                 rule=plan.rule, weights=plan.weights, normalise=not plan.cams)
        fused, why = limits.zero(fused, classes, rows.start)
        label[rows], reasons[rows] = fuse.decide(fused, classes, min_score=plan.min_score)
        reasons[rows][why > 0] = why[why > 0]
        if scores is not None:
            scores[:, rows] = fused
    label = limits.present(label, reasons)
    return label, reasons, None if scores is None else ScoreMap(scores, classes, size)


def _spread(layer: _Layer, classes: np.ndarray, rows: slice) -> np.ndarray:
    """Return rows of a layer as probabilities of ``classes``, float32 (K, rows, W)."""
    if layer.scores is None:
        return fuse.one_hot(layer.labels[rows], classes, confidence=layer.confidence)
    part = fuse.resample(layer.scores.data, layer.size, rows)
    if len(classes) == len(part):
        return part
    result = np.zeros((len(classes), *part.shape[1:]), np.float32)
    result[np.searchsorted(classes, layer.scores.classes)] = part
    return result


def _hard(layers: Sequence[_Layer], plan: Plan, limits: _Limits
          ) -> tuple[np.ndarray, np.ndarray]:
    if plan.rule != "smaller-area":
        labels, reasons = zip(*(_labels(layer, plan, limits) for layer in layers))
        return fuse.fuse_labels(labels, rule=plan.rule, reasons=reasons)
    flat = [_labels(layer, plan, limits) for layer in layers if not layer.cam]
    label, why = _smaller_area([layer for layer in layers if layer.cam],
                               [labels for labels, _ in flat], layers[0].size, plan, limits)
    if flat:  # an input's own reason says more than that there is no region
        _, reasons = fuse.fuse_labels([labels for labels, _ in flat], rule="priority",
                                      reasons=[r for _, r in flat])
        why = np.where(label == IGNORE, reasons, why)
    return label, why


def _smaller_area(cams: Sequence[_Layer], labels: Sequence[np.ndarray], size: tuple[int, int],
                  plan: Plan, limits: _Limits) -> tuple[np.ndarray, np.ndarray]:
    classes = {c for cam in cams for c in _heard(cam, limits)}
    classes |= {c for one in labels for c in np.unique(one).tolist() if c != IGNORE}

    def region(cls: int) -> np.ndarray:
        found = np.zeros(size, bool)
        for one in labels:
            found |= one == cls
        for cam in cams:
            if cls in _heard(cam, limits):
                one = cam.scores.data[int(np.searchsorted(cam.scores.classes, cls))]
                found |= fuse.cam_region(one, size, threshold=plan.threshold,
                                         least=plan.min_score)
        return found

    return fuse.smaller_area(classes, region, size)


def _heard(cam: _Layer, limits: _Limits) -> list[int]:
    """Return the classes of a cam that its tags and --opinions let through."""
    return [c for c in cam.classes() if (limits.allowed is None or c in limits.allowed)
            and (cam.hears == "all" or (c in limits.things) == (cam.hears == "things"))]


def _labels(layer: _Layer, plan: Plan, limits: _Limits) -> tuple[np.ndarray, np.ndarray]:
    """Return a layer as labels, and why it has no opinion where it has none."""
    if layer.cam:
        return _smaller_area([layer], [], layer.size, plan, limits)
    if layer.scores is None:
        label = layer.labels
        reasons = np.where(label == IGNORE, Reason.NO_OPINION, Reason.RULE).astype(np.uint8)
    else:
        classes = layer.scores.classes
        label = np.full(layer.size, IGNORE, fuse.label_type(classes))
        reasons = np.zeros(layer.size, np.uint8)
        for rows in _strips(layer.size, len(classes)):
            scores, why = limits.zero(fuse.resample(layer.scores.data, layer.size, rows),
                                      classes, rows.start)
            label[rows], reasons[rows] = fuse.decide(scores, classes, min_score=plan.min_score)
            reasons[rows][why > 0] = why[why > 0]
    label = limits.present(label, reasons)
    if layer.hears != "all":
        things = np.isin(label, [*limits.things]) == (layer.hears == "things")
        heard = np.where(things, label, IGNORE).astype(label.dtype)
        label = _noted(label, heard, reasons, Reason.UNHEARD)
    return label, reasons


# -- what else the records hold ------------------------------------------------------------


def _pass_on(stack: Stack, limits: _Limits) -> None:
    """Add what only other inputs hold, and what people gave for all that was used."""
    for record in stack.inputs:
        for kind in record.kinds() - stack.kinds() - {*limits.plan.writes}:
            if record.canonical or kind not in KINDS or kind == "image":
                stack.members.update({s: m for s, m in record.members.items()
                                      if kind_of(s) == kind})
            else:
                stack.set(kind, record.get(kind))
        if record is not stack.inputs[0]:
            stack.supervision = union(stack.supervision, record.supervision or (
                {} if record.canonical else spent(record)))
    for kind, record in limits.used:
        cost = record.supervision.get(kind)
        if cost is None and not (record.canonical and kind in limits.plan.told):
            cost = spent(record)[kind]
        if cost is not None:
            stack.supervision = union(stack.supervision, {kind: cost})
    for kind in limits.plan.counted:
        stack.supervision.pop(kind, None)
