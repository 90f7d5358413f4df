"""Statistics of a user's own images. Numbers are worked out beside each test."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest

from wsseg.budget.costs import Statistics, seconds
from wsseg.budget.dataset import Mean, Measured, load_statistics
from wsseg.budget.prices import Prices
from wsseg.budget.report import priced_dataset
from wsseg.errors import UsageError

IMAGES = [Counter({1: 2, 3: 1}), Counter({1: 1}), Counter(), Counter({2: 4})]
TAGS = [Counter({1: 0, 3: 0}), Counter({1: 0})]


def test_means_and_their_intervals_are_those_of_student():
    classes = Measured(IMAGES, 3).classes

    # 2, 1, 0, 1: mean 1, variance 2/3, t(3) = 3.182446
    half = 3.182446 * math.sqrt(2 / 3 / 4)
    assert classes.mean == 1
    assert (classes.low, classes.high) == (0, pytest.approx(1 + half, abs=1e-5))
    assert Mean.of([5]) == Mean(5, None, None)


def test_classes_are_counted_by_images_and_objects():
    assert Measured(IMAGES, 3).by_class() == {1: (2, 3), 2: (1, 4), 3: (1, 1)}
    assert Measured(TAGS, 3, False).by_class() == {1: (2, None), 3: (1, None)}


def test_seconds_for_an_image_are_those_of_all_divided_by_images():
    found = Measured(IMAGES, 3).prices(Prices())

    for kind, mean in found.items():
        assert mean.mean == pytest.approx(seconds(kind, (4, 4, 8), 3, Prices()) / 4)
    assert found["boxes"].mean == pytest.approx((3 * 4 - 4 + 8 * 7) / 4)


def test_tags_do_not_tell_what_boxes_cost():
    found = Measured(TAGS, 3, False)

    assert found.objects is None
    assert set(found.prices(Prices())) == {"tags", "counts", "scribble"}


def test_what_was_measured_prices_a_data_set():
    value = json.loads(json.dumps(Measured(IMAGES, 3).plain("mine/", None, Prices())))

    known = load_statistics(value, "mine.json")

    assert known == Statistics(1.0, 2.0, 3, "mine.json")
    rows = {r.name: r for r in priced_dataset(Prices(), dataset=known, number=10)}
    assert rows["BB"].seconds == pytest.approx(10 * (3 - 1 + 2 * 7))
    assert priced_dataset(Prices(), dataset=known, mix="masks=2")[0].name == "mine.json"


def test_without_objects_only_what_needs_none_is_priced():
    known = load_statistics(json.loads(json.dumps(
        Measured(TAGS, 3, False).plain("mine/", None, Prices()))), "mine.json")

    assert [r.name for r in priced_dataset(Prices(), dataset=known)] == [
        "IL", "IL+C", "1Point", "Squiggle"]
    with pytest.raises(UsageError, match="add --mean-objects"):
        priced_dataset(Prices(), dataset=known, mix="boxes=3")
    assert priced_dataset(Prices(), dataset=known, mean_objects=2.0, mix="boxes=1")[0].seconds \
        == pytest.approx(3 - 1.5 + 2 * 7)


@pytest.mark.parametrize("value", [[], {}, {"classes_per_image": 3}, {
    "classes_per_image": {"mean": "x"}, "objects_per_image": None, "n_classes": 3}, {
    "classes_per_image": {"mean": 1}, "objects_per_image": None, "n_classes": 0}])
def test_other_json_is_no_statistics(value):
    with pytest.raises(UsageError, match="m.json: not what ws-budget statistics"):
        load_statistics(value, "m.json")
