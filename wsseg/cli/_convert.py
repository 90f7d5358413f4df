"""What ws-cat does to a record, and how it puts several inputs in a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._parallel import Ready, attempt
from wsseg.cli._supervision import STRONG, spent
from wsseg.errors import ExitStatus, RecordError, UsageError
from wsseg.io.atomic import refuse_link
from wsseg.io.codec import check_classes
from wsseg.io.header import End, Header
from wsseg.io.kinds import KINDS
from wsseg.io.places import is_file_form
from wsseg.io.record import Record
from wsseg.io.source import Source
from wsseg.io.supervision import digest_of, together, union


def open_all(flow: Flow, form: str | None, split: str | None, as_kind: str | None) -> Source:
    """Open every input, one after the other as one source.

    Raises UsageError when a split is given for what has none, or when the inputs' classes
    differ.
    """
    if form is None and split is not None:
        raise UsageError("--split belongs to --from; use --keys to choose records by a list")
    if form is None:
        sources = [flow.open(place, as_kind=as_kind) for place in flow.inputs]
    else:
        from wsseg.data import open_dataset

        if "-" in flow.inputs:
            raise UsageError(f"--from {form} needs the data set's path as INPUT")
        sources = [open_dataset(form, place, split=split, classes=flow.classes)
                   for place in flow.inputs]
    for source in sources:
        for note in getattr(source, "notes", ()):
            flow.env.say(note)
    if len(sources) == 1:
        return sources[0]
    return (_Shelf if all(hasattr(s, "get") for s in sources) else _Row)(sources)


class _Row:
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.parts = sources
        self.where = " ".join(s.where for s in sources)
        self.end: End | None = None
        first = sources[0].header
        for source in sources[1:]:
            if source.header.recipe()[1:] != first.recipe()[1:]:
                raise UsageError(f"{source.where} has other classes than {sources[0].where}")
        counts = [s.header.count for s in sources]
        self.header: Header = replace(
            first, kinds=tuple(sorted({k for s in sources for k in s.header.kinds})),
            count=None if None in counts else sum(counts),
            supervision=union(*(s.header.supervision for s in sources)))

    def __iter__(self) -> Iterator[Record]:
        seen: set[str] = set()
        for source in self.parts:
            for record in source:
                if record.key in seen:
                    raise UsageError(f"{record.key} is in two of the inputs")
                seen.add(record.key)
                yield record
        self.end = self._sum(len(seen))

    def _sum(self, records: int) -> End:
        ends = [s.end for s in self.parts if s.end]
        spent = together(*(e.supervision for e in ends))
        having = {kind: [e for e in ends if kind in e.supervision] for kind in spent}
        return End(records, sum(e.failed for e in ends), "", "", spent, labelled={
            kind: digest_of(sum(int(e.labelled[kind], 16) for e in holders))
            for kind, holders in having.items() if all(kind in e.labelled for e in holders)})


class _Shelf(_Row):
    """Several sources that can be looked up by key."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__(sources)
        self._holder: dict[str, Source] = {}
        for source in sources:
            for key in source.keys():
                if self._holder.setdefault(key, source) is not source:
                    raise UsageError(f"{key} is in two of the inputs: {self._holder[key].where} "
                                     f"and {source.where}")
        if all(s.end for s in sources):
            self.end = self._sum(len(self._holder))

    def keys(self) -> list[str]:
        return list(self._holder)

    def get(self, key: str) -> Record:
        return self._holder[key].get(key)

    def check_complete(self) -> None:
        for source in self.parts:
            source.check_complete()


def export(flow: Flow, source: Source, step: Callable[[Record], Record], form: str | None,
           like: str | None) -> ExitStatus:
    """Write every record in a foreign form. Raises UsageError where that cannot be."""
    from wsseg.data.export import WRITERS

    if form is None:
        raise UsageError("--like belongs to --to coco or coco-panoptic")
    folder = Path(flow.output)
    refuse_link(folder)
    if flow.output == "-" or is_file_form(flow.output):
        raise UsageError(f"--to {form} writes a folder: name one with -o")
    if flow.mode == "resume":
        raise UsageError(f"--to {form} cannot go on: use --overwrite")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and flow.mode == "new":
        raise UsageError(f"{folder} exists: name another, or add --overwrite")
    writer = WRITERS[form](folder, source.header.classes or flow.classes, like)

    def one_by_one(work: Callable[[Record], None], items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            yield item.value if isinstance(item, Ready) else attempt(work, item)

    for _ in flow.map(lambda record: writer.add(step(record)), source, through=one_by_one):
        pass
    if flow.cut is None:
        writer.finish()
    return flow.status()


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise UsageError for what is no kind; an unknown suffix is one with a dot before it."""
    for kind in kinds:
        if kind not in KINDS and not kind.startswith("."):
            raise UsageError(f"--only {kind}: no such kind; there are {', '.join(KINDS)}, and "
                             ".SUFFIX for what wsseg does not know")


def parse_remap(text: str | None) -> dict[int, int]:
    """Parse ``FROM=TO,...``. Raises UsageError for anything else."""
    result = {}
    for part in text.split(",") if text else ():
        old, equals, new = part.partition("=")
        if not (equals and old.strip().isdecimal() and new.strip().isdecimal()
                and int(old) < 65536 and int(new) < 65536):
            raise UsageError(f"--remap {part!r} is not FROM=TO with class ids")
        result[int(old)] = int(new)
    return result


def renamed(names: Sequence[str] | None, text: str | None) -> tuple[str, ...] | None:
    """Return class names with those of ``OLD=NEW,...`` changed, None where none are.

    Raises UsageError for an OLD that no class has, and for a NEW that another class has.
    """
    if not text:
        return None
    pairs = dict(part.partition("=")[::2] for part in text.split(","))
    for old, new in pairs.items():
        if not new or old not in (names or ()):
            raise UsageError(f"--rename {old}={new}: " + (
                f"no class is called {old}" if new else "it is OLD=NEW"))
    found = tuple(pairs.get(name, name) for name in names or ())
    again = next((n for n in found if found.count(n) > 1), None)
    if again is not None:
        raise UsageError(f"--rename: two classes would be called {again}")
    return found


def step(record: Record, *, truth: bool, only: frozenset[str], exif: str | None,
         remap: dict[int, int], colours: str | None, edited: bool, instances: bool = False,
         labels: bool = False) -> Record:
    """Convert one record as ws-cat's options say; count what a person labelled in it."""
    if record.expected is not None and not record.proven \
            and record.stored().digest != record.expected:
        if not edited:
            raise RecordError("is not what was written: damaged, or changed by hand (--edited "
                              "takes it as it is)")
        record.canonical = False
    if colours is not None:
        _from_colours(record, colours)
    if labels:
        from wsseg.cli._components import add_labels

        add_labels(record)
    if truth:
        record.supervision = {**spent(record, truth=True), **record.supervision}
    if exif is not None and "image" in record:
        _turn(record, exif)
    if remap and "label" in record:
        label = record.get("label")
        table = np.arange(max(int(label.max(initial=0)), *remap, *remap.values()) + 1)
        for old, new in remap.items():
            table[old] = new
        found = table[label]
        check_classes(found, record.names)
        record.set("label", found.astype(np.uint8 if found.max(initial=0) < 256 else np.uint16))
    if instances:
        from wsseg.cli._components import add_instances

        add_instances(record)
    missing = [k for k in only if k in KINDS and k not in record]
    if missing:
        raise RecordError(f"has no {missing[0]} (it holds "
                          f"{', '.join(sorted(record.kinds())) or 'nothing'})")
    if only:
        _forget(record, only)
    return record


def _forget(record: Record, only: frozenset[str]) -> None:
    """Labels that are left out of a label set cost nothing in it."""
    for kind in list(record.supervision):
        held = {*STRONG} if kind == "masks" else {kind}
        if held & record.kinds() and not held & only:
            del record.supervision[kind]


def _turn(record: Record, exif: str) -> None:
    from wsseg.io.photo import decode_photo, encode_photo, exif_orientation

    (suffix, data), = record.read("image").items()
    if exif_orientation(data) != 1:
        record.drop("image")
        record.members["image.png"] = encode_photo(decode_photo(data, exif=exif))


def _from_colours(record: Record, name: str) -> None:
    """Replace a colour mask by class ids; a colour of no class is refused with its count."""
    from wsseg.data.colours import palette
    from wsseg.io.photo import decode_photo

    (_, data), = record.read("label").items()
    pixels = decode_photo(data).astype(np.int64) @ (65536, 256, 1)
    colours, ids = palette(name)
    codes = colours.astype(np.int64) @ (65536, 256, 1)
    order = np.argsort(codes)
    slot = np.clip(np.searchsorted(codes[order], pixels), 0, len(codes) - 1)
    odd = codes[order][slot] != pixels
    if odd.any():
        y, x = np.argwhere(odd)[0]
        raise RecordError(f"{int(odd.sum())} pixels have no colour of {name}, the first at x={x}, "
                          f"y={y}: #{int(pixels[y, x]):06x}")
    record.set("label", ids[order][slot].astype(np.uint8))
