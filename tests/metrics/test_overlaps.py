"""Overlaps of regions, against stacked masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.metrics.overlaps import (map_regions, mean_confidence, overlaps, run_regions,
                                    spans_of, without_void)


def runs_of(mask: np.ndarray) -> list[int]:
    """COCO's runs by a loop."""
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def by_masks(masks, true_masks, classes, true_classes, crowd):
    """Pairs and IoU from all masks."""
    found = {}
    for p, one in enumerate(masks):
        for t, other in enumerate(true_masks):
            meet = (one & other).sum()
            if classes[p] == true_classes[t] and meet:
                found[p, t] = meet / (one.sum() if crowd[t] else (one | other).sum())
    return found


def as_dict(found) -> dict:
    assert (np.diff(found.pairs[:, 0]) >= 0).all()
    return {tuple(pair): iou for pair, iou in zip(found.pairs.tolist(), found.iou.tolist())}


@st.composite
def stacks(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    masks, true_masks = (draw(st.lists(arrays(bool, shape), max_size=4)) for _ in range(2))
    classes, true_classes = (draw(st.lists(st.integers(0, 1), min_size=len(m), max_size=len(m)))
                             for m in (masks, true_masks))
    crowd = draw(st.lists(st.booleans(), min_size=len(true_masks), max_size=len(true_masks)))
    return shape, masks, true_masks, classes, true_classes, crowd


@given(stacks())
def test_run_lengths_overlap_as_masks_do(stack):
    shape, masks, true_masks, classes, true_classes, crowd = stack
    found = overlaps(run_regions(shape, [runs_of(m) for m in true_masks], true_classes,
                                 crowd=crowd),
                     run_regions(shape, [runs_of(m) for m in masks], classes))
    assert as_dict(found) == by_masks(masks, true_masks, classes, true_classes, crowd)


@st.composite
def maps(draw):
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    ids = [draw(arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 300, 65535, 9])))
           for _ in range(2)]
    numbers = draw(st.permutations([1, 300, 65535]))
    return ids, numbers, [draw(st.lists(st.integers(0, 1), min_size=3, max_size=3))
                          for _ in range(2)], draw(st.lists(st.booleans(), min_size=3,
                                                            max_size=3))


@given(maps())
def test_maps_overlap_as_masks_do_in_any_mixture(scene):
    (guess, truth), numbers, (classes, true_classes), crowd = scene
    order = np.argsort(numbers)
    masks, true_masks = ([ids == n for n in sorted(numbers)] for ids in (guess, truth))
    expected = by_masks(masks, true_masks, np.array(classes)[order],
                        np.array(true_classes)[order], np.array(crowd)[order])
    ours = map_regions(guess, numbers, classes)
    theirs = map_regions(truth, numbers, true_classes, crowd=crowd)
    as_runs = run_regions(guess.shape, [runs_of(m) for m in masks], ours.classes)
    true_runs = run_regions(truth.shape, [runs_of(m) for m in true_masks], theirs.classes,
                            crowd=theirs.crowd)
    for one in (ours, as_runs):
        for other in (theirs, true_runs):
            assert as_dict(overlaps(other, one)) == expected
    for one, other in ((ours, as_runs), (theirs, true_runs)):
        np.testing.assert_array_equal(spans_of(one).areas(3), spans_of(other).areas(3))


@given(maps())
def test_void_can_be_cut_out_of_predictions(scene):
    (guess, truth), numbers, (classes, true_classes), crowd = scene
    seen = np.where(truth == 0, 0, guess)
    expected = overlaps(map_regions(truth, numbers, true_classes, crowd=crowd),
                        map_regions(seen, numbers, classes))
    theirs = map_regions(truth, numbers, true_classes, crowd=crowd)
    whole = map_regions(guess, numbers, classes)
    runs = run_regions(guess.shape, [runs_of(guess == n) for n in sorted(numbers)], whole.classes)
    for one in (whole, runs):
        found, kept = without_void(overlaps(theirs, one, void=True))
        lost = [(guess == n).any() and not (seen == n).any() for n in sorted(numbers)]
        assert kept.tolist() == [not some for some in lost]
        rows = np.flatnonzero(kept)
        assert as_dict(expected) == {(rows[p], t): iou for (p, t), iou in as_dict(found).items()}
        assert len(found.classes) == len(found.scores) == len(found.areas) == kept.sum()


def test_the_same_mask_twice_and_masks_of_nothing():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    one = run_regions((4, 5), [runs_of(mask)] * 2 + [[20]], [1, 1, 1])
    found = overlaps(run_regions((4, 5), [runs_of(mask)], [1]), one)
    assert as_dict(found) == {(0, 0): 1.0, (1, 0): 1.0}


def test_nothing_at_all_is_no_overlap():
    none = run_regions((4, 5), [], [])
    empty = map_regions(np.zeros((4, 5), np.uint16), [], [])
    for one in (none, empty):
        for other in (none, empty):
            assert len(overlaps(one, other).iou) == 0


@pytest.mark.parametrize("runs", [[4, 3], [0, 21], [30, -10], []])
def test_runs_that_do_not_cover_the_image_are_refused(runs):
    with pytest.raises(ValueError, match="do not cover 4x5"):
        spans_of(run_regions((4, 5), [[20], runs], [0, 0]))


def test_images_of_different_size_are_refused():
    with pytest.raises(ValueError, match="sizes differ"):
        overlaps(run_regions((4, 5), [], []), run_regions((5, 4), [], []))


def test_confidence_is_the_mean_probability_of_the_class_in_the_region():
    rng = np.random.default_rng(0)
    ids = rng.choice(np.array([0, 1, 2, 5], np.uint16), (6, 8))
    data = rng.random((2, 6, 8)).astype(np.float32)
    regions = map_regions(ids, [1, 2, 5], [3, 7, 4])

    found = mean_confidence(regions, data, np.array([3, 7]))

    np.testing.assert_allclose(found, [data[0][ids == 1].mean(), data[1][ids == 2].mean(), 0],
                               rtol=1e-6)
    runs = run_regions((6, 8), [runs_of(ids == i) for i in (1, 2, 5)], [3, 7, 4])
    np.testing.assert_allclose(mean_confidence(runs, data, np.array([3, 7])), found, rtol=1e-12)


def test_confidence_from_a_lower_stride_takes_the_nearest_value():
    ids = np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.uint16)
    found = mean_confidence(map_regions(ids, [1, 2], [0, 0]),
                            np.array([[[0.25, 0.75]]], np.float16), np.array([0]))
    assert found.tolist() == [0.25, 0.75]
