"""What instance maps hold, against numpy, with and without the native kernels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.metrics import iou, maps
from wsseg.metrics.maps import filled, labels_without_id, values_of


@pytest.fixture(params=["native", "numpy"], autouse=True, scope="module")
def engine(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(maps, "_native", None)
            patch.setattr(iou, "_native", None)
        elif maps._native is None:
            pytest.skip("native kernels not built")
        yield


@st.composite
def scenes(draw):
    """Ids and labels in stretches and single pixels."""
    count = draw(st.integers(0, 40))
    ids, label = (np.repeat(draw(arrays(kind, count, elements=st.sampled_from(values))),
                            draw(arrays(np.int64, count, elements=st.integers(1, 20))))
                  for kind, values in (draw(st.sampled_from([
                      (np.uint16, [0, 0, 0, 1, 2, 255, 256, 65535]),
                      (np.uint8, [0, 0, 0, 1, 2, 255])])),
                                       (draw(st.sampled_from([np.uint8, np.uint16])),
                                        [0, 1, 7, 254, 255])))
    n = min(len(ids), len(label))
    return ids[:n].reshape(1, n), label[:n].reshape(1, n)


@given(scenes())
def test_values_are_those_that_sorting_finds(scene):
    ids, label = scene
    assert values_of(ids).tolist() == np.unique(ids).tolist()
    assert labels_without_id(ids, label).tolist() == np.unique(label[ids == 0]).tolist()


@given(scenes(), st.dictionaries(st.sampled_from([0, 1, 7, 254, 255]), st.integers(0, 65535)))
def test_gaps_get_the_code_of_their_label(scene, codes):
    ids, label = scene
    before = ids.copy()
    found = filled(ids, label, codes)
    wide = max(codes.values(), default=0) > 255
    assert found.dtype == (np.uint16 if wide else ids.dtype) and found.shape == ids.shape
    assert found.tolist() == [[i or codes.get(c, 0) for i, c in zip(*row)]
                              for row in zip(ids.tolist(), label.tolist())]
    assert (ids == before).all()


def test_every_other_view_of_memory_is_read_as_it_is():
    rng = np.random.default_rng(0)
    ids, label = rng.integers(0, 3, (20, 30)).astype(np.uint16), rng.integers(
        0, 3, (20, 30)).astype(np.uint8)
    for way in (lambda a: a[::2, ::3], lambda a: a.T, lambda a: a[::-1]):
        i, c = way(ids), way(label)
        assert values_of(i).tolist() == np.unique(i).tolist()
        assert labels_without_id(i, c).tolist() == np.unique(c[i == 0]).tolist()
        np.testing.assert_array_equal(filled(i, c, {0: 9, 1: 8, 2: 7}),
                                      np.where(i == 0, 9 - c.astype(int), i))
        np.testing.assert_array_equal(filled(i.astype(">u2"), c, {0: 9}), filled(i, c, {0: 9}))
        assert values_of(i.astype(">u2")).tolist() == np.unique(i).tolist()


def test_maps_of_more_ids_than_a_small_table_holds():
    rng = np.random.default_rng(0)
    for high in (250, 256, 300, 65536):
        truth, guess = (np.repeat(rng.integers(0, high, 700), 3).astype(np.uint16)
                        for _ in range(2))
        for _ in range(2):  # nothing is left from the first time
            rows = iou.pair_counts(truth, guess)
            assert len(rows) == len(np.unique(rows[:, :2], axis=0)) and rows[:, 2].sum() == 2100
            codes, numbers = np.unique(truth.astype(np.int64) << 16 | guess, return_counts=True)
            assert dict(zip((rows[:, 0] << 16 | rows[:, 1]).tolist(), rows[:, 2].tolist())) \
                == dict(zip(codes.tolist(), numbers.tolist()))


def test_maps_of_different_size_are_refused_by_the_kernels():
    if maps._native is None:
        return
    ids, label = np.zeros((2, 3), np.uint16), np.zeros((2, 4), np.uint8)
    with pytest.raises(ValueError, match="sizes differ"):
        labels_without_id(ids, label)
    with pytest.raises(ValueError, match="sizes differ"):
        filled(ids, label, {})
    with pytest.raises(ValueError, match="a code for each label"):
        maps._native.filled(ids, ids.astype(np.uint8), np.zeros(7, np.uint16))
