"""ws-fit for ws-boxfill --method seg: alpha and the dense CRF, by a few masks."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from tests.annotate.test_grabcut import scene
from tests.cli.boxfilling import boxed
from tests.cli.fits import miou, runner
from tests.cli.test_info import info
from tests.conftest import write_place
from wsseg.annotate.objects import tight_boxes
from wsseg.cli import _boxseg, _fit_tasks, boxfill
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.places import open_source
from wsseg.io.record import Record

VARY = ("--method", "seg", "--vary", "alpha=.1,.9", "--vary", "xy-sigma=5,49",
        "--vary", "rgb-weight=1,4")


@pytest.fixture
def places(tmp_path) -> tuple[str, str]:
    """Discs in their boxes with photos, and their masks."""
    boxes, truths = [], []
    for i, (centre, radius) in enumerate([((50, 40), 25), ((45, 35), 20), ((60, 42), 30)]):
        photo, mask = scene((80, 110), centre, radius)
        boxes.append(boxed(tight_boxes(mask.astype(int), np.array([1])), [1], key=f"d{i}",
                           size=mask.shape, image=photo))
        boxes[-1].supervision["boxes"] = (1, 1)
        truths.append(Record(f"d{i}"))
        truths[-1].set("label", mask.astype(np.uint8))
    return (write_place(tmp_path / "boxes", boxes, kinds=["boxes", "image"]),
            write_place(tmp_path / "truth", truths, kinds=["label"]))


@pytest.fixture
def fitted(tmp_path, places, capfd):
    return runner(tmp_path, places, capfd)


@pytest.fixture
def fill(tmp_path):
    """Run ws-boxfill --method seg with some options; give where it wrote."""
    def run_it(place, *options, code=ExitStatus.OK) -> str:
        out = str(tmp_path / "filled")
        line = [place, "--method", "seg", *map(str, options), "-j1", "--overwrite", "-o", out]
        assert run_here(boxfill.main, line) == code
        return out
    return run_it


def preset(tmp_path, **changes) -> str:
    """A preset file as ws-fit would write it."""
    value = {"tool": "ws-boxfill", "method": "seg", "supervision": {},
             "parameters": {**_boxseg.load(None).parameters}}
    value["parameters"].update(changes.pop("parameters", {}))
    (tmp_path / "by_hand.json").write_text(json.dumps({**value, **changes}))
    return str(tmp_path / "by_hand.json")


def test_the_best_of_a_grid_is_found_and_read_back(fitted, fill, tmp_path, places):
    found, told = fitted(*VARY)

    assert (found["tool"], found["method"]) == ("ws-boxfill", "seg")
    assert set(found["parameters"]) == _boxseg.names()
    assert len(found["fit"]["points"]) == 8 and "8 points on 3 records" in told.out
    truth = list(open_source(places[1]))
    every = {}
    for alpha, xy, weight in product((.1, .9), (5, 49), (1, 4)):
        path = preset(tmp_path, parameters={"alpha": alpha, "xy_sigma": xy, "rgb_weight": weight})
        every[alpha, xy, weight] = miou(open_source(fill(places[0], "--preset", path)), truth)
    assert max(every.values()) > min(every.values()) + .02
    best = {k: found["parameters"][k] for k in ("alpha", "xy_sigma", "rgb_weight")}
    assert every[tuple(best.values())] == max(every.values())
    # ws-fit counts the class that no image has nowhere, as miou here does
    assert found["fit"]["miou"] == pytest.approx(max(every.values()), abs=1e-6)
    again = fill(places[0], "--preset", tmp_path / "fitted.json")
    assert miou(open_source(again), truth) == max(every.values())


def test_the_masks_used_are_the_supervision_of_what_is_filled(fitted, fill, tmp_path, places):
    fitted(*VARY[:4], "--count", 2)

    facts = info(fill(places[0], "--preset", tmp_path / "fitted.json"))

    assert facts["supervision"] == {"boxes": [3, 3, 3], "masks": [2, 2, 2]}
    history = facts["history"][-1]
    assert history["parameters"]["preset"] == "fitted.json"
    assert history["parameters"]["alpha"] in (.1, .9)


def test_alpha_goes_over_that_of_the_preset(fill, tmp_path, places):
    path = preset(tmp_path, parameters={"alpha": .6})
    used = [info(fill(places[0], "--preset", path, *words))["history"][-1]["parameters"]["alpha"]
            for words in ((), ("--alpha", ".3"))]
    assert used == [.6, .3]
    assert info(fill(places[0]))["history"][-1]["parameters"]["alpha"] == .2


def test_a_search_goes_on_to_the_same_preset(fitted, tmp_path):
    fitted(*VARY, "--search", "coordinate")
    before = (tmp_path / "fitted.json").read_bytes()
    fitted(*VARY, "--search", "coordinate", "--resume")
    assert (tmp_path / "fitted.json").read_bytes() == before
    said = fitted(*VARY[:4], "--resume", code=ExitStatus.USAGE)
    assert "is of another search" in said


def test_a_search_begins_at_a_fitted_preset(fitted, tmp_path):
    path = preset(tmp_path, parameters={"alpha": .45, "rgb_sigma": 7})
    found, _ = fitted(*VARY[:2], "--vary", "gauss-weight=1,3", "--preset", path)
    assert (found["parameters"]["alpha"], found["parameters"]["rgb_sigma"]) == (.45, 7)


def test_the_grid_of_the_paper_is_the_default():
    axes = _fit_tasks.parse_axes((), "seg")
    assert axes == {"alpha": [.2, .4, .6, .8], **_fit_tasks.parse_axes((), "dense")}


@pytest.mark.parametrize("options, said", [
    (["--vary", "alpha=1.5"], "--vary alpha 1.5: must lie between 0 and 1"),
    (["--vary", "rgb-sigma=0"], "--vary rgb-sigma 0: must be above 0"),
    (["--vary", "confidence=.5"], "--method seg has alpha, gauss_sigma"),
    (["--preset", "scribbles-potts"], "seg has a dense CRF"),
    (["--preset", "nothing"], "no preset 'nothing'"),
    (["--use", "label"], "--use is for ws-crf"),
    (["--relative", "500"], "--relative is for ws-crf")])
def test_searches_that_cannot_be_are_usage_errors(fitted, options, said):
    assert said in fitted("--method", "seg", *options, code=ExitStatus.USAGE)


@pytest.mark.parametrize("changes, said", [
    ({"parameters": {"alpha": 2}}, "alpha 2: must lie between 0 and 1"),
    ({"parameters": {"beta": 2}}, "is a preset for something else"),
    ({"method": "potts"}, "is a preset for something else"),
    ({"tool": "ws-cat"}, "is a preset for something else"),
    ({"supervision": 7}, "is no preset that ws-fit wrote")])
def test_presets_that_cannot_be_are_usage_errors(fill, tmp_path, places, capfd, changes, said):
    fill(places[0], "--preset", preset(tmp_path, **changes), code=ExitStatus.USAGE)
    assert said in capfd.readouterr().err


def test_a_preset_of_ws_crf_serves_with_the_usual_alpha(fill, tmp_path, places):
    from wsseg.cli import _refining

    parameters = {**_refining.presets()["wssl"].parameters, "rgb_sigma": 8.0}
    (tmp_path / "crf.json").write_text(json.dumps(
        {"tool": "ws-crf", "method": "dense", "parameters": parameters, "supervision": {}}))
    used = info(fill(places[0], "--preset", tmp_path / "crf.json"))["history"][-1]["parameters"]
    assert used["alpha"] == .2 and used["crf"]["rgb_sigma"] == 8
    assert set(used["crf"]) == set(_refining.PARAMETERS["dense"])
