"""What tags and boxes forbid and add, pixel by pixel and in worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.refine.constrain import (box_cover, claim_instances, fill_boxes, forbid_absent,
                                    outside_boxes, zero_absent, zero_outside)
from wsseg.refine.fuse import decide, fuse_labels

SIZE = (5, 6)
THINGS = {1, 2}
maps = arrays(np.uint8, SIZE, elements=st.sampled_from([0, 1, 2, 3, 255]))


@st.composite
def some_boxes(draw) -> tuple[np.ndarray, np.ndarray]:
    boxes, classes = [], []
    for _ in range(draw(st.integers(0, 4))):
        x0, y0 = draw(st.integers(0, SIZE[1] - 1)), draw(st.integers(0, SIZE[0] - 1))
        boxes.append((x0, y0, draw(st.integers(x0 + 1, SIZE[1])),
                      draw(st.integers(y0 + 1, SIZE[0]))))
        classes.append(draw(st.sampled_from([1, 2, 3])))
    return np.array(boxes, np.int64).reshape(-1, 4), np.array(classes, np.int64)


def over(boxes, classes, y, x, cls) -> list[int]:
    """Numbers of the boxes of a class over a pixel."""
    return [i for i, (b, c) in enumerate(zip(boxes.tolist(), classes.tolist()))
            if c == cls and b[0] <= x < b[2] and b[1] <= y < b[3]]


def where(shape=SIZE):
    return [(y, x) for y in range(shape[0]) for x in range(shape[1])]


@given(maps, st.frozensets(st.sampled_from([0, 1, 2, 3])))
def test_absent_classes_become_ignore(label, allowed):
    before = label.copy()
    result = forbid_absent(label, allowed)
    assert result.dtype == label.dtype and np.array_equal(label, before)
    for y, x in where():
        assert result[y, x] == (label[y, x] if label[y, x] in allowed else 255)


def test_tags_of_crops_forbid_what_any_crop_over_a_pixel_lacks():
    """panoptic-2018 on Cityscapes: two crops of 1x3 that overlap in one column."""
    label = np.array([[1, 1, 1, 1, 2]], np.uint8)
    label = forbid_absent(label, {1, 2}, region=(0, 0, 3, 1))
    label = forbid_absent(label, {2}, region=(2, 0, 5, 1))
    assert label.tolist() == [[1, 1, 255, 255, 2]]


def test_absent_classes_give_their_probability_to_the_others():
    """.5 .3 .2 without the second: .5 / .7 and .2 / .7; a pixel of the second alone has none."""
    scores = np.array([[[.5, 0, .2]], [[.3, 1, 0]], [[.2, 0, .3]]])
    result = zero_absent(scores, np.array([0, 1, 2]), {0, 2})
    assert result[:, 0].T.tolist() == [pytest.approx([.5 / .7, 0, .2 / .7]), [0, 0, 0],
                                       pytest.approx([.2, 0, .3])]
    kept = zero_absent(scores, np.array([0, 1, 2]), {0, 2}, normalise=False)
    assert kept[:, 0, 0].tolist() == pytest.approx([.5, 0, .2])


@given(maps, some_boxes(), st.sampled_from([0, 255]))
def test_things_outside_the_boxes_of_their_class_are_replaced(label, given_boxes, value):
    result = outside_boxes(label, *given_boxes, THINGS, value=value)
    for y, x in where():
        cls = int(label[y, x])
        lost = cls in THINGS and not over(*given_boxes, y, x, cls)
        assert result[y, x] == (value if lost else cls)


@given(some_boxes(), st.data())
def test_probabilities_of_things_are_zero_outside_their_boxes(given_boxes, data):
    parts = data.draw(arrays(np.int64, (3, *SIZE), elements=st.integers(0, 3))).astype(float)
    scores = parts / np.maximum(parts.sum(axis=0), 1)
    classes = np.array([0, 1, 2])
    whole = zero_outside(scores, classes, *given_boxes, THINGS)
    for y, x in where():
        expected = [0 if c in THINGS and not over(*given_boxes, y, x, c) else scores[c, y, x]
                    for c in range(3)]
        if sum(expected) < scores[:, y, x].sum() and sum(expected):
            expected = [p / sum(expected) for p in expected]
        assert whole[:, y, x].tolist() == pytest.approx(expected, abs=1e-6)
    strips = [zero_outside(scores[:, top:top + 2], classes, *given_boxes, THINGS, top=top)
              for top in range(0, SIZE[0], 2)]
    assert np.array_equal(np.concatenate(strips, axis=1), whole)


@given(maps, some_boxes(), st.floats(0, 1))
def test_boxes_are_filled_from_the_largest_to_the_smallest(label, given_boxes, below):
    boxes, classes = given_boxes
    expected = label.tolist()
    order = sorted(range(len(boxes)), key=lambda i: -int(np.prod(boxes[i, 2:] - boxes[i, :2])))
    for i in order:
        cls, inside = int(classes[i]), [(y, x) for y, x in where()
                                        if boxes[i, 0] <= x < boxes[i, 2]
                                        and boxes[i, 1] <= y < boxes[i, 3]]
        full = sum(expected[y][x] == cls for y, x in inside) / len(inside)
        for y, x in inside if cls in THINGS and full < below else ():
            if expected[y][x] not in THINGS:
                expected[y][x] = cls
    assert fill_boxes(label, boxes, classes, THINGS, below=below).tolist() == expected


def test_a_box_that_is_half_full_is_left_as_it_is():
    label = np.array([[1, 0, 1, 255]], np.uint8)
    boxes, classes = np.array([[0, 0, 4, 1]]), np.array([1])
    assert fill_boxes(label, boxes, classes, {1}, below=.5).tolist() == label.tolist()
    assert fill_boxes(label, boxes, classes, {1}, below=.51).tolist() == [[1, 1, 1, 1]]


def test_a_class_beyond_255_widens_the_map():
    filled = fill_boxes(np.zeros((1, 2), np.uint8), np.array([[0, 0, 1, 1]]), np.array([300]),
                        {300})
    assert filled.tolist() == [[300, 0]] and filled.dtype == np.uint16


@given(maps, some_boxes())
def test_a_pixel_is_of_the_one_box_of_its_class_over_it(label, given_boxes):
    ids, twice = claim_instances(label, *given_boxes, THINGS)
    assert ids.dtype == np.uint16
    for y, x in where():
        cls = int(label[y, x])
        found = over(*given_boxes, y, x, cls) if cls in THINGS else []
        assert ids[y, x] == (found[0] + 1 if len(found) == 1 else 0)
        assert twice[y, x] == (len(found) > 1)


def test_no_boxes_cover_nothing():
    assert not box_cover(np.zeros((0, 4), int), (2, 3)).any()


def test_one_pixel_images_work():
    label, box, cls = np.array([[1]], np.uint8), np.array([[0, 0, 1, 1]]), np.array([1])
    assert outside_boxes(label, box, cls, {1}).tolist() == [[1]]
    assert outside_boxes(label, box, cls + 1, {1, 2}).tolist() == [[255]]
    assert fill_boxes(label * 0, box, cls, {1}).tolist() == [[1]]
    assert claim_instances(label, box, cls, {1})[0].tolist() == [[1]]


def test_the_iterative_ground_truth_of_panoptic_2018_step_by_step():
    """details.md A2.3 on one row of ten pixels: road 0, sky 1 (stuff), car 2, person 3 (things).

    Tags: road, car, person (no sky). Boxes: a car over x 2..4 and a car over 4..7, a person
    over 8..9. M&G, what GrabCut and MCG agree on: one pixel of each car, none of the person.
    """
    #             x:   0   1    2    3    4    5    6    7    8    9
    predicted = [0,   1,   2,   2,   0,   2,   0,   0,   3,   2]
    score = [1., 1., 1., .98, 1., 1., 1., 1., .99, 1.]
    mg = np.array([[255, 255, 2, 255, 255, 255, 2, 0, 255, 0]], np.uint8)
    things, tags = {2, 3}, {0, 2, 3}
    boxes = np.array([[2, 0, 5, 1], [4, 0, 8, 1], [8, 0, 10, 1]])
    box_classes = np.array([2, 2, 3])
    scores = np.zeros((4, 1, 10))
    scores[predicted, 0, range(10)] = score
    scores[0, 0, 3] = .02

    # 1: a score below .99 is ignored: x = 3
    label, _ = decide(scores, np.arange(4), min_score=.99)
    assert label.tolist() == [[0, 1, 2, 255, 0, 2, 0, 0, 3, 2]]
    # 2: so is a class that the tags lack: the sky
    label = forbid_absent(label, tags)
    assert label.tolist() == [[0, 255, 2, 255, 0, 2, 0, 0, 3, 2]]
    # 3: M&G's things win; elsewhere predicted stuff is kept, and predicted things are not
    spoken = np.where(np.isin(mg, [2, 3]), mg, 255), np.where(np.isin(label, [0, 1]), label, 255)
    merged, _ = fuse_labels(spoken, rule="priority")
    assert merged.tolist() == [[0, 255, 2, 255, 0, 255, 2, 0, 255, 255]]
    # 4: nothing of this is outside its boxes; without step 3 the car at x = 9 would be
    assert outside_boxes(merged, boxes, box_classes, things).tolist() == merged.tolist()
    without = outside_boxes(label, boxes, box_classes, things)
    assert without.tolist() == [[0, 255, 2, 255, 0, 2, 0, 0, 3, 255]]
    # 5: the large car fills 1/4 of its box, so 4..7 become car; now the small one fills 2/3 of
    # its box and is left; the person fills nothing and gets its box
    filled = fill_boxes(merged, boxes, box_classes, things, below=.5)
    assert filled.tolist() == [[0, 255, 2, 255, 2, 2, 2, 2, 3, 3]]
    # 6: x = 4 is in two boxes of cars
    ids, twice = claim_instances(filled, boxes, box_classes, things)
    assert ids.tolist() == [[0, 0, 1, 0, 0, 2, 2, 2, 3, 3]]
    assert twice.tolist() == [[x == 4 for x in range(10)]]
