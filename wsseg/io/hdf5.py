"""Records in one HDF5 file: ``/KIND/KEY`` datasets, header and end as root attributes.

The HDF5 library loses a file whose writer is killed and crashes on a full disk. So it never
touches the disk itself: it writes through ``_Disk``, which keeps a write error to itself,
swallows what follows and lets us report it; and a file is ``NAME.part`` until it is closed.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from wsseg.errors import IncompleteError, RecordError, UnsafeError, WssegError
from wsseg.io import codec, jsons
from wsseg.io.atomic import write_all
from wsseg.io.header import End, Header
from wsseg.io.kinds import KINDS, kind_of, suffixes_of
from wsseg.io.record import MAX_MEMBER, Packed, Record
from wsseg.io.values import InstanceMap, ScoreMap

_ESCAPES = (("%", "%25"), (".", "%2E"), ("/", "%2F"))
_MAX_META = 1 << 26


def _escape(text: str) -> str:
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text


def _unescape(text: str) -> str:
    for plain, escaped in reversed(_ESCAPES):
        text = text.replace(escaped, plain)
    return text


def _to_dataset(kind: str, members: dict[str, bytes]) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the array and attributes that hold one kind."""
    if kind in ("label", "scribble", "conf"):
        return codec.decode(kind, members), {}
    if kind in ("score", "cam"):
        value = codec.decode(kind, members)
        return value.data, {"classes": np.asarray(value.classes, np.uint16),
                            "size": np.asarray(value.size, np.uint32)}
    if kind == "instance":
        return (codec.decode(kind, members).ids,
                {"segments": np.frombuffer(members["inst.json"], np.uint8)})
    (suffix, data), = members.items()
    return np.frombuffer(data, np.uint8), {"suffix": suffix}


def _from_dataset(kind: str, data: np.ndarray, attrs: dict[str, Any]) -> dict[str, bytes]:
    """Return the members that ``_to_dataset`` was given."""
    if kind in ("label", "scribble", "conf"):
        return codec.encode(kind, data)
    if kind in ("score", "cam"):
        return codec.encode(kind, ScoreMap(data, attrs["classes"].astype(np.int64),
                                           tuple(int(n) for n in attrs["size"])))
    if kind == "instance":
        segments = jsons.read_segments(jsons.parse(attrs["segments"].tobytes()), None)
        return codec.encode(kind, InstanceMap(data, segments))
    if "suffix" not in attrs:
        raise RecordError(f"/{kind} has a dataset without a suffix")
    return {str(attrs["suffix"]): data.tobytes()}


def _crc(data: np.ndarray, attrs: dict[str, Any]) -> int:
    crc = zlib.crc32(np.ascontiguousarray(data))
    for name in sorted(attrs):
        crc = zlib.crc32(np.asarray(attrs[name]).tobytes() if not isinstance(attrs[name], str)
                         else attrs[name].encode(), crc)
    return crc


class Hdf5Source:
    """Records of an HDF5 file that we wrote, by ascending key.

    whole: refuse a file without its end (False to salvage one). Raises WssegError for a file
    that cannot be opened, UnsafeError for links that lead out of the file, raw external
    storage, virtual datasets, filters other than gzip and sizes beyond the file's own.
    """

    def __init__(self, path: str | os.PathLike[str], *, whole: bool = True) -> None:
        self.where = str(path)
        self.end: End | None = None
        try:
            self._file = h5py.File(path, "r", locking=False)
        except OSError as error:
            raise WssegError(f"{self.where} is not a readable HDF5 file ({error})") from None
        try:
            if "wsseg_header" not in self._file.attrs:
                raise WssegError(f"{self.where} is an HDF5 file, but not one of wsseg's")
            self.header = Header.load(self._meta("wsseg_header"))
            if "wsseg_end" in self._file.attrs:
                self.end = End.load(self._meta("wsseg_end"))
            self._index = self._scan()
        except (RecordError, OSError, RuntimeError, KeyError, ValueError) as error:
            raise WssegError(f"{self.where} is damaged: {error}") from None
        self._keys = sorted(self._index)

    def _meta(self, name: str) -> bytes:
        value = self._file.attrs[name]
        if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.size > _MAX_META:
            raise RecordError(f"attribute {name} is not bytes")
        return value.tobytes()

    def _scan(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for group in self._file:
            self._hard(self._file, group, h5py.Group)
            for name in self._file[group]:
                self._hard(self._file[group], name, h5py.Dataset)
                index.setdefault(_unescape(name), []).append(group)
        return index

    def _hard(self, parent: h5py.Group, name: str, kind: type) -> None:
        where = f"{self.where}: {parent.name.rstrip('/')}/{name}"
        if not isinstance(parent.get(name, getlink=True), h5py.HardLink):
            raise UnsafeError(f"{where} is a soft or external link")
        if parent.get(name, getclass=True) is not kind:
            raise UnsafeError(f"{where} is not a {kind.__name__.lower()}")

    def keys(self) -> Sequence[str]:
        return self._keys

    def kinds_at(self, key: str) -> list[str]:
        """Return the kinds of one record, without reading it."""
        return [_unescape(group) for group in self._index[key]]

    def _load(self, group: str, key: str) -> dict[str, bytes]:
        dataset = self._file[group][_escape(key)]
        if dataset.external or dataset.is_virtual or dataset.compression not in (None, "gzip"):
            raise UnsafeError(f"{self.where}: {dataset.name} keeps its data elsewhere or through "
                              "a filter that is not ours")
        if dataset.nbytes > MAX_MEMBER or dataset.nbytes > 2000 * max(
                1, dataset.id.get_storage_size()) or dataset.dtype.hasobject:
            raise UnsafeError(f"{self.where}: {dataset.name} declares {dataset.nbytes} bytes but "
                              f"stores {dataset.id.get_storage_size()}")
        attrs = dict(dataset.attrs)
        data, crc = dataset[()], attrs.pop("crc32", None)
        attrs.pop("supervision", None)
        if crc is None or int(crc) != _crc(data, attrs):
            raise RecordError(f"{_unescape(group)} is damaged (wrong checksum)")
        return _from_dataset(_unescape(group), data, attrs)

    def get(self, key: str) -> Record:
        record = Record(key, {}, self.header.classes)
        try:
            for group in self._index[key]:
                record.members.update(self._load(group, key))
                note = self._file[group][_escape(key)].attrs.get("supervision")
                if note is not None:
                    record.supervision = {k: (c, o) for k, (c, o) in
                                          jsons.parse(note.encode()).items()}
        except (OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError) as error:
            if key not in self._index:
                raise
            raise RecordError(f"damaged in {self.where}: {error}") from None
        return record

    def __iter__(self) -> Iterator[Record]:
        for key in self._keys:
            yield self.get(key)
        self.check_complete()

    def check_complete(self) -> None:
        """Raise IncompleteError unless every record that was written is there."""
        if self.end is None or self.end.records != len(self._keys):
            raise IncompleteError(f"{self.where} is incomplete: "
                                  + ("it has no end" if self.end is None else f"it holds "
                                     f"{len(self._keys)} of {self.end.records} records"))

    def close(self) -> None:
        self._file.close()


class _Disk:
    """A file for h5py that never raises on write: the first error is kept, the rest dropped."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.error: OSError | None = None
        self._at = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, os.fstat(self.handle).st_size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        try:
            if self.error is None:
                os.lseek(self.handle, self._at, 0)
                write_all(self.handle, view)
        except OSError as error:
            self.error = error
        self._at += len(view)
        return len(view)

    def read(self, size: int = -1) -> bytes:  # never called: h5py knows a file by this name
        raise io.UnsupportedOperation("read")

    def readinto(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        data = os.pread(self.handle, len(view), self._at)
        view[:len(data)] = data
        view[len(data):] = bytes(len(view) - len(data))
        self._at += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self.handle, size)
        except OSError as error:
            self.error = error
        return size

    def flush(self) -> None:
        pass


class Hdf5Writer:
    """Writes records into an open file descriptor; used by ``places.FileSink``."""

    def __init__(self, handle: int, header: Header) -> None:
        self._disk = _Disk(handle)
        self._file = h5py.File(self._disk, "w", libver="v110")
        self._attr("wsseg_header", header.dump())
        self._flush()

    def _attr(self, name: str, data: bytes) -> None:
        self._file.attrs.create(name, np.frombuffer(data, np.uint8))

    def _flush(self) -> None:
        self._file.flush()
        if self._disk.error is not None:
            raise self._disk.error

    def write(self, packed: Packed) -> None:
        """Add one record. Raises OSError when the disk does not take it."""
        members = dict(packed.members)
        for kind in sorted({kind_of(s) for s in members}):
            data, attrs = _to_dataset(kind, {s: members[s] for s in suffixes_of(kind)
                                             if s in members})
            options = {}
            if kind in KINDS and data.ndim > 1 and data.size:
                options = {"chunks": data.shape, "compression": "gzip", "compression_opts": 1}
            dataset = self._file.require_group(_escape(kind)).create_dataset(
                _escape(packed.key), data=data, **options)
            for name, value in attrs.items():
                dataset.attrs[name] = value
            dataset.attrs["crc32"] = np.uint32(_crc(data, attrs))
            if packed.supervision:
                dataset.attrs["supervision"] = jsons.dump(
                    {k: list(v) for k, v in packed.supervision.items()}).decode().strip()
        self._flush()

    def close(self, end: End | None) -> None:
        """Close the file, complete if ``end`` is given."""
        if end is not None:
            self._attr("wsseg_end", end.dump())
        try:
            self._file.close()
        except (OSError, RuntimeError):
            if self._disk.error is None:
                raise
        if self._disk.error is not None:
            raise self._disk.error
