"""Parts that ws-weaken --crops cut, by the records that they are parts of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from wsseg.cli._crops import parse_grid, window
from wsseg.errors import RecordError
from wsseg.io.record import Record
from wsseg.io.source import Catalogue, Source
from wsseg.io.supervision import together

IGNORE = 255
SHARE = (400 / 1024, 500 / 2048)  #: of height and width, where the place does not say
_PART = re.compile(r"(.+)@(\d+)-(\d+)")
_SIZED = ("label", "instance", "boxes", "score", "cam", "image")


@dataclass
class Whole(Record):
    """A record that is there in parts. parts: (row, column) -> part; grid: how many rows and
    columns there are; share: of the height and of the width that each part has."""

    parts: dict[tuple[int, int], Record] = field(default_factory=dict)
    grid: tuple[int, int] = (1, 1)
    share: tuple[float, float] = SHARE

    def windows(self, size: tuple[int, int]) -> Iterator[tuple[Record, tuple[slice, slice]]]:
        """Yield each part, and its rows and columns in a whole of this size (H, W)."""
        for at, part in self.parts.items():
            yield part, tuple(window(*one) for one in zip(size, self.share, self.grid, at))

    def placed(self, size: tuple[int, int]) -> list[Record]:
        """Return the parts' label maps, each in a map of this size (H, W) that is 255 elsewhere.

        Raises RecordError for a part without a label map, or of another size than parts of such
        a whole have.
        """
        found = []
        for part, where in self.windows(size):
            try:
                label = part.get("label")
            except RecordError as error:
                raise RecordError(f"part {part.key}: {error}") from None
            given = tuple(s.stop - s.start for s in where)
            if label.shape != given:
                raise RecordError("part {} is {}x{}, but those of a {}x{} image are {}x{}".format(
                    part.key, *label.shape, *size, *given))
            whole = np.full(size, IGNORE, label.dtype)
            whole[where] = label
            record = Record(self.key, names=part.names)
            record.set("label", whole)
            found.append(record)
        return found


class Wholes:
    """A place of parts, called KEY@ROW-COLUMN, as a place of Wholes, called KEY.

    Their grid is the one that ws-weaken says in the history; where nothing does, as large as the
    largest row and column. What the labels of all parts cost is in its header, not in its records:
    each part cost as much as an image.
    """

    def __init__(self, source: Catalogue) -> None:
        self.source, self.where, self.end = source, source.where, source.end
        self._parts: dict[str, list[tuple[int, int]]] = {}
        for key in source.keys():
            whole, *at = _PART.fullmatch(key).groups()
            self._parts.setdefault(whole, []).append(tuple(map(int, at)))
        cut = next((e["parameters"] for e in reversed(source.header.history)
                    if "crop_share" in e.get("parameters", {})), {})
        self.share = tuple(cut.get("crop_share", SHARE))
        self.grid = parse_grid(str(cut["crops"])) if "crops" in cut else tuple(
            1 + max((at[i] for ats in self._parts.values() for at in ats), default=0)
            for i in (0, 1))
        spent = together(source.header.supervision, source.end.given if source.end else {})
        self.header = replace(source.header, count=len(self._parts), supervision=spent)

    def keys(self) -> Sequence[str]:
        return list(self._parts)

    def get(self, key: str) -> Whole:
        parts = {}
        for at in self._parts[key]:
            if at[0] >= self.grid[0] or at[1] >= self.grid[1]:
                raise RecordError("part {}@{}-{} is beyond the {}x{} parts that were cut".format(
                    key, *at, *self.grid))
            parts[at] = self.source.get("{}@{}-{}".format(key, *at))
            parts[at].names = parts[at].names or self.header.classes
        return Whole(key, names=self.header.classes, parts=parts, grid=self.grid,
                     share=self.share)

    def __iter__(self) -> Iterator[Whole]:
        return map(self.get, self.keys())

    def check_complete(self) -> None:
        self.source.check_complete()


def whole(source: Source) -> Source:
    """Return a place as it is, or as Wholes if all of its records are called as parts are."""
    keys = source.keys() if hasattr(source, "get") else ()
    return Wholes(source) if keys and all(map(_PART.fullmatch, keys)) else source


def size_of(record: Record) -> tuple[int, int]:
    """Return height and width of what a record holds. Raises RecordError if nothing tells."""
    for kind in _SIZED:
        if kind in record:
            value = record.get(kind)
            value = value.ids if kind == "instance" else value
            size = value.shape[:2] if isinstance(value, np.ndarray) else value.size
            if size is not None:
                return tuple(size)
    raise RecordError("nothing in --parts-of tells the size of the whole")
