"""Which places ws-train reads, for every task alike: INPUT, --weak, --val and the photos."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsseg.cli._differ import refuse_other_classes
from wsseg.cli._flow import Flow
from wsseg.cli._labelled import Checker, Labelled, catalogue, choose_kind, spent, strong
from wsseg.errors import UsageError
from wsseg.io.source import Catalogue
from wsseg.io.supervision import Labels
from wsseg.train.samples import Samples


@dataclass
class Data:
    """What is trained on, the strong place first, and evaluated on."""

    parts: dict[str, Labelled]
    names: tuple[str, ...]
    val: Labelled | None

    def spent(self, *more: Mapping[str, Labels]) -> dict[str, Labels]:
        """Labels spent on all parts, and more that were spent beside them."""
        return spent(self.parts.values(), *more)


def read(flow: Flow, options: Mapping[str, Any], *, first: Sequence[str], weak: Sequence[str],
         val: Sequence[str], make: Callable[..., Samples] = Samples) -> Data:
    """Open and check all places. Raises UsageError for what cannot be trained on.

    first, weak, val: kinds of label that INPUT, --weak and --val may hold, the preferred one
    first; make: called as ``Samples`` is.
    """
    place, others = flow.inputs[0], options["weak"]
    if place is None and not others:
        what = {"label": "label maps"}.get(first[0], first[0])
        raise UsageError(f"nothing to train on: name {what}, or --weak PLACE")
    if options["use"] and options["use"] not in first:
        raise UsageError(f"--use {options['use']}: INPUT's labels can be {' or '.join(first)}")
    flow.inputs = tuple(p for p in (place, *others) if p)
    if [*flow.inputs, flow.images, options["val"], options["val_images"]].count("-") > 1:
        raise UsageError("only one input can be standard input")
    sources = [strong(flow, place, options["use"])] if place else []
    sources += [catalogue(flow, w, "label") for w in others]
    names, rows = _classes(flow, sources, options["join_classes"])
    photos = None if flow.images is None else catalogue(flow, flow.images, "image")
    if photos is None and any("image" not in s.header.kinds for s in sources):
        raise UsageError("ws-train needs the photos: name their folder with --images")
    checker = Checker(flow, photos, len(names), make)
    parts, taken = {}, set()
    for number, source in enumerate(sources):
        strongest = place is not None and number == 0
        use = choose_kind(source, first if strongest else weak,
                          options["use"] if strongest else None)
        keys = flow.selected(source) if number == 0 else [
            k for k in source.keys() if k not in taken]
        taken |= set(keys)
        name = "strong" if strongest else f"weak{number}" if number > 1 else "weak"
        if not keys:
            raise UsageError(f"{source.where}: no record is left to train on")
        flow.env.say(f"{name}: {len(keys)} images, {use} of {source.where}", 1)
        parts[name] = checker.take(source, use, keys, conf=options["conf"], rows=rows[number],
                                   classes=None if rows[number] is None else len(rows[number]),
                                   truth=strongest or use == "scribble")
    return Data(parts, names, _validation_part(flow, options, photos, names, val, make))


def _validation_part(flow: Flow, options: Mapping[str, Any], photos: Catalogue | None,
                     names: Sequence[str], kinds: Sequence[str],
                     make: Callable[..., Samples]) -> Labelled | None:
    if options["val"] is None:
        if options["select"] == "best" or options["val_images"]:
            raise UsageError("--select best and --val-images need --val")
        return None
    source = catalogue(flow, options["val"], "label")
    if options["val_images"] is not None:
        photos = catalogue(flow, options["val_images"], "image")
    if photos is None and "image" not in source.header.kinds:
        raise UsageError(f"{source.where} has no photos: name their folder with --val-images")
    theirs = source.header.classes
    if theirs and theirs != tuple(names)[:len(theirs) if options["join_classes"] else None]:
        odd = next((i for i, (a, b) in enumerate(zip(theirs, names)) if a != b), None)
        raise UsageError(f"{source.where} has other classes than are trained: " + (
            f"{len(theirs)}, not {len(names)}" if odd is None else
            f"class {odd} is {theirs[odd]!r} there and {names[odd]!r} here"))
    return Checker(flow, photos, len(names), make).take(
        source, choose_kind(source, kinds, None), source.keys())


def _classes(flow: Flow, sources: Sequence[Catalogue], join: bool
             ) -> tuple[tuple[str, ...], list[list[int] | None]]:
    """Return the net's class names, and for each place the numbers that its own have there."""
    lists = [s.header.classes or flow.classes for s in sources]
    known = next((names for names in lists if names), None)
    if known is None:
        raise UsageError("how many classes are there? Name them: --classes voc, or a file")
    union = tuple(dict.fromkeys(n for names in lists for n in names or known)) if join else known
    if len(union) > 255:
        raise UsageError(f"{len(union)} classes: 255 means no label, so there can be 255 at most")
    if join:
        return union, [[union.index(n) for n in names or known] for names in lists]
    named = [source for source in sources if source.header.classes]
    for source in named[1:]:
        refuse_other_classes(named[0], source)
    return tuple(known), [None] * len(sources)


def class_weight(path: str | None, classes: int) -> list[float] | None:
    """Read the weights of --class-weight. Raises UsageError."""
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            values = [float(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"--class-weight {path}: {error}") from None
    if len(values) != classes or not all(0 <= v < math.inf for v in values):
        raise UsageError(f"--class-weight {path} must hold {classes} numbers of 0 or more")
    if not any(values):
        raise UsageError(f"--class-weight {path}: no class has a weight above 0")
    return values
