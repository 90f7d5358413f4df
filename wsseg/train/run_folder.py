"""The directory of a training run: settings, log, checkpoints and models.

    settings.json           what the run is made of; a resumed run must be made of the same
    log.jsonl               one line each few steps, evaluation and checkpoint
    last.pt before.pt       the last two checkpoints: net, optimiser, step
    best.safetensors        the net of the best evaluation
    model.safetensors       the trained net; its presence means that the run is finished
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import weakref
import zipfile
from pathlib import Path
from typing import Any

import torch

from wsseg.errors import UsageError, WssegError
from wsseg.io.atomic import atomic_write, refuse_link

MODEL, BEST, LOG, SETTINGS = "model.safetensors", "best.safetensors", "log.jsonl", "settings.json"
LAST, BEFORE = "last.pt", "before.pt"
_OURS = {MODEL, BEST, LOG, SETTINGS, LAST, BEFORE}
_TEMPORARY = re.compile(r"\.ws-\d+-[0-9a-f]+\.tmp")  # a killed writer's
_STATE = {"step", "net", "optimizer", "l2sp", "best"}


class RunFolder:
    """Files of one run. mode: ``new``, ``overwrite`` or ``resume``."""

    def __init__(self, place: str, settings: dict[str, Any], mode: str = "new") -> None:
        """Raises UsageError when the directory is not ours to write to, or is another run's,
        WssegError when another process writes to it."""
        self.path, self.settings, self._ours = Path(place), settings, True
        present, earlier = self.claim(place, mode), self.path / SETTINGS
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            for name in sorted(present, key=SETTINGS.__eq__):  # last, for it tells of the others
                if mode == "overwrite" or _TEMPORARY.fullmatch(name):
                    (self.path / name).unlink()
            if mode == "resume" and earlier.exists():
                self._same(json.loads(earlier.read_bytes()))
        except OSError as error:
            raise WssegError(f"cannot write to {place}: {error.strerror}") from None
        except ValueError:
            raise WssegError(f"{earlier} is damaged: start anew with --overwrite") from None
        atomic_write(self.path / SETTINGS, _json(settings, indent=1))

    @staticmethod
    def claim(place: str, mode: str) -> set[str]:
        """Return what a run's directory holds, changing nothing. Raises UsageError where it may
        not be written to."""
        path = Path(place)
        refuse_link(path)
        if place == "-":
            raise UsageError("a run is a directory: name one with -o")
        if path.exists() and not path.is_dir():
            raise UsageError(f"{place} exists and is no directory")
        present = set(os.listdir(path)) if path.is_dir() else set()
        odd = sorted(n for n in present - _OURS if not _TEMPORARY.fullmatch(n))
        if odd:
            raise UsageError(f"{place} holds {odd[0]}, which is no part of a training run: choose "
                             "another output")
        if present and mode == "new":
            raise UsageError(f"{place} exists: add --resume to go on, or --overwrite")
        return present

    def _lock(self) -> None:
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.close = weakref.finalize(self, os.close, handle)  #: lets others write to it
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WssegError(f"{self.path} is being written by another process") from None

    @classmethod
    def look(cls, place: str) -> RunFolder:
        """The directory of a run that another process writes, for loading alone."""
        folder = cls.__new__(cls)
        folder.path, folder.settings, folder._ours = Path(place), {}, False
        return folder

    def _same(self, earlier: dict[str, Any]) -> None:
        now, before = _flat(json.loads(_json(self.settings))), _flat(earlier)
        odd = [k for k in sorted(set(now) | set(before)) if now.get(k) != before.get(k)]
        if odd:
            text = "; ".join(f"{k} was {json.dumps(before.get(k))[:60]}, is "
                             f"{json.dumps(now.get(k))[:60]}" for k in odd[:3])
            raise UsageError(f"{self.path} is a run with other settings ({text}): resume it with "
                             "its own, or start anew with --overwrite")

    @property
    def finished(self) -> bool:
        return (self.path / MODEL).is_file()

    def renew(self) -> None:
        """Give a finished net the time of now: make would ask for it again wherever its data
        were only written again."""
        with contextlib.suppress(OSError):  # of another user
            os.utime(self.path / MODEL)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint of plain tensors, numbers, lists and dicts; the last two are kept."""
        out = io.BytesIO()
        torch.save({"step": step, **state}, out)
        last = self.path / LAST
        if last.exists():
            os.replace(last, self.path / BEFORE)
        atomic_write(last, out.getvalue(), sync=True)

    def load(self) -> tuple[dict[str, Any] | None, str]:
        """Return the newest checkpoint that is whole, None if there is none, and a note."""
        note, damaged = "", []
        for name in (LAST, BEFORE):
            path = self.path / name
            if not path.exists():
                continue
            try:
                state = _whole(path)
                if self._ours:
                    for one in damaged:  # or it would be kept in place of the good one
                        one.unlink()
                return state, note
            except Exception as error:  # what a cut archive raises differs by where it is cut
                note = f"{path} is damaged ({type(error).__name__}): going on from the one before"
                damaged.append(path)
        if note:
            raise WssegError(f"no checkpoint in {self.path} can be read: start anew with "
                             "--overwrite")
        return None, ""

    def rewind(self, step: int) -> None:
        """Drop the log's lines of steps after ``step``: they are done again."""
        path = self.path / LOG
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines(keepends=True)
                    if line.endswith(b"\n") and _step(line) <= step]
            atomic_write(path, b"".join(kept))

    def log(self, entry: dict[str, Any]) -> None:
        try:
            with open(self.path / LOG, "ab") as file:
                file.write(_json(entry))
        except OSError as error:
            raise WssegError(f"cannot write {self.path / LOG}: {error.strerror}") from None

    def write(self, name: str, data: bytes) -> None:
        atomic_write(self.path / name, data, sync=True)


def _whole(path: Path) -> dict[str, Any]:
    """Read a checkpoint. Raises almost anything if it is damaged or none of ours."""
    with zipfile.ZipFile(path) as archive:
        if archive.testzip() is not None:  # torch.load itself does not look at checksums
            raise ValueError("checksum")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not _STATE <= state.keys():
        raise ValueError("no checkpoint")
    return state


def _step(line: bytes) -> float:
    """The step of a line of the log, beyond any for one that cannot be read."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


def _flat(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Settings within settings, by names with dots: what is told of long ones is what differs."""
    flat = {}
    for name, value in settings.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{before}{name}.") if nested else {before + name: value}
    return flat


def _json(value: Any, indent: int | None = None) -> bytes:
    return (json.dumps(value, indent=indent, sort_keys=indent is not None,
                       default=list) + "\n").encode()
