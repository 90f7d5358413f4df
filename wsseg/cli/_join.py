"""Another place whose maps and labels are added to each record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from wsseg.cli._supervision import spent
from wsseg.errors import RecordError, UsageError
from wsseg.io.kinds import WEAK, kind_of
from wsseg.io.record import Record
from wsseg.io.source import Source


@dataclass
class Join:
    """Another place whose kinds are added to each record, all where they are None.

    What a record has goes before, unless that would leave an option without effect: ``tags`` of
    its own are refused, ``saliency`` takes the place of its conf.
    """

    source: Source
    role: str
    kinds: set[str] | None
    _records: Iterator[Record] | None = None

    @property
    def labels(self) -> bool:
        """Whether what is added may be made of labels: all but photos."""
        return self.kinds is None or bool(self.kinds - {"image"})

    def add(self, record: Record) -> None:
        if self.role == "saliency":
            record.drop("conf")
        if self.kinds is not None and self.kinds <= record.kinds():
            if self.role == "tags":
                raise RecordError(f"has tags of its own besides those of {self.source.where}")
            return
        other = self._find(record.key)
        if other is None:
            return
        record.join({s: m for s, m in other.members.items()
                     if self.kinds is None or kind_of(s) in self.kinds},
                    canonical=other.canonical)
        theirs = other.supervision if other.canonical else spent(other)
        if self.kinds is not None and self.kinds <= {"image", *WEAK}:
            theirs = {kind: numbers for kind, numbers in theirs.items() if kind in self.kinds}
        record.supervision = {**theirs, **record.supervision}  # a map is made of all of them

    def finish(self) -> None:
        """Raise IncompleteError unless the place is complete."""
        if hasattr(self.source, "get"):
            self.source.check_complete()
        elif self._records is not None:
            for _ in self._records:
                pass

    def _find(self, key: str) -> Record | None:
        if hasattr(self.source, "get"):
            try:
                return self.source.get(key)
            except KeyError:
                if self.role == "extra":
                    return None
                raise RecordError(f"no counterpart in {self.source.where}") from None
        if self._records is None:
            self._records = iter(self.source)
        other = next(self._records, None)
        if other is None or other.key != key:
            raise UsageError(f"{self.source.where} is not in the order of the input (it has "
                             f"{other.key if other else 'no more records'} where {key} is "
                             "due): write it to a directory first")
        return other
