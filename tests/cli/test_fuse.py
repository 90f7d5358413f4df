"""ws-fuse as its users run it, on maps that can be fused by hand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli.fuse_cases import STREET, fused, put, row, scores
from tests.cli_contract import RecordContract
from tests.conftest import ROOT, command, make_record, run, write_place
from wsseg.cli import fuse as cli
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import Boxes, ScoreMap, Segment
from wsseg.refine import fuse as rules


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
    maps = [Record(f"img{i:03d}") for i in range(2)]
    for record in maps:
        record.set("score", scores({0: [.5, .1], 1: [.5, .9]}, size=(24, 32)))
    write_place(tmp_path / "scores", maps, kinds=["score"])
    write_place(tmp_path / "detected", [make_record(i, "boxes") for i in range(2)],
                kinds=["boxes"])
    write_place(tmp_path / "JPEGImages", [make_record(i, "image") for i in range(2)],
                kinds=["image"])
    write_place(tmp_path / "leftImg8bit", [make_record(0, "image")], kinds=["image"])
    part = Record("img000@0-0")
    part.set("label", make_record(0, "label").get("label")[:9, :8])
    write_place(tmp_path / "crops", [part], kinds=["label"])
    assert len(lines) == 9
    for line in lines:
        stdin = run(["ws-cat", tmp_path / "global.h5"]).stdout
        words = [*line.split(), *(() if " -o " in line else ("-o", "piped"))]
        done = subprocess.run([*command("ws-fuse"), *words[1:]], cwd=tmp_path, input=stdin,
                              capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
