"""The kernel that reads run-lengths and lets masks meet, against masks of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.metrics import overlaps as module
from wsseg.metrics.overlaps import overlaps, run_regions, spans_of

kernel = pytest.importorskip("wsseg.native._spans")
SIZE = (4, 9)


def runs_of(flat: np.ndarray) -> list[int]:
    """COCO's runs by a loop."""
    runs, value = [0], False
    for pixel in flat.tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


masks = st.lists(arrays(bool, SIZE[0] * SIZE[1], elements=st.booleans()), min_size=1, max_size=6)


@given(masks, masks)
def test_masks_meet_in_the_pixels_that_they_share(one, other):
    parts = []
    for flat in (one, other):
        region, start, stop = kernel.spans([runs_of(m) for m in flat], np.arange(len(flat)), *SIZE)
        drawn = np.zeros((len(flat), SIZE[0] * SIZE[1]), bool)
        for r, a, b in zip(region, start, stop):
            assert a < b and not drawn[r, a:b].any()
            drawn[r, a:b] = True
        assert (drawn == flat).all()
        parts.append((np.searchsorted(region, np.arange(len(flat) + 1)), start, stop))
    p, t = np.indices((len(one), len(other))).reshape(2, -1)
    meet = kernel.meets(p, t, *parts[0], *parts[1])
    assert meet.tolist() == [int((one[i] & other[j]).sum()) for i, j in zip(p, t)]
    assert kernel.areas([runs_of(m) for m in one], np.arange(len(one))).tolist() == [
        int(m.sum()) for m in one]


@given(masks, masks, st.data())
def test_numpy_gives_the_same_without_the_kernel(one, other, data):
    def regions(flat):
        classes = data.draw(st.lists(st.integers(0, 1), min_size=len(flat), max_size=len(flat)))
        return run_regions(SIZE, [tuple(runs_of(m)) for m in flat], classes)

    truth, guess = regions(one), regions(other)
    found = overlaps(truth, guess)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_native", None)
        slow = overlaps(truth, guess)
        spans = spans_of(truth)
    for name in ("pairs", "iou", "areas", "meet"):
        np.testing.assert_array_equal(getattr(found, name), getattr(slow, name))
    for a, b in zip(spans_of(truth), spans):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("runs", [(), (35,), (37,), (40, -4), (36, 1), (1 << 62, 1 << 62),
                                  (-36, 72)])
def test_runs_that_do_not_cover_the_image_are_refused(runs):
    with pytest.raises(ValueError, match="run-lengths do not cover 4x9 pixels"):
        kernel.spans([(36,), runs], np.array([0, 1]), *SIZE)
    kernel.spans([(36,), runs], np.array([0]), *SIZE)  # not asked for


@pytest.mark.parametrize("runs", [(1 << 70,), ("a",), (1.5, 34.5), None])
def test_runs_that_are_no_whole_numbers_are_refused(runs):
    with pytest.raises((TypeError, OverflowError)):
        kernel.spans([runs], np.array([0]), *SIZE)


def test_numbers_may_come_in_any_sequence():
    for runs in ([(2, 3, 31)], ([2, 3, 31],), [np.array([2, 3, 31])], [range(0, 37, 36)]):
        region, start, stop = kernel.spans(runs, np.array([0]), *SIZE)
        assert (region.tolist(), (stop - start).sum()) == ([0], 36 if len(runs[0]) == 2 else 3)
    assert kernel.areas([(1, np.int32(2), 3, np.uint8(4))], np.array([0])).tolist() == [6]


@pytest.mark.parametrize("p, t, first", [([5], [0], [0, 1, 1, 1, 1, 1]), ([-1], [0], [0, 1]),
                                         ([0], [0, 0], [0, 1]), ([0], [0], [0, 7]),
                                         ([0], [0], [1, 0]), ([0], [0], [])])
def test_pairs_and_spans_that_do_not_fit_are_refused(p, t, first):
    with pytest.raises(ValueError, match="do not fit"):
        kernel.meets(np.array(p), np.array(t), np.array(first, np.int64), np.array([0]),
                     np.array([4]), np.array([0, 1]), np.array([0]), np.array([4]))


def test_an_index_outside_of_the_masks_is_refused():
    with pytest.raises(IndexError):
        kernel.spans([(36,)], np.array([1]), *SIZE)
