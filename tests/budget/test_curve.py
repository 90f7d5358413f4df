"""Points of curves: means, intervals, prices and the front. Numbers are worked out beside."""

from __future__ import annotations

import itertools
import json
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.budget.costs import DATASETS, DAY
from wsseg.budget.curve import (Part, Point, Run, expected_parts, front, full_of, load_point,
                                parts_of, plain_point, points_of, repriced, t_quantile)
from wsseg.budget.prices import Prices
from wsseg.errors import UsageError

PARTS = expected_parts({"masks": 100}, DATASETS["voc"], Prices())


def run(score: float, method: str = "f", seconds: float = 10.0, **more) -> Run:
    return Run(method, seconds, score, **more)


@pytest.mark.parametrize("freedom, printed", [(1, 12.706), (4, 2.776), (9, 2.262), (29, 2.045)])
def test_the_quantile_of_student_is_that_of_printed_tables(freedom, printed):
    assert t_quantile(freedom) == pytest.approx(printed, abs=5e-4)


def test_runs_of_one_size_are_one_point_with_mean_deviation_and_interval():
    scores = [.50, .52, .48, .51, .49]

    point, = points_of([run(s, size="100", seconds=9 + i) for i, s in enumerate(scores)])

    assert (point.runs, point.seconds) == (5, 11.0)
    assert point.score == pytest.approx(statistics.mean(scores))
    assert point.deviation == pytest.approx(statistics.stdev(scores)) == pytest.approx(.0158114)
    half = 2.776445 * .0158114 / math.sqrt(5)
    assert (point.low, point.high) == pytest.approx((.5 - half, .5 + half), abs=1e-6)


def test_a_single_run_has_the_interval_of_its_images_or_none():
    a, b = points_of([run(.5, interval=(.4, .7)), run(.5, "g")])

    assert (a.low, a.high, a.deviation) == (pytest.approx(.4), pytest.approx(.7), None)
    assert (b.low, b.high) == (None, None)


def test_errors_of_subsets_and_of_images_add_as_squares():
    point, = points_of([run(.50, interval=(.44, .58), size="1"),
                        run(.51, interval=(.45, .59), size="1")])

    subsets = 12.706205 * statistics.stdev([.50, .51]) / math.sqrt(2)
    assert point.low == pytest.approx(.505 - math.hypot(subsets, .06), abs=1e-6)
    assert point.high == pytest.approx(.505 + math.hypot(subsets, .08), abs=1e-6)
    apart, = points_of([run(.1, size="1"), run(.9, size="1")])
    assert (apart.low, apart.high) == (0, 1)
    alike, = points_of([run(.5, interval=(.47, .54), size="1")] * 2)
    assert (alike.low, alike.high) == pytest.approx((.47, .54))  # not narrower by sqrt(2)


def test_a_percentile_interval_need_not_contain_its_score():
    one, = points_of([run(.5, interval=(.52, .6))])
    two, = points_of([run(.5, interval=(.52, .6), size="1")] * 2)

    assert (one.low, one.high) == (.52, .6)
    assert (two.low, two.high) == pytest.approx((.5, .6))


def test_the_interval_of_five_runs_covers_the_mean_as_often_as_it_claims():
    import numpy as np

    rng = np.random.default_rng(3)
    samples = rng.normal(.6, .02, (2000, 5))
    points = points_of([run(s, size=str(i)) for i, row in enumerate(samples) for s in row])

    hits = sum(p.low <= .6 <= p.high for p in points)
    assert abs(hits / 2000 - .95) < 4 * math.sqrt(.95 * .05 / 2000)


def test_runs_without_a_size_are_one_point_where_they_cost_the_same():
    points = points_of([run(.5), run(.6, seconds=20), run(.7), run(.8, "g")])

    assert [(p.method, p.seconds, p.runs) for p in points] == [
        ("f", 10, 2), ("f", 20, 1), ("g", 10, 1)]


def test_methods_keep_their_order_and_points_go_by_cost():
    points = points_of([run(.5, "z", 30), run(.5, "a", 5), run(.5, "z", 10)])

    assert [(p.method, p.seconds) for p in points] == [("z", 10), ("z", 30), ("a", 5)]


def test_labels_are_averaged_over_runs_and_unknown_if_one_is():
    one = {"masks": Part(100, 150, 280, 50.0), "tags": Part(10, 15, 15, 5.0)}
    other = {"masks": Part(100, 170, 300, 70.0)}
    known, unknown = points_of([run(.5, parts=one, size="1"), run(.5, parts=other, size="1"),
                                run(.5, "g", parts=one, size="1"), run(.5, "g", size="1")])

    assert known.parts == {"masks": Part(100, 160, 290, 60.0), "tags": Part(5, 7.5, 7.5, 2.5)}
    assert unknown.parts == {}


def test_other_labels_at_the_same_price_are_another_point():
    tags, masks = {"tags": Part(2397, 1, 1, 10.)}, {"masks": Part(200, 1, 1, 10.)}
    points = points_of([run(.2, parts=tags), run(.8, parts=masks), run(.6, parts=masks)])
    assert sorted((p.score, p.runs) for p in points) == [(.2, 1), (.7, 2)]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12))
def test_the_front_is_what_no_other_point_beats(pairs):
    points = [Point("m", float(c), s / 10) for c, s in pairs]

    best = front(points)

    values = {(p.seconds, p.score) for p in best}
    assert len(values) == len(best)
    beaten = {(a.seconds, a.score) for a, b in itertools.permutations(points, 2)
              if b.seconds <= a.seconds and b.score >= a.score
              and (b.seconds, b.score) != (a.seconds, a.score)}
    assert values == {(p.seconds, p.score) for p in points} - beaten


def test_points_are_priced_anew_by_their_own_labels_or_by_statistics():
    labels = parts_of({"boxes": (10, 15, 30)}, 20, Prices())
    point = Point("m", sum(p.seconds for p in labels.values()), .5, parts=labels, n_classes=20)

    own, = repriced([point], Prices(box=3))
    voc, = repriced([point], Prices(box=3), DATASETS["voc"])

    assert point.seconds == 10 * 20 - 15 + 30 * 7
    assert own.seconds == 10 * 20 - 15 + 30 * 3
    assert voc.seconds == pytest.approx(10 * (18.5 + 2.8 * 3))
    assert voc.score == point.score


@given(st.floats(.01, 100))
def test_prices_scale_linearly(factor):
    point = Point("m", 0, .5, parts=PARTS, n_classes=20)
    scaled = Prices(**{k: v * factor for k, v in vars(Prices()).items()})

    one, many = repriced([point], Prices())[0], repriced([point], scaled)[0]

    assert many.seconds == pytest.approx(factor * one.seconds)
    assert one.days == pytest.approx(100 * 239.7 / DAY)


def test_what_is_free_stays_free():
    assert repriced([Point("m", 0.0, .1)], Prices(), DATASETS["voc"])[0].seconds == 0


def test_boxes_are_not_priced_by_statistics_without_objects():
    tags = DATASETS["voc"].changed(mean_objects=math.nan)

    assert expected_parts({"tags": 2}, tags, Prices())["tags"].seconds == 40
    with pytest.raises(UsageError, match="boxes are priced by them: add --mean-objects"):
        expected_parts({"boxes": 2}, tags, Prices())


@pytest.mark.parametrize("parts, statistics", [
    ({}, None), ({}, DATASETS["voc"]), ({"masks": Part(1, math.nan, math.nan, 3)}, None)])
def test_what_is_not_known_cannot_be_priced_anew(parts, statistics):
    with pytest.raises(UsageError, match="m at .* which labels were bought is not known"):
        repriced([Point("m", 9.0, .5, parts=parts, n_classes=20)], Prices(), statistics)


def test_full_supervision_is_that_of_the_method_or_of_all():
    assert full_of({"f": .8, "": .9}, "f") == .8
    assert full_of({"f": .8, "": .9}, "g") == .9
    assert full_of({"f": .8}, "g") is None


@pytest.mark.parametrize("point", [
    Point("m", 10.0, .5), Point("m", 0.0, 1.0, 5, .1, .8, 1.0, "100", PARTS, 20)])
def test_a_point_survives_json(point):
    value = json.loads(json.dumps(plain_point(point, {"m": .8})))

    assert load_point(value) == point
    assert value["of_full"] == point.score / .8 and value["days"] == point.seconds / DAY


def test_labels_without_known_objects_survive_json():
    point = Point("m", 3.0, .5, parts={"masks": Part(1.0, math.nan, math.nan, 3.0)})

    text = json.dumps(plain_point(point, {}), allow_nan=False)

    assert repr(load_point(json.loads(text))) == repr(point)


@pytest.mark.parametrize("change", [
    {"score": 1.5}, {"score": None}, {"seconds": -1}, {"seconds": "1"}, {"seconds": math.nan},
    {"interval": [0]}, {"interval": [0, 2]}, {"labels": {"masks": {"images": 1}}},
    {"labels": []}, {"runs": 0}, {"n_classes": 0}, {"n_classes": math.inf}])
def test_a_forged_point_is_refused(change):
    with pytest.raises(ValueError):
        load_point(plain_point(Point("m", 10.0, .5), {}) | change)
