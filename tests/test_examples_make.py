"""What make runs again, and what it does not: the papers' Makefiles over tools that only write."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_examples import (EXAMPLES, MAKE, PAPERS, coco, data, make,  # noqa: F401
                                 voc)

pytestmark = pytest.mark.skipif(MAKE is None, reason="no make")

#: Notes its command, and writes what -o names: a model, lists of keys, or a place.
TOOL = """#!/bin/bash
echo "${0##*/} $*" >> "$LOG"
[ -p /dev/stdin ] && cat > /dev/null
seed=0
for word; do
  case $before in -o) out=$word ;; -n) n=$word ;; --keys) keys=$word ;; --seed) seed=$word ;; esac
  before=$word
done
case ${0##*/} in
  ws-train) mkdir -p "$out"; echo > "$out/model.safetensors" ;;
  ws-budget) mkdir -p "$out"; head -n "$n" "$keys" > "$out/$n-$seed.txt" ;;
  *) if [ -z "$out" ] || [ "$out" = - ]; then echo
     else mkdir -p "$(dirname "$out")"; echo > "$out"; fi ;;
esac
"""
TOOLS = ("boxfill", "budget", "cam", "cat", "crf", "eval", "fuse", "predict", "rfpam", "train",
         "weaken")
FILES = (("wssl-2015", "table1", ("N=1",)), ("wssl-2015", "table3", ("N=1",)),
         ("dualbranch-2020", "table1", ("N=1",)), ("dualbranch-2020", "figure5", ("N=1",)),
         ("scribbles-2019", "table1", ()), ("panoptic-2018", "table4", ()),
         ("panoptic-2018", "figure6-pq", ()), ("budget-2019", "figure2-rows", ("N=1",)),
         ("budget-2019", "table5", ("RSIS_N=1", "TABLE5=gr-1 gw-1-1", "N=1")))


@pytest.fixture
def tools(tmp_path, monkeypatch) -> Path:
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        (tmp_path / "bin" / f"ws-{name}").write_text(TOOL)
        (tmp_path / "bin" / f"ws-{name}").chmod(0o755)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path


@pytest.fixture
def runs(tools, voc):  # noqa: F811
    """Make a target with some variables; return the commands of tools that it ran."""
    def ran(paper: str, *words: str) -> list[str]:
        (tools / "log").write_text("")
        told = make(paper, *data(paper, voc), f"BIN={tools / 'bin'}",
                    f"OUT={tools / 'out'}", *words)
        assert told.returncode == 0, told.stderr
        return (tools / "log").read_text().splitlines()

    return ran


@pytest.mark.parametrize("paper, name, more", FILES)
def test_more_seeds_train_only_the_new_ones(paper, name, more, tools, runs):
    table = tools / "out" / f"{name}.json"

    def ran(seeds: str, *words: str) -> list[str]:
        return runs(paper, str(table), f"SEEDS={seeds}", *more, *words)

    assert any(line.startswith("ws-train") for line in ran("0", "-j2"))
    assert ran("0") == []
    second = [line for line in ran("0 7", "-j2") if line.startswith("ws-train")]
    assert second and all("--seed 7 " in line for line in second)
    assert ran("0 7") == []
    table.unlink()
    assert [line.split()[0] for line in ran("0 7")] == ["ws-eval"]
    fewer = ran("0")
    assert [line.split()[0] for line in fewer] == ["ws-eval"] and "-7.tar" not in fewer[0]


def test_other_rows_make_a_table_again(runs, tools):
    table, more = str(tools / "out" / "table1.json"), "N=1"
    runs("wssl-2015", table, more, "TABLE1=em-fixed strong")
    assert [line.split()[0] for line in runs("wssl-2015", table, more, "TABLE1=strong")] == [
        "ws-eval"]


def test_more_iterations_are_added_and_fewer_are_what_they_were(runs, tools):
    out = tools / "out"
    goals = [str(out / f"{name}.json") for name in ("table4", "table5-pq", "figure6-iou")]

    def ran(iterations: int) -> list[str]:
        return runs("panoptic-2018", *goals, f"ITERATIONS={iterations}", "STEPS=7")

    ran(1)
    trained = [line for line in ran(2) if line.startswith("ws-train")]
    made = [next(part for part in ("iteration-2-0", "full-0", "weak-0") if line.endswith(part))
            for line in trained]
    assert sorted(made) == ["full-0", "full-0", "iteration-2-0", "weak-0"]
    assert any("--iterations 21" in line for line in trained)  # as many steps as three nets
    again = ran(1)
    assert [line.split()[0] for line in again] == ["ws-eval"] * 3
    assert not any("iteration-2" in line or "after-2" in line for line in again)


def test_pairs_of_paths_are_one_image_each(voc, tmp_path):  # noqa: F811
    whole = tmp_path / "voc"
    shutil.copytree(voc, whole)
    (whole / "ImageSets" / "Segmentation" / "trainaug.txt").write_text(
        "".join(f"/JPEGImages/{k}.jpg /SegmentationClassAug/{k}.png\n" for k in "abc"))
    told = make("dualbranch-2020", "-n", "table1", f"DATA={whole}", "SCALE=paper", "N=1")
    assert "--epochs 40 " in told.stdout


def test_xception_wants_its_file_and_begins_from_it(voc, tmp_path):  # noqa: F811
    whole = tmp_path / "voc"
    shutil.copytree(voc, whole)
    lists = whole / "ImageSets" / "Segmentation"
    shutil.copy(lists / "train.txt", lists / "trainaug.txt")
    words = f"DATA={whole}", "SCALE=paper", "N=1", f"OUT={tmp_path / 'out'}"
    told = make("budget-2019", "table2", *words, f"XCEPTION={tmp_path / 'x.safetensors'}")
    assert told.returncode and "name it with XCEPTION=" in told.stderr
    assert not (tmp_path / "out").exists()
    (tmp_path / "x.safetensors").touch()
    told = make("budget-2019", "-n", "figure3", *words, f"XCEPTION={tmp_path / 'x.safetensors'}")
    trained = [line for line in told.stdout.splitlines() if line.startswith("ws-train")]
    assert len(trained) == 3
    assert all(f"--init {tmp_path / 'x.safetensors'} " in line for line in trained)


def test_goals_without_data_excuse_no_others(voc, tmp_path):  # noqa: F811
    assert make("budget-2019", "-n", "table1", "DATA=/nowhere").returncode == 0
    told = make("budget-2019", "-n", "table1", "table2", "DATA=/nowhere")
    assert told.returncode and "there is no /nowhere" in told.stderr


@pytest.mark.parametrize("paper, goal, word", (
    ("scribbles-2019", "hfa-0.tar", "SCALE=small"),
    ("scribbles-2019", "hfa-0.tar", "NET=--head fcn"),
    ("scribbles-2019", "hfa-0.tar", "SLOPPY=.3"), ("scribbles-2019", "hfa-0.tar", "PREDICT=--flip"),
    ("scribbles-2019", "hfa-0.tar", "SCRIBBLESUP={here}"),
    ("scribbles-2019", "hfa-0.tar", "TRAINSET={here}"),
    ("dualbranch-2020", "strong-0.tar", "WEAK={here}"),
    ("dualbranch-2020", "strong-0.tar", "CRF=-n 1"),
    ("budget-2019", "f-1-0.tar", "OBJECTS={here}"),
    ("budget-2019", "f-1-0.tar", "RSIS=--task rsis"),
    ("wssl-2015", "em-fixed-0.tar", "TAG=--backbone vgg16"),
    ("wssl-2015", "em-fixed-0.tar", "BOXES_NET=--head fcn"),
    ("panoptic-2018", "boxes.h5", "STEPS=9"),
    ("panoptic-2018", "boxes.h5", "BOXFILL=--method rect"),
    ("panoptic-2018", "boxes.h5", "LEAST=.5")))
def test_a_folder_is_of_one_kind_of_labels_and_nets(paper, goal, word, runs, tools,
                                                    voc):  # noqa: F811
    word, more = word.format(here=tools / "bin"), [] if paper == "panoptic-2018" else ["N=1"]
    runs(paper, str(tools / "out" / goal), *more)
    where = *data(paper, voc), f"OUT={tools / 'out'}", *more
    table = {"budget-2019": "table4a", "panoptic-2018": "table4"}.get(paper, "table1")
    told = make(paper, "-n", table, *where, word)
    assert told.returncode and "name another OUT=" in told.stderr
    assert word.partition("=")[0] + "=" in told.stderr
    assert make(paper, "-n", table, *where).returncode == 0


@pytest.mark.parametrize("paper", PAPERS)
def test_what_a_folder_is_made_of_is_what_it_comes_to(paper, runs, tools, voc):  # noqa: F811
    """Variables are written as they expand; a link to DATA is DATA; MINI is a part of NET."""
    goal = "train.h5" if paper == "panoptic-2018" else "masks.h5"
    more = [] if paper == "panoptic-2018" else ["N=1"]
    runs(paper, str(tools / "out" / goal), *more)
    notes = [path.read_text() for path in (tools / "out" / "made-of").iterdir()]
    assert len(notes) > 5 and not any("$(" in text for text in notes)
    where = data(paper, voc)
    place = Path(where[0].removeprefix("DATA="))
    (tools / "link").symlink_to(place)
    words = "-n", "check", *where[1:], f"OUT={tools / 'out'}", *more
    for _ in range(2):
        told = make(paper, *words, f"DATA={tools / 'link'}")
        assert told.returncode == 0, told.stderr
    if paper != "panoptic-2018":
        told = make(paper, *words, f"DATA={place}", "MINI=--recipe other.json")
        assert told.returncode and "NET=--recipe other.json" in told.stderr


@pytest.mark.parametrize("paper, name, goal, made", (
    ("wssl-2015", "COCO", "table5", "coco-train2017.h5"),
    ("dualbranch-2020", "GENERATOR", "table4", "generator-0.tar"),
    ("wssl-2015", "TEST", "table4", "test/tv-rect-0.tgz")))
def test_what_only_some_goals_need_is_kept_apart(paper, name, goal, made, runs, tools,
                                                 voc):  # noqa: F811
    """One may add it later, and not change it."""
    places = {}
    for folder in ("one", "other"):
        place = places[folder] = tools / folder
        if name == "COCO":
            coco(place)
            place /= "coco"
        elif name == "TEST":
            place.mkdir()
            place /= "test.txt"
            place.write_text("c\nd\n")
        else:
            place.mkdir()
        places[folder] = place
    runs(paper, str(tools / "out" / "strong-1-0.tar" if paper[0] == "w" else tools / "out"
                    / "strong-0.tar"), "N=1")
    if name == "TEST":
        (tools / "out" / "test" / "tv-rect-0" / "results").mkdir(parents=True)
    runs(paper, str(tools / "out" / made), "N=1", f"{name}={places['one']}")
    where = *data(paper, voc), f"OUT={tools / 'out'}", "N=1"
    assert make(paper, "-n", "table1", *where).returncode == 0
    told = make(paper, goal, *where, f"{name}={places['other']}", f"BIN={tools / 'bin'}")
    assert told.returncode and f"{name}={places['one']}" in told.stderr


@pytest.mark.parametrize("paper, goal, words, says", (
    ("wssl-2015", "table5", ["COCO=/nowhere"], "there is no /nowhere, which COCO= names"),
    ("wssl-2015", "table6", [], "names the folder of COCO"),
    ("wssl-2015", "table2", ["SCALE=paper"], "name a list with TEST="),
    ("budget-2019", "table2-test", ["SCALE=paper"], "name a list with TEST="),
    ("dualbranch-2020", "table1", ["WEAK=/nowhere"], "there is no /nowhere, which WEAK= names"),
    ("dualbranch-2020", "table4", ["GENERATOR=/nowhere"], "which GENERATOR= names"),
    ("dualbranch-2020", "table3", ["SCALE=paper", "N=2"], "2 strong images of 2 leave no weak"),
    ("scribbles-2019", "table1", ["SCRIBBLESUP=/nowhere"], "which SCRIBBLESUP= names"),
    ("budget-2019", "table3", ["OBJECTS=/nowhere"], "which OBJECTS= names"),
    ("wssl-2015", "tabel1", [], "make help lists the targets"),
    ("wssl-2015", "table1", ["N=abc"], "N is 'abc'"),
    ("wssl-2015", "table1", ["OUT=/a b"], "a blank"),
    ("wssl-2015", "table1", ["N=1'4"], "N is '1'4'"),
    ("wssl-2015", "table1", ["SBD=/it's"], "a blank or a quote")))
def test_what_is_missing_is_told_before_any_work(paper, goal, words, says, tools, tmp_path,
                                                 voc):  # noqa: F811
    whole = tmp_path / "voc"
    shutil.copytree(voc, whole)
    (whole / "ImageSets" / "Segmentation" / "test.txt").unlink()
    told = make(paper, "-j2", goal, f"DATA={whole}", f"BIN={tools / 'bin'}",
                f"OUT={tools / 'out'}", "N=1", *words)
    assert told.returncode and says in told.stderr.replace("\n", " ")
    assert not (tools / "log").exists()


def test_photos_of_the_test_server_are_looked_for(tools, tmp_path, voc):  # noqa: F811
    (tmp_path / "test.txt").write_text("c\nnone\n")
    told = make("wssl-2015", "table4", *data("wssl-2015", voc), f"BIN={tools / 'bin'}", "N=1",
                f"OUT={tools / 'out'}", f"TEST={tmp_path / 'test.txt'}")
    assert told.returncode and "1 of 2 are not in" in told.stderr
    assert not (tools / "log").exists()


def test_paths_are_of_the_folder_where_make_was_called(tools, voc, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PWD", str(voc.parent))
    told = make("wssl-2015", "-n", "table1", f"DATA={voc.name}", f"OUT={tools / 'out'}")
    assert told.returncode == 0 and f"--images {voc}/JPEGImages" in told.stdout


@pytest.mark.parametrize("word, says", (
    ("SEEDS=", "SEEDS is ''"), ("SEEDS=0,1", "SEEDS is '0,1'"), ("DATA=/a b", "has a blank"),
    ("DATA=/nowhere", "there is no /nowhere/ImageSets/Segmentation/train.txt"),
    ("SCALE=big", "SCALE is big"), ("SEEDS=0 100", "100 is a seed and one of N=100")))
def test_wrong_variables_are_told_at_once(word, says, voc):  # noqa: F811
    told = make("wssl-2015", "-n", "table1", *data("wssl-2015", voc), word)
    assert told.returncode and says in told.stderr.replace("\n", " ")


def test_pictures_that_a_list_names_in_vain_are_told_before_any_work(runs, tools, tmp_path,
                                                                     voc):  # noqa: F811
    whole = tmp_path / "voc"
    shutil.copytree(voc, whole)
    (whole / "SegmentationClass" / "d.png").unlink()
    told = make("wssl-2015", "table1", f"DATA={whole}", f"BIN={tools / 'bin'}",
                f"OUT={tools / 'out'}")
    assert told.returncode and "val.txt: 1 of 2 are not in" in told.stderr
    assert "such as d" in told.stderr and not (tools / "log").exists()


def test_vocs_tables_of_panoptic_2018_need_no_cityscapes(tools, voc):  # noqa: F811
    for goal, words, says in (("table1", [f"VOC={voc}"], ""), ("table1", ["VOC=/no"], "VOC="),
                              ("table4", [f"VOC={voc}"], "leftImg8bit"),
                              ("check", ["VOC=/no", *data("panoptic-2018", voc)[:1]], "VOC=")):
        told = make("panoptic-2018", "-n", goal, "DATA=/nowhere", f"OUT={tools / 'out'}", *words)
        assert bool(told.returncode) == bool(says) and says in told.stderr


def test_trainaug_is_vocs_train_and_all_of_sbd_but_vocs_val(runs, tools, tmp_path,
                                                           voc):  # noqa: F811
    whole, sbd = tmp_path / "voc", tmp_path / "dataset" / "cls"
    shutil.copytree(voc, whole)
    shutil.rmtree(whole / "SegmentationClassAug")
    sbd.mkdir(parents=True)
    for key in "bcxy":
        (sbd / f"{key}.mat").touch()
    told = make("wssl-2015", "trainaug", f"DATA={whole}", f"SBD={sbd.parent}",
                f"BIN={tools / 'bin'}", f"OUT={tools / 'out'}")
    assert told.returncode == 0, told.stderr
    again = make("wssl-2015", "trainaug", f"DATA={whole}", "SBD=/nowhere", f"BIN={tools / 'bin'}",
                 f"OUT={tools / 'out'}")
    assert again.returncode and "there is no /nowhere/cls/*.mat" in again.stderr
    aug = whole / "ImageSets" / "Segmentation" / "trainaug.txt"
    assert aug.read_text().split() == list("abxy")
    assert (tools / "out" / "sbd.txt").read_text().split() == ["x", "y"]
    assert (tools / "log").read_text().splitlines()[-1].endswith(f"-o {whole}/SegmentationClassAug")


def test_lists_are_subtracted_in_any_dialect(tmp_path):
    (tmp_path / "all").write_bytes(b"\xef\xbb\xbf/JPEGImages/a.jpg /SegmentationClassAug/a.png\r\n"
                                   b"b \r\n\r\n# c\r\nberlin/c\r\nd")
    (tmp_path / "some").write_text("a\nd\n")
    told = subprocess.run([sys.executable, EXAMPLES / "lists.py", "rest", tmp_path / "all",
                           tmp_path / "some"], capture_output=True, text=True)
    assert told.stdout == "b\nberlin/c\n"
