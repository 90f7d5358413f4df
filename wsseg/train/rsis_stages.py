"""When RSIS' losses set in: the masks' at once, the classes' and the stops' one after the other.

RSIS' published code adds the class loss after 20 epochs, and the stop loss once the validation
loss has not fallen for 15 epochs; it ends where that has not fallen for 60. Each time it goes on
from the best weights so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class Stages:
    """cls, stop: the batches from which these losses count; stop None: by patience. patience:
    evaluations without progress before the stop loss sets in.

    ``best`` is the least validation loss of this stage, and ``since`` the evaluations since.
    """

    cls: int
    stop: int | None
    patience: int = 0
    stopping: bool = False
    best: float | None = None
    since: int = 0

    def of(self, batch: int) -> tuple[bool, bool]:
        """Whether the class loss and the stop loss count in a batch, counted from 0."""
        by_number = self.stop is not None and batch >= self.stop
        return batch >= self.cls, self.stopping or by_number

    def look(self, loss: float, batch: int) -> str:
        """Take note of a validation loss after so many batches. Returns ``better`` for the least
        of this stage, ``next`` where the stop loss sets in from now on and the best weights are
        to be taken back, else nothing."""
        if self.best is None or loss < self.best:
            self.best, self.since = loss, 0
            return "better"
        self.since += 1
        if not self.patience or self.since < self.patience or self.of(batch)[1]:
            return ""
        self.stopping, self.best, self.since = True, None, 0
        return "next"

    def as_json(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"stopping": self.stopping, "best": self.best, "since": self.since}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what ``as_json`` gave. Raises KeyError or TypeError for anything else."""
        self.stopping, self.best = bool(state["stopping"]), state["best"]
        self.since = int(state["since"])
