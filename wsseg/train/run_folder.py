"""The directory of a training run: settings, log, checkpoints and models.

    settings.json           what the run is made of; a resumed run must be made of the same
    log.jsonl               one line each few steps, evaluation and checkpoint
    last.pt before.pt       the last two checkpoints: net, optimiser, step
    best.safetensors        the net of the best evaluation
    model.safetensors       the trained net; its presence means that the run is finished
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import torch

from wsseg.errors import UsageError, WssegError
from wsseg.io.atomic import atomic_write, refuse_link

MODEL, BEST, LOG, SETTINGS = "model.safetensors", "best.safetensors", "log.jsonl", "settings.json"
LAST, BEFORE = "last.pt", "before.pt"
_OURS = {MODEL, BEST, LOG, SETTINGS, LAST, BEFORE}


class RunFolder:
    """Files of one run. mode: ``new``, ``overwrite`` or ``resume``."""

    def __init__(self, place: str, settings: dict[str, Any], mode: str = "new") -> None:
        """Raises UsageError when the directory is in use, or is another run's."""
        self.path, self.settings = Path(place), settings
        refuse_link(self.path)
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{place} exists and is no directory")
        present = set(os.listdir(self.path)) if self.path.is_dir() else set()
        if present - _OURS:
            raise UsageError(f"{place} holds {sorted(present - _OURS)[0]}, which is no part of a "
                             "training run: choose another output")
        if present and mode == "new":
            raise UsageError(f"{place} exists: add --resume to go on, or --overwrite")
        self.path.mkdir(parents=True, exist_ok=True)
        if mode == "overwrite":
            for name in present:
                (self.path / name).unlink()
        if mode == "resume" and SETTINGS in present:
            self._same(json.loads((self.path / SETTINGS).read_bytes()))
        atomic_write(self.path / SETTINGS, _json(settings, indent=1))

    @classmethod
    def look(cls, place: str) -> RunFolder:
        """The directory of a run that another process writes, for loading alone."""
        folder = cls.__new__(cls)
        folder.path, folder.settings = Path(place), {}
        return folder

    def _same(self, earlier: dict[str, Any]) -> None:
        now = json.loads(_json(self.settings))
        odd = [k for k in sorted(set(now) | set(earlier)) if now.get(k) != earlier.get(k)]
        if odd:
            text = "; ".join(f"{k} was {json.dumps(earlier.get(k))[:60]}, is "
                             f"{json.dumps(now.get(k))[:60]}" for k in odd[:3])
            raise UsageError(f"{self.path} is a run with other settings ({text}): resume it with "
                             "its own, or start anew with --overwrite")

    @property
    def finished(self) -> bool:
        return (self.path / MODEL).is_file()

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
        note = ""
        for name in (LAST, BEFORE):
            path = self.path / name
            if not path.exists():
                continue
            try:
                return torch.load(path, map_location="cpu", weights_only=True), note
            except Exception as error:  # what a cut archive raises differs by where it is cut
                note = f"{path} is damaged ({type(error).__name__}): going on from the one before"
        if note:
            raise WssegError(f"no checkpoint in {self.path} can be read: start anew with "
                             "--overwrite")
        return None, ""

    def rewind(self, step: int) -> None:
        """Drop the log's lines of steps after ``step``: they are done again."""
        path = self.path / LOG
        if path.exists():
            kept = [line for line in path.read_bytes().splitlines(keepends=True)
                    if line.endswith(b"\n") and json.loads(line).get("step", 0) <= step]
            atomic_write(path, b"".join(kept))

    def log(self, entry: dict[str, Any]) -> None:
        try:
            with open(self.path / LOG, "ab") as file:
                file.write(_json(entry))
        except OSError as error:
            raise WssegError(f"cannot write {self.path / LOG}: {error.strerror}") from None

    def write(self, name: str, data: bytes) -> None:
        atomic_write(self.path / name, data, sync=True)


def _json(value: Any, indent: int | None = None) -> bytes:
    return (json.dumps(value, indent=indent, sort_keys=indent is not None,
                       default=list) + "\n").encode()
