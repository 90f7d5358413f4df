"""What the tests of ws-cat share: records of a place, its files, and a place of one record."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import tree, write_place
from wsseg.io.places import open_source
from wsseg.io.record import Record


def read(place: Path | str) -> dict[str, Record]:
    return {record.key: record for record in open_source(str(place))}


def data(place: Path | str) -> dict[str, bytes]:
    """The files of a directory without what it says about itself."""
    return {n: b for n, b in tree(place).items() if not n.startswith("__wsseg__")}


def lone(place: Path, **values) -> str:
    record = Record("a")
    for kind, value in values.items():
        record.set(kind, value)
    return write_place(place, [record], kinds=values)
