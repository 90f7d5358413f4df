"""Score maps as .npz: no pickle, and nothing is unpacked that declares too much."""

from __future__ import annotations

import io
import math
import zipfile
import zlib

import numpy as np

from wsseg.errors import RecordError, UnsafeError
from wsseg.io.png import sniff

MAX_BYTES = 1 << 34
_MAX_HEADER = 1 << 14
_PLAIN = 1 << 26  # up to here any ratio of packing is harmless
_MAX_RATIO = 200


def read(data: bytes, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return the arrays called ``names`` from the bytes of an .npz.

    Raises RecordError for a damaged archive, an absent array, or one that does not hold
    numbers, UnsafeError for pickled objects and for sizes out of all proportion.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: _read(archive, archive.getinfo(f"{name}.npy")) for name in names}
    except KeyError as error:
        raise RecordError(f"has no {str(error).split(chr(39))[1].removesuffix('.npy')}") from None
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, RuntimeError,
            zlib.error) as error:  # NotImplementedError for an unknown compression
        raise RecordError(f"damaged: {sniff(data)} ({error})") from None


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    if info.file_size > MAX_BYTES or info.file_size > max(_PLAIN, _MAX_RATIO * info.compress_size):
        raise UnsafeError(f"declares {info.file_size} bytes of {info.filename} in "
                          f"{info.compress_size}")
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        if dtype.hasobject:
            raise UnsafeError(f"has pickled objects for {info.filename}")
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "fiu" or min(shape, default=0) < 0:
            raise RecordError(f"damaged: {info.filename} holds {dtype} {shape}, not numbers")
        if size > info.file_size:
            raise RecordError(f"damaged: {info.filename} declares {size} bytes of "
                              f"{info.file_size}")
        raw = file.read()  # all of it, or the checksum is not looked at
        if len(raw) != size:
            raise RecordError(f"damaged: {info.filename} holds {len(raw)} bytes, not {size}")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")


def _header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    form = np.lib.format
    version = form.read_magic(file)
    try:
        if version == (1, 0):
            return form.read_array_header_1_0(file, max_header_size=_MAX_HEADER)
        return form.read_array_header_2_0(file, max_header_size=_MAX_HEADER)
    except Exception as error:  # it parses a Python literal, and fails in as many ways
        raise ValueError(f"bad header: {error}") from None
