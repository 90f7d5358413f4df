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


def unfiltered(raw: bytes, height: int, width: int, step: int) -> np.ndarray:
    """Rows of a PNG by the words of PNG 1.2, section 6, byte by byte."""
    rows, up = [], [0] * (width * step)
    for y in range(height):
        filter_, *row = raw[y * (width * step + 1):(y + 1) * (width * step + 1)]
        out: list[int] = []
        for i, x in enumerate(row):
            a = out[i - step] if i >= step else 0
            b, c = up[i], up[i - step] if i >= step else 0
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            out.append((x + (0, a, b, (a + b) // 2, paeth)[filter_]) % 256)
        rows.append(out)
        up = out
    flat = np.array(rows, np.uint8)
    return flat if step == 1 else flat.view(">u2").astype(np.uint16)


@pytest.mark.parametrize("step", [1, 2])
@pytest.mark.parametrize("density", [0, .01, .05, .3])
def test_rows_come_out_of_their_filters(step, density):
    rng = np.random.default_rng(int(100 * density) + step)
    for width in (1, 3, 4, 5, 8, 9, 40, 131):
        height = 25
        rows = np.where(rng.random((height, width * step)) < density,
                        rng.integers(0, 256, (height, width * step)), 0)
        rows[0] = rng.integers(0, 256, width * step) if width % 2 else 7
        raw = np.hstack([rng.integers(0, 5, (height, 1)), rows]).astype(np.uint8).tobytes()
        found = (kernel.unfilter if step == 1 else kernel.unfilter16)(raw, height, width)
        np.testing.assert_array_equal(found, unfiltered(raw, height, width, step))
