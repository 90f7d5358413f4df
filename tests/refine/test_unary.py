"""Starting probabilities, against plain loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.refine.unary import from_activations, from_labels, normalised, possible

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 5))
UNIT = st.floats(0, 1, width=32)


@st.composite
def label_maps(draw):
    """A label map with 255, and all classes it may hold."""
    classes = sorted(draw(st.sets(st.sampled_from([0, 1, 2, 7, 254, 300, 65535]), min_size=1)))
    label = draw(arrays(np.uint16, draw(SIZES), elements=st.sampled_from([*classes, 255])))
    return label, np.array(classes)


MAPS = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=UNIT))


@given(label_maps(), st.floats(0.01, 0.99))
@settings(deadline=None, max_examples=60)
def test_labels_give_their_class_the_confidence(case, share):
    label, classes = case
    k = len(classes)
    confidence = 1 / k + share * (1 - 1 / k)
    found = from_labels(label, classes, confidence)
    assert found.dtype == np.float32
    for y, x in np.ndindex(label.shape):
        for i, cls in enumerate(classes):
            wanted = (1 / k if label[y, x] == 255 else 1 if k == 1 else confidence
                      if label[y, x] == cls else (1 - confidence) / (k - 1))
            assert found[i, y, x] == pytest.approx(wanted, abs=1e-6)
    assert (found.argmax(axis=0) == np.searchsorted(classes, label))[label != 255].all()


def test_full_confidence_is_one_hot():
    found = from_labels(np.array([[3, 5]], np.uint8), np.array([3, 5]), 1.0)
    assert found.tolist() == [[[1, 0]], [[0, 1]]]


@pytest.mark.parametrize("confidence", [0, 0.25, 1.01, float("nan")])
def test_a_confidence_that_favours_nothing_is_refused(confidence):
    with pytest.raises(ValueError, match="does not favour one of 4 classes"):
        from_labels(np.zeros((2, 2), np.uint8), np.arange(4), confidence)


@given(MAPS, st.floats(0.1, 8))
@settings(deadline=None, max_examples=60)
def test_activations_get_a_background_and_add_up_to_one(cams, power):
    found = from_activations(cams, power)
    assert found.dtype == np.float32 and found.shape == (len(cams) + 1, *cams.shape[1:])
    for y, x in np.ndindex(cams.shape[1:]):
        values = [(1 - max(float(v) for v in cams[:, y, x])) ** power, *cams[:, y, x].tolist()]
        if sum(values) > 1e-3:
            assert found[:, y, x] == pytest.approx(np.array(values) / sum(values), abs=1e-5)


def test_no_activation_at_all_is_background():
    assert (from_activations(np.zeros((0, 2, 3), np.float32), 2) == 1).all()
    assert from_activations(np.zeros((2, 1, 1), np.float32), 2).ravel().tolist() == [1, 0, 0]


@given(MAPS)
@settings(deadline=None, max_examples=60)
def test_normalised_scores_add_up_to_one(scores):
    found = normalised(scores)
    for y, x in np.ndindex(scores.shape[1:]):
        total = sum(scores[:, y, x].tolist())
        wanted = scores[:, y, x] / total if total > 0 else np.full(len(scores), 1 / len(scores))
        assert found[:, y, x] == pytest.approx(wanted, abs=1e-5)
    assert not np.shares_memory(found, scores)


@given(MAPS, st.data())
@settings(deadline=None, max_examples=60)
def test_tags_alone_say_what_is_possible(scores, data):
    classes = np.array(sorted(data.draw(st.sets(st.integers(0, 20), min_size=len(scores),
                                                max_size=len(scores)))))
    allowed = data.draw(st.sets(st.integers(0, 20)))
    found = possible(scores, classes, allowed=allowed, least=0.5)
    assert found.dtype == bool
    assert found.tolist() == [cls in allowed for cls in classes.tolist()]


@given(MAPS, UNIT)
@settings(deadline=None, max_examples=60)
def test_without_tags_a_class_must_reach_the_least_probability(scores, least):
    found = possible(scores, np.arange(len(scores)), allowed=None, least=least)
    tops = [max(m.ravel().tolist()) for m in scores]
    assert found.tolist() == [top > least or top == max(tops) for top in tops]
    assert found.any()


def test_half_precision_maps_of_a_large_photo_do_not_overflow():
    scores = np.full((2, 400, 500), 0.2, np.float16)
    scores[1] = 0.75
    assert possible(scores, np.arange(2), allowed=None, least=0.5).tolist() == [False, True]
