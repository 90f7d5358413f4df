"""Simulated scribbles: always on their own object, always the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.conftest import make_label, real_data
from wsseg.annotate.objects import connected_objects
from wsseg.annotate.scribble import NOT_DRAWN, draw_scribbles

labels = arrays(np.uint8, st.tuples(st.integers(1, 15), st.integers(1, 15)),
                elements=st.sampled_from([0, 0, 1, 2, 255]))


def draw(label: np.ndarray, seed: int = 0, **options) -> np.ndarray:
    ids, classes = connected_objects(label)
    return draw_scribbles(label, ids, classes, np.random.default_rng(seed), **options)


@settings(max_examples=60)
@given(labels, st.integers(0, 9), st.integers(1, 5), st.integers(1, 3))
def test_what_is_drawn_is_right_and_every_object_gets_some(label, seed, width, strokes):
    drawn = draw(label, seed, width=width, strokes=strokes)
    assert drawn.dtype == np.uint8 and drawn.shape == label.shape
    on = drawn != NOT_DRAWN
    np.testing.assert_array_equal(drawn[on], label[on])
    ids, classes = connected_objects(label)
    for number in range(1, len(classes) + 1):
        assert on[ids == number].any()
    if (label == 0).any():
        assert (drawn == 0).any()


def test_strokes_are_strokes_and_not_areas():
    label = np.zeros((200, 300), np.uint8)
    label[40:160, 50:250] = 3
    drawn = draw(label)
    assert 60 < (drawn == 3).sum() < 0.15 * (label == 3).sum()
    ys, xs = np.nonzero(drawn == 3)
    assert np.ptp(xs) > 80 and np.ptp(ys) < 120  # along the longest extent


def test_a_wider_pen_draws_more():
    label = np.zeros((200, 300), np.uint8)
    label[40:160, 50:250] = 3
    counts = [(draw(label, width=w) == 3).sum() for w in (1, 3, 9)]
    assert counts[0] < counts[1] < counts[2]


def test_the_same_seed_draws_the_same_and_another_one_something_else():
    label = make_label(0, (60, 80))
    np.testing.assert_array_equal(draw(label, 4), draw(label, 4))
    assert not np.array_equal(draw(label, 4), draw(label, 5))


def test_a_thin_object_gets_at_least_a_pixel():
    label = np.zeros((30, 30), np.uint8)
    label[np.arange(30), np.arange(30)] = 1  # a diagonal of single pixels
    label[29, 0] = 2
    drawn = draw(label, width=1)
    assert (drawn == 1).any() and drawn[29, 0] == 2


def test_void_is_never_drawn_on():
    label = make_label(0, (60, 80))
    label[20:40] = 255
    assert (draw(label)[20:40] == NOT_DRAWN).all()


def test_nothing_to_draw_draws_nothing():
    label = np.full((6, 6), 255, np.uint8)
    assert (draw(label) == NOT_DRAWN).all()


def test_an_image_that_is_one_object_has_no_background_stroke():
    drawn = draw(np.ones((20, 20), np.uint8))
    assert set(np.unique(drawn)) == {1, 255}


@pytest.mark.parametrize("cls", [1, 254])
def test_any_8_bit_class_is_drawn(cls):
    label = np.zeros((20, 20), np.uint8)
    label[5:15, 5:15] = cls
    assert set(np.unique(draw(label))) == {0, cls, 255}


def test_real_masks_get_strokes_on_every_object():
    from PIL import Image

    folder = real_data("VOC2012") / "SegmentationClass"
    for path in sorted(folder.iterdir())[::150]:
        label = np.asarray(Image.open(path))
        drawn = draw(label)
        on = drawn != NOT_DRAWN
        np.testing.assert_array_equal(drawn[on], label[on])
        assert set(np.unique(label)) <= set(np.unique(drawn)) | {255}
        assert on.mean() < 0.1
