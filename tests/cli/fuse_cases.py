"""What the tests of ws-fuse share: maps that can be fused by hand, and the tool run on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conftest import CLASSES, write_place
from wsseg.cli import fuse as cli
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import ScoreMap

STREET = ("road", "sky", "car", "person")


def scores(*values: dict[int, list], dtype=np.float32, size=None) -> ScoreMap:
    """A score map from class -> rows of probabilities."""
    (maps,) = values
    data = np.array([maps[c] for c in sorted(maps)], dtype).reshape(len(maps), -1, len(
        np.atleast_2d(next(iter(maps.values())))[0]))
    return ScoreMap(data, np.array(sorted(maps)), size or data.shape[1:])


def put(path: Path, kind: str, value, names=CLASSES, **more) -> str:
    """A place of one record, ``one``, with the kinds given."""
    record = Record("one")
    for name, content in {kind: value, **more}.items():
        record.set(name, content)
    return write_place(path, [record], kinds=sorted({kind, *more}), classes=names)


def row(*classes: int) -> np.ndarray:
    return np.array([classes], np.uint8)


def fused(*line: str, kind: str = "label", folder: Path):
    """Run the tool in this process and return what it makes."""
    out = str(folder / "fused")
    assert run_here(cli.main, [*line, "-o", out, "--overwrite"]) == ExitStatus.OK
    return open_source(out).get("one").get(kind)
