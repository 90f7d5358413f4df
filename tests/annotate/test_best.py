"""The vote of three, and the soft cut that settles it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("higra")

from tests.annotate.test_grabcut import BOX, DISC, IMAGE, inside, iou  # noqa: E402
from tests.annotate.test_softcut import crf as plain  # noqa: E402
from wsseg.annotate import best  # noqa: E402
from wsseg.annotate.proposals import build, gradient  # noqa: E402

REGIONS = build(gradient(IMAGE))


def test_a_disc_is_found_in_its_box():
    assert iou(best.best_box(IMAGE, BOX, REGIONS, plain), inside(DISC)) > 0.9


def test_three_vote_and_a_soft_cut_settles():
    votes = best.voters(IMAGE, BOX, REGIONS)
    assert len(votes) == 3 and all(v is not None for v in votes)
    shared = best.share(votes, BOX)
    np.testing.assert_allclose(shared, (1. * votes[0] + votes[1] + votes[2]) / 3, atol=1e-6)
    settled = best.settle(IMAGE, BOX, shared, plain)
    np.testing.assert_array_equal(best.best_box(IMAGE, BOX, REGIONS, plain), settled > 0.5)
    assert iou(settled > 0.5, inside(DISC)) >= iou(shared > 0.5, inside(DISC)) - 0.02


def test_colours_settle_where_one_vote_is_wrong():
    truth = inside(DISC)
    wrong = truth.astype(np.float32)
    wrong[:, :12] = 1 / 3  # one of three takes a stripe of the background
    lost = np.where(truth & (np.arange(truth.shape[0]) > 40)[:, None], 2 / 3, wrong)
    found = best.settle(IMAGE, BOX, lost.astype(np.float32), plain) > 0.5
    assert iou(found, truth) > 0.9


def test_what_cannot_be_settled_stays_as_it_was_voted():
    shared = np.full((4, 4), 1 / 3, np.float32)
    same = best.settle(np.zeros((4, 4, 3), np.uint8), (0, 0, 4, 4), shared, plain)
    np.testing.assert_array_equal(same, shared)


def test_a_voter_that_fails_votes_for_the_whole_box():
    one = np.array([[True, False, False]])
    two = np.array([[True, True, False]])
    np.testing.assert_allclose(best.share([one, two, None], (0, 0, 3, 1)), [[1, 2 / 3, 1 / 3]])


def test_a_flat_image_and_a_box_over_the_whole_image_are_taken_whole():
    flat = np.full((40, 40, 3), 90, np.uint8)
    regions = build(gradient(flat))
    assert best.best_box(flat, (10, 10, 30, 30), regions, plain).all()
    height, width = DISC.shape
    assert best.best_box(IMAGE, (0, 0, width, height), REGIONS, plain).all()


def test_the_same_input_gives_the_same_mask():
    np.testing.assert_array_equal(best.best_box(IMAGE, BOX, REGIONS, plain),
                                  best.best_box(IMAGE.copy(), BOX, build(gradient(IMAGE)), plain))


def test_a_soft_map_is_a_soft_painting_from_large_to_small():
    boxes, classes = np.array([[0, 0, 2, 1], [0, 0, 4, 1]]), np.array([5, 2])
    shares = {(0, 0, 4, 1): np.array([[1, .5, 1, 0]], np.float32),
              (0, 0, 2, 1): np.array([[.25, 1]], np.float32)}
    present, prob = best.soft_map(boxes, classes, (1, 5), shares)
    assert present.tolist() == [0, 2, 5]
    np.testing.assert_allclose(prob[:, 0], [[0, 0, 0, 1, 1], [.75, 0, 1, 0, 0],
                                            [.25, 1, 0, 0, 0]])
