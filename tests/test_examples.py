"""The papers' Makefiles: what they run parses, and a whole table comes out of two images."""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.warm import warm

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
    for name, keys in (("train", "ab"), ("trainaug", "ab"), ("val", "cd"), ("test", "cd")):
        (sets / f"{name}.txt").write_text("".join(f"{key}\n" for key in keys))
    return folder


def cityscapes(folder: Path) -> Path:
    """Cityscapes in its flat form: four frames of a car, the sky and a road, two for training."""
    root = folder / "cityscapes"
    if root.exists():
        return root
    for name in ("leftImg8bit", "labelIds", "instanceIds"):
        (root / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, key in enumerate("abcd"):
        ids = np.full((64, 128), 23, np.uint16)
        ids[24:] = 7
        ids[16:48, 20 + 4 * number:70] = 26000
        photo = rng.integers(0, 40, (64, 128, 3), np.uint8)
        for channel, value in enumerate((23, 7, 26000)):
            photo[ids == value, channel] += 160
        Image.fromarray(photo).save(root / "leftImg8bit" / f"{key}.jpg")
        Image.fromarray(ids).save(root / "instanceIds" / f"{key}.png")
        Image.fromarray(np.where(ids >= 1000, 26, ids).astype(np.uint8)).save(
            root / "labelIds" / f"{key}.png")
    for name, keys in (("train", "ab"), ("val", "cd")):
        (root / f"{name}.txt").write_text("".join(f"{key}\n" for key in keys))
    return root


def data(paper: str, voc: Path) -> list[str]:
    """Where the data of a paper's Makefile are."""
    if paper == "panoptic-2018":
        return [f"DATA={cityscapes(voc.parent)}", f"VOC={voc}"]
    return [f"DATA={voc}"]


def coco(folder: Path) -> Path:
    """A folder that has the names of COCO's files, and nothing in them."""
    root = folder / "coco"
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        (root / "annotations" / f"instances_{split}.json").touch()
    return root


def make(paper: str, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run([MAKE, "-C", str(EXAMPLES / paper), *words], capture_output=True,
                          text=True, timeout=300)


def targets(paper: str) -> list[str]:
    """What a Makefile and the files that it includes call phony, but for what makes nothing."""
    told = make(paper, "-pq", "help").stdout
    names = {name for line in re.findall(r"(?m)^\.PHONY: (.+)", told) for name in line.split()}
    return sorted(names - {"again", "all", "clean", "data", "help", "$(1)"})


def commands(text: str) -> list[list[str]]:
    """Every command that starts with ws-, of a shell script with pipes and redirections."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\$\(python3 [^']*'[^']*'\)", ".5", line)
        for part in re.split(r"\s(?:[|;]|\|\|)\s", re.sub(r"\s>\s+\S+", "", line)):
            words = shlex.split(part)
            if words and words[0].startswith("ws-"):
                found.append(words)
    return found


@pytest.mark.parametrize("scale", ("mini", "small", "paper"))
@pytest.mark.parametrize("paper", PAPERS)
def test_every_command_of_every_target_parses(paper, scale, voc, tmp_path, monkeypatch):
    told = make(paper, "-n", *targets(paper), *data(paper, voc), f"SCALE={scale}", "SEEDS=0 7",
                f"OUT={tmp_path / 'out'}", f"COCO={coco(tmp_path)}",
                *(["N=1"] if paper == "dualbranch-2020" else []))  # less than there are
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
            options = parse(tool, name, words)
        except click.ClickException as error:
            raise AssertionError(f"{shlex.join([name, *words])}: {error.format_message()}")
        for flag in ("dual", "msc"):  # no recipe makes another net of a row than its name says
            assert options.get(flag, False) == (f"--{flag}" in words), shlex.join(words)


def parse(tool: click.Command, name: str, words: list[str]) -> dict[str, object]:
    """Return the options, of a group's command none. Raises ClickException as the tool would."""
    with tool.make_context(name, list(words), obj=SimpleNamespace(verbosity=0)) as context:
        if isinstance(tool, click.Group):
            _, inner, rest = tool.resolve_command(context, words)
            with inner.make_context(words[0], rest, parent=context):
                return {}
        return context.params


@pytest.mark.parametrize("paper", PAPERS)
def test_what_is_expected_are_rows_that_the_makefile_makes(paper, voc, tmp_path):
    expected = json.loads((EXAMPLES / paper / "expected.json").read_text())
    where = [*data(paper, voc), f"OUT={tmp_path / 'out'}", f"COCO={coco(tmp_path)}"]
    where += ["N=1"] if paper == "dualbranch-2020" else []  # less than there are
    rows = set()
    for more in (["SCALE=mini"], ["SCALE=paper", "GENERATOR=labels"]):
        (tmp_path / "labels").mkdir(exist_ok=True)
        more = [word.replace("=labels", f"={tmp_path / 'labels'}") for word in more]
        made = make(paper, "-n", *targets(paper), *where, *more).stdout
        rows |= set(re.findall(r"([^/ ]+)-0\.(?:tar|tgz)", made))
    for table in expected.values():
        named = {*table["rows"], *(row for pair in table["orderings"] for row in pair[:2]),
                 *table.get("gap", []), *table.get("classes", {})}
        if isinstance(table.get("gap"), dict):
            named |= {row for ends in table["gap"].values() for row in ends}
        assert named <= rows, named - rows


@pytest.mark.parametrize("paper", PAPERS)
def test_help_names_every_target(paper):
    told = make(paper, "help").stdout
    unnamed = [name for name in targets(paper) if not re.search(rf"\b{name}\b", told)]
    assert not unnamed


def test_a_paper_without_its_data_says_what_it_wants(tmp_path):
    told = make(PAPERS[0], "-n", "check", f"DATA={tmp_path}")
    assert told.returncode and "DATA=" in told.stderr and "trainaug.txt" in told.stderr


QUICK = ("--init none --crop 33 --batch 2 --iterations 1 --width 8 --backbone tiny --stride 8 "
         "--recipe ../recipes/mini.json")
DRAWN = "--init none --crop 33 --batch 2 --iterations 1 --width 16 --backbone efficientnet-lite0"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Run a target of a paper on the four photos, by tools that start at once, with tiny nets."""
    pytest.importorskip("torch")
    tools = tmp_path_factory.mktemp("bin")
    for tool in (ROOT / "bin").glob("ws-*"):
        words = shlex.join(warm().command(tool.name))
        (tools / tool.name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (tools / tool.name).chmod(0o755)

    def run(paper: str, target: str, *words: str) -> str:
        told = make(paper, target, f"BIN={tools}", "RESAMPLES=20", "JOBS=1", "DEVICE=cpu",
                    f"NET={QUICK}", *words)
        assert told.returncode == 0, told.stderr
        return told.stdout

    return run


def planned(paper: str, target: str, *words: str) -> list[str]:
    """The tools that make would run for what ``quick`` has made."""
    told = make(paper, "-n", target, f"NET={QUICK}", *words)
    assert told.returncode == 0, told.stderr
    return [words[0] for words in commands(told.stdout)]


def test_a_table_comes_out_of_two_images_and_an_interrupted_make_goes_on(quick, voc, tmp_path):
    words = f"DATA={voc}", f"OUT={tmp_path / 'out'}", "TABLE1=em-fixed em-adapt", \
        "TAG=--backbone tiny --init none --crop 33 --batch 2 --iterations 1"
    told = quick("wssl-2015", "table1", *words)
    assert re.search(r"em-adapt +38\.2 ", told)
    assert re.search(r"(holds|does not hold|cannot tell) +EM-Adapt beats EM-Fixed", told)
    assert planned("wssl-2015", "table1", *words) == []
    (tmp_path / "out" / "em-fixed-0.tar").unlink()
    assert planned("wssl-2015", "table1", *words) == ["ws-predict", "ws-eval"]


@pytest.mark.parametrize("paper, target, says, words", (
    ("dualbranch-2020", "figure5", r"fused\.5 +- +\d", ("N=1", "LAMBDAS=.5")),
    ("scribbles-2019", "annotators", r"both-crf +83\.9 +\d", ()),
    ("budget-2019", "table4b", r"w-plain-1 +- +\d", (
        "N=1", "RSIS_N=1", f"WRSIS=--task wrsis {DRAWN}"))))
def test_a_target_of_each_paper_runs(paper, target, says, words, quick, voc, tmp_path):
    assert re.search(says, quick(paper, target, f"DATA={voc}", f"OUT={tmp_path / 'out'}", *words))


def test_an_archive_is_as_the_server_wants_it(quick, voc, tmp_path):
    told = quick("budget-2019", "table2-test", f"DATA={voc}", f"OUT={tmp_path / 'out'}", "N=1",
                 "RSIS_N=1", "SCALE=paper", "PREDICT=--score-stride 8")
    assert re.search(r"full +80\.3 +-", told)
    found = re.findall(r"server: (.+)", told)
    assert [Path(path).name for path in found] == ["f-1-0.tgz", "g-1-0.tgz", "full-0.tgz"]
    with tarfile.open(found[-1]) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
    assert sorted(files) == [f"results/VOC2012/Segmentation/comp6_test_cls/{k}.png" for k in "cd"]
    picture = Image.open(io.BytesIO(next(iter(files.values()))))
    assert picture.mode == "P" and picture.size == (56, 48)
    assert picture.getpalette()[3:6] == [128, 0, 0]


def check_module(name: str = "check"):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seeds, says", (
    ([(.1, .05, .15)], "holds"), ([(.1, .05, .15), (.02, -.01, .05)], "cannot tell"),
    ([(.04, -.01, .08), (.05, .01, .09), (.05, .01, .09)], "holds"),
    ([(.2, .01, .3), (.05, .01, .09), (.02, .01, .03)], "holds"),
    ([(-.2, -.3, -.01), (-.05, -.09, -.01), (-.02, -.03, -.01)], "does not hold"),
    ([(.05, .01, .09), (.05, .01, .09), (-.05, -.09, -.01)], "cannot tell"),
    ([(-.1, -.2, -.05)], "does not hold"), ([], "not run")))
def test_an_ordering_holds_where_images_and_seeds_let_it(seeds, says):
    assert check_module().verdict(seeds) == says


def test_what_images_leave_open_seeds_do_not_close():
    one = (.03, -.01, .06)
    assert check_module().together([one] * 50) == pytest.approx(one)
    assert check_module().together([one]) == one


@pytest.mark.parametrize("freedom", range(1, 30))
def test_students_quantile_is_scipys_or_above(freedom):
    stats = pytest.importorskip("scipy.stats")
    exact = stats.t.ppf(.975, min(freedom, 9))
    assert check_module().student(freedom) == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("of_images, of_seeds", [(.02, .001), (.01, .01), (.002, .02)])
def test_the_interval_of_three_seeds_covers_the_truth(of_images, of_seeds):
    """Of differences that share the error of their images and have one of their seed."""
    rng, check, covered = np.random.default_rng(0), check_module(), 0
    for _ in range(1000):
        shared = .03 + rng.normal(0, of_images)
        found = shared + rng.normal(0, of_seeds, 3)
        _, low, high = check.together([(d, d - 1.96 * of_images, d + 1.96 * of_images)
                                       for d in found])
        covered += low < .03 < high
    assert .94 <= covered / 1000 <= .99


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


def scores(folder: Path, values: dict[str, float], metric: str) -> str:
    """A file of ws-eval --json of some rows, seed 0."""
    path = folder / "scores.json"
    path.write_text(json.dumps({
        "results": [{"prediction": f"out/{row}-0.tar", "metric": metric, metric: value,
                     "interval": {metric: [value, value]},
                     "classes": [{"class": "cat", "iou": value}, {"class": "dog", "iou": None}]}
                    for row, value in values.items()],
        "differences": [{"one": "out/a-0.tar", "other": "out/b-0.tar", "score": score,
                         "difference": 0, "interval": limits}
                        for score, limits in ((metric, [.1, .2]), ("other", [-.2, -.1]))]}))
    return str(path)


def test_other_metrics_gaps_classes_and_figures_of_others_are_shown(tmp_path):
    expected = {"rows": {"full": 70.0, "base": 60.0, "a": 65.0, "b": 62.5}, "gap": ["full", "base"],
                "others": {"they": 50.0}, "classes": {"a": {"cat": 12.0, "dog": 13.0}},
                "orderings": [["a", "b", "it says"]]}
    lines = check_module().report("T", expected, scores(
        tmp_path, {"full": .8, "base": .4, "a": .7, "b": .4}, "ap"))
    assert [line.split() for line in lines[3:9]] == [
        ["full", "70.0", "80.0", "80.0", "to", "80.0"],
        ["base", "60.0", "40.0", "40.0", "to", "40.0"],
        ["a", "65.0", "70.0", "70.0", "to", "70.0", "gap", "5.0", "(+50", "%),", "ours", "10.0",
         "(+75", "%)"],
        ["b", "62.5", "40.0", "40.0", "to", "40.0", "gap", "7.5", "(+25", "%),", "ours", "40.0",
         "(+0", "%)"],
        ["they", "50.0", "-", "of", "others"], ["a", "12.0", "70.0", "cat"]]
    assert lines[9].split() == ["a", "13.0", "-", "dog"]
    assert lines[10].startswith("holds          it says: a - b +0.0 (+10.0 to +20.0)")
    expected["gap"] = {"a": ["full", "b"]}
    lines = check_module().report("T", expected, str(tmp_path / "scores.json"))
    assert lines[5].endswith("gap 5.0 (+33 %), ours 10.0 (+75 %)")
    expected["gap"] = {"a": ["b", "full"]}
    assert check_module().report("T", expected, str(tmp_path / "scores.json"))[5].endswith(
        "gap -2.5 (no gap), ours -30.0 (no gap)")
    expected["gap"] = {"a": ["full", "b"]}
    assert not any("gap" in line for line in lines[3:5] + lines[6:])


def test_without_scores_the_papers_figures_are_shown():
    lines = check_module().report("T", {"rows": {"a": 70.0, "b": None},
                                        "orderings": [["a", "b", "it says"]]}, "-")
    assert lines[3].split() == ["a", "70.0", "-"] and lines[4].startswith("not run")


def test_points_are_set_against_each_other(tmp_path, capsys):
    check_module()
    scatter = check_module("scatter")
    told = scatter.told_of_rows({"a": (50.0, 60.0), "b": (60.0, 62.0), "c": (70.0, 64.0)})
    assert told[0].split() == ["a", "50.0", "60.0"]
    assert told[-1] == "one point of y for 5.0 points of x"
    for name, values in (("x", (.5, .9, .2)), ("y", (.6, .8, .2))):
        (tmp_path / f"{name}.tsv").write_text("key\tpixel_accuracy\n" + "".join(
            f"{key}\t{value}\n" for key, value in zip("abc", values)))
    plot = tmp_path / "plot.svg"
    scatter.main(["photos", *(str(tmp_path / f"{n}.tsv") for n in "xy"), "--plot", str(plot)])
    assert "3 photos: y is higher in 1, x in 1" in capsys.readouterr().out
    assert plot.read_text().count("<circle") == 3


def test_data_that_is_missing_short_or_changed_is_told(voc, tmp_path, capsys):
    check_module("lists")
    data = check_module("data")
    record = str(tmp_path / "record.json")
    assert data.main([str(voc), "--coco", str(tmp_path), "--record", record]) == 0
    said = capsys.readouterr().out
    assert "2 of 1,464: " in said and "missing: " in said and "SBD" in said
    photo = voc / "JPEGImages" / "d.jpg"
    before = photo.read_bytes()
    photo.write_bytes(before + b"more")
    try:
        assert data.main([str(voc), "--record", record]) == 1
        assert "changed since" in capsys.readouterr().out
        photo.unlink()
        assert data.main([str(voc)]) == 1
        assert "not all of val.txt: 1 of 2 are not in" in capsys.readouterr().out
    finally:
        photo.write_bytes(before)
    assert data.main([str(tmp_path / "none")]) == 1
