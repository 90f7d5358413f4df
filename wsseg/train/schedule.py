"""Learning rates over a run, as pure functions of the iteration: resuming needs no state.

step: gamma ** (iteration // every), wssl-2015's solver (every 2000, gamma .1); poly:
(1 - iteration / total) ** power, DeepLabV2 (power .9). A warm-up multiplies in a straight line
from ``start`` to 1 over the first iterations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wsseg.errors import UsageError


def constant(iteration: int) -> float:
    """1 throughout."""
    return 1.


def step(iteration: int, every: int, gamma: float = .1) -> float:
    """Fall by ``gamma`` each ``every`` iterations."""
    return gamma ** (iteration // every)


def poly(iteration: int, total: int, power: float = .9) -> float:
    """Fall to 0 at ``total``, and stay there."""
    return max(0., 1 - iteration / total) ** power


def warm_up(iteration: int, length: int, start: float = 0.) -> float:
    """Rise from ``start``, which iteration 0 has, to 1, which iteration ``length`` has first."""
    return 1. if iteration >= length else start + (1 - start) * iteration / length


SCHEDULES = ("constant", "step", "poly")


@dataclass(frozen=True)
class Schedule:
    """A schedule by name with all its numbers; those of other schedules are not looked at.

    total: iterations of the run. every: iterations, or below 1 a share of the run (dualbranch-2020:
    .6); 0 is a third (wssl-2015: 2000 of 6000).
    warm_up: iterations, 0 for none. Raises UsageError for numbers that make no schedule.
    """

    name: str = "poly"
    total: int = 20000
    power: float = .9
    every: float = 0
    gamma: float = .1
    warm_up: int = 0
    start: float = .1

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise UsageError(f"unknown schedule {self.name!r}: one of {', '.join(SCHEDULES)}")
        for field, wrong in (("total", self.total < 1), ("every", self.every < 0),
                             ("power", not 0 <= self.power < math.inf),
                             ("gamma", not 0 < self.gamma <= 1), ("warm_up", self.warm_up < 0),
                             ("start", not 0 <= self.start <= 1)):
            if wrong:
                raise UsageError(f"the schedule's {field} cannot be {getattr(self, field)}")

    def factor(self, iteration: int) -> float:
        """What the base learning rate is multiplied with at an iteration, counted from 0."""
        if self.name == "step":
            every = self.every or 1 / 3
            value = step(iteration, max(1, round(every * self.total if every < 1 else every)),
                         self.gamma)
        elif self.name == "poly":
            value = poly(iteration, self.total, self.power)
        else:
            value = constant(iteration)
        return value * warm_up(iteration, self.warm_up, self.start)
