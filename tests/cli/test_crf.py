"""ws-crf as its users run it, on scenes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.crf_cases import START, STREET, scene, score
from tests.cli_contract import RecordContract
from wsseg.cli import _refining
from wsseg.errors import ExitStatus
from wsseg.io.places import open_source
from wsseg.refine import densecrf
from wsseg.refine.fuse import resample


class TestDense(RecordContract):
    tool = "ws-crf"
    arguments = ("-j1",)
    kinds = ("label", "image", "tags")


# -- what it is for -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense", "potts"])
@pytest.mark.parametrize("kind", ["score", "cam", "label"])
def test_a_noisy_map_becomes_nearly_right(refined, method, kind):
    truth, photo, prob = scene()
    noisy = prob.argmax(axis=0).astype(np.uint8)
    value = {"score": score(prob), "label": noisy,
             "cam": score(prob[1:], classes=[1, 2])}[kind]
    options = ("--weight", "2") if method == "potts" else ()
    made = refined("--method", method, *options, **{kind: value}, image=photo)
    before, after = (noisy != truth).mean(), (made.get("label") != truth).mean()
    assert before > 0.15
    assert after < 0.02
    assert made.kinds() == {"score", "label"}
    soft = made.get("score")
    assert soft.data.dtype == np.float16 and soft.size == truth.shape
    assert (soft.classes[soft.data.argmax(axis=0)] == made.get("label")).mean() > 0.999


def test_label_and_score_are_those_of_the_kernels(refined):
    truth, photo, prob = scene()
    made = refined("--preset", "wssl", score=score(prob), image=photo)
    wanted = densecrf.dense_crf(prob, photo, densecrf.PRESETS["wssl"])
    assert (made.get("label") == wanted.argmax(axis=0)).all()
    assert np.abs(made.get("score").data - wanted).max() < 1e-3


# -- classes that can occur ------------------------------------------------------------------


def test_only_tags_and_background_can_appear(refined):
    _, photo, prob = scene()
    for kind, value in (("score", score(prob)), ("cam", score(prob[1:], [1, 2])),
                        ("label", prob.argmax(axis=0).astype(np.uint8))):
        for tags, wanted in (((2,), [0, 2]), ((), [0]), ((1, 2), [0, 1, 2])):
            made = refined(**{kind: value}, image=photo, tags=tags)
            assert made.get("score").classes.tolist() == wanted
            assert set(np.unique(made.get("label"))) <= set(wanted)
            made = refined("--all-classes", **{kind: value}, image=photo, tags=tags)
            assert made.get("score").classes.tolist() == [0, 1, 2]


def test_without_a_background_only_tags_can_appear(refined):
    _, photo, prob = scene()
    made = refined(score=score(prob), image=photo, tags=(1, 2), names=STREET)
    assert made.get("score").classes.tolist() == [1, 2]


def test_pixels_that_give_all_to_absent_classes_are_filled_by_their_neighbours(refined):
    truth, photo, _ = scene()
    prob = np.eye(3, dtype=np.float32)[truth].transpose(2, 0, 1).copy()
    made = refined(score=score(prob), image=photo, tags=(1,))
    assert made.get("label")[truth == 1].all()
    assert not made.get("label")[truth == 0].any()


def test_tags_that_the_map_does_not_know(refined):
    _, photo, prob = scene()
    made = refined(score=score(prob), image=photo, tags=(2, 9), names=None)
    assert made.get("score").classes.tolist() == [0, 2]
    said = refined(score=score(prob[:2], [1, 2]), image=photo, tags=(), code=ExitStatus.FAILED)
    assert "one: score: holds no class that the record's tags permit (0)" in said
    made = refined(label=np.full(photo.shape[:2], 255, np.uint8), image=photo, tags=(2,))
    assert made.get("score").classes.tolist() == [0, 2]


def test_without_tags_unlikely_classes_are_left_out(refined):
    _, photo, prob = scene(noise=.5)
    data = np.concatenate([prob * .97, np.full((2, *photo.shape[:2]), .015, np.float32)])
    data[4, 3, 3], data[:3, 3, 3] = .09, .3
    kinds = {"score": score(data), "image": photo, "names": None}
    some = refined(**kinds)
    assert some.get("score").classes.tolist() == [0, 1, 2, 4]
    assert refined("--min-prob=.1", **kinds).get("score").classes.tolist() == [0, 1, 2]
    assert refined("--min-prob=1", **kinds).get("score").classes.size == 1
    every = refined("--all-classes", **kinds)
    assert every.get("score").classes.tolist() == [0, 1, 2, 3, 4]
    assert (every.get("label") == some.get("label")).mean() > 0.99


# -- what it starts from ----------------------------------------------------------------------


def test_scores_at_a_stride_are_brought_to_full_size(refined):
    data = np.array([[[.25, .75]], [[.75, .25]]], np.float16)
    photo = np.zeros((2, 4, 3), np.uint8)
    made = refined(*START, score=score(data, size=(2, 4)), image=photo, names=None)
    assert np.abs(made.get("score").data[0] - [.25, .375, .625, .75]).max() < 1e-3
    rng = np.random.default_rng(1)
    data = rng.dirichlet(np.ones(4), (5, 7)).transpose(2, 0, 1).astype(np.float32)
    made = refined(*START, score=score(data, size=(17, 20)), image=np.zeros((17, 20, 3), np.uint8),
                   names=None)
    assert np.abs(made.get("score").data - resample(data, (17, 20))).max() < 2e-3


def test_activations_get_a_background(refined):
    data = np.array([[[1, .2, 0]], [[.5, .6, 0]]], np.float32)
    made = refined(*START, "--background-power=2", cam=score(data, [1, 2]),
                   image=np.zeros((1, 3, 3), np.uint8))
    wanted = np.array([[0, .16, 1], [1, .2, 0], [.5, .6, 0]])
    assert np.abs(made.get("score").data[:, 0] - wanted / wanted.sum(axis=0)).max() < 1e-3
    assert made.get("score").classes.tolist() == [0, 1, 2]


def test_labels_are_believed_as_far_as_asked_and_ignore_is_filled(refined):
    label = np.array([[0, 1, 255]], np.uint8)
    made = refined(*START, "--confidence=.6", label=label, image=np.zeros((1, 3, 3), np.uint8))
    wanted = np.array([[.6, .2, .2], [.2, .6, .2], [1 / 3] * 3]).T
    assert np.abs(made.get("score").data[:, 0] - wanted).max() < 1e-3
    truth, photo, _ = scene()
    label = truth.copy()
    label[15:25, :] = 255
    made = refined(label=label, image=photo)
    assert (made.get("label") == truth).mean() > 0.99
    assert 255 not in made.get("label")


def test_the_preferred_kind_is_taken(refined):
    truth, photo, prob = scene()
    right = score(np.eye(3, dtype=np.float32)[truth].transpose(2, 0, 1))
    wrong = np.zeros_like(truth)
    kinds = {"label": wrong, "score": right, "image": photo}
    assert (refined(**kinds).get("label") == truth).all()
    assert (refined("--use=label", **kinds).get("label") == 0).all()
    said = refined("--use=cam", **kinds, code=ExitStatus.FAILED)
    assert "one: has no cam (it holds image, label, score)" in said


@pytest.mark.parametrize("write, wanted", [("both", {"score", "label"}), ("score", {"score"}),
                                           ("label", {"label"})])
def test_what_is_written(refined, tmp_path, write, wanted):
    truth, photo, prob = scene(size=(9, 9))
    kinds = {"label": truth, "score": score(prob), "image": photo, "conf": truth, "tags": (1, 2)}
    made = refined("--write", write, **kinds)
    assert made.kinds() == wanted | {"tags"}
    assert set(open_source(str(tmp_path / "refined")).header.kinds) == wanted | {"tags"}
    kept = refined("--write", write, "--keep", "image", "--keep", "conf", **kinds)
    assert kept.kinds() == wanted | {"tags", "image", "conf"}
    if "label" in wanted:
        assert (made.get("label") == refined(**kinds).get("label")).all()


# -- engines --------------------------------------------------------------------------------


@pytest.mark.parametrize("method, others", [("dense", ["torch", "numpy"]),
                                            ("potts", ["torch", "numpy"])])
def test_engines_agree(refined, method, others):
    _, photo, prob = scene()
    pytest.importorskip(f"wsseg.native._{'lattice' if method == 'dense' else 'potts'}")
    kinds = {"score": score(prob), "image": photo}
    options = ("--method", method, "--iterations", "5" if method == "dense" else "200")
    native = refined(*options, "--engine=native", **kinds).get("score").data
    for engine in others:
        if engine == "torch":
            pytest.importorskip("torch")
        other = refined(*options, "--engine", engine, **kinds).get("score").data
        assert np.abs(other - native).max() < 2e-3
    split = refined(*options, "--engine=native", "--threads=3", **kinds).get("score").data
    assert (split == native).all()


def test_pydensecrf_agrees(refined):
    pytest.importorskip("pydensecrf")
    _, photo, prob = scene()
    kinds = {"score": score(prob), "image": photo}
    ours = refined(**kinds).get("score").data
    assert np.abs(refined("--engine=pydensecrf", **kinds).get("score").data - ours).max() < 2e-3


@pytest.mark.parametrize("options, said", [
    (["--engine=pydensecrf", "--method=potts"], "pydensecrf is an engine of --method dense"),
    (["--engine=native", "--device=cuda"], "--engine native cannot use --device cuda"),
    (["--engine=numpy", "--method=potts", "--device=cuda:1"], "cannot use --device cuda:1"),
    (["--device=gpu"], "--device gpu is not cpu, cuda or cuda:N"),
])
def test_engines_that_cannot_do_it_are_usage_errors(refined, options, said):
    _, photo, prob = scene(size=(4, 5))
    assert said in refined(*options, score=score(prob), image=photo, code=ExitStatus.USAGE)


def test_a_device_chooses_torch_and_no_kernels_are_missed_once(monkeypatch):
    from wsseg.refine import densecrf

    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "torch")
    for method in ("dense", "potts"):
        found, note = _refining.resolve_engine(_refining.Settings(method, {}, device="cuda:0"))
        assert (found.engine, note) == ("torch", None)
    monkeypatch.setattr(densecrf, "native", lambda: None)
    monkeypatch.setattr(densecrf, "find_spec", lambda name: name == "torch")
    found, note = _refining.resolve_engine(_refining.Settings("dense", {}))
    assert found.engine == "torch" and "not built here" in note and "slower" in note
    monkeypatch.setattr(densecrf, "find_spec", lambda name: None)
    found, note = _refining.resolve_engine(_refining.Settings("dense", {}))
    assert found.engine == "numpy" and "slower" in note
