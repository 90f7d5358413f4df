"""ws-eval: predictions against truth, against scikit-learn and figures worked out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests import conftest
from tests.cli.evals import NAMES, labels, one_worker, random_maps, score  # noqa: F401
from tests.cli.test_info import run
from tests.conftest import CLASSES, complaint, make_label

KEYS = {"miou", "pixel_accuracy", "mean_accuracy", "covered", "classes_scored", "records", "keys",
        "unscored", "untrue", "failed", "prediction", "truth", "classes", "confusion"}


pytestmark = pytest.mark.usefixtures("one_worker")


def figures(found: dict) -> dict:
    return {k: v for k, v in found.items() if k not in ("prediction", "truth")}


# -- figures -----------------------------------------------------------------------------------


def test_all_figures_are_those_of_scikit_learn(tmp_path):
    metrics = pytest.importorskip("sklearn.metrics")
    truth, prediction = random_maps(0), random_maps(1)

    found = score(labels(tmp_path / "p", prediction, NAMES), labels(tmp_path / "t", truth, NAMES))

    t, p = (np.concatenate([m.ravel() for m in maps]) for maps in (truth, prediction))
    t, p = t[t != 255], p[t != 255]
    assert found["confusion"] == metrics.confusion_matrix(
        t, p, labels=[*range(5), 255])[:5].tolist()
    options = {"labels": range(4), "average": None}
    for name, values in (("iou", metrics.jaccard_score(t, p, **options)),
                         ("precision", metrics.precision_score(t, p, **options)),
                         ("recall", metrics.recall_score(t, p, **options))):
        assert [row[name] for row in found["classes"][:4]] == pytest.approx(values, abs=1e-6)
    assert found["miou"] == pytest.approx(
        metrics.jaccard_score(t, p, labels=range(4), average="macro"), abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(t, p), abs=1e-6)
    assert found["mean_accuracy"] == pytest.approx(
        metrics.recall_score(t, p, labels=range(4), average="macro"), abs=1e-6)
    assert found["covered"] == pytest.approx((p != 255).mean(), abs=1e-6)
    assert found["classes_scored"] == 4 and found["records"] == 5


def test_a_worked_example(tmp_path):
    truth = labels(tmp_path / "t", [[[0, 0, 0, 0], [1, 1, 255, 255]]])
    guess = labels(tmp_path / "p", [[[0, 0, 0, 1], [1, 255, 1, 2]]])

    found = score(guess, truth)

    assert found["confusion"] == [[3, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert [row["iou"] for row in found["classes"]] == [0.75, pytest.approx(1 / 3, abs=1e-6), None]
    assert found["miou"] == pytest.approx((0.75 + 1 / 3) / 2, abs=1e-6)
    assert found["pixel_accuracy"] == pytest.approx(4 / 6, abs=1e-6)


def test_the_mean_is_over_all_pixels_and_not_over_images(tmp_path):
    truth = labels(tmp_path / "t", [[[1, 1, 1, 1]], [[1, 0]]])
    guess = labels(tmp_path / "p", [[[1, 1, 1, 1]], [[0, 0]]])

    assert score(guess, truth)["miou"] == pytest.approx((1 / 2 + 4 / 5) / 2)


def test_a_perfect_prediction_has_full_marks(place, tmp_path):
    found = score(place("p", "label"), place("t", "label"))

    assert found["miou"] == found["pixel_accuracy"] == found["mean_accuracy"] == 1
    assert found["covered"] == 1
    assert all(row["iou"] == row["precision"] == row["recall"] == 1 for row in found["classes"])


def test_a_prediction_of_nothing_has_none(place, tmp_path):
    void = [np.full((24, 32), 255, np.uint8)] * 6
    guess = labels(tmp_path / "p", {f"img{i:03d}": m for i, m in enumerate(void)})

    found = score(guess, place("t", "label"))

    assert found["miou"] == found["pixel_accuracy"] == found["covered"] == 0
    assert [row["precision"] for row in found["classes"]] == [None] * 3
    assert [row["recall"] for row in found["classes"]] == [0] * 3


def test_what_is_predicted_where_the_truth_is_void_changes_nothing(tmp_path):
    truth, guess = random_maps(0), random_maps(1)
    other = [np.where(t == 255, 1, g).astype(np.uint8) for t, g in zip(truth, guess)]
    there = labels(tmp_path / "t", truth, NAMES)

    one, two = (score(labels(tmp_path / name, maps, NAMES), there)
                for name, maps in (("a", guess), ("b", other)))

    assert any((a != b).any() for a, b in zip(guess, other))
    assert figures(one) == figures(two)


def test_void_in_a_prediction_is_wrong_and_hides_nothing(tmp_path):
    truth = labels(tmp_path / "t", [[[1] * 10]])
    guess = labels(tmp_path / "p", [[[1] * 5 + [255] * 5]])

    found = score(guess, truth)

    assert (found["miou"], found["pixel_accuracy"], found["covered"]) == (0.5, 0.5, 0.5)
    assert found["classes"][1]["precision"] == 1


def test_classes_absent_from_both_are_left_out_and_counted(tmp_path):
    truth = labels(tmp_path / "t", [[[0, 1, 1, 1]]], NAMES)
    guess = labels(tmp_path / "p", [[[0, 1, 1, 2]]], NAMES)

    found = score(guess, truth)
    text = run(["ws-eval", guess, truth]).stdout.decode()

    assert found["classes_scored"] == 3
    assert [row["iou"] for row in found["classes"]] == [1, pytest.approx(2 / 3, abs=1e-6), 0,
                                                        None, None]
    assert found["miou"] == pytest.approx((1 + 2 / 3) / 3, abs=1e-6)
    assert "over 3 classes (2 in neither, left out)" in text
    assert [line.split()[0] for line in text.splitlines()[1:4]] == ["background", "cat", "dog"]
    assert "cow" not in text


def test_truth_that_is_all_void_has_no_figures(tmp_path):
    void = labels(tmp_path / "t", [[[255, 255]]])

    found = score(void, void)

    assert found["miou"] is found["pixel_accuracy"] is found["mean_accuracy"] is None
    assert found["classes_scored"] == 0
    assert "n/a" in run(["ws-eval", void, void]).stdout.decode()


def test_without_class_names_the_classes_are_the_values_seen(tmp_path):
    truth = labels(tmp_path / "t", [[[0, 1]], [[0, 7]]], None)
    guess = labels(tmp_path / "p", [[[0, 4]], [[0, 7]]], None)

    found = score(guess, truth)

    assert [row["class"] for row in found["classes"]] == [str(i) for i in range(8)]
    assert found["confusion"][1][4] == 1 and found["confusion"][7][7] == 1
    assert found["miou"] == pytest.approx((1 + 0 + 0 + 1) / 4)


def test_maps_of_16_bits_are_scored(tmp_path):
    wide = np.array([[300, 300, 0, 255]], np.uint16)
    truth = labels(tmp_path / "t", {"a": wide}, None)
    guess = labels(tmp_path / "p", {"a": np.array([[300, 2, 0, 300]], np.uint16)}, None)

    found = score(guess, truth)

    assert found["classes"][300]["iou"] == 0.5 and found["classes"][2]["iou"] == 0
    assert found["pixel_accuracy"] == pytest.approx(2 / 3, abs=1e-6)


# -- places ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ours", ["p", "p.h5", "p.tar"])
@pytest.mark.parametrize("theirs", ["t", "t.h5", "t.tar"])
def test_every_form_has_the_same_figures(ours, theirs, tmp_path):
    guess = labels(tmp_path / ours, random_maps(1), NAMES)
    truth = labels(tmp_path / theirs, random_maps(0), NAMES)
    if ours == "p.tar" and theirs == "t.tar":
        done = run(["ws-eval", guess, truth], code=2)
        assert "one of PREDICTION and TRUTH must be a directory" in complaint(done)
        return

    found, expected = score(guess, truth), score(labels(tmp_path / "x", random_maps(1), NAMES),
                                                 labels(tmp_path / "y", random_maps(0), NAMES))

    counted = "unscored", "untrue"  # a stream does not know what it lacks
    assert {k: v for k, v in figures(found).items() if k not in counted} == \
        {k: v for k, v in figures(expected).items() if k not in counted}


@pytest.mark.parametrize("words", [["-", "t"], ["p", "-"]])
def test_either_side_may_come_from_a_pipe(words, place, tmp_path):
    place("p", "label"), place("t", "label")
    stream = conftest.run(["ws-cat", tmp_path / "p"]).stdout

    done = conftest.run(["ws-eval", *words, "--json"], stdin=stream, cwd=tmp_path)

    assert json.loads(done.stdout)["miou"] == 1 and json.loads(done.stdout)["records"] == 6


def test_a_pipe_that_breaks_off_before_its_first_record_is_incomplete(place, tmp_path):
    place("t", "label")
    stream = conftest.run(["ws-cat", "t"], cwd=tmp_path).stdout
    start = stream[:stream.index(b"img000")]
    done = conftest.run(["ws-eval", "-", "t"], stdin=start, cwd=tmp_path, code=4)
    assert b"breaks off after 0 records" in done.stderr


def test_folders_of_masks_are_scored_with_the_names_that_are_given(tmp_path):
    for name, shift in (("t", 0), ("p", 3)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.fromarray(np.roll(make_label(i), shift)).save(tmp_path / name / f"{i}.png")
    (tmp_path / "names").write_text("\n".join(CLASSES))

    found = score(tmp_path / "p", tmp_path / "t", "--classes", tmp_path / "names")

    assert [row["class"] for row in found["classes"]] == list(CLASSES)
    assert 0 < found["miou"] < 1 and found["records"] == 3


def test_the_json_says_all_there_is_to_say(place, tmp_path):
    found = score(place("p", "label"), place("t", "label"))

    assert found.keys() == KEYS
    assert [row.keys() for row in found["classes"]] == \
        [{"class", "id", "iou", "precision", "recall", "pixels"}] * 3
    assert [row["id"] for row in found["classes"]] == [0, 1, 2]
    assert (found["prediction"], found["truth"]) == (str(tmp_path / "p"), str(tmp_path / "t"))
    assert (found["unscored"], found["untrue"], found["failed"]) == (0, 0, 0)
    matrix = np.array(found["confusion"])
    assert matrix.shape == (3, 4)
    assert matrix.sum(1).tolist() == [row["pixels"] for row in found["classes"]]


def test_the_digest_of_the_keys_tells_whether_the_same_records_were_scored(place, tmp_path):
    guess, truth = place("p", "label"), place("t", "label")
    for name, keys in (("a", "img001\nimg003\n"), ("b", "img003\nimg001\n"), ("c", "img001\n")):
        (tmp_path / name).write_text(keys)

    a, b, c = (score(guess, truth, "--keys", tmp_path / name) for name in "abc")

    assert a["keys"] == b["keys"] != c["keys"]
    assert (a["records"], c["records"]) == (2, 1)


def test_confusions_of_shards_add_up(tmp_path):
    guess = labels(tmp_path / "p", random_maps(1, 12), NAMES)
    truth = labels(tmp_path / "t", random_maps(0, 12), NAMES)

    parts = [score(guess, truth, "--shard", f"{i}/3") for i in (1, 2, 3)]

    whole = score(guess, truth)
    assert sum(np.array(p["confusion"]) for p in parts).tolist() == whole["confusion"]
    assert sum(p["records"] for p in parts) == 12


def test_the_table_is_in_the_order_that_is_asked_for(tmp_path):
    guess = labels(tmp_path / "p", random_maps(1), NAMES)
    truth = labels(tmp_path / "t", random_maps(0), NAMES)

    def column(*words) -> list[float]:
        lines = run(["ws-eval", guess, truth, *words]).stdout.decode().splitlines()
        return [float(line.split()[1]) for line in lines[1:5]]

    assert column("--sort", "iou") == sorted(column(), reverse=True) != column()
