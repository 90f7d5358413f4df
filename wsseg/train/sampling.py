"""Which samples make a batch: a pure function of seed and step, all that a resumed run needs.

wssl-2015 (section 3.4) bundles a fixed proportion of strong and weak images to each batch, and
dualbranch-2020 the first half strong, the second weak; 'joint' draws from all of them alike, the
first source ``oversample`` times as often (dualbranch-2020, Table 2). Each source is gone
through in an order of its own for each of its epochs; a short one starts anew sooner. A batch may
hold the end of one epoch and the start of the next.

Orders are the ranks of Philox's raw numbers and seeds come of SeedSequence: numpy promises both
to stay as they are, which it does not for ``permutation``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from wsseg.errors import UsageError

JOINT = "joint"
_ORDER, _SAMPLE = 0, 1  # keep the seeds of orders and of samples apart


class Draw(NamedTuple):
    """One sample of a batch; seed: of all that is random about it, below 2**63."""

    source: str
    index: int
    seed: int


class Sampler:
    """Batches of the indices 0..size-1 of one or more sources.

    sizes: name -> number of samples, in the order that a batch has them. ratio: how many of each
    source a batch holds for one another, (1, 3) in a batch of 8 is 2 and 6; 'joint' goes by size.
    Raises UsageError for an empty source, or numbers that do not divide.
    """

    def __init__(self, sizes: Mapping[str, int], batch: int,
                 ratio: Sequence[int] | str = JOINT, oversample: int = 1, seed: int = 0):
        self.sizes, self.size, self.seed = dict(sizes), batch, seed
        for name, size in self.sizes.items():
            if size < 1:
                raise UsageError(f"there are no {name} samples to train on")
        if not self.sizes or batch < 1 or seed < 0 or oversample < 1:
            raise UsageError("training needs samples, a batch and an oversampling of 1 or more, "
                             "and a seed of 0 or more")
        self.joint = ratio == JOINT
        if self.joint:
            names = list(self.sizes)
            repeated = [names[0]] * oversample + names[1:]
            self._streams = [(tuple(repeated), batch)]
        else:
            self._streams = list(zip(((n,) for n in self.sizes), self._shares(ratio, oversample)))

    def _shares(self, ratio: Sequence[int] | str, oversample: int) -> list[int]:
        if isinstance(ratio, str) or len(ratio) != len(self.sizes) or min(ratio) < 1:
            raise UsageError(f"the ratio {ratio!r} does not name a share of 1 or more for each of "
                             f"{', '.join(self.sizes)}, nor is it '{JOINT}'")
        if oversample != 1:
            raise UsageError("a batch of a fixed ratio is not oversampled: change the ratio")
        whole = sum(ratio)
        if self.size % whole:
            raise UsageError(f"a batch of {self.size} cannot hold "
                             f"{':'.join(map(str, ratio))}: make it a multiple of {whole}")
        return [share * self.size // whole for share in ratio]

    @property
    def counts(self) -> dict[str, int]:
        """How many samples of each source are in every batch; empty for 'joint'."""
        return {} if self.joint else {names[0]: count for names, count in self._streams}

    @property
    def share(self) -> float:
        """What part of an epoch a batch is: of once through the first source, or through all with
        its repeats, as dualbranch-2020 repeats strong images in the list."""
        names, count = self._streams[0]
        return count / sum(self.sizes[name] for name in names)

    def check_world(self, world: int) -> None:
        """Raise UsageError where a batch cannot be shared out evenly by ``world`` processes."""
        uneven = [count for _, count in self._streams if count % world]
        if uneven:
            raise UsageError(f"{world} processes cannot share {uneven[0]} samples of a batch "
                             f"evenly: make it a multiple of {world}")

    def batch(self, step: int) -> list[Draw]:
        """The batch of a step, counted from 0: all of the first source, then of the second ..."""
        drawn, place = [], 0
        for number, (names, count) in enumerate(self._streams):
            for i in range(step * count, (step + 1) * count):
                drawn.append(Draw(*self._find(number, names, i), self._sample_seed(step, place)))
                place += 1
        return drawn

    def rank(self, step: int, rank: int, world: int) -> list[Draw]:
        """One process's part of ``batch``, of each source's samples every ``world``-th.

        The parts of all ranks are the whole batch, seeds included, and hold the same ratio.
        """
        self.check_world(world)
        whole, part, start = self.batch(step), [], 0
        for _, count in self._streams:
            part += whole[start + rank:start + count:world]
            start += count
        return part

    def epoch(self, step: int) -> dict[str, float]:
        """How often each source has been gone through before a step."""
        done = {}
        for names, count in self._streams:
            length = sum(self.sizes[name] for name in names)
            for name in names:
                done[name] = step * count / length * names.count(name)
        return done

    def _find(self, stream: int, names: tuple[str, ...], number: int) -> tuple[str, int]:
        length = sum(self.sizes[name] for name in names)
        epoch, place = divmod(number, length)
        index = int(_order(self.seed, stream, epoch, length)[place])
        for name in names:
            if index < self.sizes[name]:
                return name, index
            index -= self.sizes[name]
        raise AssertionError(number)

    def _sample_seed(self, step: int, place: int) -> int:
        state = np.random.SeedSequence((self.seed, _SAMPLE, step, place))
        return int(state.generate_state(1, np.uint64)[0] >> np.uint64(1))


@lru_cache(maxsize=16)
def _order(seed: int, stream: int, epoch: int, length: int) -> np.ndarray:
    """A permutation of 0..length-1 for one epoch of one stream."""
    raw = np.random.Philox(np.random.SeedSequence((seed, _ORDER, stream, epoch))).random_raw(length)
    return np.argsort(raw, kind="stable")
