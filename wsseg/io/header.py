"""What a place says about itself: the header before its records and the end after them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from wsseg.errors import IncompleteError, RecordError, WssegError
from wsseg.io import jsons
from wsseg.io.record import Supervision
from wsseg.io.supervision import digest_of, is_count, is_entry, load_supervision, number_of

FORMAT = 1


@dataclass(frozen=True)
class Header:
    """First member of every place.

    kinds: kinds its records hold, sorted, () if unknown; classes: class names, index = id;
    count: number of records if known; history: one entry per tool, oldest first; supervision:
    labels already spent on what made these records (a trained model), KIND or KIND@DIGEST ->
    [images, classes, objects], as in ``io.supervision``.
    """

    kinds: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    ignore: int = 255
    count: int | None = None
    history: tuple[dict[str, Any], ...] = ()
    supervision: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def dump(self) -> bytes:
        """Return the bytes of ``__wsseg__/header.json``."""
        value: dict[str, Any] = {"wsseg": FORMAT, "kinds": list(self.kinds),
                                 "ignore": self.ignore, "history": list(self.history)}
        if self.classes is not None:
            value["classes"] = list(self.classes)
        if self.count is not None:
            value["count"] = self.count
        if self.supervision:
            value["supervision"] = {k: list(v) for k, v in self.supervision.items()}
        return jsons.dump(value, indent=1)

    @staticmethod
    def load(data: bytes) -> Header:
        """Parse a header. Raises RecordError if it is not one of ours."""
        value = jsons.parse(data)
        if not isinstance(value, dict) or not isinstance(value.get("wsseg"), int):
            raise RecordError("not a wsseg header")
        if value["wsseg"] > FORMAT:
            raise RecordError(f"written by a later wsseg (format {value['wsseg']}; this one "
                              f"reads up to {FORMAT})")
        try:
            classes = value.get("classes")
            names = (*value["kinds"], *(classes or ()),
                     *(e[name] for e in value["history"] for name in ("tool", "id")))
            lists = [e["arguments"] for e in value["history"]]
            if (not all(isinstance(n, str) for n in names)
                    or not all(isinstance(v, list) for v in lists)
                    or value.get("count") is not None and not is_count(value["count"])
                    or not is_count(value["ignore"]) or value["wsseg"] is True):
                raise TypeError("a name, list or number of another type")
            return Header(tuple(value["kinds"]), None if classes is None else tuple(classes),
                          value["ignore"], value.get("count"), tuple(value["history"]),
                          load_supervision(value.get("supervision", {})))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"bad wsseg header ({error!r})") from None

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(replace(self, count=None).dump()).hexdigest()

    def recipe(self) -> list[Any]:
        """What must be equal for a run to be resumed: how every record is made."""
        return [[{k: v for k, v in e.items() if k not in ("inputs", "id", "previous")}
                 for e in self.history], self.classes, self.ignore]


def history_entry(tool: str, version: str, arguments: list[str], parameters: dict[str, Any],
                  inputs: dict[str, Header]) -> dict[str, Any]:
    """Describe one tool's run, with no time, host or path, so that equal runs are equal bytes.

    inputs: role -> header of each place read, of which digest and last entry are recorded.
    """
    entry = {"tool": tool, "version": version, "arguments": arguments, "parameters": parameters,
             "inputs": {role: header.digest for role, header in inputs.items()},
             "previous": [h.history[-1]["id"] for h in inputs.values() if h.history]}
    entry["id"] = hashlib.sha256(jsons.dump(entry)).hexdigest()[:12]
    return entry


class Total:
    """Running totals of a place, independent of the order of its records.

    The digest is the sum of the records' SHA-256 modulo 2**256: shards add up exactly. So do
    the sums of the keys of the records that carry each kind of label.
    """

    def __init__(self) -> None:
        self.records = 0
        self.failed = 0
        self.sum = 0
        self.supervision: dict[str, tuple[int, ...]] = {}
        self.keys: dict[str, int] = {}

    def add(self, key: str, digest: str, supervision: Supervision) -> None:
        self.records += 1
        self.sum = (self.sum + int(digest, 16)) % (1 << 256)
        self.label(key, supervision)

    def label(self, key: str, supervision: Supervision) -> None:
        """Add the labels of a record alone."""
        number = number_of(key) if supervision else 0
        for kind, (classes, objects) in supervision.items():
            images, c, o = self.supervision.get(kind, (0, 0, 0))
            self.supervision[kind] = (images + 1, c + classes, o + objects)
            self.keys[kind] = self.keys.get(kind, 0) + number

    @property
    def given(self) -> dict[str, tuple[int, ...]]:
        """KIND@DIGEST -> (images, classes, objects) of all labels."""
        return {f"{k}@{digest_of(self.keys[k])}": n for k, n in self.supervision.items()}

    def end(self, header: Header, error: str | None = None) -> End:
        return End(self.records, self.failed, f"sha256sum:{self.sum:064x}", header.digest,
                   dict(self.supervision), error, {k: digest_of(n) for k, n in self.keys.items()})


@dataclass(frozen=True)
class End:
    """Last member of every place; its presence is what makes the place complete.

    digest: sum of the records' digests; header: digest of the header; supervision: kind ->
    (images, classes, objects), summed over the records; error: why the writer stopped, which
    makes the place incomplete after all; labelled: kind -> digest of the keys of the records that
    carry it, empty for a place that was written before there were such.
    """

    records: int
    failed: int
    digest: str
    header: str
    supervision: dict[str, tuple[int, ...]] = field(default_factory=dict)
    error: str | None = None
    labelled: dict[str, str] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, tuple[int, ...]]:
        """The labels that the records themselves carry, KIND@DIGEST where that is known."""
        return {f"{k}@{self.labelled[k]}" if k in self.labelled else k: n
                for k, n in self.supervision.items()}

    def dump(self) -> bytes:
        """Return the bytes of ``__wsseg__/end.json``."""
        value: dict[str, Any] = {"records": self.records, "failed": self.failed,
                                 "digest": self.digest, "header": self.header,
                                 "supervision": {k: list(v) for k, v in self.supervision.items()}}
        if self.labelled:
            value["labelled"] = dict(self.labelled)
        if self.error is not None:
            value["error"] = self.error
        return jsons.dump(value, indent=1)

    @staticmethod
    def load(data: bytes) -> End:
        """Parse an end. Raises RecordError if it is malformed."""
        value = jsons.parse(data)
        try:
            if not (is_count(value["records"]) and is_count(value["failed"])
                    and all(isinstance(value[name], str) for name in ("digest", "header"))
                    and isinstance(value.get("error", ""), str)):
                raise TypeError("a number or text of another type")
            labelled = dict(value.get("labelled", {}))
            if not all(isinstance(digest, str) and is_entry(f"{k}@{digest}")
                       for k, digest in labelled.items()):
                raise ValueError(f"labelled {labelled}")
            return End(value["records"], value["failed"], value["digest"], value["header"],
                       load_supervision(value["supervision"]), value.get("error"), labelled)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"bad wsseg end ({error!r})") from None

    def agrees(self, seen: End) -> bool:
        """Whether the records that were seen are those that were written."""
        return (seen.records, seen.digest, seen.supervision) == (
            self.records, self.digest, self.supervision) and self.labelled in ({}, seen.labelled)

    def check_header(self, header: Header) -> None:
        """Raise RecordError unless this is the header that was written."""
        if self.error is None and self.header != header.digest:
            raise RecordError("its header is not the one that was written (wrong digest)")

    def check(self, total: Total, header: Header, where: str) -> None:
        """Raise IncompleteError if less was read than written, WssegError if it is not what was
        written."""
        if self.error is not None:
            raise IncompleteError(f"{where} is incomplete: {self.error}")
        seen = total.end(header)
        if seen.records != self.records:
            raise IncompleteError(f"{where} is incomplete: it holds {seen.records} of "
                                  f"{self.records} records")
        if seen.header != self.header or not self.agrees(seen):
            raise WssegError(f"{where} is damaged: header or records are not those that "
                             "were written (wrong digest)")
