"""Timings of a user's own: median and interval, and how a file holds them."""

from __future__ import annotations

import io
import math
from itertools import product

import pytest

from wsseg.budget.prices import ABOUT, Prices, read_prices, read_timings
from wsseg.budget.timings import timing
from wsseg.errors import UsageError


def named(text: str) -> io.StringIO:
    file = io.StringIO(text)
    file.name = "t.csv"
    return file


@pytest.mark.parametrize("n, rank", [(5, None), (6, 1), (8, 1), (9, 2), (10, 2), (17, 5),
                                     (20, 6), (50, 18), (100, 40)])
def test_the_interval_lies_between_the_ranks_of_printed_tables(n, rank):
    """E.g. Conover, Practical Nonparametric Statistics: for n = 20 the 6th and 15th."""
    found = timing(range(1, n + 1))

    assert (found.low, found.high) == ((None, None) if rank is None else (rank, n + 1 - rank))
    assert found.median == (n + 1) / 2 == found.mean


def test_the_interval_covers_by_counting_all_samples():
    """Each of 7 timings is below or above the true median with probability 1/2."""
    found = timing(range(1, 8))

    hits = sum(int(found.low) <= sum(sides) <= int(found.high) - 1
               for sides in product((0, 1), repeat=7))
    assert hits / 2 ** 7 == 1 - 2 / 2 ** 7 >= .95


def test_a_phone_call_does_not_move_the_median():
    found = timing([6, 7, 7, 8, 9, 7, 1800])

    assert found.median == 7 and found.mean > 250


def test_an_action_with_many_lines_has_their_median():
    file = named("action,seconds\nbox,4\nbox,5\nmask,60\nbox,90\n")

    prices = read_prices([], file)

    assert (prices.box, prices.mask, prices.tag) == (5, 60, 1)


def test_columns_may_be_named_and_others_are_not_read():
    found = read_timings(named("# mine\nimage,seconds,who,action\na,3,x,box\nb,5,y,box\n"))

    assert (found["box"].number, found["box"].median) == (2, 4)


@pytest.mark.parametrize("text, message", [
    ("action,seconds\nbx,3\n", "no price is called 'bx'; did you mean box"),
    ("box,3\nbox,soon\n", "price of box is 'soon'"), ("box,-3\n", "price of box is '-3'"),
    ("image,action,seconds\na,box\n", "'a,box' is not IMAGE,ACTION,SECONDS")])
def test_a_bad_line_is_named(text, message):
    with pytest.raises(UsageError, match=message):
        read_timings(named(text))


def test_a_huge_file_is_refused_and_not_cut(monkeypatch):
    monkeypatch.setattr("wsseg.budget.prices.MAX_BYTES", 20)

    with pytest.raises(UsageError, match="t.csv: more than 20 bytes"):
        read_timings(named("box,3\n" * 10))


def test_every_price_has_a_source():
    assert ABOUT.keys() == vars(Prices()).keys()
    assert all(any(c.isdigit() for c in source) for _, source in ABOUT.values())
    assert not any(math.isnan(v) for v in vars(Prices()).values())
