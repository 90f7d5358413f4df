"""ws-fit as its users run it, on scenes where the best parameters are known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_crf import scene, score
from tests.cli_contract import ToolContract
from tests.conftest import CLASSES, ROOT, command, complaint, make_record, run, tree, write_place
from wsseg.cli import _fitting, _refining, crf, fit
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus, WssegError
from wsseg.io.places import open_source
from wsseg.io.record import Record

GRID = ("--method", "potts", "--vary", "weight=0,2,3000", "--vary", "edge=.01,.05")


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


def scenes(folder: Path, *numbers: int, size=(24, 32)) -> tuple[str, str]:
    """Noisy score maps with photos, and their truth."""
    maps, truths = [], []
    for i in numbers:
        truth, photo, prob = scene(i, size=size)
        maps.append(Record(f"img{i:03d}"))
        maps[-1].set("score", score(prob))
        maps[-1].set("image", photo)
        maps[-1].set("boxes", make_record(i, "boxes").get("boxes"))
        maps[-1].supervision["boxes"] = (2, 2)
        truths.append(Record(maps[-1].key))
        truths[-1].set("label", truth)
    return (write_place(folder / "maps", maps, kinds=["boxes", "image", "score"]),
            write_place(folder / "truth", truths, kinds=["label"]))


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, str]:
    return scenes(tmp_path, *range(4))


@pytest.fixture
def fitted(tmp_path, places, capfd):
    """Run the tool in this process; give the preset and what it said, or its complaint."""
    def run_it(*options, code=ExitStatus.OK, inputs=places, out="fitted.json", jobs=1):
        line = [*inputs, *map(str, options), f"-j{jobs}", "-o", str(tmp_path / out)]
        found = run_here(fit.main, line)
        told = capfd.readouterr()
        assert found == code, told.err
        if code in (ExitStatus.OK, ExitStatus.SOME_FAILED):
            return json.loads((tmp_path / out).read_text()), told
        assert told.err.count("\n") == 1, told.err
        assert told.out == ""
        return told.err
    return run_it


def miou(maps, truths) -> float:
    """Mean intersection over union, counted plainly."""
    pairs = [(t.get("label"), maps.get(t.key).get("label")) for t in truths]
    ious = []
    for cls in range(len(CLASSES)):
        both = sum(int(((t == cls) & (p == cls)).sum()) for t, p in pairs)
        either = sum(int((((t == cls) | (p == cls)) & (t != 255)).sum()) for t, p in pairs)
        ious += [both / either] if either else []
    return float(np.mean(ious))


def by_hand(tmp_path, maps, truth, *options) -> float:
    out = str(tmp_path / "by_hand")
    assert run_here(crf.main, [maps, *options, "-j1", "--overwrite", "-o", out]) == ExitStatus.OK
    return miou(open_source(out), open_source(truth))


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
    assert preset["supervision"] == {"masks": [3, 6, 6]}  # the boxes are counted with the maps
    assert run_here(crf.main, [places[0], "--preset", str(tmp_path / "fitted.json"), "-o",
                               str(tmp_path / "refined")]) == ExitStatus.OK
    header = open_source(str(tmp_path / "refined")).header
    assert header.supervision == {"masks": (3, 6, 6)}
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
    axes = _fitting.parse_axes((), "dense")
    assert axes == {"rgb_weight": [3, 5, 7, 9, 11], "rgb_sigma": [5, 10],
                    "xy_sigma": [35, 40, 45, 50, 55, 60, 65]}
    assert set(_fitting.parse_axes((), "potts")) == {"weight", "edge"}


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
    assert (value["miou"], value["supervision"]) == (preset["fit"]["miou"], preset["supervision"])


def test_jobs_do_not_change_the_result(fitted, tmp_path):
    told = [fitted(*GRID, "--json", jobs=jobs, out=f"j{jobs}.json")[1].out for jobs in (1, 2)]
    assert told[0] == told[1]
    assert (tmp_path / "j1.json").read_bytes() == (tmp_path / "j2.json").read_bytes()


# -- which images ------------------------------------------------------------------------------


@pytest.fixture
def scored(monkeypatch) -> list[str]:
    """Keys of the records that are scored, in order, without the work."""
    keys: list[str] = []

    def score_points(pair, *, points, settings, names):
        keys.append(pair.key)
        return pair.key, np.ones((len(points), len(names), len(names) + 1), np.int64), (1, 1)

    monkeypatch.setattr(_fitting, "score_points", score_points)
    return keys


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
    assert preset["supervision"] == {"masks": [3, 6, 6]}
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


# -- going on ----------------------------------------------------------------------------------


def test_a_killed_search_goes_on_to_the_same_bytes_and_scores_no_point_twice(tmp_path):
    maps, truth = scenes(tmp_path, 0, 1, size=(90, 120))
    line = ["ws-fit", maps, truth, "--vary", "rgb-sigma=3,4,5,6,7,8,9,10", "--vary",
            "xy-sigma=20,30,40", "-j1", "-v"]
    log = tmp_path / "part.json.part"
    words = [*command(line[0]), *line[1:], "-o", str(tmp_path / "part.json")]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    until = time.monotonic() + 60
    while time.monotonic() < until and not (log.exists() and log.read_bytes().count(b"\n") >= 10):
        time.sleep(.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "part.json").exists()
    lines = log.read_text().splitlines()
    known = len(lines) - 2
    assert known in (8, 16)
    done = run([*line, "-o", tmp_path / "part.json"], code=ExitStatus.USAGE)
    assert "exists: add --overwrite or --resume" in done.stderr.decode()
    done = run([*line, "-o", tmp_path / "part.json", "--resume"])
    assert f"{24 - known} of {24 - known} points" in done.stderr.decode()
    whole = run([*line, "-o", tmp_path / "whole.json"])
    assert "24 of 24 points" in whole.stderr.decode()
    assert (tmp_path / "part.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert done.stdout.splitlines()[:-1] == whole.stdout.splitlines()[:-1]
    assert sorted(p.name for p in tmp_path.glob("*.json*")) == ["part.json", "whole.json"]


def interrupted(fitted, tmp_path, monkeypatch, *options, passes=2) -> Path:
    """Leave the log of a search that stopped after some passes of two points."""
    monkeypatch.setattr(_fitting, "_PASS", 2)
    real, left = _fitting.Fit._one_pass, [passes]

    def one_pass(self, points):
        if not left[0]:
            raise WssegError("stopped here")
        left[0] -= 1
        return real(self, points)

    with monkeypatch.context() as patch:
        patch.setattr(_fitting.Fit, "_one_pass", one_pass)
        assert "stopped here" in fitted(*options, code=ExitStatus.FAILED)
    return tmp_path / "fitted.json.part"


@pytest.mark.parametrize("search", ["grid", "coordinate"])
def test_a_log_cut_anywhere_gives_the_same_result(fitted, tmp_path, monkeypatch, search):
    options = (*GRID, "--search", search)
    fitted(*options, out="whole.json")
    whole = (tmp_path / "whole.json").read_bytes()
    log = interrupted(fitted, tmp_path, monkeypatch, *options)
    data = log.read_bytes()
    assert data.count(b"\n") >= 5
    for cut in (len(data), len(data) - 1, len(data) - 9, data.index(b"}") - 3,
                data.index(b"}") + 2, 17):
        log.write_bytes(data[:cut])
        fitted(*options, "--resume")
        assert (tmp_path / "fitted.json").read_bytes() == whole
        (tmp_path / "fitted.json").unlink()
        assert not log.exists()


def test_another_search_is_not_gone_on_with(fitted, tmp_path, monkeypatch, places):
    log = interrupted(fitted, tmp_path, monkeypatch, *GRID)
    (tmp_path / "x").mkdir()
    other = scenes(tmp_path / "x", *range(4, 8))[1]
    shifted = write_place(tmp_path / "shifted", [
        _with_label(r, np.roll(r.get("label"), 1)) for r in open_source(places[1])],
        kinds=["label"])
    before = log.read_bytes()
    for options, inputs in (
            ((*GRID, "--vary", "tolerance=.1"), places), (GRID[:-2], places),
            ((*GRID, "--search=coordinate"), places), ((*GRID, "--relative=90"), places),
            ((*GRID, "--preset=scribbles-potts-global"), places), ((*GRID, "--count=2"), places),
            (GRID, (places[0], shifted)), ((*GRID, "--images", places[0]), places),
            ((*GRID, "--shard=1/2"), places), ((*GRID, "--use=score"), places)):
        said = fitted(*options, "--resume", inputs=inputs, code=ExitStatus.USAGE)
        assert "belongs to another search" in said
    assert "no key" in fitted(*GRID, "--resume", inputs=(places[0], other), code=ExitStatus.USAGE)
    assert log.read_bytes() == before
    lines = before.decode().splitlines()
    for wrong in (["{}"], ["[]"], [lines[1], "half a line"], [lines[1], "1.0 weight"]):
        log.write_text("\n".join([lines[0], *wrong]) + "\n")
        assert "is damaged" in fitted(*GRID, "--resume", code=ExitStatus.USAGE)
    log.write_bytes(b"\xff\xfe\n")
    assert "another search" in fitted(*GRID, "--resume", code=ExitStatus.USAGE)
    fitted(*GRID, "--overwrite")
    assert not log.exists()


def _with_label(record: Record, label: np.ndarray) -> Record:
    result = Record(record.key)
    result.set("label", label)
    return result


def test_a_finished_search_is_not_repeated(fitted, tmp_path, scored, monkeypatch):
    _, first = fitted(*GRID, "--json")
    before = tree(tmp_path)
    scored.clear()
    said = fitted(*GRID, code=ExitStatus.USAGE)
    assert "exists: add --overwrite or --resume" in said
    _, again = fitted(*GRID, "--json", "--resume")
    assert (again.out, scored) == (first.out, [])
    said = fitted(*GRID, "--vary=tolerance=.1", "--resume", code=ExitStatus.USAGE)
    assert "is of another search" in said
    assert tree(tmp_path) == before
    preset = json.loads((tmp_path / "fitted.json").read_text())
    (tmp_path / "fitted.json").write_text(json.dumps(preset | {"fit": 3}))
    assert "is of another search" in fitted(*GRID, "--resume", code=ExitStatus.USAGE)
    (tmp_path / "fitted.json").write_text("{}")
    said = fitted(*GRID, "--resume", code=ExitStatus.USAGE)
    assert "is no preset that ws-fit wrote" in said


# -- what goes wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize("options, said", [
    (["--vary", "rgb-sigma=0"], "--vary rgb-sigma 0: must be above 0"),
    (["--vary", "rgb-weight=nan"], "must be finite"),
    (["--vary", "rgb-weight=-1"], "must be finite and not negative"),
    (["--vary", "iterations=2.5"], "must be a whole number"),
    (["--vary", "confidence=2"], "must be at most 1"),
    (["--vary", "weight=2"], "--method dense has background_power, confidence"),
    (["--vary", "rgb-sigma"], "is not NAME=NUMBER,NUMBER,..."),
    (["--vary", "rgb-sigma=3,x"], "is not NAME=NUMBER,NUMBER,..."),
    (["--vary", "rgb-sigma=3", "--vary", "rgb_sigma=4"], "--vary rgb_sigma is there twice"),
    (["--method=potts", "--preset=wssl"], "preset wssl is for --method dense"),
    (["--relative=nan"], "--relative nan: must be finite"),
])
def test_searches_that_cannot_be_are_usage_errors(fitted, tmp_path, options, said):
    assert said in fitted(*options, code=ExitStatus.USAGE)
    assert not list(tmp_path.glob("*.json*"))


def test_an_output_that_cannot_be_written_is_said_before_the_work(fitted, tmp_path, scored,
                                                                  places):
    assert "cannot write" in fitted(*GRID, out="none/fitted.json", code=ExitStatus.FAILED)
    assert "Is a directory" in fitted(*GRID, out="maps", code=ExitStatus.USAGE) \
        or "is a directory" in fitted(*GRID, out="maps", code=ExitStatus.USAGE)
    (tmp_path / "link.json").symlink_to(tmp_path / "victim")
    assert "symbolic link" in fitted(*GRID, "--overwrite", out="link.json",
                                     code=ExitStatus.UNSAFE)
    run(["ws-cat", places[0], "-o", tmp_path / "maps.h5"])
    run(["ws-cat", places[1], "-o", tmp_path / "truth.h5"])
    inputs = (str(tmp_path / "maps.h5"), str(tmp_path / "truth.h5"))
    before = tree(tmp_path)
    for out in ("maps.h5", "truth.h5"):
        assert "is also an input" in fitted(*GRID, "--overwrite", inputs=inputs, out=out,
                                            code=ExitStatus.USAGE)
    assert run_here(fit.main, [*places, *GRID, "-o", "-"]) == ExitStatus.USAGE
    assert tree(tmp_path) == before and scored == []
    fitted(*GRID, inputs=inputs)
    assert scored == [f"img00{i}" for i in range(4)]


def test_truth_without_a_labelled_pixel_scores_nothing(fitted, tmp_path):
    records = [make_record(i, "label", "image") for i in range(2)]
    maps = write_place(tmp_path / "a", records, kinds=["image", "label"])
    void = write_place(tmp_path / "b", [_with_label(r, np.full((24, 32), 255, np.uint8))
                                        for r in records], kinds=["label"])
    said = fitted("--vary", "rgb-sigma=3,5", inputs=(maps, void), code=ExitStatus.FAILED)
    assert "are all 255" in said


def test_truth_that_does_not_fit_is_named(fitted, tmp_path, places):
    source = open_source(places[1])
    small = write_place(tmp_path / "small", [_with_label(r, r.get("label")[1:]) for r in source],
                        kinds=["label"])
    said = fitted(*GRID, inputs=(places[0], small), code=ExitStatus.FAILED)
    assert "img000: shapes differ: truth (23, 32), prediction (24, 32)" in said
    wrong = write_place(tmp_path / "wrong", [_with_label(r, r.get("label") + 7) for r in source],
                        kinds=["label"])
    said = fitted(*GRID, inputs=(places[0], wrong), out="b.json", code=ExitStatus.FAILED)
    assert "img000: truth has pixels of value 9, but there are 3 classes" in said
    nameless = [write_place(tmp_path / n, [make_record(0, "label", "image")], classes=None,
                            kinds=["image", "label"]) for n in ("n", "m")]
    said = fitted(*GRID, inputs=nameless, out="c.json", code=ExitStatus.USAGE)
    assert "--classes" in said


def test_classes_beyond_a_byte_are_not_taken_for_others(fitted, tmp_path):
    names = tuple(["background", *(f"c{i}" for i in range(1, 400))])
    truth, photo, prob = scene(0, size=(24, 32))
    one, strong = Record("one"), Record("one")
    one.set("score", score(prob, [0, 1, 256 + 2]))  # 258 is 2 in a byte
    one.set("image", photo)
    strong.set("label", truth)  # stored in bytes
    inputs = (write_place(tmp_path / "a", [one], kinds=["image", "score"], classes=names),
              write_place(tmp_path / "b", [strong], kinds=["label"], classes=names))
    preset, _ = fitted("--vary", "rgb-sigma=3,5", inputs=inputs)
    assert preset["fit"]["miou"] < 2 / 3 + .01
