"""ws-crf as its users run it, on scenes whose truth is known."""

from __future__ import annotations

import io
import json
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from tests.cli_contract import RecordContract
from tests.conftest import (CLASSES, command, complaint, keys_of, make_record, run, tree,
                            write_place)
from wsseg.cli import _refining, crf
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus, RecordError
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import ScoreMap
from wsseg.refine import densecrf, potts
from wsseg.refine.fuse import resample

#: Without pairwise terms the dense CRF gives back what it started from.
START = ("--gauss-weight", "0", "--rgb-weight", "0", "--all-classes", "--write", "score")
STREET = ("road", "sky", "car")
FITTED = {"tool": "ws-crf", "version": "0", "method": "dense",
          "parameters": {"iterations": 4, "gauss_weight": 2.0, "gauss_sigma": 1.5,
                         "rgb_weight": 6.0, "xy_sigma": 21.0, "rgb_sigma": 9.0,
                         "confidence": 0.8, "background_power": 1.0},
          "supervision": {"masks": [3, 6, 6]}, "fit": {"miou": 0.5}}


class TestDense(RecordContract):
    tool = "ws-crf"
    arguments = ("-j1",)
    kinds = ("label", "image", "tags")


# -- a scene --------------------------------------------------------------------------------


def scene(seed: int = 0, size: tuple[int, int] = (48, 64), noise: float = 1.6):
    """Truth, a photo with clear edges, and noisy probabilities of three classes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size[0], :size[1]] * np.array([48 / size[0], 64 / size[1]])[:, None, None]
    truth = np.zeros(size, np.uint8)
    truth[(y - 20) ** 2 + (x - 18) ** 2 < 180] = 1
    truth[(22 <= y) & (y < 42) & (36 <= x) & (x < 58)] = 2
    colour = np.array([[60, 70, 80], [200, 90, 40], [50, 170, 210]])
    photo = (colour[truth] + rng.integers(-6, 7, (*size, 3))).astype(np.uint8)
    logits = 2 * np.eye(3)[truth].transpose(2, 0, 1) + noise * rng.normal(size=(3, *size))
    prob = np.exp(logits)
    return truth, photo, (prob / prob.sum(axis=0)).astype(np.float32)


def score(data, classes=None, size=None) -> ScoreMap:
    data = np.asarray(data)
    return ScoreMap(data, np.arange(len(data)) if classes is None else np.array(classes),
                    tuple(size or data.shape[1:]))


def record(**kinds) -> Record:
    result = Record("one", names=kinds.pop("names", CLASSES))
    for kind, value in kinds.items():
        result.set(kind, value)
    return result


def put(path: Path, names=CLASSES, **kinds) -> str:
    return write_place(path, [record(**kinds)], kinds=sorted(kinds), classes=names)


@pytest.fixture
def refined(tmp_path, capfd):
    """Run the tool in this process on one record; give the record it makes, or its complaint."""
    def run_it(*options: str, code: int = ExitStatus.OK, names=CLASSES, **kinds):
        source = put(tmp_path / "source.tar", names=names, **kinds)
        out = str(tmp_path / "refined")
        found = run_here(crf.main, [source, *map(str, options), "-j1", "-o", out, "--overwrite"])
        said = capfd.readouterr().err.splitlines()
        Path(source).unlink()
        assert found == code, said
        if code:
            assert len(said) == 1, said
            return said[0]
        return open_source(out).get("one")
    return run_it


@pytest.fixture
def here(capfd):
    """Run ws-crf in this process; return the lines it said."""
    def run_it(*words, code: int = ExitStatus.OK) -> list[str]:
        found = run_here(crf.main, ["-j1", *map(str, words)])
        said = capfd.readouterr().err.splitlines()
        assert found == code, said
        return said
    return run_it


def last_entry(tmp_path) -> dict:
    return open_source(str(tmp_path / "refined")).header.history[-1]


def settings(method: str = "dense", **changes) -> _refining.Settings:
    return _refining.resolve_engine(_refining.Settings(
        method, _refining.resolve(method, None, {})[1], **changes))[0]


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


# -- parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize("name, method, values", [
    # authors' script: w 4, xy 49, rgb 5; Gaussian 3, 3; 10 iterations
    ("wssl", "dense", dict(rgb_weight=4, xy_sigma=49, rgb_sigma=5, gauss_weight=3,
                           gauss_sigma=3, iterations=10)),
    ("deeplab", "dense", dict(rgb_weight=4, xy_sigma=67, rgb_sigma=3, gauss_weight=3,
                              gauss_sigma=3, iterations=10)),
    ("dsrg", "dense", dict(rgb_weight=10, xy_sigma=80, rgb_sigma=13, gauss_weight=3,
                           gauss_sigma=3, iterations=10)),
    # w1 3, sigma_alpha 30, sigma_beta 5, w2 5, sigma_gamma 2
    ("scribbles-dense", "dense", dict(rgb_weight=3, xy_sigma=30, rgb_sigma=5, gauss_weight=5,
                                      gauss_sigma=2, iterations=10)),
    ("scribbles-potts", "potts", dict(weight=10, edge=.01)),
    ("scribbles-potts-global", "potts", dict(weight=50, edge=.01)),
])
def test_presets_are_the_papers(refined, tmp_path, name, method, values):
    _, photo, prob = scene(size=(8, 9))
    refined("--preset", name, score=score(prob), image=photo)
    told = last_entry(tmp_path)["parameters"]
    assert (told["preset"], told["method"]) == (name, method)
    assert {k: told["parameters"][k] for k in values} == values
    assert set(told["parameters"]) == _refining.names(method)
    line = next(i for i in crf.main.help.splitlines() if i.split()[:2] == [name, method])
    words = line.replace(",", " ").replace(";", " ").split()[2:]
    numbers = [float(w) for w in words if w.replace(".", "").isdigit()]
    order = (("xy_sigma", "rgb_sigma", "rgb_weight", "gauss_sigma", "gauss_weight")
             if method == "dense" else ("weight", "edge"))
    assert numbers[:len(order)] == [values[k] for k in order]


@pytest.mark.parametrize("method, field, given", [
    ("dense", "iterations", 3), ("dense", "gauss_weight", 1.5), ("dense", "gauss_sigma", 2.5),
    ("dense", "rgb_weight", 7), ("dense", "xy_sigma", 21), ("dense", "rgb_sigma", 11),
    ("dense", "confidence", .6), ("potts", "weight", 4), ("potts", "edge", .05),
    ("potts", "tolerance", .1), ("potts", "iterations", 40), ("potts", "background_power", 2)])
def test_every_parameter_can_be_overridden(refined, tmp_path, monkeypatch, method, field, given):
    seen: dict = {}

    def dense(prob, image, parameters, **_):
        seen.update(vars(parameters), top=prob.max())
        return prob

    def total_variation(prob, image, **values):
        seen.update(values, top=prob.max())
        return potts.Result(prob, None, 0, 0, 0, 0, 0, "")

    monkeypatch.setattr(densecrf, "dense_crf", dense)
    monkeypatch.setattr(potts, "potts", total_variation)
    truth, photo, prob = scene(size=(30, 40))
    kinds = {"cam": score(.5 * prob[1:], [1, 2])} if field == "background_power" \
        else {"label": truth}
    preset = _refining.presets()[_refining.DEFAULT_PRESET[method]].parameters
    refined("--method", method, **kinds, image=photo)
    before = dict(seen)
    refined("--method", method, f"--{field.replace('_', '-')}", given, **kinds, image=photo)
    assert last_entry(tmp_path)["parameters"]["parameters"] == {**preset, field: given}
    inner = _refining.PARAMETERS[method].get(field, "top")
    assert {k for k in seen if seen[k] != before[k]} == {inner}
    if inner != "top":
        assert seen[inner] == given
        assert before[inner] == preset[field]


@pytest.mark.parametrize("method", ["dense", "potts"])
def test_all_parameters_are_printed_when_asked(here, tmp_path, method):
    source = write_place(tmp_path / "a", [make_record(0, "label", "image")],
                         kinds=["image", "label"])
    said = here(source, "-v", "--method", method, "-o", tmp_path / "o")
    line = next(i for i in said if i.startswith(f"ws-crf: {method} ("))
    for name in _refining.names(method):
        assert f" {name} " in line
    assert here(source, "--method", method, "-o", tmp_path / "p") == []


def test_lengths_are_scaled_with_the_photo(monkeypatch):
    seen = []
    monkeypatch.setattr(densecrf, "dense_crf", lambda p, i, parameters, **_: (
        seen.append(parameters) or p))
    monkeypatch.setattr(potts, "potts", lambda p, i, **values: (
        seen.append(values) or potts.Result(p, None, 0, 0, 0, 0, 0, "")))
    _, photo, prob = scene(size=(40, 50))
    for method in ("dense", "potts"):
        for relative in (None, 500, 25):
            _refining.regularise(prob, photo, settings(method, relative=relative))
    plain, small, large = seen[:3]
    assert plain == densecrf.PRESETS["deeplab"]
    assert small.gauss_features + small.rgb_features == pytest.approx(
        (.3, .3, 6.7, 6.7, 3, 3, 3))
    assert large.gauss_features + large.rgb_features == pytest.approx((6, 6, 134, 134, 3, 3, 3))
    assert {(p.gauss_weight, p.rgb_weight, p.iterations) for p in seen[:3]} == {(3, 4, 10)}
    plain, small, large = seen[3:]
    assert (small["weight"], large["weight"]) == (plain["weight"] / 10, plain["weight"] * 2)
    assert small | {"weight": 0} == large | {"weight": 0} == plain | {"weight": 0}


@pytest.mark.parametrize("method, options", [("dense", ("--xy-sigma=3", "--rgb-sigma=20")),
                                             ("potts", ("--weight=1", "--edge=.02"))])
def test_a_photo_of_twice_the_size_gives_the_same_masks(refined, method, options):
    _, photo, prob = scene(noise=2)
    photo = photo // 4 + 90  # edges that do not settle everything
    small = {"score": score(prob), "image": photo}
    large = {"score": score(prob.repeat(2, axis=1).repeat(2, axis=2)),
             "image": photo.repeat(2, axis=0).repeat(2, axis=1)}

    def go(kinds, *more):
        return refined("--method", method, *options, *more, **kinds).get("label")

    one = go(small, "--relative=64")
    assert (one == go(small)).all()  # 64 is its own size
    one = one.repeat(2, axis=0).repeat(2, axis=1)
    scaled, unscaled = go(large, "--relative=64"), go(large)
    assert (one != scaled).mean() < 0.01
    assert 2 * (one != scaled).mean() < (one != unscaled).mean()


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


# -- fitted presets, history --------------------------------------------------------------------


def test_a_fitted_preset_is_its_options_and_its_masks_are_priced(here, tmp_path):
    source = write_place(tmp_path / "a", [make_record(i, "label", "image", "boxes")
                                          for i in range(3)], kinds=["boxes", "image", "label"])
    (tmp_path / "fitted.json").write_text(json.dumps(FITTED))
    options = [w for k, v in FITTED["parameters"].items() for w in (f"--{k.replace('_', '-')}", v)]
    here(source, "--preset", tmp_path / "fitted.json", "-o", tmp_path / "b")
    here(source, *options, "-o", tmp_path / "c")
    maps = [{n: d for n, d in tree(tmp_path / p).items() if not n.startswith("__")} for p in "bc"]
    assert maps[0] == maps[1]
    assert open_source(str(tmp_path / "b")).header.supervision == {"masks": (3, 6, 6)}
    assert open_source(str(tmp_path / "c")).header.supervision == {}
    cost = json.loads(run(["ws-budget", "cost", tmp_path / "b", "--json"]).stdout)
    rows = {row["supervision"]: row["images"] for row in cost["rows"]}
    assert (rows["boxes"], rows["masks"]) == (3, 3)
    here(tmp_path / "b", "--images", source, "--rgb-sigma", "7", "--preset",
         tmp_path / "fitted.json", "-o", tmp_path / "d")
    entry = open_source(str(tmp_path / "d")).header.history[-1]
    assert entry["parameters"]["parameters"] == FITTED["parameters"] | {"rgb_sigma": 7}


def test_equal_runs_give_equal_bytes_wherever_their_files_lie(tmp_path):
    for name in ("first", "second/deeper"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        write_place(folder / "maps", [make_record(i, "label") for i in range(2)], kinds=["label"])
        write_place(folder / "photos", [make_record(i, "image") for i in range(2)],
                    kinds=["image"])
        (folder / "fitted.json").write_text(json.dumps(FITTED))
        assert run_here(crf.main, [
            str(folder / "maps"), "--images", str(folder / "photos"), "--preset",
            str(folder / "fitted.json"), "-o", str(folder / "out")]) == 0
    first, second = tree(tmp_path / "first/out"), tree(tmp_path / "second/deeper/out")
    assert first == second
    assert not any(str(tmp_path).encode() in d for d in first.values())
    entry = open_source(str(tmp_path / "first/out")).header.history[-1]
    assert entry["arguments"] == ["--preset", "fitted.json"]
    assert "engine" not in entry["parameters"]


@pytest.mark.parametrize("content, said", [
    (None, "no preset 'fitted.json' (there are wssl, deeplab"),
    ("not JSON", "is no preset that ws-fit wrote"),
    ("[1]", "is no preset that ws-fit wrote"),
    ("{}", "is no preset that ws-fit wrote"),
    ({"parameters": {"xy_sigma": 3}}, "is a preset for something else"),
    ({"tool": "ws-boxfill"}, "is a preset for something else"),
    ({"method": "snake"}, "is a preset for something else"),
    ({"parameters": FITTED["parameters"] | {"rgb_sigma": 0}}, "rgb-sigma 0: must be above 0"),
    ({"parameters": FITTED["parameters"] | {"iterations": 2.5}}, "must be a whole number"),
    ({"parameters": FITTED["parameters"] | {"confidence": "high"}}, "is no preset that"),
    ({"supervision": {"masks": "many"}}, "is no preset that ws-fit wrote"),
    ('{"method": NaN}', "is no preset that ws-fit wrote"),
])
def test_a_wrong_preset_file_is_a_usage_error(refined, tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("fitted.json").write_text(content if isinstance(content, str)
                                       else json.dumps(FITTED | content))
    assert said in refined("--preset", "fitted.json", code=ExitStatus.USAGE, label=np.zeros(
        (3, 3), np.uint8), image=np.zeros((3, 3, 3), np.uint8))


@pytest.mark.parametrize("options, said", [
    (["--method=potts", "--preset=wssl"], "preset wssl is for --method dense"),
    (["--method=dense", "--preset=scribbles-potts"], "preset scribbles-potts is for --method pot"),
    (["--weight=3"], "--weight is no parameter of --method dense"),
    (["--tolerance=.1", "--preset=dsrg"], "--tolerance is no parameter of --method dense"),
    (["--rgb-sigma=3", "--method=potts"], "--rgb-sigma is no parameter of --method potts"),
    (["--rgb-sigma=nan"], "--rgb-sigma nan: must be finite"),
    (["--rgb-weight=inf"], "--rgb-weight inf: must be finite"),
    (["--relative=nan"], "--relative nan: must be finite"),
    (["--min-prob=nan"], "--min-prob nan: must be finite"),
    (["--method=potts", "--iterations=0"], "--iterations 0: must be above 0"),
    (["--rgb-sigma=0"], "rgb-sigma"),
    (["--confidence=1.5"], "confidence"),
])
def test_parameters_that_cannot_be_are_usage_errors(refined, options, said):
    assert said in refined(*options, code=ExitStatus.USAGE, label=np.zeros((3, 3), np.uint8),
                           image=np.zeros((3, 3, 3), np.uint8))


# -- what goes wrong ---------------------------------------------------------------------------


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
