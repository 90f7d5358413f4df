"""The same records of several places, side by side, and only so many of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wsseg.errors import UsageError

BESIDE = "beside"


class Beside:
    """Gives a record those of other places as its value ``beside``: a tuple with one record per
    place, None where a place lacks it.

    others: places with ``get`` are looked up by key; streams are read along, which needs the
    order of the first. Called with a record, it returns that record.
    """

    def __init__(self, others: Sequence[Any]) -> None:
        self._lacking = [[o.where, 0] for o in others]
        self._finders = [_by_key(o) if hasattr(o, "get") else _along(o) for o in others]

    def __call__(self, record: Any) -> Any:
        found = tuple(find(record.key) for find in self._finders)
        for lacking, other in zip(self._lacking, found):
            lacking[1] += other is None
        record.set(BESIDE, found)
        return record

    def notes(self) -> list[str]:
        """Say, after reading, what was not there."""
        return [f"{n} of these records {'are' if n > 1 else 'is'} not in {where}"
                for where, n in self._lacking if n]


class Limit:
    """Chooses the first ``count`` records, all of them if it is None; called with a key.

    keys: the records there are, if that is known beforehand.
    """

    def __init__(self, count: int | None, keys: Sequence[str] | None) -> None:
        self._first = None if keys is None else frozenset(keys[:count])
        self._left = count
        self._over = 0 if keys is None else len(keys) - len(self._first)

    def __call__(self, key: str) -> bool:
        if self._first is not None:
            return key in self._first
        if self._left is None or self._left > 0:
            self._left = None if self._left is None else self._left - 1
            return True
        self._over += 1
        return False

    def notes(self) -> list[str]:
        """Say, after reading, how many were not chosen."""
        if not self._over:
            return []
        return [f"{self._over} more record{'s' * (self._over > 1)} not shown (--limit 0 shows all)"]


def check_common(where: str, keys: Iterable[str] | None, others: Sequence[Any]) -> None:
    """Raise UsageError when a place has none of the records that are to be shown."""
    if not keys:
        return
    for other in others:
        if hasattr(other, "get") and frozenset(other.keys()).isdisjoint(keys):
            raise UsageError(f"{other.where} and {where} have no record in common (the latter "
                             f"begins with {next(iter(keys))})")


def _by_key(source: Any) -> Callable[[str], Any]:
    there = frozenset(source.keys())
    return lambda key: source.get(key) if key in there else None


def _along(source: Any) -> Callable[[str], Any]:
    """Find records of a stream by going on to the next one of that key."""
    records = iter(source)

    def find(key: str) -> Any:
        for record in records:
            if record.key == key:
                return record
        raise UsageError(f"{source.where} has no {key}, or not in the order of the first input: "
                         "write it to a directory first")
    return find
