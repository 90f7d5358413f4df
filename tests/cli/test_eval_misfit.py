"""ws-eval where predictions and truth do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import conftest
from tests.cli.evals import NAMES, labels, one_worker, score  # noqa: F401
from tests.cli.test_info import run
from tests.conftest import complaint, make_label, make_record, write_place

pytestmark = pytest.mark.usefixtures("one_worker")


def uneven(tmp_path: Path, shape=(24, 31)) -> tuple[str, str]:
    maps = {f"img{i:03d}": make_label(i) for i in range(6)}
    maps["img002"] = np.zeros(shape, np.uint8)
    return labels(tmp_path / "p", maps), write_place(
        tmp_path / "t", [make_record(i, "label") for i in range(6)], kinds=["label"])


@pytest.mark.parametrize("shape, hint", [((24, 31), False), ((32, 24), True)])
def test_maps_of_different_size_are_told_with_both_sizes(shape, hint, tmp_path):
    done = run(["ws-eval", *uneven(tmp_path, shape)], code=1)

    text = complaint(done)
    assert f"img002: prediction is {shape[0]}x{shape[1]}, truth is 24x32" in text
    assert ("transposed" in text) == hint


def test_keep_going_scores_the_rest_and_says_what_failed(tmp_path):
    places = uneven(tmp_path)

    found = score(*places, "--keep-going", code=3)
    text = run(["ws-eval", *places, "--keep-going"], code=3).stdout.decode()

    assert (found["records"], found["failed"], found["miou"]) == (5, 1, 1)
    assert "5 records scored" in text and "1 records failed" in text


def test_a_prediction_that_is_no_class_is_named(tmp_path):
    maps = [make_label(0)]
    guess = maps[0].copy()
    guess[4, 6:8] = 38

    done = run(["ws-eval", labels(tmp_path / "p", [guess]), labels(tmp_path / "t", maps)], code=1)

    assert "r00: prediction: 2 pixels are of no known class: value 38 at x=6, y=4" in \
        complaint(done)


@pytest.mark.parametrize("names, message", [
    (("background", "dog", "cat"), "class 1 is 'dog' in one and 'cat' in the other"),
    (NAMES, "5 classes against 3")])
def test_places_of_different_classes_are_not_compared(names, message, tmp_path):
    maps = [make_label(0)]

    done = run(["ws-eval", labels(tmp_path / "p", maps, names), labels(tmp_path / "t", maps)],
               code=2)

    assert message in complaint(done)


def test_places_without_a_common_record_are_a_usage_error(tmp_path):
    a, b = (labels(tmp_path / n, {n: make_label(0)}) for n in ("a", "b"))

    done = run(["ws-eval", a, b, "--missing", "skip"], code=2)

    assert "no record was scored" in complaint(done)
    assert "hold the same keys?" in complaint(done)


# the truth has img000 to img005, the prediction img000 to img002
@pytest.fixture
def partial(place) -> tuple[str, str]:
    return place("p", "label", count=3), place("t", "label")


def test_a_missing_prediction_is_an_error_by_default(partial):
    done = run(["ws-eval", *partial], code=2)

    assert "img003" in complaint(done)


def test_a_listed_key_without_prediction_is_an_error_by_default(partial, tmp_path):
    (tmp_path / "keys").write_text("img001\nimg004\n")

    done = run(["ws-eval", *partial, "--keys", tmp_path / "keys"], code=2)

    assert "img004" in complaint(done)


def test_missing_predictions_may_be_left_out(partial):
    found = score(*partial, "--missing", "skip")

    assert (found["records"], found["unscored"], found["miou"]) == (3, 3, 1)
    assert "3 true records have no prediction" in \
        run(["ws-eval", *partial, "--missing", "skip"]).stdout.decode()


def test_missing_predictions_may_count_as_wrong(partial):
    found = score(*partial, "--missing", "wrong")

    maps = [make_label(i) for i in range(6)]
    known = sum(int((m != 255).sum()) for m in maps)
    right = sum(int((m != 255).sum()) for m in maps[:3])
    assert (found["records"], found["unscored"]) == (6, 0)
    assert found["pixel_accuracy"] == found["covered"] == pytest.approx(right / known, abs=1e-6)
    assert [row["precision"] for row in found["classes"]] == [1] * 3
    for cls, row in enumerate(found["classes"]):
        counts = [int((m == cls).sum()) for m in maps]
        assert row["iou"] == pytest.approx(sum(counts[:3]) / sum(counts), abs=1e-6)


@pytest.mark.parametrize("choice", ["wrong", "error"])
def test_a_truth_in_a_tar_file_lacks_predictions_just_as_well(choice, place):
    guess, truth = place("p", "label", count=3), place("t.tar", "label")

    done = conftest.run(["ws-eval", guess, truth, "--missing", choice, "--json"], code=None)

    if choice == "error":
        assert done.returncode != 0 and "img003" in complaint(done)
    else:
        assert json.loads(done.stdout)["records"] == 6


def test_missing_predictions_are_an_error_beside_a_bad_one_too(partial):
    victim = Path(partial[0]) / "img001.png"
    victim.write_bytes(victim.read_bytes()[:-20])

    done = conftest.run(["ws-eval", *partial, "--keep-going"], code=None)

    assert b"img003" in done.stderr


def test_a_bad_prediction_is_left_out_and_not_counted_as_wrong(partial):
    victim = Path(partial[0]) / "img001.png"
    victim.write_bytes(victim.read_bytes()[:-20])

    found = score(*partial, "--keep-going", "--missing", "wrong", code=3)

    assert (found["records"], found["failed"]) == (5, 1)


def test_predictions_without_truth_are_counted(place):
    found = score(place("p", "label"), place("t", "label", count=4))

    assert (found["records"], found["untrue"], found["unscored"]) == (4, 2, 0)
