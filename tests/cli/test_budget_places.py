"""ws-budget subsets, statistics and prices: what they do with places, lists and timings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_info import run
from tests.cli_contract import TextContract
from tests.conftest import CLASSES, complaint, make_label, make_record, tree, write_place
from wsseg.data.lists import read_list
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Masks, Segment


class TestStatistics(TextContract):
    tool = "ws-budget statistics"
    kinds = ("boxes",)


def statistics(*words, **options) -> dict:
    return json.loads(run(["ws-budget", "statistics", *words, "--json"], **options).stdout)


@pytest.fixture
def keys(tmp_path: Path) -> str:
    (tmp_path / "train.txt").write_text("".join(f"img{i:03d}\n" for i in range(12)))
    return str(tmp_path / "train.txt")


def lists(folder: Path) -> dict[str, list[str]]:
    return {p.name: p.read_text().split() for p in sorted(folder.iterdir())}


# -- subsets ---------------------------------------------------------------------------------

def test_five_lists_of_each_size_are_written(keys, tmp_path):
    out = tmp_path / "lists"

    done = run(["ws-budget", "subsets", "--keys", keys, "-n", 3, "-n", 6, "-o", out])

    made = lists(out)
    assert sorted(made) == sorted(f"{n}-{seed}.txt" for n in (3, 6) for seed in range(5))
    assert done.stdout.decode().split() == [f"{out}/{n}-{s}.txt" for n in (3, 6) for s in range(5)]
    for seed in range(5):
        small, large = made[f"3-{seed}.txt"], made[f"6-{seed}.txt"]
        assert len(small) == 3 and len(large) == 6 and set(small) < set(large)
        assert large == sorted(large)
    assert len({tuple(made[f"6-{s}.txt"]) for s in range(5)}) > 1


def test_a_place_has_the_same_subsets_as_the_list_of_its_keys(keys, tmp_path):
    place = write_place(tmp_path / "p.h5", [make_record(i, "tags") for i in range(12)])
    stream = write_place(tmp_path / "p.tar", [make_record(i, "tags") for i in range(12)])

    run(["ws-budget", "subsets", "--keys", keys, "-n", 4, "-o", tmp_path / "a"])
    run(["ws-budget", "subsets", place, "-n", 4, "-o", tmp_path / "b"])
    run(["ws-budget", "subsets", "-", "-n", 4, "-o", tmp_path / "c"],
        stdin=Path(stream).read_bytes())

    assert tree(tmp_path / "a") == tree(tmp_path / "b") == tree(tmp_path / "c")


def test_ws_weaken_leaves_the_same_records_strong(tmp_path):
    place = write_place(tmp_path / "p", [make_record(i, "label") for i in range(12)],
                        kinds=["label"])
    run(["ws-budget", "subsets", place, "-n", 5, "--seed", 7, "--runs", 1, "-o", tmp_path / "l"])

    run(["ws-weaken", place, "--count", 5, "--subset-seed", 7, "--part", "strong",
         "-o", tmp_path / "strong"])

    listed = run(["ws-info", "--list", tmp_path / "strong"]).stdout.decode().split()
    assert listed == lists(tmp_path / "l")["5-7.txt"]


def test_the_rest_is_what_was_not_chosen(keys, tmp_path):
    run(["ws-budget", "subsets", "--keys", keys, "-n", 5, "-n", 12, "--runs", 1, "--rest",
         "-o", tmp_path / "l"])

    made = lists(tmp_path / "l")
    assert sorted(made["5-0.txt"] + made["5-0.rest.txt"]) == made["12-0.txt"]
    assert "12-0.rest.txt" not in made


def test_the_papers_sizes(tmp_path):
    (tmp_path / "k").write_text("".join(f"k{i:05d}\n" for i in range(9118)))

    files = json.loads(run(["ws-budget", "subsets", "--keys", tmp_path / "k", "--paper",
                            "--paper-weak", "--runs", 1, "-o", tmp_path / "l", "--json"]).stdout)

    assert files["keys"] == 9118
    assert {int(name.split("-")[0]): len(some) for name, some in lists(tmp_path / "l").items()} == {
        n: n for n in (100, 200, 400, 800, 1464, 912, 2279, 4559, 6838, 9118)}


def test_all_keys_make_equal_subsets_and_that_is_said(keys, tmp_path):
    done = run(["ws-budget", "subsets", "--keys", keys, "-n", 12, "-o", tmp_path / "l"])

    assert "all the keys there are" in complaint(done)


def test_lists_are_replaced_only_when_asked(keys, tmp_path):
    words = ["ws-budget", "subsets", "--keys", keys, "-n", 3, "-o", tmp_path / "l"]
    run(words)
    before = tree(tmp_path / "l")

    assert "3-0.txt exists: add --overwrite" in complaint(run([*words, "--seed", 0], code=2))
    run([*words, "--overwrite", "--independent"])
    assert tree(tmp_path / "l").keys() == before.keys() and tree(tmp_path / "l") != before


def test_a_link_at_a_list_is_not_followed(keys, tmp_path):
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / "3-0.txt").symlink_to(tmp_path / "elsewhere")

    done = run(["ws-budget", "subsets", "--keys", keys, "-n", 3, "-o", tmp_path / "l"], code=5)

    assert "symbolic link" in complaint(done) and not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("words, message", [
    ("-o l", "add --number N or --paper"), ("-n 3", "-o"), ("-n 13 -o l", "only 12 keys"),
    ("a b -n 3 -o l", "name one INPUT"), ("--paper -o l", "a subset of 100"),
    ("-n 3 -o train.txt", "cannot make")])
def test_a_bad_choice_is_one_line(words, message, keys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    done = run(["ws-budget", "subsets", "--keys", keys, *words.split()], code=2)

    assert message in complaint(done) and not (tmp_path / "l").exists()


def test_there_must_be_keys(tmp_path):
    done = run(["ws-budget", "subsets", "-n", 3, "-o", tmp_path / "l"], code=2)

    assert "INPUT, or a list of keys with --keys" in complaint(done)


def tagged(tmp_path: Path, *keys: str) -> str:
    records = [Record(key) for key in keys]
    for record in records:
        record.set("tags", (1,))
    return write_place(tmp_path / "p", records)


def test_a_key_that_a_list_cannot_hold_is_refused(tmp_path):
    place = tagged(tmp_path, "a", "b/a.png")

    done = run(["ws-budget", "subsets", place, "-n", 2, "--runs", 1, "-o", tmp_path / "l"], code=2)

    assert "b/a.png: a list of keys would not be read back" in complaint(done)


def test_odd_keys_are_listed_so_that_they_are_found_again(tmp_path):
    place = tagged(tmp_path, "#1", "a.png")

    run(["ws-budget", "subsets", place, "-n", 2, "--runs", 1, "-o", tmp_path / "l"])

    assert read_list(str(tmp_path / "l" / "2-0.txt")) == ["#1", "a.png"]


# -- statistics ------------------------------------------------------------------------------

def test_label_maps_are_counted_by_their_parts(tmp_path):
    label = make_label(0)
    label[2:6, 28:32] = 1  # a second cat
    label[20, 2] = 1       # a speck
    record = Record("z")
    record.set("label", label)
    place = write_place(tmp_path / "p", [record, make_record(1, "label")])

    found = statistics(place)

    assert (found["images"], found["n_classes"]) == (2, 2)
    assert found["classes_per_image"]["mean"] == 2
    assert found["objects_per_image"]["mean"] == 2.5
    assert [(c["class"], c["images"], c["objects"]) for c in found["classes"]] == [
        ("cat", 2, 3), ("dog", 2, 2)]
    assert found["seconds_per_image"]["masks"]["mean"] == pytest.approx(2.5 * 79)
    assert statistics(place, "--min-area", 1)["objects_per_image"]["mean"] == 3


def instances() -> tuple[str, object]:
    ids = np.zeros((24, 32), np.uint16)
    ids[:, :4], ids[:, 4:8] = 1, 2
    return "instance", InstanceMap(ids, (Segment(1, 1), Segment(2, 1)))


@pytest.mark.parametrize("kind, value, classes, objects", [
    ("counts", {1: 3, 2: 0}, 1, 3), ("tags", (1, 2), 2, None), (*instances(), 1, 2),
    ("masks", Masks((2, 2), ((0, 4), (4,)), np.array([1, 1]), np.ones(2)), 1, 2)])
def test_other_labels_are_counted_as_what_they_tell(tmp_path, kind, value, classes, objects):
    record = Record("a")
    record.set(kind, value)

    found = statistics(write_place(tmp_path / "p", [record]))

    assert found["classes_per_image"] == {"mean": classes, "interval": None}
    assert (found["objects_per_image"] or {}).get("mean") == objects


def test_scribbles_tell_classes(tmp_path):
    drawn = np.full((24, 32), 255, np.uint8)
    drawn[0], drawn[5] = 0, 2
    record = Record("a")
    record.set("scribble", drawn)

    found = statistics(write_place(tmp_path / "p", [record]))

    assert found["classes_per_image"]["mean"] == 1 and found["objects_per_image"] is None


def test_statistics_price_a_data_set_of_ones_own(tmp_path):
    place = write_place(tmp_path / "p", [make_record(i, "boxes") for i in range(4)])
    (tmp_path / "s.json").write_bytes(run(["ws-budget", "statistics", place, "--json"]).stdout)

    for known in (tmp_path / "s.json", place):
        rows = json.loads(run(["ws-budget", "cost", "--statistics", known, "--mix", "boxes=100",
                               "--json"]).stdout)["rows"]
        assert rows[0]["seconds"] == pytest.approx(100 * 2 * 7)


def test_the_text_names_every_class_when_asked(tmp_path):
    place = write_place(tmp_path / "p", [make_record(i, "boxes") for i in range(4)])

    text = run(["ws-budget", "statistics", place, "--by-class"]).stdout.decode()

    assert "objects an image   2.00  (2.00 to 2.00)" in text
    assert [line.split() for line in text.splitlines()[-2:]] == [["cat", "4", "4"],
                                                                  ["dog", "4", "4"]]


@pytest.mark.parametrize("records, classes, message", [
    ([make_record(0, "tags"), make_record(1, "boxes")], CLASSES, "only 1 of 2 records tell"),
    ([], CLASSES, "no record to measure"), ([make_record(0, "boxes")], None, "--n-classes N")])
def test_what_cannot_be_measured_is_one_line(records, classes, message, tmp_path):
    place = write_place(tmp_path / "p", records, classes=classes)

    assert message in complaint(run(["ws-budget", "statistics", place], code=2))


def test_records_without_labels_are_named(tmp_path):
    place = write_place(tmp_path / "p", [make_record(0, "image")])

    assert "img000: no labels: it holds image" in complaint(
        run(["ws-budget", "statistics", place], code=1))


# -- prices ----------------------------------------------------------------------------------

def test_prices_are_shown_with_their_sources():
    text = run("ws-budget prices").stdout.decode()

    assert [line.split()[:2] for line in text.splitlines()[1:]] == [
        ["tag", "1"], ["count", "1.48"], ["box", "7"], ["mask", "79"], ["point", "2.4"],
        ["click", "0.9"], ["scribble", "10.9"]]
    assert "Papadopoulos et al. 2017" in text


def test_timings_give_median_interval_and_mean(tmp_path):
    (tmp_path / "t.csv").write_text("".join(f"box,{n}\n" for n in (4, 5, 6, 7, 8, 60)))

    value = json.loads(run(["ws-budget", "prices", tmp_path / "t.csv", "--json"]).stdout)

    assert value["timings"] == {"box": {"number": 6, "median": 6.5, "mean": 15.0,
                                        "interval": [4, 60]}}
    assert value["prices"]["box"] == 6.5 and value["prices"]["mask"] == 79
    text = run(["ws-budget", "prices", tmp_path / "t.csv"]).stdout.decode()
    assert text.splitlines()[3].split()[:6] == ["box", "6.5", "6", "4", "60", "15"]


def test_a_bad_file_of_timings_is_one_line(tmp_path):
    (tmp_path / "t.csv").write_text("bx,3\n")

    done = run(["ws-budget", "prices", tmp_path / "t.csv"], code=2)

    assert "'bx'; did you mean box" in complaint(done)
