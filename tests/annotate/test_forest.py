"""Forests: the kernel against scikit-learn, and what is learnt from scribbles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsseg.annotate import filters, forest
from wsseg.annotate.forest import (NOT_DRAWN, ForestOptions, annotate, boxes_as_scribble,
                                   choose_pixels, points_as_scribble)
from wsseg.errors import RecordError, UsageError

pytest.importorskip("sklearn")
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier  # noqa: E402

needs_kernel = pytest.mark.skipif(forest.native() is None, reason="the kernel is not built")
FEW = ForestOptions(trees=8, keep=0)


def textures(size: tuple[int, int] = (72, 96)):
    """Truth, a photo of two textures of the same mean colour, and a scribble in each."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size[0], :size[1]]
    truth = ((y - 36) ** 2 + (x - 48) ** 2 < 26 ** 2).astype(np.uint8)
    waves = np.where(truth, 60 * np.sign(np.sin(x * 1.6)), 60 * np.sign(np.sin(y * .7)))
    photo = (128 + waves[..., None] + rng.normal(0, 12, (*size, 3))).clip(0, 255)
    scribble = np.full(size, NOT_DRAWN, np.uint8)
    scribble[34:37, 26:70] = 1
    scribble[16:56, 47:50] = 1
    scribble[4:7, 6:90] = 0
    scribble[10:66, 3:6] = 0
    scribble[65:68, 10:90] = 0
    scribble[12:24, 18:21] = 0
    scribble[20:60, 84:87] = 0
    return truth, photo.astype(np.uint8), scribble


@needs_kernel
@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(1, 9), st.integers(2, 5), st.integers(2, 300),
       st.integers(1, 200), st.booleans(), st.integers(0, 99))
def test_the_kernel_gives_the_numbers_of_scikit_learn(trees, features, classes, samples, pixels,
                                                      extra, seed):
    rng = np.random.default_rng(seed)
    # few values, so that thresholds are met exactly
    x = (rng.integers(-4, 5, (samples, features)) / 3).astype(np.float32)
    y = rng.integers(0, classes, samples)
    grown = (ExtraTreesClassifier if extra else RandomForestClassifier)(
        trees, random_state=seed, max_depth=[None, 3][seed % 2]).fit(x, y)
    asked = (rng.integers(-5, 6, (features, pixels)) / 3).astype(np.float32)
    one = forest.predict(grown, asked, engine="native")
    np.testing.assert_allclose(one, grown.predict_proba(asked.T).T, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(one, forest.predict(grown, asked, threads=3, engine="native"))


@needs_kernel
def test_a_threshold_between_two_floats_parts_them():
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    grown = RandomForestClassifier(20, random_state=0, bootstrap=False).fit(
        np.array([[low], [high]] * 5), [0, 1] * 5)
    asked = np.array([[low, high, np.nextafter(high, np.float32(2)), 0, -1e30, 1e30]], np.float32)
    np.testing.assert_allclose(forest.predict(grown, asked), grown.predict_proba(asked.T).T)


@needs_kernel
def test_trees_of_more_than_65536_nodes_take_wider_nodes():
    rng = np.random.default_rng(0)
    x, y = rng.random((70000, 2), np.float32), rng.integers(0, 2, 70000)
    grown = ExtraTreesClassifier(1, random_state=0, max_features=1).fit(x, y)
    assert grown.estimators_[0].tree_.node_count > 65536
    asked = rng.random((2, 3000), np.float32)
    np.testing.assert_allclose(forest.predict(grown, asked, engine="native"),
                               grown.predict_proba(asked.T).T, atol=1e-6)


@needs_kernel
def test_the_kernel_refuses_what_is_no_forest():
    kernel = forest.native()
    leaf = ([-1], [-1], [-2], [-2.0], [[1.0, 0.0]])
    assert kernel.Forest([leaf], 1, 2).predict(np.zeros((1, 3), np.float32)).tolist() == \
        [[1, 1, 1], [0, 0, 0]]
    loop = ([0, -1, -1], [2, -1, -1], [0, -2, -2], [0.0, 0, 0], [[1.0, 0.0]] * 3)
    beyond = ([1, -1, 9], [5, -1, -1], [0, -2, -2], [0.0, 0, 0], [[1.0, 0.0]] * 3)
    strange = ([1, -1, -1], [2, -1, -1], [7, -2, -2], [0.0, 0, 0], [[1.0, 0.0]] * 3)
    for trees in ([], [loop], [beyond], [strange], [leaf[:4] + ([[1.0]],)]):
        with pytest.raises(ValueError):
            kernel.Forest(trees, 1, 2)
    with pytest.raises(ValueError, match="must be"):
        kernel.Forest([leaf], 1, 2).predict(np.zeros((2, 3), np.float32))


def test_scikit_learn_predicts_where_the_kernel_is_not_built(monkeypatch):
    _, photo, scribble = textures()
    planes = filters.classical(photo)
    want = annotate(planes, scribble, FEW)[1]
    monkeypatch.setattr(forest, "native", lambda: None)
    np.testing.assert_allclose(annotate(planes, scribble, FEW)[1], want, atol=1e-6)
    with pytest.raises(UsageError, match="not built"):
        annotate(planes, scribble, FEW, engine="native")


@pytest.mark.parametrize("kind", ["extra", "random"])
def test_two_textures_are_told_apart_without_positions(kind):
    truth, photo, scribble = textures()
    planes = filters.classical(photo, groups=filters.GROUPS[:-1])
    classes, prob = annotate(planes, scribble, ForestOptions(trees=50, kind=kind, keep=40))
    assert classes.tolist() == [0, 1] and prob.dtype == np.float32
    np.testing.assert_allclose(prob.sum(axis=0), 1, atol=1e-5)
    found = prob.argmax(axis=0)
    assert (found & truth).sum() / (found | truth).sum() > .9
    drawn = scribble != NOT_DRAWN
    assert (prob[:, drawn].max(axis=0) == 1).all()
    assert (found[drawn] == scribble[drawn]).all()


def test_equal_seeds_give_equal_numbers_and_other_seeds_others():
    _, photo, scribble = textures((40, 48))
    scribble[20:22, 20:30] = 1
    planes = filters.classical(photo)
    runs = [annotate(planes, scribble, ForestOptions(trees=8, keep=20, most=100, seed=seed),
                     threads=threads)[1] for seed, threads in ((1, 1), (1, 2), (2, 1))]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_the_best_features_are_kept_in_their_order():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    x = rng.normal(size=(200, 9)).astype(np.float32)
    x[:, [2, 7]] += 4 * y[:, None]
    grown, kept = forest.fit(x, y, ForestOptions(trees=20, keep=2))
    assert kept.tolist() == [2, 7] and grown.n_features_in_ == 2
    assert forest.fit(x, y, ForestOptions(trees=2, keep=9))[1].tolist() == list(range(9))


def test_one_class_is_certain_and_none_is_an_error():
    scribble = np.full((4, 5), NOT_DRAWN, np.uint8)
    planes = np.zeros((2, 4, 5), np.float32)
    with pytest.raises(RecordError, match="nothing is scribbled"):
        annotate(planes, scribble)
    scribble[1, 1] = 7
    classes, prob = annotate(planes, scribble)
    assert classes.tolist() == [7] and prob.shape == (1, 4, 5) and (prob == 1).all()


def test_arrays_that_do_not_fit_are_refused():
    scribble = np.zeros((4, 5), np.uint8)
    scribble[0, 0] = 1
    for planes in (np.zeros((2, 4, 5)), np.zeros((4, 5), np.float32)):
        with pytest.raises(RecordError, match="features must be float32"):
            annotate(planes, scribble)
    with pytest.raises(RecordError, match="the scribble must be"):
        annotate(np.zeros((2, 5, 4), np.float32), scribble)
    with pytest.raises(UsageError, match="no kind of forest"):
        annotate(np.zeros((2, 4, 5), np.float32), scribble, ForestOptions(kind="oak"))
    grown, _ = forest.fit(np.zeros((4, 1), np.float32), np.array([0, 1, 0, 1]), FEW)
    with pytest.raises(RecordError, match="not finite"):
        forest.predict(grown, np.full((1, 3), np.nan, np.float32))


def test_a_bound_on_pixels_keeps_every_class_and_its_share():
    labels = np.repeat([0, 1, 2], [8000, 1995, 5])
    kept = choose_pixels(labels, 1000, 0)
    assert (np.diff(kept) > 0).all()
    assert np.bincount(labels[kept]).tolist() == [800, 200, 1]
    assert choose_pixels(labels, 10000, 0).tolist() == list(range(10000))


def test_points_become_discs_and_the_frame_background():
    drawn = points_as_scribble(np.array([[10.5, 8.2], [12, 8]]), np.array([3, 4]), (20, 30),
                               radius=3, frame=2)
    assert drawn[8, 10] == 3 and drawn[8, 12] == 4 and drawn[8, 11] == 3  # the first of equals
    assert drawn[8, 7] == 3 and drawn[8, 6] == NOT_DRAWN
    assert (drawn[:2] == 0).all() and (drawn[:, -2:] == 0).all() and drawn[2, 2] == NOT_DRAWN
    for more in ({"background": None}, {"frame": 0}):
        assert set(np.unique(points_as_scribble(np.array([[1, 1]]), np.array([3]), (9, 9),
                                                **more))) == {3, NOT_DRAWN}
    own = points_as_scribble(np.array([[1, 1], [7, 7]]), np.array([3, 0]), (9, 9), radius=1)
    assert (own == 0).sum() == 5
    for xy in ([[9, 1]], [[-1, 1]], [[np.nan, 1]]):
        with pytest.raises(RecordError, match="outside"):
            points_as_scribble(np.array(xy), np.array([3]), (9, 9))
    with pytest.raises(RecordError, match="do not fit a scribble"):
        points_as_scribble(np.array([[1, 1]]), np.array([300]), (9, 9))


def test_boxes_become_their_middle_and_background_around():
    drawn = boxes_as_scribble(np.array([[5, 5, 15, 15], [8, 8, 12, 12.0]]), np.array([1, 2]),
                              (20, 30), core=.4)
    assert (drawn[:5] == 0).all() and (drawn[:, 15:] == 0).all()
    assert (drawn == 1).sum() + (drawn == 2).sum() == 16 and (drawn == 2).sum() == 4
    assert drawn[6, 6] == NOT_DRAWN
    assert NOT_DRAWN in boxes_as_scribble(np.array([[5, 5, 9, 9]]), [1], (20, 30),
                                          background=None)[0]


def test_hostile_boxes_are_cut_turned_or_left_out():
    turned = boxes_as_scribble(np.array([[15, 15, 5, 5]]), np.array([1]), (20, 30))
    np.testing.assert_array_equal(
        turned, boxes_as_scribble(np.array([[5, 5, 15, 15]]), np.array([1]), (20, 30)))
    out = boxes_as_scribble(np.array([[40, 2, 60, 9], [3, 3, 3, 9]]), np.array([1, 1]), (20, 30))
    assert (out == 0).all()
    whole = boxes_as_scribble(np.array([[-9, -9, 99, 99]]), np.array([1]), (20, 30))
    assert set(np.unique(whole)) == {1, NOT_DRAWN}
    with pytest.raises(RecordError, match="no number"):
        boxes_as_scribble(np.array([[0, 0, np.nan, 4]]), np.array([1]), (20, 30))
