import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as oracle

from wsseg.data.draw import polygon_changes, stroke
from wsseg.data.rle import mask_of_runs, runs_of_changes
from wsseg.errors import RecordError

# pycocotools 2.0.11 with numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

NUMBER = st.one_of(st.integers(-15, 40), st.floats(-15, 40),
                   st.integers(-30, 80).map(lambda n: n / 2))
POLYGONS = st.lists(st.tuples(NUMBER, NUMBER), min_size=3, max_size=9)


def polygon(xy, size):
    xy = np.array(xy, float).reshape(-1, 2)
    return mask_of_runs(runs_of_changes(polygon_changes(xy, size), size), size)


def drawn(points, size, value=1):
    canvas = np.zeros(size, np.uint8)
    stroke(canvas, np.array(points, float).reshape(-1, 2), value)
    return canvas


def test_a_rectangle_covers_whole_pixels():
    mask = polygon([(2, 3), (6, 3), (6, 8), (2, 8)], (10, 12))
    want = np.zeros((10, 12), bool)
    want[3:8, 2:6] = True  # x from 2 to 5, y from 3 to 7
    np.testing.assert_array_equal(mask, want)


@given(POLYGONS, st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_polygons_are_those_of_coco_to_the_pixel(xy, size):
    flat = [float(v) for point in xy for v in point]
    want = oracle.decode(oracle.merge(oracle.frPyObjects([flat], *size)))
    np.testing.assert_array_equal(polygon(xy, size), want.astype(bool))


def test_many_random_polygons_are_those_of_coco_to_the_pixel():
    rng = np.random.default_rng(5)
    for _ in range(300):
        size = tuple(int(n) for n in rng.integers(20, 200, 2))
        xy = rng.uniform(-20, 220, (rng.integers(3, 40), 2))
        want = oracle.decode(oracle.merge(oracle.frPyObjects([xy.ravel().tolist()], *size)))
        np.testing.assert_array_equal(polygon(xy, size), want.astype(bool))


def test_what_a_border_encloses_twice_is_outside():
    twice = [(0, 0), (8, 0), (8, 8), (0, 8), (0, 0), (2, 2), (6, 2), (6, 6), (2, 6), (2, 2)]
    mask = polygon(twice, (8, 8))
    assert mask[1, 1] and not mask[4, 4] and mask.sum() == 64 - 16


def test_polygons_outside_and_of_few_points_are_empty():
    assert polygon([(20, 20), (30, 20), (30, 30)], (10, 10)).sum() == 0
    for few in ([], [(1, 1)], [(1, 1), (8, 8)], [(3, 3)] * 4):
        assert polygon(few, (10, 10)).sum() == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e12])
def test_polygons_and_strokes_without_sensible_corners_are_record_errors(bad):
    with pytest.raises(RecordError, match="not finite or more than"):
        polygon([(0, 0), (5, bad), (5, 5)], (10, 10))
    with pytest.raises(RecordError, match="not finite or more than"):
        drawn([(0, 0), (5, bad)], (10, 10))


def test_a_border_without_end_is_refused_at_once():
    start = time.perf_counter()
    with pytest.raises(RecordError, match="a border of"):
        polygon([(-1e6, -1e6), (1e6, 1e6)] * 50, (10, 10))
    assert time.perf_counter() - start < 1


def test_a_horizontal_stroke_is_three_pixels_wide_and_has_one_more_at_its_ends():
    want = np.zeros((7, 9), np.uint8)
    want[2:5, 1:7] = 1  # from x 2 - 1 to 5 + 1, y 3 +- 1
    np.testing.assert_array_equal(drawn([(2, 3), (5, 3)], (7, 9)), want)


def test_a_single_point_is_a_square_of_nine_pixels():
    want = np.zeros((5, 5), np.uint8)
    want[1:4, 1:4] = 7
    np.testing.assert_array_equal(drawn([(2.9, 2.1)], (5, 5), 7), want)


def test_a_diagonal_goes_through_the_pixels_between():
    canvas = drawn([(0, 0), (4, 4)], (5, 5))
    distance = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    np.testing.assert_array_equal(canvas, distance <= 2)  # 3x3 around each (i, i)


def test_strokes_outside_are_cut_off_without_moving_what_is_inside():
    whole = drawn([(13, 20), (55, 38)], (60, 60))
    y0, x0 = 25, 20
    part = drawn([(13 - x0, 20 - y0), (55 - x0, 38 - y0)], (10, 20))
    np.testing.assert_array_equal(part, whole[y0:y0 + 10, x0:x0 + 20])
    assert part.any() and not drawn([(-9, -9), (-3, 40)], (10, 20)).any()
    assert not drawn([], (10, 20)).any()


@given(st.lists(st.tuples(st.integers(-30, 30), st.integers(-30, 30)), min_size=2, max_size=4))
def test_a_stroke_is_the_same_in_both_directions(points):
    np.testing.assert_array_equal(drawn(points, (20, 20)), drawn(points[::-1], (20, 20)))


def test_a_stroke_of_a_million_pixels_costs_what_the_image_costs():
    start = time.perf_counter()
    canvas = drawn([(-1e6, 3), (1e6, 3)] * 50, (7, 9))
    assert time.perf_counter() - start < 1 and canvas.sum() == 3 * 9
