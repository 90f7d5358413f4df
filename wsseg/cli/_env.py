"""The process as a tool sees it: its streams, its signals, and how it speaks to a person."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from wsseg.errors import WssegError, printable

#: Least verbosity at which a line is shown: -q hides the progress bar, -qq notes, and nothing
#: an error.
ERROR, NOTE = -1000, -1


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived; unwinds the stack so that everything is cleaned up."""

    def __init__(self, number: int) -> None:
        self.number = number


class Env:
    """Facts about this run, taken once and handed on."""

    def __init__(self, tool: str, verbosity: int = 0, closed: set[int] | None = None) -> None:
        self.tool, self.verbosity, self.closed = tool, verbosity, set(closed or ())
        self.signalled: int | None = None
        self._held = False

    @staticmethod
    def take(tool: str) -> Env:
        """Look at the standard streams; a closed one is plugged so that no file gets its
        number, and remembered."""
        env = Env(tool)
        for number in (0, 1, 2):
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
                env.closed.add(number)

        def stop(number: int, _: object) -> None:
            again, env.signalled = env.signalled is not None, number
            if again or not env._held:
                env.stop_if_signalled()

        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:  # nohup's choice stands
                signal.signal(number, stop)
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            signal.signal(signal.SIGINT, stop)
        return env

    @contextmanager
    def held(self) -> Iterator[None]:
        """Note a signal in here, and raise what it means when this ends. A second one is raised
        at once: what was to be finished may take too long."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.stop_if_signalled()

    def stop_if_signalled(self) -> None:
        """Raise what a signal means. Called by a long loop too: an exception that is raised while
        a destructor or another library's callback runs is lost there."""
        if self.signalled is not None:
            raise KeyboardInterrupt if self.signalled == signal.SIGINT else Terminated(
                self.signalled)

    def say(self, text: str, level: int = NOTE) -> None:
        """Write one line to standard error if the verbosity is at least ``level``."""
        if self.verbosity >= level and 2 not in self.closed:
            try:
                sys.stderr.write(f"{self.tool}: {printable(text)}\n")
                sys.stderr.flush()
            except (OSError, ValueError):
                pass

    def out(self, text: str) -> None:
        """Write a text result to standard output. Raises WssegError if it cannot be written."""
        if 1 in self.closed or sys.stdout is None:
            raise WssegError("standard output is closed")
        try:
            sys.stdout.write(text if text.endswith("\n") else text + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise WssegError(f"cannot write to standard output: {error.strerror}") from None

    def bar(self, total: int | None, unit: str = "img"):
        """Return a progress bar on standard error, shown only to a person at the end of a
        pipeline."""
        from tqdm import tqdm

        show = (self.verbosity >= 0 and 2 not in self.closed and os.isatty(2)
                and not _is_pipe(1))
        return tqdm(total=total, unit=unit, desc=self.tool, file=sys.stderr, leave=False,
                    disable=not show)


def _is_pipe(number: int) -> bool:
    import stat

    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except OSError:
        return False


def die_by(number: int) -> None:
    """End this process by the signal it received, as shells expect."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
