"""Plans against brute force over the measured points and over fine steps between them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.budget.costs import DATASETS
from wsseg.budget.curve import Part, Point, in_order, repriced
from wsseg.budget.paper import paper_points
from wsseg.budget.plan import _extra, _weight, left_out_error, offers_of, plan
from wsseg.budget.prices import Prices

KINDS = {"masks": 240.0, "tags": 20.0}


def point(method: str, masks: int, tags: int, score: float, interval=(None, None)) -> Point:
    images = {k: n for k, n in {"masks": masks, "tags": tags}.items() if n}
    parts = {k: Part(n, n, n, n * KINDS[k]) for k, n in images.items()}
    return Point(method, math.fsum(p.seconds for p in parts.values()), score, parts=parts,
                 low=interval[0], high=interval[1])


@st.composite
def measured_points(draw) -> list[Point]:
    """Curves of one to three methods, not all of them rising, some with two kinds of labels."""
    points = []
    for name in "fgh"[:draw(st.integers(1, 3))]:
        sizes = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 90)), min_size=1,
                              max_size=5, unique=True))
        points += [point(name, masks, tags, draw(st.integers(0, 100)) / 100)
                   for masks, tags in sizes]
    return in_order(points)


BUDGETS = st.floats(0, 15000)


@given(measured_points(), BUDGETS)
def test_of_measured_points_the_best_that_can_be_paid_is_taken(points, budget):
    paid = [p for p in points if p.seconds <= budget]

    found = plan(points, budget, measured=True)

    if not paid:
        assert found.best is None and found.methods == []
        return
    score = max(p.score for p in paid)
    assert found.best.score == score
    assert found.best.seconds == min(p.seconds for p in paid if p.score == score)
    assert found.left == pytest.approx(budget - found.best.seconds)


@given(measured_points(), BUDGETS, BUDGETS, st.integers(0, 30), st.booleans())
def test_more_money_never_promises_less(points, one, other, owned, measured):
    less, more = sorted((one, other))
    have = {"masks": owned}

    a, b = (plan(points, x, have, measured=measured).best for x in (less, more))

    assert a is None or b is not None and b.score >= a.score - 1e-12


@given(measured_points(), BUDGETS, st.integers(0, 30), st.integers(0, 60),
       st.sampled_from([math.inf, 30, 80]))
def test_between_points_it_is_as_good_as_trying_every_place_on_every_line(points, budget, masks,
                                                                          tags, images):
    have = {"masks": masks, "tags": tags}
    scores = []
    for name in {p.method for p in points}:
        curve = [p for p in points if p.method == name]
        for a, b in [*zip(curve, curve), *zip(curve, curve[1:])]:
            for t in [i / 60 for i in range(61)] if b.seconds > a.seconds else [0]:
                total = sum((1 - t) * some.parts[k].images * (some is a)
                            + t * some.parts[k].images * (some is b and b is not a)
                            for some in {id(a): a, id(b): b}.values() for k in some.parts)
                if _extra(a, b, t, have) <= budget and total <= images:
                    scores.append(a.score + _weight(a.seconds, b.seconds, t) * (b.score - a.score))

    best = plan(points, budget, have, images=images).best

    if best is None:
        assert not scores
    else:
        assert best.score >= max(scores, default=0) - 1e-9
        assert best.seconds <= budget * (1 + 1e-9)
        assert sum(best.images.values()) <= images * (1 + 1e-9)


@given(measured_points(), BUDGETS, st.floats(.1, 10))
def test_plans_do_not_change_when_prices_and_budget_scale_together(points, budget, factor):
    def dearer(p: Point) -> Point:
        return replace(p, seconds=p.seconds * factor, parts={
            k: replace(part, seconds=part.seconds * factor) for k, part in p.parts.items()})

    a, b = plan(points, budget), plan([dearer(p) for p in points], budget * factor)

    if a.best is None or b.best is None:
        assert a.best is b.best or not budget or abs(
            min(p.seconds for p in points) / budget - 1) < 1e-6
    else:
        assert a.best.score == pytest.approx(b.best.score, abs=1e-6)


@given(measured_points(), BUDGETS)
def test_whole_images_are_bought_and_paid(points, budget):
    for offer in plan(points, budget).methods:
        assert all(type(n) is int and n > 0 for n in offer.buy.values())
        cost = sum(n * KINDS[kind] for kind, n in offer.buy.items())
        assert cost <= budget * (1 + 1e-9) + 1e-3
        assert cost > offer.seconds - sum(KINDS.values()) - 1e-3


@given(measured_points(), BUDGETS)
def test_nothing_is_promised_outside_of_what_was_measured(points, budget):
    for offer in plan(points, budget).methods:
        mine = [p for p in points if p.method == offer.method]
        assert min(p.score for p in mine) <= offer.score <= max(p.score for p in mine)
        assert offer.seconds <= max(p.seconds for p in mine) * (1 + 1e-9)


def test_zero_budget_buys_nothing_but_what_is_free():
    curve = [point("f", 10, 0, .4), point("f", 20, 0, .5)]

    assert plan(curve, 0.0).best is None
    assert plan(curve, 0.0).step.buy == {"masks": 10}
    free = plan([point("f", 0, 0, .1), *curve], 0.0)
    assert (free.best.score, free.best.seconds, free.best.buy) == (.1, 0.0, {})
    assert plan(curve, 0.0, {"masks": 10}).best.score == .4


def test_half_of_a_line_by_the_logarithm_of_its_price():
    """From 10 to 40 masks the score goes half way at 20, their geometric mean."""
    found = plan([point("f", 10, 0, .4, (.3, .5)), point("f", 40, 0, .6, (.5, .6))], 20 * 240.0)

    assert found.best.buy == {"masks": 20}
    assert (found.best.score, found.best.low, found.best.high) == pytest.approx((.5, .4, .55))
    assert found.best.between[0].seconds == 2400 and found.best.point is None


def test_from_a_free_point_the_score_goes_by_the_price_itself():
    found = plan([point("f", 0, 0, .2), point("f", 40, 0, .6)], 10 * 240.0)

    assert (found.best.score, found.best.buy) == (pytest.approx(.3), {"masks": 10})


def test_a_budget_beyond_the_dearest_point_is_left():
    found = plan([point("f", 10, 0, .4), point("f", 20, 0, .5)], 1e6)

    assert (found.best.score, found.left, found.beyond) == (.5, 1e6 - 4800, True)
    assert found.step is None


def test_no_more_images_are_labelled_than_there_are():
    curve = [point("f", 10, 0, .4), point("f", 40, 0, .6), point("g", 0, 30, .45)]

    found = plan(curve, 1e6, images=20)

    assert (found.best.buy, found.best.score) == ({"masks": 20}, pytest.approx(.5))
    assert [p.score for p in found.front] == [.4] and found.step is None


def test_labels_that_one_has_are_not_paid_again():
    points = [point("f", 10, 0, .4), point("f", 10, 60, .5), point("g", 20, 0, .6)]

    found = plan(points, 1200.0, {"masks": 10}, measured=True)

    assert (found.best.score, found.best.buy, found.best.seconds) == (.5, {"tags": 60}, 1200)
    # then ten more masks, for which the tags are of no use
    assert (found.step.method, found.step.buy, found.step.seconds) == ("g", {"masks": 10}, 2400)
    assert found.rate == pytest.approx(.1 / 2400)


@given(measured_points(), BUDGETS)
def test_the_next_purchase_gains_most_for_a_second(points, budget):
    found = plan(points, budget, measured=True)
    base, have = (found.best.score, found.best.images) if found.best else (0.0, {})
    rates = [(p.score - base) / paid for p in points if p.score > base
             and (paid := _extra(p, p, 0.0, have)) > 0]

    assert found.rate == (pytest.approx(max(rates)) if rates else None)


def test_labels_that_are_not_known_cost_the_difference_within_a_method():
    points = [Point("f", 100.0, .4), Point("f", 300.0, .6), Point("g", 250.0, .5)]

    found = plan(points, 100.0)

    assert (found.best.method, found.best.buy) == ("f", {})
    assert (found.step.method, found.step.seconds) == ("f", 200.0)


def test_inner_points_left_out_tell_the_error_of_interpolation():
    curve = [point("f", 10, 0, .4), point("f", 20, 0, .53), point("f", 40, 0, .6)]

    assert left_out_error(curve) == pytest.approx(.03)
    assert left_out_error(curve[:2]) is None


def test_the_papers_curve_at_its_own_budgets_is_what_it_measured():
    """Brute force over figure 7, figure 11 and table 5."""
    points = paper_points()

    for p in points:
        best = plan(points, p.seconds, measured=True).best
        assert best.score == max(q.score for q in points if q.seconds <= p.seconds)
    assert plan(points, .52 * 86400, measured=True).best.method == "W-RSIS N=100"
    assert plan(points, 2.45 * 86400, measured=True).best.buy == {"masks": 800}


def test_cheaper_masks_buy_more_of_them():
    points = [p for p in paper_points() if p.method == "RSIS"]
    cheap = repriced(points, Prices(mask=39.5), DATASETS["voc"])

    a, b = (plan(some, 86400.0).best.buy["masks"] for some in (points, cheap))

    assert (a, b) == (int(86400 / 239.7), int(86400 / (18.5 + 2.8 * 39.5)))


def test_offers_of_one_point_are_that_point():
    only = point("f", 10, 0, .4)

    assert offers_of([only], 2399.0, {}) == []
    assert [o.point for o in offers_of([only], 2400.0, {})] == [only]
