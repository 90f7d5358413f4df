"""Label maps from masks and instances, new names of classes, and scribbles put right."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.cat_cases import lone, read
from tests.cli.test_info import info, run
from tests.conftest import complaint, write_place
from wsseg.data.rle import runs_of_mask
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Masks, Segment

NAMES = ("background", "airplane", "boat", "car")


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


def rectangles(*boxes: tuple[int, int, int, int]) -> list[np.ndarray]:
    found = []
    for top, bottom, left, right in boxes:
        mask = np.zeros((8, 10), bool)
        mask[top:bottom, left:right] = True
        found.append(mask)
    return found


def test_the_smallest_mask_wins_and_crowds_lie_under_all(tmp_path):
    small, large, crowd = masks = rectangles((2, 4, 2, 5), (1, 6, 1, 8), (0, 3, 4, 6))
    record = Record("a", names=NAMES)
    record.set("masks", Masks((8, 10), tuple(map(runs_of_mask, masks)), np.array([1, 2, 3]),
                              np.ones(3), np.array([False, False, True])))
    place = write_place(tmp_path / "p", [record], kinds=("masks",), classes=NAMES)
    run(["ws-cat", place, "--labels", "--only", "label", "-o", tmp_path / "out"])

    want = np.zeros((8, 10), int)  # one pixel at a time, by hand
    for mask, cls in ((crowd, 3), (large, 2), (small, 1)):
        want[mask] = cls
    found = read(tmp_path / "out")["a"]
    assert found.kinds() == {"label"} and found.get("label").tolist() == want.tolist()
    assert info(tmp_path / "out")["classes"] == list(NAMES)


@pytest.mark.parametrize("names, rest", ((NAMES, 0), (NAMES[1:], 255)))
def test_instances_give_their_classes_and_nothing_is_background(names, rest, tmp_path):
    record = Record("a", names=names)
    ids = np.zeros((4, 4), np.uint16)
    ids[0], ids[1] = 7, 9
    record.set("instance", InstanceMap(ids, (Segment(7, 2), Segment(9, 1, thing=False))))
    place = write_place(tmp_path / "p", [record], kinds=("instance",), classes=names)
    run(["ws-cat", place, "--labels", "-o", tmp_path / "out"])

    label = read(tmp_path / "out")["a"].get("label")
    assert [row[0] for row in label.tolist()] == [2, 1, rest, rest]


def test_a_record_of_neither_is_refused(tmp_path):
    done = run(["ws-cat", lone(tmp_path / "p", tags=(1,)), "--labels", "-o", tmp_path / "o"],
               code=1)
    assert "a: has no masks or instances" in complaint(done)


def test_classes_get_new_names_and_labels_stay(tmp_path):
    label = np.arange(4, dtype=np.uint8)[None].repeat(3, 0)
    record = Record("a", names=NAMES)
    record.set("label", label)
    record.set("tags", (1, 3))
    place = write_place(tmp_path / "p", [record], kinds=("label", "tags"), classes=NAMES)
    run(["ws-cat", place, "--rename", "airplane=aeroplane,car=motor car", "-o", tmp_path / "out"])

    assert info(tmp_path / "out")["classes"] == ["background", "aeroplane", "boat", "motor car"]
    found = read(tmp_path / "out")["a"]
    assert found.get("label").tolist() == label.tolist() and found.get("tags") == (1, 3)


@pytest.mark.parametrize("text, says", (
    ("tram=bus", "no class is called tram"), ("boat=car", "two classes would be called car"),
    ("boat", "it is OLD=NEW"), ("boat=", "it is OLD=NEW")))
def test_a_name_that_cannot_be_changed_is_a_usage_error(text, says, tmp_path):
    record = Record("a", names=NAMES)
    record.set("tags", (1,))
    place = write_place(tmp_path / "p", [record], kinds=("tags",), classes=NAMES)
    done = run(["ws-cat", place, "--rename", text, "-o", tmp_path / "o"], code=2)
    assert says in complaint(done)


def scribbled(folder, drawn: np.ndarray) -> list[str]:
    """The words that weaken masks of background and boats along some scribbles."""
    record = Record("a", names=NAMES)
    label = np.zeros((8, 10), np.uint8)
    label[2:6, 2:6] = 2
    label[2, 2] = 255
    record.set("label", label)
    masks = write_place(folder / "masks", [record], kinds=("label",), classes=NAMES)
    other = Record("a", names=NAMES)
    other.set("scribble", drawn)
    drawn_place = write_place(folder / "drawn", [other], kinds=("scribble",), classes=NAMES)
    return ["ws-weaken", masks, "--scribbles", "--along", drawn_place, "-o", folder / "out"]


def test_scribbles_along_others_have_the_true_classes(tmp_path):
    drawn = np.full((8, 10), 255, np.uint8)
    drawn[3, :] = 1  # runs from the background over the boat, and has the wrong class
    drawn[2, 2] = 2  # where nobody knows
    run(scribbled(tmp_path, drawn))

    want = np.full((8, 10), 255)
    want[3] = [0, 0, 2, 2, 2, 2, 0, 0, 0, 0]
    found = read(tmp_path / "out")["a"]
    assert found.kinds() == {"scribble"} and found.get("scribble").tolist() == want.tolist()


def test_an_image_with_a_class_that_is_not_scribbled_is_left_out(tmp_path):
    drawn = np.full((8, 10), 255, np.uint8)
    drawn[0] = 0
    done = run([*scribbled(tmp_path, drawn), "--keep-going"], code=3)
    assert b"a: class 2 is not scribbled" in done.stderr and not read(tmp_path / "out")


def test_along_without_scribbles_is_a_usage_error(tmp_path):
    words = scribbled(tmp_path, np.zeros((8, 10), np.uint8))
    words[2] = "--tags"
    assert "--along is for --scribbles" in complaint(run(words, code=2))
