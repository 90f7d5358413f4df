"""Places by name: a directory, an HDF5 file, a tar file, or ``-`` for a pipe."""

from __future__ import annotations

import fcntl
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from wsseg.errors import RecordError, UsageError, WssegError
from wsseg.io.atomic import refuse_link, write_all
from wsseg.io.disk import recover
from wsseg.io.folder import FolderSource
from wsseg.io.folder_sink import FolderSink
from wsseg.io.header import End, Header
from wsseg.io.kinds import HEADER, META
from wsseg.io.record import Packed, Record
from wsseg.io.source import Source
from wsseg.io.stream import StreamSource, tar_end, tar_member, tar_record

_HDF5 = (".h5", ".hdf5")
_NOT_OURS = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".npz", ".npy", ".pkl", ".json", ".txt")


def is_file_form(place: str) -> bool:
    """Whether an output of this name is one file (HDF5 or tar) rather than a directory."""
    return place.lower().endswith((*_HDF5, ".tar"))


def refuse_input(output: str, inputs: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Raise UsageError for an output that is one of the inputs, or that would be read as part of
    a directory: folders, those whose records are read."""
    if output == "-":
        return
    file, real = is_file_form(output), os.path.realpath(output)
    outs = {real, f"{real}.part", f"{real}.part.old"} if file else {real}
    if any(place != "-" and os.path.realpath(place) in outs for place in inputs):
        raise UsageError(f"{output} is also an input: write to another place")
    for folder in folders:
        whole = os.path.realpath(folder)
        if real.startswith(os.path.join(whole, "")) and (
                not file or os.path.isdir(os.path.join(whole, META))):
            raise UsageError(f"{output} lies in the input {folder}, of which it would be a part: "
                             "write to another place")


def open_source(place: str, *, stdin: int = 0, as_kind: str | None = None,
                classes: Sequence[str] | None = None) -> Source:
    """Open a place for reading; what it is, is seen from its content.

    stdin: file descriptor that ``-`` stands for. as_kind, classes: see FolderSource. Raises
    UsageError if there is nothing of that name, WssegError if it is nothing we read.
    """
    if place == "-":
        return StreamSource(io.FileIO(stdin, closefd=False), "standard input")
    path = Path(place)
    if path.is_dir():
        return FolderSource(place, as_kind=as_kind, classes=classes)
    if not path.exists():
        part = f" (but {place}.part: finish it with --resume)" \
            if Path(f"{place}.part").exists() else ""
        raise UsageError(f"{place}: no such file or directory{part}")
    try:
        file = open(path, "rb", buffering=0)
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}") from None
    if path.is_file():
        with open(path, "rb") as probe:
            if probe.read(8) == b"\x89HDF\r\n\x1a\n":
                from wsseg.io.hdf5 import Hdf5Source

                return Hdf5Source(place)
    return StreamSource(file, place)


class Sink(Protocol):
    """A place being written."""

    def take(self, key: str) -> Packed | None:
        """Return the record of an earlier run that is being resumed, if it can be trusted."""
        ...

    def write(self, packed: Packed, digest: str, *, taken: bool = False) -> None: ...

    def finish(self, end: End) -> None: ...

    def abort(self, error: str | None = None) -> None: ...


class StreamSink:
    """A tar stream on a file descriptor; each record is handed over at once."""

    def __init__(self, handle: int, header: Header) -> None:
        self._handle, self._header = handle, header
        self._send(tar_member(HEADER, header.dump()))

    def _send(self, data: bytes) -> None:
        try:
            write_all(self._handle, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise WssegError(f"cannot write to standard output: {error.strerror}") from None

    def take(self, key: str) -> None:
        return None

    def write(self, packed: Packed, digest: str, *, taken: bool = False) -> None:
        self._send(tar_record(packed, digest))

    def finish(self, end: End) -> None:
        self._send(tar_end(end))

    def abort(self, error: str | None = None) -> None:
        """Tell the reader why the stream ends here."""
        try:
            self._send(tar_end(End(0, 0, "", "", error=error or "its writer was stopped")))
        except (BrokenPipeError, WssegError):
            pass


class _TarWriter:
    def __init__(self, handle: int, header: Header) -> None:
        self._handle = handle
        write_all(handle, tar_member(HEADER, header.dump()))

    def write(self, packed: Packed, digest: str) -> None:
        write_all(self._handle, tar_record(packed, digest))

    def close(self, end: End | None) -> None:
        if end is not None:
            write_all(self._handle, tar_end(end))


class FileSink:
    """One file, written as ``NAME.part`` and renamed when it is complete.

    A resumed run reads the finished records of the earlier ``.part`` and writes them again in
    the order of the input, so that it ends byte for byte as an uninterrupted one.
    """

    def __init__(self, place: str, header: Header, mode: str = "new") -> None:
        self._path = Path(place)
        self._part = Path(f"{place}.part")
        self._earlier = Path(f"{place}.part.old")
        self._salvage = None
        for path in (self._path, self._part, self._earlier):
            refuse_link(path)
            if path.exists() and not path.is_file():
                raise UsageError(f"{path} exists and is no plain file: choose another output")
        old = next((p for p in (self._earlier, self._part, self._path) if p.exists()), None)
        if old is not None and mode == "new":
            raise UsageError(f"{old} exists: add --overwrite or --resume")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._held():
                if mode == "resume" and old is not None:
                    if old == self._part:
                        os.replace(self._part, self._earlier)
                        old = self._earlier
                    self._salvage = _Salvage(old, header)
                else:
                    self._earlier.unlink(missing_ok=True)
                self._part.unlink(missing_ok=True)  # emptied, it would change what is linked to it
                self._handle = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL
                                       | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if place.lower().endswith(_HDF5):
                from wsseg.io.hdf5 import Hdf5Writer as Writer
            else:
                Writer = _TarWriter
            self._writer = Writer(self._handle, header)
        except OSError as error:
            raise self._failed(error) from None

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Refuse a ``.part`` that another process still writes, and keep others from this one."""
        handle = os.open(self._part, os.O_RDONLY | os.O_CLOEXEC) if self._part.exists() else -1
        try:
            if handle >= 0:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not self._is_part(handle):  # another was faster, and this is what it removed
                    raise self._taken()
            yield
        except BlockingIOError:
            raise self._taken() from None
        finally:
            if handle >= 0:
                os.close(handle)

    def _is_part(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self._part))
        except FileNotFoundError:
            return False

    def _taken(self) -> WssegError:
        return WssegError(f"{self._path} is being written by another process")

    def _failed(self, error: OSError) -> WssegError:
        return WssegError(f"cannot write {self._path}: {error.strerror or error}")

    def take(self, key: str) -> Packed | None:
        return None if self._salvage is None else self._salvage.take(key)

    def write(self, packed: Packed, digest: str, *, taken: bool = False) -> None:
        try:
            self._writer.write(packed, digest)
            if taken and self._salvage.exhausted:  # .part holds all that .part.old held
                self._earlier.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from None

    def finish(self, end: End) -> None:
        try:
            self._writer.close(end)
            os.fsync(self._handle)
            if not self._is_part(self._handle):  # another began at once, and took it away
                raise self._taken()
            os.replace(self._part, self._path)
            self._earlier.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from None
        self._release()

    def abort(self, error: str | None = None) -> None:
        """Leave ``.part`` as it is, to be resumed."""
        try:
            self._writer.close(None)
        except (OSError, RuntimeError):
            pass
        self._release()

    def _release(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)


class _Salvage:
    """Finished records of an interrupted tar or HDF5 file, in the order of the input.

    exhausted: every one of them was taken.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.exhausted = False
        self._records = iter(())
        self._next: Record | None = None
        self._left: set[str] = set()
        try:
            if path.name.endswith(".part.old"):
                recover(path)
            source = open_source(str(path))
        except WssegError as error:
            if isinstance(error, UsageError):
                raise
            return  # nothing usable was written: start again
        if source.header.recipe() != header.recipe():
            raise UsageError(f"{path} was made in another way (see ws-info --history): add "
                             "--overwrite or choose another output")
        self._source = source
        if hasattr(source, "get"):
            self._left = set(source.keys())
            self.take = self._look_up
        else:
            self._records = iter(source)
            self._advance()

    def _advance(self) -> None:
        try:
            self._next = next(self._records, None)
        except WssegError:  # where the earlier run was cut
            self._next = None
        self.exhausted = self._next is None

    def take(self, key: str) -> Packed | None:
        if self._next is None or self._next.key != key:
            return None
        record = self._next
        self._advance()
        try:
            return record.pack()
        except RecordError:
            return None

    def _look_up(self, key: str) -> Packed | None:
        try:
            packed = self._source.get(key).pack()
        except (KeyError, RecordError):
            return None
        self._left.discard(key)
        self.exhausted = not self._left
        return packed


def open_sink(place: str, header: Header, *, mode: str = "new", stdout: int = 1) -> Sink:
    """Open a place for writing; the suffix of its name decides the form.

    mode: ``new``, ``overwrite`` or ``resume``. Raises UsageError where it must not be written,
    UnsafeError for symbolic links, WssegError when it cannot be written.
    """
    if place == "-":
        if mode == "resume":
            raise UsageError("--resume needs an output that lasts: -o DIRECTORY or FILE")
        return StreamSink(stdout, header)
    if is_file_form(place):
        return FileSink(place, header, mode)
    if place.lower().endswith(_NOT_OURS):
        raise UsageError(f"{place}: an output is a directory, NAME.h5 or NAME.tar, "
                         "compressed within")
    return FolderSink(place, header, mode)
