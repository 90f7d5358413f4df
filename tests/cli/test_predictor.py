"""Photos on their way through a net: grouped, several at once, and given back in order."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from wsseg.cli._parallel import Failure  # noqa: E402
from wsseg.cli._predictor import Predictor  # noqa: E402
from wsseg.errors import RecordError, WssegError  # noqa: E402


class Photo:
    """A record whose photo is ``width`` wide; 0 cannot be read."""

    def __init__(self, number: int, width: int) -> None:
        self.key, self.width, self.found = f"k{number}", width, None

    def get(self, kind: str) -> np.ndarray:
        if not self.width:
            raise RecordError("no photo")
        return np.full((2, self.width, 3), 7, np.uint8)

    def set(self, kind: str, value: str) -> None:
        assert self.found is None and kind == "label"
        self.found = value


class Maps:
    """Notes what is handed to it; sleeps by chance; records named ``bad`` cannot be mapped."""

    def __init__(self, bad: set[str] = frozenset(), sleep: int | None = None) -> None:
        self.groups, self.bad, self.threads = set(), bad, set()
        self.random = None if sleep is None else random.Random(sleep)

    def __call__(self, photos, records):
        self.threads.add(torch.get_num_threads())
        if self.random is not None:
            time.sleep(self.random.random() * .002)
        assert photos.shape == (len(records), 2, records[0].width, 3)
        bad = [r.key for r in records if r.key in self.bad]
        if bad:
            raise RecordError(f"{bad[0]} is bad")
        self.groups.add(tuple(r.key for r in records))
        return [{"label": r.key} for r in records]


def through(maps, widths, **options):
    photos = [Photo(i, w) for i, w in enumerate(widths)]
    found = list(Predictor(maps, **{"readers": 2, "batch": 1} | options)(lambda r: r, photos))
    return photos, found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 5),
       st.sets(st.integers(0, 59), max_size=3))
def test_each_comes_back_in_its_place_whatever_is_slow(widths, batch, bad):
    bad = {f"k{i}" for i in bad}
    groups = []
    for cores, sleep in ((0, None), (1, 1), (2, 2), (5, 3)):
        maps = Maps(bad, sleep)
        photos, found = through(maps, widths, batch=batch, cores=cores)
        assert len(found) == len(photos)
        for photo, one in zip(photos, found):
            if not photo.width:
                assert isinstance(one, Failure) and (one.key, one.message) == (
                    photo.key, "no photo")
            elif photo.key in bad:
                assert isinstance(one, Failure) and one.message == f"{photo.key} is bad"
            else:
                assert one is photo and photo.found == photo.key
        assert all(len(group) <= batch for group in maps.groups)
        groups.append(maps.groups)
    assert groups[0] == groups[1] == groups[2] == groups[3]


def test_photos_of_one_size_go_together():
    maps = Maps()
    through(maps, [1, 2, 1, 2, 1, 1], batch=4)
    assert maps.groups == {("k0", "k2", "k4", "k5"), ("k1", "k3")}


def test_a_photo_has_one_thread_however_many_cores_there_are():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for cores, expected in ((1, 1), (6, 1), (0, 2)):
            for count in (1, 12):
                maps = Maps()
                through(maps, [1] * count, cores=cores)
                assert maps.threads == {expected} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("cores", [0, 3])
def test_what_ends_it_all_ends_it(cores):
    def maps(photos, records):
        raise WssegError("out of memory")

    with pytest.raises(WssegError, match="out of memory"):
        through(maps, [1] * 9, cores=cores)
