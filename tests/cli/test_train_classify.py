"""ws-train --task classify as its users run it, and what the tasks share."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import training  # noqa: E402
from tests.conftest import make_record, write_place  # noqa: E402
from wsseg.cli import train  # noqa: E402
from wsseg.cli._command import run as run_here  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.supervision import by_kind  # noqa: E402
from wsseg.nets.model import load_model, read_card  # noqa: E402
from wsseg.train.classify import tag_probabilities  # noqa: E402

runner = training.runner
AT = training.QUICK.index("--head")  # and --width, which a classifier has not
QUICK = ("--task", "classify", *training.QUICK[:AT], *training.QUICK[AT + 4:])
LEARN = (*QUICK, "--lr", ".01", "--batch", "8", "--scale", ".9", "1.2", "--iterations", "60")


def test_a_run_leaves_a_classifier_that_tells_what_it_cost(runner):
    told = runner.train("weak", "--val", "val", "--val-every", 2, "--json", quick=QUICK)
    summary = json.loads(told.out)
    assert summary["steps"] == 4 and 0 < summary["val_map"] <= 1
    assert [e["step"] for e in runner.log() if "val_map" in e] == [2, 4]
    card = read_card(runner.folder / "run" / "model.safetensors")
    assert card["task"] == "classify" and card["net"]["stride"] == 16
    assert by_kind(card["supervision"])["tags"] == (8, 16, 16)
    assert by_kind(card["validation"])["masks"] == (4, 8, 8)
    parameters = card["history"][-1]["parameters"]
    assert parameters["task"] == "classify" and "em_bias" not in parameters
    settings = json.loads((runner.folder / "run" / "settings.json").read_text())
    assert settings["task"] == "classify" and settings["optimizer"] == "adamw"
    assert not {"head", "em_bias", "dual"} & set(settings)


def test_it_learns_to_tell_images_apart_and_says_so(runner):
    training.shapes(runner.folder)
    runner.train("tagged", "--val", "test", "--select", "best", quick=LEARN)
    net, _ = load_model(str(runner.folder / "run" / "model.safetensors"), task="classify")
    from wsseg.io.places import open_source

    records = list(open_source(str(runner.folder / "test")))
    found = np.concatenate([tag_probabilities(net, r.get("image")[None]) for r in records])
    truth = np.array([[c in r.get("label") for c in range(3)] for r in records])
    assert ((found >= .5) == truth)[:, 1:].mean() > .85
    assert max(e["val_map"] for e in runner.log() if "val_map" in e) > .9


def test_tags_boxes_and_masks_all_tell_the_classes(runner):
    """The same classes from three kinds of labels make the same net."""
    for kind in ("tags", "boxes", "label"):
        write_place(runner.folder / kind, [make_record(i, "image", kind) for i in range(6)],
                    kinds=sorted(("image", kind)))
        runner.train(kind, out=f"run_{kind}", quick=QUICK)
    nets = [load_model(str(runner.folder / f"run_{n}" / "model.safetensors"), task="classify")[0]
            for n in ("tags", "boxes", "label")]
    for other in nets[1:]:
        for a, b in zip(nets[0].state_dict().values(), other.state_dict().values()):
            torch.testing.assert_close(a, b)


def test_a_stopped_run_goes_on_to_the_same_end(runner):
    runner.train("weak", out="whole", quick=QUICK)
    for _ in range(2):
        runner.train("weak", "--resume", "--max-minutes", "1e-9", quick=QUICK)
    runner.train("weak", "--resume", quick=QUICK)
    assert runner.model() == runner.model("whole")
    told = runner.train("strong", "--resume", quick=training.QUICK, code=ExitStatus.USAGE)
    assert "is a run with other settings" in told.err


def test_the_last_layer_is_new_where_classes_are_others(runner):
    runner.train("weak", quick=QUICK)
    records = [make_record(i, "image", "tags") for i in range(4)]
    write_place(runner.folder / "sheep", records, kinds=("image", "tags"),
                classes=("background", "cat", "dog", "sheep"))
    runner.train("sheep", "--init", "run/model.safetensors", out="more", quick=QUICK)
    card = read_card(runner.folder / "more" / "model.safetensors")
    assert "without head.bias, head.weight" in card["init"]


@pytest.mark.parametrize("words, said", [
    (["weak", "--dual"], "--dual is not for --task classify, only for segment"),
    (["weak", "--em-bias", "1", "2"], "--em-bias is not for --task classify, only for segment"),
    (["weak", "--use", "label"], "weak has no label"),
    (["photos"], "photos holds image, but tags or boxes or label or scribble is needed here"),
    (["bare", "--images", "photos"], "8 records are without a photo in photos"),
    (["weak", "--val", "other"], "class 1 is 'sheep' there and 'cat' here"),
    (["weak", "--class-weight", "weights"], "must hold 3 numbers"),
    (["weak", "--class-weight", "zeros"], "no class but the background has a weight above 0"),
    (["weak", "--val", "blank"], "--val blank: no image has a tag to be found"),
    (["weak", "--recipe", "recipe.json"], "--head is not for --task classify"),
])
def test_what_cannot_be_learnt_from_is_one_line(runner, words, said):
    write_place(runner.folder / "photos", [make_record(0, "image")], kinds=["image"])
    write_place(runner.folder / "bare", [make_record(i, "tags") for i in range(1, 9)],
                kinds=["tags"])
    write_place(runner.folder / "other", [make_record(0, "image", "tags")],
                kinds=["image", "tags"], classes=("background", "sheep", "dog"))
    (runner.folder / "weights").write_text("1\n1\n")
    (runner.folder / "zeros").write_text("1\n0\n0\n")
    blank = make_record(0, "image")
    blank.set("label", np.zeros_like(make_record(0, "label").get("label")))
    write_place(runner.folder / "blank", [blank], kinds=["image", "label"])
    (runner.folder / "recipe.json").write_text('{"head": "largefov"}')
    assert said in runner.refused(*words, quick=QUICK)


def test_ws_predict_says_who_takes_a_classifier(runner):
    runner.train("weak", quick=QUICK)
    told = runner.predict("run", "val", "-o", "out", code=ExitStatus.USAGE)
    assert told.err == ("ws-predict: run is a model of ws-train --task classify: ws-cam takes "
                        "it\n")


# -- the option itself -------------------------------------------------------------------------


def test_a_recipe_wins_over_a_tasks_defaults_and_the_command_line_over_both(runner):
    (runner.folder / "recipe.json").write_text('{"task": "classify", "lr": 0.5, "batch": 3}')
    plain = QUICK[2:]  # without --task
    at = plain.index("--batch")
    plain = plain[:at] + plain[at + 2:]
    for words in ([], ["--task", "classify"]):
        for order in (["--recipe", "recipe.json", *words], [*words, "--recipe", "recipe.json"]):
            runner.train("weak", *order, "--batch", "2", "--overwrite", quick=plain)
            settings = json.loads((runner.folder / "run" / "settings.json").read_text())
            assert (settings["lr"], settings["batch"], settings["optimizer"]) == (.5, 2, "adamw")


def test_help_shows_the_defaults_of_a_task(capsys):
    assert run_here(train.main, ["--task", "classify", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "[default: adamw]" in told and "[default: 0.0002" in told
    assert run_here(train.main, ["--help"]) == 0
    assert "[default: sgd]" in " ".join(capsys.readouterr().out.split())
