"""ws-train --task rsis and wrsis, and ws-predict with their models, as users run them."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import conftest, tinylevels, training  # noqa: E402
from tests.tinylevels import squares  # noqa: E402
from wsseg.cli import eval as evaluate  # noqa: E402
from wsseg.cli import cat, weaken  # noqa: E402
from wsseg.cli._tasks import TASKS  # noqa: E402
from wsseg.data.rle import runs_of_mask  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.io.supervision import by_kind  # noqa: E402
from wsseg.io.values import Masks  # noqa: E402
from wsseg.nets.model import read_card  # noqa: E402
from wsseg.nets.rsis_spec import LONGEST, RSISSpec  # noqa: E402

QUICK = ("--backbone", tinylevels.NAME, "--width", "16", "--init", "none", "--crop", "48",
         "--batch", "4", "--iterations", "3", "--device", "cpu", "--precision", "fp32", "-j2")
RSIS, WRSIS = ("--task", "rsis"), ("--task", "wrsis")


@pytest.fixture
def runner(tmp_path, capfd, monkeypatch) -> training.Runner:
    tinylevels.install(monkeypatch)
    squares(tmp_path, "objects", 6)
    return training.Runner(tmp_path, capfd)


def train(runner, *words, **more):
    return runner.train(*words, quick=QUICK, **more)


def found(runner, place: str) -> dict[str, Record]:
    return {r.key: r for r in open_source(str(runner.folder / place))}


def counted(runner, place="objects", *words) -> None:
    runner(place, "--counts", "--tags", "--keep", "image", *words, "-o", "counted", tool=weaken)


def own_runs(record: Record) -> list[tuple[int, ...]]:
    value = record.get("instance")
    return [runs_of_mask(value.ids == s.id) for s in value.segments]


# -- runs --------------------------------------------------------------------------------------


def test_a_run_leaves_a_model_that_draws_objects(runner):
    squares(runner.folder, "val", 2, seed=1)
    train(runner, *RSIS, "objects", "--val", "val", "--max-objects", 4, "--val-every", 3)
    card = read_card(runner.folder / "run" / "model.safetensors")
    assert card["task"] == "rsis" and by_kind(card["supervision"])["masks"][0] == 6
    assert card["net"]["size"] == [48, 48] and card["net"]["steps"] == 4
    assert card["net"]["token"] is None and card["net"]["hidden"] == 16
    assert {"val_loss", "val_ap50"} <= runner.log()[-1].keys()
    settings = json.loads((runner.folder / "run" / "settings.json").read_text())
    assert settings["optimizer"] == "adam" and settings["new_rate"] == 1000
    assert not {"token_at", "stride", "scale"} & set(settings) and "fov" not in settings
    runner.predict("run", "objects", "-o", "drawn")
    header = open_source(str(runner.folder / "drawn")).header
    assert header.kinds == ("masks",) and header.classes == conftest.CLASSES
    for record in found(runner, "drawn").values():
        masks = record.get("masks")
        assert masks.size == (40, 48) and (masks.scores <= 1).all()


def test_objects_are_those_of_components_where_that_is_said(runner):
    squares(runner.folder, "labels", 6, label=True)
    said = runner.refused(*RSIS, "labels", quick=QUICK)
    assert "holds image, label, but instance or masks is needed here" in said
    train(runner, *RSIS, "labels", "--from-components")
    train(runner, *RSIS, "objects", out="same", code=ExitStatus.OK)
    # squares do not touch, so the two places teach the same objects
    losses = [[e["loss"] for e in runner.log(n)] for n in ("run", "same")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_w_rsis_draws_what_is_counted(runner):
    train(runner, *WRSIS, "objects", "--token-at", "film", "--token-order", "count")
    card = read_card(runner.folder / "run" / "model.safetensors")
    assert (card["net"]["token"], card["net"]["order"]) == ("film", "count")
    said = runner.predict("run", "objects", "-o", "out", code=ExitStatus.USAGE).err
    assert "has no counts of objects" in said and "ws-weaken --counts makes them" in said
    counted(runner)
    runner.predict("run", "counted", "-o", "drawn")
    runner.predict("run", "counted", "--write", "instance", "-o", "ids")
    runner.predict("run", "counted", "--tags", "-o", "one")
    for key, record in found(runner, "objects").items():
        true = sorted(s.cls for s in record.get("instance").segments)
        drawn = found(runner, "drawn")[key].get("masks").classes.tolist()
        assert all(drawn.count(c) <= true.count(c) for c in drawn)
        one = found(runner, "one")[key].get("masks").classes.tolist()
        assert len(one) == len(set(one)) and set(one) <= set(true)
        assert len(found(runner, "ids")[key].get("instance").segments) <= len(drawn)


@pytest.mark.parametrize("words", [
    (*RSIS, "--class-from", "0", "--stop-from", "1", "--flip", ".5", "--jitter", ".2"),
    (*WRSIS, "--token-at", "all", "--token-order", "random", "--matching", "plain"),
    (*RSIS, "--rotate", "10", "--precision", "bf16", "--accumulate", "2", "--frozen-norm")])
def test_every_way_to_train_trains(runner, words):
    train(runner, "objects", *words)
    assert np.isfinite(runner.log()[-1]["loss"]) and runner.log()[-1]["loss"] > 0


def test_pseudo_labels_teach_beside_true_ones(runner):
    """f draws what is counted in other photos; g learns from both. A mask that is there for each
    class is one object of its best."""
    squares(runner.folder, "more", 4, seed=5)
    squares(runner.folder, "extra", 3, seed=6)
    place = []
    for record in found(runner, "more").values():
        ids, runs = record.get("instance").ids, own_runs(record)
        record.drop("instance")
        record.set("masks", Masks(ids.shape, tuple(r for r in runs for _ in (1, 2)),
                                  np.array([1, 2] * len(runs)),
                                  np.array([.3, .6] * len(runs))))
        place.append(record)
    conftest.write_place(runner.folder / "masks", place, kinds=("image", "masks"))
    train(runner, *RSIS, "objects", "--weak", "masks", "--weak", "extra", "--ratio", "1:1:2")
    card = read_card(runner.folder / "run" / "model.safetensors")
    assert card["images"] == {"strong": 6, "weak": 4, "weak2": 3}


def test_masks_that_people_drew_are_paid_for_and_those_that_a_net_drew_are_not(runner):
    drawn, filled = [], []
    for record in found(runner, "objects").values():
        classes = np.array([s.cls for s in record.get("instance").segments])
        filled.append(Record(record.key, dict(record.members), supervision={"boxes": (1, 1)}))
        record.set("masks", Masks((40, 48), tuple(own_runs(record)), classes,
                                  np.ones(len(classes)), classes == 2))
        record.drop("instance")
        record.supervision.clear()  # as a place of another program, or of an older wsseg
        drawn.append((record, classes[classes != 2]))
    conftest.write_place(runner.folder / "people", [r for r, _ in drawn], kinds=("image", "masks"))
    conftest.write_place(runner.folder / "filled", filled, kinds=("image", "instance"))
    train(runner, *RSIS, "people", "--iterations", 1)
    assert spent(runner) == {"masks": (6, sum(len(set(c)) for _, c in drawn),
                                       sum(len(c) for _, c in drawn))}
    train(runner, *RSIS, "filled", "--iterations", 1, out="f")
    for kind in ("masks", "instance"):
        runner.predict("f", "filled", "--write", kind, "--keep", "image", "-o", f"by_{kind}")
        train(runner, *RSIS, f"by_{kind}", "--iterations", 1, out=f"g_{kind}")
        assert spent(runner, f"g_{kind}") == {"boxes": (6, 6, 6)}


def spent(runner, out="run") -> dict:
    return by_kind(read_card(runner.folder / out / "model.safetensors")["supervision"])


def test_a_run_that_is_stopped_ends_bit_by_bit_the_same(runner):
    """With patience: the stages and the best weights are in the checkpoint."""
    squares(runner.folder, "val", 2, seed=1)
    words = (*RSIS, "objects", "--val", "val", "--val-every", 1, "--patience", 1, "--iterations",
             6, "--lr", ".01", "--new-rate", 1, "--log-every", 1)
    train(runner, *words, out="whole")
    for _ in range(3):
        train(runner, *words, "--resume", "--max-minutes", "1e-9")
    train(runner, *words, "--resume")
    assert runner.model() == runner.model("whole")
    assert [e["step"] for e in runner.log() if e.get("stage") == "stop"] == [
        e["step"] for e in runner.log("whole") if e.get("stage") == "stop"]


# -- learning ----------------------------------------------------------------------------------


def ap50(runner, place: str) -> float:
    told = runner(place, "test", "--metric", "ap", "--thresholds", ".5", "--json", tool=evaluate)
    return json.loads(told.out)["ap"]


def test_it_learns_and_what_is_known_of_an_image_helps(runner):
    """Squares on grey, which are photos of the net's own size: ws-eval then agrees with the
    evaluation while training."""
    for place, count, seed in (("train", 24, 3), ("test", 6, 4)):
        squares(runner.folder, place, count, seed=seed, height=48)
    train(runner, *RSIS, "train", "--val", "test", "--width", 32, "--max-objects", 3, "--batch", 8,
          "--iterations", 120, "--val-every", 120, "--lr", ".01", "--new-rate", 1, "--bias-rate",
          1, "--schedule", "poly", "--flip", ".5", "--class-from", 0, "--stop-from", 0)
    counted(runner, "test")
    runner.predict("run", "counted", "-o", "plain")
    runner.predict("run", "counted", "--tags", "-o", "tags")
    runner.predict("run", "counted", "--counts", "-o", "counts")
    plain, tags, counts = (ap50(runner, name) for name in ("plain", "tags", "counts"))
    assert plain == pytest.approx(runner.log()[-1]["val_ap50"], abs=1e-4)
    assert plain > .3 and tags >= plain - .05 and counts >= tags - .1


# -- what cannot be ----------------------------------------------------------------------------


@pytest.mark.parametrize("words, said", [
    ((*RSIS, "--token-at", "all"), "--token-at is not for --task rsis, only for wrsis"),
    ((*WRSIS, "--class-from", "1"), "--class-from is not for --task wrsis, only for rsis"),
    (("--from-components",), "--from-components is not for --task segment"),
    ((*RSIS, "--dual"), "--dual is not for --task rsis"),
    ((*RSIS, "--stride", "16"), "--stride is not for --task rsis"),
    ((*WRSIS, "--scale", "1", "2"), "--scale is not for --task wrsis"),
    ((*RSIS, "--width", "20"), "hidden is 20, it must be a multiple of 16"),
    ((*RSIS, "--patience", "2"), "--patience needs --val")])
def test_options_that_make_no_sense_are_refused(runner, words, said):
    code = ExitStatus.FAILED if "hidden" in said else ExitStatus.USAGE
    assert said in runner.refused("objects", *words, quick=QUICK, code=code)


def test_photos_are_squashed_to_the_size_of_the_paper():
    assert TASKS["rsis"].defaults["crop"] == TASKS["wrsis"].defaults["crop"] == 256
    assert RSISSpec("resnet101", 21).size == (256, 256)


def test_a_model_is_asked_for_what_it_gives(runner):
    train(runner, *RSIS, "objects", "--iterations", 1)
    for words, said in ((("--scales", "1,2"), "--scales is not for models of ws-train --task"),
                        (("--flip",), "--flip is not"), (("--write", "label"), "gives masks or"),
                        (("--as-classes", "voc"), "--as-classes is not"),
                        (("--tags",), "has no tags"), (("--counts",), "has no counts")):
        told = runner.predict("run", "objects", *words, "-o", "out", code=ExitStatus.USAGE)
        assert said in told.err and told.err.count("\n") == 1


def test_a_crowd_is_one_bad_record(runner):
    train(runner, *WRSIS, "objects", "--iterations", 1)
    records = list(found(runner, "objects").values())
    for i, record in enumerate(records):
        record.drop("instance")
        record.set("counts", {1: LONGEST + 1} if i == 2 else {} if i == 1 else {1: 1, 2: 2})
    conftest.write_place(runner.folder / "c", records, kinds=("counts", "image"))
    told = runner.predict("run", "c", "-o", "out", code=ExitStatus.FAILED)
    assert f"objects2: {LONGEST + 1} objects, more than the {LONGEST}" in told.err
    runner.predict("run", "c", "-o", "out", "--keep-going", "--overwrite",
                   code=ExitStatus.SOME_FAILED)
    assert len(found(runner, "out")) == 5
    assert len(found(runner, "out")["objects1"].get("masks").runs) == 0


def test_a_stream_goes_through_as_its_directory_does(runner):
    train(runner, *RSIS, "objects", "--iterations", 1)
    runner("objects", "-o", "objects.tar", tool=cat)
    runner.predict("run", "objects.tar", "-o", "a")
    runner.predict("run", "objects", "-o", "b", "-j1")
    a, b = (conftest.tree(runner.folder / n) for n in "ab")
    assert {k: v for k, v in a.items() if "__" not in k} == {
        k: v for k, v in b.items() if "__" not in k}
