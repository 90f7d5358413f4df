"""Records through worker processes: in order, in bounded memory, and never a hang."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from wsseg.errors import UnsafeError, WssegError


FORKS = sys.platform == "linux"  #: a worker starts with all that its parent holds


@dataclass(frozen=True)
class Failure:
    """What became of a record that could not be processed."""

    key: str
    message: str
    trace: str = ""


@dataclass(frozen=True)
class Ready:
    """An item that needs no work: its value is handed on as it is, in its turn."""

    value: Any


def attempt(step: Callable[[Any], Any], item: Any) -> Any:
    """Return step(item), or a Failure. Raises UnsafeError, which nothing passes over.

    item: a key, or anything that has one.
    """
    try:
        return step(item)
    except UnsafeError as error:
        raise UnsafeError(f"{_key(item)}: {error}") from None
    except WssegError as error:
        return Failure(_key(item), str(error))
    except MemoryError:
        return Failure(_key(item), "out of memory: use fewer --jobs or smaller images")
    except Exception as error:
        return Failure(_key(item), f"{type(error).__name__}: {error}", traceback.format_exc())


def _key(item: Any) -> str:
    return item if isinstance(item, str) else item.key


_step: Callable[[Any], Any]


def _attempt_all(batch: list[Any]) -> list[Any]:
    return [attempt(_step, item) for item in batch]


def _worker(step: Callable[[Any], Any]) -> None:
    """Prepare a worker: one inner thread, deaf to Ctrl-C, gone when its parent is."""
    import multiprocessing
    from multiprocessing.connection import wait

    global _step
    _step = step
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if callable(signal.getsignal(signal.SIGHUP)):  # nohup's choice stands
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(0)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ordered_map(step: Callable[[Any], Any], items: Iterable[Any], *, jobs: int,
                batch: int = 1) -> Iterator[Any]:
    """Yield ``attempt(step, item)`` for every item, in order.

    jobs: worker processes; 1 works in this one. batch: items handed over at once. A thread
    reads ``items``, so results leave while the input is slow; at most about ``2 * jobs``
    batches are held. Raises WssegError when a worker is killed.
    """
    if jobs <= 1:
        for item in items:
            yield item.value if isinstance(item, Ready) else attempt(step, item)
        return
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    with _Pool(step, items, jobs, batch) as pool:
        yield from pool.results()


@contextmanager
def _later() -> Iterator[None]:
    """Handle signals when this ends: what a handler raises within a fork's callbacks is lost."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if callable(handler):
                signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


class _Pool:
    def __init__(self, step: Callable, items: Iterable[Any], jobs: int, batch: int) -> None:
        import multiprocessing

        self._items, self._batch, self._jobs = items, batch, jobs
        context = multiprocessing.get_context("fork" if FORKS else None)
        self._executor = ProcessPoolExecutor(jobs, context, initializer=_worker, initargs=(step,))
        self._queue: queue.Queue[Any] = queue.Queue(2 * jobs)
        self._stopped = threading.Event()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self._guard = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Pool:
        try:
            with _later():
                started = self._executor.submit(int)  # fork before there is a second thread
            started.result()
        except BaseException as error:
            self._kill()  # one that has just begun is deaf to anything less
            if isinstance(error, BrokenProcessPool):
                raise WssegError(_KILLED) from None
            raise
        # all workers are there (from Python 3.10.5 on): what one left half written ends with them
        if FORKS and len(self._executor._processes) == self._jobs:
            self._executor._result_queue._writer.close()
            self._guard.start()
        self._feeder.start()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        self._stopped.set()
        if kind is not None:
            self._kill()
        # without waiting, the interpreter's own exit hook can trip over the closing pool
        self._executor.shutdown(wait=True, cancel_futures=True)
        # HDF5 can hang if Python ends within one of its calls; a pipe may never give its next item
        self._feeder.join(timeout=_PATIENCE)

    def _kill(self) -> None:
        for worker in list((self._executor._processes or {}).values()):
            worker.kill()

    def _watch(self) -> None:
        """End all workers with the first that is killed: it may have held the pipe of results."""
        from multiprocessing.connection import wait

        workers = [worker.sentinel for worker in list(self._executor._processes.values())]
        while not self._stopped.is_set():
            if wait(workers, timeout=0.2) and not self._stopped.is_set():
                return self._kill()

    def _put(self, item: Any) -> None:
        while not self._stopped.is_set():
            try:
                return self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
        raise _Stopped

    def _feed(self) -> None:
        try:
            group: list[Any] = []
            for item in self._items:
                if self._stopped.is_set():
                    return
                if isinstance(item, Ready):
                    self._submit(group)
                    group = []
                    self._put(([None], item))
                    continue
                group.append(item)
                if len(group) == self._batch:
                    self._submit(group)
                    group = []
            self._submit(group)
            self._put(None)
        except _Stopped:
            pass
        except BaseException as error:
            self._forward(error)

    def _forward(self, error: BaseException) -> None:
        try:
            self._put(error)
        except _Stopped:
            pass

    def _submit(self, group: list[Any]) -> None:
        if group:
            self._put((group, self._executor.submit(_attempt_all, group)))

    def results(self) -> Iterator[Any]:
        while (entry := self._queue.get()) is not None:
            if isinstance(entry, BrokenProcessPool):
                raise WssegError(_KILLED)
            if isinstance(entry, BaseException):
                raise entry
            group, done = entry
            if isinstance(done, Future):
                try:
                    yield from done.result()
                except BrokenProcessPool:
                    raise WssegError(f"{_key(group[0])}: {_KILLED}") from None
            else:
                yield done.value


_PATIENCE = 1.  # seconds
_KILLED = "a worker was killed while it worked on this (out of memory?): use fewer --jobs"


class _Stopped(Exception):
    pass
