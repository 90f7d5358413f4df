"""Average precision of tags against its definition and scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.metrics.tagging import average_precision, tag_score


def by_definition(scores, truth):
    """For each image that holds the class: what share of those that score as high hold it?"""
    return np.mean([truth[scores >= s].mean() for s, t in zip(scores, truth) if t])


def test_a_worked_example():
    scores, truth = np.array([.9, .8, .7, .6]), np.array([True, False, True, False])
    assert average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("levels", [3, 1000])
def test_it_is_its_definition_whatever_the_order_and_the_ties(levels):
    rng = np.random.default_rng(levels)
    for count in (1, 2, 7, 40):
        scores, truth = rng.integers(0, levels, count) / levels, rng.random(count) < .4
        truth[0] = True
        found = average_precision(scores, truth)
        assert found == pytest.approx(by_definition(scores, truth))
        mixed = rng.permutation(count)
        assert average_precision(scores[mixed], truth[mixed]) == found


def test_it_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 30, (60, 5)) / 30, rng.random((60, 5)) < .3
    for s, t in zip(scores.T, truth.T):
        assert average_precision(s, t) == pytest.approx(metrics.average_precision_score(t, s))


def test_classes_that_do_not_occur_are_left_out_of_the_mean():
    scores = np.array([[.9, .2, .3], [.1, .8, .3]])
    truth = np.array([[True, True, False], [False, False, False]])
    score = tag_score(scores, truth)
    np.testing.assert_allclose(score.classes, [1, .5, np.nan])
    assert score.mean == pytest.approx(.75)
    assert np.isnan(tag_score(scores, truth & False).mean)
    with pytest.raises(ValueError, match="must be"):
        average_precision(scores, truth)
