"""Painting boxes: against a decision made pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.annotate.rect import fill_box, paint_boxes, pixel_boxes, smallest_last

SIZE = (9, 11)  # height, width


@st.composite
def whole_boxes(draw) -> list[tuple[int, int, int, int]]:
    result = []
    for _ in range(draw(st.integers(0, 7))):
        x0, y0 = draw(st.integers(0, SIZE[1] - 1)), draw(st.integers(0, SIZE[0] - 1))
        result.append((x0, y0, draw(st.integers(x0 + 1, SIZE[1])),
                       draw(st.integers(y0 + 1, SIZE[0]))))
    return result


def area(box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def by_pixel(boxes, classes, fill, outside: int) -> tuple[list[list[int]], list[list[int]]]:
    """Each pixel belongs to the smallest box whose mask covers it; the later of equals."""
    label = [[outside] * SIZE[1] for _ in range(SIZE[0])]
    ids = [[0] * SIZE[1] for _ in range(SIZE[0])]
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            over = [(area(b), -i) for i, b in enumerate(boxes)
                    if b[0] <= x < b[2] and b[1] <= y < b[3] and fill(b)[y - b[1], x - b[0]]]
            if over:
                number = -min(over)[1]
                label[y][x], ids[y][x] = classes[number], number + 1
    return label, ids


def chequered(box) -> np.ndarray:
    x0, y0, x1, y1 = box
    return np.add.outer(np.arange(y0, y1), np.arange(x0, x1)) % 3 > 0


@given(whole_boxes(), st.data(), st.sampled_from([fill_box, chequered]),
       st.sampled_from([0, 255]))
def test_each_pixel_belongs_to_the_smallest_box_over_it(boxes, data, fill, outside):
    classes = data.draw(st.lists(st.integers(1, 20), min_size=len(boxes), max_size=len(boxes)))
    label, ids = paint_boxes(np.array(boxes, np.int64).reshape(-1, 4), np.array(classes, int),
                             SIZE, fill, outside=outside)
    expected = by_pixel(boxes, classes, fill, outside)
    assert (label.tolist(), ids.tolist()) == expected
    assert label.dtype == np.uint8 and ids.dtype == np.uint16


def test_of_equal_boxes_the_later_wins():
    boxes = np.array([[0, 0, 2, 3], [0, 0, 3, 2], [0, 0, 2, 3]])
    label, ids = paint_boxes(boxes, np.array([1, 2, 3]), (3, 3), fill_box)
    assert label.tolist() == [[3, 3, 2], [3, 3, 2], [3, 3, 0]]
    assert ids.tolist() == [[3, 3, 2], [3, 3, 2], [3, 3, 0]]


def test_a_small_box_is_seen_inside_a_large_one_whatever_their_order():
    boxes = np.array([[1, 1, 2, 2], [0, 0, 3, 3]])
    for order in ([0, 1], [1, 0]):
        label, _ = paint_boxes(boxes[order], np.array([7, 8])[order], (3, 3), fill_box)
        assert label.tolist() == [[8, 8, 8], [8, 7, 8], [8, 8, 8]]


def test_an_object_that_others_cover_has_no_pixel():
    boxes = np.array([[0, 0, 2, 1], [0, 0, 1, 1], [1, 0, 2, 1]])
    assert paint_boxes(boxes, np.array([1, 2, 3]), (1, 2), fill_box)[1].tolist() == [[2, 3]]


def test_painting_goes_from_large_to_small():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 3, 3], [0, 0, 2, 2], [0, 0, 1, 4]])
    assert list(smallest_last(boxes)) == [1, 2, 3, 0]


def test_classes_beyond_255_need_16_bits():
    boxes = np.array([[0, 0, 1, 1]])
    label, _ = paint_boxes(boxes, np.array([256]), (1, 2), fill_box, outside=255)
    assert label.dtype == np.uint16 and label.tolist() == [[256, 255]]
    assert paint_boxes(boxes, np.array([254]), (1, 1), fill_box)[0].dtype == np.uint8


def test_no_box_leaves_what_is_outside():
    label, ids = paint_boxes(np.zeros((0, 4), int), np.zeros(0, int), (2, 2), fill_box, outside=255)
    assert label.tolist() == [[255, 255], [255, 255]] and not ids.any()


coordinates = st.floats(-20, 20, allow_nan=False).map(lambda v: round(v * 4) / 4)


@st.composite
def real_boxes(draw) -> tuple[float, float, float, float]:
    sides = st.lists(coordinates, min_size=2, max_size=2, unique=True).map(sorted)
    (x0, x1), (y0, y1) = draw(sides), draw(sides)
    return x0, y0, x1, y1


@given(st.lists(real_boxes(), min_size=1, max_size=4))
def test_sides_are_rounded_half_up_clipped_and_keep_a_pixel(boxes):
    height, width = SIZE
    inside = [b for b in boxes if b[0] < width and b[1] < height and b[2] > 0 and b[3] > 0]
    if len(inside) < len(boxes):
        with pytest.raises(ValueError, match=r"lies outside the 9x11 image"):
            pixel_boxes(np.array(boxes), SIZE)
    if not inside:
        return
    expected = []
    for box in inside:
        row = [0] * 4
        for axis, limit in ((0, width), (1, height)):
            low, high = (math.floor(box[axis + d] + .5) for d in (0, 2))
            pixels = [p for p in range(low, max(high, low + 1)) if 0 <= p < limit] or \
                [min(max(low, 0), limit - 1)]  # at least the nearest pixel there is
            row[axis], row[axis + 2] = pixels[0], pixels[-1] + 1
        expected.append(row)
    found = pixel_boxes(np.array(inside), SIZE)
    assert found.tolist() == expected and found.dtype == np.int64


def test_the_rules_by_example():
    def one(*box):
        return pixel_boxes(np.array([box], float), SIZE)[0].tolist()

    assert one(2, 3, 5, 6) == [2, 3, 5, 6]
    assert one(2.4, 2.5, 5.4, 5.5) == [2, 3, 5, 6]  # .5 goes up
    assert one(2.6, 2, 2.9, 3) == [3, 2, 4, 3]  # thinner than a pixel
    assert one(-5, -5, 50, 50) == [0, 0, 11, 9]
    assert one(10.7, 8.9, 12, 12) == [10, 8, 11, 9]  # rounds out of the image: the last pixel
    assert one(-3, -3, 0.2, 0.2) == [0, 0, 1, 1]


@pytest.mark.parametrize("box", [(11, 0, 12, 1), (0, 9, 1, 10), (-3, 0, 0, 1), (0, -3, 1, 0)])
def test_a_box_outside_is_named(box):
    with pytest.raises(ValueError) as caught:
        pixel_boxes(np.array([(0, 0, 1, 1), box], float), SIZE)
    numbers = [float(v) for v in box]
    assert str(caught.value) == f"box 1 {numbers} lies outside the 9x11 image"


def test_no_boxes_are_no_boxes():
    assert pixel_boxes(np.zeros((0, 4)), SIZE).shape == (0, 4)


def test_filling_takes_the_whole_box():
    assert fill_box((2, 3, 5, 4)).tolist() == [[True, True, True]]
