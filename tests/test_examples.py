"""The papers' Makefiles: what they run parses, and a whole table comes out of two images."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

EXAMPLES = ROOT / "examples"
PAPERS = sorted(p.parent.name for p in EXAMPLES.glob("*/expected.json"))
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="no make")


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    """A VOC2012 folder of four photos of a square each, two of them for validation."""
    folder = tmp_path_factory.mktemp("VOC2012")
    sets = folder / "ImageSets" / "Segmentation"
    for made in (sets, folder / "JPEGImages", folder / "SegmentationClass",
                 folder / "SegmentationClassAug"):
        made.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, key in enumerate("abcd"):
        photo = rng.integers(0, 90, (48, 56, 3), np.uint8)
        label = np.zeros((48, 56), np.uint8)
        label[8:30, 10 + number:40] = 3 + number % 2
        photo[label > 0, number % 2] += 120
        Image.fromarray(photo).save(folder / "JPEGImages" / f"{key}.jpg")
        for name in ("SegmentationClass", "SegmentationClassAug"):
            Image.fromarray(label).save(folder / name / f"{key}.png")
    for name, keys in (("train", "ab"), ("trainaug", "ab"), ("val", "cd")):
        (sets / f"{name}.txt").write_text("".join(f"{key}\n" for key in keys))
    return folder


def make(paper: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([MAKE, "-C", str(EXAMPLES / paper), *words], capture_output=True,
                          text=True, timeout=300)


def commands(text: str) -> list[list[str]]:
    """Every command that starts with ws-, of a shell script with pipes and redirections."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$\(python3 [^']*'[^']*'\)", ".5", line)
        for part in re.split(r"\s[|;]\s", re.sub(r"\s>\s+\S+", "", line)):
            words = shlex.split(part)
            if words and words[0].startswith("ws-"):
                found.append(words)
    return found


@pytest.mark.parametrize("scale", ("mini", "small", "paper"))
@pytest.mark.parametrize("paper", PAPERS)
def test_every_command_of_every_target_parses(paper, scale, voc, tmp_path, monkeypatch):
    told = make(paper, "-n", "check", f"DATA={voc}", f"SCALE={scale}", "SEEDS=0 1",
                f"OUT={tmp_path / 'out'}")
    assert told.returncode == 0, told.stderr
    found = commands(told.stdout)
    assert {"ws-train", "ws-predict", "ws-eval"} <= {words[0] for words in found}
    monkeypatch.chdir(EXAMPLES / paper)
    for name, *words in found:
        tool = importlib.import_module(f"wsseg.cli.{name[3:]}").main
        if "--keys" in words:  # a list that another command would have made
            keys = Path(words[words.index("--keys") + 1])
            if tmp_path in keys.parents:
                keys.parent.mkdir(parents=True, exist_ok=True)
                keys.touch()
        try:
            parse(tool, name, words)
        except click.ClickException as error:
            raise AssertionError(f"{shlex.join([name, *words])}: {error.format_message()}")


def parse(tool: click.Command, name: str, words: list[str]) -> None:
    with tool.make_context(name, list(words), obj=SimpleNamespace(verbosity=0)) as context:
        if isinstance(tool, click.Group):
            _, inner, rest = tool.resolve_command(context, words)
            with inner.make_context(words[0], rest, parent=context):
                pass


@pytest.mark.parametrize("paper", PAPERS)
def test_what_is_expected_are_rows_that_the_makefile_makes(paper, voc, tmp_path):
    expected = json.loads((EXAMPLES / paper / "expected.json").read_text())
    sizes = "100" if paper == "dualbranch-2020" else "50 100 200 400 500 750 800 900 1000 1464"
    made = make(paper, "-n", "check", f"DATA={voc}", f"OUT={tmp_path / 'out'}", f"N={sizes}",
                f"G={sizes}").stdout
    rows = {name for words in commands(made) for name in
            re.findall(r"([^/ ]+)-0\.tar", " ".join(words))}
    for table in expected.values():
        named = {*table["rows"], *(row for pair in table["orderings"] for row in pair[:2])}
        assert named <= rows | {"strong-1464"}, named - rows


def test_a_paper_without_its_data_says_what_it_wants(tmp_path):
    told = make(PAPERS[0], "-n", "check", f"DATA={tmp_path}")
    assert told.returncode and "DATA=" in told.stderr and "trainaug.txt" in told.stderr


def test_a_table_comes_out_of_two_images_and_an_interrupted_make_goes_on(voc, tmp_path):
    pytest.importorskip("torch")
    words = (f"DATA={voc}", f"OUT={tmp_path / 'out'}", f"BIN={ROOT / 'bin'}", "RESAMPLES=20",
             "TABLE1=em-fixed em-adapt", "NET=--recipe ../recipes/mini.json --init none --crop 33 "
             "--batch 2 --iterations 1 --width 8 --backbone efficientnet-lite0")
    told = make("wssl-2015", "table1", *words)
    assert told.returncode == 0, told.stderr
    assert re.search(r"em-adapt +38\.2 ", told.stdout)
    assert re.search(r"(holds|does not hold|cannot tell) +EM-Adapt beats EM-Fixed", told.stdout)
    assert not commands(make("wssl-2015", "-n", "table1", *words).stdout)
    (tmp_path / "out" / "em-fixed-0.tar").unlink()
    again = [words[0] for words in commands(make("wssl-2015", "-n", "table1", *words).stdout)]
    assert again == ["ws-predict", "ws-eval"]


def check_module():
    spec = importlib.util.spec_from_file_location("check", EXAMPLES / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seeds, says", (
    ([(.1, .05, .15)], "holds"), ([(.1, .05, .15), (.02, -.01, .05)], "cannot tell"),
    ([(-.1, -.2, -.05)], "does not hold"), ([], "not run")))
def test_an_ordering_holds_only_where_every_seed_is_sure(seeds, says):
    assert check_module().verdict(seeds) == says


def test_differences_are_read_in_both_directions(tmp_path):
    interval = {"miou": [.4, .6]}
    (tmp_path / "scores.json").write_text(json.dumps({
        "results": [{"prediction": f"out/{row}-7.tar", "miou": .5, "interval": interval}
                    for row in ("a-b", "c")],
        "differences": [{"one": "out/a-b-7.tar", "other": "out/c-7.tar", "difference": .1,
                         "interval": [.05, .2]}]}))
    expected = {"rows": {"c": 40, "a-b": None}, "orderings": [["a-b", "c", "it says"],
                                                              ["c", "a-b", "it denies"]]}
    lines = check_module().report("T", expected, str(tmp_path / "scores.json"))
    assert lines[3].split() == ["c", "40.0", "50.0", "40.0", "to", "60.0"]
    assert lines[4].split()[:3] == ["a-b", "-", "50.0"]
    assert lines[5] == "holds          it says: a-b - c +10.0 (+5.0 to +20.0)"
    assert lines[6] == "does not hold  it denies: c - a-b -10.0 (-20.0 to -5.0)"
