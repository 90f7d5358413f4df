"""ws-cam as its users run it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from tests import cli_contract, conftest, training  # noqa: E402
from tests.cli_contract import RecordContract  # noqa: E402
from tests.conftest import make_record, tree, write_place  # noqa: E402
from tests.warm import warm  # noqa: E402
from wsseg.cli import cam  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.io.values import ScoreMap  # noqa: E402
from wsseg.nets.cam import ActivationMaps  # noqa: E402
from wsseg.nets.classifier import ClassifierSpec, build  # noqa: E402
from wsseg.nets.model import load_model, model_bytes  # noqa: E402
from wsseg.refine.camlabel import label_of_cams  # noqa: E402

runner = training.runner
CARD = {"task": "classify", "classes": list(conftest.CLASSES),
        "supervision": {"tags": [6, 12, 12]},
        "history": [{"tool": "ws-train", "version": "0", "arguments": [], "parameters": {},
                     "inputs": {}, "previous": [], "id": "abcdef012345"}]}


def write_model(path: Path, card=CARD, classes=3) -> str:
    torch.manual_seed(4)
    net = build(ClassifierSpec("tiny", classes))
    torch.nn.init.normal_(net.head.weight, std=1.)
    path.write_bytes(model_bytes(net, card))
    return str(path)


@pytest.fixture
def model(runner) -> str:
    return write_model(runner.folder / "model.safetensors")


class TestCam(RecordContract):
    """In processes that share their imports."""

    tool = "ws-cam"
    kinds = ("image", "tags")

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
        place = write_place(folder / "broken", [make_record(i, *self.kinds) for i in range(6)],
                            kinds=self.kinds)
        victim = folder / "broken" / "img002.image.png"
        victim.write_bytes(victim.read_bytes()[:-40])
        return place


def cams(runner, *words, code: int = ExitStatus.OK):
    return runner(*words, code=code, tool=cam)


def values(folder: Path, name: str, kind: str = "cam") -> dict:
    return {r.key: r.get(kind) for r in open_source(str(folder / name))}


def header(folder: Path, name: str):
    return open_source(str(folder / name)).header


# -- maps --------------------------------------------------------------------------------------


def test_maps_are_what_the_net_says_of_the_classes_in_the_tags(runner, model):
    records = [make_record(i, "image") for i in range(3)]
    for record, tags in zip(records, ((1,), (0, 2), ())):  # nobody is asked for the background
        record.set("tags", tags)
    write_place(runner.folder / "tagged", records, kinds=("image", "tags"))
    cams(runner, model, "tagged", "-o", "out", "--batch", 3)
    net, _ = load_model(model, task="classify")
    maker = ActivationMaps(net, torch.device("cpu"), stride=4)
    for record, classes in zip(records, ([1], [2], [])):
        one, = maker(record.get("image")[None], np.isin(np.arange(3), classes)[None])
        found = values(runner.folder, "out")[record.key]
        assert found.classes.tolist() == classes and found.size == (24, 32)
        assert found.data.dtype == np.float16 and found.data.shape[1:] == (6, 8)
        np.testing.assert_allclose(found.data.astype(float), one.low.astype(float), atol=2e-3)
        assert not classes or found.data.max() == 1
    assert header(runner.folder, "out").kinds == ("cam", "tags")  # ws-crf looks at the tags


@pytest.mark.parametrize("words", [["--method", "gradcam++"], ["--scales", ".5,1", "--flip"],
                                   ["--full"], ["--stride", "8"], ["--precision", "bf16"],
                                   ["--method", "gradcam", "--all-classes"]])
def test_every_way_to_make_maps_makes_them(runner, model, words):
    cams(runner, model, "weak", "-o", "out", *words)
    found = values(runner.folder, "out")
    assert len(found) == 8
    for one in found.values():
        assert one.classes.tolist() == [1, 2]
        assert one.data.shape[1:] == {"--full": (24, 32), "--stride": (3, 4)}.get(words[0], (6, 8))


def test_tags_may_lie_elsewhere(runner, model):
    write_place(runner.folder / "tags.tar", [make_record(i, "tags") for i in range(6, 14)],
                kinds=["tags"])
    write_place(runner.folder / "photos", [make_record(i, "image") for i in range(6, 14)],
                kinds=["image"])
    (runner.folder / "plain").mkdir()
    for i in range(6, 14):
        Image.fromarray(make_record(i, "image").get("image")).save(
            runner.folder / f"plain/img{i:03d}.png")
    for name, words in (("a", ["photos", "--tags", "tags.tar"]),
                        ("b", ["tags.tar", "--images", "photos"]),
                        ("c", ["--images", "plain", "--tags", "tags.tar"])):
        cams(runner, model, *words, "-o", name)
        assert header(runner.folder, name).kinds == ("cam", "tags")
        assert values(runner.folder, name, "tags") == {f"img{i:03d}": (1, 2) for i in range(6, 14)}
    one, *others = ({k: v for k, v in tree(runner.folder / n).items() if "__" not in k}
                    for n in "abc")
    assert all(other == one for other in others)


def test_classes_may_be_those_that_the_model_finds(runner, model):
    cams(runner, model, "val", "--min-prob", "0.5", "-o", "some")
    cams(runner, model, "val", "--min-prob", "0", "-o", "all")
    cams(runner, model, "val", "--all-classes", "-o", "same")
    some, every = values(runner.folder, "some"), values(runner.folder, "all")
    assert all(set(some[k].classes) <= {1, 2} for k in some)
    assert all(every[k].classes.tolist() == [1, 2] for k in every)
    for key, one in values(runner.folder, "same").items():
        assert np.array_equal(one.data, every[key].data)


def test_tags_that_the_model_learnt_from_are_paid_for_once(runner, model):
    """weak/ has 8 tagged images, and the model learnt from 6."""
    cams(runner, model, "weak", "-o", "out")
    assert header(runner.folder, "out").supervision["tags"] == (8, 16, 16)
    cams(runner, model, "val", "--all-classes", "-o", "val_out")
    assert header(runner.folder, "val_out").supervision["tags"] == (6, 12, 12)
    last = header(runner.folder, "out").history[-1]
    assert last["tool"] == "ws-cam" and last["parameters"]["model"]
    assert last["previous"][-1] == "abcdef012345" or "abcdef012345" in last["previous"]


# -- labels ------------------------------------------------------------------------------------


def test_labels_are_made_of_the_maps_of_full_size(runner, model):
    cams(runner, model, "weak", "-o", "full", "--full")
    for words, more in (((), {}), (("--background", ".1"), {"background": 0, "low": .1}),
                        (("--overlap", "stronger"), {"overlap": "stronger"})):
        cams(runner, model, "weak", "--label", "--threshold", ".4", *words, "-o", "label",
             "--overwrite")
        cams(runner, "--cams", "full", "--label", "--threshold", ".4", *words, "-o", "again",
             "--overwrite")
        net, _ = load_model(model, task="classify")
        for i in range(6, 14):
            record = make_record(i, "image")
            one, = ActivationMaps(net, torch.device("cpu"))(
                record.get("image")[None], np.array([[False, True, True]]), full=True)
            expected = label_of_cams(one.full, one.classes, np.array([.4, .4]), **more)
            label = values(runner.folder, "label", "label")[record.key]
            assert np.array_equal(label, expected)
            again = values(runner.folder, "again", "label")[record.key]
            assert (again == label).mean() > .99  # of float16
    assert header(runner.folder, "label").kinds == ("boxes", "label", "tags")


def test_both_maps_and_labels_are_written_with_keep(runner, model):
    cams(runner, model, "weak", "--label", "--keep", "cam", "-o", "both")
    assert header(runner.folder, "both").kinds == ("boxes", "cam", "label", "tags")
    assert all("cam" in r and "label" in r for r in open_source(str(runner.folder / "both")))


def test_thresholds_may_differ_by_class(runner, model):
    (runner.folder / "numbers").write_text("1\n0.9\n0.2\n")
    (runner.folder / "named").write_text("cat 0.9\ndog\t0.2\n")
    cams(runner, model, "weak", "-o", "full", "--full")
    for name in ("numbers", "named"):
        cams(runner, "--cams", "full", "--label", "--threshold", name, "-o", f"by_{name}")
    ours, theirs = (values(runner.folder, f"by_{n}", "label") for n in ("numbers", "named"))
    for key, maps in values(runner.folder, "full").items():
        assert np.array_equal(ours[key], theirs[key])
        expected = label_of_cams(maps.data.astype(np.float32), maps.classes, np.array([.9, .2]))
        assert np.array_equal(ours[key], expected)


def test_what_is_not_salient_is_background(runner, model):
    """Where no class is: a class that is active wins."""
    saliency = np.zeros((24, 32), np.uint8)
    saliency[:, 16:] = 200
    records = []
    for i in range(6, 14):
        records.append(Record(f"img{i:03d}"))
        records[-1].set("conf", saliency)
    write_place(runner.folder / "salient", records, kinds=["conf"])
    cams(runner, model, "weak", "--label", "--threshold", ".6", "-o", "plain")
    cams(runner, model, "weak", "--label", "--threshold", ".6", "--saliency", "salient", "-o",
         "out")
    plain = values(runner.folder, "plain", "label")
    for key, label in values(runner.folder, "out", "label").items():
        expected = np.where((plain[key] == 255) & (saliency < 16), 0, plain[key])
        assert np.array_equal(label, expected) and (label == 255).any()


def test_a_photo_without_tags_is_background_or_unknown(runner, model):
    record = make_record(0, "image")
    record.set("tags", ())
    write_place(runner.folder / "none", [record], kinds=("image", "tags"))
    for words, value in (([], 255), (["--background", ".1"], 0)):
        cams(runner, model, "none", "--label", *words, "-o", "out", "--overwrite")
        assert (values(runner.folder, "out", "label")["img000"] == value).all()


def test_stuff_is_a_class_like_any_other(runner):
    """Without a background class 0 is a class too, and nothing can be background."""
    names = ["road", "sky", "car"]
    model = write_model(runner.folder / "city.safetensors", {**CARD, "classes": names})
    record = make_record(0, "image")
    record.set("tags", (0, 1))
    write_place(runner.folder / "city", [record], kinds=("image", "tags"), classes=names)
    cams(runner, model, "city", "--label", "-o", "out")
    assert set(np.unique(values(runner.folder, "out", "label")["img000"])) <= {0, 1, 255}
    told = cams(runner, model, "city", "--label", "--background", ".1", "-o", "x",
                code=ExitStatus.USAGE)
    assert "these classes have no background" in told.err


def test_the_threshold_of_a_background_does_not_count(runner, model):
    (runner.folder / "named").write_text("cat .4\ndog .5\n")
    cams(runner, model, "weak", "--label", "--threshold", "named", "--background", ".3", "-o", "a")
    told = cams(runner, model, "weak", "--label", "--threshold", "named", "--background", ".45",
                "-o", "b", code=ExitStatus.USAGE)
    assert "--background 0.45 is above the threshold 0.4" in told.err


def test_saliency_maps_may_be_a_folder_of_grey_pictures(runner, model):
    (runner.folder / "grey").mkdir()
    records = []
    for i in range(6, 14):
        saliency = np.full((24, 32), 10 * i, np.uint8)
        saliency[:, 16:] = 3
        Image.fromarray(saliency).save(runner.folder / f"grey/img{i:03d}.png")
        records.append(Record(f"img{i:03d}"))
        records[-1].set("conf", saliency)
    write_place(runner.folder / "salient", records, kinds=["conf"])
    cams(runner, model, "weak", "--keep", "image", "-o", "maps")
    for start in ([model, "weak"], ["--cams", "maps"]):
        for name in ("grey", "salient"):
            cams(runner, *start, "--label", "--saliency", name, "-o", f"by_{name}", "--overwrite")
        ours, theirs = (values(runner.folder, f"by_{n}", "label") for n in ("grey", "salient"))
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
        assert any((label == 0).any() for label in ours.values())
    (runner.folder / "grey/img009.png").unlink()
    (runner.folder / "grey/img009.tags.json").write_text('{"classes": [1]}')
    told = cams(runner, "--cams", "maps", "--label", "--saliency", "grey", "-o", "x",
                code=ExitStatus.FAILED)
    assert "img009: has no saliency map: grey has no conf for it, a grey" in told.err


def test_the_maps_of_saliency_are_taken_and_not_the_conf_of_the_input(runner, model):
    records = []
    for i in range(6, 14):
        records.append(make_record(i, "image", "tags"))
        records[-1].set("conf", np.full((24, 32), 255, np.uint8))
    write_place(runner.folder / "both", records, kinds=("conf", "image", "tags"))
    for record in records:
        record.keep({"conf"})
        record.set("conf", np.zeros((24, 32), np.uint8))
    write_place(runner.folder / "dull", records, kinds=["conf"])
    cams(runner, model, "both", "--label", "--saliency", "dull", "-o", "out")
    assert all((label != 255).all() for label in values(runner.folder, "out", "label").values())


def test_a_run_with_other_thresholds_or_saliency_is_not_resumed(runner, model):
    (runner.folder / "file").write_text("cat .4\n")
    write_place(runner.folder / "salient", [], kinds=["conf"])
    cams(runner, model, "weak", "-o", "maps")
    line = ["--cams", "maps", "--label", "--threshold", "file", "-o", "out"]
    cams(runner, *line)
    cams(runner, *line, "--resume")
    assert header(runner.folder, "out").history[-1]["parameters"]["thresholds"] == [.15, .4, .15]
    told = cams(runner, *line, "--resume", "--saliency", "salient", "--keep-going", code=None)
    assert "out was made in another way" in told.err
    (runner.folder / "file").write_text("cat .5\n")
    told = cams(runner, *line, "--resume", code=None)
    assert "out was made in another way" in told.err


def test_a_class_beyond_the_names_is_a_bad_record(runner):
    record = Record("img000")
    record.set("cam", ScoreMap(np.ones((1, 6, 8), np.float16), np.array([200]), (24, 32)))
    write_place(runner.folder / "maps", [record], kinds=["cam"])
    told = cams(runner, "--cams", "maps", "--label", "-o", "x", code=ExitStatus.FAILED)
    assert "img000: cam: class 200, but there are 3" in told.err


@pytest.mark.parametrize("words, kind", [
    (["--all-classes"], "tags"), (["--min-prob", ".5"], "boxes"), (["--tags", "few"], "boxes")])
def test_labels_of_other_classes_do_not_go_on_under_the_models(runner, model, words, kind):
    turned = ("background", "dog", "cat")
    write_place(runner.folder / "few", [make_record(0, "tags")], kinds=["tags"])
    for name, kinds in (("bare", ["image"]), ("turned", ["image", kind])):
        write_place(runner.folder / name, [make_record(0, *kinds)], kinds=kinds, classes=turned)
    cams(runner, model, "bare", *words, "-o", "out")
    assert header(runner.folder, "out").classes == conftest.CLASSES
    told = cams(runner, model, "turned", *words, "-o", "x", code=ExitStatus.USAGE)
    assert "turned numbers its classes in another way than the model (ws-cat" in told.err
    assert f"changes its {kind}" in told.err


# -- what is refused ---------------------------------------------------------------------------
