"""Instances of probabilities and detections: equations 2 to 4 of panoptic-2018, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.errors import RecordError
from wsseg.refine.densecrf import DenseCrf
from wsseg.refine.instance import EPS, MOST, candidates, evidence, label_instances

ROWS = np.array([0, 3, 7])


def softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - x.max(axis=0))
    return x / x.sum(axis=0)


def case(number: int, size=(9, 11), count: int = 5):
    """Probabilities of classes 0, 3 (stuff) and 7, and boxes of 7 and of 9, which has no row."""
    rng = np.random.default_rng(number)
    prob = softmax(2 * rng.normal(size=(3, *size))).astype(np.float32)
    low = np.stack([rng.integers(0, size[1] - 2, count), rng.integers(0, size[0] - 2, count)], 1)
    high = np.minimum(low + rng.integers(2, 7, (count, 2)), [size[1], size[0]])
    return prob, candidates(np.concatenate([low, high], 1), rng.choice([7, 7, 9], count),
                            rng.random(count), [3, 0], size)


def slow(prob, rows, labels, w1, w2) -> np.ndarray:
    """Equations 3 and 4, pixel by pixel."""
    result = np.zeros((len(labels), *prob.shape[1:]))
    for k in range(len(labels)):
        x0, y0, x1, y1 = labels.boxes[k]
        for y in range(prob.shape[1]):
            for x in range(prob.shape[2]):
                match = np.flatnonzero(rows == labels.classes[k])
                q = prob[match[0], y, x] if len(match) else 0.
                box = labels.scores[k] * q if x0 <= x < x1 and y0 <= y < y1 else 0.
                result[k, y, x] = w1 * box + w2 * q
    return result


@pytest.mark.parametrize("number", range(3))
def test_the_terms_are_the_papers(number):
    prob, labels = case(number)
    assert np.allclose(evidence(prob, ROWS, labels, box_weight=1.3, global_weight=.4),
                       slow(prob, ROWS, labels, 1.3, .4), atol=1e-6)
    part = evidence(prob[:, 4:7], ROWS, labels, top=4)
    assert np.array_equal(part, evidence(prob, ROWS, labels)[:, 4:7])


@pytest.mark.parametrize("number", range(3))
def test_without_the_pairwise_term_each_pixel_takes_its_least_unary(number, monkeypatch):
    monkeypatch.setattr("wsseg.refine.instance._STRIP", 50)  # one row at a time
    prob, labels = case(number)
    found = label_instances(prob, ROWS, labels)
    energy = -np.log(slow(prob, ROWS, labels, 1, 1) + EPS)
    mine = np.take_along_axis(energy, found[None] - 1, 0)[0]
    assert (found > 0).all() and np.allclose(mine, energy.min(axis=0), atol=1e-5)


def exact_mean_field(unary, image, crf) -> np.ndarray:
    """Mean-field with the kernels summed over all pairs of pixels."""
    height, width = unary.shape[1:]
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(float)
    place = np.stack([x, y], 1)
    colour = np.concatenate([place / crf.rgb_features[:2],
                             image.reshape(-1, 3) / np.array(crf.rgb_features[2:])], 1)
    total = 0
    for features, weight in ((place / crf.gauss_features, crf.gauss_weight),
                             (colour, crf.rgb_weight)):
        kernel = np.exp(-.5 * ((features[:, None] - features) ** 2).sum(2))
        norm = 1 / np.sqrt(kernel.sum(1))
        total = total + weight * norm[:, None] * kernel * norm
    flat = -unary.reshape(len(unary), -1)
    q = softmax(flat)
    for _ in range(crf.iterations):
        q = softmax(flat + q @ total)
    return q.reshape(unary.shape)


def test_the_pairwise_term_is_the_dense_crf():
    """Two touching objects in one box each, of two colours: labels follow the photo, as with
    the exact sums over all pairs of pixels."""
    size = (10, 16)
    image = np.full((*size, 3), 40, np.uint8)
    image[2:8, 2:8], image[2:8, 8:14] = (200, 60, 60), (60, 60, 200)
    rng = np.random.default_rng(0)
    thing = np.where(image.max(axis=2) > 100, .7, .3) + rng.normal(0, .12, size)
    prob = np.stack([1 - thing, thing]).clip(.02, .98).astype(np.float32)
    prob /= prob.sum(axis=0)
    labels = candidates(np.array([[1, 1, 10, 9], [7, 1, 15, 9]]), [7, 7], [.9, .8], [0], size)
    crf = DenseCrf(2., 1., 8., 20., 4., 5)
    found = label_instances(prob, np.array([0, 7]), labels, image=image, crf=crf)
    unary = -np.log(slow(prob, np.array([0, 7]), labels, 1, 1) + EPS)
    exact = exact_mean_field(unary, image, crf).argmax(axis=0) + 1
    assert (found == exact).mean() > .97
    truth = np.full(size, 3)
    truth[2:8, 2:8], truth[2:8, 8:14] = 1, 2
    alone = label_instances(prob, np.array([0, 7]), labels)
    assert (found == truth).mean() > (alone == truth).mean() and (found == truth).mean() > .95


def test_of_identical_boxes_the_better_one_takes_all():
    prob = np.full((1, 3, 4), .8, np.float32)
    box = np.array([[0, 0, 3, 3]] * 2)
    for scores, winner in (([.2, .9], 2), ([.9, .2], 1), ([.5, .5], 1)):
        labels = candidates(box, [7, 7], scores, [], (3, 4))
        assert (label_instances(prob, np.array([7]), labels) == winner).all()  # outside it too


def test_of_equal_scores_the_smaller_box_takes_the_overlap():
    prob = np.full((1, 1, 6), .8, np.float32)
    boxes = np.array([[0, 0, 5, 1], [3, 0, 6, 1]])
    labels = candidates(boxes, [7, 7], None, [], (1, 6))
    assert label_instances(prob, np.array([7]), labels).tolist() == [[1, 1, 1, 2, 2, 2]]


def test_a_wholly_covered_instance_has_no_pixel():
    prob = np.full((1, 4, 4), .8, np.float32)
    labels = candidates(np.array([[1, 1, 3, 3], [0, 0, 4, 4]]), [7, 7], [.3, .9], [], (4, 4))
    assert set(label_instances(prob, np.array([7]), labels).ravel()) == {2}


def test_without_detections_there_is_stuff_or_nothing():
    prob, _ = case(0)
    none = np.zeros((0, 4))
    labels = candidates(none, [], None, [0, 3], prob.shape[1:])
    assert (label_instances(prob, ROWS, labels) == 1 + prob[:2].argmax(axis=0)).all()
    empty = candidates(none, [], None, [], prob.shape[1:])
    crf, image = DenseCrf(), np.zeros((*prob.shape[1:], 3), np.uint8)
    assert not label_instances(prob, ROWS, empty).any()
    assert not label_instances(prob, ROWS, empty, image=image, crf=crf).any()


def test_a_pixel_without_evidence_has_no_label():
    prob = np.zeros((1, 2, 2), np.float32)
    prob[0, 0] = .5
    labels = candidates(np.array([[0, 0, 2, 2]]), [7], [1.], [], (2, 2))
    assert label_instances(prob, np.array([7]), labels).tolist() == [[1, 1], [0, 0]]


def test_hundreds_of_detections_are_labelled():
    size, count = (40, 50), 400
    prob, labels = case(3, size, count)
    found = label_instances(prob, ROWS, labels)
    values = slow(prob[:, :2], ROWS, labels, 1, 1).max(axis=0)
    ours = np.take_along_axis(evidence(prob, ROWS, labels), found[None] - 1, 0)[0, :2]
    assert np.allclose(ours, values, atol=1e-6)
    assert len(np.unique(found)) > 60


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"box 1 has a score of 1.5, not in \[0, 1\]"):
        candidates(np.zeros((2, 4)), [1, 2], [.5, 1.5], [], (2, 2))
    with pytest.raises(ValueError, match="box 0 has a score of nan"):
        candidates(np.zeros((1, 4)), [1], [np.nan], [], (2, 2))
    with pytest.raises(ValueError, match="65535 boxes and 1 stuff classes are more than ids of 16"):
        candidates(np.zeros((MOST, 4)), np.ones(MOST), None, [0], (2, 2))
    prob, labels = case(0)
    for weights in ((0, 0), (-1, 2), (np.nan, 1), (np.inf, 1)):
        with pytest.raises(ValueError, match="weights of the terms"):
            label_instances(prob, ROWS, labels, box_weight=weights[0], global_weight=weights[1])
    with pytest.raises(RecordError, match="photo is 2x2"):
        label_instances(prob, ROWS, labels, image=np.zeros((2, 2, 3), np.uint8), crf=DenseCrf())
