"""ws-eval of several predictions: one table, intervals, differences, gaps, single images."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from tests import conftest
from tests.cli.evals import NAMES, labels, one_worker, random_maps, score  # noqa: F401
from tests.cli.test_info import run
from tests.conftest import complaint, make_record, write_place
from wsseg.data.lists import read_list
from wsseg.metrics.iou import confusion_matrix, segmentation_score

pytestmark = pytest.mark.usefixtures("one_worker")
N = 12


@pytest.fixture
def places(tmp_path) -> tuple[str, str, str]:
    """A good and a bad prediction, and the truth."""
    truth, noise = random_maps(0, N), random_maps(1, N)
    rng = np.random.default_rng(2)
    good, bad = ([np.where(rng.random(t.shape) < share, t, n).astype(np.uint8)
                  for t, n in zip(truth, noise)] for share in (.8, .5))
    return (labels(tmp_path / "good", good, NAMES), labels(tmp_path / "bad", bad, NAMES),
            labels(tmp_path / "truth", truth, NAMES))


def text(*words, **options) -> str:
    return run(["ws-eval", *words], **options).stdout.decode()


def test_each_column_is_what_the_prediction_has_alone(places):
    good, bad, truth = places

    found = score(good, bad, truth)

    assert found["results"] == [score(good, truth), score(bad, truth)]
    lines = text(good, bad, truth).splitlines()
    assert lines[0].split() == ["mIoU", good, bad]
    for line, *rows in zip(lines[1:5], *(one["classes"] for one in found["results"])):
        assert line.split() == [rows[0]["class"], *(f"{100 * r['iou']:.2f}" for r in rows)]
    assert lines[5].split() == ["mean", *(f"{100 * r['miou']:.2f}" for r in found["results"])]
    assert lines[6] == f"{N} records scored (keys {found['results'][0]['keys']})"


def test_tables_are_sorted_by_the_first_prediction(places):
    column = [float(line.split()[1]) for line in text(*places, "--sort", "iou").splitlines()[1:5]]
    assert column == sorted(column, reverse=True)


def test_one_of_several_predictions_may_come_from_a_pipe(places, tmp_path):
    good, bad, truth = places
    stream = conftest.run(["ws-cat", good]).stdout

    done = conftest.run(["ws-eval", bad, "-", truth, "--json"], stdin=stream)

    found = json.loads(done.stdout)["results"]
    assert found[1]["miou"] == score(good, truth)["miou"] and found[1]["unscored"] == 0


@pytest.mark.parametrize("words, message", [
    (["a"], "PREDICTION and TRUTH are needed; got 1 place"),
    ([], "PREDICTION and TRUTH are needed; got none"),
    (["a", "b", "-"], "read only once"),
    (["a", "-", "--full", "b"], "read only once"),
    (["-", "-"], "only one input"),
    (["a", "b", "--baseline", "60"], "--baseline needs --full"),
    (["a", "b", "--full", "-"], "not standard input"),
    (["a", "b", "--json", "--tsv"], "exclude each other"),
    (["a", "b", "--json", "--worst", "3"], "exclude each other"),
    (["a", "b", "--tsv", "--full", ".8"], "--tsv has no place for what --full adds: take --json"),
    (["a", "b", "--worst", "3", "--trimap", "5"], "--worst has no place for what --trimap adds"),
    (["a", "b", "--rule", "voc"], "--rule is for --metric ap"),
    (["a", "b", "--metric", "pq", "--quality"], "--quality is for --metric miou"),
    (["a", "b", "--unlabelled", "void"], "--unlabelled is for"),
    (["a", "b", "--metric", "ap", "--thresholds", "0:1"], "not START:STEP:STOP"),
    (["a", "b", "--metric", "ap", "--thresholds", "0.5,2"], "not START:STEP:STOP"),
    (["a", "b", "--metric", "ap", "--thresholds", "0.1:0:0.9"], "not START:STEP:STOP")])
def test_words_that_contradict_are_one_line(words, message):
    assert message in complaint(run(["ws-eval", *words], code=2))


# -- intervals ---------------------------------------------------------------------------------


def test_a_prediction_has_an_interval_around_its_score(places):
    good, bad, truth = places

    found = score(good, truth, "--bootstrap", 200, "--seed", 4)

    low, high = found["interval"]["miou"]
    assert low < found["miou"] < high and high - low < 0.2
    assert found["bootstrap"] == {"resamples": 200, "seed": 4, "level": 0.95}
    assert found == score(good, truth, "--bootstrap", 200, "--seed", 4)
    assert found["interval"] != score(good, truth, "--bootstrap", 200)["interval"]
    assert f"95 % interval {100 * low:.2f} to {100 * high:.2f} (200 resamples of {N} records" in \
        text(good, truth, "--bootstrap", 200, "--seed", 4)


def test_the_order_and_form_of_places_do_not_change_an_interval(places, tmp_path):
    good, bad, truth = places
    expected = score(good, truth, "--bootstrap", 50)["interval"]
    tar = tmp_path / "reversed.tar"
    maps = {f"r{i:02d}": m for i, m in enumerate(random_maps(0, N))}
    labels(tar, dict(reversed(maps.items())), NAMES)
    assert score(good, tar, "--bootstrap", 50)["interval"] == expected


def test_a_better_prediction_is_found_better(places):
    good, bad, truth = places

    found = score(good, bad, truth, "--bootstrap", 200)

    difference, = found["differences"]
    one, other = (r["miou"] for r in found["results"])
    assert difference["difference"] == pytest.approx(one - other, abs=2e-6)
    assert 0 < difference["interval"][0] < difference["interval"][1]
    assert difference["p"] < 0.02
    assert (difference["one"], difference["other"]) == (good, bad)
    assert f"{good} - {bad}: mIoU +{100 * (one - other):.2f}" in \
        text(good, bad, truth, "--bootstrap", 200)


def test_a_prediction_is_not_better_than_itself(places):
    good, _, truth = places
    difference, = score(good, good, truth, "--bootstrap", 50)["differences"]
    assert (difference["difference"], difference["p"]) == (0, 1)


def test_predictions_of_different_records_are_not_compared(places, tmp_path):
    good, _, truth = places
    part = labels(tmp_path / "part", random_maps(3, N - 2), NAMES)

    done = run(["ws-eval", good, part, truth, "--missing", "skip", "--bootstrap", 9], code=2)

    assert "different records, for example r10" in complaint(done)
    lines = text(good, part, truth, "--missing", "skip").splitlines()
    assert lines[-2].startswith(f"{good}: {N} records") and f"{N - 2} records" in lines[-1]


def test_one_record_is_too_few_to_resample(tmp_path):
    place = labels(tmp_path / "p", random_maps(0, 1), NAMES)
    done = run(["ws-eval", place, place, "--bootstrap", 9], code=2)
    assert "at least two records" in complaint(done)


# -- gaps --------------------------------------------------------------------------------------


def test_gaps_to_numbers_and_to_places_are_the_same(places, tmp_path):
    good, bad, truth = places
    weak = score(bad, truth)["miou"]

    numbers = score(good, truth, "--full", "95", "--baseline", str(100 * weak))["gap"]
    found = score(good, truth, "--full", truth, "--baseline", bad)["gap"]

    miou = score(good, truth)["miou"]
    assert numbers["remaining"] == pytest.approx(.95 - miou, abs=2e-6)
    assert numbers["share_of_full"] == pytest.approx(miou / .95, abs=2e-6)
    assert found["full"] == 1 and found["baseline"] == pytest.approx(weak)
    assert found["reduction"] == pytest.approx((miou - weak) / (1 - weak), abs=1e-5)
    assert "gap reduction" in text(good, truth, "--full", "95", "--baseline", "10")
    assert score(good, truth, "--full", "95")["gap"]["reduction"] is None


@pytest.mark.parametrize("value", ["101", "-3", "nan"])
def test_a_share_above_all_is_refused(value, places):
    done = run(["ws-eval", *places[1:], f"--full={value}"], code=2)
    assert "is not a score" in complaint(done)


def test_full_supervision_is_a_share_or_a_percentage_as_for_ws_budget(places):
    outputs = {run(["ws-eval", *places[1:], "--json", f"--full={value}"]).stdout
               for value in (".715", "71.5", "71.5%")}
    assert len(outputs) == 1 and b'"full": 0.715' in outputs.pop()


def test_full_supervision_is_of_the_same_records(places, tmp_path):
    truth = random_maps(0, N)
    few = labels(tmp_path / "few", truth[:3], NAMES)
    done = run(["ws-eval", *places[1:], "--full", few, "--missing", "skip"], code=2)
    assert "were scored on different records" in complaint(done)


def test_predictions_of_other_classes_share_no_table(tmp_path):
    """Though the truth has no names to tell."""
    places = [write_place(tmp_path / name, [make_record(i, "label") for i in range(2)],
                          kinds=["label"], classes=classes)
              for name, classes in (("a", ("background", "cat", "dog")),
                                    ("b", ("background", "dog", "cat")), ("t", None))]
    done = run(["ws-eval", *places], code=2)
    assert "has other classes than" in complaint(done)


def test_a_record_that_failed_is_not_one_without_a_truth(tmp_path):
    places = [write_place(tmp_path / name, [make_record(i, "label") for i in range(3)],
                          kinds=["label"]) for name in "pt"]
    damaged = tmp_path / "p/img001.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    done = run(["ws-eval", *places, "--keep-going", "--json"], code=3)
    found = json.loads(done.stdout)
    assert (found["records"], found["failed"], found["untrue"]) == (2, 1, 0)


# -- more figures ------------------------------------------------------------------------------


def test_bands_are_scored_with_what_lies_in_them(tmp_path):
    truth = np.zeros((8, 20), np.uint8)
    truth[:, 10:] = 1
    guess = np.roll(truth, 1, 1)
    guess[:, 0] = 0
    places = (labels(tmp_path / "p", {"a": guess}, NAMES),
              labels(tmp_path / "t", {"a": truth}, NAMES))

    found = score(*places, "--trimap", 1, "--trimap", 4)

    assert [(b["width"], b["pixels"]) for b in found["trimap"]] == [(1, 16), (4, 64)]
    # of 2 w columns one is wrong, on the side of class 1
    for band, w in zip(found["trimap"], (1, 4)):
        assert band["miou"] == pytest.approx((w / (w + 1) + (w - 1) / w) / 2, abs=1e-6)
    assert "within 4 px of a boundary: mIoU 77.50 over 2 classes" in \
        text(*places, "--trimap", 1, "--trimap", 4)


def test_labels_with_holes_are_judged_where_they_say_something(tmp_path):
    truth = labels(tmp_path / "t", [[[1] * 10]])
    guess = labels(tmp_path / "p", [[[1] * 4 + [0] + [255] * 5]])

    found = score(guess, truth, "--quality")["quality"]

    assert (found["coverage"], found["precision"], found["recall"]) == (.5, .8, .4)
    assert "50.00 % of the pixels labelled, 80.00 % of those right (40.00 % of all)" in \
        text(guess, truth, "--quality")


def table(tsv: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tsv), delimiter="\t"))


def test_scores_of_images_are_written_the_worst_first(places, tmp_path):
    good, bad, truth = places

    shown = text(good, bad, truth, "--per-image", tmp_path / "images.tsv")

    rows = table((tmp_path / "images.tsv").read_text())
    values = [float(row[f"miou:{good}"]) for row in rows]
    assert len(rows) == N and values == sorted(values)
    maps = random_maps(0, N)
    rng = np.random.default_rng(2)
    guess = [np.where(rng.random(t.shape) < .8, t, n).astype(np.uint8)
             for t, n in zip(maps, random_maps(1, N))]
    for row in rows:
        i = int(row["key"][1:])
        alone = segmentation_score(confusion_matrix(maps[i], guess[i], 5))
        assert float(row[f"miou:{good}"]) == pytest.approx(alone.miou, abs=1e-6)
        assert float(row[f"pixel_accuracy:{good}"]) == pytest.approx(alone.pixel_accuracy,
                                                                     abs=1e-6)
        assert float(row[f"covered:{good}"]) == pytest.approx(alone.covered, abs=1e-6)
    worst = next(line for line in shown.splitlines() if line.startswith(f"{good}: worst"))
    assert f"{rows[0]['key']} {100 * values[0]:.2f}" in worst
    assert score(good, truth, "--per-image", tmp_path / "x.tsv")["worst"] == \
        [row["key"] for row in rows[:5]]


def test_the_same_place_twice_has_two_columns(places, tmp_path):
    good, _, truth = places
    run(["ws-eval", good, good, truth, "--per-image", tmp_path / "images.tsv"])
    assert len(table((tmp_path / "images.tsv").read_text())[0]) == 7


def test_keys_of_the_worst_and_the_best_are_a_list_for_other_tools(places, tmp_path):
    good, bad, truth = places
    run(["ws-eval", good, bad, truth, "--per-image", tmp_path / "images.tsv"])
    keys = [row["key"] for row in table((tmp_path / "images.tsv").read_text())]

    done = run(["ws-eval", good, bad, truth, "--worst", 3])
    assert done.stdout.decode().split("\n") == [*keys[:3], ""]
    assert f"{N} records scored (keys " in done.stderr.decode()
    assert text(good, truth, "--best", 2).split() == keys[::-1][:2]
    (tmp_path / "keys").write_bytes(done.stdout)
    run(["ws-view", good, truth, "--keys", tmp_path / "keys", "-o", tmp_path / "worst.html"])
    page = (tmp_path / "worst.html").read_text()
    assert [key for key in sorted(keys) if key in page] == sorted(keys[:3])


def test_the_worst_keys_are_found_again_whatever_they_begin_with(tmp_path):
    maps = {"#1": [[1, 1]], "a.png": [[1, 0]]}
    truth, guess = (labels(tmp_path / name, some) for name, some in
                    (("t", maps), ("p", {key: [[0, 1]] for key in maps})))
    (tmp_path / "keys").write_text(text(guess, truth, "--worst", 2))
    assert sorted(read_list(str(tmp_path / "keys"))) == sorted(maps)


def test_a_record_without_score_is_neither_worst_nor_best(tmp_path):
    truth = labels(tmp_path / "t", [[[1, 1]], [[255, 255]], [[1, 1]]])
    guess = labels(tmp_path / "p", [[[1, 0]], [[1, 1]], [[1, 1]]])
    assert text(guess, truth, "--best", 3).split() == ["r02", "r00"]
    assert text(guess, truth, "--worst", 3).split() == ["r00", "r02"]


def test_a_file_of_images_that_cannot_be_written_is_one_line(places, tmp_path):
    done = run(["ws-eval", *places[1:], "--per-image", tmp_path / "none" / "x.tsv"], code=1)
    assert "cannot write" in complaint(done)


def test_tab_separated_values_hold_the_classes_of_all_predictions_and_their_means(places):
    found = score(*places, "--bootstrap", 20)["results"]
    done = run(["ws-eval", *places, "--tsv", "--bootstrap", 20])
    rows = table(done.stdout.decode())

    assert f"{N} records scored (keys {found[0]['keys']})" in done.stderr.decode()
    assert [row["prediction"] for row in rows] == [places[0]] * 5 + [places[1]] * 5
    for one, mine in zip(found, (rows[:5], rows[5:])):
        for row, expected in zip(mine[:4], one["classes"]):
            assert row["class"] == expected["class"] and int(row["id"]) == expected["id"]
            assert float(row["iou"]) == expected["iou"]
            assert int(row["pixels"]) == expected["pixels"]
        assert mine[4]["class"] == "mean" and float(mine[4]["iou"]) == one["miou"]
        assert [float(mine[4][k]) for k in ("low", "high")] == one["interval"]["miou"]
