"""ordered_map: what it leaves behind when its reader goes away early."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from wsseg.cli._parallel import ordered_map


@pytest.mark.parametrize("batch", [1, 100])
def test_the_thread_that_reads_ends_with_its_reader(batch):
    read = []

    def items() -> Iterator[int]:
        for i in range(10_000):
            time.sleep(0.002)  # as a file's next record takes its time
            read.append(i)
            yield i

    before = threading.active_count()
    results = ordered_map(int, items(), jobs=2, batch=batch)
    assert next(results) == 0
    results.close()
    assert threading.active_count() == before
    count = len(read)
    time.sleep(0.05)
    assert len(read) == count


def test_a_reader_does_not_wait_for_an_item_that_never_comes():
    never = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        never.wait(60)

    results = ordered_map(int, items(), jobs=2)
    next(results)
    start = time.monotonic()
    results.close()
    assert time.monotonic() - start < 30
    never.set()
