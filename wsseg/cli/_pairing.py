"""Predictions and truth met by key: which records are scored, and which are not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wsseg.cli._differ import refuse_other_classes
from wsseg.cli._flow import Flow
from wsseg.errors import IncompleteError, UsageError
from wsseg.io.folder import FolderSource
from wsseg.io.record import Record
from wsseg.io.source import Source

_BATCH = 64  # a task costs half a millisecond, a pair of maps a fifth


@dataclass(frozen=True)
class Pair:
    """One key's prediction (None: there is none) and truth."""

    key: str
    prediction: Record | None
    truth: Record


@dataclass(frozen=True)
class Scope:
    """What was scored. keys: in the order of the prediction, until they are put in order;
    unscored: true records without prediction; untrue: the reverse (None where a stream does not
    tell)."""

    prediction: str
    truth: str
    names: tuple[str, ...] | None
    keys: tuple[str, ...]
    unscored: int | None
    untrue: int | None
    failed: int

    @property
    def records(self) -> int:
        return len(self.keys)

    @property
    def digest(self) -> str:
        """Of the scored keys, in any order."""
        return hashlib.sha256("\n".join(sorted(self.keys)).encode()).hexdigest()[:12]

    def ordered(self, found: list[Any]) -> tuple[Scope, list[Any]]:
        """Return this with ascending keys, and what was found of the records in that order, so
        that no figure depends on the order of a stream or on shards."""
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        return (replace(self, keys=tuple(self.keys[i] for i in order)),
                [found[i] for i in order] if found else [])

    def class_name(self, number: int) -> str:
        return self.names[number] if self.names else str(number)


#: Class names -> step that compares one pair.
MakeStep = Callable[[Sequence[str] | None], Callable[[Pair], Any]]


class _Taker:
    """Hands on what the step finds, and remembers the keys."""

    def __init__(self, flow: Flow, step: Callable[[Pair], Any],
                 take: Callable[[Any], None]) -> None:
        self._flow, self._step, self._take = flow, step, take
        self.keys: dict[str, None] = {}

    def __call__(self, source: Source) -> None:
        for key, found in self._flow.map(self._step, source, batch=_BATCH):
            self.keys[key] = None
            self._take(found)


def compare(flow: Flow, missing: str, make_step: MakeStep, take: Callable[[Any], None]) -> Scope:
    """Compare every record that both places hold, and those that ``missing`` says.

    flow: its inputs are the prediction and the truth. make_step: the step returns the key and
    what it found; take: is given that, in the order of ``Scope.keys``. Raises UsageError when
    there is no record, unless it is a shard that has none, or when the places' class names
    disagree; IncompleteError for an input that breaks off before its first record.
    """
    prediction, truth = (flow.open(place, as_kind="label") for place in flow.inputs)
    refuse_other_classes(prediction, truth)
    ours, names = prediction.header.classes, truth.header.classes
    names = names if names is not None else ours
    taker = _Taker(flow, make_step(names), take)
    flow.lenient = missing != "error"
    if not (hasattr(prediction, "get") or hasattr(truth, "get")):
        raise UsageError("one of PREDICTION and TRUTH must be a directory or an HDF5 file")
    _paired(flow, taker, prediction, truth, missing)
    unscored = untrue = None
    if hasattr(truth, "get"):
        chosen = [k for k in flow.selected(truth)
                  if k not in taker.keys and k not in flow.failed_keys]
        unscored = len(chosen)
        if missing == "error" and flow.cut is None:
            _refuse(chosen)
        if missing == "wrong" and chosen:
            _all_wrong(flow, taker, truth, set(chosen))
            unscored = 0
    if hasattr(prediction, "get"):
        untrue = len(set(flow.selected(prediction)) - set(taker.keys) - flow.failed_keys)
    if not taker.keys and flow.cut is not None:
        raise IncompleteError(flow.cut)
    if not taker.keys and (flow.failed or unscored or untrue or not flow.shard):
        raise UsageError("no record was scored" + ("" if flow.failed else ": do "
                         f"{prediction.where} and {truth.where} hold the same keys?"))
    return Scope(prediction.where, truth.where, names, tuple(taker.keys), unscored, untrue,
                 flow.failed)


def _refuse(lacking: Sequence[str]) -> None:
    if lacking:
        raise UsageError(f"{len(lacking)} true records have no prediction: "
                         f"{', '.join(lacking[:5])}{' ...' if len(lacking) > 5 else ''} "
                         "(--missing skip or wrong, or choose records with --keys)")


def _paired(flow: Flow, taker: _Taker, prediction: Source, truth: Source, missing: str) -> None:
    """Compare what both hold; the one that is a stream leads."""
    swap = not hasattr(truth, "get")
    lead, other = (truth, prediction) if swap else (prediction, truth)
    there = set(other.keys())
    lacking: list[str] = []
    if not swap or missing == "skip":
        flow.only = there.__contains__

    def pair(record: Record) -> Pair:
        if record.key not in there:
            lacking.append(record.key)
            return Pair(record.key, None, record)
        found = other.get(record.key)
        return Pair(record.key, *((found, record) if swap else (record, found)))

    flow.wrap = pair
    flow.portable = isinstance(other, FolderSource)
    try:
        taker(lead)
    finally:
        flow.only = flow.wrap = None
    if missing == "error" and flow.cut is None:
        _refuse(lacking)


def _all_wrong(flow: Flow, taker: _Taker, truth: Source, keys: set[str]) -> None:
    flow.only = keys.__contains__
    flow.wrap = lambda record: Pair(record.key, None, record)
    taker(truth)
    flow.only = flow.wrap = None
