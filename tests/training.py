"""Whole runs of ws-train in this process, on a tiny backbone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tinynet
from tests.conftest import make_record, write_place
from wsseg.cli import predict, train
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.record import Record
from wsseg.io.values import Boxes

QUICK = ("--backbone", "tiny", "--head", "largefov", "--width", "8", "--init", "none", "--crop",
         "33", "--batch", "4", "--iterations", "4", "--device", "cpu", "--precision", "fp32", "-j2")


def places(folder: Path) -> None:
    """strong/ and val/ with labels, weak/ with tags and boxes; all with their photos, 24x32."""
    for name, kinds, numbers in (("strong", ("image", "label"), range(6)),
                                 ("weak", ("boxes", "image", "tags"), range(6, 14)),
                                 ("val", ("image", "label"), range(14, 18))):
        records = [make_record(i, *kinds) for i in numbers]
        for record in records:
            record.supervision.update({k: (2, 2) for k in (
                ("masks",) if "label" in kinds else ("boxes", "tags"))})
        write_place(folder / name, records, kinds=kinds)


def shapes(folder: Path) -> None:
    """few/ and masked/ with labels, tagged/ with tags and boxes, test/: one or two coloured
    rectangles on grey, with noise; the background alone is 62 % of the pixels."""
    rng = np.random.default_rng(0)
    colours = np.array([[110, 110, 110], [200, 80, 60], [60, 90, 200]])
    for name, kinds, count in (("few", ("image", "label"), 4), ("masked", ("image", "label"), 16),
                               ("tagged", ("boxes", "image", "tags"), 16),
                               ("test", ("image", "label"), 8)):
        records = []
        for i in range(count):
            label, boxes = np.zeros((32, 40), np.uint8), []
            for side in (0, 1) if i % 3 == 0 else (i % 2,):
                cls, x = 1 + (i // 2 + side) % 2, 3 + 18 * side
                y, height = rng.integers(2, 6), rng.integers(16, 24)
                label[y:y + height, x:x + 14] = cls
                boxes.append((x, y, x + 14, y + height, cls))
            record = Record(f"{name}{i}")
            photo = colours[label] + rng.normal(0, 25, (*label.shape, 3))
            record.set("image", photo.clip(0, 255).astype(np.uint8))
            if "label" in kinds:
                record.set("label", label)
            else:
                record.set("tags", tuple(sorted({b[4] for b in boxes})))
                record.set("boxes", Boxes(np.array([b[:4] for b in boxes], float),
                                          np.array([b[4] for b in boxes]), label.shape))
            records.append(record)
        write_place(folder / name, records, kinds=kinds)


class Runner:
    """Runs tools here: ``r("ws-train", word, ...)`` gives what was said and written. code: the
    exit status it must have, None for any failure."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture) -> None:
        self.folder, self._capfd = folder, capfd

    def __call__(self, *words, code: int = ExitStatus.OK, tool=train):
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            self._capfd.readouterr()
            status = run_here(tool.main, list(map(str, words)))
        finally:
            os.chdir(before)
        told = self._capfd.readouterr()
        assert status == code or code is None and status != ExitStatus.OK, told.err
        return told

    def train(self, *words, out="run", code: int = ExitStatus.OK, quick=QUICK):
        return self(*quick, *words, "-o", out, code=code)

    def refused(self, *words, code: int = ExitStatus.USAGE, out="run", quick=QUICK) -> str:
        """The one line with which a run is refused; nothing has been trained then."""
        told = self.train(*words, code=code, out=out, quick=quick)
        assert told.err.count("\n") == 1 and told.err.startswith("ws-train: "), told.err
        assert told.out == ""
        assert not (self.folder / out / "log.jsonl").exists()
        return told.err

    def predict(self, *words, code: int = ExitStatus.OK):
        return self(*words, code=code, tool=predict)

    def log(self, out="run") -> list[dict]:
        return [json.loads(line)
                for line in (self.folder / out / "log.jsonl").read_text().splitlines()]

    def model(self, out="run") -> bytes:
        return (self.folder / out / "model.safetensors").read_bytes()


@pytest.fixture
def runner(tmp_path, capfd, monkeypatch) -> Runner:
    tinynet.install(monkeypatch)
    places(tmp_path)
    return Runner(tmp_path, capfd)


def steps_of(log: Path) -> int:
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_for(tool: Any, log: Path, steps: int) -> None:
    """Wait until a tool that is running has written so many lines of its log."""
    until = time.monotonic() + 60
    while steps_of(log) < steps:
        assert time.monotonic() < until, tool.said
        time.sleep(.002)
