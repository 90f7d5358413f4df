"""Bbox-Seg: against worked examples and a map made pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.annotate.bboxseg import core, fill, soft_map, within

SIZE = (40, 50)


def test_the_core_of_a_square_is_eroded_until_its_share_is_below_alpha_and_5_percent():
    middle = core(20, 20, 0.2)
    # 20 - 2d squared over 400: d = 5 gives .25, not below .25; d = 6 gives 64 / 400 = .16
    assert middle[6:14, 6:14].all() and middle.sum() == 64


@pytest.mark.parametrize("alpha", [0, 0.2, 0.5, 0.8, 1])
@pytest.mark.parametrize("shape", [(11, 200), (30, 17), (64, 64), (10, 13)])
def test_the_core_is_the_first_eroded_rectangle_that_is_small_enough(shape, alpha):
    height, width = shape
    middle = core(*shape, alpha)
    expected = next((np.pad(np.ones((height - 2 * d, width - 2 * d), bool), d)
                     for d in range(min(shape) // 2 + 1)
                     if height > 2 * d and width > 2 * d
                     and (height - 2 * d) * (width - 2 * d) < (alpha + .05) * height * width),
                    None)
    if expected is None:
        assert middle.any()
    else:
        np.testing.assert_array_equal(middle, expected)
    np.testing.assert_array_equal(middle, middle[::-1, ::-1])


@pytest.mark.parametrize("shape", [(10, 12), (9, 100), (100, 9), (1, 1)])
def test_a_small_box_is_all_core(shape):
    assert core(*shape, 0.2).all()


def test_each_class_has_the_mean_of_its_boxes_and_then_a_pixel_is_normalised():
    boxes = np.array([[5, 5, 35, 30], [20, 10, 48, 38], [0, 0, 6, 6], [5, 5, 35, 30]])
    classes = np.array([3, 7, 3, 9])
    present, prob = soft_map(boxes, classes, SIZE, alpha=0.2)
    assert present.tolist() == [0, 3, 7, 9] and prob.dtype == np.float32
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            found = []
            for (x0, y0, x1, y1), cls in zip(boxes, classes):
                if x0 <= x < x1 and y0 <= y < y1:
                    p = .75 if core(y1 - y0, x1 - x0, .2)[y - y0, x - x0] else .5
                    found.append({0: 1 - p, cls: p})
            own = {c: [f[c] for f in found if c in f] for c in present}
            expected = [np.mean(own[c]) if own[c] else float(not found and c == 0)
                        for c in present]
            np.testing.assert_allclose(prob[:, y, x], np.array(expected) / sum(expected),
                                       atol=1e-6)
    np.testing.assert_allclose(prob.sum(axis=0), 1, atol=1e-6)


def test_where_two_classes_meet_neither_gives_way_to_the_background():
    boxes, classes = np.array([[0, 0, 40, 40], [10, 0, 50, 40]]), np.array([1, 2])
    _, prob = soft_map(boxes, classes, SIZE, alpha=0.2)
    np.testing.assert_allclose(prob[:, 0, 20], 1 / 3, atol=1e-6)  # in the rest of either box


def test_without_boxes_all_is_background_and_nothing_is_regularised():
    image = np.zeros((*SIZE, 3), np.uint8)
    present, prob = fill(image, np.zeros((0, 4), int), np.zeros(0, int), lambda *_: 1 / 0)
    assert present.tolist() == [0] and (prob == 1).all()


def test_the_regulariser_gets_map_and_photo_and_cannot_leave_the_boxes():
    seen = []

    def everywhere(prob, image):
        seen.append((prob.shape, image.shape))
        result = np.zeros_like(prob)
        result[1] = 1
        return result

    image = np.zeros((*SIZE, 3), np.uint8)
    boxes = np.array([[5, 5, 35, 30], [20, 10, 48, 38]])
    present, prob = fill(image, boxes, np.array([2, 4]), everywhere)
    assert seen == [((3, *SIZE), image.shape)]
    expected = np.zeros(SIZE)
    expected[5:30, 5:35] = 1
    np.testing.assert_array_equal(prob[1], expected)
    np.testing.assert_array_equal(prob[0], 1 - expected)


def test_what_lies_outside_a_class_s_boxes_goes_to_the_background():
    prob = np.full((2, 4, 4), .5, np.float32)
    result = within(prob, [0, 5], np.array([[1, 1, 3, 3]]), np.array([5]))
    assert result[1].sum() == .5 * 4 and (result.sum(axis=0) == 1).all()
