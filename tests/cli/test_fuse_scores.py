"""ws-fuse on scores, activations, labels and instances, and on mixtures of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.fuse_cases import fused, put, row, scores
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import Boxes, InstanceMap, ScoreMap, Segment
from wsseg.refine import fuse as rules


def test_absent_classes_give_their_probability_away_or_their_pixels_up(tmp_path):
    place = put(tmp_path / "p", "score", scores({0: [.2, .9, 0], 1: [.5, .1, 0], 2: [.3, 0, 1]}),
                tags=(1,))
    value = fused(place, "--absent", "zero", kind="score", folder=tmp_path)
    assert value.data[:, 0].T == pytest.approx(np.array([[2 / 7, 5 / 7, 0], [.9, .1, 0],
                                                         [0, 0, 0]]))
    assert fused(place, "--absent", "zero", folder=tmp_path).tolist() == [[1, 0, 255]]
    assert fused(place, "--absent", "zero", "--reasons", kind="conf",
                 folder=tmp_path).tolist() == [[0, 0, 6]]
    value = fused(place, "--absent", "ignore", kind="score", folder=tmp_path)
    assert value.data[:, 0, 2].tolist() == [0, 0, 1]
    assert fused(place, "--absent", "ignore", folder=tmp_path).tolist() == [[1, 0, 255]]


def test_counts_stand_for_tags(tmp_path):
    place = put(tmp_path / "p", "label", row(0, 1, 2), counts={1: 0, 2: 3})
    assert fused(place, "--absent", "ignore", "--rule", "vote",
                 folder=tmp_path).tolist() == [[0, 255, 2]]


@pytest.mark.parametrize("rule", ["mean", "priority"])
def test_things_can_be_made_impossible_outside_their_boxes(tmp_path, rule):
    boxes = Boxes(np.array([[0., 0, 1, 1]]), np.array([1]), (1, 3))
    place = put(tmp_path / "p", "score", scores({0: [.2, .2, 0], 1: [.7, .7, 1], 2: [.1, .1, 0]}),
                boxes=boxes)
    assert fused(place, "--outside", "zero", "--rule", rule, folder=tmp_path).tolist() == [
        [1, 0, 255]]


def test_a_low_score_is_that_of_the_result_for_soft_rules_and_of_each_input_for_others(tmp_path):
    one = put(tmp_path / "1", "score", scores({0: [.9, .6], 1: [.1, .4]}))
    other = put(tmp_path / "2", "score", scores({0: [.5, .1], 1: [.5, .9]}))
    line = (one, other, "--min-score", ".65", "--reasons")
    assert fused(*line, folder=tmp_path).tolist() == [[0, 1]]
    assert fused(*line, "--rule", "priority", folder=tmp_path).tolist() == [[0, 1]]
    assert fused(*line, "--rule", "agree", folder=tmp_path).tolist() == [[255, 255]]
    assert fused(*line, "--rule", "agree", kind="conf", folder=tmp_path).tolist() == [[5, 5]]


def test_labels_and_scores_are_fused_where_they_have_an_opinion(tmp_path):
    """A label of confidence .8 gives .1 to each of the two other classes."""
    label = put(tmp_path / "l", "label", row(1, 255, 255))
    score = put(tmp_path / "s", "score", scores({0: [.6, .6, 0], 1: [.4, .2, 0], 2: [0, .2, 0]}))
    value = fused(label, score, "--confidence", ".8", kind="score", folder=tmp_path)
    assert value.data[:, 0].T == pytest.approx(np.array([[.35, .6, .05], [.6, .2, .2], [0, 0, 0]]))
    assert fused(label, score, "--confidence", ".8,1", folder=tmp_path).tolist() == [[1, 0, 255]]


def test_scores_of_any_stride_meet_at_full_size(tmp_path):
    """A row of 2 at a size of 4 is sampled at -.25, .25, .75, 1.25."""
    small = put(tmp_path / "s", "score", scores({0: [1., 0], 1: [0, 1.]}, size=(1, 4)))
    label = put(tmp_path / "l", "label", row(0, 0, 0, 255))
    value = fused(small, label, kind="score", folder=tmp_path)
    assert value.size == (1, 4) and value.data.shape == (2, 1, 4)
    assert value.data[0, 0].tolist() == pytest.approx([1, .875, .625, 0])


def test_cams_stay_cams(tmp_path):
    one = put(tmp_path / "1", "cam", scores({1: [.9, .2], 2: [.8, .1]}))
    other = put(tmp_path / "2", "cam", scores({1: [.1, .4]}))
    value = fused(one, other, kind="cam", folder=tmp_path)
    assert value.data[:, 0].ravel().tolist() == pytest.approx([.5, .3, .4, .05])
    assert fused(one, other, "--rule", "max", kind="cam", folder=tmp_path).data[0, 0].tolist() \
        == pytest.approx([.9, .4])
    assert fused(one, other, "--min-score", ".4", folder=tmp_path).tolist() == [[1, 255]]
    assert open_source(str(tmp_path / "fused")).header.kinds == ("cam", "label")


def test_half_precision_stays_half_precision(tmp_path):
    half = put(tmp_path / "h", "score", scores({0: [.5], 1: [.5]}, dtype=np.float16))
    full = put(tmp_path / "f", "score", scores({0: [.5], 1: [.5]}))
    assert fused(half, half, kind="score", folder=tmp_path).data.dtype == np.float16
    assert fused(half, full, kind="score", folder=tmp_path).data.dtype == np.float32


def test_instances_are_labels_without_opinion_where_there_is_none(tmp_path):
    value = InstanceMap(np.array([[0, 1, 2, 2]], np.uint16), (Segment(1, 2), Segment(2, 1)))
    place = put(tmp_path / "i", "instance", value)
    under = put(tmp_path / "l", "label", row(0, 0, 0, 2))
    assert fused(place, under, "--rule", "priority", folder=tmp_path).tolist() == [[0, 2, 1, 1]]


def test_one_pixel_and_one_class_are_enough(tmp_path):
    one = put(tmp_path / "1", "score", scores({7: [1.]}), names=None)
    for rule in ("mean", "product", "max", "agree", "vote", "priority", "smaller-area"):
        assert fused(one, one, "--rule", rule, folder=tmp_path).tolist() == [[7]]


def test_no_class_at_all_is_ignore(tmp_path):
    none = put(tmp_path / "0", "label", row(255, 255))
    empty = put(tmp_path / "e", "score", ScoreMap(np.zeros((0, 1, 2), np.float32),
                                                  np.zeros(0, int), (1, 2)))
    for rule in rules.SOFT_RULES[:1] + rules.SOFT_RULES[2:] + rules.LABEL_RULES:
        assert fused(none, empty, "--rule", rule, folder=tmp_path).tolist() == [[255, 255]]


def test_classes_beyond_255_and_unknown_names_work(tmp_path):
    wide = put(tmp_path / "w", "label", np.array([[300, 1]], np.uint16), names=None)
    thin = put(tmp_path / "t", "label", row(1, 1), names=None)
    assert fused(wide, thin, "--rule", "priority", "--opinions", "things,all",
                 folder=tmp_path).tolist() == [[300, 1]]
    assert fused(wide, thin, folder=tmp_path).tolist() == [[1, 1]]


def test_what_is_preferred_of_a_place_that_holds_several_kinds_can_be_said(tmp_path):
    place = put(tmp_path / "p", "score", scores({0: [.6, .4], 1: [.4, .6]}), label=row(2, 255))
    assert fused(place, folder=tmp_path).tolist() == [[0, 1]]
    assert fused(place, "--rule", "vote", folder=tmp_path).tolist() == [[2, 255]]
    assert fused(place, "--rule", "vote", "--min-score", ".6",
                 folder=tmp_path).tolist() == [[0, 1]]
    assert fused(place, "--use", "label", folder=tmp_path).tolist() == [[2, 255]]


def test_maps_to_write_can_be_chosen(tmp_path):
    place = put(tmp_path / "p", "label", row(0, 1))
    for write, kinds in (("both", {"score", "label"}), ("label", {"label"}),
                         ("score", {"score"})):
        fused(place, "--write", write, kind=min(kinds), folder=tmp_path)
        source = open_source(str(tmp_path / "fused"))
        assert source.get("one").kinds() == kinds == set(source.header.kinds)


def test_a_large_image_is_fused_in_strips_with_the_same_result(tmp_path, monkeypatch):
    from wsseg.cli import _fusing
    from wsseg.cli._fusion import Plan, Stack

    rng = np.random.default_rng(0)
    first = scores({c: p for c, p in enumerate(rng.dirichlet(np.ones(3), (7, 5)).transpose(
        2, 0, 1))}, size=(31, 20))
    one, other = Record("one"), Record("one")
    one.set("score", first)
    other.set("label", rng.choice([0, 1, 2, 255], (31, 20)).astype(np.uint8))
    other.set("boxes", Boxes(np.array([[2., 3, 11, 29]]), np.array([1]), (31, 20)))
    plan = Plan("product", confidence=(.6,), outside="zero", write="both", reasons=True,
                min_score=.5)

    def result():
        stack = Stack("one", dict(one.members), inputs=(one, other), where=("a", "b"))
        return _fusing.step(stack, plan=plan).pack().members

    whole = result()
    monkeypatch.setattr(_fusing, "_STRIP", 100)
    assert result() == whole
