"""ws-predict as its users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from tests import cli_contract, conftest, training  # noqa: E402
from tests.cli_contract import RecordContract  # noqa: E402
from tests.conftest import ROOT, keys_of, make_label, make_record, tree, write_place  # noqa: E402
from tests.warm import warm  # noqa: E402
from wsseg.cli import cat, info  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.header import Header  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.nets.inference import Inference  # noqa: E402
from wsseg.nets.model import load_model, model_bytes  # noqa: E402
from wsseg.nets.segmenter import NetSpec, build  # noqa: E402

CARD = {"classes": list(conftest.CLASSES), "supervision": {"masks": [6, 12, 12]},
        "history": [{"tool": "ws-train", "version": "0", "arguments": [], "parameters": {},
                     "inputs": {}, "previous": [], "id": "abcdef012345"}]}


def write_model(path: Path, card=CARD, **more) -> str:
    """A net with random weights, strong ones in its last layers so that all classes win."""
    torch.manual_seed(4)
    net = build(NetSpec("tiny", "largefov", 3, width=8, **more))
    for conv in net.classifiers():
        torch.nn.init.normal_(conv.weight, std=4.)
    path.write_bytes(model_bytes(net, card))
    return str(path)


@pytest.fixture
def model(runner) -> str:
    return write_model(runner.folder / "model.safetensors")


runner = training.runner


class TestPredict(RecordContract):
    """In processes that share their imports: some forty of them."""

    tool = "ws-predict"
    kinds = ("image",)

    @pytest.fixture(autouse=True)
    def started(self, tmp_path, monkeypatch):
        def command(tool):
            words = warm().command(tool)
            return [*words, self.model] if tool == self.tool else words

        training.tinynet.install(monkeypatch)
        self.model = write_model(tmp_path.parent / f"{tmp_path.name}.safetensors")
        monkeypatch.setattr(conftest, "command", lambda tool: warm().command(tool))
        monkeypatch.setattr(cli_contract, "command", command)
        monkeypatch.setenv("WSSEG_JOBS", "2")

    def line(self, place: str, *more: str) -> list[str]:
        return [self.tool, self.model, place, *more]

    def broken(self, folder: Path) -> str:
        place = write_place(folder / "broken", [make_record(i, "image") for i in range(6)],
                            kinds=self.kinds)
        victim = folder / "broken" / "img002.image.png"
        victim.write_bytes(victim.read_bytes()[:-40])
        return place


# -- what is written ---------------------------------------------------------------------------


def maps(folder: Path, name: str) -> dict[str, tuple]:
    return {r.key: (r.get("label") if "label" in r else None,
                    r.get("score") if "score" in r else None)
            for r in open_source(str(folder / name))}


def test_maps_are_what_the_net_says(runner, model):
    runner.predict(model, "val", "-o", "out")
    net, _ = load_model(model)
    run = Inference(net, torch.device("cpu"), stride=4)
    found = maps(runner.folder, "out")
    for i in range(14, 18):
        record = make_record(i, "image")
        labels, scores = run(record.get("image")[None], score=True)
        label, score = found[record.key]
        assert np.array_equal(label, labels[0]) and label.dtype == np.uint8
        assert score.size == (24, 32) and score.data.shape[1:] == (6, 8)
        assert score.data.dtype == np.float16
        assert np.array_equal(score.data, scores[0][score.classes])
    assert len({c for label, _ in found.values() for c in np.unique(label)}) > 1


def test_kinds_to_write_and_their_resolution(runner, model):
    runner.predict(model, "val", "--write", "label", "-o", "label")
    runner.predict(model, "val", "--write", "score", "--score-stride", 1, "-o", "score")
    assert {n.split(".", 1)[1] for n in tree(runner.folder / "label") if "_" not in n} == {"png"}
    for key, (label, score) in maps(runner.folder, "score").items():
        assert label is None and score.data.shape[1:] == (24, 32)
        expected = maps(runner.folder, "label")[key][0]
        best = score.classes[score.data.argmax(0)]
        top = np.sort(score.data.astype(float), 0)
        clear = top[-1] - top[-2] > .01
        assert np.array_equal(best[clear], expected[clear])


def test_the_header_tells_what_it_cost_and_how_it_came_about(runner, model):
    runner.predict(model, "val", "-o", "out")
    header = open_source(str(runner.folder / "out")).header
    assert header.classes == conftest.CLASSES
    assert header.supervision["masks"][0] >= 6
    last = header.history[-1]
    assert last["tool"] == "ws-predict" and last["parameters"]["model"]
    assert last["previous"] == ["abcdef012345"] and "model" in last["inputs"]
    told = json.loads(runner("out", "--json", tool=info).out)["places"][0]
    assert told["supervision"]["masks"][0] >= 6
    runner.predict(model, "val", "--flip", "-o", "flipped")
    assert open_source(str(runner.folder / "flipped")).header.digest != header.digest


def test_photos_alone_are_enough(runner, model):
    (runner.folder / "photos").mkdir()
    for i in range(3):
        Image.fromarray(make_record(i, "image").get("image")).save(
            runner.folder / f"photos/img{i:03d}.png")
    runner.predict(model, "--images", "photos", "-o", "one")
    runner.predict(model, "photos", "-o", "two")
    assert maps(runner.folder, "one").keys() == {"img000", "img001", "img002"}
    ours, theirs = (tree(runner.folder / n) for n in ("one", "two"))
    assert {k: v for k, v in ours.items() if "__" not in k} == {
        k: v for k, v in theirs.items() if "__" not in k}


def test_labels_that_lie_beside_the_photos_of_images_do_not_go_on(runner, model):
    """They may be the truth, which later tools would take for a prediction."""
    for form in ("val", "val.h5", "val.tar"):
        if form != "val":
            runner("val", "-o", form, tool=cat)
        runner.predict(model, "--images", form, "--write", "score", "-o", "out", "--overwrite")
        source = open_source(str(runner.folder / "out"))
        assert source.header.kinds == ("score",)
        assert [r.kinds() for r in source] == [{"score"}] * 4
        assert "masks" not in source.end.supervision
        assert source.header.supervision["masks"] == tuple(CARD["supervision"]["masks"])


def test_tags_say_which_classes_there_are(runner, model):
    records = [make_record(i, "image") for i in range(3)]
    for record, tags in zip(records, ((1,), (2,), ())):
        record.set("tags", tags)
    write_place(runner.folder / "tagged", records, kinds=("image", "tags"))
    runner.predict(model, "tagged", "--tags", "-o", "out", "--batch", 3)
    for (label, score), allowed in zip(maps(runner.folder, "out").values(), ({0, 1}, {0, 2}, {0})):
        assert set(np.unique(label)) <= allowed and set(score.classes) <= allowed
        np.testing.assert_allclose(score.data.astype(float).sum(0), 1, atol=2e-3)
    assert "val has no tags" in runner.predict(model, "val", "--tags", "-o", "x", code=2).err

    street = ("road", "car", "sky")  # no class is the background, which tags need not list
    write_place(runner.folder / "street", records, kinds=("image", "tags"), classes=street)
    net = write_model(runner.folder / "street.safetensors", {**CARD, "classes": list(street)})
    told = runner.predict(net, "street", "--tags", "-o", "seen", "--keep-going", code=3)
    assert f"{records[2].key}: --tags: it has none" in told.err
    for (label, _), allowed in zip(maps(runner.folder, "seen").values(), ({1}, {2})):
        assert set(np.unique(label)) == allowed


@pytest.mark.parametrize("kind", ["tags", "boxes"])
def test_labels_of_other_classes_do_not_go_on_under_the_models(runner, model, kind):
    turned = ("background", "dog", "cat")
    for name, kinds in (("bare", ["image", "label"]), ("turned", ["image", kind])):
        write_place(runner.folder / name, [make_record(0, *kinds)], kinds=kinds, classes=turned)
    runner.predict(model, "bare", "-o", "out")  # the label is replaced
    assert open_source(str(runner.folder / "out")).header.classes == conftest.CLASSES
    for words in (["turned"], ["turned", "--images", "bare"], ["bare", "--write", "score", "--keep",
                                                              "label"]):
        told = runner.predict(model, *words, "-o", "x", code=ExitStatus.USAGE).err
        assert f"{words[0]} numbers its classes in another way than the model (ws-cat" in told
    (runner.folder / "names").write_text("\n".join(turned))
    runner.predict(model, "turned", "--as-classes", "names", "-o", "chosen")
    assert kind in open_source(str(runner.folder / "chosen")).header.kinds
    told = runner.predict(model, "weak", "--as-classes", "names", "-o", "x", code=2).err
    assert "weak numbers its classes in another way than --as-classes" in told


def test_classes_are_chosen_and_renumbered(runner, model):
    (runner.folder / "names").write_text("dog\nbackground\n")
    runner.predict(model, "val", "--as-classes", "names", "-o", "out", "--score-stride", 1)
    runner.predict(model, "val", "-o", "all", "--score-stride", 1)
    assert open_source(str(runner.folder / "out")).header.classes == ("dog", "background")
    whole = maps(runner.folder, "all")
    for key, (label, score) in maps(runner.folder, "out").items():
        given = np.zeros((3, 24, 32))
        given[whole[key][1].classes] = whole[key][1].data
        mine = np.zeros((2, 24, 32))
        mine[score.classes] = score.data
        sure = np.abs(given[2] - given[0]) > .01
        assert np.array_equal((label == 0)[sure], (given[2] > given[0])[sure])
        known = given[2] + given[0] > .1
        np.testing.assert_allclose(mine[0][known], (given[2] / (given[2] + given[0]))[known],
                                   atol=.02)


def mixed(runner) -> str:
    """Photos of three sizes in turn."""
    rng = np.random.default_rng(1)
    records = []
    for i in range(13):
        records.append(Record(f"k{i:02d}"))
        size = ((24, 32), (33, 20), (1, 1))[i % 3] + (3,)
        records[-1].set("image", rng.integers(0, 256, size).astype(np.uint8))
    return write_place(runner.folder / "mixed.tar", records, kinds=["image"])


def test_batches_change_neither_order_nor_labels(runner, model):
    place = mixed(runner)
    for batch in (1, 2, 4, 50):
        runner.predict(model, place, "--batch", batch, "-o", f"b{batch}.tar")
        assert keys_of(runner.folder / f"b{batch}.tar") == keys_of(place)
    one = maps(runner.folder, "b1.tar")
    for batch in (2, 4, 50):
        for key, (label, score) in maps(runner.folder, f"b{batch}.tar").items():
            assert (label == one[key][0]).mean() > .995
            both = np.zeros((2, 3, *score.data.shape[1:]))
            for k, s in enumerate((score, one[key][1])):
                both[k, s.classes] = s.data
            np.testing.assert_allclose(both[0], both[1], atol=2e-3)
    assert len({open_source(str(runner.folder / f"b{b}.tar")).header.count for b in (1, 4)}) == 1


def test_a_bad_photo_spoils_no_other(runner, model):
    place = write_place(runner.folder / "bad", [make_record(i, "image") for i in range(9)],
                        kinds=["image"])
    runner.predict(model, place, "--batch", 4, "-o", "whole")
    victim = runner.folder / "bad" / "img002.image.png"
    victim.write_bytes(victim.read_bytes()[:-40])
    told = runner.predict(model, place, "--batch", 4, "-o", "cut", code=ExitStatus.FAILED)
    assert told.err.startswith("ws-predict: img002: ") and told.err.count("\n") == 1
    runner.predict(model, place, "--batch", 4, "--keep-going", "-o", "rest",
                   code=ExitStatus.SOME_FAILED)
    whole, rest = (maps(runner.folder, n) for n in ("whole", "rest"))
    assert set(whole) - set(rest) == {"img002"}
    for key in rest:
        assert (whole[key][0] == rest[key][0]).mean() > .995


def test_it_goes_on_after_a_failure(runner, model):
    place = write_place(runner.folder / "bad", [make_record(i, "image") for i in range(6)],
                        kinds=["image"])
    runner.predict(model, place, "-o", "whole")
    victim = runner.folder / "bad" / "img004.image.png"
    good = victim.read_bytes()
    victim.write_bytes(good[:-40])
    runner.predict(model, place, "-o", "out", code=ExitStatus.FAILED)
    done = {p.name: p.stat().st_mtime_ns for p in (runner.folder / "out").glob("img*")}
    assert done and "img004.png" not in done
    victim.write_bytes(good)
    runner.predict(model, place, "-o", "out", "--resume")
    assert tree(runner.folder / "out") == tree(runner.folder / "whole")
    for name, when in done.items():
        assert (runner.folder / "out" / name).stat().st_mtime_ns == when
    other = write_model(runner.folder / "other.safetensors", dual=True, shared=1)
    told = runner.predict(other, place, "-o", "out", "--resume", code=ExitStatus.USAGE)
    assert "was made in another way" in told.err


def test_both_branches_are_asked(runner, model):
    dual = write_model(runner.folder / "dual.safetensors", dual=True, shared=1)
    runner.predict(dual, "val", "--write", "label", "-o", "strong_map")
    runner.predict(dual, "val", "--branch", "weak", "--write", "label", "-o", "weak_map")
    ours, theirs = (maps(runner.folder, n) for n in ("strong_map", "weak_map"))
    assert any((ours[k][0] != theirs[k][0]).any() for k in ours)
    assert "has one branch" in runner.predict(model, "val", "--branch", "weak", "-o", "x",
                                              code=2).err


def test_it_feeds_the_crf_through_a_pipe(runner, model):
    line = (f"set -o pipefail; {' '.join(warm().command('ws-predict'))} {model} val -o - --keep "
            f"image | {sys.executable} -m wsseg.cli.crf - --write label -o refined")
    done = subprocess.run(["bash", "-c", line], cwd=runner.folder, capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    refined = maps(runner.folder, "refined")
    assert len(refined) == 4 and all(label.shape == (24, 32) for label, _ in refined.values())


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("words, said", [
    (["none", "val"], "none: no such model"), (["strong", "val"], "holds no model.safetensors"),
    (["weights.pth", "val"], "weights.pth is no model of wsseg"),
    (["cut.safetensors", "val"], "is damaged"),
    (["model.safetensors"], "no photos: name their folder with --images"),
    (["model.safetensors", "val", "--scales", "1,x"], "--scales 1,x is not numbers"),
    (["model.safetensors", "val", "--scales", "nan"], "--scales nan is not numbers"),
    (["model.safetensors", "val", "--as-classes", "names"], "the model has no class bird"),
    (["model.safetensors", "bare", "--classes", "names"], "are not those of --classes"),
    (["model.safetensors", "other", "--tags"], "other has classes that the model has not"),
    (["model.safetensors", "val", "--most", "100"], "--most is for detectors, which"),
    (["model.safetensors", "val", "--least-score", ".1"], "--least-score is for detectors"),
    (["model.safetensors", "val", "--counts"], "--counts is for models of ws-train --task rsis"),
    (["model.safetensors", "val", "--device", "gpu"], "--device gpu is not auto"),
])
def test_what_cannot_be_is_one_line(runner, model, words, said):
    torch.save({"w": torch.zeros(2)}, runner.folder / "weights.pth")
    data = (runner.folder / "model.safetensors").read_bytes()
    (runner.folder / "cut.safetensors").write_bytes(data[:-9])
    (runner.folder / "names").write_text("background\nbird\n")
    write_place(runner.folder / "bare", [make_record(0, "image")], kinds=["image"], classes=None)
    write_place(runner.folder / "other", [make_record(0, "image", "tags")],
                kinds=["image", "tags"], classes=("background", "sheep", "goat"))
    told = runner("-o", "out", *words, tool=training.predict, code=(
        ExitStatus.FAILED if words[0] != "model.safetensors" else ExitStatus.USAGE))
    assert said in told.err and told.err.count("\n") == 1
    assert not (runner.folder / "out").exists()


def test_a_model_without_names_predicts_numbers(runner):
    model = write_model(runner.folder / "nameless.safetensors", card={"classes": None})
    runner.predict(model, "val", "-o", "out", "--write", "label")
    assert make_label(0).shape == next(iter(maps(runner.folder, "out").values()))[0].shape
    assert isinstance(open_source(str(runner.folder / "out")).header, Header)
