"""ws-fuse --parts-of, the inverse of ws-weaken --crops, and tags of parts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.fuse_cases import STREET
from tests.conftest import complaint, run, write_place
from wsseg.cli import cat, fuse, weaken
from wsseg.cli._command import run as run_here
from wsseg.cli._crops import window
from wsseg.errors import ExitStatus
from wsseg.io.header import history_entry
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.supervision import by_kind
from wsseg.io.values import Boxes

ROAD, SKY, CAR, PERSON = range(4)
SIZE = (64, 128)


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.setenv("WSSEG_JOBS", "1")
    monkeypatch.chdir(tmp_path)


def here_run(tool, *words) -> None:
    assert run_here(tool.main, list(map(str, words))) == ExitStatus.OK


def whole(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Blocks of the four classes and 255."""
    rng = np.random.default_rng(number)
    blocks = rng.choice(np.array([ROAD, SKY, CAR, PERSON, 255], np.uint8), (size[0] // 8,
                                                                            size[1] // 8))
    return blocks.repeat(8, 0).repeat(8, 1)


def frames(place: str, count: int = 3) -> str:
    records = []
    for i in range(count):
        records.append(Record(f"city/frame{i}"))
        records[-1].set("label", whole(i))
    return write_place(place, records, kinds=["label"], classes=STREET)


def parts(place: str, change, rows: int = 3, columns: int = 5, size=SIZE, history=(),
          share=(400 / 1024, 500 / 2048), **more) -> str:
    """A place of the parts of one record, ``f``: change(row, column, blank map) draws each."""
    records = []
    for r in range(rows):
        for c in range(columns):
            h, w = window(size[0], share[0], rows, r), window(size[1], share[1], columns, c)
            record = Record(f"f@{r}-{c}")
            made = change(r, c, np.full((h.stop - h.start, w.stop - w.start), 255, np.uint8))
            record.set("tags" if isinstance(made, tuple) else "label", made)
            records.append(record)
    return write_place(place, records, kinds=sorted({*records[0].kinds()}), classes=STREET,
                       history=history)


def one(place: str, label: np.ndarray) -> str:
    record = Record("f")
    record.set("label", label)
    return write_place(place, [record], kinds=["label"], classes=STREET)


def label_of(place: str, key: str = "f") -> np.ndarray:
    return open_source(place).get(key).get("label")


@pytest.mark.parametrize("rule", ["priority", "vote", "smaller-area"])
@pytest.mark.parametrize("cut", [("3x5",), ("2x2", "--crop-share", ".6", ".5"),
                                 ("1x3", "--crop-share", "1", ".4")])
def test_crops_of_true_labels_give_the_true_labels_back(rule, cut):
    place = frames("frames")
    here_run(weaken, place, "--crops", *cut, "--tags", "--keep", "label", "-o", "crops.h5")
    here_run(fuse, "crops.h5", "--parts-of", place, "--rule", rule, "-o", "again")
    source = open_source("again")
    assert source.header.count == 3 and source.header.kinds == ("label",)
    assert source.keys() == [f"city/frame{i}" for i in range(3)]
    for i in range(3):
        assert np.array_equal(label_of("again", f"city/frame{i}"), whole(i))


def test_parts_come_through_a_pipe_and_the_size_from_boxes():
    place = frames("frames")
    record = Record("city/frame1")
    record.set("boxes", Boxes(np.zeros((0, 4)), np.zeros(0, int), SIZE))
    write_place("sizes", [record], kinds=["boxes"], classes=STREET)
    with open("keys", "w") as file:
        file.write("city/frame1\n")
    crops = run(["ws-weaken", place, "--crops", "3x5", "--tags", "--keep", "label"]).stdout
    run(["ws-fuse", "-", "--parts-of", "sizes", "--rule", "vote", "--keys", "keys", "-o",
         "again"], stdin=crops)
    assert open_source("again").keys() == ["city/frame1"]
    assert np.array_equal(label_of("again", "city/frame1"), whole(1))


@pytest.mark.parametrize("left", [("0-0", "0-1"), ("0-1", "1-0"), ("1-1",)])
def test_parts_have_their_place_where_others_of_the_grid_are_missing(left):
    place = frames("frames", 1)
    here_run(weaken, place, "--crops", "2x3", "--crop-share", ".5", ".25", "--tags", "--keep",
             "label", "-o", "crops.h5")
    with open("keys", "w") as file:
        file.writelines(f"city/frame0@{at}\n" for at in left)
    here_run(cat, "crops.h5", "--keys", "keys", "-o", "some")
    here_run(fuse, "some", "--parts-of", place, "--rule", "vote", "-o", "again")
    expected = np.full(SIZE, 255)
    for at in left:
        row, column = map(int, at.split("-"))
        where = window(SIZE[0], .5, 2, row), window(SIZE[1], .25, 3, column)
        expected[where] = whole(0)[where]
    assert np.array_equal(label_of("again", "city/frame0"), expected)


def test_a_part_beyond_the_grid_that_was_cut_is_refused():
    crops = parts("crops", lambda r, c, blank: blank, 2, 3, history=[
        history_entry("ws-weaken", "0", [], {"crop_share": [.4, .3], "crops": "2x2"}, {})])
    told = complaint(run(["ws-fuse", crops, "--parts-of", one("frames", whole(0)), "--rule",
                          "vote", "-o", "out"], code=ExitStatus.FAILED))
    assert "f: part f@0-2 is beyond the 2x2 parts that were cut" in told


def test_where_parts_overlap_the_rule_decides():
    """Two halves of three quarters each: sky in the left one, a car in the corner of the right."""
    def draw(_, column, blank):
        blank[:] = (SKY, 255)[column]
        if column:
            blank[:8, :32] = CAR
        return blank

    crops = parts("crops", draw, 1, 2, (16, 64), share=(1, .75),
                  history=[history_entry("ws-weaken", "0", [], {"crop_share": [1, .75]}, {})])
    place = one("frames", np.zeros((16, 64), np.uint8))
    right, corner = np.arange(64) >= 48, np.zeros((16, 64), bool)
    corner[:8, 16:48] = True
    for rule, says in (("smaller-area", CAR), ("priority", SKY), ("vote", 255)):
        here_run(fuse, crops, "--parts-of", place, "--rule", rule, "-o", "out", "--overwrite")
        expected = np.where(corner, says, np.where(right, 255, SKY))
        assert np.array_equal(label_of("out"), expected), rule


def test_the_smaller_area_is_that_in_the_whole_frame():
    """Against a count of pixels: the class with fewer pixels in all parts together wins."""
    rng = np.random.default_rng(1)
    drawn: dict = {}

    def draw(row, column, blank):
        blank[:] = rng.choice([ROAD, SKY, CAR, 255], (1, blank.shape[1]))
        drawn[row, column] = blank
        return blank

    crops = parts("crops", draw)
    here_run(fuse, crops, "--parts-of", one("frames", whole(0)), "--rule", "smaller-area", "-o",
             "out")
    said = np.zeros((4, *SIZE), bool)
    for (r, c), label in drawn.items():
        at = window(SIZE[0], 400 / 1024, 3, r), window(SIZE[1], 500 / 2048, 5, c)
        for cls in range(4):
            said[(cls, *at)] |= label == cls
    expected = np.full(SIZE, 255)
    for cls in sorted(range(4), key=lambda c: -said[c].sum()):  # the smallest is drawn last
        expected[said[cls]] = cls
    assert np.array_equal(label_of("out"), expected)


def test_the_tags_of_a_part_count_in_that_part():
    """A pixel of a class that any of the crops around it lacks is unknown; against a loop."""
    rng = np.random.default_rng(2)
    tags: dict = {}

    def draw(row, column, _):
        tags[row, column] = tuple(sorted(set(rng.choice(4, 3).tolist())))
        return tags[row, column]

    crops = parts("crops.h5", draw)
    label = whole(5)
    here_run(fuse, one("frames", label), "--rule", "agree", "--absent", "ignore", "--weak", crops,
             "--reasons", "-o", "out")
    expected = label.copy()
    for r, c in tags:
        at = window(SIZE[0], 400 / 1024, 3, r), window(SIZE[1], 500 / 2048, 5, c)
        expected[at] = np.where(np.isin(label[at], tags[r, c]), expected[at], 255)
    found = open_source("out").get("f")
    assert np.array_equal(found.get("label"), expected) and (expected != label).any()
    assert np.array_equal(found.get("conf") == 6, expected != label)


def test_parts_cost_what_they_cost_one_by_one(tmp_path):
    place = frames("frames")
    here_run(weaken, place, "--crops", "3x5", "--tags", "-o", "tags.h5")
    spent = open_source("tags.h5").end.supervision["tags"]
    assert spent[0] == 45
    here_run(fuse, place, "--rule", "agree", "--absent", "ignore", "--weak", "tags.h5", "-o",
             "clean")
    here_run(weaken, place, "--crops", "3x5", "--tags", "--keep", "label", "-o", "crops")
    here_run(fuse, "crops", "--parts-of", place, "--rule", "vote", "-o", "again")
    for made in ("clean", "again"):
        source = open_source(made)
        assert by_kind(source.header.supervision)["tags"] == spent
        assert "tags" not in source.end.supervision


@pytest.mark.parametrize("words, said, code", [
    (["frames", "--parts-of", "frames", "--rule", "vote"], "holds no parts", ExitStatus.USAGE),
    (["crops", "--parts-of", "frames", "--rule", "agree"], "by --rule smaller-area",
     ExitStatus.USAGE),
    (["crops", "crops", "--parts-of", "frames", "--rule", "vote"], "takes one INPUT",
     ExitStatus.USAGE),
    (["crops", "--parts-of", "none", "--rule", "vote"], "without counterpart in none",
     ExitStatus.USAGE),
    (["crops", "--parts-of", "narrow", "--rule", "vote"],
     "f: part f@0-0 is 25x31, but those of a 64x64 image are 25x16", ExitStatus.FAILED),
    (["tags.h5", "--parts-of", "frames", "--rule", "vote"], "f: part f@0-0: has no label",
     ExitStatus.FAILED),
    (["frames", "--absent", "zero", "--weak", "tags.h5"], "the tags of whole images, not of parts",
     ExitStatus.FAILED),
])
def test_what_cannot_be_put_together_is_one_line(words, said, code):
    one("frames", whole(0))
    one("narrow", whole(0, (64, 64)))
    write_place("none", [], kinds=["label"], classes=STREET)
    parts("crops", lambda r, c, blank: blank)
    parts("tags.h5", lambda r, c, blank: (ROAD,))
    assert said in complaint(run(["ws-fuse", *words, "-o", "out"], code=code))
