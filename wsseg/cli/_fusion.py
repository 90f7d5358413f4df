"""How ws-fuse reads several places at once, and what it was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from wsseg.cli._differ import refuse_other_classes
from wsseg.cli import _panoptic
from wsseg.cli._flow import Flow
from wsseg.cli._held import Held
from wsseg.cli._parts import Wholes, size_of, whole
from wsseg.cli._supervision import carried
from wsseg.errors import RecordError, UsageError
from wsseg.io.header import End, Header
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.source import Source
from wsseg.io.supervision import covered, kind_of_entry, union
from wsseg.refine.fuse import LABEL_RULES, SOFT_RULES

MAPS = ("score", "cam", "label", "instance")


@dataclass(frozen=True)
class Plan:
    """What ws-fuse was asked for. order: kinds of an input, the preferred first; cams: scores
    are activations; things: class ids, None for all but the background; told: kinds of labels
    that the header names; counted: those that it has for all records; the rest as in the options
    of the same name."""

    rule: str
    order: tuple[str, ...] = MAPS
    cams: bool = False
    weights: tuple[float, ...] | None = None
    confidence: tuple[float, ...] = ()
    threshold: float = 0.5
    opinions: tuple[str, ...] = ()
    things: frozenset[int] | None = None
    min_score: float = 0.0
    absent: str | None = None
    outside: str | None = None
    fill_below: float | None = None
    instances: bool = False
    reasons: bool = False
    write: str = "label"
    box_weight: float = 1.0
    global_weight: float = 1.0
    crf: Any = None
    told: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()

    @property
    def soft(self) -> bool:
        return self.rule in SOFT_RULES

    @property
    def boxes(self) -> bool:
        """Whether boxes are needed."""
        return bool(self.outside or self.fill_below is not None or self.instances
                    or self.rule == "instance")

    @property
    def reads(self) -> tuple[str, ...]:
        return (*MAPS, "conf", *(("tags", "counts") if self.absent else ()),
                *(("boxes",) if self.boxes else ()), *(("image",) if self.crf else ()))

    @property
    def writes(self) -> tuple[str, ...]:
        if self.rule == "instance":
            return ("instance",)
        return (*(("cam" if self.cams else "score",) if self.write != "label" else ()),
                *(("label",) if self.write != "score" else ()),
                *(("instance",) if self.instances else ()), *(("conf",) if self.reasons else ()))


@dataclass
class Stack(Record):
    """The first input's record, with those of the same key in all inputs (in their order) and
    in the places of weak labels. where: how messages call the inputs."""

    inputs: tuple[Record, ...] = ()
    weak: tuple[Record, ...] = ()
    where: tuple[str, ...] = ()


class _Beside:
    """A place read beside the leading one: looked up by key, or in step if it is a stream."""

    def __init__(self, source: Source, lead: str) -> None:
        self._source, self._lead = source, lead
        self._records: Iterator[Record] | None = None
        self._passed: set[str] = set()

    def find(self, key: str) -> Record:
        """Return the record of ``key``. A stream may hold more records than are asked for.

        Raises RecordError if a directory has none, UsageError if a stream has none to come.
        """
        where = self._source.where
        if hasattr(self._source, "get"):
            try:
                return self._source.get(key)
            except KeyError:
                raise RecordError(f"is not in {where}") from None
        self._records = self._records or iter(self._source)
        for record in self._records if key not in self._passed else ():
            if record.key == key:
                return record
            self._passed.add(record.key)
        raise UsageError(f"{where} has no {key} where {self._lead} has it: streams are read in "
                         "step, so write one of them to a directory first")

    def finish(self) -> None:
        """Raise IncompleteError unless the place is complete."""
        if hasattr(self._source, "get"):
            return self._source.check_complete()
        for _ in self._records or self._source:
            pass


class _Row:
    """The leading place, with a header that speaks for all."""

    def __init__(self, lead: Source, beside: Sequence[_Beside], header: Header) -> None:
        self._lead, self._beside = lead, beside
        self.header, self.where = header, lead.where

    @property
    def end(self) -> End | None:
        return self._lead.end

    def __iter__(self) -> Iterator[Record]:
        yield from self._lead
        for other in self._beside:
            other.finish()


class _Shelf(_Row):
    """A leading place whose records can be looked up."""

    def keys(self) -> Sequence[str]:
        return self._lead.keys()

    def get(self, key: str) -> Record:
        return self._lead.get(key)

    def check_complete(self) -> None:
        for one in (self._lead, *self._beside):
            (one.finish if isinstance(one, _Beside) else one.check_complete)()


def prepare(flow: Flow, rule: str, weak: Sequence[str], options: dict[str, Any],
            parts_of: str | None = None) -> tuple[Source, Plan]:
    """Open all places as one source of Stacks and check the options against them.

    The first stream among the inputs leads, or else the first input. parts_of: a place that has
    the records whose parts the only input holds. Raises UsageError.
    """
    if (*flow.inputs, *weak).count("-") > 1:
        raise UsageError("only one input can be standard input")
    # joining no kinds: Flow then knows the place, and we add its records ourselves
    sources = [flow.open(), *(flow.join(place, f"input{i}", set())
                              for i, place in enumerate(flow.inputs[1:], start=2))]
    labels = [flow.join(place, f"weak{i}", set(), view=whole)
              for i, place in enumerate(weak, start=1)]
    sized = flow.join(parts_of, "whole", set())
    if sized is not None:
        sources = [_wholes(flow, rule, sources, sized)]
    _panoptic.check(rule, options, flow.images is not None)
    if rule == "instance":  # inputs of boxes alone are such places too
        alone = [s for s in sources if "boxes" in s.header.kinds and not {*MAPS} & {
            *s.header.kinds}]
        sources, labels = [s for s in sources if s not in alone], alone + labels
        if not sources:
            raise UsageError("--rule instance needs scores besides the boxes")
        flow.join_images()
    lead = next((s for s in sources if not hasattr(s, "get")), sources[0])
    header = _header(lead, sources, labels)
    names = header.classes or flow.classes
    plan = replace(_plan(rule, options, sources, labels, names),
                   told=frozenset(map(kind_of_entry, header.supervision)),
                   counted=covered(header.supervision, map(carried, (*sources, *labels))))
    beside = {id(s): _Beside(s, lead.where) for s in (*sources, *labels) if s is not lead}
    where = tuple(s.where for s in sources)
    if sized is not None:
        many = lead.grid[0] * lead.grid[1]
        plan, where = replace(plan, opinions=plan.opinions * many), where * many

    def gather(record: Record) -> Stack:
        inputs = tuple(record if s is lead else beside[id(s)].find(record.key) for s in sources)
        if sized is not None:
            inputs = tuple(record.placed(size_of(sized.get(record.key))))
        said = tuple(beside[id(s)].find(record.key) for s in labels)
        for one in (*inputs, *said):  # a folder of labels written by hand may not know them
            one.names = one.names or names
        first = inputs[0]
        return Stack(record.key, dict(first.members), names, first.canonical,
                     dict(first.supervision), inputs=inputs, weak=said, where=where)

    flow.wrap = gather
    cls = _Shelf if hasattr(lead, "get") else _Row
    return cls(lead, list(beside.values()), header), plan


def _wholes(flow: Flow, rule: str, sources: Sequence[Source], sized: Source) -> Wholes:
    """Return the parts of one input as wholes. Raises UsageError for what cannot be."""
    _require(rule in LABEL_RULES and rule != "agree", "--parts-of puts label maps together by "
             "--rule smaller-area, priority or vote, which says nothing where two parts contradict")
    _require(len(sources) == 1, "--parts-of takes one INPUT")
    _require(hasattr(sized, "get"), f"--parts-of: {sized.where} is a stream, in which nothing can "
             "be looked up: write it to a directory or .h5 file first")
    source = sources[0] if hasattr(sources[0], "get") else Held(sources[0])
    found = whole(source)
    _require(isinstance(found, Wholes), f"--parts-of: {source.where} holds no parts, called "
             "KEY@ROW-COLUMN as by ws-weaken --crops")
    found.header = replace(found.header, kinds=("label",))  # what else parts hold stays behind
    return found


def _header(lead: Source, sources: Sequence[Source], labels: Sequence[Source]) -> Header:
    """Return a header that speaks for all inputs.

    Its history is the first input's, after what the others' has besides. Its supervision is the
    union of theirs. Raises UsageError for different classes.
    """
    headers = [s.header for s in sources]
    named = [s for s in (*sources, *labels) if s.header.classes is not None]
    for source in named[1:]:
        refuse_other_classes(named[0], source)
    history = {}
    for header in (*headers[1:], *(s.header for s in labels)):
        history.update({e["id"]: e for e in header.history})
    for entry in headers[0].history:
        history.pop(entry["id"], None)
    return replace(lead.header, kinds=tuple(sorted({k for h in headers for k in h.kinds})),
                   classes=named[0].header.classes if named else None,
                   supervision=union(*(s.header.supervision for s in (*sources, *labels))),
                   history=(*history.values(), *headers[0].history))


def _plan(rule: str, options: dict[str, Any], sources: Sequence[Source],
          labels: Sequence[Source], names: tuple[str, ...] | None) -> Plan:
    """Turn options into a Plan. Raises UsageError for any that contradict."""
    count, soft = len(sources), rule in SOFT_RULES
    options = {k: v for k, v in options.items() if v is not None}
    if "write" not in options:
        options["write"] = "both" if soft else "label"
    for name in ("weights", "confidence"):
        if name in options:
            options[name] = _numbers(name, options[name])
    options["opinions"] = tuple(filter(None, options.get("opinions", "").split(",")))
    options["things"] = _things(options.get("things"), names)
    use = options.pop("use", None)
    options["crf"] = _panoptic.crf_of(options.pop("pairwise", None))
    plan = Plan(rule, (use,) if use else _order(rule, "min_score" in options), **options)
    if (rule == "weighted") > (plan.weights is not None):
        raise UsageError("--rule weighted needs --weights")
    _require(plan.weights is None or rule in ("weighted", "product"),
             "--weights belongs to --rule weighted or product")
    _require(soft or not plan.confidence, f"--confidence has no meaning for --rule {rule}")
    _require(soft or plan.write == "label", f"--rule {rule} makes labels, no scores")
    _require(not soft or not plan.opinions, f"--opinions has no meaning for --rule {rule}")
    for name, got, fits in (("weights", plan.weights or (), (0, count)),
                            ("opinions", plan.opinions, (0, count)),
                            ("confidence", plan.confidence, (0, 1, count))):
        _require(len(got) in fits, f"--{name} has {len(got)} values for {count} inputs")
    _require({*plan.opinions} <= {"all", "things", "stuff"},
             "--opinions takes all, things or stuff for each input")
    _require(all(0 <= p <= 1 for p in plan.confidence), "--confidence is not in [0, 1]")
    _require(all(isfinite(w) and w >= 0 for w in plan.weights or ()) and any(plan.weights or (1,)),
             "--weights must not be negative, and not all 0")
    for name in ("min_score", "fill_below", "instances", "reasons"):
        _require(plan.write != "score" or name not in options or options[name] is False,
                 f"--{name.replace('_', '-')} shapes labels: it has no meaning for --write score")
    _require(plan.write != "score" or {plan.absent, plan.outside} <= {None, "zero"},
             "only --absent zero and --outside zero have a meaning for --write score")
    _require(plan.outside != "background" or background_id(names) is not None,
             "--outside background: these classes have no background")
    _require(plan.things is not None or background_id(names) is not None
             or not (plan.boxes or plan.opinions), "say which classes are things: --things")
    places = [s.header.kinds for s in (*sources, *labels)]
    for needed, wanted in ((plan.boxes, {"boxes"}), (plan.absent, {"tags", "counts"})):
        _require(not needed or () in places or any(wanted & {*kinds} for kinds in places),
                 f"no {' or '.join(sorted(wanted))} in any input: name their place with --weak")
    return replace(plan, cams=_only_cams(plan, sources))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise UsageError(what)


def _order(rule: str, scored: bool) -> tuple[str, ...]:
    if rule == "instance":
        return ("score", "label")
    if rule == "smaller-area":
        return ("cam", "score", "label", "instance") if scored else \
            ("cam", "label", "instance", "score")
    return MAPS if scored or rule in SOFT_RULES else ("label", "instance", "score", "cam")


def _only_cams(plan: Plan, sources: Sequence[Source]) -> bool:
    """Whether all inputs give cams, as far as their headers say what they hold."""
    found = [next((k for k in plan.order if k in s.header.kinds), None) for s in sources]
    for kind, source in zip(found, sources):
        _require(bool(kind) or not source.header.kinds, f"{source.where} holds no "
                 f"{' or '.join(plan.order)}, but {', '.join(source.header.kinds)}")
    return plan.soft and (plan.order == ("cam",) or set(found) == {"cam"})


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--{name} {text!r} is no list of numbers such as .3,.7") from None


def _things(text: str | None, names: tuple[str, ...] | None) -> frozenset[int] | None:
    """Return the ids of thing classes, None for all but the background."""
    from wsseg.data.names import DATASETS, THINGS
    from wsseg.io.jsons import class_id

    if text is None:
        text = next((name for name, known in DATASETS.items() if known == names), None)
    if text is None or text in THINGS:
        return None if text is None else frozenset(THINGS[text])
    try:
        ids = {class_id(int(word) if word.isdecimal() else word, names)
               for word in map(str.strip, text.split(","))}
    except RecordError as error:
        raise UsageError(f"--things: {error}") from None
    _require(names is None or max(ids) < len(names), f"--things: there is no class {max(ids)}")
    return frozenset(ids)
