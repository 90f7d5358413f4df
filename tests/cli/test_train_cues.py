"""ws-train --weak-loss dsrg and sec: cues that grow while a net is trained."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import training  # noqa: E402
from tests.conftest import CLASSES, ROOT, make_record, write_place  # noqa: E402
from wsseg.cli import crf  # noqa: E402
from wsseg.cli._env import Env  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.nets.model import read_card  # noqa: E402

runner = training.runner
LEARN = ("--optimizer", "adam", "--lr", ".01", "--new-rate", "1", "--bias-rate", "1", "--batch",
         "8", "--scale", ".9", "1.2", "--iterations", "50", "--dropout", "0", "--weight-decay", "0",
         "--width", "24")


@pytest.fixture
def cues(runner):
    """Make a place of cues: some rows of label maps, and 255; tags too where told."""
    def make(name="cues", numbers=range(6, 12), blind=(), kinds=("image", "label"), classes=CLASSES
             ) -> str:
        records = [make_record(i, *kinds) for i in numbers]
        for record, number in zip(records, numbers):
            label = record.get("label").copy()
            label[np.arange(len(label)) % 8 > (-1 if number in blind else 2)] = 255
            record.set("label", label)
        return write_place(runner.folder / name, records, kinds=kinds, classes=classes)
    return make


@pytest.mark.parametrize("words", [
    ["--weak-loss", "dsrg"], ["--weak-loss", "sec"],
    ["strong", "--weak-loss", "dsrg", "--dsrg-thresholds", ".3", ".4", "--rotate", "20"],
    ["strong", "--weak-loss", "sec", "--msc"],
    ["strong", "--weak-loss", "dsrg", "--dual", "--head", "aspp", "--accumulate", "2"]])
def test_it_trains_alone_and_beside_strong_labels(runner, cues, words):
    runner.train(*words, "--weak", cues(), "--val", "val")
    assert np.isfinite(runner.log()[-2]["loss"]) and runner.log()[-2]["loss"] > 0
    card = read_card(runner.folder / "run" / "model.safetensors")
    assert card["images"]["weak"] == 6
    settings = json.loads((runner.folder / "run" / "settings.json").read_text())
    assert settings["weak_loss"] == words[words.index("--weak-loss") + 1]


def test_a_run_that_was_stopped_ends_as_one_that_was_not(runner, cues):
    words = ["--weak", cues(), "--weak-loss", "dsrg", "--rotate", "10", "--save-minutes", "1e-9"]
    runner.train(*words, out="whole")
    for limit in (["--max-minutes", "1e-9"],) * 2 + ([],):
        runner.train(*words, "--resume", "-j3", *limit)
    assert runner.model() == runner.model("whole")
    runner.train(*words, "--dsrg-thresholds", ".3", ".4", "--resume", out="whole",
                 code=ExitStatus.USAGE)


def test_scribbles_are_cues_and_tags_are_known_beside_them(runner, cues):
    drawn = [make_record(i, "image") for i in range(4)]
    for record in drawn:
        scribble = np.full((24, 32), 255, np.uint8)
        scribble[4, 3:20], scribble[20, 2:9] = 1, 0
        record.set("scribble", scribble)
    write_place(runner.folder / "drawn", drawn, kinds=("image", "scribble"))
    runner.train("--weak", "drawn", "--weak-loss", "dsrg")
    runner.train("--weak", cues(kinds=("image", "label", "tags")), "--weak-loss", "sec",
                 out="tagged")


def test_what_has_no_cues_is_refused(runner, cues):
    for loss in ("dsrg", "sec"):
        said = runner.refused("--weak", "weak", "--weak-loss", loss)
        assert "weak holds boxes, image, tags, but label or scribble is needed here" in said
    some = cues("some", blind=(7, 9))
    said = runner.refused("--weak", some, "--weak-loss", "dsrg")
    assert "2 records of" in said
    assert "have no cue, only 255: img007, img009 (--keep-going leaves them out)" in said
    told = runner.train("--weak", some, "--weak-loss", "dsrg", "--keep-going", "--json",
                        code=ExitStatus.SOME_FAILED)
    assert "have no cue" in told.err and json.loads(told.out)["steps"] == 4
    assert read_card(runner.folder / "run" / "model.safetensors")["images"] == {"weak": 4}
    none = cues("none", blind=range(6, 12))
    assert "none have no cue, only 255: img006" in runner.refused(
        "--weak", none, "--weak-loss", "sec", "--keep-going", out="other")


def test_options_that_do_not_fit_are_refused(runner, cues):
    assert "dsrg-thresholds" in runner.refused("--weak", cues(), "--dsrg-thresholds", "2", ".9")
    said = runner.refused("weak", "--task", "classify", "--dsrg-thresholds", ".8", ".9",
                          quick=("--task", "classify"))
    assert "--dsrg-thresholds is not for --task classify, only for segment" in said
    assert "different classes" in runner.refused("strong", "--weak", cues("more"), "--weak-loss",
                                                 "dsrg", "--join-classes")


def test_where_classes_have_no_background_none_is_treated_as_one(runner, cues):
    street = ("road", "car", "sky")
    weak = cues("street", kinds=("image", "label", "tags", "boxes"), classes=street)
    strong = write_place(runner.folder / "roads", [make_record(i, "image", "label")
                                                   for i in range(3)],
                         kinds=("image", "label"), classes=street)
    for loss in ("dsrg", "sec", "mil-max"):
        runner.train(strong, "--weak", weak, "--weak-loss", loss, out=loss)
        assert np.isfinite(runner.log(loss)[0]["loss"])
    for loss in ("em-fixed", "em-adapt", "bbox-em"):
        said = runner.refused("--weak", weak, "--weak-loss", loss)
        assert f"--weak-loss {loss} gives the background a bias or share of its own" in said


@pytest.mark.parametrize("names, forced", [(("road", "car", "sky"), False),
                                           (("background", "car", "sky"), True)])
def test_class_0_is_a_tag_of_every_image_only_where_it_is_the_background(runner, names, forced):
    from wsseg.cli._flow import Flow
    from wsseg.cli._train_segment import Segment

    record = make_record(1, "image")
    record.set("tags", (1,))
    place = write_place(runner.folder / "one", [record], kinds=("image", "tags"), classes=names)
    options = {"weak_loss": "mil-max", "weak": (place,), "use": None, "val": None,
               "val_images": None, "join_classes": False, "select": "last", "conf": False}
    flow = Flow(Env("ws-train"), "ws-train", [], {}, (None,))
    part = Segment(flow, options).read().parts["weak"].samples
    assert part.load(0).tags.tolist() == [forced, True, False]


def test_the_recipe_is_one(runner, cues):
    quick = ("--recipe", str(ROOT / "examples/recipes/dsrg.json"), "--backbone", "tiny", "--init",
             "none", "--crop", "33", "--batch", "4", "--iterations", "1", "--width", "8",
             "--device", "cpu")
    runner.train("--weak", cues(), quick=quick)
    settings = json.loads((runner.folder / "run" / "settings.json").read_text())
    assert settings["weak_loss"] == "dsrg" and settings["gamma"] == .33


def shape_cues(runner) -> None:
    """core/: of each object of masked/ a few pixels, of the background what is 4
    pixels off; photos with less noise."""
    records = []
    for record in open_source(str(runner.folder / "masked")):
        label = record.get("label")
        cue = np.full_like(label, 255)
        for cls in set(np.unique(label)) - {0}:
            y, x = (int(v) for v in np.median(np.argwhere(label == cls), 0))
            cue[y - 3:y + 3, x - 3:x + 3] = label[y - 3:y + 3, x - 3:x + 3]
        cue[cv2.dilate((label > 0).astype(np.uint8), np.ones((7, 7))) == 0] = 0
        record.set("label", cue)
        record.set("image", cv2.blur(record.get("image"), (5, 5)))
        record.set("tags", tuple(sorted(set(np.unique(label).tolist()) - {0})))
        records.append(record)
    write_place(runner.folder / "core", records, kinds=("image", "label", "tags"))


def test_labels_that_grew_hold_far_more_than_the_cues(runner):
    """The generator of dualbranch-2020 to its end: labels of the tagged classes, with a CRF."""
    training.shapes(runner.folder)
    shape_cues(runner)
    runner.train("--weak", "core", "--weak-loss", "dsrg", *LEARN)
    runner.predict("run", "core", "--tags", "--write", "score", "-o", "scores", "--keep", "image",
                   "--keep", "tags")
    runner("scores", "--write", "label", "-o", "grown", tool=crf)
    found, truth = (open_source(str(runner.folder / n)) for n in ("grown", "masked"))
    right = cued = covered = objects = total = 0
    for record in truth:
        label, guess = record.get("label"), found.get(record.key).get("label")
        assert set(np.unique(guess)) <= set(np.unique(label)) | {0}
        cue = open_source(str(runner.folder / "core")).get(record.key).get("label")
        right, total = right + (guess == label).sum(), total + label.size
        objects += (label > 0).sum()
        cued += ((cue == label) & (label > 0)).sum()
        covered += ((guess == label) & (label > 0)).sum()
    assert cued < .2 * objects and covered > .7 * objects
    assert right > .7 * total
