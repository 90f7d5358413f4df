"""What all readers of foreign data sets share: the catalogue, and records made on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from wsseg.errors import RecordError, UsageError, WssegError
from wsseg.io.header import Header
from wsseg.io.kinds import check_key
from wsseg.io.record import Record


@dataclass
class LazyRecord(Record):
    """A record some of whose values are made only when they are asked for.

    A maker is a picklable call (``functools.partial`` of a module's function), so that the
    work is done by whoever needs the value, often a worker.
    """

    canonical: bool = False
    _makers: dict[str, tuple[tuple[str, ...], Callable[[], Any]]] = field(default_factory=dict)

    def defer(self, make: Callable[[], Any], *kinds: str) -> None:
        """Let ``make`` give the value of the kind, or a tuple of values where several kinds
        come out of one file."""
        for kind in kinds:
            self.drop(kind)
            self._makers[kind] = kinds, make

    def kinds(self) -> set[str]:
        return super().kinds() | set(self._makers)

    def __contains__(self, kind: str) -> bool:
        return kind in self._makers or super().__contains__(kind)

    def get(self, kind: str) -> Any:
        if kind in self._makers:
            kinds, make = self._makers[kind]
            try:
                made = make()
            except RecordError as error:
                raise RecordError(f"{kind}: {error}") from None
            for name, value in zip(kinds, made if len(kinds) > 1 else (made,)):
                if self._makers.pop(name, None):  # one that was dropped or replaced stays so
                    self._values[name] = value
        return super().get(kind)

    def drop(self, kind: str) -> None:
        self._makers.pop(kind, None)
        super().drop(kind)


class Dataset:
    """Records of a foreign data set, in the order of ``keys`` (a ``wsseg.io.source.Catalogue``).

    where: how messages call the place. read: makes the record of a key; it raises RecordError
    when that one record is bad. notes: remarks about the whole set, for a person to see.
    Raises UsageError for no keys, WssegError for a key given twice, UnsafeError for a key that
    cannot name a record.
    """

    end = None

    def __init__(self, where: str, header: Header, keys: Sequence[str],
                 read: Callable[[str], Record], notes: Iterable[str] = ()) -> None:
        self.where = where
        self.header = header
        self.notes = tuple(notes)
        self._keys = tuple(check_key(key) for key in keys)
        self._known = frozenset(self._keys)
        self._read = read
        if not self._keys:
            raise UsageError(f"{where}: no records: the list of keys is empty")
        if len(self._known) != len(self._keys):
            raise WssegError(f"{where}: the same key twice: {few(doubles(self._keys))}")

    def keys(self) -> Sequence[str]:
        return self._keys

    def get(self, key: str) -> Record:
        """Return the record of ``key``; KeyError if there is none, RecordError if it is bad."""
        if key not in self._known:
            raise KeyError(key)
        return self._read(key)

    def check_complete(self) -> None:
        """A foreign data set makes no promise that could be broken."""

    def __iter__(self) -> Iterator[Record]:
        # Not a generator: after a bad record the next one can still be asked for.
        return map(self._read, self._keys)


def make_header(kinds: Iterable[str], classes: Sequence[str], keys: Collection[str]) -> Header:
    """Return the header of a foreign data set."""
    return Header(kinds=tuple(sorted(kinds)), classes=tuple(classes), count=len(keys))


def few(items: Collection[Any], limit: int = 5) -> str:
    """Return the first items of a collection as text, for messages."""
    shown = [str(item) for item, _ in zip(items, range(limit))]
    return ", ".join(shown) + (" ..." if len(items) > limit else "")


def doubles(items: Iterable[Any]) -> list[Any]:
    """Return what occurs more than once, in order."""
    return [item for item, count in Counter(items).items() if count > 1]


def choose(known: Collection[str], wanted: Sequence[str] | None, where: str) -> list[str]:
    """Return the keys to read: those wanted in their order, or all that are known, sorted.

    Raises UsageError with their number and the first five when some are not known.
    """
    if wanted is None:
        return sorted(known)
    missing = [key for key in wanted if key not in known]
    if missing:
        raise UsageError(f"{where}: {len(missing)} of {len(wanted)} keys of the list have "
                         f"nothing here: {few(missing)}")
    return list(wanted)


def check_photos(keys: Sequence[str], photos: Collection[str], where: str) -> None:
    """Raise WssegError when some but not all records have a photo."""
    missing = [key for key in keys if key not in photos]
    if photos and missing:
        raise WssegError(f"{where}: {len(missing)} of {len(keys)} records have no photo: "
                         f"{few(missing)}; restore them, or give a list of the others as the "
                         "split")


def clip_box(box: Sequence[float], size: tuple[int, int] | None, what: str
             ) -> tuple[float, float, float, float]:
    """Return a 0-based half-open box (x0, y0, x1, y1) cut to the image.

    The rule for all data sets: what leaves the image of ``size`` (H, W) is cut off; without a
    known size only what is left of or above it. Raises RecordError for a box that is empty or
    turned, or that lies outside altogether.
    """
    x0, y0, x1, y1 = box
    if not (x0 < x1 and y0 < y1):
        raise RecordError(f"{what} is empty: x {x0:g} to {x1:g}, y {y0:g} to {y1:g}")
    height, width = size or (float("inf"), float("inf"))
    cut = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
    if not (cut[0] < cut[2] and cut[1] < cut[3]):
        raise RecordError(f"{what} lies outside of the image"
                          f"{f' of {height}x{width}' if size else ''}: "
                          f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}")
    return cut
