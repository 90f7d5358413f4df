"""Average precision: worked examples, pycocotools, and VOC's rules in loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.metrics.test_overlaps import runs_of
from tests.metrics.usual_precision import (coco_files, coco_precision, compressed,
                                           voc_precision)
from wsseg.metrics.average_precision import (COCO, RULES, VOLUME, average_precision, match,
                                             mean_precision, oracle_scores)
from wsseg.metrics.overlaps import Overlaps, map_regions, overlaps, run_regions

SIZE = (40, 50)


def image(iou, scores, classes=None, true_classes=None, crowd=None) -> Overlaps:
    """An image from a table of IoU (P, T); one class unless said."""
    iou = np.asarray(iou, float)
    p, t = iou.shape
    classes = np.zeros(p, int) if classes is None else np.array(classes)
    true_classes = np.zeros(t, int) if true_classes is None else np.array(true_classes)
    rows = np.argwhere((iou > 0) & (classes[:, None] == true_classes))
    return Overlaps(classes, np.array(scores, float), true_classes,
                    np.zeros(t, bool) if crowd is None else np.array(crowd), rows,
                    iou[tuple(rows.T)])


def ap(images, threshold=0.5, rule="voc", **options) -> float:
    matches = match(images, 1, [threshold], choice=RULES[rule].choice, **options)
    return float(average_precision(matches, RULES[rule].interpolation)[0, 0])


# -- worked examples ---------------------------------------------------------------------------


def test_right_wrong_right_of_four():
    # recall 1/4, 1/4, 2/4; precision 1, 1/2, 2/3
    one = image([[.9, 0, 0, 0], [0, 0, 0, .4], [0, .6, 0, 0]], [.9, .8, .7])
    assert ap([one]) == pytest.approx(1 / 4 + 1 / 4 * 2 / 3)
    assert ap([one], rule="voc2007") == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)
    assert ap([one], rule="coco") == pytest.approx((26 * 1 + 25 * 2 / 3) / 101)


def test_a_second_detection_of_the_same_object_is_wrong():
    assert ap([image([[.9], [.9]], [.4, .8])]) == 1
    assert ap([image([[.9, 0], [.9, 0], [0, .9]], [.9, .8, .7])]) == pytest.approx(1/2 + 1/3)


def test_rules_differ_where_the_best_object_is_taken():
    one = image([[.9, 0], [.8, .6]], [.9, .8])
    assert ap([one], rule="coco") == pytest.approx(1)
    assert ap([one], rule="voc") == 0.5


def test_the_threshold_itself_is_enough():
    assert ap([image([[.5]], [1])]) == 1 and ap([image([[1]], [1])], 1.0) == 1
    assert ap([image([[.4999]], [1])]) == 0


def test_a_crowd_makes_a_detection_neither_right_nor_wrong():
    crowd = image([[.9, .9], [0, .8], [0, .6]], [.5, .9, .8], crowd=[False, True])
    assert ap([crowd]) == 1 and ap([crowd], rule="coco") == pytest.approx(1)
    plain = image([[.9, 0], [0, .8], [0, .6]], [.5, .9, .8])
    assert ap([plain]) < 1


def test_a_class_without_truth_has_no_precision_and_one_without_detection_none_right():
    matches = match([image([[.9]], [1], [1], [1])], 3, [.5])
    assert average_precision(matches)[:, 0].tolist()[1:2] == pytest.approx([1])
    assert np.isnan(average_precision(matches)[[0, 2], 0]).all()
    only_truth = image(np.zeros((0, 2)), [], np.zeros(0, int), [0, 1])
    assert average_precision(match([only_truth], 2, [.5])).tolist() == [[0], [0]]
    assert np.isnan(average_precision(match([], 2, [.5]))).all()
    assert np.isnan(mean_precision(average_precision(match([], 2, [.5]))))


def test_only_the_best_hundred_of_an_image_and_class_count():
    iou = np.zeros((150, 1))
    iou[120, 0] = 1
    one = image(iou, np.linspace(1, .1, 150))
    assert ap([one]) == 0 and ap([one], most=150) == pytest.approx(1 / 121)


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match="thresholds"):
        match([], 1, [0.0])
    with pytest.raises(ValueError, match="no number"):
        match([image([[.9]], [np.nan])], 1, [.5])
    with pytest.raises(ValueError, match="class 3"):
        match([image([[.9]], [1], [3], [3])], 1, [.5])
    with pytest.raises(ValueError, match="choice"):
        match([], 1, [.5], choice="all")
    with pytest.raises(ValueError, match="interpolation"):
        average_precision(match([], 1, [.5]), "linear")


def test_the_thresholds_of_the_tables():
    np.testing.assert_allclose(VOLUME, [.1, .2, .3, .4, .5, .6, .7, .8, .9])
    np.testing.assert_allclose(COCO, [.5, .55, .6, .65, .7, .75, .8, .85, .9, .95])


# -- against pycocotools -----------------------------------------------------------------------


def scene(rng: np.random.Generator, digits: int):
    """True masks and detections of one image, as masks; few digits give equal scores."""
    def blob() -> np.ndarray:
        mask = np.zeros(SIZE, bool)
        for _ in range(2):
            y, x = rng.integers(0, SIZE[0] - 10), rng.integers(0, SIZE[1] - 10)
            mask[y:y + rng.integers(3, 20), x:x + rng.integers(3, 20)] = True
        return mask

    true = [blob() for _ in range(rng.integers(0, 6))]
    true_classes = rng.integers(0, 3, len(true))
    masks = [np.roll(m, rng.integers(-3, 4), rng.integers(0, 2)) for m in true
             for _ in range(rng.integers(0, 4))] + [blob() for _ in range(3)]
    classes = rng.integers(0, 3, len(masks))
    owner = [t for t in range(len(true))]
    classes[:min(len(owner), len(masks))] = true_classes[:min(len(owner), len(masks))]
    return (true, true_classes, rng.random(len(true)) < 0.25, masks, classes,
            np.round(rng.random(len(masks)), digits))


@pytest.mark.parametrize("digits", [1, 8])
def test_run_lengths_are_scored_as_pycocotools_does(digits):
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(digits)
    scenes = [scene(rng, digits) for _ in range(60)]
    expected = coco_precision(*coco_files(
        [([compressed(m) for m in t], tc, k, [compressed(m) for m in p], pc, s)
         for t, tc, k, p, pc, s in scenes]), 4)

    found = average_precision(match(met(scenes), 4, COCO))

    assert np.isnan(expected[3]).all() and 0.02 < np.nanmean(expected) < 0.9
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert mean_precision(found).mean() == pytest.approx(np.nanmean(expected), abs=1e-9)


def met(scenes: list[tuple]) -> list[Overlaps]:
    return [overlaps(run_regions(SIZE, [runs_of(m) for m in t], tc, crowd=k,
                                 areas=more[0] if more else None),
                     run_regions(SIZE, [runs_of(m) for m in p], pc, s))
            for t, tc, k, p, pc, s, *more in scenes]


@pytest.mark.parametrize("stated", [False, True])
def test_objects_of_each_size_are_scored_as_pycocotools_does(stated):
    """Areas are those of the pixels, or what the truth says they are."""
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(5)
    scenes = [scene(rng, 2) for _ in range(60)]
    if stated:
        scenes = [(*one, [m.sum() * rng.uniform(.7, 1.3) for m in one[0]]) for one in scenes]
    ranges = [(0, 150), (150, 300), (300, 1e10)]
    files = coco_files([([compressed(m) for m in t], tc, k, [compressed(m) for m in p], pc, s,
                         *more) for t, tc, k, p, pc, s, *more in scenes])

    images = met(scenes)
    for ends, expected in zip(ranges, coco_precision(*files, 4, area=slice(1, 4), ranges=ranges)):
        found = average_precision(match(images, 4, COCO, within=ends))
        assert 0.02 < np.nanmean(expected) < 0.9
        np.testing.assert_allclose(found, expected, atol=1e-9)


# -- against loops -----------------------------------------------------------------------------


@st.composite
def tables(draw):
    def one():
        p, t = draw(st.integers(0, 4)), draw(st.integers(0, 3))
        values = st.sampled_from([0, .3, .5, .55, .6, .7, .9])
        iou = [[draw(values) for _ in range(t)] for _ in range(p)]
        return (np.array(iou, float).reshape(p, t),
                draw(st.lists(st.sampled_from([.1, .2, .3, .7]), min_size=p, max_size=p)))
    return [one() for _ in range(draw(st.integers(1, 4)))]


def as_images(some) -> list[Overlaps]:
    return [Overlaps(np.zeros(len(iou), int), np.array(s, float), np.zeros(iou.shape[1], int),
                     np.zeros(iou.shape[1], bool), np.argwhere(iou > 0), iou[iou > 0])
            for iou, s in some]


@given(tables(), st.sampled_from([.3, .5, .6]))
def test_vocs_rules_are_those_of_the_loops(some, threshold):
    if sum(iou.shape[1] for iou, _ in some):
        assert ap(as_images(some), threshold) == pytest.approx(voc_precision(some, threshold))
        assert ap(as_images(some), threshold, "voc2007") == \
            pytest.approx(voc_precision(some, threshold, 11))


@given(tables())
def test_images_that_count_twice_are_images_given_twice(some):
    for place, (iou, scores) in enumerate(some):  # equal scores would be ordered differently
        scores[:] = [s + .001 * n + .01 * place for n, s in enumerate(scores)]
    images = as_images(some)
    weights = np.array([[(i + b) % 3 for i in range(len(some))] for b in range(3)], float)
    for interpolation in ("101-point", "area", "11-point"):
        found = average_precision(match(images, 1, [.3, .5]), interpolation, weights)
        for row, result in zip(weights, found):
            copies = [one for one, n in zip(images, row) for _ in range(int(n))]
            np.testing.assert_allclose(
                average_precision(match(copies, 1, [.3, .5]), interpolation), result, atol=1e-12)


def test_no_ranking_is_better_than_the_oracles():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = np.kron(rng.integers(0, 4, (3, 3)), np.ones((3, 3))).astype(np.uint16)
        guess = np.where(rng.random(truth.shape) < .75, truth,
                         rng.integers(0, 4, truth.shape)).astype(np.uint16)

        def scored(scores):
            one = overlaps(map_regions(truth, [1, 2, 3], [0, 0, 0]),
                           map_regions(guess, [1, 2, 3], [0, 0, 0], scores))
            return one, average_precision(match([one], 1, [.5, .6, .7, .8]), "area")[0]

        if not all((truth == i).any() for i in (1, 2, 3)):
            continue
        oracle = scored(oracle_scores(scored([1, 1, 1])[0]))[1]
        for order in itertools.permutations([.1, .2, .3]):
            assert (scored(list(order))[1] <= oracle + 1e-12).all()


def test_the_oracle_gives_each_object_to_one_prediction():
    one = image([[.9, .3], [.8, .6], [.7, 0]], [1, 1, 1])
    assert oracle_scores(one).tolist() == [.9, .6, 0]
    assert oracle_scores(image([[.9]], [1], crowd=[True])).tolist() == [0]
