"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from wsseg.errors import UnsafeError, WssegError


def write_all(handle: int, data: bytes) -> None:
    """Write every byte to a file descriptor; a short write is continued."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view):]


def atomic_write(path: Path, data: bytes, *, scratch: Path | None = None,
                 sync: bool = False) -> None:
    """Write ``data`` under a temporary name and rename it to ``path``.

    A symbolic link at ``path`` is replaced, never followed. scratch: folder on the same file
    system for the temporary (default: the folder of ``path``). Raises WssegError, leaving
    neither a temporary nor a part of the file.
    """
    temporary = (scratch or path.parent) / f".ws-{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                         | os.O_CLOEXEC, 0o666)
        try:
            try:
                write_all(handle, data)
                if sync:
                    os.fsync(handle)
            finally:
                os.close(handle)
            os.replace(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):  # stopped right after the rename
                os.unlink(temporary)
            raise
    except OSError as error:
        raise WssegError(f"cannot write {path}: {error.strerror}") from None


def refuse_link(path: Path) -> None:
    """Raise UnsafeError if an output is a symbolic link, which would lead writing elsewhere."""
    if path.is_symlink():
        raise UnsafeError(f"{path} is a symbolic link to {os.readlink(path)}: name the target "
                          "itself or remove the link")
