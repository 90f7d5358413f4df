"""What curves are read from: names of files, times, scores, costs and tables."""

from __future__ import annotations

import pytest

from wsseg.budget.costs import DATASETS, DAY
from wsseg.budget.curve import Part
from wsseg.budget.prices import Prices
from wsseg.budget.report import as_json, place_rows, priced_dataset
from wsseg.budget.results import (cost_of, names_of, parse_score, parse_time, results_of,
                                  table_runs)
from wsseg.errors import UsageError


@pytest.mark.parametrize("text, seconds", [
    ("0.5", DAY / 2), (".5d", DAY / 2), ("8h", 28800), ("900s", 900), ("1e1 s", 10), ("0", 0),
    ("soon", None), ("-1", None), ("", None), ("1m", None), ("nan", None), ("9e999", None)])
def test_times_have_units_and_days_are_the_default(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text, score", [("0.8", .8), ("80", .8), ("80.42%", .8042), ("1", 1.0),
                                         ("1%", .01)])
def test_scores_are_shares_or_percentages(text, score):
    assert parse_score(text) == pytest.approx(score)


@pytest.mark.parametrize("text", ["x", "-1", "101", "nan", ""])
def test_other_texts_are_no_scores(text):
    with pytest.raises(UsageError, match="not a score"):
        parse_score(text)


@pytest.mark.parametrize("stem, names", [
    ("100-3", ("", "100")), ("g-100-3", ("g", "100")), ("g_100-3", ("g", "100")),
    ("a-b-100-3", ("a-b", "100")), ("100", ("", "100")), ("boxes", ("boxes", "")),
    ("boxes-2", ("boxes-2", ""))])
def test_names_of_files_tell_method_and_size(stem, names):
    assert names_of(stem) == names


@pytest.mark.parametrize("more, interval", [
    ({}, None), ({"interval": [.4, .6]}, (.4, .6)), ({"interval": None}, None),
    ({"interval": {"miou": [.4, .6]}}, (.4, .6)), ({"interval": {"miou": [None, None]}}, None),
    ({"interval": {"ap50": [.1, .2]}}, None)])
def test_a_result_may_have_an_interval(more, interval):
    found, = results_of({"miou": .5, "prediction": "p", **more}, None, "r")

    assert (found.score, found.value, found.interval) == ("miou", .5, interval)


def test_the_score_is_the_one_that_a_result_is_about():
    item = {"metric": "ap", "ap": .3, "ap50": .5}

    assert results_of(item, None, "r")[0].value == .3
    assert results_of(item, "ap50", "r")[0].value == .5


def test_a_file_may_hold_several_results():
    items = [{"miou": .5, "prediction": "a"}, {"miou": .6, "prediction": "b"}]

    for value in (items, {"results": items, "differences": []}):
        found = results_of(value, None, "r")
        assert [(r.prediction, r.value) for r in found] == [("a", .5), ("b", .6)]


@pytest.mark.parametrize("value, message", [
    ({"ap50": .5, "ap75": .3}, "no score is called 'miou'; there are ap50, ap75"),
    ({"miou": None}, "its miou is undefined"), ({"miou": 50}, "not a share"),
    ({"miou": .5, "interval": [.6, .4]}, r"not \[low, high\]"),
    ({"miou": .5, "interval": [.6]}, r"not \[low, high\]"), ([], "neither results"),
    ([3], "neither results"), ("x", "neither results")])
def test_other_json_is_no_result(value, message):
    with pytest.raises(UsageError, match=f"r: .*{message}"):
        results_of(value, "miou", "r")


def test_the_cost_of_a_place_is_the_sum_of_its_rows():
    value = as_json(place_rows("p", {"tags": (2, 3, 3), "boxes": (1, 1, 2)}, 20, Prices()),
                    Prices())

    assert cost_of(value, "c") == (40 + 33, {"tags": Part(2, 3, 3, 40), "boxes": Part(1, 1, 2, 33)},
                                   20)


def test_the_cost_of_a_mixture_names_counts_as_such():
    value = as_json(priced_dataset(Prices(), dataset="voc", mix="masks=200,counts=2279"), Prices())

    seconds, parts, _ = cost_of(value, "c")

    assert list(parts) == ["masks", "counts"] and parts["counts"].images == 2279
    assert seconds == pytest.approx(200 * 239.7 + 2279 * 22.22)


def test_a_list_of_alternatives_is_no_cost():
    with pytest.raises(UsageError, match="alternatives, not one budget: use --mix"):
        cost_of(as_json(priced_dataset(Prices(), dataset="voc"), Prices()), "c")


@pytest.mark.parametrize("value", [{}, [], {"rows": [{"name": "a"}]}, {"rows": [
    {"name": "a", "supervision": "tags", "images": 1, "classes": 1, "objects": 1,
     "seconds": -1}]}])
def test_other_json_is_no_cost(value):
    with pytest.raises(UsageError, match="c: not what ws-budget cost --json writes"):
        cost_of(value, "c")


def test_a_table_with_days_and_percentages():
    a, b = table_runs("method,days,percent,low,high,size\nf,0.5,40,38,42,100\nf,1,50,,,200\n",
                      "t", Prices(), None)

    assert (a.method, a.seconds, a.score, a.interval, a.size) == \
        ("f", DAY / 2, .4, pytest.approx((.38, .42)), "100")
    assert (b.score, b.interval, b.parts) == (.5, None, {})


def test_a_table_of_numbers_of_images_is_priced():
    run, = table_runs("# mine\nscore\tmasks\tcounts\n0.252\t100\t912\n", "t", Prices(),
                      DATASETS["voc"])

    assert run.seconds == pytest.approx(100 * 239.7 + 912 * 22.22)
    assert run.parts["counts"].images == 912 and run.n_classes == 20


def test_a_cost_beside_one_kind_is_that_of_its_images():
    run, = table_runs("hours,masks,score\n2,100,0.5\n", "t", Prices(), None)

    assert (run.seconds, run.parts["masks"].images, run.parts["masks"].seconds) == (7200, 100, 7200)


@pytest.mark.parametrize("text, message", [
    ("method,days\nf,1\n", "score or percent"), ("score,percent,days\n1,1,1\n", "score or"),
    ("score\n1\n", "seconds, hours, days"), ("", "a table has a first line"),
    ("score,dys\n1,1\n", "no column is called 'dys'; did you mean days"),
    ("score,masks\n.5,3\n", "priced by --dataset or --statistics"),
    ("score,days\n.5\n", "line 2 of the table: 1 cells under 2 columns"),
    ("score,days\n.5,x\n", "line 2 of the table: days is 'x'"),
    ("score,days,days\n.5,1,1\n", "two columns have the same name"),
    ("score,days\n.5,1e999\n", "days is '1e999'"),
    ("percent,days\n101,1\n", "percent is '101'"), ("score,days\n.5,-1\n", "days is '-1'"),
    ("score,days,masks,tags\n.5,1,2,3\n", "one days for tags and masks")])
def test_a_bad_table_is_refused(text, message):
    with pytest.raises(UsageError, match=f"t.*{message}"):
        table_runs(text, "t", Prices(), None)
