"""ws-fuse as its users run it, on maps that can be fused by hand."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli_contract import RecordContract
from tests.conftest import (CLASSES, ROOT, command, complaint, keys_of, make_label, make_record,
                            run, tree, write_place)
from wsseg.cli import fuse as cli
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.header import Header, Total
from wsseg.io.places import open_sink, open_source
from wsseg.io.record import Record
from wsseg.io.values import Boxes, InstanceMap, Points, ScoreMap, Segment
from wsseg.refine import fuse as rules

STREET = ("road", "sky", "car", "person")


class FuseContract(RecordContract):
    tool = "ws-fuse"

    @pytest.fixture(autouse=True)
    def second(self, tmp_path: Path) -> None:
        """A second place of labels, and one of weak labels."""
        labels = [make_record(i, "label") for i in range(60)]
        for record in labels:
            record.set("label", np.roll(record.get("label"), 3, axis=1))
        place = write_place(tmp_path / "second", labels, kinds=["label"])
        weak = write_place(tmp_path / "weak", [make_record(i, "tags", "boxes")
                                               for i in range(60)], kinds=["boxes", "tags"])
        self.arguments = tuple(word.format(second=place, weak=weak) for word in self.words)


class TestSoft(FuseContract):
    words = ("{second}", "--rule", "product", "--confidence", ".9,.7", "--min-score", ".6")


class TestHard(FuseContract):
    words = ("{second}", "--rule", "priority", "--opinions", "things,all", "--weak", "{weak}",
             "--absent", "ignore", "--outside", "background", "--fill-below", ".9",
             "--instances", "--reasons")


def scores(*values: dict[int, list], dtype=np.float32, size=None) -> ScoreMap:
    """A score map from class -> rows of probabilities."""
    (maps,) = values
    data = np.array([maps[c] for c in sorted(maps)], dtype).reshape(len(maps), -1, len(
        np.atleast_2d(next(iter(maps.values())))[0]))
    return ScoreMap(data, np.array(sorted(maps)), size or data.shape[1:])


def put(path: Path, kind: str, value, names=CLASSES, **more) -> str:
    """A place of one record, ``one``, with the kinds given."""
    record = Record("one")
    for name, content in {kind: value, **more}.items():
        record.set(name, content)
    return write_place(path, [record], kinds=sorted({kind, *more}), classes=names)


def row(*classes: int) -> np.ndarray:
    return np.array([classes], np.uint8)


def fused(*line: str, kind: str = "label", folder: Path):
    """Run the tool in this process and return what it makes."""
    out = str(folder / "fused")
    assert run_here(cli.main, [*line, "-o", out, "--overwrite"]) == ExitStatus.OK
    return open_source(out).get("one").get(kind)


# -- the invocations of the papers ---------------------------------------------------------


def test_p_comb_is_the_mean_over_places_that_hold_different_classes(tmp_path):
    """scribbles-2019: (.9 + .4) / 2 = .65 for class 0; class 2, which the local annotator never
    saw, (0 + .5) / 2 = .25."""
    local = put(tmp_path / "local.h5", "score", scores({0: [.9], 1: [.1]}))
    globally = put(tmp_path / "global", "score", scores({0: [.4], 1: [.1], 2: [.5]}))

    value = fused(local, globally, kind="score", folder=tmp_path)

    assert value.classes.tolist() == [0, 1, 2] and value.data.dtype == np.float32
    assert value.data.ravel().tolist() == pytest.approx([.65, .1, .25])
    assert fused(local, globally, folder=tmp_path).tolist() == [[0]]


def test_the_lambda_rule_takes_weights(tmp_path):
    weak = put(tmp_path / "weak", "score", scores({0: [.2], 1: [.8]}))
    strong = put(tmp_path / "strong", "score", scores({0: [.7], 1: [.3]}))

    for weights, expected in ((".4,.6", [.5, .5]), (".3,.7", [.55, .45]), ("3,7", [.55, .45])):
        value = fused(weak, strong, "--rule", "weighted", "--weights", weights, kind="score",
                      folder=tmp_path)
        assert value.data.ravel().tolist() == pytest.approx(expected)


def test_grabcut_and_proposals_must_agree(tmp_path):
    grabcut = put(tmp_path / "g", "label", row(1, 1, 0, 0, 255))
    proposal = put(tmp_path / "p", "label", row(1, 0, 0, 1, 1))

    line = (grabcut, proposal, "--rule", "agree", "--reasons")

    assert fused(*line, folder=tmp_path).tolist() == [[1, 255, 0, 255, 255]]
    assert fused(*line, kind="conf", folder=tmp_path).tolist() == [[0, 2, 0, 2, 1]]


def test_things_of_boxes_go_over_stuff_of_tags(tmp_path):
    boxed = put(tmp_path / "boxed", "label", row(2, 255, 2, 3, 255), names=STREET)
    tagged = put(tmp_path / "tagged", "label", row(0, 0, 1, 255, 2), names=STREET)

    label = fused(boxed, tagged, "--rule", "priority", "--opinions", "things,stuff", "--things",
                  "car,person", folder=tmp_path)

    assert label.tolist() == [[2, 0, 2, 3, 255]]


def test_the_smaller_of_overlapping_activations_wins(tmp_path):
    """See tests/refine/test_fuse.py for the areas."""
    cams = put(tmp_path / "cams", "cam", scores({
        1: [[.0, .6, .3, .2], [.3, .3, .3, .1]], 2: [[.1, .8, .8, .4], [.4, .8, .8, .7]]}))
    expected = [[255, 1, 1, 2], [1, 1, 1, 2]]
    assert fused(cams, "--rule", "smaller-area", folder=tmp_path).tolist() == expected
    assert fused(cams, "--rule", "priority", folder=tmp_path).tolist() == expected


def test_regions_of_one_class_are_united_before_their_areas_are_compared(tmp_path):
    """Class 1 has 3 pixels over both inputs, class 2 has 2: where both are, 2 wins."""
    one = put(tmp_path / "one", "label", row(1, 1, 255, 0))
    other = put(tmp_path / "other", "label", row(255, 2, 2, 1))
    assert fused(one, other, "--rule", "smaller-area", folder=tmp_path).tolist() == [[1, 2, 2, 0]]


def test_votes_are_counted_and_equal_ones_ignored(tmp_path):
    places = [put(tmp_path / str(i), "label", row(*labels)) for i, labels in enumerate(
        [(1, 1, 1, 255), (1, 2, 2, 255), (2, 2, 255, 2), (0, 1, 255, 255)])]
    assert fused(*places, "--rule", "vote", folder=tmp_path).tolist() == [[1, 255, 255, 2]]


@pytest.fixture
def street(tmp_path) -> tuple[str, str, str]:
    """The row of ten pixels of tests/refine/test_constrain.py, as places."""
    predicted = [0, 1, 2, 2, 0, 2, 0, 0, 3, 2]
    score = [1., 1., 1., .98, 1., 1., 1., 1., .99, 1.]
    data = np.zeros((4, 1, 10), np.float32)
    data[predicted, 0, range(10)] = score
    data[0, 0, 3] = .02
    boxes = Boxes(np.array([[2, 0, 5, 1], [4, 0, 8, 1], [8, 0, 10, 1.]]), np.array([2, 2, 3]),
                  (1, 10), np.array([1., .75, .5]))
    return (put(tmp_path / "boxed", "label", row(255, 255, 2, 255, 255, 255, 2, 0, 255, 0),
                names=STREET),
            put(tmp_path / "predicted", "score", ScoreMap(data, np.arange(4), (1, 10)),
                names=STREET),
            put(tmp_path / "weaklabels", "boxes", boxes, names=STREET, tags=(0, 2, 3)))


#: The steps of details.md A2.3 as options, in their order, and the label after each.
STEPS = (
    ((), [2, 1, 2, 2, 0, 2, 2, 0, 3, 2], None),
    (("--min-score", ".99"), [0, 1, 2, 255, 0, 2, 0, 0, 3, 2], "predicted"),
    (("--absent", "ignore"), [0, 255, 2, 255, 0, 2, 0, 0, 3, 2], "predicted"),
    (("--opinions", "things,stuff"), [0, 255, 2, 255, 0, 255, 2, 0, 255, 255], "both"),
    (("--outside", "ignore"), [0, 255, 2, 255, 0, 255, 2, 0, 255, 255], "both"),
    (("--fill-below", ".5"), [0, 255, 2, 255, 2, 2, 2, 2, 3, 3], "both"),
)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_the_iterative_ground_truth_of_panoptic_2018_step_by_step(street, tmp_path, number):
    boxed, predicted, weak = street
    options = [word for words, *_ in STEPS[:number + 1] for word in words]
    _, expected, what = STEPS[number]
    places = (predicted,) if what == "predicted" else (boxed, predicted)

    label = fused(*places, "--rule", "priority", *options, "--weak", weak, "--things",
                  "car,person", folder=tmp_path)

    assert label.tolist() == [expected]


def test_all_six_steps_are_one_invocation(street, tmp_path):
    boxed, predicted, weak = street
    line = (boxed, predicted, "--rule", "priority", "--opinions", "things,stuff", "--min-score",
            ".99", "--absent", "ignore", "--outside", "ignore", "--fill-below", ".5",
            "--instances", "--reasons", "--weak", weak, "--things", "car,person")

    assert fused(*line, folder=tmp_path).tolist() == [STEPS[-1][1]]
    assert fused(*line, kind="conf", folder=tmp_path).tolist() == [
        [0, 6, 0, 5, 9, 8, 0, 8, 8, 8]]
    value = fused(*line, kind="instance", folder=tmp_path)
    assert value.ids.tolist() == [[0, 0, 1, 0, 0, 2, 2, 2, 3, 3]]
    assert value.segments == (Segment(1, 2, 1.), Segment(2, 2, .75), Segment(3, 3, .5))
    held = open_source(str(tmp_path / "fused")).get("one").kinds()
    assert held == {"label", "instance", "conf"}


def test_without_step_3_things_may_leave_their_boxes_and_become_ignore_or_background(tmp_path):
    """In PASCAL VOC the background is the only stuff, so what is no thing is background."""
    predicted = put(tmp_path / "p", "label", row(1, 1, 2, 2, 0, 255))
    weak = put(tmp_path / "w", "boxes", Boxes(np.array([[1., 0, 3, 1]]), np.array([1]), (1, 6)))
    line = (predicted, "--rule", "priority", "--weak", weak, "--reasons", "--outside")
    assert fused(*line, "ignore", folder=tmp_path).tolist() == [[255, 1, 255, 255, 0, 255]]
    assert fused(*line, "background", folder=tmp_path).tolist() == [[0, 1, 0, 0, 0, 255]]
    assert fused(*line, "background", kind="conf", folder=tmp_path).tolist() == [
        [7, 0, 7, 7, 0, 1]]


# -- scores --------------------------------------------------------------------------------


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


# -- places --------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path) -> tuple[str, str]:
    """Two directories of six label maps, the second without cats."""
    records = [make_record(i, "label") for i in range(6)]
    first = write_place(tmp_path / "first", records, kinds=["label"])
    for record in records:
        label = record.get("label")
        record.set("label", np.where(label == 1, 255, label).astype(np.uint8))
    return first, write_place(tmp_path / "nocat", records, kinds=["label"])


def payload(folder: Path) -> dict[str, bytes]:
    """Every file of a directory but what speaks of its header."""
    return {n: d for n, d in tree(folder).items() if n not in (
        "__wsseg__/header.json", "__wsseg__/end.json")}


@pytest.mark.parametrize("forms", [("h5", "dir"), ("dir", "tar"), ("tar", "dir"), ("tar", "tar"),
                                   ("tar", "h5"), ("h5", "-"), ("tar", "-"), ("-", "dir")])
def test_places_of_all_forms_are_joined_by_key(two, tmp_path, forms):
    run(["ws-fuse", *two, "--rule", "agree", "-o", tmp_path / "expected"])
    line, stdin = [], subprocess.DEVNULL
    for i, (place, form) in enumerate(zip(two, forms)):
        if form == "-":
            stdin = run(["ws-cat", place]).stdout
        elif form != "dir":
            run(["ws-cat", place, "-o", tmp_path / f"p{i}.{form}"])
        line.append("-" if form == "-" else place if form == "dir" else tmp_path / f"p{i}.{form}")
    run(["ws-fuse", *line, "--rule", "agree", "-o", tmp_path / "out"], stdin=stdin)
    assert payload(tmp_path / "out") == payload(tmp_path / "expected")
    label = open_source(str(tmp_path / "out")).get("img003").get("label")
    assert (label == np.where(make_label(3) == 1, 255, make_label(3))).all()


def test_the_order_of_inputs_is_that_of_the_command_line_whichever_leads(two, tmp_path):
    stream = run(["ws-cat", two[1]]).stdout
    run(["ws-fuse", two[0], "-", "--rule", "priority", "-o", tmp_path / "out"], stdin=stream)
    assert (open_source(str(tmp_path / "out")).get("img001").get("label") == make_label(1)).all()


def test_a_stream_may_hold_more_records_than_the_one_that_leads(two, tmp_path):
    (tmp_path / "keys").write_text("img001\nimg004\n")
    run(["ws-cat", two[0], "--keys", tmp_path / "keys", "-o", tmp_path / "some.tar"])
    run(["ws-cat", two[1], "-o", tmp_path / "all.tar"])
    run(["ws-fuse", tmp_path / "some.tar", tmp_path / "all.tar", "-o", tmp_path / "out"])
    assert keys_of(tmp_path / "out") == ["img001", "img004"]
    run(["ws-fuse", tmp_path / "all.tar", tmp_path / "all.tar", "--shard", "1/2", "-o",
         tmp_path / "half"])
    done = run(["ws-fuse", tmp_path / "all.tar", tmp_path / "some.tar", "-o", tmp_path / "none"],
               code=ExitStatus.USAGE)
    assert "some.tar has no img000" in complaint(done)


def test_a_record_that_another_place_lacks_is_named(two, tmp_path):
    (tmp_path / "keys").write_text("img001\nimg004\n")
    run(["ws-cat", two[1], "--keys", tmp_path / "keys", "-o", tmp_path / "some"])
    done = run(["ws-fuse", two[0], tmp_path / "some"], code=ExitStatus.USAGE)
    assert "4 records are without counterpart" in complaint(done)
    stream = run(["ws-cat", two[0]]).stdout
    done = run(["ws-fuse", "-", tmp_path / "some"], stdin=stream, code=ExitStatus.FAILED)
    assert "img000: is not in" in complaint(done)
    for lead, stdin in ((two[0], subprocess.DEVNULL), ("-", stream)):
        run(["ws-fuse", lead, tmp_path / "some", "--keep-going", "-o", tmp_path / "out",
             "--overwrite"], stdin=stdin, code=ExitStatus.SOME_FAILED)
        assert keys_of(tmp_path / "out") == ["img001", "img004"]


@pytest.mark.parametrize("cut", [.5, .75, 1])
def test_an_input_beside_the_leading_one_must_be_complete_too(two, tmp_path, cut):
    stream = run(["ws-cat", two[1]]).stdout
    (tmp_path / "cut.tar").write_bytes(stream[:int(cut * (len(stream) - 2048)) // 512 * 512])
    done = run(["ws-fuse", two[0], tmp_path / "cut.tar", "-o", tmp_path / "out"],
               code=ExitStatus.INCOMPLETE)
    assert "incomplete" in complaint(done)
    whole = run(["ws-cat", two[0]]).stdout
    done = run(["ws-fuse", "-", tmp_path / "cut.tar", "-o", tmp_path / "out2"], stdin=whole,
               code=ExitStatus.INCOMPLETE)
    assert not (tmp_path / "out2/__wsseg__/end.json").exists()
    (Path(two[1]) / "__wsseg__/end.json").unlink()
    done = run(["ws-fuse", *two, "-o", tmp_path / "out3"], code=ExitStatus.INCOMPLETE)
    assert "nocat is incomplete" in complaint(done)


def test_only_one_place_can_be_standard_input(two):
    for line in (["-", "-"], [two[0], "-", "--weak", "-", "--absent", "ignore"]):
        assert "only one input" in complaint(run(["ws-fuse", *line], code=ExitStatus.USAGE))


def test_an_input_is_never_the_output(two):
    for out in two:
        done = run(["ws-fuse", *two, "-o", out, "--overwrite"], code=ExitStatus.USAGE)
        assert "also an input" in complaint(done)
    done = run(["ws-fuse", two[0], "--weak", two[1], "-o", two[1], "--overwrite"],
               code=ExitStatus.USAGE)
    assert "also an input" in complaint(done)


def test_places_of_different_classes_are_refused(tmp_path):
    one = put(tmp_path / "1", "label", row(0, 1))
    done = run(["ws-fuse", one, put(tmp_path / "2", "label", row(0, 1), names=STREET)],
               code=ExitStatus.USAGE)
    assert "class 0 is 'background' in one and 'road' in the other" in complaint(done)
    done = run(["ws-fuse", one, put(tmp_path / "3", "label", row(0, 1), names=CLASSES[:2])],
               code=ExitStatus.USAGE)
    assert "3 classes against 2" in complaint(done)


def test_what_one_input_holds_besides_its_maps_is_passed_on(tmp_path):
    one = put(tmp_path / "1", "label", row(0, 1), tags=(1,))
    second = Record("one", {"note": b"hello"})
    second.set("label", row(0, 1))
    second.set("tags", (2,))
    second.set("points", Points(np.array([[0., 0]]), np.array([1]), (1, 2)))
    other = write_place(tmp_path / "2", [second], kinds=["label", "points", "tags"])
    run(["ws-fuse", one, other, "-o", tmp_path / "out"])
    record = open_source(str(tmp_path / "out")).get("one")
    assert record.kinds() == {"label", "score", "tags", "points", ".note"}
    assert record.get("tags") == (1,) and record.get(".note") == b"hello"
    assert open_source(str(tmp_path / "out")).header.kinds == ("label", "points", "score", "tags")
    run(["ws-fuse", one, other, "--absent", "ignore", "-o", tmp_path / "out2"])
    assert "tags" not in open_source(str(tmp_path / "out2")).get("one")


# -- supervision and history ---------------------------------------------------------------


def spent_place(path: Path, kind: str, value, header: dict, record: dict, tool: str) -> str:
    one = Record("one", supervision=record)
    one.set(kind, value)
    entry = {"tool": tool, "version": "1", "arguments": [], "parameters": {}, "inputs": {},
             "previous": [], "id": f"id-{tool}"}
    head = Header(kinds=(kind,), classes=CLASSES, history=(entry,), supervision=header)
    sink, total = open_sink(str(path), head), Total()
    packed = one.pack()
    sink.write(packed, packed.digest)
    total.add(packed.digest, packed.supervision)
    sink.finish(total.end(head))
    return str(path)


def test_the_labels_spent_on_every_input_are_recorded(tmp_path):
    boxed = spent_place(tmp_path / "boxed", "label", row(0, 1), {"masks": (10, 20, 30)},
                        {"boxes": (1, 2)}, "ws-boxfill")
    tagged = spent_place(tmp_path / "tagged", "label", row(0, 1),
                         {"tags": (50, 70, 70), "masks": (8, 25, 28)},
                         {"tags": (2, 2), "boxes": (2, 1)}, "ws-cam")
    weak = put(tmp_path / "weak", "counts", {1: 4})

    run(["ws-fuse", boxed, tagged, "--absent", "ignore", "--weak", weak, "-o", tmp_path / "out"])

    source = open_source(str(tmp_path / "out"))
    assert source.header.supervision == {"tags": (50, 70, 70), "masks": (10, 25, 30)}
    assert source.get("one").supervision == {"boxes": (2, 2), "tags": (2, 2), "counts": (1, 4)}
    tools = [e["tool"] for e in source.header.history]
    assert tools == ["ws-cam", "ws-boxfill", "ws-fuse"]
    last = source.header.history[-1]
    assert {"id-ws-cam", "id-ws-boxfill"} <= set(last["previous"])
    assert str(tmp_path) not in json.dumps(source.header.history)


def test_boxes_are_not_paid_for_twice(place, tmp_path):
    boxes = place("boxes", "boxes")
    run(["ws-boxfill", boxes, "--method", "rect", "-o", tmp_path / "filled"])
    run(["ws-fuse", tmp_path / "filled", tmp_path / "filled", "--outside", "ignore", "--weak",
         boxes, "-o", tmp_path / "out"])
    assert open_source(str(tmp_path / "out")).end.supervision == {"boxes": (6, 12, 12)}


def test_what_an_unpacked_tar_says_of_the_whole_is_not_lost(place, two, tmp_path):
    run(["ws-boxfill", place("boxes", "boxes"), "--method", "rect", "-o", tmp_path / "f.tar"])
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "xf", tmp_path / "f.tar", "-C", tmp_path / "unpacked"], check=True)
    run(["ws-fuse", two[0], tmp_path / "unpacked", "-o", tmp_path / "out"])
    assert open_source(str(tmp_path / "out")).header.supervision == {"boxes": (6, 12, 12)}


def test_weak_labels_written_by_hand_cost_what_they_are(two, tmp_path):
    (tmp_path / "tags").mkdir()
    for i in range(6):
        (tmp_path / f"tags/img{i:03d}.tags.json").write_text('{"classes": ["cat"]}')
    run(["ws-fuse", *two, "--rule", "priority", "--absent", "ignore", "--weak", tmp_path / "tags",
         "-o", tmp_path / "out"])
    source = open_source(str(tmp_path / "out"))
    assert source.end.supervision == {"tags": (6, 6, 6)}
    label = make_label(2)
    assert (source.get("img002").get("label") == np.where(label == 2, 255, label)).all()


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("options, what", [
    ("--rule weighted", "needs --weights"),
    ("--weights 1,2", "belongs to --rule weighted or product"),
    ("--rule weighted --weights 1", "--weights has 1 values for 2 inputs"),
    ("--rule weighted --weights 1,-1", "must not be negative"),
    ("--rule weighted --weights 0,0", "not all 0"),
    ("--rule weighted --weights 1,nan", "must not be negative"),
    ("--rule weighted --weights a,b", "no list of numbers"),
    ("--rule vote --confidence .5", "no meaning for --rule vote"),
    ("--confidence 1.5", "not in [0, 1]"),
    ("--confidence .5,.5,.5", "3 values for 2 inputs"),
    ("--rule vote --write score", "makes labels, no scores"),
    ("--opinions all,all", "no meaning for --rule mean"),
    ("--rule vote --opinions all", "1 values for 2 inputs"),
    ("--rule vote --opinions all,most", "all, things or stuff"),
    ("--write score --min-score .5", "--min-score shapes labels"),
    ("--write score --reasons", "--reasons shapes labels"),
    ("--write score --absent ignore", "only --absent zero"),
    ("--absent ignore", "no counts or tags in any input"),
    ("--outside ignore", "no boxes in any input"),
    ("--use score", "holds no score, but label"),
    ("--rule vote --opinions all,things --things cow", "unknown class 'cow'"),
    ("--rule vote --opinions all,things --things 9", "no class 9"),
])
def test_options_that_contradict_are_usage_errors(two, options, what, tmp_path, capfd):
    line = [*two, *options.split(), "-o", str(tmp_path / "out")]
    assert run_here(cli.main, line) == ExitStatus.USAGE
    (text,) = capfd.readouterr().err.splitlines()
    assert what in text
    assert not (tmp_path / "out").exists()


def test_classes_without_background_need_to_know_their_things(tmp_path):
    place = put(tmp_path / "p", "label", row(0, 2), names=STREET)
    done = run(["ws-fuse", place, "--rule", "vote", "--opinions", "things"],
               code=ExitStatus.USAGE)
    assert "--things" in complaint(done)
    done = run(["ws-fuse", place, "--outside", "background"], code=ExitStatus.USAGE)
    assert "no background" in complaint(done)


def test_things_of_known_data_sets_are_known(tmp_path):
    from wsseg.data.names import DATASETS

    place = put(tmp_path / "p", "label", row(0, 10, 11, 18), names=DATASETS["cityscapes"])
    assert fused(place, "--rule", "vote", "--opinions", "things",
                 folder=tmp_path).tolist() == [[255, 255, 11, 18]]
    assert fused(place, "--rule", "vote", "--opinions", "stuff", "--things", "10, 0",
                 folder=tmp_path).tolist() == [[255, 255, 11, 18]]


def test_maps_of_different_sizes_are_both_named(tmp_path):
    one = put(tmp_path / "1", "label", row(0, 1))
    other = put(tmp_path / "2", "score", scores({0: [[1.], [1.]]}))
    done = run(["ws-fuse", one, other], code=ExitStatus.FAILED)
    assert re.search("one: maps differ in size: 1x2 in .*1, 2x1 in .*2 .transposed",
                     complaint(done))
    boxes = put(tmp_path / "b", "boxes", Boxes(np.array([[0., 0, 1, 1]]), np.array([1]), (5, 5)))
    done = run(["ws-fuse", one, "--outside", "ignore", "--weak", boxes], code=ExitStatus.FAILED)
    assert "boxes are for a 5x5 image, but its maps are 1x2" in complaint(done)
    big = put(tmp_path / "3", "score", scores({0: [1., 1, 1]}, size=(1, 2)))
    done = run(["ws-fuse", one, big], code=ExitStatus.FAILED)
    assert "scores of 1x3 for an image of 1x2" in complaint(done)


@pytest.mark.parametrize("values, what", [
    ([np.nan, .5], "not finite"), ([-.5, .5], "not in [0, 1]"), ([.9, .9], "not normalised"),
    ([7, -3], "softmax")])
def test_what_is_no_probability_is_named_with_its_place(tmp_path, values, what):
    good = put(tmp_path / "good", "score", scores({0: [.5], 1: [.5]}))
    bad = put(tmp_path / "bad", "score", scores({0: [.5], 1: [.5]}))
    np.savez(tmp_path / "bad/one.score.npz", data=np.array(values, np.float32).reshape(2, 1, 1),
             classes=np.arange(2, dtype=np.uint16), size=np.array([1, 1], np.uint32))
    for rule in ("mean", "vote"):
        done = run(["ws-fuse", good, bad, "--rule", rule], code=ExitStatus.FAILED)
        assert what in complaint(done) and "/bad: " in complaint(done)


def test_cams_are_not_averaged_with_probabilities(tmp_path):
    cam = put(tmp_path / "c", "cam", scores({1: [.9]}))
    score = put(tmp_path / "s", "score", scores({1: [.9]}))
    done = run(["ws-fuse", cam, score], code=ExitStatus.FAILED)
    assert "cams are no probabilities" in complaint(done)
    assert fused(cam, score, "--rule", "vote", folder=tmp_path).tolist() == [[1]]


def test_classes_that_the_names_lack_are_refused(tmp_path):
    for kind, value in (("label", row(0, 9)), ("score", scores({0: [.5], 9: [.5]}))):
        done = run(["ws-fuse", put(tmp_path / kind, kind, value)], code=ExitStatus.FAILED)
        assert "9" in complaint(done) and "3 classes" in complaint(done)


def test_a_record_without_a_map_says_what_it_holds(tmp_path):
    place = put(tmp_path / "t", "tags", (1,))
    done = run(["ws-fuse", place], code=ExitStatus.USAGE)
    assert "holds no score or cam or label or instance, but tags" in complaint(done)


def test_more_scores_than_fit_in_memory_are_refused_but_not_their_labels(tmp_path):
    """30 megapixels of 200 classes would be 24 GB; the label map needs strips of them."""
    from wsseg.cli import _fusing

    assert 200 * 5000 * 6000 * 4 > _fusing.MAX_BYTES
    value = ScoreMap(np.full((200, 2, 2), .005, np.float16), np.arange(200), (5000, 6000))
    place = put(tmp_path / "big", "score", value, names=None)
    done = run(["ws-fuse", place], code=ExitStatus.FAILED)
    assert "12.0 GB: ask for --write label" in complaint(done)


# -- help ----------------------------------------------------------------------------------


def test_help_lists_every_rule_and_every_code_with_its_meaning():
    assert cli.SOFT == rules.SOFT_RULES and cli.HARD == rules.LABEL_RULES
    text = " ".join(run(["ws-fuse", "--help"]).stdout.decode().split())
    for code, meaning in rules.MEANING.items():
        assert f" {int(code)} {meaning}" in text
    for rule in cli.SOFT + cli.HARD:
        assert rule in text


def test_the_examples_of_the_help_are_accepted(tmp_path):
    """Each on places of its names, or what an earlier one made; other tools are left out."""
    text = run(["ws-fuse", "--help"]).stdout.decode().split("Examples:")[1].split("\nOptions")[0]
    text = re.sub(r"\n {8}", " ", text)
    lines = [re.search(r"ws-fuse [^|]*", line)[0] for line in text.strip().splitlines()]
    labels = [make_record(i, "label") for i in range(2)]
    for name in ("local.h5", "global.h5", "weaknet", "strongnet", "grabcut", "proposals", "boxed",
                 "predicted"):
        write_place(tmp_path / name, labels, kinds=["label"])
    write_place(tmp_path / "weak", [make_record(i, "tags", "boxes") for i in range(2)],
                kinds=["boxes", "tags"])
    cams = [Record(f"img{i:03d}") for i in range(2)]
    for record in cams:
        record.set("cam", scores({1: [.2, .8], 2: [.9, .9]}, size=(24, 32)))
    write_place(tmp_path / "cams", cams, kinds=["cam"])
    assert len(lines) == 7
    for line in lines:
        stdin = run(["ws-cat", tmp_path / "global.h5"]).stdout
        words = [*line.split(), *(() if " -o " in line else ("-o", "piped"))]
        done = subprocess.run([*command("ws-fuse"), *words[1:]], cwd=tmp_path, input=stdin,
                              capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
