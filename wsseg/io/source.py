"""What every readable place offers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from wsseg.io.header import End, Header
from wsseg.io.record import Record


class Source(Protocol):
    """Records in order, each once.

    where: how messages call the place. end: the end member; for a stream known only after the
    last record, None for a foreign place. Iterating raises IncompleteError after the last
    sound record when the place was cut short.
    """

    where: str
    header: Header
    end: End | None

    def __iter__(self) -> Iterator[Record]: ...


class Catalogue(Source, Protocol):
    """A source whose records can be looked up by key: everything but a stream."""

    def keys(self) -> Sequence[str]: ...

    def get(self, key: str) -> Record:
        """Return the record of ``key``; KeyError if there is none."""
        ...

    def check_complete(self) -> None:
        """Raise IncompleteError unless every record that was written is there."""
        ...
