"""The quickstart's annotations agree with each other, and its table with what was measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

HERE = ROOT / "examples" / "quickstart"


def python(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True)


def test_the_annotations_agree_and_a_wrong_point_does_not(tmp_path):
    assert python(HERE / "check.py").stdout == ""
    shutil.copytree(HERE, tmp_path / "copy", ignore=shutil.ignore_patterns("build"))
    path = tmp_path / "copy" / "weak" / "flower.json"
    weak = json.loads(path.read_text("utf-8"))
    point = next(s for s in weak["shapes"] if s["shape_type"] == "point")
    point["points"] = [[2, 2]]
    path.write_text(json.dumps(weak), "utf-8")
    done = python(tmp_path / "copy" / "check.py")
    assert done.returncode == 1 and "is not on its flower" in done.stdout


def test_every_photo_has_every_weak_label():
    for path in sorted((HERE / "weak").glob("*.json")):
        shapes = json.loads(path.read_text("utf-8"))["shapes"]
        assert {s["shape_type"] for s in shapes} == {"rectangle", "linestrip", "point"}, path.name
        drawn = {s["label"] for s in shapes if s["shape_type"] == "linestrip"}
        assert {s["label"] for s in shapes if s["shape_type"] == "point"} == drawn


@pytest.fixture
def build(tmp_path: Path) -> Path:
    for kind, score, seconds in (("points", .5, 8), ("scribbles", .75, 12), ("boxes", .625, 4)):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "scores.json").write_text(json.dumps({"miou": score, "records": 4}))
        (tmp_path / kind / "seconds.txt").write_text(f"{seconds}.000\n")
    prices = [12.0, 18.14, 10.5, 100.0]
    (tmp_path / "cost.json").write_text(json.dumps(
        {"rows": [{"seconds_per_image": p} for p in prices]}))
    return tmp_path


def test_the_summary_puts_scores_seconds_and_prices_in_rows(build):
    done = python(HERE / "summary.py", build, "points", "scribbles", "boxes", "boxes=best")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines[1:]] == ["boxes", "points", "scribbles", "(none)"]
    assert [line[-3:] for line in lines[1:4]] == [["62.5", "1.0", "10.5"], ["50.0", "2.0", "12.0"],
                                                  ["75.0", "3.0", "18.1"]]
    assert lines[4][-1] == "100.0" and "best" in lines[1]
    found = json.loads((build / "summary.json").read_text())
    assert {bar["class"]: bar["iou"] for bar in found["classes"]} == {
        "points": .5, "scribbles": .75, "boxes": .625}
    assert len(found["rows"]) == 4


def test_the_summary_refuses_what_it_does_not_know(build):
    for words in ([build], [build, "tags"], [build, "boxes", "colour=red"]):
        done = python(HERE / "summary.py", *words)
        assert done.returncode == 2 and done.stderr.startswith("usage: ")


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_the_demo_takes_the_same_photos_from_three_kinds_of_labels(tmp_path):
    shutil.copytree(HERE, tmp_path / "copy", ignore=shutil.ignore_patterns("build"))
    done = subprocess.run(["make", "--dry-run", f"BIN={Path(sys.executable).parent}",
                           "BOXES=grabcut"], cwd=tmp_path / "copy", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for words in ("ws-rfpam build/points/labels", "ws-rfpam build/scribbles/labels",
                  "ws-boxfill build/boxes/labels", "--method potts", "--method grabcut",
                  "ws-budget cost build/points/labels build/scribbles/labels build/boxes/labels "
                  "build/reference", "--eval build/summary.json --cost build/summary.json"):
        assert words in done.stdout, words
    shown = next(line for line in done.stdout.splitlines() if line.startswith("ws-view"))
    assert shown.split()[1:6] == ["build/weak", "build/points/masks", "build/scribbles/masks",
                                  "build/boxes/masks", "build/reference"]
