"""ws-info: what a place holds, and whether it is complete and sound."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests import conftest
from tests.conftest import CLASSES, complaint, make_record, write_place
from wsseg.cli import _command
from wsseg.io.header import history_entry
from wsseg.io.record import Record
from wsseg.io.values import Boxes, Points

ENTRY = history_entry("ws-weaken", "0.1", ["--boxes", "--note", "two words"], {}, {})


def run(words, *, code: int = 0, stdin: bytes | None = None) -> subprocess.CompletedProcess:
    """Run a tool as conftest.run does, but in this process, which takes a tenth of the time."""
    if stdin is not None:
        return conftest.run(words, code=code, stdin=stdin)
    name, *rest = map(str, words.split() if isinstance(words, str) else words)
    tool = import_module(f"wsseg.cli.{name.removeprefix('ws-')}").main
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    with contextlib.redirect_stdout(io.StringIO()) as out, \
            contextlib.redirect_stderr(io.StringIO()) as err:
        status = int(_command.run(tool, rest))
    for number, handler in handlers.items():
        signal.signal(number, handler)
    assert status == code, f"{words}: exit {status}, expected {code}\n{err.getvalue()}"
    return subprocess.CompletedProcess(words, status, out.getvalue().encode(),
                                       err.getvalue().encode())


def info(*words, code: int = 0, **options) -> dict:
    done = run(["ws-info", *words, "--json"], code=code, **options)
    return json.loads(done.stdout)["places"][0]


@pytest.fixture
def boxed(tmp_path: Path) -> str:
    return write_place(tmp_path / "boxed", [make_record(i, "boxes", "image") for i in range(6)],
                       kinds=["boxes", "image"], history=[ENTRY])


def lone(place: Path, **values) -> str:
    """A place of one record ``a`` with these kinds."""
    record = Record("a")
    for kind, value in values.items():
        record.set(kind, value)
    return write_place(place, [record])


@pytest.mark.parametrize("name, form", [("p", "directory"), ("p.tar", "tar file"),
                                        ("p.h5", "HDF5 file")])
def test_every_form_tells_the_same(name, form, tmp_path):
    records = [make_record(i, "boxes", "image") for i in range(6)]

    facts = info(write_place(tmp_path / name, records, kinds=["boxes", "image"]))

    assert facts["form"] == form and facts["complete"] is True and facts["why"] is None
    assert facts["records"] == 6 and facts["kinds"] == {"boxes": 6, "image": 6}
    assert facts["sizes"] == {"low": [24, 32], "high": [24, 32], "of": 6}
    assert facts["classes"] == list(CLASSES) and facts["ignore"] == 255
    assert facts["supervision"] == {"boxes": [6, 12, 12]} and facts["failed"] == 0


def test_a_stream_is_read_through(tmp_path):
    place = write_place(tmp_path / "p.tar", [make_record(i, "label") for i in range(5)])

    facts = info(stdin=Path(place).read_bytes())

    assert (facts["form"], facts["records"], facts["kinds"]) == ("stream", 5, {"label": 5})


def test_sizes_are_a_range(tmp_path):
    def sized(number: int) -> Record:
        record = Record(f"r{number}")
        record.set("label", np.zeros((10 + number, 20 - number), np.uint8))
        return record

    assert info(write_place(tmp_path / "p", map(sized, range(4))))["sizes"] == \
        {"low": [10, 17], "high": [13, 20], "of": 4}


def test_sizes_come_from_weak_labels_where_there_is_no_picture(tmp_path):
    place = write_place(tmp_path / "p", [make_record(0, "boxes")])

    assert info(place)["sizes"]["low"] == [24, 32]


def test_it_tells_whether_a_strong_label_was_used(boxed, tmp_path):
    strong = make_record(0, "label")
    strong.supervision = {"masks": (2, 2)}
    leaky = write_place(tmp_path / "leaky", [strong, make_record(1, "boxes")])

    assert "no strong label used" in run(["ws-info", boxed]).stdout.decode()
    assert "strong labels of 1 images used" in info(leaky)["labels"]
    assert info(lone(tmp_path / "p", tags=(1,)))["labels"] == "none recorded"


def test_a_foreign_folder_is_told_apart(boxed, tmp_path):
    (tmp_path / "photos").mkdir()
    for path in Path(boxed).glob("*.image.png"):
        (tmp_path / "photos" / path.name).write_bytes(path.read_bytes())

    facts = info(tmp_path / "photos")

    assert (facts["form"], facts["complete"], facts["classes"]) == \
        ("foreign directory", None, None)
    assert facts["kinds"] == {"image": 6}


def test_history_names_the_tools(boxed):
    lines = run(["ws-info", "--history", boxed]).stdout.decode().splitlines()

    assert lines[1] == "  1. ws-weaken 0.1 --boxes --note 'two words'"
    assert "no strong label used" in lines[-1]


def test_the_list_is_a_file_of_keys(boxed, tmp_path):
    listed = run(["ws-info", "--list", boxed]).stdout

    assert listed.split() == [b"img%03d" % i for i in range(6)]
    (tmp_path / "keys").write_bytes(listed.split(b"\n", 2)[0] + b"\n")
    assert info(boxed, "--keys", tmp_path / "keys")["records"] == 1


def test_modes_exclude_each_other(boxed):
    assert "exclude each other" in complaint(run(["ws-info", boxed, "--list", "--check"], code=2))


@pytest.mark.parametrize("name", ["p", "p.tar", "p.h5"])
def test_a_sound_place_passes_the_check(name, tmp_path):
    records = [make_record(i, "label", "boxes", "tags", "image") for i in range(6)]

    facts = info(write_place(tmp_path / name, records), "--check")

    assert facts["sound"] is True and facts["faults"] == []


def test_a_directory_without_its_end_is_incomplete(boxed):
    (Path(boxed) / "__wsseg__" / "end.json").unlink()

    facts = info(boxed, code=4)

    assert facts["complete"] is False and "--resume" in facts["why"]
    assert info(boxed, "--check", code=4)["sound"] is False


def test_a_missing_record_is_named_and_the_place_incomplete(boxed):
    for path in Path(boxed).glob("img002.*"):
        path.unlink()

    done = run(["ws-info", "--check", boxed], code=4)

    assert b"img002: missing" in done.stderr and b"holds 5 of 6 records" in done.stderr


def test_a_cut_stream_is_incomplete_but_tells_what_it_holds(tmp_path):
    place = write_place(tmp_path / "p.tar", [make_record(i, "label") for i in range(6)])
    data = Path(place).read_bytes()

    facts = info(stdin=data[:len(data) // 2], code=4)

    assert facts["complete"] is False and 0 < facts["records"] < 6


def test_every_bad_record_is_named(boxed):
    one, two = (Path(boxed) / f"img00{i}.boxes.json" for i in (1, 4))
    one.write_bytes(one.read_bytes().replace(b'"class":1', b'"class":2'))
    two.write_bytes(b"{")

    done = run(["ws-info", "--check", boxed], code=1)

    first, second = done.stderr.decode().splitlines()
    assert first == "ws-info: img001: its bytes are not those that were written (wrong digest)"
    assert "img004: boxes: bad JSON" in second
    facts = info("--check", "--keep-going", boxed, code=3)
    assert facts["sound"] is False and len(facts["faults"]) == 2


def test_a_changed_header_is_found(boxed):
    path = Path(boxed) / "__wsseg__" / "header.json"
    path.write_bytes(path.read_bytes().replace(b"cat", b"cow"))

    for words in ([], ["--check"]):
        assert "wrong digest" in complaint(run(["ws-info", *words, boxed], code=1))


def test_a_damaged_list_of_records_is_found(boxed):
    path = Path(boxed) / "__wsseg__" / "records.tsv"
    path.write_bytes(path.read_bytes()[:200])

    assert "records.tsv is damaged" in complaint(run(["ws-info", "--check", boxed], code=1))


def test_a_record_that_nobody_wrote_is_found(boxed):
    for path in list(Path(boxed).glob("img003.*")):
        path.rename(path.with_name(path.name.replace("img003", "intruder")))

    done = run(["ws-info", "--check", boxed], code=1)

    assert b"intruder: not written by wsseg" in done.stderr
    assert b"img003: missing" in done.stderr


def test_maps_of_different_size_do_not_belong_together(tmp_path):
    place = lone(tmp_path / "p", image=np.zeros((8, 9, 3), np.uint8),
                 label=np.zeros((9, 8), np.uint8))

    assert "a: label is 9x8, but image is 8x9" in complaint(
        run(["ws-info", "--check", place], code=1))


@pytest.mark.parametrize("values, message", [
    ({"label": np.full((4, 4), 7, np.uint8)}, "label: 16 pixels are of no known class: value 7"),
    ({"tags": (1, 9)}, "tags: class 9, but there are 3 classes"),
    ({"counts": {4: 1}}, "counts: class 4"),
    ({"boxes": Boxes(np.array([[0, 0, 2, 2.]]), np.array([3]))}, "boxes: class 3"),
    ({"boxes": Boxes(np.array([[9, 0, 12, 2.]]), np.array([1]), (8, 9))},
     "boxes[0] at x=9, y=0 lies outside the image of 8x9"),
    ({"points": Points(np.array([[0, 0], [3, 8.]]), np.array([1, 1]), (8, 9))},
     "points[1] at x=3, y=8 lies outside")])
def test_what_cannot_be_is_found(values, message, tmp_path):
    place = lone(tmp_path / "p", **values)

    assert f"a: {message}" in complaint(run(["ws-info", "--check", place], code=1))


def test_a_box_that_leaves_the_image_is_sound(tmp_path):
    place = lone(tmp_path / "p", boxes=Boxes(np.array([[-3, 0, 12, 2.]]), np.array([1]), (8, 9)))

    assert info(place, "--check")["sound"] is True


def test_undrawn_pixels_of_a_scribble_are_no_class(tmp_path):
    drawn = np.full((4, 4), 255, np.uint8)
    drawn[1] = 2

    assert info(lone(tmp_path / "p", scribble=drawn), "--check")["sound"] is True


def test_a_flipped_bit_in_hdf5_is_found(tmp_path):
    place = write_place(tmp_path / "p.h5", [make_record(i, "tags") for i in range(4)])
    data = Path(place).read_bytes()
    tags = b'{"classes":[1,2]}\n'
    assert data.count(tags) == 4
    at = data.rindex(tags)
    Path(place).write_bytes(data[:at + 12] + b"0" + data[at + 13:])

    done = run(["ws-info", "--check", place], code=1)

    assert "wrong checksum" in complaint(done)


@pytest.mark.parametrize("change", [{"history": [1]}, {"history": [{"tool": "x"}]},
                                    {"classes": [1, 2]}, {"count": "6"}, {"kinds": [None]},
                                    {"supervision": {"tags": ["a", 1, 2]}}])
def test_a_forged_header_is_one_line(change, boxed):
    path = Path(boxed) / "__wsseg__" / "header.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | change))

    for words in ([], ["--check"], ["--history"]):
        assert "header" in complaint(run(["ws-info", boxed, *words], code=1))


def test_no_control_sequence_reaches_the_terminal(tmp_path):
    place = write_place(tmp_path / "p", [make_record(0, "label")],
                        classes=("background", "\x1b[31m", "dog"),
                        history=[history_entry("ws-\x1b[2J", "1", ["\x07"], {}, {})])

    for words in ([], ["--history"]):
        text = run(["ws-info", place, *words]).stdout
        assert b"\x1b" not in text and b"\x07" not in text


def test_the_worst_of_several_places_decides(boxed, tmp_path):
    cut = write_place(tmp_path / "cut", [make_record(0, "label")])
    (Path(cut) / "__wsseg__" / "end.json").unlink()

    done = run(["ws-info", cut, boxed], code=4)

    assert b"boxed" in done.stdout and b"cut" in done.stdout


def test_ten_thousand_records_are_counted_without_reading_them(tmp_path):
    """The pictures are no pictures: 100 of them are looked at, and nothing else."""
    for i in range(10_000):
        (tmp_path / f"{i:05d}.png").touch()

    facts = info(tmp_path)

    assert facts["records"] == facts["kinds"]["label"] == 10_000
    assert facts["unreadable"] == 100 and facts["sizes"] is None
