"""What the tests of ws-fit share: scenes with a known answer, and the tool run on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.crf_cases import scene, score
from tests.conftest import CLASSES, make_record, write_place
from wsseg.cli import _fitting, crf, fit
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.places import open_source
from wsseg.io.record import Record

GRID = ("--method", "potts", "--vary", "weight=0,2,3000", "--vary", "edge=.01,.05")


def scenes(folder: Path, *numbers: int, size=(24, 32)) -> tuple[str, str]:
    """Noisy score maps with photos, and their truth."""
    maps, truths = [], []
    for i in numbers:
        truth, photo, prob = scene(i, size=size)
        maps.append(Record(f"img{i:03d}"))
        maps[-1].set("score", score(prob))
        maps[-1].set("image", photo)
        maps[-1].set("boxes", make_record(i, "boxes").get("boxes"))
        maps[-1].supervision["boxes"] = (2, 2)
        truths.append(Record(maps[-1].key))
        truths[-1].set("label", truth)
    return (write_place(folder / "maps", maps, kinds=["boxes", "image", "score"]),
            write_place(folder / "truth", truths, kinds=["label"]))


def runner(tmp_path: Path, places, capfd: pytest.CaptureFixture) -> Callable:
    """Return what runs the tool in this process, and gives the preset and what it said, or its
    complaint."""
    def run_it(*options, code=ExitStatus.OK, inputs=places, out="fitted.json", jobs=1):
        line = [*inputs, *map(str, options), f"-j{jobs}", "-o", str(tmp_path / out)]
        found = run_here(fit.main, line)
        told = capfd.readouterr()
        assert found == code, told.err
        if code in (ExitStatus.OK, ExitStatus.SOME_FAILED):
            return json.loads((tmp_path / out).read_text()), told
        assert told.err.count("\n") == 1, told.err
        assert told.out == ""
        return told.err
    return run_it


def miou(maps, truths) -> float:
    """Mean intersection over union, counted plainly."""
    pairs = [(t.get("label"), maps.get(t.key).get("label")) for t in truths]
    ious = []
    for cls in range(len(CLASSES)):
        both = sum(int(((t == cls) & (p == cls)).sum()) for t, p in pairs)
        either = sum(int((((t == cls) | (p == cls)) & (t != 255)).sum()) for t, p in pairs)
        ious += [both / either] if either else []
    return float(np.mean(ious))


def by_hand(tmp_path, maps, truth, *options) -> float:
    out = str(tmp_path / "by_hand")
    assert run_here(crf.main, [maps, *options, "-j1", "--overwrite", "-o", out]) == ExitStatus.OK
    return miou(open_source(out), open_source(truth))


def count_scored(monkeypatch) -> list[str]:
    """Keys of the records that are scored, in order, without the work."""
    keys: list[str] = []

    def score_points(pair, *, points, task, names):
        keys.append(pair.key)
        return pair.key, np.ones((len(points), len(names), len(names) + 1), np.int64), (1, 1)

    monkeypatch.setattr(_fitting, "score_points", score_points)
    return keys


def with_label(record: Record, label: np.ndarray) -> Record:
    result = Record(record.key)
    result.set("label", label)
    return result
