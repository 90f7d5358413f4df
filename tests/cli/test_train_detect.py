"""ws-train --task detect and ws-predict with its models, as their users run them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
from torchvision.models.detection.faster_rcnn import TwoMLPHead  # noqa: E402

from tests import training  # noqa: E402
from tests.conftest import make_record, write_place  # noqa: E402
from wsseg.cli import fuse  # noqa: E402
from wsseg.cli._train_detect import box_overlaps, box_scores  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.io.supervision import by_kind  # noqa: E402
from wsseg.io.values import Boxes, ScoreMap  # noqa: E402
from wsseg.nets.model import read_card  # noqa: E402

runner = training.runner
QUICK = ("--task", "detect", "--backbone", "tiny", "--width", "8", "--init", "none", "--crop",
         "48", "--batch", "4", "--iterations", "4", "--device", "cpu", "--precision", "fp32",
         "--anchors", "8,16", "-j2")


def test_boxes_become_a_detector_whose_boxes_can_be_used(runner):
    told = runner.train("weak", "--val", "weak", "--select", "best", quick=QUICK)
    assert "val_ap50" in told.out
    card = read_card(runner.folder / "run/model.safetensors")
    assert card["task"] == "detect" and card["net"]["anchors"] == [8, 16]
    spent = {"boxes": (8, 16, 16), "tags": (8, 16, 16)}  # as the place has both
    assert by_kind(card["supervision"]) == spent

    runner.predict("run", "--images", "val", "-o", "found", "--least-score", "0", "--most", "5")

    source = open_source(str(runner.folder / "found"))
    assert source.header.kinds == ("boxes",) and source.header.classes == (
        "background", "cat", "dog")
    assert by_kind(source.header.supervision) == spent
    for key in source.keys():
        value = source.get(key).get("boxes")
        assert value.size == (24, 32) and len(value.classes) == len(value.scores) == 5
        assert (value.xyxy >= 0).all() and (value.xyxy[:, 2:] <= (32, 24)).all()
    scores = []
    for key in source.keys():
        record = Record(key)
        likely = np.array([.2, .4, .4], np.float32)[:, None, None]
        record.set("score", ScoreMap(likely.repeat(6, 1).repeat(8, 2), np.arange(3), (24, 32)))
        scores.append(record)
    write_place(runner.folder / "scores", scores, kinds=["score"])
    runner("scores", "found", "--rule", "instance", "-o", "panoptic", tool=fuse)
    made = open_source(str(runner.folder / "panoptic"))
    assert by_kind(made.header.supervision, made.end.given) == spent  # of the net alone
    assert made.get(made.keys()[0]).get("instance").segments


def test_a_stopped_run_ends_as_if_it_had_not_been(runner):
    runner.train("weak", quick=QUICK)
    runner.train("weak", "--max-minutes", "1e-9", out="again", quick=QUICK)
    assert not (runner.folder / "again/model.safetensors").exists()
    runner.train("weak", "--resume", out="again", quick=QUICK)
    assert runner.model("again") == runner.model()


def test_it_learns_to_find_coloured_rectangles(runner):
    training.shapes(runner.folder)
    runner.train("tagged", "--val", "tagged", "--val-every", "1000", "--iterations", "45",
                 "--lr", "4e-3", "--anchors", "14,20", "--crop", "40", "--width", "16",
                 "--scale", "1", "1", quick=QUICK)
    assert runner.log()[-1]["val_ap50"] > .25, runner.log()


def test_scales_and_mirror_images_are_looked_at_too(runner):
    runner.train("weak", quick=QUICK)
    more = ("--least-score", "0", "--most", "5")
    boxes = {}
    for name, words in {"once": (), "twice": ("--scales", "1,2", "--flip")}.items():
        runner.predict("run", "--images", "val", "-o", name, *more, *words)
        source = open_source(str(runner.folder / name))
        boxes[name] = [source.get(key).get("boxes") for key in source.keys()]
    assert all(len(b.classes) == 5 for found in boxes.values() for b in found)
    for a, b in zip(boxes["once"], boxes["twice"]):
        assert b.scores.min() >= a.scores.min() and not np.array_equal(a.xyxy, b.xyxy)


def test_images_without_boxes_can_be_learnt_from(runner):
    records = [make_record(i, "image") for i in range(4)]
    for record in records:
        record.set("boxes", Boxes(np.zeros((0, 4)), np.zeros(0, np.int64), (24, 32)))
    write_place(runner.folder / "none", records, kinds=["boxes", "image"])
    runner.train("none", quick=QUICK)
    assert all(np.isfinite(entry["loss"]) for entry in runner.log())


def test_the_box_head_learns_from_as_many_proposals_as_asked_for(runner, monkeypatch):
    seen = []
    forward = TwoMLPHead.forward
    monkeypatch.setattr(TwoMLPHead, "forward",
                        lambda self, x: seen.append(len(x)) or forward(self, x))
    for rois in (1, 5):
        runner.train("weak", "--rois", rois, "--iterations", "1", out=f"run{rois}", quick=QUICK)
    assert seen == [4, 20]


@pytest.mark.parametrize("words, message", [
    (("strong",), "holds image, label, but boxes is needed here"),
    (("weak", "--head", "aspp"), "--head is not for --task detect, only for segment"),
    (("weak", "--anchors", "8,x"), "--anchors 8,x is not lengths"),
    (("weak", "--fpn", "--anchors", "8"), "five lengths for the five levels"),
    (("weak", "--fpn", "--stride", "8"), "--stride is not for --fpn, whose levels have"),
])
def test_what_cannot_be_trained_is_refused(runner, words, message):
    code = ExitStatus.FAILED if "five" in message else ExitStatus.USAGE
    assert message in runner.refused(*words, quick=QUICK, code=code)


def test_options_of_another_net_are_refused(runner):
    runner.train("weak", quick=(*QUICK, "--iterations", "1"))
    for words in (("--write", "label"), ("--tags",), ("--branch", "weak")):
        told = runner.predict("run", "--images", "val", "-o", "x", *words, code=ExitStatus.USAGE)
        assert f"{words[0]} is not for a detector" in told.err
    assert "--fpn is not for --task segment" in runner.refused("strong", "--fpn", out="o")


def test_without_torchvision_it_says_what_to_install(runner, monkeypatch):
    for name in [n for n in sys.modules if n.startswith("torchvision.models.detection")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    assert "pip install 'wsseg[nets]'" in runner.refused("weak", quick=QUICK,
                                                         code=ExitStatus.FAILED)


def test_average_precision_of_boxes_by_hand():
    """Class 1: the first of two detections is right at .5 but not at .75 (IoU .6), the second
    hits nothing. Class 2 is never found."""
    truth = Boxes(np.array([[0., 0, 10, 10], [20, 0, 30, 10]]), np.array([1, 2]))
    found = Boxes(np.array([[0., 0, 10, 6], [50, 50, 60, 60]]), np.array([1, 1]), None,
                  np.array([.9, .3]))
    one = box_overlaps(found, truth)
    assert one.pairs.tolist() == [[0, 0]] and one.iou.tolist() == [.6]
    scores = box_scores([one], 3)
    assert scores["val_ap50"] == .5 and scores["val_ap"] == pytest.approx(.5 * 3 / 10)
    none = Boxes(np.zeros((0, 4)), np.zeros(0, int), None, np.zeros(0))
    assert box_scores([box_overlaps(none, none)], 3) == {"val_ap50": 0., "val_ap": 0.}
