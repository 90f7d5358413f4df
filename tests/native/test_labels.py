"""The kernel that counts pairs of labels, against counting them one by one."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

kernel = pytest.importorskip("wsseg.native._labels")


def counted(truth, prediction):
    return {(a, b): n for a, b, n in kernel.pair_counts(truth, prediction).tolist()}


@given(st.data(), st.sampled_from([np.uint8, np.uint16]), st.integers(0, 300))
def test_pairs_are_counted_as_one_by_one(data, dtype, length):
    values = st.sampled_from([0, 1, 2, 127, 128, 254, 255, *((300, 65535) if dtype == np.uint16
                                                             else ())])
    truth, prediction = (np.repeat(data.draw(arrays(dtype, length, elements=values)),
                                   data.draw(st.integers(1, 70))) for _ in range(2))
    both = min(len(truth), len(prediction))
    truth, prediction = truth[:both], prediction[:both]
    assert counted(truth, prediction) == Counter(zip(truth.tolist(), prediction.tolist()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("at", range(70))
def test_a_single_odd_pixel_anywhere_is_found(dtype, at):
    truth, prediction = np.full(70, 7, dtype), np.full(70, 9, dtype)
    truth[at] = 8
    assert counted(truth, prediction) == {(7, 9): 69, (8, 9): 1}


def test_one_call_leaves_nothing_behind_for_the_next():
    a, b = np.array([1, 1, 2], np.uint8), np.array([3, 3, 3], np.uint8)
    assert counted(a, b) == counted(a, b) == {(1, 3): 2, (2, 3): 1}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: counted(np.tile(a, 5000), np.tile(b, 5000)), range(40)))
    assert all(f == {(1, 3): 10_000, (2, 3): 5000} for f in found)


def test_arrays_of_another_size_or_type_are_refused():
    with pytest.raises(ValueError):
        kernel.pair_counts(np.zeros(3, np.uint8), np.zeros(4, np.uint8))
    with pytest.raises(TypeError):
        kernel.pair_counts(np.zeros(3, np.int32), np.zeros(3, np.int32))
