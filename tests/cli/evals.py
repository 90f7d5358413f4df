"""Places to score, for the tests of ws-eval."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_info import run
from tests.conftest import CLASSES, write_place
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Masks, Segment

NAMES = ("background", "cat", "dog", "cow", "bus")


@pytest.fixture
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


def labels(place: Path, maps: dict[str, np.ndarray] | list, names=CLASSES, **options) -> str:
    records = []
    for key, label in maps.items() if isinstance(maps, dict) else enumerate(maps):
        records.append(Record(f"r{key:02d}" if isinstance(key, int) else key))
        records[-1].set("label", np.asarray(label, np.uint8) if isinstance(label, list)
                        else label)
    return write_place(place, records, kinds=["label"], classes=names, **options)


def score(*words, **options) -> dict:
    return json.loads(run(["ws-eval", *words, "--json"], **options).stdout)


def random_maps(seed: int, count: int = 5) -> list[np.ndarray]:
    """Maps of the classes 0 to 3 of five, and of void."""
    rng = np.random.default_rng(seed)
    return [np.kron(rng.choice([0, 1, 2, 3, 255], (6, 8), p=[.1, .2, .2, .4, .1]),
                    np.ones((3, 3))).astype(np.uint8) for _ in range(count)]


def segments(place: Path, maps: Sequence[tuple], names=NAMES, **more: Sequence) -> str:
    """A place of instance maps. maps: (ids, [(id, class, score, thing), ...]) of each record;
    more: values of other kinds, one for each record."""
    records = []
    for i, (ids, listed) in enumerate(maps):
        records.append(Record(f"r{i:02d}"))
        records[-1].set("instance", InstanceMap(np.asarray(ids, np.uint16),
                                                tuple(Segment(*s) for s in listed)))
        for kind, values in more.items():
            records[-1].set(kind, values[i])
    return write_place(place, records, kinds=["instance", *more], classes=names)


def masks(place: Path, images: Sequence[tuple], names=NAMES) -> str:
    """A place of masks. images: (masks, classes, scores) of each record."""
    records = []
    for i, (drawn, classes, scores) in enumerate(images):
        records.append(Record(f"r{i:02d}"))
        runs = []
        for mask in drawn:
            flat = mask.T.ravel()
            change = np.flatnonzero(np.diff(flat.astype(int), prepend=0))
            runs.append(tuple(np.diff([0, *change, flat.size]).tolist()))
        size = drawn[0].shape if len(drawn) else (12, 16)
        records[-1].set("masks", Masks(size, tuple(runs), np.array(classes, np.int64),
                                       np.array(scores, float)))
    return write_place(place, records, kinds=["masks"], classes=names)
