"""The parameters of ws-crf: presets of the papers, fitted ones, options, and their history."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.crf_cases import scene, score, settings
from tests.conftest import make_record, run, tree, write_place
from wsseg.cli import _refining, crf
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.places import open_source
from wsseg.refine import densecrf, potts

FITTED = {"tool": "ws-crf", "version": "0", "method": "dense",
          "parameters": {"iterations": 4, "gauss_weight": 2.0, "gauss_sigma": 1.5,
                         "rgb_weight": 6.0, "xy_sigma": 21.0, "rgb_sigma": 9.0,
                         "confidence": 0.8, "background_power": 1.0},
          "supervision": {"masks": [3, 6, 6]}, "fit": {"miou": 0.5}}


def last_entry(tmp_path) -> dict:
    return open_source(str(tmp_path / "refined")).header.history[-1]


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
    ({"supervision": {"masks": [-5, 0, 0]}}, "is no preset that ws-fit wrote"),
    ({"supervision": {"masks@zz": [1, 1, 1]}}, "is no preset that ws-fit wrote"),
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
