"""The kernels that count and match the segments of one image, against numpy."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.metrics import panoptic
from wsseg.metrics.overlaps import Regions, map_regions
from wsseg.metrics.panoptic import labelled_counts, panoptic_counts

kernel = pytest.importorskip("wsseg.native._panoptic")
C = 4


def by_numpy(truth: Regions, prediction: Regions, n: int = C) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panoptic, "_native", None)
        return panoptic_counts(truth, prediction, n)


def whole(ids: np.ndarray, classes: dict[int, int], crowd: dict[int, int] = {}) -> Regions:
    """The regions of just the ids that a map draws, and some of them crowds."""
    numbers = [i for i in np.unique(ids).tolist() if i in classes or i in crowd]
    return map_regions(ids, numbers, [crowd.get(i, classes.get(i)) for i in numbers],
                       crowd=[i in crowd for i in numbers])


@st.composite
def scenes(draw):
    """A true map, labels and a prediction that often agrees, in stretches and single pixels."""
    kind = draw(st.sampled_from([np.uint8, np.uint16]))
    values = [0, 1, 2, 3, 200] + [700, 65535] * (kind == np.uint16)
    count = draw(st.integers(1, 12))

    def line(of, values):
        return np.repeat(draw(arrays(of, count, elements=st.sampled_from(values))), lengths)

    lengths = draw(arrays(np.int64, count, elements=st.integers(1, 30)))
    truth, other = line(kind, values), line(kind, values)
    label = line(draw(st.sampled_from([np.uint8, np.uint16])), [0, 1, 2, 3, 255])
    guess = np.where(draw(arrays(bool, len(truth), elements=st.sampled_from(
        [True, True, True, True, False]))), truth, other)
    classes = {i: draw(st.integers(0, C - 1)) for i in values[1:]}
    swapped = {i: draw(st.sampled_from([c, c, c, (c + 1) % C])) for i, c in classes.items()}
    return truth[None], label[None], guess[None], classes, swapped


@given(scenes(), st.sets(st.sampled_from([1, 2, 3, 200])))
def test_counts_are_those_of_numpy_bit_for_bit(scene, crowds):
    truth, _, guess, classes, swapped = scene
    crowd = {i: classes.pop(i) for i in crowds}
    truth, guess = whole(truth, classes, crowd), whole(guess, swapped)
    np.testing.assert_array_equal(panoptic_counts(truth, guess, C), by_numpy(truth, guess))


@given(scenes(), st.sampled_from([None, 0, 255]), st.sampled_from([None, 0, 2]))
def test_labels_tell_crowds_void_and_background(scene, void, background):
    """As if each of them had an id of its own."""
    truth, label, guess, classes, swapped = scene
    if void != 255:
        label = np.minimum(label, C - 1)
    filled, crowd = truth.astype(np.uint16), {}
    for cls in np.unique(label).tolist():
        if cls != void:
            filled[(truth == 0) & (label == cls)] = 800 + cls
            if cls != background:
                crowd[800 + cls] = cls
    prediction = whole(guess, swapped)

    found = labelled_counts(whole(truth, classes), label, prediction, C, void, background)

    np.testing.assert_array_equal(found, by_numpy(whole(filled, classes, crowd), prediction))


def test_maps_of_more_ids_than_a_small_table_holds():
    rng = np.random.default_rng(0)
    for high in (250, 300, 5000):
        truth = np.repeat(rng.integers(0, high, 700), 3).astype(np.uint16)[None]
        guess = np.where(rng.random(truth.shape) < .8, truth, np.roll(truth, 2))
        label = np.repeat(rng.integers(0, C, 700), 3).astype(np.uint8)[None]
        classes = {i: i % C for i in range(1, high)}
        one, other = whole(truth, classes), whole(guess, classes)
        for _ in range(2):  # nothing is left from the first time
            np.testing.assert_array_equal(panoptic_counts(one, other, C), by_numpy(one, other))
            filled = np.where(truth == 0, 60000 + label.astype(int), truth).astype(np.uint16)
            crowds = whole(filled, classes, {60000 + c: c for c in range(C)})
            np.testing.assert_array_equal(labelled_counts(one, label, other, C, None, None),
                                          by_numpy(crowds, other))


def test_maps_are_counted_side_by_side():
    ids = np.repeat(np.arange(5, dtype=np.uint8), 4000)[None]
    label = np.full(ids.shape, 2, np.uint8)
    regions = whole(ids, {i: i % C for i in range(1, 5)})
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: labelled_counts(regions, label, regions, C, 255, 0),
                              range(40)))
    assert all(f.tolist() == [[1] * 4, [1] * 4, [0] * 4, [0] * 4] for f in found)


def test_maps_that_are_not_whole_are_left_to_others():
    ids, label = np.array([[0, 1, 2, 2]], np.uint8), np.array([[3, 0, 0, 0]], np.uint8)
    both, one = map_regions(ids, [1, 2], [0, 1]), map_regions(ids, [1], [0])
    more = map_regions(ids, [1, 2, 3], [0, 1, 1])
    assert labelled_counts(both, label, both, C, 255, 0) is not None
    for truth, guess in ((one, both), (both, one), (more, both), (both, more)):
        assert labelled_counts(truth, label, guess, C, 255, 0) is None
    assert labelled_counts(both, label, both, 3, 255, 0) is None  # label 3 is no class
    assert labelled_counts(both, label, both, 1, 255, 0) is None  # nor is class 1
    assert labelled_counts(both, label[:, :3], both, C, 255, 0) is None
    assert labelled_counts(both, label.astype(np.int64), both, C, 255, 0) is None


def test_what_does_not_fit_together_is_refused_at_the_boundary():
    ids, n, cls = np.zeros((1, 4), np.uint8), np.array([1, 2]), np.array([0, 0])
    none = np.zeros(0, np.int64)
    flags = np.zeros(2, bool)
    kernel.counts(ids, n, cls, flags, ids, n, cls, 1)
    for args in ((ids, n, cls, flags, ids[:, :3].copy(), n, cls, 1),
                 (ids, n, cls, flags[:1], ids, n, cls, 1),
                 (ids, n, cls[:1], flags, ids, n, cls, 1),
                 (ids, n, cls, flags, ids, n, none, 1),
                 (ids, n, cls + 1, flags, ids, n, cls, 1),
                 (ids, n, cls - 1, flags, ids, n, cls, 1),
                 (ids, n[::-1].copy(), cls, flags, ids, n, cls, 1),
                 (ids, n - 1, cls, flags, ids, n, cls, 1),
                 (ids, n, cls, flags, ids, n, cls, -1),
                 (ids, n, cls, flags, ids + 9, n, cls, 1)):
        with pytest.raises(ValueError):
            kernel.counts(*args)
    for args in ((ids.astype(np.uint16), n, cls, flags, ids, n, cls, 1),
                 (ids, n.astype(np.int32), cls, flags, ids, n, cls, 1),
                 (ids.astype(np.int64), n, cls, flags, ids.astype(np.int64), n, cls, 1)):
        with pytest.raises(TypeError):
            kernel.counts(*args)
    with pytest.raises(ValueError, match="sizes differ"):
        kernel.labelled_counts(ids, ids[:, :2].copy(), n, cls, ids, n, cls, 255, 0, 1)
