"""Objects of label maps, against scipy.ndimage and brute force."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from wsseg.annotate.objects import (connected_objects, count_objects, inner_points,
                                    present_classes, tight_boxes)

EIGHT = np.ones((3, 3), int)
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
labels = arrays(st.sampled_from([np.uint8, np.uint16]), shapes,
                elements=st.sampled_from([0, 1, 2, 255]), fill=st.just(0))


def by_scipy(label: np.ndarray, background: int | None, min_area: int
             ) -> list[tuple[int, np.ndarray]]:
    """(class, mask) of each object, by class and then by first pixel in reading order."""
    found = []
    for cls in sorted(set(label.ravel().tolist()) - {background, 255}):
        parts, count = ndimage.label(label == cls, EIGHT)
        masks = [parts == i for i in range(1, count + 1)]
        masks.sort(key=lambda mask: int(np.flatnonzero(mask)[0]))
        found += [(cls, mask) for mask in masks if mask.sum() >= min_area]
    return found


@given(labels, st.sampled_from([0, None]), st.integers(1, 5))
def test_objects_are_the_8_connected_parts_of_each_class(label, background, min_area):
    ids, classes = connected_objects(label, background=background, min_area=min_area)
    expected = by_scipy(label, background, min_area)
    assert ids.dtype == np.int32 and classes.dtype == np.int64
    assert classes.tolist() == [cls for cls, _ in expected]
    found = {np.packbits(ids == i).tobytes(): int(c) for i, c in enumerate(classes, 1)}
    assert found == {np.packbits(mask).tobytes(): cls for cls, mask in expected}
    assert ((ids > 0) == sum((m for _, m in expected), np.zeros(label.shape, bool))).all()


@given(labels)
def test_objects_are_numbered_by_class_and_then_by_first_pixel(label):
    ids, classes = connected_objects(label)
    for number, (cls, mask) in enumerate(by_scipy(label, 0, 1), 1):
        assert classes[number - 1] == cls
        np.testing.assert_array_equal(ids == number, mask)


def test_the_first_pixel_counts_even_if_another_object_lies_further_left():
    """OpenCV numbers components by 2x2 blocks: it would call the left one the first."""
    label = np.array([[0, 0, 0, 1], [1, 0, 0, 0]], np.uint8)
    assert connected_objects(label)[0].tolist() == [[0, 0, 0, 1], [2, 0, 0, 0]]


def test_the_number_of_threads_does_not_change_the_numbers():
    label = (np.random.default_rng(0).random((600, 500)) < .3).astype(np.uint8)
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = connected_objects(label)[0]
        cv2.setNumThreads(8)
        np.testing.assert_array_equal(connected_objects(label)[0], one)
    finally:
        cv2.setNumThreads(before)


def test_background_and_void_are_never_objects():
    label = np.full((5, 5), 255, np.uint8)
    label[1:4, 1:4] = 0
    ids, classes = connected_objects(label)
    assert not ids.any() and classes.size == 0
    assert present_classes(label) == ()


def test_where_every_class_is_one_class_0_is_an_object():
    label = np.array([[0, 0, 1, 1, 255, 0]], np.uint8)
    ids, classes = connected_objects(label, background=None)
    assert ids.tolist() == [[1, 1, 3, 3, 0, 2]] and classes.tolist() == [0, 0, 1]
    assert present_classes(label, background=None) == (0, 1)


def test_another_value_may_be_void():
    label = np.array([[1, 9, 255]], np.uint8)
    assert present_classes(label, ignore=9) == (1, 255)
    assert connected_objects(label, ignore=9)[1].tolist() == [1, 255]


def test_touching_corners_join_and_void_parts():
    label = np.array([[1, 0, 1, 255, 1], [0, 1, 0, 255, 1]], np.uint8)
    ids, classes = connected_objects(label)
    assert classes.tolist() == [1, 1]
    assert ids.tolist() == [[1, 0, 1, 0, 2], [0, 1, 0, 0, 2]]


def test_small_parts_are_no_objects_but_their_class_is_present():
    label = np.zeros((4, 8), np.uint8)
    label[:2, :2] = 3
    label[3, 7] = 3
    label[3, 5] = 4
    ids, classes = connected_objects(label, min_area=4)
    assert classes.tolist() == [3] and (ids > 0).sum() == 4
    assert connected_objects(label, min_area=5)[1].size == 0
    assert present_classes(label) == (3, 4)


@given(arrays(np.int32, shapes, elements=st.integers(0, 5)))
def test_tight_boxes_are_those_of_scipys_find_objects(ids):
    numbers = np.unique(ids[ids > 0])
    slices = ndimage.find_objects(ids)
    expected = [[slices[n - 1][1].start, slices[n - 1][0].start, slices[n - 1][1].stop,
                 slices[n - 1][0].stop] for n in numbers]
    found = tight_boxes(ids, numbers)
    assert found.shape == (len(numbers), 4) and found.dtype == np.float64
    assert found.tolist() == expected


def test_a_box_of_an_absent_id_is_an_error():
    with pytest.raises(ValueError, match="no pixel has id 3"):
        tight_boxes(np.array([[1, 2]]), np.array([3]))


@given(arrays(np.int32, shapes, elements=st.integers(0, 3)))
def test_the_inner_point_is_the_deepest_pixel(ids):
    numbers = np.unique(ids[ids > 0])
    for number, (x, y) in zip(numbers, inner_points(ids, numbers)):
        depth = ndimage.distance_transform_edt(np.pad(ids == number, 1))[1:-1, 1:-1]
        assert ids[int(y), int(x)] == number
        assert depth[int(y), int(x)] == pytest.approx(depth.max(), abs=1e-4)


def test_the_first_of_equally_deep_pixels_is_taken():
    ids = np.ones((3, 7), int)
    assert inner_points(ids, np.array([1])).tolist() == [[1, 1]]
    assert inner_points(np.eye(4, dtype=int), np.array([1])).tolist() == [[0, 0]]


def test_the_border_of_the_image_counts_as_the_border_of_the_object():
    ids = np.zeros((9, 20), int)
    ids[:5, :5] = 1
    assert inner_points(ids, np.array([1])).tolist() == [[2, 2]]


def test_a_random_point_is_any_pixel_of_the_object_with_equal_chance():
    ids = np.array([[1, 1, 0], [0, 1, 2], [0, 1, 2]])
    rng = np.random.default_rng(0)
    drawn = np.array([inner_points(ids, np.array([1, 2]), rng) for _ in range(2000)], int)
    for column, number in enumerate((1, 2)):
        x, y = drawn[:, column].T
        assert (ids[y, x] == number).all()
        pixels, counts = np.unique(y * 3 + x, return_counts=True)
        assert sorted(pixels) == np.flatnonzero(ids == number).tolist()
        n = len(pixels)  # within four standard deviations of 2000 / n
        assert abs(counts - 2000 / n).max() < 4 * (2000 / n * (1 - 1 / n)) ** .5
    again = inner_points(ids, np.array([1, 2]), np.random.default_rng(0))
    assert again.tolist() == drawn[0].tolist()


def test_no_object_has_no_point_and_no_box():
    empty = np.zeros((3, 3), int), np.zeros(0, int)
    assert inner_points(*empty).shape == (0, 2) and tight_boxes(*empty).shape == (0, 4)


def test_objects_are_counted_by_class():
    assert count_objects(np.array([3, 1, 3, 3])) == {1: 1, 3: 3}
    assert count_objects(np.zeros(0, np.int64)) == {}
    assert all(type(v) is int for item in count_objects(np.array([3])).items() for v in item)


@given(labels, st.sampled_from([0, None]))
def test_tags_are_the_foreground_values(label, background):
    expected = sorted({int(v) for v in label.ravel()} - {255, background})
    assert present_classes(label, background=background) == tuple(expected)
