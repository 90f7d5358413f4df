"""ws-fit stopped and gone on with, and asked for what cannot be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.cli.fits import GRID, scenes, with_label
from tests.cli.crf_cases import scene, score
from tests.conftest import ROOT, command, make_record, run, tree, write_place
from wsseg.cli import _fitting, fit
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus, WssegError
from wsseg.io.places import open_source
from wsseg.io.record import Record


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
        with_label(r, np.roll(r.get("label"), 1)) for r in open_source(places[1])],
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
    void = write_place(tmp_path / "b", [with_label(r, np.full((24, 32), 255, np.uint8))
                                        for r in records], kinds=["label"])
    said = fitted("--vary", "rgb-sigma=3,5", inputs=(maps, void), code=ExitStatus.FAILED)
    assert "are all 255" in said


def test_truth_that_does_not_fit_is_named(fitted, tmp_path, places):
    source = open_source(places[1])
    small = write_place(tmp_path / "small", [with_label(r, r.get("label")[1:]) for r in source],
                        kinds=["label"])
    said = fitted(*GRID, inputs=(places[0], small), code=ExitStatus.FAILED)
    assert "img000: shapes differ: truth (23, 32), prediction (24, 32)" in said
    wrong = write_place(tmp_path / "wrong", [with_label(r, r.get("label") + 7) for r in source],
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
