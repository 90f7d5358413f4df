"""Panoptic quality by one call of the kernel, against the longer way that it saves."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.cli import _regions
from wsseg.cli._instances import How, _count
from wsseg.cli._pairing import Pair
from wsseg.errors import RecordError, WssegError
from wsseg.io.codec import encode
from wsseg.io.png import encode_labels
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Segment

NAMES = ("background", "cat", "dog", "cow", "bus")
pytest.importorskip("wsseg.native._panoptic")


def record(ids: np.ndarray, seed: int, label: np.ndarray | None = None, names=NAMES) -> Record:
    rng = np.random.default_rng(seed)
    segments = tuple(Segment(i, int(rng.integers(1, 5)), round(float(rng.random()), 2),
                             bool(rng.integers(2))) for i in np.unique(ids).tolist() if i)
    members = encode("instance", InstanceMap(ids.astype(np.uint16), segments))
    return Record("a", members | ({} if label is None else encode("label", label)), names)


def pair(seed: int, **odd) -> Pair:
    """A pair of records; odd: what differs from the usual."""
    rng = np.random.default_rng(seed)
    high = odd.get("high", 5)
    truth = np.kron(rng.integers(0, 5, (4, 5)), np.ones((6, 5), int))
    truth[truth == 4] = high
    guess = np.where(rng.random(truth.shape) < .9, truth, np.roll(truth, 2))
    label = np.kron(rng.choice(odd.get("labels", [0, 1, 2, 4, 255]), (4, 5)), np.ones((6, 5)))
    kind = np.uint16 if label.max() > 255 else np.uint8
    return Pair("a", record(guess, seed // 2, names=odd.get("names", NAMES)), record(
        truth, seed // 2, label.astype(kind) if odd.get("label", True) else None,
        odd.get("names", NAMES)))


def both(one: Pair, how: How = How(), names=NAMES):
    """What the short way finds (None: nothing), and what the long one finds or complains of."""
    short = _regions.counts_at_once(copy(one), names, how.void)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsseg.cli._instances.counts_at_once", lambda *args: None)
        patch.setattr("wsseg.metrics.panoptic._native", None)
        try:
            return short, _count(copy(one), names=names, how=how)[1]
        except WssegError as error:
            return short, str(error)


def copy(one: Pair) -> Pair:
    return Pair(one.key, *(r if r is None else Record(r.key, dict(r.members), r.names,
                                                      _values=dict(r._values))
                           for r in (one.prediction, one.truth)))


@pytest.mark.parametrize("odd", [
    {}, {"label": False}, {"high": 700}, {"labels": [255]}, {"labels": [0]}, {"labels": [1, 2, 3]},
    {"names": ("road", "cat", "dog", "cow", "bus")}], ids=str)
@pytest.mark.parametrize("void", [True, False])
def test_both_ways_find_the_same(odd, void):
    found = 0.0
    for seed in range(8):
        one = pair(seed, **odd)
        (counts, *things), (expected, *others) = both(one, How(void=void), odd.get("names", NAMES))
        np.testing.assert_array_equal(counts, expected)
        assert things == others
        found += counts[1].sum()
    assert found


def test_maps_stored_in_16_bits_are_as_good():
    one = pair(3)
    short, _ = both(one)
    for side in (one.prediction, one.truth):
        ids = side.get("instance").ids
        side.members["inst.png"] = encode_labels(ids)
        assert side.members["inst.png"][24] == 16
        counts, (expected, *_) = both(one)
        np.testing.assert_array_equal(counts[0], short[0])
        np.testing.assert_array_equal(counts[0], expected)


def test_records_that_are_decoded_already_are_as_good():
    one = pair(3)
    short, _ = both(one)
    decoded = [Record("a", names=NAMES) for _ in range(2)]
    for new, old in zip(decoded, (one.prediction, one.truth)):
        for kind in old.kinds():
            new.set(kind, old.get(kind))
    np.testing.assert_array_equal(both(Pair("a", *decoded))[0][0], short[0])


def test_what_is_not_as_it_should_be_is_said_by_the_longer_way():
    other, less = (record(np.ones(size, int), 0) for size in ((24, 25), (9, 9)))
    masks, one = Record("a", {"masks.json": b'{"size":[24,25],"masks":[]}'}, NAMES), pair(1)
    truth, guess = one.truth, one.prediction

    def with_members(of: Record, **members: bytes) -> Record:
        renamed = {name.replace("_", "."): data for name, data in members.items()}
        return Record("a", {**of.members, **renamed}, NAMES)

    for bad, words in (
            (Pair("a", guess, with_members(truth, inst_json=other.members["inst.json"])),
             "truth: instance: instance ids in the map and in the list differ"),
            (Pair("a", with_members(guess, inst_png=other.members["inst.png"]), truth),
             "instance: instance ids in the map and in the list differ"),
            (Pair("a", with_members(guess, inst_json=b"[]"), truth), "instance: segments: no"),
            (Pair("a", with_members(guess, inst_png=b"GIF8"), truth), "instance: not a PNG"),
            (Pair("a", guess, with_members(truth, png=truth.members["png"][:-9])),
             "truth: label: PNG truncated"),
            (Pair("a", guess, with_members(truth, png=encode_labels(np.eye(3, dtype=np.uint8)))),
             "truth: label map is 3x3"),
            (Pair("a", guess, with_members(truth, png=encode_labels(
                np.full((24, 25), 9, np.uint8)))), "truth: a segment is of class 9"),
            (Pair("a", less, truth), "9x9"), (Pair("a", masks, truth), "has masks"),
            (Pair("a", Record("a", {}, NAMES), truth), "has no instance")):
        short, said = both(bad)
        assert short is None and isinstance(said, str) and words in said, (words, said)
        with pytest.raises(RecordError) as caught:
            _count(copy(bad), names=NAMES, how=How())
        assert str(caught.value) == said


def test_without_names_or_prediction_it_goes_the_longer_way():
    one = pair(1)
    for bad, names in ((one, None), (Pair("a", None, one.truth), NAMES)):
        short, long = both(bad, names=names)
        assert short is None
        np.testing.assert_array_equal(_count(copy(bad), names=names, how=How())[1][0], long[0])
