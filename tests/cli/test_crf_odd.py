"""ws-crf on what is wrong, odd or large, and stopped and gone on with."""

from __future__ import annotations

import io
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.cli.crf_cases import START, STREET, put, record, scene, score, settings
from tests.conftest import command, complaint, keys_of, make_record, tree, write_place
from wsseg.cli import _refining, crf
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus, RecordError
from wsseg.refine import densecrf


def spoil(place: Path, data, classes, size) -> str:
    """Put a score map into a place that its writer would have refused."""
    out = io.BytesIO()
    np.savez(out, data=data, classes=np.array(classes, np.uint16), size=np.array(size, np.uint32))
    (place / "one.score.npz").write_bytes(out.getvalue())
    return str(place)


@pytest.mark.parametrize("spoilt, said", [
    (lambda d: np.where(np.arange(64) == 5, np.nan, d), "score: score is not finite, first at (0"),
    (lambda d: np.where(np.arange(64) == 5, np.inf, d), "score is not finite"),
    (lambda d: d - .2, "not in [0, 1]: these look like logits"),
    (lambda d: 9 * d, "not in [0, 1]: these look like logits"),
    (lambda d: d * .5 + .5, "scores are not normalised: they add up to 2 at x="),
])
def test_scores_that_are_no_probabilities_are_refused_by_name(tmp_path, capfd, spoilt, said):
    _, photo, prob = scene()
    put(tmp_path / "a", score=score(prob), image=photo)
    source = spoil(tmp_path / "a", spoilt(prob).astype(np.float32), range(3), photo.shape[:2])
    for method in ("dense", "potts"):
        assert run_here(crf.main, [source, "--method", method, "-j1", "-o",
                                   str(tmp_path / method)]) == ExitStatus.FAILED
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith("ws-crf: one: score: ") and said in line
        assert not (tmp_path / method / "one.png").exists()


def test_scores_that_leave_classes_out_are_filled_up(refined):
    data = np.array([[[.4, .1, 0]], [[.1, .1, 0]]], np.float32)
    made = refined(*START, score=score(data, [0, 2]), image=np.zeros((1, 3, 3), np.uint8))
    assert np.abs(made.get("score").data[:, 0] - [[.8, .5, .5], [.2, .5, .5]]).max() < 1e-3


@pytest.mark.parametrize("size, said", [
    ((48, 60), "score is for a 48x60 image, but the photo is 48x64"),
    ((64, 48), "score is for a 64x48 image, but the photo is 48x64 (transposed"),
])
def test_maps_of_another_size_are_refused(refined, size, said):
    _, photo, _ = scene()
    flat = np.full((3, *size), 1 / 3, np.float32)
    assert said in refined(score=score(flat), image=photo, code=ExitStatus.FAILED)
    said = said.replace("score", "label")
    assert said in refined(label=np.zeros(size, np.uint8), image=photo, code=ExitStatus.FAILED)


def test_missing_photos(here, tmp_path):
    maps = write_place(tmp_path / "maps", [make_record(i, "label") for i in range(3)],
                       kinds=["label"])
    photos = write_place(tmp_path / "photos", [make_record(i, "image") for i in (0, 2)],
                         kinds=["image"])
    (said,) = here(maps, "-o", tmp_path / "m", code=ExitStatus.USAGE)
    assert "--images" in said
    (said,) = here(maps, "--images", photos, "-o", tmp_path / "n", code=ExitStatus.USAGE)
    assert "img001" in said
    said = here(maps, "--images", photos, "--keep-going", "-o", tmp_path / "o",
                code=ExitStatus.SOME_FAILED)
    assert "img001" in said[0] and "1 records failed" in said[-1]
    assert keys_of(tmp_path / "o") == ["img000", "img002"]
    records = [make_record(0, "label", "image"), make_record(1, "label")]
    some = write_place(tmp_path / "some", records, kinds=["image", "label"])
    (said,) = here(some, "-o", tmp_path / "p", code=ExitStatus.FAILED)
    assert "img001: has no image" in said


def test_labels_that_are_no_class_are_named(refined):
    label = np.zeros((4, 5), np.uint8)
    image = np.zeros((4, 5, 3), np.uint8)
    said = refined(label=np.full_like(label, 255), image=image, code=ExitStatus.FAILED)
    assert "one: label: no pixel and no tag names a class" in said
    label[2, 1] = 7
    said = refined(label=label, image=image, code=ExitStatus.FAILED)
    assert "value 7 at x=1, y=2, but there are 3 classes" in said
    said = refined(score=score(np.full((2, 4, 5), .5, np.float32), [0, 3]), image=image,
                   code=ExitStatus.FAILED)
    assert "one: score: class 3, but there are 3 classes" in said
    said = refined("--confidence=.3", label=label, image=image, names=None,
                   code=ExitStatus.FAILED)
    assert "a confidence of 0.3 does not favour one of 2 classes" in said


def test_maps_without_classes(refined):
    image = np.zeros((4, 5, 3), np.uint8)
    empty = score(np.zeros((0, 4, 5), np.float32))
    assert "one: score: has no class" in refined(score=empty, image=image,
                                                 code=ExitStatus.FAILED)
    made = refined(cam=empty, image=image)
    assert (made.get("label") == 0).all()


def test_activations_need_a_background_class(refined):
    image = np.zeros((4, 5, 3), np.uint8)
    flat = np.full((2, 4, 5), .5, np.float32)
    said = refined(cam=score(flat, [1, 2]), image=image, names=STREET, code=ExitStatus.FAILED)
    assert "one: cam: the classes have no background (the first is road)" in said
    said = refined(cam=score(flat, [0, 2]), image=image, code=ExitStatus.FAILED)
    assert "one: cam: has a map of the background (class 0)" in said


@pytest.mark.parametrize("method", ["dense", "potts"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (2, 2), (33, 35)])
def test_small_and_odd_sizes(refined, method, size):
    photo = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    data = np.zeros((3, *size), np.float32)
    data[:] = np.array([.2, .1, .7])[:, None, None]
    made = refined("--method", method, score=score(data), image=photo)
    assert (made.get("label") == 2).all() and made.get("label").shape == size


@pytest.mark.parametrize("method", ["dense", "potts"])
def test_one_class_only(refined, method):
    photo = np.random.default_rng(3).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    for options in ((), ("--all-classes",)):
        made = refined("--method", method, *options, image=photo,
                       score=score(np.full((1, 6, 7), .3, np.float32), [2]))
        assert (made.get("label") == 2).all()
        assert (made.get("score").data == 1).all()
    made = refined("--method", method, label=np.ones((6, 7), np.uint8), image=photo)
    assert (made.get("label") == 1).all()


@pytest.mark.parametrize("method", ["dense", "potts"])
def test_two_hundred_classes(refined, method):
    truth, photo, prob = scene(size=(20, 24))
    classes = [*range(100), *range(300, 400)]
    data = np.full((200, *truth.shape), 1e-3, np.float32)
    data[[0, 150, 199]] += .8 * prob
    made = refined("--method", method, "--all-classes", score=score(data, classes), image=photo,
                   names=None)
    assert made.get("score").classes.tolist() == classes
    assert set(np.unique(made.get("label"))) <= {0, 350, 399}
    assert (made.get("label") == np.array([0, 350, 399])[prob.argmax(axis=0)]).mean() > 0.3


@pytest.mark.parametrize("method", ["dense", "potts"])
@pytest.mark.parametrize("kind", ["score", "label"])
def test_a_huge_photo_is_refused_before_memory_is_taken(monkeypatch, method, kind):
    monkeypatch.setattr(densecrf, "free_memory", lambda: 2e9)
    size = (5000, 6000)
    value = score(np.full((20, 5, 6), .05, np.float16), size=size) if kind == "score" \
        else np.broadcast_to(np.arange(20, dtype=np.uint8), (1500000, 20)).reshape(size)
    one = record(names=None, image=np.zeros((*size, 3), np.uint8), **{kind: value})
    tracemalloc.start()
    try:
        with pytest.raises(RecordError, match="20 classes at 5000x6000 need at least .* GB, and "
                                              "2.0 GB are free; shrink the photo"):
            _refining.refine(one, settings(method, all_classes=True))
        assert tracemalloc.get_traced_memory()[1] < 5e8
    finally:
        tracemalloc.stop()


def test_too_little_address_space_is_one_line(tmp_path):
    size = (900, 1200)
    source = put(tmp_path / "a.tar", names=None, image=np.zeros((*size, 3), np.uint8),
                 score=score(np.full((100, 3, 4), .01, np.float16), size=size))
    line = " ".join([*command("ws-crf"), source, "--all-classes", "-j1", "-o",
                     str(tmp_path / "out")])
    done = subprocess.run(["bash", "-c", "export OPENBLAS_NUM_THREADS=1; ulimit -v 900000; "
                           + line], capture_output=True)
    assert done.returncode == ExitStatus.FAILED
    assert "memory" in complaint(done)


@pytest.mark.parametrize("form", ["out", "out.h5"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path, capfd, form):
    source = tmp_path / "maps"
    write_place(source, [make_record(i, "label", "image") for i in range(5)],
                kinds=["image", "label"])

    def go(out, *more):
        return run_here(crf.main, [str(source), "--method", "potts", "-j1", "-o", str(out), *more])

    assert go(tmp_path / "whole" / form) == ExitStatus.OK
    good = (source / "img003.png").read_bytes()
    (source / "img003.png").write_bytes(good[:-20])
    assert go(tmp_path / "part" / form) == ExitStatus.FAILED
    (source / "img003.png").write_bytes(good)
    capfd.readouterr()
    assert go(tmp_path / "part" / form, "--resume", "--weight", "3") == ExitStatus.USAGE
    assert go(tmp_path / "part" / form, "--resume") == ExitStatus.OK
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")
