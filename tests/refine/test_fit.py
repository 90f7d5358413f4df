"""Searches, against trying everything."""

from __future__ import annotations

import itertools
import math
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsseg.refine.fit import coordinate_search, grid_search, key_of, run

NAN = float("nan")
VALUES = st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=4, unique=True)
AXES = st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1, max_size=3)
START = {"a": 0.0, "b": 1.0, "c": 2.0, "rest": 7.0}


class Objective:
    """Scores points and counts how often each was asked for."""

    def __init__(self, function):
        self.function, self.asked = function, []

    def __call__(self, points):
        self.asked += map(key_of, points)
        return [self.function(p) for p in points]


def mixed(seed, point):
    """A number without any order in it, the same in every process."""
    return zlib.crc32(repr((seed, key_of(point))).encode())


def everything(axes):
    return [{**START, **dict(zip(axes, v))} for v in itertools.product(*axes.values())]


@given(AXES, st.integers(0, 2**32))
@settings(deadline=None, max_examples=80)
def test_a_grid_finds_the_first_of_the_best(axes, seed):
    def score(point):
        value = mixed(seed, point) % 4  # many ties, and some that cannot be scored
        return NAN if value == 0 else float(value)

    points = everything(axes)
    objective = Objective(score)
    best = run(grid_search(START, axes), objective, {})
    top = max((score(p) for p in points if not math.isnan(score(p))), default=None)
    first = next((p for p in points if score(p) == top), points[0])
    assert best == first
    assert objective.asked == list(map(key_of, points))


@given(AXES, st.dictionaries(st.sampled_from("abc"), st.integers(-9, 9), min_size=3))
@settings(deadline=None, max_examples=80)
def test_coordinates_find_the_best_where_parameters_are_independent(axes, centre):
    def score(point):
        return -sum((point[n] - c) ** 2 for n, c in centre.items())

    objective = Objective(score)
    best = run(coordinate_search(START, axes), objective, {})
    wide = {n: [*v, START[n]] for n, v in axes.items()}  # where it starts counts as well
    assert score(best) == max(map(score, everything(wide)))
    assert best["rest"] == 7
    assert len(objective.asked) == len(set(objective.asked))
    assert len(objective.asked) <= 1 + 2 * sum(map(len, axes.values()))


@given(AXES, st.integers(0, 2**32))
@settings(deadline=None, max_examples=80)
def test_coordinates_end_where_no_single_step_is_better(axes, seed):
    def score(point):
        return float(mixed(seed, point) % 50)

    best = run(coordinate_search(START, axes, sweeps=99), Objective(score), {})
    assert score(best) >= score(START)
    assert all(score({**best, n: v}) <= score(best) for n, vs in axes.items() for v in vs)


def test_sweeps_bound_the_search():
    def ridge(p):
        return -10 * (p["a"] - p["b"]) ** 2 + p["a"] + p["b"]

    axes = {"a": list(range(9)), "b": list(range(9))}
    start = {"a": 0, "b": 0}
    objective = Objective(ridge)
    run(coordinate_search(start, axes, sweeps=1), objective, {})
    assert len(objective.asked) == 9 + 8
    assert run(coordinate_search(start, {"a": [1]}, sweeps=1), Objective(lambda p: 0), {}) == start


def test_of_equals_a_coordinate_search_stays_where_it_is():
    assert run(coordinate_search(START, {"a": [5.0, 0.0], "b": [3.0]}), Objective(lambda p: 1.0),
               {}) == START


@pytest.mark.parametrize("search", [grid_search, coordinate_search])
def test_points_that_cannot_be_scored_are_never_best(search):
    def score(point):
        return point["a"] if point["a"] < 2 else NAN

    axes = {"a": [3.0, 2.0, 1.0, -1.0]}
    assert run(search({"a": 3.0}, axes), Objective(score), {})["a"] == 1
    assert run(search({"a": 3.0}, axes), Objective(lambda p: NAN), {}) == {"a": 3.0}
    assert run(search({"a": 3.0}, axes), Objective(lambda p: -math.inf), {}) == {"a": 3.0}


@given(AXES, st.data(), st.sampled_from([grid_search, coordinate_search]))
@settings(deadline=None, max_examples=60)
def test_what_is_known_is_not_scored_again_and_changes_nothing(axes, data, search):
    def score(point):
        return float(mixed(0, point) % 20)

    whole: dict = {}
    best = run(search(START, axes), Objective(score), whole)
    some = dict(list(whole.items())[:data.draw(st.integers(0, len(whole)))])
    rest, again = Objective(score), dict(some)
    assert run(search(START, axes), rest, again) == best
    assert again == whole and list(again) == list(whole)
    assert not set(rest.asked) & set(some)


def test_equal_points_of_one_batch_are_scored_once():
    objective = Objective(lambda p: p["a"])
    assert run(grid_search({}, {"a": [1, 1.0, 2]}), objective, {}) == {"a": 2}
    assert len(objective.asked) == 2


def test_an_evaluation_that_loses_a_score_is_noticed():
    with pytest.raises(ValueError):
        run(grid_search({}, {"a": [1.0, 2.0]}), lambda points: [0.5], {})


def test_a_search_over_nothing_is_its_start():
    assert run(grid_search(START, {}), Objective(lambda p: 1.0), {}) == START
    assert run(coordinate_search(START, {}), Objective(lambda p: 1.0), {}) == START


def test_the_key_of_a_point_does_not_depend_on_order_or_type():
    assert key_of({"b": 2, "a": 1}) == key_of({"a": 1.0, "b": 2.0}) != key_of({"a": 1.0, "b": 3})
