"""What the tests of ws-crf share: a scene whose truth is known, and the tool run on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CLASSES, write_place
from wsseg.cli import _refining, crf
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import ScoreMap

#: Without pairwise terms the dense CRF gives back what it started from.
START = ("--gauss-weight", "0", "--rgb-weight", "0", "--all-classes", "--write", "score")
STREET = ("road", "sky", "car")


def scene(seed: int = 0, size: tuple[int, int] = (48, 64), noise: float = 1.6):
    """Truth, a photo with clear edges, and noisy probabilities of three classes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size[0], :size[1]] * np.array([48 / size[0], 64 / size[1]])[:, None, None]
    truth = np.zeros(size, np.uint8)
    truth[(y - 20) ** 2 + (x - 18) ** 2 < 180] = 1
    truth[(22 <= y) & (y < 42) & (36 <= x) & (x < 58)] = 2
    colour = np.array([[60, 70, 80], [200, 90, 40], [50, 170, 210]])
    photo = (colour[truth] + rng.integers(-6, 7, (*size, 3))).astype(np.uint8)
    logits = 2 * np.eye(3)[truth].transpose(2, 0, 1) + noise * rng.normal(size=(3, *size))
    prob = np.exp(logits)
    return truth, photo, (prob / prob.sum(axis=0)).astype(np.float32)


def score(data, classes=None, size=None) -> ScoreMap:
    data = np.asarray(data)
    return ScoreMap(data, np.arange(len(data)) if classes is None else np.array(classes),
                    tuple(size or data.shape[1:]))


def record(**kinds) -> Record:
    result = Record("one", names=kinds.pop("names", CLASSES))
    for kind, value in kinds.items():
        result.set(kind, value)
    return result


def put(path: Path, names=CLASSES, **kinds) -> str:
    return write_place(path, [record(**kinds)], kinds=sorted(kinds), classes=names)


def refiner(tmp_path: Path, capfd: pytest.CaptureFixture) -> Callable:
    """Return what runs the tool in this process on one record, and gives the record it makes, or
    its complaint."""
    def run_it(*options: str, code: int = ExitStatus.OK, names=CLASSES, **kinds):
        source = put(tmp_path / "source.tar", names=names, **kinds)
        out = str(tmp_path / "refined")
        found = run_here(crf.main, [source, *map(str, options), "-j1", "-o", out, "--overwrite"])
        said = capfd.readouterr().err.splitlines()
        Path(source).unlink()
        assert found == code, said
        if code:
            assert len(said) == 1, said
            return said[0]
        return open_source(out).get("one")
    return run_it


def caller(capfd: pytest.CaptureFixture) -> Callable:
    """Return what runs ws-crf in this process, and gives the lines it said."""
    def run_it(*words, code: int = ExitStatus.OK) -> list[str]:
        found = run_here(crf.main, ["-j1", *map(str, words)])
        said = capfd.readouterr().err.splitlines()
        assert found == code, said
        return said
    return run_it


def settings(method: str = "dense", **changes) -> _refining.Settings:
    return _refining.resolve_engine(_refining.Settings(
        method, _refining.resolve(method, None, {})[1], **changes))[0]
