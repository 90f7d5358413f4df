"""ws-budget cost: what the labels of places cost. Numbers are worked out beside each test."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_info import run
from tests.conftest import CLASSES, complaint, make_label, make_record, write_place
from wsseg.io.header import Header, Total
from wsseg.io.places import open_sink
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Segment


def cost(*words, **options) -> dict:
    return json.loads(run(["ws-budget", "cost", *words, "--json"], **options).stdout)


def boxes(number: int) -> Record:
    """Two boxes of two classes of the two that are asked for: 0 absent + 2 * 7 s."""
    return make_record(number, "boxes")


@pytest.fixture
def boxed(tmp_path: Path) -> str:
    return write_place(tmp_path / "boxed", map(boxes, range(6)), kinds=["boxes"])


def trained(place: Path, spent: dict[str, tuple[int, int, int]]) -> str:
    """A place of predictions by a model that labels were spent on."""
    header, total = Header(kinds=("label",), classes=CLASSES, supervision=spent), Total()
    sink = open_sink(str(place), header)
    packed = make_record(0, "label").pack()
    sink.write(packed, packed.digest)
    total.add(packed.key, packed.digest, {})
    sink.finish(total.end(header))
    return str(place)


def test_recorded_supervision_is_priced_without_reading_a_record(boxed):
    for path in Path(boxed).glob("*.json"):
        path.write_bytes(b"broken")

    row, = cost(boxed)["rows"]

    assert (row["supervision"], row["images"], row["classes"], row["objects"]) == \
        ("boxes", 6, 12, 12)
    assert row["seconds"] == 12 * 7
    assert row["seconds_per_image"] == 14
    assert row["days"] == pytest.approx(84 / 86400)


@pytest.mark.parametrize("form", ["p", "p.tar", "p.h5"])
def test_every_form_of_a_place_has_the_same_price(form, tmp_path):
    place = write_place(tmp_path / form, map(boxes, range(6)))

    assert cost(place)["rows"][0]["seconds"] == 84


def test_a_stream_is_priced(tmp_path):
    place = write_place(tmp_path / "p.tar", map(boxes, range(6)))

    row, = cost("-", stdin=Path(place).read_bytes())["rows"]

    assert (row["name"], row["seconds"]) == ("standard input", 84)


def test_labels_spent_on_a_model_are_part_of_the_price(tmp_path):
    place = trained(tmp_path / "p", {"masks": (10, 15, 28)})

    row, = cost(place, "--n-classes", "20")["rows"]

    assert row["seconds"] == pytest.approx(10 * 20 - 15 + 28 * 79)


def test_only_the_records_that_are_listed_are_priced(boxed, tmp_path):
    (tmp_path / "keys").write_text("img001\nimg004\n")

    assert cost(boxed, "--keys", tmp_path / "keys")["rows"][0]["seconds"] == 2 * 14
    assert sum(cost(boxed, "--shard", f"{i}/3")["rows"][0]["seconds"]
               for i in (1, 2, 3)) == 6 * 14


def test_weak_labels_are_priced_where_no_supervision_is_recorded(tmp_path):
    def bare(number: int) -> Record:
        record = make_record(number, "tags")
        record.set("counts", {1: 1, 2: 3})
        return record

    rows = cost(write_place(tmp_path / "p", map(bare, range(4))))["rows"]

    # Two classes are asked for in four images, then the two present ones are counted.
    assert {r["supervision"]: r["seconds"] for r in rows} == pytest.approx(
        {"tags": 4 * 2 * 1.0, "counts": 4 * 2 * 1.48})


def test_a_place_without_labels_costs_nothing(tmp_path):
    row, = cost(write_place(tmp_path / "p", [make_record(0, "label")]))["rows"]

    assert (row["supervision"], row["seconds"]) == ("none", 0)


def test_label_maps_are_priced_as_masks_by_their_components(tmp_path):
    label = make_label(0)
    label[2:6, 28:32] = 1  # a second cat
    label[6, 27] = 1       # which touches this pixel by a corner
    label[20, 2] = 1       # a speck
    record = Record("a")
    record.set("label", label)
    place = write_place(tmp_path / "p", [record])

    row, = cost(place, "--as", "masks")["rows"]
    every, = cost(place, "--as", "masks", "--min-area", 1)["rows"]

    assert (row["classes"], row["objects"], row["seconds"]) == (2, 3, 3 * 79)
    assert every["objects"] == 4


def test_instance_maps_are_priced_by_their_segments(tmp_path):
    record = make_record(0, "label")
    ids = np.zeros((24, 32), np.uint16)
    ids[:, :4], ids[:, 4:8] = 1, 2
    record.set("instance", InstanceMap(ids, (Segment(1, 1), Segment(2, 1))))

    row, = cost(write_place(tmp_path / "p", [record]), "--as", "boxes")["rows"]

    assert (row["classes"], row["objects"]) == (1, 2)
    assert row["seconds"] == (2 - 1) * 1 + 2 * 7


def test_pricing_as_masks_needs_objects(tmp_path):
    done = run(["ws-budget", "cost", write_place(tmp_path / "p", [make_record(0, "tags")]),
                "--as", "masks"], code=1)

    assert "img000: --as masks needs objects" in complaint(done)


def test_classes_without_background_are_all_asked_for(tmp_path):
    names = ("road", "car", "person")
    place = write_place(tmp_path / "p", [make_record(0, "boxes")], classes=names)

    assert cost(place)["n_classes"] == 3


def test_the_number_of_classes_must_be_known(tmp_path):
    place = write_place(tmp_path / "p", [boxes(0)], classes=None)

    assert "--n-classes N or --classes voc" in complaint(run(["ws-budget", "cost", place], code=2))
    assert cost(place, "--classes", "voc")["rows"][0]["seconds"] == 18 + 14
    assert cost(place, "--n-classes", "5")["rows"][0]["seconds"] == 3 + 14


def test_several_places_are_added_and_compared(boxed, tmp_path):
    masks = trained(tmp_path / "full", {"masks": (6, 12, 12)})

    text = run(["ws-budget", "cost", boxed, masks]).stdout.decode()

    # 12 * 7 s against 12 * 79 s
    assert f"cost {79 / 7:.1f}x less than masks" in text
    assert text.splitlines()[3].split()[:2] == ["total", f"{12 * 7 + 12 * 79:,}"]


def test_an_incomplete_place_has_no_price(boxed):
    (Path(boxed) / "__wsseg__" / "end.json").unlink()

    done = run(["ws-budget", "cost", boxed], code=4)

    assert done.stdout == b"" and "incomplete" in complaint(done)


def test_prices_can_be_changed(boxed, tmp_path):
    (tmp_path / "prices.csv").write_text("action,seconds\nbox,5\n")

    assert cost(boxed, "--price", "box=4")["rows"][0]["seconds"] == 12 * 4
    table = cost(boxed, "--prices", tmp_path / "prices.csv")
    assert (table["rows"][0]["seconds"], table["prices"]["box"]) == (12 * 5, 5)


def test_a_data_set_needs_no_place_and_no_input():
    table = cost("--dataset", "voc", "--number", "10582")

    days = {row["name"]: round(row["days"], 2) for row in table["rows"]}
    assert {n: days[n] for n in ("IL", "IL+C", "BB", "Full")} == {
        "IL": 2.45, "IL+C": 2.72, "BB": 4.67, "Full": 29.36}


def test_a_mixture_is_one_budget():
    text = run("ws-budget cost --dataset voc --mix masks=1464,tags=9118").stdout.decode()

    assert round((1464 * 239.7 + 9118 * 20) / 86400, 2) == 6.17
    assert text.splitlines()[-1].split()[-1] == "6.17"


@pytest.mark.parametrize("words, message", [
    ("--number 5", "go with --dataset"), ("--mix tags=1", "go with --dataset"),
    ("--dataset voc --mix tags=1 --number 5", "leave out --number"),
    ("--dataset voc --as masks", "leave out INPUT and --as"),
    ("--dataset voc somewhere", "leave out INPUT and --as"),
    ("--dataset voc --price foo=1", "no price is called 'foo'")])
def test_options_that_contradict_are_refused(words, message):
    assert message in complaint(run(f"ws-budget cost {words}", code=2))


@pytest.mark.parametrize("text", [b'{"masks": [1, 2]}', b'{"masks": [1, 2, "x"]}',
                                  b'{"masks": [1, 2, -3]}'])
def test_a_forged_header_is_one_line(text, tmp_path):
    place = trained(tmp_path / "p", {"masks": (1, 2, 3)})
    path = Path(place) / "__wsseg__" / "header.json"
    value = json.loads(path.read_bytes())
    path.write_text(json.dumps(value | {"supervision": json.loads(text)}))

    assert "header" in complaint(run(["ws-budget", "cost", place], code=1))
