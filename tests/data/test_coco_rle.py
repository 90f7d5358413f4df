import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as oracle

from wsseg.data.rle import (changes_of, mask_of_runs, read_counts, runs_of_changes, runs_of_mask,
                            union)
from wsseg.errors import RecordError, UnsafeError

MASKS = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(lambda s: arrays(bool, s))


def compressed(mask):
    return oracle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_runs_go_column_by_column_from_the_background():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)  # columns: 0 0 | 1 0 | 1 1
    assert runs_of_mask(mask) == (2, 1, 1, 2)
    assert runs_of_mask(~mask) == (0, 2, 1, 1, 2)
    np.testing.assert_array_equal(mask_of_runs((2, 1, 1, 2), (2, 3)), mask)


@given(MASKS)
def test_compressed_text_is_read_as_pycocotools_writes_it(mask):
    assert read_counts(compressed(mask), mask.shape) == runs_of_mask(mask)


@given(MASKS)
def test_masks_survive_the_round_trip(mask):
    np.testing.assert_array_equal(mask_of_runs(runs_of_mask(mask), mask.shape), mask)
    assert read_counts(list(runs_of_mask(mask)), mask.shape) == runs_of_mask(mask)


def test_long_runs_and_negative_differences_are_read():
    mask = np.zeros((1000, 1200), bool)
    mask[100:, 3:900], mask[5, 1000] = True, True
    assert read_counts(compressed(mask), mask.shape) == runs_of_mask(mask)


def test_runs_of_no_length_are_merged():
    assert read_counts([2, 0, 1, 3, 0], (2, 3)) == (3, 3)
    assert read_counts([0, 0, 0, 6], (2, 3)) == (0, 6)
    assert read_counts([6, 0], (2, 3)) == (6,)


@given(st.lists(MASKS.filter(lambda m: m.shape), min_size=2, max_size=4))
def test_the_union_of_changes_is_the_union_of_masks(masks):
    size = masks[0].shape
    masks = [np.resize(m, size) for m in masks]
    parts = [changes_of(np.cumsum(runs_of_mask(m))[:-1], size) for m in masks]
    assert runs_of_changes(union(parts), size) == runs_of_mask(np.logical_or.reduce(masks))


def test_the_union_of_nothing_is_nothing():
    assert runs_of_changes(union([]), (2, 3)) == (6,)


@pytest.mark.parametrize("counts, message", [
    ([5], "covers 5 pixels of an image of 2x3 = 6"),
    ([3, 4], "covers 7 pixels"),
    ([], "covers 0 pixels"),
    ([8, -2], "run of 8 pixels"),
    ([3, -1, 4], "run of -1 pixels"),
    ([1 << 70], "neither a list of run lengths"),
    ([2.0, 4], "neither a list of run lengths"),
    ([True, 5], "neither a list of run lengths"),
    (None, "neither a list of run lengths"),
    ("", "empty, cut off"),
    ("V", "empty, cut off"),          # bit 5 says that more follows
    ("5!", "characters that RLE does not use"),
    ("5\u00e9", "not ASCII"),
    ("PPPPPPP0", "a number of 8 digits"),
    ("0" * 50, "not? a list|neither"),  # more text than any mask of 6 pixels needs
    ("5", "covers 5 pixels"),
    ("7", "run of 7 pixels"),
    ("O", "run of -1 pixels"),        # 11111 is -1
    ("ooooooO", "run of -1 pixels"),
])
def test_counts_that_do_not_cover_the_image_are_record_errors(counts, message):
    with pytest.raises(RecordError, match=message):
        read_counts(counts, (2, 3))


def test_an_absurd_size_is_refused_at_once():
    start = time.perf_counter()
    with pytest.raises(UnsafeError, match="refused before decoding"):
        read_counts("5", (100_000, 200_000))
    assert time.perf_counter() - start < 0.5


@given(st.text(alphabet=[chr(c) for c in range(40, 120)], max_size=30))
def test_no_text_gives_anything_but_full_runs_or_a_record_error(text):
    try:
        runs = read_counts(text, (5, 7))
    except RecordError:
        return
    assert sum(runs) == 35 and min(runs[1:], default=1) > 0 <= runs[0]
