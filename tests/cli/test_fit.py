"""ws-fit as its users run it, on scenes where the best parameters are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.fits import GRID, by_hand
from tests.cli_contract import ToolContract
from tests.conftest import complaint, make_record, run, tree, write_place
from wsseg.cli import _fit_tasks, _fitting, _refining, crf
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.places import open_source
from wsseg.io.supervision import by_kind, named


class TestFit(ToolContract):
    tool = "ws-fit"
    kinds = ("label", "image")

    @pytest.fixture
    def source(self, tmp_path: Path) -> str:
        return write_place(tmp_path / "maps", [make_record(i, *self.kinds) for i in range(6)],
                           kinds=self.kinds)

    @pytest.fixture(autouse=True)
    def truth(self, tmp_path: Path) -> None:
        place = write_place(tmp_path / "truth", [make_record(i, "label") for i in range(6)],
                            kinds=["label"])
        self.arguments = (place, "--vary", "rgb-sigma=5,9", "-j2")

    def output(self, folder: Path, name: str = "out") -> list[str]:
        return ["-o", str(folder / f"{name}.json")]

    def test_a_cut_stream_is_incomplete(self, source, tmp_path):
        """It takes no stream at all, whole or cut."""
        data = run(["ws-cat", source]).stdout
        (tmp_path / "maps.tar").write_bytes(data)
        for line, stdin in ((self.line("-"), data), (self.line("-"), data[:-512]),
                            (["ws-fit", source, str(tmp_path / "maps.tar")], b"")):
            done = run([*line, *self.output(tmp_path)], stdin=stdin, code=ExitStatus.USAGE)
            assert "directories or HDF5 files, no streams" in complaint(done)
        assert not list(tmp_path.glob("out*"))


# -- a problem with a known answer -------------------------------------------------------------


@pytest.mark.parametrize("search", ["grid", "coordinate"])
def test_the_best_of_a_grid_is_found(fitted, tmp_path, places, search):
    preset, _ = fitted(*GRID, "--search", search)
    assert (preset["tool"], preset["method"]) == ("ws-crf", "potts")
    assert preset["parameters"]["weight"] == 2
    defaults = _refining.presets()["scribbles-potts"].parameters
    assert preset["parameters"] == {**defaults, **{k: preset["parameters"][k]
                                                   for k in ("weight", "edge")}}
    every = {(w, e): by_hand(tmp_path, *places, "--method=potts", f"--weight={w}", f"--edge={e}")
             for w in (0, 2, 3000) for e in (.01, .05)}
    best = max(every.values())
    assert best > every[0, .01] + .1 and best > every[3000, .01] + .1
    assert preset["fit"]["miou"] == pytest.approx(best, abs=1e-6)
    assert every[2, preset["parameters"]["edge"]] == best
    points = [line.split() for line in preset["fit"]["points"]]
    told = {tuple(float(v.split("=")[1]) for v in p[1:]): float(p[0]) for p in points}
    for key, value in every.items() if search == "grid" else ():
        assert told.pop(key) == pytest.approx(value, abs=1e-12)
    assert search != "grid" or not told
    assert by_hand(tmp_path, *places, "--preset", str(tmp_path / "fitted.json")) == best


def test_the_masks_used_are_the_supervision_of_what_the_preset_refines(fitted, tmp_path, places):
    preset, _ = fitted(*GRID, "--count", 3)
    # the boxes are counted with the maps
    assert list(by_kind(preset["supervision"]).items()) == [("masks", (3, 6, 6))]
    assert run_here(crf.main, [places[0], "--preset", str(tmp_path / "fitted.json"), "-o",
                               str(tmp_path / "refined")]) == ExitStatus.OK
    header = open_source(str(tmp_path / "refined")).header
    assert header.supervision == {k: tuple(v) for k, v in preset["supervision"].items()}
    assert header.history[-1]["parameters"]["parameters"] == preset["parameters"]
    cost = json.loads(run(["ws-budget", "cost", tmp_path / "refined", "--json"]).stdout)
    assert {r["supervision"]: r["images"] for r in cost["rows"]} == {"boxes": 4, "masks": 3}


def test_it_goes_on_from_a_fitted_preset(fitted, tmp_path):
    first, _ = fitted(*GRID)
    second, _ = fitted("--preset", tmp_path / "fitted.json", "--vary", "tolerance=.1,.001",
                       out="second.json")
    assert second["parameters"]["weight"] == 2
    assert len(second["fit"]["points"]) == 2


def test_the_grid_of_the_paper_is_the_default():
    axes = _fit_tasks.parse_axes((), "dense")
    assert axes == {"rgb_weight": [3, 5, 7, 9, 11], "rgb_sigma": [5, 10],
                    "xy_sigma": [35, 40, 45, 50, 55, 60, 65]}
    assert set(_fit_tasks.parse_axes((), "potts")) == {"weight", "edge"}


def test_table_and_json_agree(fitted):
    preset, told = fitted(*GRID)
    head, *rows, last = told.out.splitlines()
    assert head.split() == ["weight", "edge", "mIoU"]
    assert last.startswith("6 points on 4 records; best written to ")
    _, again = fitted(*GRID, "--json", out="again.json")
    value = json.loads(again.out)
    table = [[float(w) for w in row.strip("* ").split()] for row in rows]
    assert [row[2] for row in table] == sorted((row[2] for row in table), reverse=True)
    assert sorted(table) == sorted([p["weight"], p["edge"], round(100 * p["miou"], 2)]
                                   for p in value["points"])
    (marked,) = [row for row in rows if row.startswith("*")]
    assert marked == rows[0]
    assert value["best"] == preset["parameters"]
    assert float(marked.split()[1]) == value["best"]["weight"]
    assert value["miou"] == preset["fit"]["miou"]
    assert value["supervision"] == {"masks": list(*preset["supervision"].values())}


def test_jobs_do_not_change_the_result(fitted, tmp_path):
    told = [fitted(*GRID, "--json", jobs=jobs, out=f"j{jobs}.json")[1].out for jobs in (1, 2)]
    assert told[0] == told[1]
    assert (tmp_path / "j1.json").read_bytes() == (tmp_path / "j2.json").read_bytes()


# -- which images ------------------------------------------------------------------------------


def test_subsets_are_nested_reproducible_and_chosen_by_the_seed(fitted, tmp_path, scored):
    inputs = [write_place(tmp_path / name, [make_record(i, "label", "image") for i in range(20)],
                          kinds=["image", "label"]) for name in ("many", "all")]

    def keys(count, seed=0):
        scored.clear()
        fitted("--vary", "edge=.1", "--method=potts", "--count", count, "--subset-seed", seed,
               "--overwrite", inputs=inputs)
        assert len(scored) == count
        return set(scored)

    assert keys(3) < keys(7) < keys(15) < keys(20)
    assert keys(7) == keys(7)
    assert keys(7) != keys(7, seed=1)
    said = fitted("--count", 21, "--overwrite", inputs=inputs, code=ExitStatus.USAGE)
    assert "--count 21: there are only 20 records" in said


def test_keys_in_only_one_place_are_left_out(fitted, tmp_path, scored):
    maps = write_place(tmp_path / "a", [make_record(i, "label", "image") for i in range(5)],
                       kinds=["image", "label"])
    truth = write_place(tmp_path / "b", [make_record(i, "label") for i in range(3, 9)],
                        kinds=["label"])
    other = write_place(tmp_path / "c", [make_record(i, "label") for i in range(9, 12)],
                        kinds=["label"])
    preset, told = fitted(*GRID, inputs=(maps, truth))
    assert set(scored) == {"img003", "img004"}
    assert preset["fit"]["records"] == 2
    assert told.err == ""
    (tmp_path / "keys").write_text("img004\nimg008\n")
    scored.clear()
    _, told = fitted(*GRID, "--keys", tmp_path / "keys", "--overwrite", inputs=(maps, truth))
    assert set(scored) == {"img004"}
    (line,) = told.err.splitlines()
    assert "img008" in line
    said = fitted(*GRID, inputs=(maps, other), out="none.json", code=ExitStatus.USAGE)
    assert "no key in common" in said


def test_a_bad_record_is_left_out_of_every_pass_and_said_once(fitted, tmp_path, monkeypatch,
                                                              places):
    monkeypatch.setattr(_fitting, "_PASS", 2)
    broken = Path(places[0]) / "img001.score.npz"
    broken.write_bytes(broken.read_bytes()[:-30])
    assert "img001: score" in fitted(*GRID, code=ExitStatus.FAILED)
    preset, told = fitted(*GRID, "--keep-going", "--overwrite", code=ExitStatus.SOME_FAILED)
    first, last = told.err.splitlines()
    assert "img001" in first and "1 records failed" in last
    assert (preset["fit"]["records"], preset["fit"]["failed"]) == (3, 1)
    left = [f"img{i:03d}" for i in (0, 2, 3)]
    assert preset["supervision"] == {named("masks", left): [3, 6, 6]}
    before = tree(tmp_path)
    _, told = fitted(*GRID, "--keep-going", "--resume", code=ExitStatus.SOME_FAILED)
    assert "1 records failed" in told.err
    assert tree(tmp_path) == before


def test_points_are_never_compared_on_different_images(fitted, tmp_path, monkeypatch):
    monkeypatch.setattr(_fitting, "_PASS", 1)
    pairs = [make_record(i, "label", "image") for i in range(2)]
    pairs[0].set("label", np.zeros((24, 32), np.uint8))  # one class: any confidence will do
    maps = write_place(tmp_path / "a", pairs, kinds=["image", "label"])
    options = ("--vary", "confidence=.3,.8", "--keep-going")
    preset, _ = fitted(*options, inputs=(maps, maps), code=ExitStatus.SOME_FAILED)
    assert preset["fit"]["records"] == 1  # left out of both
    monkeypatch.setattr(_fitting, "parse_axes", lambda *_: {"confidence": [.8, .3]})
    said = fitted("--keep-going", inputs=(maps, maps), out="b.json", code=ExitStatus.FAILED)
    assert "img001: label: a confidence of 0.3 does not favour one of 3 classes" in said
