"""Learning rates against torch's schedulers and the papers' solvers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from wsseg.errors import UsageError  # noqa: E402
from wsseg.train.schedule import Schedule  # noqa: E402


def by_torch(make, count):
    """The rates that a scheduler of torch gives a base rate of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1)
    scheduler, rates = make(optimizer), []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("schedule, make", (
    (Schedule("step", 60, every=20, gamma=.3),
     lambda o: torch.optim.lr_scheduler.StepLR(o, 20, .3)),
    (Schedule("poly", 60, power=.9),
     lambda o: torch.optim.lr_scheduler.PolynomialLR(o, 60, .9)),
    (Schedule("constant", 60, warm_up=12, start=.25),
     lambda o: torch.optim.lr_scheduler.LinearLR(o, .25, 1, 12)),
))
def test_rates_are_those_of_torch(schedule, make):
    assert [schedule.factor(i) for i in range(70)] == pytest.approx(by_torch(make, 70))


def test_the_solver_of_wssl_2015_steps_twice_in_6000():
    schedule = Schedule("step", 6000)
    assert [schedule.factor(i) for i in (0, 1999, 2000, 3999, 4000, 5999)] == pytest.approx(
        [1, 1, .1, .1, .01, .01])


def test_a_step_may_come_after_a_share_of_the_run():
    schedule = Schedule("step", 40, every=.6)  # dualbranch-2020: after 12 of 20 epochs
    assert [schedule.factor(i) for i in (0, 23, 24, 39)] == pytest.approx([1, 1, .1, .1])


def test_poly_ends_at_zero_and_stays_there():
    schedule = Schedule("poly", 10)
    assert schedule.factor(5) == pytest.approx(.5 ** .9)
    assert schedule.factor(10) == schedule.factor(11) == 0


def test_a_warm_up_multiplies_what_follows_it():
    warm, cold = Schedule("poly", 100, warm_up=10, start=0), Schedule("poly", 100)
    assert warm.factor(0) == 0
    assert warm.factor(5) == pytest.approx(.5 * cold.factor(5))
    assert [warm.factor(i) for i in range(10, 100)] == [cold.factor(i) for i in range(10, 100)]


@pytest.mark.parametrize("wrong", (
    {"name": "cosine"}, {"total": 0}, {"every": -1}, {"gamma": 0}, {"gamma": float("nan")},
    {"power": float("inf")}, {"warm_up": -1}, {"start": 2}))
def test_numbers_that_make_no_schedule_are_named(wrong):
    with pytest.raises(UsageError, match="|".join(map(str, wrong.values()))):
        Schedule(**wrong)
