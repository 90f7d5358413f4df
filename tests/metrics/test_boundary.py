"""The band along boundaries, against distances from every pixel to every other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.metrics.boundary import boundary_band


def by_distances(label: np.ndarray, width: int) -> np.ndarray:
    h, w = label.shape
    edge = [(y, x) for y in range(h) for x in range(w) if any(
        0 <= v < h and 0 <= u < w and label[v, u] != label[y, x]
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)))]
    return np.array([[any((y - v) ** 2 + (x - u) ** 2 < width ** 2 for v, u in edge)
                      for x in range(w)] for y in range(h)])


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)),
              elements=st.sampled_from([0, 0, 0, 0, 1, 255])), st.integers(1, 6))
def test_bands_are_those_of_all_distances(label, width):
    np.testing.assert_array_equal(boundary_band(label, width), by_distances(label, width))


def test_a_straight_boundary_has_as_many_pixels_on_either_side_as_the_width_says():
    label = np.repeat(np.array([[0] * 20 + [3] * 20], np.uint16), 5, axis=0)
    for width in (1, 4, 10):
        assert boundary_band(label, width)[2].sum() == 2 * width


def test_a_wide_band_around_a_dot_is_a_disk():
    label = np.zeros((101, 101), np.uint8)
    label[50, 50] = 1
    np.testing.assert_array_equal(boundary_band(label, 40), by_disks(label, 40))


def by_disks(label, width):
    y, x = np.mgrid[:101, :101] - 50
    points = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0)]
    return np.any([(y - v) ** 2 + (x - u) ** 2 < width ** 2 for v, u in points], axis=0)


def test_a_map_of_one_label_has_no_band():
    assert not boundary_band(np.ones((4, 5), np.uint8), 3).any()


def test_a_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        boundary_band(np.ones((4, 5), np.uint8), 0)
