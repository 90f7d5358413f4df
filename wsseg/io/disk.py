"""A file that the HDF5 library may write to, whatever befalls the writer.

The library loses a file whose writer is killed, and crashes on a full disk. ``Disk`` stands
between: what is appended goes to the file, what changes earlier bytes waits in memory until
``commit``, which writes the changes to the end of the file as a log, applies them and cuts the
log off again. At every moment the file is as the last commit left it, or ``recover`` makes it so.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

from wsseg.io.atomic import write_all

_MAGIC = b"wsseglog"
_CHANGE = struct.Struct("<QQ")  # offset, length
_TRAILER = struct.Struct("<QI8s")  # length and CRC-32 of the log before it


class Disk:
    """A file object for h5py. Writing never raises: the first error is kept for ``commit``, and
    all that follows it is dropped."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.error: OSError | None = None
        self._at = 0
        self._solid = 0  # what lies before was committed
        self._changes: list[tuple[int, bytes]] = []
        self._size: int | None = None

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, os.fstat(self.handle).st_size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        old = max(0, min(len(view), self._solid - self._at))
        if old:
            self._changes.append((self._at, bytes(view[:old])))
        if len(view) > old:
            self._put(self._at + old, view[old:])
        self._at += len(view)
        return len(view)

    def _put(self, offset: int, data) -> None:
        try:
            if self.error is None:
                os.lseek(self.handle, offset, 0)
                write_all(self.handle, data)
        except OSError as error:
            self.error = error

    def read(self, size: int = -1) -> bytes:  # never called: h5py knows a file by this name
        raise io.UnsupportedOperation("read")

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self.handle, len(view), self._at)
        view[:len(data)] = data
        view[len(data):] = bytes(len(view) - len(data))
        for offset, change in self._changes:
            start, stop = max(offset, self._at), min(offset + len(change), self._at + len(view))
            if start < stop:
                view[start - self._at:stop - self._at] = change[start - offset:stop - offset]
        self._at += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        self._size = self._at if size is None else size
        return self._size

    def flush(self) -> None:
        pass

    def drop(self) -> None:
        """Write nothing more: what was not committed is forgotten."""
        self.error = self.error or OSError("stopped")

    def commit(self) -> None:
        """Make all that was written count. Raises OSError if any of it was not written."""
        if self.error is None:
            try:
                end = os.fstat(self.handle).st_size
                if self._size is not None and self._size > end:
                    os.ftruncate(self.handle, self._size)
                    end = self._size
                if self._changes:
                    log = b"".join(_CHANGE.pack(at, len(data)) + data
                                   for at, data in self._changes)
                    os.lseek(self.handle, end, 0)
                    write_all(self.handle, log + _TRAILER.pack(len(log), zlib.crc32(log), _MAGIC))
                    _apply(self.handle, log)
                    os.ftruncate(self.handle, end)
                if self._size is not None and self._size < end:
                    os.ftruncate(self.handle, self._size)
                    end = self._size
                self._changes, self._size, self._solid = [], None, end
            except OSError as error:
                self.error = error
        if self.error is not None:
            raise self.error


def _apply(handle: int, log: bytes) -> None:
    at = 0
    while at < len(log):
        offset, size = _CHANGE.unpack_from(log, at)
        at += _CHANGE.size
        os.lseek(handle, offset, 0)
        write_all(handle, log[at:at + size])
        at += size


def recover(path: Path) -> None:
    """Finish the commit in which a writer was stopped, if it was stopped in one. Raises OSError."""
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        end = os.fstat(handle).st_size - _TRAILER.size
        if end < 0:
            return
        size, crc, magic = _TRAILER.unpack(os.pread(handle, _TRAILER.size, end))
        if magic != _MAGIC or size > end:
            return
        log = os.pread(handle, size, end - size)
        if zlib.crc32(log) == crc:
            _apply(handle, log)
            os.ftruncate(handle, end - size)
    finally:
        os.close(handle)
