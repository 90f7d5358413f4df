"""Counts that worker processes and this one add to together."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from wsseg.errors import WssegError


@dataclass(frozen=True)
class Tally:
    """Counts by name, in a temporary file: a line for each addition, appended at once, so that
    processes that know nothing of each other may add. It can be pickled."""

    path: str

    @classmethod
    def new(cls) -> Tally:
        """Begin at nothing. Raises WssegError."""
        try:
            handle, path = tempfile.mkstemp(prefix="wsseg-", suffix=".tally")
        except OSError as error:
            raise WssegError(f"cannot make a temporary file: {error.strerror}") from None
        os.close(handle)
        return cls(path)

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to the counts."""
        some = {name: int(n) for name, n in counts.items() if n}
        if some:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(handle, json.dumps(some).encode() + b"\n")
            finally:
                os.close(handle)

    def total(self) -> Counter:
        """Return what has been added so far."""
        result: Counter = Counter()
        with open(self.path, "rb") as file:
            for line in file:
                result.update(json.loads(line))
        return result

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path)
