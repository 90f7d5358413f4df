"""What the fault tests share: killing and starving a writer in a child process, and records.

``WSSEG_FAULTS`` multiplies every count (default 1; 10 for a release).
"""

from __future__ import annotations

import errno
import gc
import io
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import wsseg.io.hdf5  # noqa: F401  (so that a forked child has it)
from tests.conftest import CLASSES, command, make_record
from wsseg.cli import _command, _convert, _flow, cat, info  # noqa: F401  (likewise)
from wsseg.errors import WssegError
from wsseg.io.header import Header, Total, history_entry
from wsseg.io.places import open_sink, open_source
from wsseg.io.record import Packed, Record
from wsseg.io.stream import StreamSource, tar_end, tar_member, tar_record
from wsseg.io.values import ScoreMap

FORMS = ("out", "out.tar", "out.h5")
TOOLS = {"ws-cat": cat.main, "ws-info": info.main}


def times(count: int) -> int:
    """How often to try, ``count`` by default."""
    return max(1, int(count * float(os.environ.get("WSSEG_FAULTS", "1"))))


# -- records -------------------------------------------------------------------------------


def full_record(number: int, *kinds: str, extra: bool = True) -> Record:
    """A small record with label and score, and supervision for its boxes if it has any."""
    record = make_record(number, "label", *kinds)
    if extra:
        rng = np.random.default_rng(number)
        record.set("score", ScoreMap(rng.random((3, 12, 16)).astype(np.float16),
                                     np.arange(3), (24, 32)))
    return record


def make_header(*kinds: str) -> Header:
    entry = history_entry("ws-test", "1", ["--seed", "7"], {"seed": 7}, {})
    return Header(kinds=tuple(sorted({"label", "score", *kinds})), classes=CLASSES,
                  history=(entry,))


def make_packs(count: int, *kinds: str) -> list[tuple[Packed, str]]:
    packs = [full_record(i, *kinds).pack() for i in range(count)]
    return [(packed, packed.digest) for packed in packs]


def stream_bytes(packs: Sequence[tuple[Packed, str]], header: Header) -> bytes:
    """The tar stream of some packed records."""
    total = Total()
    for packed, digest in packs:
        total.add(packed.key, digest, packed.supervision)
    return b"".join([tar_member("__wsseg__/header.json", header.dump()),
                     *(tar_record(*pack) for pack in packs), tar_end(total.end(header))])


def write(place: Path | str, packs: Sequence[tuple[Packed, str]], header: Header, mode: str = "new",
          wrote: Callable[[int], None] = lambda n: None) -> None:
    """Write a place as Flow.run does."""
    sink, total = open_sink(str(place), header, mode=mode), Total()
    try:
        for n, (packed, digest) in enumerate(packs):
            old = sink.take(packed.key) if mode == "resume" else None
            if old is not None:
                packed, digest = old, old.digest
            sink.write(packed, digest, taken=old is not None)
            total.add(packed.key, digest, packed.supervision)
            wrote(n + 1)
        sink.finish(total.end(header))
    except BaseException as error:
        sink.abort(str(error) if isinstance(error, WssegError) else None)
        raise


def read_stream(data: bytes) -> list[Packed]:
    """The records of a stream, which must be whole."""
    return [record.stored() for record in StreamSource(io.BytesIO(data), "stream")]


def read_all(place: Path | str) -> list[Packed]:
    """The records of a place, which must be whole."""
    return [record.stored() for record in open_source(str(place))]


def contents(place: Path) -> dict[str, bytes]:
    """Everything a place left: files with their bytes, folders with a slash, by name.

    A single file comes with the unfinished ones beside it.
    """
    found: dict[str, bytes] = {}
    tops = [place, *place.parent.glob(f"{place.name}.*")] if place.suffix else [place]
    for top in sorted(top for top in tops if os.path.lexists(top)):
        for path in [top, *sorted(top.rglob("*"))] if top.is_dir() else [top]:
            name = str(path.relative_to(place.parent))
            found[name if not path.is_dir() else f"{name}/"] = \
                b"" if path.is_dir() else path.read_bytes()
    return found


def assert_sound(place: Path, whole: dict[str, bytes]) -> None:
    """Nothing bad lies under a final name, and nothing says complete that is not."""
    found = contents(place)
    if place.suffix:
        assert found.get(place.name, whole[place.name]) == whole[place.name]
        assert set(found) <= {place.name, f"{place.name}.part", f"{place.name}.part.old"}
        return
    for name, data in found.items():
        if not name.startswith("out/__wsseg__/"):
            assert name.endswith("/") or data == whole.get(name), f"{name} is bad"
    if "out/__wsseg__/end.json" in found:
        assert {k: v for k, v in found.items() if k != "out/__wsseg__/tmp/"} == whole


def assert_no_temps(place: Path) -> None:
    """No temporary lies beside the records of a run that could clean up after itself."""
    odd = [n for n in contents(place) if ".ws-" in n and not n.startswith("out/__wsseg__/tmp/")]
    assert odd == []


# -- children ------------------------------------------------------------------------------


@dataclass
class Done:
    """How a child ended. code: exit status, or minus the signal."""

    code: int
    out: bytes
    err: str

    @property
    def line(self) -> str:
        """The one line it said; fails if it said more, or spoke of what is not the user's."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert "unexpected" not in lines[0] and "Traceback" not in lines[0], lines[0]
        return lines[0]


class Child:
    """A forked child that runs a function: as fast to start as a fork, and free to die."""

    def __init__(self, work: Callable[[], int | None], *, stdin: bytes | int | None = None,
                 limits: dict[int, int] | None = None) -> None:
        self._out = tempfile.TemporaryFile()
        self._err, self._says = os.pipe()  # no file: its size could be what is limited
        sys.stdout.flush()
        sys.stderr.flush()
        gc.disable()
        self.pid = os.fork()
        if self.pid:
            os.close(self._says)
            gc.enable()
            return
        code = 70
        try:
            self._settle(stdin)
            for name, value in (limits or {}).items():
                resource.setrlimit(name, (value, resource.getrlimit(name)[1]))
            code = work() or 0
        except WssegError as error:
            sys.stderr.write(f"{error}\n")
            code = int(error.status)
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _settle(self, stdin: bytes | int | None) -> None:
        """Give the child streams and signals as a shell would."""
        if isinstance(stdin, bytes):
            with tempfile.TemporaryFile() as file:
                file.write(stdin)
                file.flush()
                os.lseek(file.fileno(), 0, os.SEEK_SET)
                os.dup2(file.fileno(), 0)
        else:
            os.dup2(os.open(os.devnull, os.O_RDONLY) if stdin is None else stdin, 0)
        os.dup2(self._out.fileno(), 1)
        os.dup2(self._says, 2)
        os.close(self._says)
        sys.stdout = open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, seconds: float = 60) -> Done:
        until = time.monotonic() + seconds
        pause = 0.0005
        while not (state := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > until:
                self.kill()
                os.waitpid(self.pid, 0)
                raise AssertionError(f"the child hangs: {self._said()[1]}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)
        return Done(os.waitstatus_to_exitcode(state[1]), *self._said())

    def _said(self) -> tuple[bytes, str]:
        with self._out, os.fdopen(self._err, "rb", 0) as err:
            self._out.seek(0)
            os.set_blocking(err.fileno(), False)  # an orphan may hold the other end
            return self._out.read(), (err.read(1 << 16) or b"").decode(errors="replace")


def tool(*words: str | Path, stdin: bytes | int | None = None,
         limits: dict[int, int] | None = None, before: Callable[[], None] = lambda: None,
         seconds: float = 60) -> Done:
    """Run a tool in a forked child: all of the command but the interpreter's start."""
    return start_tool(*words, stdin=stdin, limits=limits, before=before).wait(seconds)


def start_tool(*words: str | Path, stdin: bytes | int | None = None,
               limits: dict[int, int] | None = None,
               before: Callable[[], None] = lambda: None) -> Child:
    def work() -> int:
        before()
        return _command.run(TOOLS[str(words[0])], [str(w) for w in words[1:]])

    return Child(work, stdin=stdin, limits=limits)


def real(*words: str | Path) -> list[str]:
    """The command line of a tool as a process of its own."""
    return [*command(str(words[0])), *(str(w) for w in words[1:])]


# -- faults --------------------------------------------------------------------------------


class Faults:
    """Makes the n-th of some calls of ``os`` fail, in this process, from then on.

    how: ``kill`` (SIGKILL in the middle of it), ``once`` (an error), ``ever`` (an error now and
    at every later call), ``short`` (a write takes half, every later one is an error).
    """

    def __init__(self, names: Sequence[str], nth: int, how: str, code: int = errno.ENOSPC) -> None:
        self.calls = 0
        self._nth, self._how, self._code = nth, how, code
        for name in names:
            setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name: str, call: Callable) -> Callable:
        def wrapped(*args, **kwargs):
            self.calls += 1
            if self.calls < self._nth or self._how == "once" and self.calls > self._nth:
                return call(*args, **kwargs)
            half = name == "write" and self.calls == self._nth and args[0] > 2
            if half and self._how in ("kill", "short"):
                view = memoryview(args[1])
                done = call(args[0], view[:max(1, len(view) // 2)])
                if self._how == "short":
                    return done
            if self._how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self._code, os.strerror(self._code))
        return wrapped


def count_calls(work: Callable[[], None], names: Sequence[str]) -> int:
    """How many calls of ``os`` some work makes."""
    def counted() -> None:
        faults = Faults(names, sys.maxsize, "once")
        work()
        os.write(1, str(faults.calls).encode()) if "write" not in names else \
            sys.stdout.write(str(faults.calls))

    done = Child(counted).wait()
    assert done.code == 0, done.err
    return int(done.out)


# -- damage --------------------------------------------------------------------------------


def flips(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies of ``data`` with one bit changed each."""
    rng = random.Random(seed)
    for _ in range(count):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        yield bytes(changed)
