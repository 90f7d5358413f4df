"""What a place holds, seen without decoding it; and whether it is sound.

Sizes come from the headers of photos and PNGs, where there are any: of all records of a
stream, which pass by anyway, and of a sample where there is an index.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsseg.errors import RecordError, UnsafeError, WssegError
from wsseg.io import codec
from wsseg.io.folder import FolderSource
from wsseg.io.header import Total
from wsseg.io.kinds import KINDS, RECORDS, kind_of
from wsseg.io.photo import photo_size
from wsseg.io.png import SIGNATURE
from wsseg.io.record import FileMember, Record, Supervision, ValueMember
from wsseg.io.source import Source
from wsseg.io.supervision import by_kind

_SAMPLE = {"directory": 100, "foreign directory": 100, "HDF5 file": 16}
_DECODED = 8  # records without a picture that are decoded to see their size


def form_of(source: Source) -> str:
    """Name the form of a place."""
    if isinstance(source, FolderSource):
        return "directory" if source.canonical else "foreign directory"
    if hasattr(source, "get"):
        return "HDF5 file"
    return "stream" if source.where == "standard input" else "tar file"


@dataclass(frozen=True)
class Seen:
    """One sound record. size: (H, W) if it says."""

    key: str
    kinds: tuple[str, ...]
    size: tuple[int, int] | None = None
    digest: str = ""
    supervision: Supervision = field(default_factory=dict)


class Survey:
    """Running totals of what a place holds.

    keys: the records to look at, None for a stream, whose records are then given to ``glance``
    or ``passed``. Raises UnsafeError for pictures too large to decode.
    """

    def __init__(self, source: Source, keys: Sequence[str] | None) -> None:
        self.keys = keys
        self._source, self._form = source, form_of(source)
        self._records, self._sized, self._odd = 0, 0, 0
        self._kinds: Counter[str] = Counter()
        self._low: tuple[int, ...] | None = None
        self._high: tuple[int, ...] | None = None
        for key in keys or ():
            self._add(_kinds_at(source, key))
        count = min(len(keys or ()), _SAMPLE.get(self._form, 0))
        for i in range(count):
            key = keys[i * len(keys) // count]
            try:
                self._measure(source.get(key))
            except RecordError:
                self._odd += 1
            except UnsafeError as error:
                raise UnsafeError(f"{key}: {error}") from None

    def _add(self, kinds: Iterable[str]) -> None:
        self._records += 1
        self._kinds.update(kinds)

    def _measure(self, record: Record) -> None:
        try:
            if self._sized < _DECODED or any(map(_pictured, record.members)):
                self._fit(glance_size(record))
        except RecordError:
            self._odd += 1
        except UnsafeError as error:
            raise UnsafeError(f"{record.key}: {error}") from None

    def _fit(self, size: tuple[int, int] | None) -> None:
        if size is not None:
            self._sized += 1
            self._low = tuple(map(min, size, self._low or size))
            self._high = tuple(map(max, size, self._high or size))

    def glance(self, record: Record) -> None:
        """Add a record of a stream without decoding it."""
        self._add(record.kinds())
        self._measure(record)

    def passed(self, seen: Any) -> None:
        """Add a record of a stream that was decoded (a Seen), or that could not be."""
        if self.keys is None:
            self._add(getattr(seen, "kinds", ()))
            self._fit(getattr(seen, "size", None))

    def facts(self, cut: str | None) -> dict[str, Any]:
        """Return what is known of the place as JSON holds it. cut: why it is incomplete."""
        header, end = self._source.header, self._source.end
        spent = {k: list(v) for k, v in by_kind(header.supervision,
                                                end.given if end else {}).items()}
        sizes = {"low": list(self._low), "high": list(self._high), "of": self._sized} \
            if self._low and self._high else None
        return {"place": self._source.where, "form": self._form, "why": cut,
                "complete": None if self._form == "foreign directory" else cut is None,
                "records": self._records, "kinds": dict(sorted(self._kinds.items())),
                "sizes": sizes, "unreadable": self._odd, "ignore": header.ignore,
                "classes": None if header.classes is None else list(header.classes),
                "supervision": spent, "labels": _verdict(spent),
                "failed": end.failed if end else None, "history": list(header.history),
                "tools": [str(entry.get("tool")) for entry in header.history]}


def _verdict(spent: dict[str, list[int]]) -> str:
    """Say which labels people gave."""
    if not spent:
        return "none recorded"
    text = ", ".join(f"{kind} of {images:,} images ({classes:,} classes, {objects:,} objects)"
                     for kind, (images, classes, objects) in sorted(spent.items()))
    return text + (f"; strong labels of {spent['masks'][0]:,} images used" if "masks" in spent
                   else "; no strong label used")


def _kinds_at(source: Source, key: str) -> Iterable[str]:
    if isinstance(source, FolderSource):
        return {kind_of(suffix) if "." in suffix or suffix in ("jpg", "png") or source.canonical
                else "image" for suffix in source.files(key)}
    return source.kinds_at(key)


def _pictured(suffix: str) -> bool:
    return suffix.endswith(("jpg", "png"))


def glance_size(record: Record) -> tuple[int, int] | None:
    """Return (H, W) of a record, from the header of a picture if it has one."""
    for suffix in sorted(filter(_pictured, record.members), key=lambda s: kind_of(s) != "image"):
        member = record.members[suffix]
        if isinstance(member, ValueMember):
            return _shape(member.value)
        data = member.read() if isinstance(member, FileMember) else member
        if kind_of(suffix) == "image":
            return photo_size(data)
        if len(data) < 24 or not data.startswith(SIGNATURE):
            raise RecordError(f"{suffix} is no PNG")
        width, height = struct.unpack(">II", data[16:24])
        return height, width
    sizes = (_shape(record.get(kind)) for kind in sorted(record.kinds() & set(KINDS)))
    return next(filter(None, sizes), None)


def check_record(record: Record, *, ignore: int = 255) -> Seen:
    """Decode everything a record holds and compare its parts with each other.

    Raises RecordError for the first thing that is wrong.
    """
    record.members = {s: m.read() if isinstance(m, FileMember) else m
                      for s, m in record.members.items()}
    size = first = None
    for kind in sorted(record.kinds() & set(KINDS), key=lambda k: (k != "image", k)):
        value = record.get(kind)
        shape = _shape(value)
        if size is not None and shape is not None and shape != size:
            raise RecordError(f"{kind} is {shape[0]}x{shape[1]}, but {first} is "
                              f"{size[0]}x{size[1]}")
        if size is None and shape is not None:
            size, first = shape, kind
        _check_ids(kind, value, record.names, ignore)
        _check_inside(kind, value, size)
    digest = record.expected if record.proven else None
    if digest is None:
        digest = record.pack().digest if record.canonical else ""
    return Seen(record.key, tuple(record.kinds()), size, digest, record.supervision)


def _shape(value: Any) -> tuple[int, int] | None:
    """Return (H, W) of a decoded value, None if it does not say."""
    value = getattr(value, "ids", value)
    size = value.shape[:2] if hasattr(value, "shape") else getattr(value, "size", None)
    return None if size is None else tuple(size)


def _check_ids(kind: str, value: Any, names: Sequence[str] | None, ignore: int) -> None:
    """Raise RecordError if a class id has no name."""
    if names is None or kind in ("image", "conf"):
        return
    if kind in ("label", "scribble"):
        try:
            return codec.check_classes(value, names, 255 if kind == "scribble" else ignore)
        except RecordError as error:
            raise RecordError(f"{kind}: {error}") from None
    ids = [s.cls for s in value.segments] if kind == "instance" else \
        list(value) if kind in ("tags", "counts") else value.classes.tolist()
    if max(ids, default=0) >= len(names):
        raise RecordError(f"{kind}: class {max(ids)}, but there are {len(names)} classes")


def _check_inside(kind: str, value: Any, size: tuple[int, int] | None) -> None:
    """Raise RecordError for a point outside its image and a box that misses it altogether."""
    if size is None or kind not in ("points", "boxes"):
        return
    corners = value.xyxy if kind == "boxes" else value.xy[:, [0, 1, 0, 1]] + [0, 0, 1, 1]
    for i, (x0, y0, x1, y1) in enumerate(corners.tolist()):
        if x0 >= size[1] or y0 >= size[0] or x1 <= 0 or y1 <= 0:
            raise RecordError(f"{kind}[{i}] at x={x0:g}, y={y0:g} lies outside the image of "
                              f"{size[0]}x{size[1]}")


class Audit:
    """Compares records with what their place says was written.

    whole: all records will be taken, so that sums can be compared. faults: one line each.
    """

    def __init__(self, source: Source, *, whole: bool) -> None:
        self.faults: list[str] = []
        self._source, self._whole, self._total = source, whole, Total()
        self._listed: dict[str, str] | None = None
        self._seen: set[str] = set()
        if isinstance(source, FolderSource) and (source.root / RECORDS).exists() \
                and source.end is not None:
            listed = {key: digest for key, (digest, _) in source.recorded.items()}
            if len(listed) == source.end.records:
                self._listed = listed
            else:
                self._fault(f"{source.where}: {RECORDS} lists {len(listed)} of "
                            f"{source.end.records} records")

    def _fault(self, line: str) -> str:
        self.faults.append(line)
        return line

    def take(self, seen: Seen) -> str | None:
        """Add a record that was decoded; return what is wrong with it all the same."""
        self._seen.add(seen.key)
        self._total.add(seen.key, seen.digest or "0", seen.supervision)
        if self._listed is None or self._listed.get(seen.key) == seen.digest:
            return None
        return self._fault(f"{seen.key}: " + (
            "its bytes are not those that were written (wrong digest)"
            if seen.key in self._listed else f"not written by wsseg (it is not in {RECORDS})"))

    def fail(self, key: str, message: str) -> str:
        """Add a record that could not be decoded."""
        self._seen.add(key)
        return self._fault(f"{key}: {message}")

    def close(self) -> list[str]:
        """Compare the sums once all records were taken; return what is wrong with the place.

        A record that is missing makes it incomplete; it is named, but no fault.
        """
        end = self._source.end
        if not self._whole or end is None or not hasattr(self._source, "get"):
            return []  # a stream compares them itself
        missing = [f"{key}: missing" for key in self._listed or () if key not in self._seen]
        if self.faults or missing or self._total.records != end.records:
            return missing
        try:
            end.check(self._total, self._source.header, self._source.where)
        except WssegError as error:
            return [self._fault(str(error))]
        return []
