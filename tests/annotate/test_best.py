"""The vote of three."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("higra")

from tests.annotate.test_grabcut import BOX, DISC, IMAGE, inside, iou  # noqa: E402
from wsseg.annotate import best  # noqa: E402
from wsseg.annotate.proposals import build, gradient  # noqa: E402

REGIONS = build(gradient(IMAGE))


def test_a_disc_is_found_in_its_box():
    assert iou(best.best_box(IMAGE, BOX, REGIONS), inside(DISC)) > 0.9


def test_two_of_three_decide():
    votes = best.voters(IMAGE, BOX, REGIONS)
    assert len(votes) == 3 and all(v is not None for v in votes)
    expected = (votes[0] & votes[1]) | (votes[0] & votes[2]) | (votes[1] & votes[2])
    np.testing.assert_array_equal(best.best_box(IMAGE, BOX, REGIONS), expected)


def test_a_voter_that_fails_votes_for_the_whole_box():
    one = np.array([[True, False, False]])
    two = np.array([[True, True, False]])
    np.testing.assert_allclose(best.share([one, two, None], (0, 0, 3, 1)), [[1, 2 / 3, 1 / 3]])


def test_a_flat_image_and_a_box_over_the_whole_image_are_taken_whole():
    flat = np.full((40, 40, 3), 90, np.uint8)
    regions = build(gradient(flat))
    assert best.best_box(flat, (10, 10, 30, 30), regions).all()
    height, width = DISC.shape
    assert best.best_box(IMAGE, (0, 0, width, height), REGIONS).all()


def test_the_same_input_gives_the_same_mask():
    np.testing.assert_array_equal(best.best_box(IMAGE, BOX, REGIONS),
                                  best.best_box(IMAGE.copy(), BOX, build(gradient(IMAGE))))


def test_a_soft_map_is_a_soft_painting_from_large_to_small():
    boxes, classes = np.array([[0, 0, 2, 1], [0, 0, 4, 1]]), np.array([5, 2])
    shares = {(0, 0, 4, 1): np.array([[1, .5, 1, 0]], np.float32),
              (0, 0, 2, 1): np.array([[.25, 1]], np.float32)}
    present, prob = best.soft_map(boxes, classes, (1, 5), shares)
    assert present.tolist() == [0, 2, 5]
    np.testing.assert_allclose(prob[:, 0], [[0, 0, 0, 1, 1], [.75, 0, 1, 0, 0],
                                            [.25, 1, 0, 0, 0]])
