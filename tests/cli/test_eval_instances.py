"""ws-eval --metric ap and pq, against figures worked out by hand and other forms of the same."""

from __future__ import annotations

import numpy as np
import pytest

from tests import conftest
from tests.cli.evals import NAMES, labels, masks, one_worker, score, segments  # noqa: F401
from tests.cli.test_eval_many import table, text
from tests.cli.test_info import run
from tests.conftest import complaint
from wsseg.cli._regions import true_regions
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import ScoreMap
from wsseg.metrics.overlaps import map_regions
from wsseg.metrics.panoptic import panoptic_counts, panoptic_score

pytestmark = pytest.mark.usefixtures("one_worker")
CAT, DOG, COW = 1, 2, 3


def row(*runs: tuple[int, int]) -> np.ndarray:
    return np.repeat(*zip(*runs))[None].astype(np.uint16)


def scenes(seed: int, count: int = 6) -> list[tuple]:
    """Instance maps of two kinds of things and one of stuff."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        ids = np.kron(rng.integers(0, 5, (3, 4)), np.ones((4, 4), int)).astype(np.uint16)
        there = [int(i) for i in np.unique(ids) if i]
        result.append((ids, [(i, (CAT, DOG, DOG, COW)[i - 1], round(float(rng.random()), 2),
                              i != 4) for i in there]))
    return result


def disturbed(maps: list[tuple], seed: int) -> list[tuple]:
    rng = np.random.default_rng(seed)
    result = []
    for ids, listed in maps:
        guess = np.where(rng.random(ids.shape) < .8, ids, np.roll(ids, 3, 1))
        result.append((guess, [(i, c, round(float(rng.random()), 2), thing)
                               for i, c, _, thing in listed if (guess == i).any()]))
    return result


@pytest.fixture
def places(tmp_path) -> tuple[str, str]:
    truth = scenes(0)
    return segments(tmp_path / "p", disturbed(truth, 1)), segments(tmp_path / "t", truth)


# -- panoptic quality --------------------------------------------------------------------------


def test_panoptic_quality_by_hand(tmp_path):
    truth = segments(tmp_path / "t", [(row((1, 6), (2, 4), (3, 10)),
                                       [(1, CAT), (2, CAT), (3, COW, 1.0, False)])])
    guess = segments(tmp_path / "p", [(row((1, 8), (2, 2), (3, 10)),
                                       [(1, CAT), (2, CAT), (3, COW, 1.0, False)])])

    found = score(guess, truth, "--metric", "pq")

    assert (found["pq"], found["sq"], found["dq"]) == (.6875, .875, .75)
    assert (found["pq_things"], found["pq_stuff"], found["classes_scored"]) == (.375, 1, 2)
    cat, cow = found["classes"][CAT], found["classes"][COW]
    assert (cat["pq"], cat["tp"], cat["fp"], cat["fn"], cat["thing"]) == (.375, 1, 1, 1, True)
    assert (cow["sq"], cow["dq"], cow["thing"]) == (1, 1, False)
    assert found["classes"][DOG]["pq"] is found["classes"][DOG]["thing"] is None
    lines = text(guess, truth, "--metric", "pq").splitlines()
    assert [line.split() for line in lines[1:6]] == [
        ["cat", "37.50", "75.00", "50.00", "1", "1", "1"],
        ["cow", "100.00", "100.00", "100.00", "1", "0", "0"],
        ["mean", "68.75", "87.50", "75.00", "over", "2", "classes"],
        ["things", "37.50", "75.00", "50.00", "over", "1", "classes"],
        ["stuff", "100.00", "100.00", "100.00", "over", "1", "classes"]]
    assert lines[6].startswith("1 records scored (keys ")


def test_counts_add_up_over_records_and_shards(places):
    found = score(*places, "--metric", "pq")

    truth = scenes(0)
    total = sum(panoptic_counts(*(map_regions(ids, [s[0] for s in listed],
                                              [s[1] for s in listed]) for ids, listed in pair), 5)
                for pair in zip(truth, disturbed(truth, 1)))
    expected = panoptic_score(total)
    assert found["pq"] == pytest.approx(float(expected.mean()[0]), abs=1e-6)
    parts = [score(*places, "--metric", "pq", "--shard", f"{i}/2")["classes"] for i in (1, 2)]
    for c in range(5):
        assert [sum(part[c][k] for part in parts) for k in ("tp", "fp", "fn")] == \
            total[1:, c].tolist()


def test_what_has_no_segment_is_what_the_label_map_says(tmp_path):
    """Void excuses any class, a crowd its own, and background none."""
    listed = [(1, DOG)]
    guess = segments(tmp_path / "p", [(row((1, 4), (5, 6)), [(1, DOG), (5, CAT)])] * 4)
    label = [np.repeat([[DOG, value]], [4, 6], axis=1).astype(np.uint8)
             for value in (255, CAT, COW, 0)]
    truth = segments(tmp_path / "t", [(row((1, 4), (0, 6)), listed)] * 4, label=label)

    for i, wrong in enumerate((0, 0, 1, 1)):
        (tmp_path / "key").write_text(f"r{i:02d}\n")
        found = score(guess, truth, "--metric", "pq", "--keys", tmp_path / "key")
        assert found["classes"][CAT]["fp"] == wrong, i
        assert found["classes"][DOG]["tp"] == 1


def test_without_a_label_map_the_rest_is_void_or_background_as_told(tmp_path):
    guess = segments(tmp_path / "p", [(row((1, 4), (5, 6)), [(1, DOG), (5, CAT)])])
    truth = segments(tmp_path / "t", [(row((1, 4), (0, 6)), [(1, DOG)])])

    def wrong(*words) -> int:
        return score(guess, truth, "--metric", "pq", *words)["classes"][CAT]["fp"]

    assert wrong() == wrong("--unlabelled", "void") == 0
    assert wrong("--unlabelled", "background") == 1


@pytest.mark.parametrize("rule", ["coco", "voc"])
def test_void_counts_neither_for_nor_against_a_detection(rule, tmp_path):
    """The dog spills over void, the cat lies there alone; without void both are wrong."""
    guess = segments(tmp_path / "p", [(row((1, 9), (5, 1)), [(1, DOG), (5, CAT)])])
    truth = segments(tmp_path / "t", [(row((1, 4), (0, 6)), [(1, DOG)])])
    words = "--metric", "ap", "--rule", rule, "--thresholds", ".9", "--unlabelled"

    void = score(guess, truth, *words, "void")
    assert void["ap"] == 1 and void["classes"][DOG]["ap"] == 1
    background = score(guess, truth, *words, "background")
    assert background["ap"] == 0


def test_a_truth_without_any_segment_has_no_quality(tmp_path):
    none = segments(tmp_path / "t", [(np.zeros((2, 3)), [])])
    found = score(none, none, "--metric", "pq")
    assert found["pq"] is None and found["classes_scored"] == 0
    assert "n/a" in text(none, none, "--metric", "pq")
    assert score(none, none, "--metric", "ap")["ap"] is None
    assert "n/a" in text(none, none, "--metric", "ap")


def test_a_record_that_is_decoded_already_has_the_same_regions(places):
    """Data sets read into memory have no members to decode."""
    source = open_source(places[1])
    record = source.get("r00")
    decoded = Record("r00", names=record.names)
    decoded.set("instance", record.get("instance"))

    one, other = (true_regions(r, True)[0] for r in (source.get("r00"), decoded))

    assert (one.ids == other.ids).all() and (one.classes == other.classes).all()


# -- average precision -------------------------------------------------------------------------


def test_average_precision_by_hand(tmp_path):
    ids = row((1, 4), (2, 4), (3, 4), (0, 4))
    truth = segments(tmp_path / "t", [(ids, [(1, CAT), (2, CAT), (3, DOG)])])
    #             cat: .9 is right, .8 wrong, .3 right; dog: never found
    guess = row((1, 4), (2, 4), (0, 4), (3, 4))
    place = segments(tmp_path / "p", [(guess, [(1, CAT, .9), (2, CAT, .3), (3, CAT, .8)])])

    found = score(place, truth, "--metric", "ap", "--rule", "voc", "--thresholds", "0.5")

    cat = found["classes"][CAT]
    assert cat["ap"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-6)
    assert (cat["truths"], cat["detections"]) == (2, 3)
    assert found["classes"][DOG]["ap"] == 0 and found["classes"][COW]["ap"] is None
    assert found["ap"] == pytest.approx((1 + 2 / 3) / 4, abs=1e-6)
    lines = text(place, truth, "--metric", "ap", "--rule", "voc", "--thresholds",
                 "0.5").splitlines()
    assert lines[1].split() == ["cat", "83.33", "2", "3"]
    assert lines[3].split() == ["mean", "41.67", "over", "2", "classes"]
    assert "rules of voc (area); ranked by their scores" in lines[4]


def test_the_volume_is_the_mean_over_its_thresholds(places):
    found = score(*places, "--metric", "ap", "--rule", "voc")

    assert found["thresholds"] == [.1, .2, .3, .4, .5, .6, .7, .8, .9]
    alone = [score(*places, "--metric", "ap", "--rule", "voc", "--thresholds", str(t))["ap"]
             for t in found["thresholds"]]
    assert found["ap"] == pytest.approx(np.mean(alone), abs=1e-6)
    assert [found[f"ap{round(100 * t)}"] for t in found["thresholds"]] == alone
    assert found["thresholds"] == score(*places, "--metric", "ap", "--thresholds",
                                        "0.1:0.1:0.9")["thresholds"]
    assert score(*places, "--metric", "ap")["thresholds"] == \
        pytest.approx(np.arange(50, 100, 5) / 100)


def drawn(maps: list[tuple]) -> list[tuple]:
    return [([ids == s[0] for s in listed], [s[1] for s in listed], [s[2] for s in listed])
            for ids, listed in maps]


def test_masks_and_maps_of_the_same_have_the_same_precision(places, tmp_path):
    truth = scenes(0)
    as_masks = (masks(tmp_path / "pm", drawn(disturbed(truth, 1))),
                masks(tmp_path / "tm", drawn(truth)))

    def precision(guess, true):
        return [c["ap"] for c in score(guess, true, "--metric", "ap")["classes"]]

    expected = precision(*places)
    assert 0 < max(v for v in expected if v is not None)
    for guess in (places[0], as_masks[0]):
        for true in (places[1], as_masks[1]):
            assert precision(guess, true) == expected


def test_masks_may_overlap_and_be_none(tmp_path):
    one = np.zeros((12, 16), bool)
    one[2:6, 2:9] = True
    truth = masks(tmp_path / "t", [([one], [CAT], [1]), ([], [], [])])
    guess = masks(tmp_path / "p", [([one, one], [CAT, CAT], [.5, .9]), ([one], [CAT], [.1])])

    found = score(guess, truth, "--metric", "ap", "--rule", "voc", "--thresholds", "0.5")

    assert found["ap"] == 1 and found["classes"][CAT]["detections"] == 3


def test_crowds_take_detections_out_of_the_count(tmp_path):
    listed = [(1, CAT)]
    label = np.array([[CAT] * 4 + [CAT] * 6], np.uint8)
    truth = segments(tmp_path / "t", [(row((1, 4), (0, 6)), listed)], label=[label])
    plain = segments(tmp_path / "u", [(row((1, 4), (0, 6)), listed)])
    guess = segments(tmp_path / "p", [(row((1, 4), (5, 6)), [(1, CAT, .5), (5, CAT, .9)])])

    assert score(guess, truth, "--metric", "ap", "--rule", "voc")["ap"] == 1
    assert score(guess, plain, "--metric", "ap", "--rule", "voc")["ap"] == .5


def test_ranking_by_confidence_and_by_the_oracle(tmp_path):
    truth = segments(tmp_path / "t", [(row((1, 4), (0, 4)), [(1, CAT)])])
    probability = np.repeat([[[.9, .2]]], 4, axis=2).astype(np.float32)
    guess = segments(tmp_path / "p", [(row((1, 4), (2, 4)), [(1, CAT, .1), (2, CAT, .8)])],
                     score=[ScoreMap(probability, np.array([CAT]), (1, 8))])

    def precision(*words) -> float:
        return score(guess, truth, "--metric", "ap", "--rule", "voc", *words)["ap"]

    assert precision() == precision("--ranking", "score") == .5
    assert precision("--ranking", "confidence") == precision("--ranking", "oracle") == 1


def test_confidence_needs_probabilities(places):
    done = run(["ws-eval", *places, "--metric", "ap", "--ranking", "confidence"], code=1)
    assert "r00: has no score (it holds instance)" in complaint(done)


# -- both --------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["ap", "pq"])
def test_a_perfect_prediction_has_full_marks_in_every_form(metric, tmp_path):
    maps = scenes(0)
    truth = segments(tmp_path / "t", maps)
    for name in ("p", "p.h5", "p.tar"):
        found = score(segments(tmp_path / name, maps), truth, "--metric", metric)
        assert found[metric] == 1 and found["records"] == 6
    stream = conftest.run(["ws-cat", truth]).stdout
    done = conftest.run(["ws-eval", "-", truth, "--metric", metric], stdin=stream)
    assert b"100.00" in done.stdout


@pytest.mark.parametrize("metric", ["ap", "pq"])
def test_ids_of_sixteen_bits_and_classes_without_names(metric, tmp_path):
    ids = row((65535, 3), (256, 3), (0, 3))
    listed = [(256, 300), (65535, 7)]
    place = segments(tmp_path / "p", [(ids, listed)], None)
    found = score(place, place, "--metric", metric)
    assert found[metric] == 1 and found["classes_scored"] == 2 and len(found["classes"]) == 301


@pytest.mark.parametrize("metric", ["ap", "pq"])
def test_missing_predictions_may_count_as_nothing_found(metric, tmp_path):
    maps = [(row((1, 4), (0, 4)), [(1, CAT)])] * 2
    truth, part = segments(tmp_path / "t", maps), segments(tmp_path / "p", maps[:1])

    assert "r01" in complaint(run(["ws-eval", part, truth, "--metric", metric], code=2))
    skipped = score(part, truth, "--metric", metric, "--missing", "skip")
    wrong = score(part, truth, "--metric", metric, "--missing", "wrong")
    assert (skipped[metric], skipped["unscored"]) == (1, 1)
    # one of two found: recall 1/2, of 101 points 51; 1 / (1 + 1/2)
    assert wrong[metric] == pytest.approx(51 / 101 if metric == "ap" else 2 / 3, abs=1e-6)


@pytest.mark.parametrize("metric", ["ap", "pq"])
def test_intervals_differences_and_images(metric, places, tmp_path):
    guess, truth = places
    worse = segments(tmp_path / "w", disturbed(disturbed(scenes(0), 1), 2))

    found = score(guess, worse, truth, "--metric", metric, "--bootstrap", 40, "--per-image",
                  tmp_path / "images.tsv")

    one, other = found["results"]
    for result in (one, other):
        for name, (low, high) in result["interval"].items():
            assert result[name] is None or low <= high
    assert {d["score"] for d in found["differences"]} == set(one["interval"])
    assert f"{metric}_things" in one["interval"]
    rows = table((tmp_path / "images.tsv").read_text())
    for line in rows:
        (tmp_path / "key").write_text(line["key"])
        alone = score(guess, truth, "--metric", metric, "--keys", tmp_path / "key")
        assert float(line[f"{metric}:{guess}"]) == pytest.approx(alone[metric], abs=1e-6)
    shown = text(guess, worse, truth, "--metric", metric, "--bootstrap", 40)
    assert [line.split()[0] for line in shown.splitlines()[4:7]] == ["mean", "things", "stuff"]
    assert f"{guess} - {worse}: {metric.upper()} of things" in shown


@pytest.mark.parametrize("metric", ["ap", "pq"])
def test_tab_separated_values_have_means_of_things_and_stuff(metric, places):
    found = score(*places, "--metric", metric)
    rows = table(text(*places, "--metric", metric, "--tsv"))
    means = {r["class"]: r[metric] for r in rows[3:]}
    assert {k: float(v) for k, v in means.items() if v} == {
        "mean": found[metric], "mean of things": found[f"{metric}_things"],
        "mean of stuff": found[f"{metric}_stuff"],
        **({"mean of small": found["ap_small"]} if metric == "ap" else {})}
    assert [r["thing"] for r in rows[:3]] == ["yes", "yes", "no"]


def test_gaps_are_those_of_the_metric(places):
    found = score(*places, "--metric", "pq", "--full", places[1])
    assert found["gap"]["remaining"] == pytest.approx(1 - found["pq"], abs=2e-6)
    assert "full supervision has PQ 100.00" in text(*places, "--metric", "pq", "--full",
                                                    places[1])


# -- what does not fit -------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["ap", "pq"])
def test_label_maps_are_no_instances(metric, tmp_path):
    place = labels(tmp_path / "p", [np.ones((4, 5), np.uint8)], NAMES)
    done = run(["ws-eval", place, place, "--metric", metric], code=1)
    assert "r00: truth: has no instance (it holds label)" in complaint(done)


def test_masks_have_no_panoptic_quality(tmp_path):
    place = masks(tmp_path / "p", [([np.ones((4, 5), bool)], [CAT], [1])])
    done = run(["ws-eval", place, place, "--metric", "pq"], code=1)
    assert "needs an instance map" in complaint(done)


@pytest.mark.parametrize("metric", ["ap", "pq"])
def test_sizes_that_differ_are_told(metric, tmp_path):
    places = [segments(tmp_path / n, [(np.ones(size), [(1, CAT)])])
              for n, size in (("p", (4, 6)), ("t", (6, 4)))]
    done = run(["ws-eval", *places, "--metric", metric], code=1)
    assert "prediction is 4x6, truth is 6x4 (transposed" in complaint(done)


def test_a_list_that_differs_from_its_map_is_refused(tmp_path):
    place = segments(tmp_path / "p", [(row((1, 4)), [(1, CAT)])])
    file = tmp_path / "p" / "r00.inst.json"
    file.write_text(file.read_text().replace('"id":1', '"id":2').replace('"id": 1', '"id": 2'))
    done = run(["ws-eval", place, place, "--metric", "pq"], code=1)
    assert "in the map and in the list differ" in complaint(done)


def test_classes_beyond_the_names_are_refused(tmp_path):
    place = segments(tmp_path / "p", [(row((1, 4)), [(1, 9)])], NAMES)
    done = run(["ws-eval", place, place, "--metric", "pq"], code=1)
    assert "class" in complaint(done) and "9" in complaint(done)
