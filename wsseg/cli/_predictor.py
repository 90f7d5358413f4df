"""How photos go through a net: read ahead, grouped by size, on a CPU several at once.

Torch's own threads wait for each other at every layer. So a CPU's cores take a group each, with one
thread, however few photos there are: the last bits of what a net says depend on its threads, and
must not on how many work, nor on what a run that goes on has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from wsseg.cli._parallel import Failure, Ready, attempt
from wsseg.errors import RecordError
from wsseg.io.record import Record
from wsseg.nets.running import torch_threads

#: Photos uint8 (B,H,W,3) of one size and their records -> kind -> value for each. A RecordError
#: is about one of them; they are then tried one by one.
Maps = Callable[[np.ndarray, Sequence[Record]], list[dict[str, Any]]]
_AHEAD = 4  # so many batches from a photo on are looked at to find others of its size


@dataclass
class Predictor:
    """Takes records in, gives records with what ``maps`` found back in the same order.

    readers: threads that read photos; batch: photos of one size that are handed to ``maps``
    together, at most; cores: how many of a CPU's to compute with, each on a group of its own; 0
    leaves torch alone, for a GPU. What is grouped depends on the photos' order and sizes only.
    """

    maps: Maps
    readers: int
    batch: int
    cores: int = 0

    def __call__(self, step: Callable[[Record], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield ``attempt(step, record)`` for every record once its maps are set."""
        items, window = iter(items), deque()
        ahead = self.batch * (_AHEAD + 2 * self.cores)
        with ThreadPoolExecutor(self.readers) as pool:
            def read() -> None:
                for item in islice(items, ahead - len(window)):
                    window.append(_Waiting(item, None if isinstance(item, Ready)
                                           else pool.submit(self._photo, item)))

            read()
            with self._workers() as workers:
                while window:
                    self._begin(window, len(window) < ahead, workers)
                    first = window.popleft()
                    if first.photo is None:
                        yield first.item.value
                    else:
                        found = first.result()
                        yield found if isinstance(found, Failure) else attempt(step, first.item)
                    read()

    @contextmanager
    def _workers(self) -> Iterator[ThreadPoolExecutor]:
        """Threads to compute in."""
        with torch_threads(1 if self.cores else None) as start:
            with ThreadPoolExecutor(max(1, self.cores), initializer=start) as workers:
                yield workers

    def _photo(self, record: Record) -> np.ndarray:
        return record.get("image")

    def _begin(self, window: deque[_Waiting], ended: bool, workers: ThreadPoolExecutor) -> None:
        """Let two groups for each worker be on their way, and in any case the first record.
        ended: nothing follows on what is in the window."""
        running, span = {id(w.group) for w in window if w.group is not None}, self.batch * _AHEAD
        for i, first in enumerate(window):
            if i and (len(running) >= max(2, 2 * self.cores)
                      or not ended and i + span > len(window)):
                return
            if first.photo is not None and first.group is None and not first.failed():
                group = [first, *self._alike(first, islice(window, i + 1, i + span))]
                future = workers.submit(self._predict, group)
                for one in group:
                    one.group = future
                running.add(id(future))

    def _alike(self, first: _Waiting, others: Iterable[_Waiting]) -> Iterator[_Waiting]:
        """Those that can go through the net with the first."""
        room = self.batch - 1
        for other in others:
            if not room:
                return
            if (other.photo is not None and other.group is None
                    and not other.failed() and other.pixels().shape == first.pixels().shape):
                room -= 1
                yield other

    def _predict(self, group: list[_Waiting]) -> None:
        photos = np.stack([w.pixels() for w in group])
        try:
            found = self.maps(photos, [w.item for w in group])
        except RecordError as error:
            if len(group) == 1:
                group[0].failure = Failure(group[0].item.key, str(error))
            else:
                for one in group:
                    self._predict([one])
            return
        for one, values in zip(group, found):
            for kind, value in values.items():
                one.item.set(kind, value)


@dataclass(eq=False)
class _Waiting:
    """A record whose photo is being read, None where the result is there; group: its and others'
    way through the net."""

    item: Any
    photo: Future | None
    group: Future | None = None
    failure: Failure | None = None

    def failed(self) -> bool:
        """Whether the photo cannot be read."""
        if self.failure is None and self.group is None:
            found = attempt(lambda _: self.photo.result(), self.item)
            if isinstance(found, Failure):
                self.failure = found
        return self.failure is not None

    def pixels(self) -> np.ndarray:
        return self.photo.result()

    def result(self) -> Record | Failure:
        """Wait for the record with its maps, or what is wrong with it."""
        if self.group is not None:
            self.group.result()
        return self.failure or self.item
