"""ws-fuse on places: joined by key, paid for once, and refused where they do not fit."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli.fuse_cases import STREET, fused, put, row, scores
from tests.conftest import (CLASSES, complaint, keys_of, make_label, make_record, run, tree,
                            write_place)
from wsseg.cli import fuse as cli
from wsseg.cli._command import run as run_here
from wsseg.errors import ExitStatus
from wsseg.io.header import Header, Total
from wsseg.io.places import open_sink, open_source
from wsseg.io.record import Record
from wsseg.io.supervision import by_kind
from wsseg.io.values import Boxes, Points, ScoreMap


# -- places --------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path) -> tuple[str, str]:
    """Two directories of six label maps, the second without cats."""
    records = [make_record(i, "label") for i in range(6)]
    first = write_place(tmp_path / "first", records, kinds=["label"])
    for record in records:
        label = record.get("label")
        record.set("label", np.where(label == 1, 255, label).astype(np.uint8))
    return first, write_place(tmp_path / "nocat", records, kinds=["label"])


def payload(folder: Path) -> dict[str, bytes]:
    """Every file of a directory but what speaks of its header."""
    return {n: d for n, d in tree(folder).items() if n not in (
        "__wsseg__/header.json", "__wsseg__/end.json")}


@pytest.mark.parametrize("forms", [("h5", "dir"), ("dir", "tar"), ("tar", "dir"), ("tar", "tar"),
                                   ("tar", "h5"), ("h5", "-"), ("tar", "-"), ("-", "dir")])
def test_places_of_all_forms_are_joined_by_key(two, tmp_path, forms):
    run(["ws-fuse", *two, "--rule", "agree", "-o", tmp_path / "expected"])
    line, stdin = [], subprocess.DEVNULL
    for i, (place, form) in enumerate(zip(two, forms)):
        if form == "-":
            stdin = run(["ws-cat", place]).stdout
        elif form != "dir":
            run(["ws-cat", place, "-o", tmp_path / f"p{i}.{form}"])
        line.append("-" if form == "-" else place if form == "dir" else tmp_path / f"p{i}.{form}")
    run(["ws-fuse", *line, "--rule", "agree", "-o", tmp_path / "out"], stdin=stdin)
    assert payload(tmp_path / "out") == payload(tmp_path / "expected")
    label = open_source(str(tmp_path / "out")).get("img003").get("label")
    assert (label == np.where(make_label(3) == 1, 255, make_label(3))).all()


def test_the_order_of_inputs_is_that_of_the_command_line_whichever_leads(two, tmp_path):
    stream = run(["ws-cat", two[1]]).stdout
    run(["ws-fuse", two[0], "-", "--rule", "priority", "-o", tmp_path / "out"], stdin=stream)
    assert (open_source(str(tmp_path / "out")).get("img001").get("label") == make_label(1)).all()


def test_a_stream_may_hold_more_records_than_the_one_that_leads(two, tmp_path):
    (tmp_path / "keys").write_text("img001\nimg004\n")
    run(["ws-cat", two[0], "--keys", tmp_path / "keys", "-o", tmp_path / "some.tar"])
    run(["ws-cat", two[1], "-o", tmp_path / "all.tar"])
    run(["ws-fuse", tmp_path / "some.tar", tmp_path / "all.tar", "-o", tmp_path / "out"])
    assert keys_of(tmp_path / "out") == ["img001", "img004"]
    run(["ws-fuse", tmp_path / "all.tar", tmp_path / "all.tar", "--shard", "1/2", "-o",
         tmp_path / "half"])
    done = run(["ws-fuse", tmp_path / "all.tar", tmp_path / "some.tar", "-o", tmp_path / "none"],
               code=ExitStatus.USAGE)
    assert "some.tar has no img000" in complaint(done)


def test_a_record_that_another_place_lacks_is_named(two, tmp_path):
    (tmp_path / "keys").write_text("img001\nimg004\n")
    run(["ws-cat", two[1], "--keys", tmp_path / "keys", "-o", tmp_path / "some"])
    done = run(["ws-fuse", two[0], tmp_path / "some"], code=ExitStatus.USAGE)
    assert "4 records are without counterpart" in complaint(done)
    stream = run(["ws-cat", two[0]]).stdout
    done = run(["ws-fuse", "-", tmp_path / "some"], stdin=stream, code=ExitStatus.FAILED)
    assert "img000: is not in" in complaint(done)
    for lead, stdin in ((two[0], subprocess.DEVNULL), ("-", stream)):
        run(["ws-fuse", lead, tmp_path / "some", "--keep-going", "-o", tmp_path / "out",
             "--overwrite"], stdin=stdin, code=ExitStatus.SOME_FAILED)
        assert keys_of(tmp_path / "out") == ["img001", "img004"]


@pytest.mark.parametrize("cut", [.5, .75, 1])
def test_an_input_beside_the_leading_one_must_be_complete_too(two, tmp_path, cut):
    stream = run(["ws-cat", two[1]]).stdout
    (tmp_path / "cut.tar").write_bytes(stream[:int(cut * (len(stream) - 2048)) // 512 * 512])
    done = run(["ws-fuse", two[0], tmp_path / "cut.tar", "-o", tmp_path / "out"],
               code=ExitStatus.INCOMPLETE)
    assert "incomplete" in complaint(done)
    whole = run(["ws-cat", two[0]]).stdout
    done = run(["ws-fuse", "-", tmp_path / "cut.tar", "-o", tmp_path / "out2"], stdin=whole,
               code=ExitStatus.INCOMPLETE)
    assert not (tmp_path / "out2/__wsseg__/end.json").exists()
    (Path(two[1]) / "__wsseg__/end.json").unlink()
    done = run(["ws-fuse", *two, "-o", tmp_path / "out3"], code=ExitStatus.INCOMPLETE)
    assert "nocat is incomplete" in complaint(done)


def test_only_one_place_can_be_standard_input(two):
    for line in (["-", "-"], [two[0], "-", "--weak", "-", "--absent", "ignore"]):
        assert "only one input" in complaint(run(["ws-fuse", *line], code=ExitStatus.USAGE))


def test_an_input_is_never_the_output(two):
    for out in two:
        done = run(["ws-fuse", *two, "-o", out, "--overwrite"], code=ExitStatus.USAGE)
        assert "also an input" in complaint(done)
    done = run(["ws-fuse", two[0], "--weak", two[1], "-o", two[1], "--overwrite"],
               code=ExitStatus.USAGE)
    assert "also an input" in complaint(done)


def test_places_of_different_classes_are_refused(tmp_path):
    one = put(tmp_path / "1", "label", row(0, 1))
    done = run(["ws-fuse", one, put(tmp_path / "2", "label", row(0, 1), names=STREET)],
               code=ExitStatus.USAGE)
    assert "class 0 is 'background' in one and 'road' in the other" in complaint(done)
    done = run(["ws-fuse", one, put(tmp_path / "3", "label", row(0, 1), names=CLASSES[:2])],
               code=ExitStatus.USAGE)
    assert "3 classes against 2" in complaint(done)


def test_what_one_input_holds_besides_its_maps_is_passed_on(tmp_path):
    one = put(tmp_path / "1", "label", row(0, 1), tags=(1,))
    second = Record("one", {"note": b"hello"})
    second.set("label", row(0, 1))
    second.set("tags", (2,))
    second.set("points", Points(np.array([[0., 0]]), np.array([1]), (1, 2)))
    other = write_place(tmp_path / "2", [second], kinds=["label", "points", "tags"])
    run(["ws-fuse", one, other, "-o", tmp_path / "out"])
    record = open_source(str(tmp_path / "out")).get("one")
    assert record.kinds() == {"label", "score", "tags", "points", ".note"}
    assert record.get("tags") == (1,) and record.get(".note") == b"hello"
    assert open_source(str(tmp_path / "out")).header.kinds == ("label", "points", "score", "tags")
    run(["ws-fuse", one, other, "--absent", "ignore", "-o", tmp_path / "out2"])
    assert "tags" not in open_source(str(tmp_path / "out2")).get("one")


# -- supervision and history ---------------------------------------------------------------


def spent_place(path: Path, kind: str, value, header: dict, record: dict, tool: str) -> str:
    one = Record("one", supervision=record)
    one.set(kind, value)
    entry = {"tool": tool, "version": "1", "arguments": [], "parameters": {}, "inputs": {},
             "previous": [], "id": f"id-{tool}"}
    head = Header(kinds=(kind,), classes=CLASSES, history=(entry,), supervision=header)
    sink, total = open_sink(str(path), head), Total()
    packed = one.pack()
    sink.write(packed, packed.digest)
    total.add(packed.key, packed.digest, packed.supervision)
    sink.finish(total.end(head))
    return str(path)


def test_the_labels_spent_on_every_input_are_recorded(tmp_path):
    boxed = spent_place(tmp_path / "boxed", "label", row(0, 1), {"masks": (10, 20, 30)},
                        {"boxes": (1, 2)}, "ws-boxfill")
    tagged = spent_place(tmp_path / "tagged", "label", row(0, 1),
                         {"tags": (50, 70, 70), "masks": (8, 25, 28)},
                         {"tags": (2, 2), "boxes": (2, 1)}, "ws-cam")
    weak = put(tmp_path / "weak", "counts", {1: 4})

    run(["ws-fuse", boxed, tagged, "--absent", "ignore", "--weak", weak, "-o", tmp_path / "out"])

    source = open_source(str(tmp_path / "out"))
    assert source.header.supervision == {"tags": (50, 70, 70), "masks": (10, 25, 30)}
    assert source.get("one").supervision == {"boxes": (2, 2), "tags": (2, 2), "counts": (1, 4)}
    tools = [e["tool"] for e in source.header.history]
    assert tools == ["ws-cam", "ws-boxfill", "ws-fuse"]
    last = source.header.history[-1]
    assert {"id-ws-cam", "id-ws-boxfill"} <= set(last["previous"])
    assert str(tmp_path) not in json.dumps(source.header.history)


def test_boxes_are_not_paid_for_twice(place, tmp_path):
    boxes = place("boxes", "boxes")
    run(["ws-boxfill", boxes, "--method", "rect", "-o", tmp_path / "filled"])
    run(["ws-fuse", tmp_path / "filled", tmp_path / "filled", "--outside", "ignore", "--weak",
         boxes, "-o", tmp_path / "out"])
    assert open_source(str(tmp_path / "out")).end.supervision == {"boxes": (6, 12, 12)}


def test_what_an_unpacked_tar_says_of_the_whole_is_not_lost(place, two, tmp_path):
    run(["ws-boxfill", place("boxes", "boxes"), "--method", "rect", "-o", tmp_path / "f.tar"])
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "xf", tmp_path / "f.tar", "-C", tmp_path / "unpacked"], check=True)
    run(["ws-fuse", two[0], tmp_path / "unpacked", "-o", tmp_path / "out"])
    assert by_kind(open_source(str(tmp_path / "out")).header.supervision) == {"boxes": (6, 12, 12)}


def test_weak_labels_written_by_hand_cost_what_they_are(two, tmp_path):
    (tmp_path / "tags").mkdir()
    for i in range(6):
        (tmp_path / f"tags/img{i:03d}.tags.json").write_text('{"classes": ["cat"]}')
    run(["ws-fuse", *two, "--rule", "priority", "--absent", "ignore", "--weak", tmp_path / "tags",
         "-o", tmp_path / "out"])
    source = open_source(str(tmp_path / "out"))
    assert source.end.supervision == {"tags": (6, 6, 6)}
    label = make_label(2)
    assert (source.get("img002").get("label") == np.where(label == 2, 255, label)).all()


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize("options, what", [
    ("--rule weighted", "needs --weights"),
    ("--weights 1,2", "belongs to --rule weighted or product"),
    ("--rule weighted --weights 1", "--weights has 1 values for 2 inputs"),
    ("--rule weighted --weights 1,-1", "must not be negative"),
    ("--rule weighted --weights 0,0", "not all 0"),
    ("--rule weighted --weights 1,nan", "must not be negative"),
    ("--rule weighted --weights a,b", "no list of numbers"),
    ("--rule vote --confidence .5", "no meaning for --rule vote"),
    ("--confidence 1.5", "not in [0, 1]"),
    ("--confidence .5,.5,.5", "3 values for 2 inputs"),
    ("--rule vote --write score", "makes labels, no scores"),
    ("--opinions all,all", "no meaning for --rule mean"),
    ("--rule vote --opinions all", "1 values for 2 inputs"),
    ("--rule vote --opinions all,most", "all, things or stuff"),
    ("--write score --min-score .5", "--min-score shapes labels"),
    ("--write score --reasons", "--reasons shapes labels"),
    ("--write score --absent ignore", "only --absent zero"),
    ("--absent ignore", "no counts or tags in any input"),
    ("--outside ignore", "no boxes in any input"),
    ("--use score", "holds no score, but label"),
    ("--rule vote --opinions all,things --things cow", "unknown class 'cow'"),
    ("--rule vote --opinions all,things --things 9", "no class 9"),
])
def test_options_that_contradict_are_usage_errors(two, options, what, tmp_path, capfd):
    line = [*two, *options.split(), "-o", str(tmp_path / "out")]
    assert run_here(cli.main, line) == ExitStatus.USAGE
    (text,) = capfd.readouterr().err.splitlines()
    assert what in text
    assert not (tmp_path / "out").exists()


def test_classes_without_background_need_to_know_their_things(tmp_path):
    place = put(tmp_path / "p", "label", row(0, 2), names=STREET)
    done = run(["ws-fuse", place, "--rule", "vote", "--opinions", "things"],
               code=ExitStatus.USAGE)
    assert "--things" in complaint(done)
    done = run(["ws-fuse", place, "--outside", "background"], code=ExitStatus.USAGE)
    assert "no background" in complaint(done)


def test_things_of_known_data_sets_are_known(tmp_path):
    from wsseg.data.names import DATASETS

    place = put(tmp_path / "p", "label", row(0, 10, 11, 18), names=DATASETS["cityscapes"])
    assert fused(place, "--rule", "vote", "--opinions", "things",
                 folder=tmp_path).tolist() == [[255, 255, 11, 18]]
    assert fused(place, "--rule", "vote", "--opinions", "stuff", "--things", "10, 0",
                 folder=tmp_path).tolist() == [[255, 255, 11, 18]]


def test_maps_of_different_sizes_are_both_named(tmp_path):
    one = put(tmp_path / "1", "label", row(0, 1))
    other = put(tmp_path / "2", "score", scores({0: [[1.], [1.]]}))
    done = run(["ws-fuse", one, other], code=ExitStatus.FAILED)
    assert re.search("one: maps differ in size: 1x2 in .*1, 2x1 in .*2 .transposed",
                     complaint(done))
    boxes = put(tmp_path / "b", "boxes", Boxes(np.array([[0., 0, 1, 1]]), np.array([1]), (5, 5)))
    done = run(["ws-fuse", one, "--outside", "ignore", "--weak", boxes], code=ExitStatus.FAILED)
    assert "boxes are for a 5x5 image, but its maps are 1x2" in complaint(done)
    big = put(tmp_path / "3", "score", scores({0: [1., 1, 1]}, size=(1, 2)))
    done = run(["ws-fuse", one, big], code=ExitStatus.FAILED)
    assert "scores of 1x3 for an image of 1x2" in complaint(done)


@pytest.mark.parametrize("values, what", [
    ([np.nan, .5], "not finite"), ([-.5, .5], "not in [0, 1]"), ([.9, .9], "not normalised"),
    ([7, -3], "softmax")])
def test_what_is_no_probability_is_named_with_its_place(tmp_path, values, what):
    good = put(tmp_path / "good", "score", scores({0: [.5], 1: [.5]}))
    bad = put(tmp_path / "bad", "score", scores({0: [.5], 1: [.5]}))
    np.savez(tmp_path / "bad/one.score.npz", data=np.array(values, np.float32).reshape(2, 1, 1),
             classes=np.arange(2, dtype=np.uint16), size=np.array([1, 1], np.uint32))
    for rule in ("mean", "vote"):
        done = run(["ws-fuse", good, bad, "--rule", rule], code=ExitStatus.FAILED)
        assert what in complaint(done) and "/bad: " in complaint(done)


def test_cams_are_not_averaged_with_probabilities(tmp_path):
    cam = put(tmp_path / "c", "cam", scores({1: [.9]}))
    score = put(tmp_path / "s", "score", scores({1: [.9]}))
    done = run(["ws-fuse", cam, score], code=ExitStatus.FAILED)
    assert "cams are no probabilities" in complaint(done)
    assert fused(cam, score, "--rule", "vote", folder=tmp_path).tolist() == [[1]]


def test_classes_that_the_names_lack_are_refused(tmp_path):
    for kind, value in (("label", row(0, 9)), ("score", scores({0: [.5], 9: [.5]}))):
        done = run(["ws-fuse", put(tmp_path / kind, kind, value)], code=ExitStatus.FAILED)
        assert "9" in complaint(done) and "3 classes" in complaint(done)


def test_a_record_without_a_map_says_what_it_holds(tmp_path):
    place = put(tmp_path / "t", "tags", (1,))
    done = run(["ws-fuse", place], code=ExitStatus.USAGE)
    assert "holds no score or cam or label or instance, but tags" in complaint(done)


def test_more_scores_than_fit_in_memory_are_refused_but_not_their_labels(tmp_path):
    """30 megapixels of 200 classes would be 24 GB; the label map needs strips of them."""
    from wsseg.cli import _fusing

    assert 200 * 5000 * 6000 * 4 > _fusing.MAX_BYTES
    value = ScoreMap(np.full((200, 2, 2), .005, np.float16), np.arange(200), (5000, 6000))
    place = put(tmp_path / "big", "score", value, names=None)
    done = run(["ws-fuse", place], code=ExitStatus.FAILED)
    assert "12.0 GB: ask for --write label" in complaint(done)
