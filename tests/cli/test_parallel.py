"""ordered_map: what it leaves behind when its reader goes away early."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT
from wsseg.cli import _parallel
from wsseg.cli._parallel import _later, ordered_map
from wsseg.errors import WssegError


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


def half_written(then) -> None:
    """In a worker: leave half a result in the pipe, as one does that is killed as it writes."""
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    results = frame.f_locals["result_queue"]
    results._wlock.acquire()
    os.write(results._writer.fileno(), struct.pack("!i", 1000) + b"half")
    then()


def killed(item: str) -> str:
    if item == "c":
        half_written(lambda: os.kill(os.getpid(), signal.SIGKILL))
    return item


def stuck(item: int) -> int:
    if item == 1:
        time.sleep(.5)  # the first one's result is out
        half_written(lambda: time.sleep(600))
    return item


def ends_when_a_worker_is_killed() -> None:
    with pytest.raises(WssegError, match="a worker was killed"):
        list(ordered_map(killed, "abcdefgh", jobs=2))


def ends_when_its_reader_goes() -> None:
    results = ordered_map(stuck, range(9), jobs=2)
    assert next(results) == 0
    time.sleep(1)
    results.close()


def ends_with_items_that_nobody_reads() -> None:
    """Larger than a pipe holds, and handed out ahead of the workers."""
    items = [b"x" * (1 << 20)] * 99
    results = ordered_map(lambda item: time.sleep(.05) or len(item), items, jobs=2)
    assert next(results) == 1 << 20
    results.close()


def ends_when_a_worker_is_killed_as_it_starts() -> None:
    """The other has not begun to listen to signals yet."""
    folder = tempfile.mkdtemp()

    def begin(step) -> None:
        try:
            os.mkdir(f"{folder}/first")
        except FileExistsError:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)

    _parallel._worker = begin
    with pytest.raises(WssegError, match="a worker was killed"):
        list(ordered_map(killed, "abcdefgh", jobs=2))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are not forked here")
@pytest.mark.parametrize("name", [
    "ends_when_a_worker_is_killed", "ends_when_its_reader_goes",
    "ends_with_items_that_nobody_reads", "ends_when_a_worker_is_killed_as_it_starts"])
def test_it_never_hangs(name):
    """In a process of its own, which may be killed if it does."""
    done = subprocess.run([sys.executable, "-c", f"from tests.cli import test_parallel\n"
                           f"test_parallel.{name}()"], cwd=ROOT, timeout=60, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_a_signal_while_workers_start_is_raised_when_they_have():
    class Heard(Exception):
        pass

    def heard(*_):
        raise Heard

    before = signal.signal(signal.SIGTERM, heard)
    try:
        with pytest.raises(Heard):
            with _later():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(.01)
                done = True
        assert done and signal.getsignal(signal.SIGTERM) is heard
    finally:
        signal.signal(signal.SIGTERM, before)
