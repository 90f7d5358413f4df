"""Odd boxes: each is defined, counted and told, by every method and by any number of workers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.annotate.test_grabcut import scene
from tests.cli.boxfilling import NEW, SIZE, boxed, fill, needs_higra
from tests.cli.test_info import run
from tests.conftest import complaint, write_place
from wsseg.annotate import rect
from wsseg.cli._tally import Tally
from wsseg.io.places import open_source

ALL = ["rect", "grabcut", *NEW]


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


@pytest.fixture
def counted(tmp_path):
    """Run the tool; give its counts and what it said."""
    def run_it(place, *words):
        done = run(["ws-boxfill", place, *words, "--report", tmp_path / "report.json",
                    "--overwrite", "-o", tmp_path / "out"])
        return json.loads((tmp_path / "report.json").read_text()), done.stderr.decode()
    return run_it


@pytest.mark.parametrize("method", ALL)
def test_hostile_boxes_are_filled_and_counted(method, counted, tmp_path):
    image, _ = scene(SIZE, (15, 10), 6)
    boxes = [[0, 0, 30, 20], [4, 4, 20, 15], [4, 4, 20, 15], [2.2, 2.2, 2.4, 2.4], [-5, -5, 3, 3],
             [40, 40, 50, 50], [29.9, 19.9, 35, 35]]
    source = write_place(tmp_path / "p", [boxed(boxes, [1, 2, 2, 1, 2, 1, 1], image=image)])

    counts, said = counted(source, "--method", method, "--drop-bad", "--instances")

    assert "1 box is outside its image, left out" in said
    assert "1 box is the same as another one" in said
    assert "1 box is as large as the image" in said
    assert "2 boxes are partly outside their image, cut off" in said
    del counts["not_found"], counts["not_agreed"]
    assert counts == {"boxes": 7, "empty": 0, "outside": 1, "duplicate": 1, "whole_image": 1,
                      "cut_off": 2}
    record, = open_source(str(tmp_path / "out"))
    assert set(np.unique(record.get("label"))) <= {0, 1, 2, 255}
    assert {s.id for s in record.get("instance").segments} <= set(range(1, 7))


def spoiled(place, *boxes) -> str:
    """A place whose boxes are written by hand, as another program might."""
    source = write_place(place, [boxed([[1, 1, 9, 9]], [1],
                                       image=scene(SIZE, (15, 10), 6)[0])])
    end = place / "a.boxes.json"
    value = json.loads(end.read_text())
    value["boxes"] = [{"class": 1, "box": box} for box in boxes]
    end.write_text(json.dumps(value))
    for name in (place / "__wsseg__").iterdir():
        name.unlink()
    return source


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [9, 9, 2, 2], [2, 9, 6, 3], [4, 4, 4, 4]])
def test_an_empty_or_turned_box_is_an_error_or_left_out(box, counted, tmp_path):
    source = spoiled(tmp_path / "p", [1, 1, 9, 9], box)

    done = run(["ws-boxfill", source, "--method", "rect", "-o", tmp_path / "none"], code=1)
    counts, said = counted(source, "--method", "rect", "--drop-bad")

    assert "boxes[1] is empty" in complaint(done)
    assert "1 box is empty or turned, left out" in said
    assert (counts["empty"], counts["boxes"]) == (1, 1)
    record, = open_source(str(tmp_path / "out"))
    assert (record.get("label") > 0).sum() == 64


@pytest.mark.parametrize("box", ["no box", [1, 2, 3], [1, 2, "a", 4], None])
def test_what_is_no_box_is_named_all_the_same(box, tmp_path):
    source = spoiled(tmp_path / "p", [1, 1, 9, 9], box)

    done = run(["ws-boxfill", source, "--method", "rect", "--drop-bad", "-o", tmp_path / "out"],
               code=1)

    assert "a: boxes: boxes[1]" in complaint(done)


@pytest.mark.parametrize("method", ["grabcut", *NEW[1:]])
def test_boxes_in_which_nothing_is_found_are_counted(method, counted, tmp_path):
    flat = np.full((*SIZE, 3), 90, np.uint8)
    boxes = [[5, 5, 20, 15], [7, 3, 25, 17]]
    source = write_place(tmp_path / "p", [boxed(boxes, [1, 1], image=flat)])

    counts, said = counted(source, "--method", method)

    what = {"agree": ("not_agreed", "2 boxes are unknown as a whole")}.get(
        method, ("not_found", "2 boxes are taken whole"))
    assert counts[what[0]] == 2 and what[1] in said
    label = next(iter(open_source(str(tmp_path / "out")))).get("label")
    inside = np.zeros(SIZE, bool)
    inside[5:15, 5:20] = inside[3:17, 7:25] = True
    assert (label[inside] == (255 if method == "agree" else 1)).all()
    assert not label[~inside].any()


@pytest.mark.parametrize("form", ["p", "p.tar", "p.h5"])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_workers_count_together(form, jobs, counted, tmp_path):
    flat = np.full((*SIZE, 3), 90, np.uint8)
    records = [boxed([[5, 5, 20, 15], [5, 5, 20, 15], [-3, 2, 9, 9]], [1, 1, 2], key=f"r{i}",
                     image=flat) for i in range(5)]
    source = write_place(tmp_path / form, records)

    counts, _ = counted(source, "-j", jobs)

    assert counts == {"boxes": 15, "empty": 0, "outside": 0, "duplicate": 5, "whole_image": 0,
                      "cut_off": 5, "not_found": 10, "not_agreed": 0}  # equal boxes are one


def test_nothing_odd_is_not_mentioned(counted, tmp_path):
    image, mask = scene()
    source = write_place(tmp_path / "p", [boxed([[30, 20, 70, 60]], [1], size=mask.shape,
                                                image=image)])

    counts, said = counted(source)

    assert said == "" and counts.pop("boxes") == 1 and not any(counts.values())
    assert "1 boxes seen" in counted(source, "-v")[1]


@pytest.mark.parametrize("method", ["rect", "grabcut", "seg",
                                    pytest.param("proposal", marks=needs_higra)])
def test_thousands_of_boxes_are_filled(method, tmp_path):
    rng = np.random.default_rng(0)
    image, _ = scene((120, 160), (80, 60), 40)
    low = rng.integers(0, (150, 110), (3000, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 9, (3000, 2))], axis=1)
    source = write_place(tmp_path / "p", [boxed(boxes, rng.integers(1, 3, 3000),
                                                size=(120, 160), image=image)])

    record, = fill(source, tmp_path / "out", "--method", method)

    covered = np.zeros((120, 160), bool)
    for x0, y0, x1, y1 in boxes:
        covered[y0:y1, x0:x1] = True
    label = record.get("label")
    assert not label[~covered].any() and label[covered].mean() > 0.5


def test_more_boxes_than_ids_can_number_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(rect, "MOST", 3)
    source = write_place(tmp_path / "p", [boxed([[1, 1, 9, 9]] * 4, [1] * 4)])

    done = run(["ws-boxfill", source, "--method", "rect", "-o", tmp_path / "out"], code=1)

    assert "a: 4 boxes are more than ids of 16 bits can number: 3" in complaint(done)


def test_a_tally_adds_what_is_added_and_leaves_nothing_behind():
    with Tally.new() as tally:
        tally.add({"a": 2, "b": 0})
        tally.add({"a": 1, "c": np.int64(4)})
        assert tally.total() == {"a": 3, "c": 4}
    assert not Path(tally.path).exists()
