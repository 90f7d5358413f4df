"""What ws-train refuses before it trains, in one line each."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from tests import training  # noqa: E402
from tests.conftest import make_label, make_record, write_place  # noqa: E402
from tests.train.test_run_folder import Canary  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.record import Record  # noqa: E402

FAILED, USAGE = ExitStatus.FAILED, ExitStatus.USAGE
runner = training.runner


def labelled(key, label, photo=None) -> Record:
    record = Record(key)
    record.set("label", label)
    if photo is not None:
        record.set("image", photo)
    return record


def put(runner, name, *records, kinds=("image", "label"), **more) -> str:
    return write_place(runner.folder / name, records, kinds=kinds, **more)


def photos(runner, *numbers, name="photos"):
    folder = runner.folder / name
    folder.mkdir()
    for i in numbers:
        Image.fromarray(make_record(i, "image").get("image")).save(folder / f"img{i:03d}.png")
    return name


# -- places ------------------------------------------------------------------------------------


def test_nothing_to_train_on(runner):
    assert "nothing to train on: name label maps, or --weak PLACE" in runner.refused()
    assert "no such file" in runner.refused("none")
    assert "no such file" in runner.refused("strong", "--weak", "none")
    assert "only one input can be standard input" in runner.refused("strong", "--weak", "-",
                                                                    "--val", "-")
    (runner.folder / "keys").write_text("img003\nimg777\n")
    assert "img777" in runner.refused("strong", "--keys", "keys")
    assert "no record is left" in runner.refused("strong", "--weak", "strong")


def test_labels_without_photos(runner):
    labels = put(runner, "labels", *(make_record(i, "label") for i in range(4)), kinds=["label"])
    assert "needs the photos: name their folder with --images" in runner.refused(labels)
    some = photos(runner, 0, 1, 2)
    said = runner.refused(labels, "--images", some)
    assert "1 records are without a photo in photos: img003 (--keep-going leaves" in said
    told = runner.train(labels, "--images", some, "--keep-going", "--json",
                        code=ExitStatus.SOME_FAILED)
    assert "img003" in told.err and "1 records failed and were left out" in told.err
    assert json.loads(told.out)["steps"] == 4


def test_a_record_that_lacks_its_photo_or_label(runner):
    place = put(runner, "holes", make_record(0, "image", "label"), make_record(1, "label"))
    assert "img001: has no image" in runner.refused(place, code=FAILED)
    place = put(runner, "holes2", make_record(0, "image", "label"), make_record(1, "image"))
    assert "img001: has no label" in runner.refused(place, code=FAILED)
    photos(runner, 1)
    assert "photos" in runner.refused("photos", "--classes", "voc")
    runner.train(place, "--keep-going", code=ExitStatus.SOME_FAILED)


def test_photos_that_no_label_belongs_to_are_left_alone(runner):
    labels = put(runner, "labels", *(make_record(i, "label") for i in range(4)), kinds=["label"])
    runner.train(labels, "--images", photos(runner, *range(9)))


def test_sizes_that_differ_are_told(runner):
    place = put(runner, "odd", labelled("a", make_label(1), np.zeros((24, 32, 3), np.uint8)),
                labelled("b", make_label(1), np.zeros((32, 24, 3), np.uint8)))
    assert "b: the photo is 32x24, the label 24x32" in runner.refused(place, code=FAILED)


def test_label_values_that_are_no_class_are_told(runner):
    label = make_label(1)
    label[5, 6] = 77
    photo = np.zeros((24, 32, 3), np.uint8)
    place = put(runner, "odd", labelled("a", make_label(1), photo), labelled("b", label, photo))
    assert ("b: label 77 at 1 pixels, the first at x 6, y 5, is none of the 3 classes"
            in runner.refused(place, code=FAILED))
    assert "val" not in runner.refused(place, "--keys", keys(runner, "b"), code=FAILED)
    runner.train(place, "--keep-going", code=ExitStatus.SOME_FAILED)
    assert "b: label 77" in runner.refused("strong", "--val", place, code=FAILED, out="other")


def keys(runner, *names) -> str:
    (runner.folder / "keys.txt").write_text("\n".join(names))
    return "keys.txt"


def test_a_photo_that_is_rotated_by_exif_is_refused_at_once(runner):
    folder = runner.folder / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((24, 24, 3), np.uint8)).save(folder / "a.jpg", exif=exif)
    labels = put(runner, "labels", labelled("a", np.zeros((24, 24), np.uint8)), kinds=["label"])
    said = runner.refused(labels, "--images", "photos", code=FAILED)
    assert "a: photo has an EXIF rotation" in said


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (500, 2), (33, 33)])
def test_photos_of_any_size_are_trained_on(runner, size):
    rng = np.random.default_rng(0)
    records = [labelled(f"k{i}", rng.integers(0, 3, size).astype(np.uint8),
                        rng.integers(0, 255, (*size, 3)).astype(np.uint8)) for i in range(2)]
    place = put(runner, "odd", *records)
    runner.train(place, "--val", place, "--iterations", 1, "--scale", .1, 2, "--rotate", 30)
    runner.predict("run", place, "--scales", ".1,1,2", "--flip", "-o", "found")


def test_grey_photos_are_trained_on(runner):
    folder = runner.folder / "photos"
    folder.mkdir()
    Image.fromarray(np.arange(24 * 32).reshape(24, 32).astype(np.uint8)).save(folder / "a.png")
    labels = put(runner, "labels", labelled("a", make_label(1)), kinds=["label"])
    runner.train(labels, "--images", "photos")


def test_a_photo_that_breaks_off_is_told_in_one_line_and_ends_the_run(runner):
    victim = runner.folder / "strong" / "img003.image.png"
    victim.write_bytes(victim.read_bytes()[:-40])
    told = runner.train("strong", "--iterations", 50, code=FAILED)
    assert told.err.startswith("ws-train: img003: image: photo damaged")
    assert told.err.count("\n") == 1


# -- classes -----------------------------------------------------------------------------------


def test_classes_must_be_known(runner):
    bare = put(runner, "bare", *(make_record(i, "image", "label") for i in range(3)), classes=None)
    assert "how many classes are there?" in runner.refused(bare)
    (runner.folder / "many").write_text("\n".join(f"c{i}" for i in range(256)))
    assert "256 classes: 255 means no label" in runner.refused(bare, "--classes", "many")
    (runner.folder / "three").write_text("background\ncat\ndog\n")
    runner.train(bare, "--classes", "three")


def test_places_must_have_the_same_classes(runner):
    records = [make_record(i, "image", "label", "tags") for i in range(20, 23)]
    other = put(runner, "other", *records, classes=("background", "dog", "cat"),
                kinds=["image", "label", "tags"])
    bare = put(runner, "bare", *(make_record(i, "image", "label") for i in range(3)), classes=None)
    (runner.folder / "three").write_text("background\ncat\ndog\n")
    for words in (["strong", "--weak", other], ["strong", "--weak", other, "--weak", "weak"],
                  [bare, "--classes", "three", "--weak", other, "--weak", "val"]):
        said = runner.refused(*words)
        assert "different classes: class 1 is" in said
    said = runner.refused("strong", "--val", other)
    assert "other has other classes than are trained: class 1 is 'dog' there and 'cat' here" in said


def test_joined_classes_are_255_at_most(runner):
    more = put(runner, "more", make_record(20, "image", "label"),
               classes=("background", *(f"c{i}" for i in range(253))))
    assert "256 classes: 255 means" in runner.refused("strong", "--weak", more, "--join-classes")
    runner.train("strong", "--weak", "weak", "--join-classes", "--weak-loss", "em-fixed",
                 code=USAGE)


# -- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("words, said", [
    (["--ratio", "1:2"], "a batch of 4 cannot hold 1:2: make it a multiple of 3"),
    (["--ratio", "1-2"], "--ratio 1-2 is not S:W, such as 1:3"),
    (["--ratio", "1:2:1"], "does not name a share"),
    (["--oversample", "2", "--ratio", "1:1"], "is not oversampled"),
    (["--dual", "--weak", "val"], "--dual needs INPUT and one --weak"),
    (["--weak-loss", "bbox-em", "--weak", "val"], "boxes is needed here"),
    (["--use", "scribble"], "strong has no scribble"),
    (["--select", "best"], "need --val"),
    (["--class-weight", "none.txt"], "--class-weight none.txt"),
    (["--device", "tpu"], "--device tpu is not auto, cpu, cuda or cuda:N"),
    (["--shared", "5", "--dual"], "shared"),
    (["--resume", "--overwrite"], "exclude each other"),
    (["--schedule", "linear"], "linear"),
    (["--epochs", "0"], "--epochs"),
])
def test_options_that_cannot_be(runner, words, said):
    code = FAILED if "--shared" in words else USAGE
    assert said in runner.refused("strong", "--weak", "weak", "--weak-loss", "em-fixed", *words,
                                  code=code)


def test_dual_needs_weak_labels(runner):
    assert "--dual needs INPUT and one --weak" in runner.refused("strong", "--dual")


def test_an_unknown_backbone_is_named_with_the_nearest(runner):
    said = runner.refused("strong", "--backbone", "resnet110", code=FAILED)
    assert "no backbone 'resnet110' (did you mean resnet101?)" in said


def test_weights_of_classes_must_be_as_many(runner):
    (runner.folder / "weights").write_text("1\n2\n")
    assert "must hold 3 numbers" in runner.refused("strong", "--class-weight", "weights")
    (runner.folder / "weights").write_text("1\nnan\n2\n")
    assert "must hold 3 numbers" in runner.refused("strong", "--class-weight", "weights")
    (runner.folder / "weights").write_text("0\n0\n0\n")
    assert "no class has a weight above 0" in runner.refused("strong", "--class-weight", "weights")


def test_validation_needs_photos(runner):
    labels = put(runner, "labels", *(make_record(i, "label") for i in range(4)), kinds=["label"])
    assert "labels has no photos: name their folder with --val-images" in runner.refused(
        "strong", "--val", labels)
    assert "without a photo in photos" in runner.refused(
        "strong", "--val", labels, "--val-images", photos(runner, 1, 2))


def test_an_output_that_is_in_use_is_refused_before_anything_is_read(runner):
    runner.train("strong", "--iterations", 1)
    for words in (["strong"], ["none"]):
        told = runner.train(*words, code=USAGE)
        assert "run exists: add --resume to go on, or --overwrite" in told.err
    assert "which is no part of a training run" in runner.refused("strong", "--overwrite",
                                                                  out="strong")
    assert "a run is a directory" in runner.refused("strong", out="-")


# -- strangers' files --------------------------------------------------------------------------


def test_a_strangers_weights_run_no_code(runner):
    canary = runner.folder / "canary"
    for name, write in (("a.pth", lambda f: pickle.dump(Canary(canary), f, 2)),
                        ("b.pt", lambda f: torch.save({"state_dict": Canary(canary)}, f))):
        with open(runner.folder / name, "wb") as file:
            write(file)
        said = runner.refused("strong", "--init", name, code=ExitStatus.UNSAFE,
                              quick=QUICK_INIT)
        assert f"{name} holds Python objects that could run code" in said
    (runner.folder / "c.txt").write_text("1")
    assert "c.txt is no file of weights" in runner.refused("strong", "--init", "c.txt", code=FAILED,
                                                           quick=QUICK_INIT)
    assert "--init none.x: neither imagenet, none nor a file" in runner.refused(
        "strong", "--init", "none.x", code=FAILED, quick=QUICK_INIT)
    assert not canary.exists()


QUICK_INIT = ("--backbone", "tiny", "--head", "largefov", "--width", "8", "--batch", "4",
              "--iterations", "1", "--device", "cpu")
