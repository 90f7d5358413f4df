"""Arrays out of MAT-files of MATLAB 5 to 7.2, read without following what is not asked for.

``scipy.io.loadmat`` goes as deep into nested cells as a file says, so that 10 KB of them end the
process, and unpacks without a limit: 1 MB became 3 GB. Here one struct's fields are looked at, and
those that are not wanted are passed over by their length.
Source: MathWorks, "MAT-File Format", the part on level 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from wsseg.data.base import few
from wsseg.errors import RecordError, UnsafeError
from wsseg.io.png import check_pixels, sniff

MAX_BYTES = 1 << 26  # of a file, and of all that it unpacks to
_HEADER = 128
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_STRUCT = 2
_COMPLEX = 0x800
_MAX_DIMENSIONS = 32
_MAX_FIELDS = 1024
#: How numbers are stored, and which class of array they are of: MATLAB stores a double that is
#: small and whole as a byte.
_STORED = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8",
           12: "<i8", 13: "<u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8",
            15: "u8"}
_OTHERS = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse matrix"}


def read_struct(data: bytes, variable: str, fields: Sequence[str]) -> dict[str, np.ndarray]:
    """Return field -> numbers (M, N), real, of the dtype of their class, of a 1x1 struct.

    data: a whole little-endian file. Raises RecordError for what is damaged or no such file, for
    an absent variable or field and for a field that is no matrix of real numbers, UnsafeError for
    a file that unpacks to more than MAX_BYTES and for a matrix of too many pixels.
    """
    _check_header(data)
    others = []
    for body in _variables(memoryview(data)):
        cls, _, size, name, at = _matrix(body)
        if name != variable:
            others.append(name[:40])
        elif cls != _STRUCT or size != (1, 1):
            raise RecordError(f"{variable} is {_OTHERS.get(cls, 'an array')} of "
                              f"{'x'.join(map(str, size))}, not one struct")
        else:
            return _fields(body, at, variable, fields)
    raise RecordError(f"has no variable {variable} (it holds {few(others) or 'none'})")


def _check_header(data: bytes) -> None:
    if data.startswith(b"MATLAB 7.3") or data.startswith(b"\x89HDF"):
        raise RecordError("a MAT-file of MATLAB 7.3 (HDF5): save it again with -v7")
    if data[124:_HEADER] == b"\1\0MI":
        raise RecordError("a big-endian MAT-file: save it again with -v7 on another machine")
    if data[124:_HEADER] != b"\0\1IM":
        raise RecordError("MAT-file damaged (its header)" if data.startswith(b"MATLAB 5.0") else
                          f"not a MAT-file of MATLAB 5 to 7.2 ({sniff(data)})")


def _variables(data: memoryview) -> Iterator[memoryview]:
    """Return the matrices of a file, unpacked."""
    at, left = _HEADER, MAX_BYTES
    while at < len(data):
        kind, body, at = _element(data, at)
        if kind == _COMPRESSED:
            unpacked = _unpack(body, left)
            left -= len(unpacked)
            kind, body, _ = _element(memoryview(unpacked), 0)
        if kind != _MATRIX:
            raise RecordError(f"MAT-file damaged (element {kind} where a variable is expected)")
        yield body


def _unpack(body: memoryview, limit: int) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        result = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise RecordError(f"MAT-file damaged ({error})") from None
    if len(result) > limit:
        raise UnsafeError(f"MAT-file refused: it unpacks to more than {MAX_BYTES} bytes")
    if not unpacker.eof:
        raise RecordError("MAT-file damaged (packed data break off)")
    return result


def _element(data: memoryview, at: int) -> tuple[int, memoryview, int]:
    """Return type, content and the place behind it of the element at ``at``."""
    if len(data) - at < 8:
        raise RecordError("MAT-file truncated")
    kind, size = struct.unpack_from("<II", data, at)
    if kind >> 16:  # a small element: up to 4 bytes within its tag
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise RecordError(f"MAT-file damaged (a small element of {size} bytes)")
        return kind, data[at + 4:at + 4 + size], at + 8
    stop = at + 8 + size
    if stop > len(data):
        raise RecordError(f"MAT-file truncated ({stop - len(data)} bytes are missing)")
    return kind, data[at + 8:stop], stop if kind == _COMPRESSED else stop + -size % 8


def _matrix(body: memoryview) -> tuple[int, int, tuple[int, ...], str, int]:
    """Return class, flags, size and name of a matrix, and where its content begins."""
    kind, flags, at = _element(body, 0)
    if kind != _UINT32 or len(flags) != 8:
        raise RecordError("MAT-file damaged (a matrix without flags)")
    kind, sizes, at = _element(body, at)
    if kind != _INT32 or len(sizes) % 4 or len(sizes) > 4 * _MAX_DIMENSIONS:
        raise RecordError("MAT-file damaged (a matrix without a size)")
    _, name, at = _element(body, at)
    word = struct.unpack_from("<I", flags)[0]
    return (word & 0xFF, word, struct.unpack(f"<{len(sizes) // 4}i", sizes),
            bytes(name).decode("latin1"), at)


def _fields(body: memoryview, at: int, variable: str, wanted: Sequence[str]
            ) -> dict[str, np.ndarray]:
    kind, width, at = _element(body, at)
    _, text, at = _element(body, at)
    step = struct.unpack("<i", width)[0] if kind == _INT32 and len(width) == 4 else 0
    if step < 1 or len(text) % step or len(text) > step * _MAX_FIELDS:
        raise RecordError(f"MAT-file damaged (names of {variable}'s fields)")
    found: dict[str, np.ndarray] = {}
    for start in range(0, len(text), step):
        name = bytes(text[start:start + step]).split(b"\0")[0].decode("latin1")
        kind, content, at = _element(body, at)
        if kind != _MATRIX:
            raise RecordError(f"MAT-file damaged (element {kind} as {variable}.{name[:40]})")
        if name in wanted:
            found[name] = _numbers(content, f"{variable}.{name}")
    lost = [name for name in wanted if name not in found]
    if lost:
        raise RecordError(f"{variable} has no field {lost[0]}")
    return found


def _numbers(body: memoryview, what: str) -> np.ndarray:
    if not body:  # how MATLAB writes []
        return np.zeros((0, 0))
    cls, flags, size, _, at = _matrix(body)
    if cls not in _CLASSES or flags & _COMPLEX:
        raise RecordError(f"{what} is {_OTHERS.get(cls, 'of another class')}, not a matrix of real "
                          "numbers" if cls not in _CLASSES else f"{what} has complex numbers")
    if len(size) != 2 or min(size) < 0:
        raise RecordError(f"{what} is of {'x'.join(map(str, size))}, not a matrix")
    height, width = size
    if height * width:
        check_pixels(width, height)
    kind, raw, _ = _element(body, at)
    dtype = np.dtype(_CLASSES[cls])
    if kind not in _STORED or not np.can_cast(_STORED[kind], dtype, "safe"):
        raise RecordError(f"MAT-file damaged ({what}: {dtype} stored as type {kind})")
    stored = np.dtype(_STORED[kind])
    if len(raw) != height * width * stored.itemsize:
        raise RecordError(f"MAT-file damaged ({what}: {len(raw)} bytes for {height}x{width} "
                          f"{stored.name})")
    values = np.frombuffer(raw, stored).reshape(size, order="F")
    return np.ascontiguousarray(values, dtype)
