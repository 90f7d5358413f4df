"""Records written into a directory.

While a directory is being written, a journal names each finished record with its digest, and
it is all that a resumed run trusts. It becomes ``records.tsv`` when the run ends, just before
``end.json``, the last file written.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from wsseg.errors import RecordError, UsageError, WssegError
from wsseg.io.atomic import atomic_write, refuse_link, write_all
from wsseg.io.folder import FolderSource, journal_line, read_journal
from wsseg.io.header import End, Header
from wsseg.io.kinds import END, HEADER, META, RECORDS, member_name
from wsseg.io.record import Packed, Supervision

_JOURNAL = f"{META}/journal.tsv"
_SCRATCH = f"{META}/tmp"


class FolderSink:
    """A directory being written.

    mode: ``new`` (must not exist, or be empty), ``overwrite`` (its records are removed first)
    or ``resume``. Raises UsageError when the directory is not ours to write to, UnsafeError
    when a symbolic link stands in the way, WssegError when another process writes to it.
    """

    def __init__(self, root: str | Path, header: Header, mode: str = "new") -> None:
        self.root = Path(root)
        self._old: FolderSource | None = None
        self._done: dict[str, tuple[str, Supervision]] = {}
        self._lines: dict[str, bytes] = {}
        self._handles: list[int] = []
        self._claim(header, mode)
        try:
            self._lock()
            shutil.rmtree(self.root / _SCRATCH, ignore_errors=True)
            (self.root / _SCRATCH).mkdir()
            if self._old is not None:
                self._take_over(mode)
            self._journal = os.open(self.root / _JOURNAL, os.O_WRONLY | os.O_CREAT | os.O_APPEND
                                    | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            self._handles.append(self._journal)
        except OSError as error:
            raise WssegError(f"cannot write to {self.root}: {error.strerror}") from None
        self._put(HEADER, header.dump())

    def _claim(self, header: Header, mode: str) -> None:
        """Decide whether this directory may be written to, changing nothing."""
        refuse_link(self.root)
        refuse_link(self.root / META)
        if not self.root.exists():
            return
        if not self.root.is_dir():
            raise UsageError(f"{self.root} exists and is not a directory")
        inside = {p.name for p in self.root.iterdir()}
        if not (self.root / HEADER).is_file():
            if inside <= {META}:  # nothing, or a run killed before it wrote its header
                return
            raise UsageError(f"{self.root} exists and was not written by wsseg: choose another "
                             "output")
        if mode == "new":
            raise UsageError(f"{self.root} exists: add --overwrite or --resume")
        self._old = FolderSource(self.root)
        if mode == "resume" and self._old.header.recipe() != header.recipe():
            raise UsageError(f"{self.root} was made in another way (see ws-info --history): add "
                             "--overwrite or choose another output")

    def _lock(self) -> None:
        (self.root / META).mkdir(parents=True, exist_ok=True)
        self._handles.append(os.open(self.root / META, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        try:
            fcntl.flock(self._handles[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WssegError(f"{self.root} is being written by another process") from None

    def _take_over(self, mode: str) -> None:
        journal, records = self.root / _JOURNAL, self.root / RECORDS
        (self.root / END).unlink(missing_ok=True)
        self._old.end = None  # from now on the journal says what is there
        if not journal.exists() and records.exists():
            os.replace(records, journal)
        records.unlink(missing_ok=True)
        if mode == "resume":
            self._done = read_journal(journal)
            whole = b"".join(journal_line(k, *v) for k, v in self._done.items())
            atomic_write(journal, whole, scratch=self.root / _SCRATCH)  # no torn last line
        else:
            journal.unlink(missing_ok=True)
            for key in self._old.keys():
                self._remove(self._old.files(key).values())

    def _remove(self, names: Iterable[str]) -> None:
        try:
            for name in names:
                (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise WssegError(f"cannot remove {self.root / name}: {error.strerror}") from None

    def _put(self, name: str, data: bytes, *, sync: bool = False) -> None:
        folder = self.root
        for part in name.split("/")[:-1]:
            folder /= part
            refuse_link(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WssegError(f"cannot write {self.root / name}: {error.strerror}") from None
        atomic_write(self.root / name, data, scratch=self.root / _SCRATCH, sync=sync)

    def take(self, key: str) -> Packed | None:
        """Return the finished record of an earlier run, if its bytes are what was written."""
        if key not in self._done:
            return None
        digest, supervision = self._done[key]
        try:
            stored = self._old.get(key).stored()
        except (KeyError, RecordError):
            return None
        return replace(stored, supervision=supervision) if stored.digest == digest else None

    def write(self, packed: Packed, digest: str, *, taken: bool = False) -> None:
        """Write one record; ``taken``: it came from ``take`` and lies there already."""
        self._lines[packed.key] = line = journal_line(packed.key, digest, packed.supervision)
        if taken:
            return
        stale = dict(self._old.files(packed.key)) if self._old else {}
        for suffix, data in packed.members:
            self._put(member_name(packed.key, suffix), data)
            stale.pop(suffix, None)
        self._remove(stale.values())
        try:
            write_all(self._journal, line)
        except OSError as error:
            raise WssegError(f"cannot write to {self.root}: {error.strerror}") from None

    def finish(self, end: End) -> None:
        """Write what makes the directory complete."""
        for key in self._old.keys() if self._old else ():
            if key not in self._lines:
                self._remove(self._old.files(key).values())
        self._put(RECORDS, b"".join(self._lines[key] for key in sorted(self._lines)))
        self._remove([_JOURNAL])
        self._put(END, end.dump(), sync=True)
        self.abort()

    def abort(self, error: str | None = None) -> None:
        """Leave the directory as it is: incomplete, and to be resumed."""
        shutil.rmtree(self.root / _SCRATCH, ignore_errors=True)
        while self._handles:
            os.close(self._handles.pop())
