"""Errors that a user can act on, and the exit status each one means."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status of every tool."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    INCOMPLETE = 4
    UNSAFE = 5
    INTERRUPTED = 130
    TERMINATED = 143
    READER_GONE = 141


class WssegError(Exception):
    """A fault described in one line that names the item and, where there is one, the fix."""

    status = ExitStatus.FAILED

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(WssegError):
    """The command line asks for something that cannot be done."""

    status = ExitStatus.USAGE


class RecordError(WssegError):
    """One record is bad; ``--keep-going`` may pass over it."""


class IncompleteError(WssegError):
    """An input ended before its end member: whatever wrote it was cut off or failed."""

    status = ExitStatus.INCOMPLETE


class UnsafeError(WssegError):
    """An input or output could do harm if it were followed: never passed over."""

    status = ExitStatus.UNSAFE


def printable(text: str) -> str:
    """Return ``text`` on one line, with control characters and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
                   if not 0xD800 <= ord(c) <= 0xDFFF else f"\\x{ord(c) & 0xFF:02x}" for c in text)
