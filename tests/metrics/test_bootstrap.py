"""Intervals cover what they claim, and differences are found where there are some."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.metrics.average_precision import average_precision, match
from wsseg.metrics.bootstrap import (difference, interval, miou_of_sums, miou_score, pq_score,
                                     resamples)
from wsseg.metrics.iou import segmentation_score
from wsseg.metrics.overlaps import Overlaps
from wsseg.metrics.panoptic import panoptic_score

C = 4


def population(rng: np.random.Generator, n: int, skill: float = 0.8) -> np.ndarray:
    """Confusion matrices (n, C, C + 1) of images of unequal difficulty and content."""
    return predicted(rng, *images(rng, n), skill)


def images(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each class (n, C), and how easy each image is (n,)."""
    shares = rng.dirichlet([.5, .2, .2, .1], n)
    return rng.multinomial(1000, shares), rng.beta(5, 2, n)


def predicted(rng, pixels, ease, skill) -> np.ndarray:
    matrices = np.zeros((len(ease), C, C + 1), np.int64)
    for c in range(C):
        right = rng.binomial(pixels[:, c], skill * ease)
        matrices[:, c, :C] += rng.multinomial(pixels[:, c] - right, np.ones(C) / C)
        matrices[:, c, c] += right
    return matrices


def test_scores_of_resamples_are_those_of_the_images_drawn():
    rng = np.random.default_rng(0)
    matrices = population(rng, 7)
    counts = rng.integers(0, 5, (7, 4, C)).astype(float)
    weights = rng.multinomial(7, np.ones(7) / 7, 5).astype(float)

    miou, pq = miou_score(matrices)(weights), pq_score(counts)(weights)

    for row, one, other in zip(weights.astype(int), miou, pq):
        drawn = np.repeat(np.arange(7), row)
        assert one == pytest.approx(segmentation_score(matrices[drawn].sum(0)).miou, abs=1e-12)
        assert other == pytest.approx(panoptic_score(counts[drawn].sum(0)).mean()[0], abs=1e-12)


def test_every_resample_draws_as_many_images_as_there_are():
    seen = []
    resamples([lambda w: seen.append(w) or np.zeros(len(w))], 9, 50)
    weights = np.concatenate(seen)
    assert weights.shape == (50, 9) and (weights.sum(1) == 9).all()
    assert len({tuple(w) for w in weights.tolist()}) > 40


def test_equal_seeds_give_equal_resamples_and_others_do_not():
    score = miou_score(population(np.random.default_rng(0), 20))
    one, same, other = (resamples([score], 20, 30, seed)[0] for seed in (3, 3, 4))
    assert (one == same).all() and (one != other).any()


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_intervals_cover_the_truth_as_often_as_they_claim(level):
    rng = np.random.default_rng(1)
    everything = population(rng, 20_000)
    truth = segmentation_score(everything.sum(0)).miou
    inside = 0
    for trial in range(300):
        some = everything[rng.choice(len(everything), 120)]
        found = interval(resamples([miou_score(some)], 120, 300, trial)[0], level)
        inside += found.low <= truth <= found.high
    assert abs(inside / 300 - level) < 0.06  # two and a half standard errors at 0.8


def test_a_known_difference_is_found_and_its_interval_holds_it():
    rng = np.random.default_rng(3)
    everything = images(rng, 20_000)
    truth = [segmentation_score(predicted(rng, *everything, skill).sum(0)).miou
             for skill in (.8, .77)]
    sure, inside = 0, 0
    for seed in range(50):
        some = images(rng, 150)
        scores = [miou_score(predicted(rng, *some, skill)) for skill in (.8, .77)]
        found = difference(*(float(score(np.ones((1, 150)))[0]) for score in scores),
                           *resamples(scores, 150, 300, seed))
        sure += found.p < 0.05 and found.value > 0
        inside += found.interval.low <= truth[0] - truth[1] <= found.interval.high
    assert sure >= 45 and inside >= 42


def test_equal_methods_are_rarely_called_different():
    def trial(seed: int) -> float:
        rng = np.random.default_rng(seed)
        both = population(rng, 200)
        one, other = both.copy(), both.copy()
        swap = rng.random(200) < .5  # each image's errors are made by one or by the other
        perfect = np.zeros_like(both)
        perfect[:, range(C), range(C)] = both.sum(2)
        one[swap], other[~swap] = perfect[swap], perfect[~swap]
        scores = [miou_score(one), miou_score(other)]
        return difference(*(float(s(np.ones((1, 200)))[0]) for s in scores),
                          *resamples(scores, 200, 300, seed)).p

    wrong = np.mean([trial(seed) < 0.05 for seed in range(200)])
    assert wrong < 0.10  # 0.05 and more than three standard errors


def test_a_method_is_not_different_from_itself():
    score = miou_score(population(np.random.default_rng(0), 30))
    drawn = resamples([score, score], 30, 100)
    found = difference(.5, .5, *drawn)
    assert (found.value, found.p, found.interval.low, found.interval.high) == (0, 1, 0, 0)


def test_pairing_finds_a_difference_that_two_intervals_hide():
    rng = np.random.default_rng(2)
    one = population(rng, 80)
    other = one.copy()
    other[:, range(C), range(C)] -= one[:, range(C), range(C)] // 50  # two in a hundred more wrong
    other[:, :, C] += one[:, range(C), range(C)] // 50
    scores = [miou_score(one), miou_score(other)]
    drawn = resamples(scores, 80, 500)
    a, b = (interval(row) for row in drawn)
    assert a.low < b.high
    assert difference(*(float(s(np.ones((1, 80)))[0]) for s in scores), *drawn).p < 0.01


def test_average_precision_has_intervals_too():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(40):
        iou = np.diag(rng.random(3))
        images.append(Overlaps(np.zeros(3, int), rng.random(3), np.zeros(3, int),
                               np.zeros(3, bool), np.argwhere(iou > 0), iou[iou > 0]))
    matches = match(images, 1, [.5])
    drawn = resamples([lambda w: average_precision(matches, "area", w)[:, 0, 0]], 40, 200)[0]
    found = interval(drawn)
    assert found.low < average_precision(matches, "area")[0, 0] < found.high


def test_resamples_without_any_class_are_left_out():
    drawn = np.array([.2, .3, np.nan, .4])
    assert interval(drawn, .5).low >= .2
    assert np.isnan(interval(np.full(3, np.nan)).low)
    sums = np.zeros((2, 3, 1))
    assert np.isnan(miou_of_sums(sums)(np.ones((1, 2)))).all()


@pytest.mark.parametrize("n, times", [(1, 10), (0, 10), (5, 0)])
def test_too_little_to_resample_is_refused(n, times):
    with pytest.raises(ValueError, match="at least two images"):
        resamples([], n, times)
