"""Places of any form as places that are looked up by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wsseg.cli._flow import Flow
from wsseg.io.record import Record
from wsseg.io.source import Catalogue, Source


class Held:
    """A stream as a catalogue: its records are held in memory, as they lie in the stream."""

    def __init__(self, source: Source) -> None:
        self._records = {record.key: record for record in source}
        self.where, self.header, self.end = source.where, source.header, source.end

    def keys(self) -> Sequence[str]:
        return list(self._records)

    def get(self, key: str) -> Record:
        return replace(self._records[key], _values={})

    def __iter__(self):
        return iter(self._records.values())

    def check_complete(self) -> None:
        """A stream that was cut could not be read to its end."""


def catalogue(flow: Flow, place: str, as_kind: str | None = None) -> Catalogue:
    """Open a place of any form for looking up. Raises IncompleteError for one that is cut."""
    source = flow.open(place, as_kind=as_kind)
    if not hasattr(source, "get"):
        source = Held(source)
    source.check_complete()
    return source
