"""Where pictures go: one file, or a directory that lists what it holds."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from wsseg.errors import UsageError, WssegError
from wsseg.io.atomic import atomic_write, refuse_link
from wsseg.io.kinds import check_key
from wsseg.io.places import refuse_input

_OTHER = (".h5", ".hdf5", ".tar", ".pdf", ".gif", ".webp", ".svg", ".zip", ".mp4", ".tif")


def check_output(output: str, inputs: Iterable[str]) -> Path:
    """Return the output's path. Raises UsageError for a name that promises another format, and
    for one of the inputs."""
    if output == "-":
        raise UsageError("pictures go to a file or directory: -o NAME.html, NAME.png or NAME")
    if output.lower().endswith(_OTHER):
        raise UsageError(f"-o {output}: pictures go to a .html, .png or .jpg file or to a "
                         "directory")
    refuse_input(output, inputs)
    return Path(output)


class OneFile:
    """One picture or page, written when it is complete."""

    def __init__(self, path: Path, overwrite: bool) -> None:
        if path.is_dir():
            raise UsageError(f"{path} is a directory")
        if os.path.lexists(path) and not overwrite:
            raise UsageError(f"{path} exists: add --overwrite")
        self._path = path

    def write(self, data: bytes) -> None:
        _make(self._path.parent)
        atomic_write(self._path, data)


class PictureFolder:
    """A directory of pictures named by key.

    A hidden list names the pictures before they are written: it marks the directory as ours,
    and only what it names is removed when the directory is used again.
    """

    LIST = ".ws-view"

    def __init__(self, root: Path, overwrite: bool) -> None:
        refuse_link(root)
        self._root, self._list = root, root / self.LIST
        if root.exists():
            if not root.is_dir():
                raise UsageError(f"{root} exists and is not a directory")
            ours = self._list.is_file() and not self._list.is_symlink()
            if not ours and any(root.iterdir()):
                raise UsageError(f"{root} exists and was not written by ws-view: choose another "
                                 "output")
            if ours and not overwrite:
                raise UsageError(f"{root} exists: add --overwrite")
        self._opened = None

    def _open(self) -> None:
        """Remove what an earlier run made, and begin the list anew."""
        _make(self._root)
        if self._list.exists():
            for name in self._list.read_text("utf-8").splitlines():
                self._path(check_key(name)).unlink(missing_ok=True)
        self._opened = open(self._list, "w", encoding="utf-8")

    def _path(self, name: str) -> Path:
        path = self._root
        for part in name.split("/")[:-1]:
            path = path / part
            refuse_link(path)
        return self._root / name

    def write(self, key: str, data: bytes) -> None:
        """Write one picture. Raises UnsafeError when a symbolic link would lead elsewhere."""
        name = f"{check_key(key)}.png"
        path = self._path(name)
        try:
            if self._opened is None:
                self._open()
            self._opened.write(name + "\n")
            self._opened.flush()
        except OSError as error:
            raise WssegError(f"cannot write {self._list}: {error.strerror}") from None
        _make(path.parent)
        atomic_write(path, data)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WssegError(f"cannot make {folder}: {error.strerror}") from None
