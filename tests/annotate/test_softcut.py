"""The soft cut: a disc, its prior by example, and colour models counted plainly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.annotate.test_grabcut import BOX, DISC, IMAGE, inside, iou
from wsseg.annotate import softcut
from wsseg.annotate.softcut import place, soft_cut, unlike_surroundings
from wsseg.refine.densecrf import DenseCrf, dense_crf


def crf(prob: np.ndarray, image: np.ndarray) -> np.ndarray:
    return dense_crf(prob, image, DenseCrf(**softcut.CRF))


def none(prob: np.ndarray, image: np.ndarray) -> np.ndarray:
    return prob


@pytest.mark.parametrize("regularise", [crf, none])
@pytest.mark.parametrize("side", [150, 40])
def test_a_disc_is_found_in_its_box(regularise, side):
    found = soft_cut(IMAGE, BOX, regularise, side=side)
    assert found.dtype == np.float32 and 0 <= found.min() and found.max() <= 1
    assert iou(found > 0.5, inside(DISC)) > (0.9 if regularise is crf else 0.8)


def test_the_prior_is_highest_in_the_middle_and_alike_on_all_sides():
    logit = place((10, 20, 41, 51), (100, 100))
    assert logit.shape == (31, 31) and logit.argmax() == 15 * 31 + 15
    assert logit[15, 15] == np.float32(softcut.TOP)
    np.testing.assert_allclose(logit, logit[::-1])
    np.testing.assert_allclose(logit, logit.T, atol=1e-6)
    corner = softcut.TOP - softcut.SLOPE * 2 * (30 / 31) ** 2
    assert logit[0, 0] == pytest.approx(corner, abs=1e-5)


def test_a_box_at_the_border_goes_on_behind_it():
    logit = place((0, 10, 20, 30), (50, 50))  # at the left: as if it began at x = -10
    assert logit[9, 0] > logit[9, 19]
    u = (2 * (0.5 + 10) / 30 - 1, 2 * (9 + 0.5) / 20 - 1)
    assert logit[9, 0] == pytest.approx(2.2 - 2.5 * (u[0] ** 2 + u[1] ** 2), abs=1e-5)
    both = place((0, 10, 50, 30), (50, 50))  # from border to border: x says nothing
    assert np.ptp(both, axis=1).max() == 0


def test_a_prior_may_be_given():
    truth = inside(DISC)
    wrong = np.where(truth, np.float32(-4), np.float32(4))
    assert iou(soft_cut(IMAGE, BOX, none, prior=wrong, rounds=1) > 0.5, truth) < 0.2


def test_where_nothing_can_be_learnt_there_is_no_answer():
    height, width = DISC.shape
    assert soft_cut(IMAGE, (0, 0, width, height), none) is None
    assert soft_cut(IMAGE, (5, 5, 8, 8), none) is None


def test_a_flat_photo_follows_the_prior():
    flat = np.full((60, 60, 3), 90, np.uint8)
    found = soft_cut(flat, (10, 10, 50, 50), none)
    assert found[20, 20] > found[0, 0]


def test_the_same_input_gives_the_same_map():
    np.testing.assert_array_equal(soft_cut(IMAGE, BOX, crf), soft_cut(IMAGE.copy(), BOX, crf))


def test_the_photo_is_left_alone():
    before = IMAGE.copy()
    soft_cut(IMAGE, BOX, crf)
    np.testing.assert_array_equal(IMAGE, before)


def test_colours_are_compared_as_smoothed_histograms():
    """Two colours far apart: what a Gaussian of their own cell leaves there, over the share that
    every colour has."""
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:30, 10:30] = (255, 255, 255)
    mask = np.ones((20, 20), bool)
    ratio = unlike_surroundings(image, (10, 10, 30, 30), mask, blur=0.01)
    cells = math.prod(softcut.GRID)
    kernel = np.exp(-np.arange(-3, 4) ** 2 / (2 * softcut.SMOOTH ** 2))  # cut off at 4 deviations
    middle = 1 / kernel.sum()
    # white lies in the last cell along L, black in the first; both in the middle of a and b
    own = middle ** 3
    floor = softcut.EVERY / cells
    np.testing.assert_allclose(ratio, math.log((own + floor) / floor), rtol=1e-3)


def test_nothing_around_a_box_says_nothing():
    height, width = DISC.shape
    assert not unlike_surroundings(IMAGE, (0, 0, width, height), DISC).any()
    assert not unlike_surroundings(IMAGE, BOX, np.zeros_like(inside(DISC))).any()
