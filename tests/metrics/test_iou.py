"""Confusion matrix and scores, against brute force and scikit-learn."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wsseg.metrics import iou
from wsseg.metrics.iou import confusion_matrix, pair_counts, segmentation_score

N = 4
values = st.sampled_from([0, 1, 2, 3, 255])


@st.composite
def pairs(draw, elements=values, dtypes=(np.uint8, np.uint16)) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    kinds = st.sampled_from(dtypes)
    return (draw(arrays(draw(kinds), shape, elements=elements)),
            draw(arrays(draw(kinds), shape, elements=elements)))


def by_hand(truth: np.ndarray, prediction: np.ndarray, n: int, ignore: int = 255
            ) -> list[list[int]]:
    """Two loops; the last column is for what was predicted as ``ignore``."""
    matrix = [[0] * (n + 1) for _ in range(n)]
    for y in range(truth.shape[0]):
        for x in range(truth.shape[1]):
            t, p = int(truth[y, x]), int(prediction[y, x])
            if t != ignore:
                matrix[t][n if p == ignore else p] += 1
    return matrix


@given(pairs())
def test_the_matrix_counts_every_pixel_by_two_loops(engine, pair):
    found = confusion_matrix(*pair, N)
    assert found.dtype == np.int64 and found.shape == (N, N + 1)
    assert found.tolist() == by_hand(*pair, N)
    assert found.sum() == (pair[0] != 255).sum()


@given(pairs())
def test_the_matrix_is_that_of_scikit_learn(pair):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, prediction = pair
    known = truth != 255
    found = confusion_matrix(truth, prediction, N)
    if known.any():
        expected = metrics.confusion_matrix(truth[known], prediction[known],
                                            labels=[*range(N), 255])
        assert found.tolist() == expected[:N].tolist()
    else:
        assert not found.any()


@given(pairs(st.sampled_from([0, 1, 300, 9]), [np.uint16]) | pairs(st.sampled_from([0, 1, 255, 9])))
def test_any_value_may_be_the_one_to_ignore(pair):
    assert confusion_matrix(*pair, 301, ignore=9).tolist() == by_hand(*pair, 301, 9)


@given(pairs(st.integers(0, 255)), st.integers(1, 256))
def test_a_value_that_is_no_class_is_refused_with_its_number(pair, n):
    truth, prediction = pair
    worst = {name: max((int(v) for v in labels.ravel() if v != 255), default=-1)
             for name, labels in (("truth", truth), ("prediction", prediction))}
    bad = next((name for name in ("truth", "prediction") if worst[name] >= n), None)
    if bad is None:
        assert confusion_matrix(*pair, n).tolist() == by_hand(*pair, n)
        return
    with pytest.raises(ValueError) as caught:
        confusion_matrix(*pair, n)
    assert str(caught.value) == (f"{bad} has pixels of value {worst[bad]}, but there are {n} "
                                 "classes")


@pytest.fixture(params=[True, False], ids=["native", "numpy"], scope="module")
def engine(request):
    """Either engine: the kernel, where it is built, and numpy."""
    if request.param and iou._native is None:
        pytest.skip("the kernels are not built")
    with pytest.MonkeyPatch.context() as patch:
        if not request.param:
            patch.setattr(iou, "_native", None)
        yield


@given(pairs(st.integers(0, 255)))
def test_pairs_of_values_are_counted_one_by_one(engine, pair):
    dtype = np.result_type(*pair)
    truth, prediction = (labels.astype(dtype) for labels in pair)
    counts = pair_counts(truth, prediction)
    assert counts.dtype == np.int64 and counts.shape[1:] == (3,)
    found = {(t, p): n for t, p, n in counts.tolist()}
    assert len(found) == len(counts)  # each pair once
    assert found == Counter(zip(truth.ravel().tolist(), prediction.ravel().tolist()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_pixels_make_no_pairs(engine, dtype):
    assert pair_counts(np.zeros((0, 4), dtype), np.zeros((0, 4), dtype)).shape == (0, 3)


def test_values_of_16_bits_are_not_mixed_up(engine):
    truth, prediction = np.array([[1, 0, 65535]], np.uint16), np.array([[0, 256, 65534]], np.uint16)
    assert sorted(pair_counts(truth, prediction).tolist()) == \
        [[0, 256, 1], [1, 0, 1], [65535, 65534, 1]]


@pytest.mark.parametrize("make", [np.asfortranarray, lambda a: a[::2], lambda a: a.T,
                                  lambda a: np.broadcast_to(a[:1], a.shape)])
def test_the_memory_layout_does_not_matter(engine, make):
    rng = np.random.default_rng(0)
    truth, prediction = (rng.integers(0, N, (40, 60)).astype(np.uint8) for _ in "tp")
    truth[5:9], prediction[7:12] = 255, 255
    truth, prediction = make(truth), make(prediction)
    assert confusion_matrix(truth, prediction, N).tolist() == by_hand(truth, prediction, N)


def test_large_flat_maps_are_counted_exactly(engine):
    truth = np.zeros((3000, 2000), np.uint8)
    truth[1000:] = 1
    found = confusion_matrix(truth, np.zeros_like(truth), 2)
    assert found.tolist() == [[2_000_000, 0, 0], [4_000_000, 0, 0]]


_SHORT_OF_MEMORY = """
import resource
import numpy as np
from wsseg.metrics.iou import pair_counts

noise = np.random.default_rng(0).integers(1, 60_000, (2, 3_000_000)).astype(np.uint16)
few = np.repeat(noise[:, [0, 1, 2, 3]], 50, axis=1)
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (60 << 20),) * 2)
try:
    pair_counts(*noise)
except MemoryError:
    assert sorted(pair_counts(*few).tolist()) == sorted([t, p, 50] for t, p in few[:, ::50].T)
    print("counted")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_maps_are_counted_right_after_memory_ran_out():
    done = subprocess.run([sys.executable, "-c", _SHORT_OF_MEMORY], capture_output=True, text=True)
    assert done.stdout == "counted\n", done.stderr


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"truth \(2, 3\), prediction \(3, 2\)"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2)


def test_an_empty_map_counts_nothing():
    empty = np.zeros((0, 5), np.uint8)
    assert confusion_matrix(empty, empty, 2).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_class_254_and_256_classes_are_counted():
    label = np.array([[254, 254, 0, 255]], np.uint8)
    found = confusion_matrix(label, label[:, ::-1], 255)
    assert found[254, 255] == 1 and found[254, 0] == 1 and found[0, 254] == 1
    assert found.sum() == 3


@given(st.lists(pairs(), min_size=1, max_size=4))
def test_matrices_of_shards_add_up(many):
    whole = sum(confusion_matrix(t, p, N) for t, p in many)
    flat = [np.concatenate([pair[i].ravel() for pair in many])[None].astype(np.uint16)
            for i in (0, 1)]
    assert confusion_matrix(*flat, N).tolist() == whole.tolist()


def test_the_score_of_a_worked_example():
    # truth 0: 6 right, 2 as class 1;  truth 1: 1 as class 0, 3 right, 1 as nothing;
    # class 2 is only predicted (once, for a pixel of class 0); class 3 does not occur
    matrix = np.array([[6, 2, 1, 0, 0], [1, 3, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    score = segmentation_score(matrix)
    np.testing.assert_allclose(score.iou, [6 / (9 + 7 - 6), 3 / (5 + 5 - 3), 0, np.nan])
    np.testing.assert_allclose(score.precision, [6 / 7, 3 / 5, 0, np.nan])
    np.testing.assert_allclose(score.recall, [6 / 9, 3 / 5, np.nan, np.nan])
    assert score.pixels.tolist() == [9, 5, 0, 0]
    assert score.miou == pytest.approx((6 / 10 + 3 / 7 + 0) / 3)
    assert score.pixel_accuracy == pytest.approx(9 / 14)
    assert score.mean_accuracy == pytest.approx((6 / 9 + 3 / 5) / 2)
    assert score.scored == 3
    assert score.covered == pytest.approx(13 / 14)


@given(pairs())
def test_scores_are_those_of_scikit_learn(pair):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, prediction = (a.astype(int) for a in pair)
    known = truth != 255
    if not known.any():
        return
    truth, prediction = truth[known], prediction[known]
    score = segmentation_score(confusion_matrix(*pair, N))
    occurring = sorted((set(truth) | set(prediction)) - {255})
    options = {"labels": occurring, "average": None, "zero_division": 0}
    np.testing.assert_allclose(score.iou[occurring],
                               metrics.jaccard_score(truth, prediction, **options))
    absent = [c for c in range(N) if c not in occurring]
    assert np.isnan(score.iou[absent]).all()
    assert score.miou == pytest.approx(metrics.jaccard_score(
        truth, prediction, labels=occurring, average="macro", zero_division=0))
    assert score.pixel_accuracy == pytest.approx(metrics.accuracy_score(truth, prediction))
    there = sorted(set(truth))
    assert score.mean_accuracy == pytest.approx(metrics.recall_score(
        truth, prediction, labels=there, average="macro", zero_division=0))
    np.testing.assert_allclose(score.recall[there], metrics.recall_score(
        truth, prediction, labels=there, average=None, zero_division=0))
    seen = [c for c in occurring if c in prediction]
    np.testing.assert_allclose(score.precision[seen], metrics.precision_score(
        truth, prediction, labels=seen, average=None, zero_division=0))


def test_a_prediction_of_nothing_is_wrong_and_hides_nothing():
    truth = np.ones((2, 5), np.uint8)
    prediction = truth.copy()
    prediction[0] = 255
    score = segmentation_score(confusion_matrix(truth, prediction, 2))
    assert score.iou[1] == 0.5 and score.pixel_accuracy == 0.5 and score.covered == 0.5
    assert score.precision[1] == 1.0


def test_what_is_void_in_the_truth_does_not_count():
    truth = np.array([[1, 255, 255]], np.uint8)
    score = segmentation_score(confusion_matrix(truth, np.array([[1, 0, 1]], np.uint8), 2))
    assert score.miou == 1.0 and score.scored == 1 and math.isnan(score.iou[0])


def test_without_any_pixel_nothing_is_defined():
    score = segmentation_score(np.zeros((3, 4), np.int64))
    assert np.isnan(score.iou).all() and math.isnan(score.miou)
    assert math.isnan(score.pixel_accuracy) and math.isnan(score.mean_accuracy)
    assert math.isnan(score.covered) and score.scored == 0


def test_the_mean_is_over_the_split_and_not_over_images():
    def matrix(truth, prediction):
        return confusion_matrix(np.array([truth], np.uint8), np.array([prediction], np.uint8), 2)

    one, two = matrix([1, 1, 1, 1], [1, 1, 1, 1]), matrix([1, 0], [0, 0])
    # class 0: 1 / 2;  class 1: 4 / 5
    assert segmentation_score(one + two).miou == pytest.approx((1 / 2 + 4 / 5) / 2)
