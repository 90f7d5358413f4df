"""Tags and boxes as vectors and maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsseg.errors import RecordError
from wsseg.train.tags import box_maps, check_label, tags_of_boxes, tags_of_label, tags_vector


def test_tags_become_a_vector_with_the_background():
    assert tags_vector((3, 1), 5).tolist() == [True, True, False, True, False]
    assert tags_vector((), 3, background=False).tolist() == [False] * 3
    assert tags_of_label(np.array([[2, 255], [2, 4]]), 5, background=False).tolist() == \
        [False, False, True, False, True]
    assert tags_of_boxes(np.zeros((2, 4)), np.array([2, 2]), 3).tolist() == [True, False, True]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 60)] * 4, st.integers(1, 3)), max_size=4),
       st.integers(1, 9), st.integers(1, 9))
def test_positions_whose_pixel_is_in_a_box_are_inside(corners, height, width):
    boxes = np.array([[min(a, c), min(b, d), max(a, c) + .5, max(b, d) + .5]
                      for a, b, c, d, _ in corners]).reshape(-1, 4)
    ids = np.array([c[4] for c in corners], np.int64)
    image = (61, 61)
    maps = box_maps(boxes, ids, 4, image=image, size=(height, width))

    expected = np.zeros((4, height, width), bool)
    expected[0] = True
    for (x0, y0, x1, y1), cls in zip(boxes, ids):
        inside = []
        for count, low, high in ((height, y0, y1), (width, x0, x1)):
            step = 60 / max(1, count - 1)
            at = [i * step + .5 for i in range(count)]
            nearest = min(max(int(((low + high) / 2 - .5) / step + .5), 0), count - 1)
            inside.append([i for i in range(count) if low <= at[i] < high] or [nearest])
        rows, columns = inside
        expected[cls][np.ix_(rows, columns)] = True
    assert np.array_equal(maps, expected)


def test_a_box_of_the_map_itself_covers_its_own_pixels():
    maps = box_maps(np.array([[1., 0, 3, 2]]), np.array([1]), 2, image=(3, 4), size=(3, 4))
    assert maps[1].astype(int).tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_a_box_is_somewhere_even_where_the_map_is_one_position():
    maps = box_maps(np.array([[12., 0, 16, 16]]), np.array([1]), 2, image=(16, 16), size=(1, 1))
    assert maps[1].all()


def test_a_thin_box_has_the_column_of_its_middle():
    maps = box_maps(np.array([[17., 0, 18, 33]]), np.array([1]), 2, image=(33, 33), size=(5, 5))
    assert maps[1].astype(int).tolist() == [[0, 0, 1, 0, 0]] * 5


def test_a_box_boosts_the_logits_under_its_own_pixels():
    maps = box_maps(np.array([[2., 282, 41, 320]]), np.array([1]), 2, image=(321, 321),
                    size=(41, 41))
    rows, columns = maps[1].any(1).nonzero()[0] * 8, maps[1].any(0).nonzero()[0] * 8
    assert rows.tolist() == [288, 296, 304, 312] and columns.tolist() == [8, 16, 24, 32, 40]


def test_ids_that_are_no_class_are_refused():
    for call in (lambda: tags_vector((21,), 21), lambda: tags_vector((-1,), 21),
                 lambda: box_maps(np.zeros((1, 4)), np.array([21]), 21, image=(9, 9), size=(3, 3))):
        with pytest.raises(RecordError, match="none of the 21 classes"):
            call()
    with pytest.raises(ValueError, match="1 boxes have 2"):
        tags_of_boxes(np.zeros((1, 4)), np.array([1, 2]), 3)


def test_a_wrong_label_is_named_with_its_place():
    label = np.zeros((5, 6), np.uint8)
    label[1] = 255
    check_label(label, 21)
    label[3, 4] = label[4, 0] = 38
    with pytest.raises(RecordError, match="label 38 at 2 pixels, the first at x 4, y 3"):
        check_label(label, 21)
    with pytest.raises(RecordError, match="label 300"):
        check_label(np.array([[0, 300]], np.uint16), 21)
