"""Batches: every sample once an epoch, ratios exact, ranks a partition, nothing but the step."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsseg.errors import UsageError
from wsseg.train.sampling import Sampler

SIZES = st.tuples(st.integers(1, 30), st.integers(1, 50)).map(
    lambda n: {"strong": n[0], "weak": n[1]})


def indices(sampler, source, count):
    """The first ``count`` indices that are drawn from a source."""
    found, step = [], 0
    while len(found) < count:
        found += [d.index for d in sampler.batch(step) if d.source == source]
        step += 1
    return found[:count]


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_each_epoch_of_each_source_holds_every_index_once(sizes, strong, weak, times, seed):
    sampler = Sampler(sizes, times * (strong + weak), (strong, weak), seed=seed)
    for source, size in sizes.items():
        drawn = indices(sampler, source, 3 * size)
        for epoch in range(3):
            assert sorted(drawn[epoch * size:(epoch + 1) * size]) == list(range(size))


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 9), st.integers(1, 4), st.integers(0, 99))
def test_a_joint_epoch_holds_the_first_source_as_often_as_asked(sizes, batch, oversample, seed):
    sampler = Sampler(sizes, batch, oversample=oversample, seed=seed)
    length = sizes["strong"] * oversample + sizes["weak"]
    drawn = [d[:2] for step in range(-(-length // batch)) for d in sampler.batch(step)]
    expected = Counter({("strong", i): oversample for i in range(sizes["strong"])})
    expected.update(("weak", i) for i in range(sizes["weak"]))

    assert Counter(drawn[:length]) == expected


@settings(max_examples=30, deadline=None)
@given(SIZES, st.sampled_from(((1, 1), (1, 2), "joint")), st.integers(1, 4), st.integers(0, 999))
def test_ranks_share_out_a_batch(sizes, ratio, world, step):
    sampler = Sampler(sizes, 6 * world, ratio)
    whole = sampler.batch(step)
    parts = [sampler.rank(step, rank, world) for rank in range(world)]

    assert sorted(sum(parts, [])) == sorted(whole)
    assert {len(part) for part in parts} == {6}
    if ratio != "joint":
        share = {name: count // world for name, count in sampler.counts.items()}
        for part in parts:  # strong first, then weak
            assert [d.source for d in part] == ["strong"] * share["strong"] + \
                ["weak"] * share["weak"]


def test_the_first_half_is_strong_and_the_second_weak():
    sampler = Sampler({"strong": 3, "weak": 50}, 16, (1, 1))
    for step in (0, 7, 10 ** 7):
        assert [d.source for d in sampler.batch(step)] == ["strong"] * 8 + ["weak"] * 8
    assert sampler.counts == {"strong": 8, "weak": 8}


def test_a_resumed_sampler_goes_on_where_the_other_would_have():
    whole = Sampler({"strong": 7, "weak": 19}, 6, (1, 2), seed=4)
    steps = [whole.batch(step) for step in range(40)]
    fresh = Sampler({"strong": 7, "weak": 19}, 6, (1, 2), seed=4)

    assert [fresh.batch(step) for step in reversed(range(25, 40))] == steps[:24:-1]


def test_another_seed_epoch_or_source_has_another_order():
    orders = [tuple(indices(Sampler({"a": 20, "b": 20}, 2, (1, 1), seed=seed), source, 40)[part])
              for seed in (0, 1) for source in "ab" for part in (slice(20), slice(20, 40))]
    assert len(set(orders)) == 8


def test_orders_and_seeds_are_pinned():
    """A change here would change every run that is resumed across it."""
    drawn = Sampler({"strong": 5, "weak": 9}, 3, (1, 2), seed=1).batch(2)
    assert drawn == [("strong", 1, 4577980684254263135), ("weak", 7, 1551098123496783248),
                     ("weak", 4, 3031377036782918725)]


def test_seeds_of_samples_differ_by_step_and_place():
    sampler = Sampler({"a": 3}, 4)
    seeds = [d.seed for step in range(50) for d in sampler.batch(step)]
    assert len(set(seeds)) == 200 and all(0 <= seed < 2 ** 63 for seed in seeds)


def test_epochs_are_counted():
    assert Sampler({"strong": 10, "weak": 40}, 8, (1, 1)).epoch(5) == {"strong": 2, "weak": .5}
    # 10 strong ones twice and 40 weak ones are 60
    assert Sampler({"strong": 10, "weak": 40}, 6, oversample=2).epoch(10) == \
        pytest.approx({"strong": 2, "weak": 1})
    assert Sampler({"strong": 10, "weak": 40}, 6, oversample=2).share == .1
    assert Sampler({"strong": 10, "weak": 40}, 8, (1, 1)).share == .4


@pytest.mark.parametrize("options, message", (
    ({"sizes": {"strong": 0, "weak": 3}}, "no strong samples"),
    ({"sizes": {}}, "needs samples"),
    ({"batch": 7, "ratio": (1, 1)}, "batch of 7 cannot hold 1:1: make it a multiple of 2"),
    ({"ratio": (1, 1, 1)}, "each of strong, weak"),
    ({"ratio": (0, 1)}, "each of strong, weak"),
    ({"ratio": "even"}, "'even'"),
    ({"ratio": (1, 1), "oversample": 2}, "not oversampled"),
    ({"oversample": 0}, "oversampling"),
    ({"seed": -1}, "seed"),
))
def test_what_does_not_divide_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        Sampler(**{"sizes": {"strong": 4, "weak": 9}, "batch": 8, **options})


def test_processes_that_cannot_share_evenly_are_refused():
    sampler = Sampler({"strong": 4, "weak": 9}, 8, (1, 3))
    sampler.check_world(2)
    with pytest.raises(UsageError, match="4 processes cannot share 2 samples"):
        sampler.rank(0, 0, 4)
