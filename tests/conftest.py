"""What many tests need: running a tool as a process, and small places to run it on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker for each core: more threads would wait in turn
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from wsseg.io.header import Header, Total
from wsseg.io.places import open_sink, open_source
from wsseg.io.record import Record
from wsseg.io.values import Boxes

ROOT = Path(__file__).resolve().parents[1]
CLASSES = ("background", "cat", "dog")


def command(tool: str) -> list[str]:
    """The command line that starts a tool from this checkout."""
    return [sys.executable, "-m", f"wsseg.cli.{tool.removeprefix('ws-').replace('-', '_')}"]


def run(line: str | Sequence[str], *, stdin: bytes | int | None = subprocess.DEVNULL,
        code: int | None = 0, cwd: Path | None = None, env: dict[str, str] | None = None,
        **options) -> subprocess.CompletedProcess:
    """Run a tool; ``code`` is the exit status it must have, None for any."""
    words = line.split() if isinstance(line, str) else [str(w) for w in line]
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    done = subprocess.run(command(words[0]) + words[1:], capture_output=True, cwd=cwd,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
                          timeout=120, **given, **options)
    assert code is None or done.returncode == code, \
        f"{words}: exit {done.returncode}, expected {code}\n{done.stderr.decode()}"
    return done


def complaint(done: subprocess.CompletedProcess) -> str:
    """The one line on standard error; fails if there is more, or a traceback."""
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("ws-")
    return lines[0]


def write_place(place: Path | str, records: Iterable[Record], *, kinds: Sequence[str] = (),
                classes: Sequence[str] | None = CLASSES, history: Sequence = ()) -> str:
    """Write records to a place, as a tool would; return its name."""
    header = Header(kinds=tuple(kinds), classes=classes and tuple(classes),
                    history=tuple(history))
    sink, total = open_sink(str(place), header), Total()
    for record in records:
        packed = record.pack()
        sink.write(packed, packed.digest)
        total.add(packed.key, packed.digest, packed.supervision)
    sink.finish(total.end(header))
    return str(place)


def make_label(number: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """A small label map with a cat, a dog and a void border, different for each number."""
    label = np.zeros(size, np.uint8)
    label[2:12, 3 + number % 5:14] = 1
    label[14:22, 16:24 + number % 7] = 2
    label[13, 16:24] = 255
    return label


def make_record(number: int, *kinds: str) -> Record:
    """A record with the kinds named: label, boxes, image, tags."""
    record = Record(f"img{number:03d}")
    label = make_label(number)
    if "label" in kinds:
        record.set("label", label)
    if "boxes" in kinds:
        record.set("boxes", Boxes(np.array([[3 + number % 5, 2, 14, 12], [16, 14, 24, 22]], float),
                                  np.array([1, 2]), label.shape))
        record.supervision["boxes"] = (2, 2)
    if "tags" in kinds:
        record.set("tags", (1, 2))
    if "image" in kinds:
        rng = np.random.default_rng(number)
        colour = np.array([[40, 60, 90], [200, 60, 30], [30, 190, 60]], np.uint8)
        photo = colour[np.where(label == 255, 0, label)].astype(int)
        photo += rng.integers(-9, 10, photo.shape)
        record.set("image", photo.clip(0, 255).astype(np.uint8))
    return record


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., str]:
    """Make a place: place("name", "label", "boxes", count=6, form="dir")."""
    def make(name: str, *kinds: str, count: int = 6) -> str:
        return write_place(tmp_path / name, (make_record(i, *kinds) for i in range(count)),
                           kinds=kinds)
    return make


def tree(folder: Path | str) -> dict[str, bytes]:
    """Every file under a folder, by its relative name."""
    folder = Path(folder)
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file()}


def keys_of(place: Path | str) -> list[str]:
    return [record.key for record in open_source(str(place))]


def real_data(name: str) -> Path:
    """A folder of the real data sets, or skip: they are not part of the project."""
    folder = Path(os.environ.get("WSSEG_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        pytest.skip(f"no {folder} (WSSEG_DATA names another place)")
    return folder
