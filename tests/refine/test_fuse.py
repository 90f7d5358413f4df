"""The rules of fusion, against decisions made pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.refine import fuse
from wsseg.refine.fuse import (IGNORE, LABEL_RULES, MEANING, SOFT_RULES, Reason, cam_region,
                               check_probabilities, decide, fuse_labels, fuse_scores, one_hot,
                               resample, smaller_area)

labels = st.sampled_from([0, 1, 2, 300, 255])


@st.composite
def label_maps(draw) -> list[np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    return [draw(arrays(np.uint16, shape, elements=labels))
            for _ in range(draw(st.integers(1, 5)))]


@st.composite
def score_maps(draw) -> tuple[list[np.ndarray], list[float]]:
    """Probabilities of 1 to 4 classes, with pixels without opinion; and weights."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)))
    count = draw(st.integers(1, 4))
    maps = []
    for _ in range(count):
        parts = draw(arrays(np.int64, shape, elements=st.integers(0, 4))).astype(np.float64)
        total = parts.sum(axis=0)
        maps.append((parts / np.where(total > 0, total, 1)).astype(np.float32))
    weights = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count).filter(any))
    return maps, [float(w) for w in weights]


def pixels(maps):
    shape = maps[0].shape[-2:]
    for y in range(shape[0]):
        for x in range(shape[1]):
            yield y, x, [m[..., y, x].tolist() for m in maps]


def scaled(values: list[float]) -> list[float]:
    return [v / sum(values) for v in values] if sum(values) > 0 else values


def soft_by_hand(rule: str, given: list[list[float]], weights: list[float]) -> list[float]:
    """One pixel: N lists of K probabilities."""
    heard = [(p, w) for p, w in zip(given, weights) if sum(p) > 0 and w > 0]
    count = len(given[0])
    if not heard:
        return [0.0] * count
    total = sum(w for _, w in heard)
    if rule == "max":
        return scaled([max(p[k] for p, _ in heard) for k in range(count)])
    if rule == "product":
        return scaled([math.prod(p[k] ** (w / total) for p, w in heard) for k in range(count)])
    return [sum(w * p[k] for p, w in heard) / total for k in range(count)]


@pytest.mark.parametrize("rule", SOFT_RULES)
@given(score_maps())
def test_scores_are_fused_pixel_by_pixel(rule, drawn):
    maps, weights = drawn
    if rule in ("mean", "max"):
        weights = [1.0] * len(maps)
    fused = fuse_scores(maps, rule=rule, weights=weights)

    assert fused.dtype == np.float32 and fused.shape == maps[0].shape
    for y, x, given_there in pixels(maps):
        expected = soft_by_hand(rule, given_there, weights)
        assert fused[:, y, x].tolist() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("rule", SOFT_RULES)
def test_one_input_is_returned_as_it_is(rule):
    one = np.array([[[.25, .5]], [[.75, .5]]], np.float32)
    assert fuse_scores([one], rule=rule) == pytest.approx(one, abs=1e-6)


def test_p_comb_is_the_mean_of_the_local_and_the_global_annotator():
    """scribbles-2019, eq. 11, at one pixel of two classes: (.9 + .4) / 2 and (.1 + .6) / 2."""
    local, globally = np.array([[[.9]], [[.1]]]), np.array([[[.4]], [[.6]]])
    assert fuse_scores([local, globally]).ravel().tolist() == pytest.approx([.65, .35])


def test_the_lambda_rule_weights_the_weak_and_the_strong_network():
    """dualbranch-2020, eq. 4 with lambda .4: .4 * .2 + .6 * .7 = .5 and .4 * .8 + .6 * .3 = .5;
    with lambda .3 the first class wins: .06 + .49 = .55."""
    weak, strong = np.array([[[.2]], [[.8]]]), np.array([[[.7]], [[.3]]])

    def mixed(share):
        return fuse_scores([weak, strong], rule="weighted", weights=[share, 1 - share]).ravel()

    assert mixed(.4).tolist() == pytest.approx([.5, .5])
    assert mixed(.3).tolist() == pytest.approx([.55, .45])


def test_the_product_is_the_normalised_geometric_mean():
    """sqrt(.9 * .4) = .6 and sqrt(.1 * .6) = .245, out of .845."""
    one, other = np.array([[[.9]], [[.1]]]), np.array([[[.4]], [[.6]]])
    total = .6 + math.sqrt(.06)
    assert fuse_scores([one, other], rule="product").ravel().tolist() == pytest.approx(
        [.6 / total, math.sqrt(.06) / total])


def test_a_product_of_certain_opposites_has_no_opinion():
    one, other = np.array([[[1.]], [[0.]]]), np.array([[[0.]], [[1.]]])
    assert fuse_scores([one, other], rule="product").ravel().tolist() == [0, 0]


def test_activations_are_not_normalised():
    one, other = np.array([[[.8]], [[.9]]]), np.array([[[.2]], [[.4]]])
    assert fuse_scores([one, other], rule="max", normalise=False).ravel().tolist() == \
        pytest.approx([.8, .9])
    assert fuse_scores([one, other], rule="product", normalise=False).ravel().tolist() == \
        pytest.approx([.4, .6])


@pytest.mark.parametrize("weights, what", [
    ([1], "1 weights for 2 maps"), ([1, -1], "none may be negative"),
    ([0, 0], "not all 0"), ([1, math.nan], "none may be")])
def test_weights_must_fit(weights, what):
    with pytest.raises(ValueError, match=what):
        fuse_scores([np.ones((1, 1, 1))] * 2, rule="weighted", weights=weights)


def test_maps_of_different_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(1, 2, 3\), \(1, 3, 2\)"):
        fuse_scores([np.ones((1, 2, 3)), np.ones((1, 3, 2))])
    with pytest.raises(ValueError, match=r"\(2, 3\), \(3, 2\)"):
        fuse_labels([np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)], rule="vote")


def test_unknown_rules_and_nothing_to_fuse_are_refused():
    with pytest.raises(ValueError, match="no rule for scores"):
        fuse_scores([np.ones((1, 1, 1))], rule="vote")
    with pytest.raises(ValueError, match="no rule for labels"):
        fuse_labels([np.zeros((1, 1), np.uint8)], rule="mean")
    for call in (lambda: fuse_scores([]), lambda: fuse_labels([], rule="vote")):
        with pytest.raises(ValueError, match="nothing to fuse"):
            call()


def hard_by_hand(rule: str, votes: list[int]) -> tuple[int, Reason]:
    """One pixel: N labels."""
    said = [v for v in votes if v != IGNORE]
    if not said:
        return IGNORE, Reason.NO_OPINION
    if rule == "priority":
        return said[0], Reason.RULE
    if rule == "agree":
        if len(said) < len(votes):
            return IGNORE, Reason.NO_OPINION
        return (said[0], Reason.RULE) if len(set(said)) == 1 else (IGNORE, Reason.DISAGREE)
    most = max(said.count(v) for v in said)
    winners = {v for v in said if said.count(v) == most}
    return (winners.pop(), Reason.RULE) if len(winners) == 1 else (IGNORE, Reason.TIE)


@pytest.mark.parametrize("rule", ["agree", "priority", "vote"])
@given(label_maps())
def test_labels_are_fused_pixel_by_pixel(rule, maps):
    label, reasons = fuse_labels(maps, rule=rule)

    assert label.dtype == np.uint16 and reasons.dtype == np.uint8
    for y, x, votes in pixels(maps):
        assert (label[y, x], reasons[y, x]) == hard_by_hand(rule, votes)


def test_types_are_kept_and_widened_only_where_needed():
    narrow, wide = np.zeros((1, 1), np.uint8), np.full((1, 1), 300, np.uint16)
    for rule in ("agree", "priority", "vote"):
        assert fuse_labels([narrow, narrow], rule=rule)[0].dtype == np.uint8
        assert fuse_labels([narrow, wide], rule=rule)[0].dtype == np.uint16


def test_a_result_without_opinion_takes_the_reason_of_the_first_input_that_gives_one():
    none = np.full((1, 3), IGNORE, np.uint8)
    said = np.array([[1, IGNORE, IGNORE]], np.uint8)
    why = [np.array([[1, 1, 5]], np.uint8), np.array([[0, 6, 6]], np.uint8)]

    label, reasons = fuse_labels([none, said], rule="priority", reasons=why)

    assert label.tolist() == [[1, 255, 255]]
    assert reasons.tolist() == [[Reason.RULE, Reason.ABSENT, Reason.LOW_SCORE]]


@given(st.integers(1, 4).flatmap(lambda n: st.tuples(
    arrays(bool, (n, 3, 4)), st.permutations([0, 1, 2, 300]).map(lambda c: c[:n]))))
def test_each_pixel_belongs_to_the_smallest_region_over_it(drawn):
    masks, classes = drawn
    label, reasons = smaller_area(classes, lambda c: masks[classes.index(c)], (3, 4))

    for y in range(3):
        for x in range(4):
            over = [(int(m.sum()), -c) for m, c in zip(masks, classes) if m[y, x]]
            assert label[y, x] == (-min(over)[1] if over else IGNORE)
            assert reasons[y, x] == (Reason.RULE if over else Reason.NO_OPINION)


def test_no_class_at_all_is_no_opinion():
    label, reasons = smaller_area([], lambda c: None, (1, 2))
    assert label.tolist() == [[255, 255]] and reasons.tolist() == [[1, 1]]
    fused = fuse_scores([np.zeros((0, 1, 2))] * 2, rule="product")
    label, reasons = decide(fused, np.zeros(0, int))
    assert label.tolist() == [[255, 255]] and reasons.tolist() == [[1, 1]]


def test_a_small_object_is_not_lost_in_a_large_one():
    """panoptic-2018, 3.3: cams thresholded at half their maximum; the cat's region has 4 pixels
    and the sofa's 6, so the two they share are the cat's."""
    sofa = np.array([[.1, .8, .8, .4], [.4, .8, .8, .7]])
    cat = np.array([[.0, .6, .3, .2], [.3, .3, .3, .1]])
    regions = {1: cam_region(cat, (2, 4)), 2: cam_region(sofa, (2, 4))}
    assert regions[1].tolist() == [[0, 1, 1, 0], [1, 1, 1, 0]]
    assert regions[2].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]

    label, _ = smaller_area(regions, regions.get, (2, 4))

    assert label.tolist() == [[255, 1, 1, 2], [1, 1, 1, 2]]


def test_a_region_begins_at_a_share_of_its_own_maximum():
    one = np.array([[.04, .05, .06, .1, .2]])
    assert cam_region(one, (1, 5), threshold=.25).tolist() == [[0, 1, 1, 1, 1]]
    assert cam_region(one, (1, 5), threshold=.25, least=.1).tolist() == [[0, 0, 0, 1, 1]]
    assert not cam_region(np.zeros((1, 5)), (1, 5), threshold=0).any()


@given(score_maps(), st.floats(0, 1, width=32))
def test_the_largest_probability_decides(drawn, least):
    scores = drawn[0][0]
    classes = np.array([0, 3, 7, 300][:len(scores)])
    label, reasons = decide(scores, classes, min_score=least)

    assert label.dtype == (np.uint16 if len(scores) == 4 else np.uint8)
    for y, x, (values,) in pixels([scores]):
        best = max(values)
        if best == 0:
            expected = IGNORE, Reason.NO_OPINION
        elif best < least:
            expected = IGNORE, Reason.LOW_SCORE
        else:
            expected = classes[values.index(best)], Reason.RULE
        assert (label[y, x], reasons[y, x]) == expected


@given(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.data())
def test_scores_are_brought_to_full_size_bilinearly(shape, data):
    size = tuple(n + data.draw(st.integers(0, 5)) for n in shape)
    small = data.draw(arrays(np.float32, (2, *shape), elements=st.floats(0, 1, width=32)))
    full = resample(small, size)

    def near(at, count):
        low = math.floor(at)
        return ([min(max(i, 0), count - 1) for i in (low, low + 1)], at - low)

    for y in range(size[0]):
        (y0, y1), v = near((y + .5) * shape[0] / size[0] - .5, shape[0])
        for x in range(size[1]):
            (x0, x1), u = near((x + .5) * shape[1] / size[1] - .5, shape[1])
            for k, s in enumerate(small.astype(float)):
                expected = ((1 - v) * ((1 - u) * s[y0, x0] + u * s[y0, x1])
                            + v * ((1 - u) * s[y1, x0] + u * s[y1, x1]))
                assert full[k, y, x] == pytest.approx(expected, abs=1e-5)


def test_resampling_is_that_of_opencv():
    import cv2

    small = np.random.default_rng(0).random((3, 7, 9), np.float32)
    full = resample(small, (53, 61))
    for one, ours in zip(small, full):
        assert np.abs(cv2.resize(one, (61, 53), interpolation=cv2.INTER_LINEAR) - ours).max() < 1e-5


def test_rows_of_a_resampled_map_are_those_of_the_whole():
    small = np.random.default_rng(1).random((2, 5, 4)).astype(np.float16)
    whole = resample(small, (17, 9))
    parts = [resample(small, (17, 9), slice(top, top + 3)) for top in range(0, 17, 3)]
    assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


def test_scores_larger_than_their_image_are_refused():
    with pytest.raises(ValueError, match="3x4 for an image of 3x3"):
        resample(np.zeros((1, 3, 4)), (3, 3))


@given(arrays(np.uint8, (2, 3), elements=st.sampled_from([0, 4, 9, 255])),
       st.floats(0, 1, width=16))
def test_a_label_gives_its_confidence_to_its_class_and_the_rest_to_the_others(label, sure):
    hot = one_hot(label, np.array([0, 4, 9]), confidence=sure)
    for y in range(2):
        for x in range(3):
            expected = [0, 0, 0] if label[y, x] == 255 else \
                [sure if c == label[y, x] else (1 - sure) / 2 for c in (0, 4, 9)]
            assert hot[:, y, x].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_single_class_has_nobody_to_share_with():
    label = np.array([[7, 255]], np.uint8)
    assert one_hot(label, np.array([7]), confidence=.75).tolist() == [[[.75, 0]]]
    assert one_hot(label, np.array([7])).tolist() == [[[1, 0]]]


def test_bad_labels_and_confidences_are_refused():
    with pytest.raises(ValueError, match=r"classes \[5\] that are not among \[0, 1\]"):
        one_hot(np.array([[0, 5]], np.uint8), np.array([0, 1]))
    with pytest.raises(ValueError, match="confidence is 1.5"):
        one_hot(np.array([[0]], np.uint8), np.array([0]), confidence=1.5)


@pytest.mark.parametrize("bad, what", [
    (np.array([[[.5, math.nan]]]), r"not finite, first at \(0, 0, 1\)"),
    (np.array([[[.5], [math.inf]]]), r"not finite, first at \(0, 1, 0\)"),
    (np.array([[[.5]], [[-.25]]]), r"negative \(-0.25\), first at \(1, 0, 0\)"),
    (np.array([[[.5, .6]], [[.25, .9]]]), "add up to 1.5 at x=1, y=0"),
    (np.zeros((2, 2)), r"scores are \(K, h, w\); got \(2, 2\)")])
def test_what_is_no_probability_is_named(bad, what):
    with pytest.raises(ValueError, match=what):
        check_probabilities(bad)


def test_probabilities_of_some_classes_and_of_half_precision_are_fine():
    check_probabilities(np.full((2, 1, 1), .25))
    check_probabilities(np.zeros((0, 3, 3)))
    many = np.random.default_rng(0).dirichlet(np.ones(200), (8, 8)).astype(np.float16)
    check_probabilities(many.transpose(2, 0, 1))


def test_every_code_and_rule_has_a_meaning():
    assert set(MEANING) == set(Reason)
    assert [int(r) for r in Reason] == list(range(len(Reason)))
    for rule in SOFT_RULES + LABEL_RULES:
        assert f"    {rule} " in fuse.__doc__
