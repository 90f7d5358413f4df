"""Files of foreign data sets: found by name, bounded in size, photos and masks of one size."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsseg.data.base import few
from wsseg.errors import RecordError, WssegError
from wsseg.io.photo import photo_member, photo_size
from wsseg.io.png import SIGNATURE
from wsseg.io.record import FileMember

PHOTOS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif")
_PREFIX = 1 << 16


@dataclass(frozen=True)
class ConvertedPhoto(FileMember):
    """A photo in a format that records do not hold; read as PNG."""

    def read(self) -> bytes:
        return photo_member(super().read())[1]


@dataclass(frozen=True)
class MaskFile(FileMember):
    """A mask that must be as large as its photo.

    Reading it raises RecordError with both sizes when it is not; the photo costs only the read
    of its header.
    """

    photo: str | None = None

    def read(self) -> bytes:
        data = super().read()
        if self.photo is not None and data[:8] == SIGNATURE and len(data) > 24:
            width, height = struct.unpack(">II", data[16:24])
            check_size((height, width), self.photo, os.path.basename(self.path))
        return data


def listing(folder: str, endings: Sequence[str]) -> dict[str, str]:
    """Return name without ending -> path, sorted, of a folder's files that have one of
    ``endings`` (tried in order, case ignored); {} when there is no such folder.

    Hidden files are passed over. Raises WssegError when two files would make one key, be it
    through their endings or through upper and lower case, which some file systems do not tell
    apart.
    """
    found: dict[str, str] = {}
    folded: dict[str, str] = {}
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise WssegError(f"cannot read {folder}: {error.strerror}") from None
    clashes = []
    for name in names:
        lower = name.lower()
        ending = next((e for e in endings if lower.endswith(e.lower())), None)
        if ending is None or name.startswith(".") or len(name) == len(ending):
            continue
        key = name[:-len(ending)]
        other = folded.setdefault(key.casefold(), name)
        if other != name:
            clashes.append(f"{other} and {name}")
        found[key] = os.path.join(folder, name)
    if clashes:
        raise WssegError(f"{folder}: {len(clashes)} files share a name with another: "
                         f"{few(clashes)}; keep one of each")
    return dict(sorted(found.items()))


def photo_members(path: str | None) -> dict[str, bytes | FileMember]:
    """Return the members of a photo: {} for None, read lazily otherwise."""
    if path is None:
        return {}
    ending = os.path.splitext(path)[1].lower()
    if ending in (".jpg", ".jpeg"):
        return {"jpg": FileMember(path)}
    return {"image.png": FileMember(path) if ending == ".png" else ConvertedPhoto(path)}


def size_of(path: str) -> tuple[int, int]:
    """Return (H, W) of a photo or mask from its header. Raises RecordError if it is not one."""
    if not os.path.isfile(path):  # a pipe would hang, and is no photo
        raise RecordError(f"cannot read {path}: no such file")
    try:
        with open(path, "rb") as file:
            data = file.read(_PREFIX)
        return photo_size(data)
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from None
    except RecordError:
        if len(data) < _PREFIX:
            raise
        return photo_size(FileMember(path).read())  # a long header


def check_size(size: tuple[int, int], photo: str | None, what: str) -> None:
    """Raise RecordError with both sizes unless ``size`` (H, W) is the photo's (None: unknown)."""
    if photo is None:
        return
    other = size_of(photo)
    if other == size:
        return
    hint = "; transposed, or an EXIF rotation that one of the two applied?" \
        if other == size[::-1] else ""
    raise RecordError(f"{what} is of {size[0]}x{size[1]} pixels, but its photo "
                      f"{os.path.basename(photo)} of {other[0]}x{other[1]}{hint}")


def read_small(path: str, limit: int) -> bytes:
    """Return a file's bytes. Raises RecordError if it has more than ``limit``."""
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from None
    if size > limit:
        raise RecordError(f"{path} has {size} bytes: more than {limit}")
    return FileMember(path).read()


def number_field(value: Any, what: str) -> float:
    """Return a JSON number as a float. Raises RecordError for all else."""
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise RecordError(f"{what} is {repr(value)[:40]}, not a finite number")
    return number
