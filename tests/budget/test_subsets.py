"""Random subsets: seeded, nested, equal to those of ws-weaken, and fair."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.budget.subsets import PAPER, PAPER_RUNS, PAPER_WEAK, draw, subset
from wsseg.cli import _weaken
from wsseg.errors import UsageError

KEYS = [f"2007_{i:06d}" for i in range(60)]


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 9))
def test_a_larger_subset_contains_a_smaller_one(a, b, seed):
    small, large = (subset(KEYS, n, seed) for n in sorted((a, b)))

    assert set(small) <= set(large)
    assert (len(small), len(large)) == tuple(sorted((a, b)))
    assert large == [key for key in KEYS if key in set(large)]


@given(st.permutations(KEYS), st.booleans())
def test_the_order_of_the_keys_does_not_change_what_is_chosen(keys, nested):
    assert set(subset(keys, 20, 1, nested=nested)) == set(subset(KEYS, 20, 1, nested=nested))


def test_independent_subsets_are_not_nested_but_repeatable():
    small, large = (subset(KEYS, n, 0, nested=False) for n in (20, 30))

    assert not set(small) <= set(large)
    assert small == subset(KEYS, 20, 0, nested=False)


@pytest.mark.parametrize("nested", [True, False])
def test_every_key_is_chosen_equally_often(nested):
    seeds = 2000

    times = Counter(key for seed in range(seeds)
                    for key in subset(KEYS[:20], 5, seed, nested=nested))

    # binomial with p = 1/4: 500 +- 19.4; twenty keys stay within four deviations
    assert all(abs(times[key] - 500) < 4 * 19.4 for key in KEYS[:20])


def test_it_is_the_choice_that_ws_weaken_makes():
    seed, number = 3, 7
    limit = sorted(_weaken.draw(seed, key) for key in KEYS)[number - 1]
    chosen = _weaken.Chosen(seed, limit)

    assert subset(KEYS, number, seed) == [key for key in KEYS if chosen(key)]
    assert draw(seed, "a/b") == _weaken.draw(seed, "a/b")


@pytest.mark.parametrize("number", [-1, 61])
def test_more_than_there_are_is_refused(number):
    with pytest.raises(UsageError, match="there are only 60 keys"):
        subset(KEYS, number, 0)


def test_the_papers_sizes():
    """Section 4, and section 5 with its 4459 put right."""
    assert PAPER == (100, 200, 400, 800, 1464) and PAPER_RUNS == 5
    assert PAPER_WEAK == (912, 2279, 4559, 6838, 9118)
    assert [9118 * p // 100 for p in (10, 25, 50, 75, 100)] == [911, *PAPER_WEAK[1:]]
    assert round(911.8) == PAPER_WEAK[0]
