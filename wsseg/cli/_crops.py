"""ws-weaken --crops: each record becomes a grid of its parts, records of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from wsseg.errors import RecordError, UsageError
from wsseg.io.record import Record
from wsseg.io.source import Catalogue
from wsseg.io.values import InstanceMap

_KINDS = ("image", "instance", "label")


def parse_grid(text: str) -> tuple[int, int]:
    """Read ROWSxCOLUMNS. Raises UsageError."""
    rows, _, columns = text.lower().partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and 1 <= int(rows) <= 99
            and 1 <= int(columns) <= 99):
        raise UsageError(f"--crops {text} is not ROWSxCOLUMNS with numbers from 1 to 99")
    return int(rows), int(columns)


def window(length: int, share: float, count: int, at: int) -> slice:
    """Pixels of part ``at`` of ``count``, each of ``share`` of the length, spread evenly from end
    to end."""
    part = max(1, min(length, round(length * share)))
    start = round(at * (length - part) / (count - 1)) if count > 1 else (length - part) // 2
    return slice(start, start + part)


class Crops:
    """A place whose records are parts of another's, called KEY@ROW-COLUMN.

    whole: keys of the records to cut; photos: where their photos are looked up, None if the
    records hold them; grid: (rows, columns); share: of the height and of the width that each part
    has.
    """

    end = None

    def __init__(self, source: Catalogue, photos: Catalogue | None, whole: Sequence[str],
                 grid: tuple[int, int], share: tuple[float, float]) -> None:
        self.source, self.photos, self.whole = source, photos, list(whole)
        self.grid, self.share, self.where = grid, share, source.where
        kinds = {*source.header.kinds, *(("image",) if photos is not None else ())} & {*_KINDS}
        self.header = replace(source.header, kinds=tuple(sorted(kinds)),
                              count=len(self.whole) * grid[0] * grid[1])
        self._last: tuple[str, Record] | None = None

    def keys(self) -> Sequence[str]:
        return [f"{key}@{row}-{column}" for key in self.whole for row in range(self.grid[0])
                for column in range(self.grid[1])]

    def __iter__(self) -> Iterator[Record]:
        return map(self.get, self.keys())

    def check_complete(self) -> None:
        self.source.check_complete()

    def get(self, key: str) -> Record:
        """Return one part. Raises RecordError for a bad record, or one without a photo."""
        whole, _, at = key.rpartition("@")
        if self._last is None or self._last[0] != whole:
            self._last = whole, self._whole(whole)
        row, column = map(int, at.split("-"))
        record = self._last[1]
        result = Record(key, names=record.names)
        for kind in _KINDS:
            if kind in record:
                result.set(kind, self._cut(record.get(kind), row, column))
        return result

    def _whole(self, key: str) -> Record:
        record = self.source.get(key)
        if self.photos is not None:
            try:
                photo = self.photos.get(key)
            except KeyError:
                raise RecordError(f"no counterpart in {self.photos.where}") from None
            record.drop("image")
            record.join({s: m for s, m in photo.members.items() if s in ("jpg", "image.png")},
                        canonical=photo.canonical)
        return record

    def _cut(self, value: np.ndarray | InstanceMap, row: int, column: int
             ) -> np.ndarray | InstanceMap:
        if isinstance(value, InstanceMap):
            ids = self._cut(value.ids, row, column)
            here = set(np.unique(ids).tolist())
            return InstanceMap(ids, tuple(s for s in value.segments if s.id in here))
        cut = tuple(window(length, share, count, at) for length, share, count, at in zip(
            value.shape, self.share, self.grid, (row, column)))
        return np.ascontiguousarray(value[cut])
