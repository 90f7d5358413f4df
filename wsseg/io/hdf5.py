"""Records in one HDF5 file: ``/KIND/KEY`` datasets, header and end as root attributes.

A file is ``NAME.part`` until it is closed, and each record is committed (``disk.Disk``), so that
neither a killed writer nor a full disk costs a record that was finished.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import numpy as np

from wsseg.errors import IncompleteError, RecordError, UnsafeError, WssegError
from wsseg.io import codec, jsons
from wsseg.io.disk import Disk
from wsseg.io.header import End, Header
from wsseg.io.inflate import crc32, inflate
from wsseg.io.kinds import KINDS, check_key, kind_of, split_name, suffixes_of
from wsseg.io.png import check_map, check_pixels
from wsseg.io.record import MAX_MEMBER, Member, Packed, Record, ValueMember
from wsseg.io.supervision import load_supervision
from wsseg.io.values import InstanceMap

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


def _from_dataset(kind: str, data: np.ndarray, attrs: dict[str, Any],
                  names: Sequence[str] | None) -> dict[str, Member]:
    """Return the members that ``_to_dataset`` was given."""
    value: Any = None
    if kind in ("label", "scribble", "conf", "instance"):
        check_map(data)
    if kind in ("label", "scribble", "conf"):
        value = data
    elif kind in ("score", "cam"):
        value = codec.score_map(data, attrs["classes"], attrs["size"], kind)
    elif kind == "instance":
        value = InstanceMap(data, jsons.parse_segments(attrs["segments"].tobytes(), names))
    if value is not None:
        data.flags.writeable = False  # the bytes are made of it later
        return {s: ValueMember(kind, s, value) for s in suffixes_of(kind)}
    suffix = attrs.get("suffix")
    if not isinstance(suffix, str):
        raise RecordError(f"/{kind} has a dataset without a suffix")
    if kind_of(suffix) != kind or split_name(f"key.{suffix}") != ("key", suffix):
        raise UnsafeError(f"/{kind} has a dataset with the suffix {suffix!r}")
    return {suffix: data.tobytes()}


def _crc(name: str, data: np.ndarray, attrs: dict[str, Any]) -> int:
    """Return the CRC-32 of a dataset's name, its data and its attributes."""
    crc = crc32(np.ascontiguousarray(data), crc32(name.encode()))
    for name in sorted(attrs):
        crc = crc32(np.asarray(attrs[name]).tobytes() if not isinstance(attrs[name], str)
                    else attrs[name].encode(), crc)
    return crc


def _read(dataset: h5py.Dataset) -> np.ndarray:
    """Return all of a dataset. One chunk, as we write maps, is unpacked here, which is faster."""
    if dataset.chunks == dataset.shape and dataset.compression and dataset.dtype.kind in "uif":
        skipped, raw = dataset.id.read_direct_chunk((0,) * dataset.ndim)
        if not skipped:
            return np.frombuffer(inflate(raw, dataset.nbytes), dataset.dtype).reshape(dataset.shape)
    return dataset[()]


class Hdf5Source:
    """Records of an HDF5 file that we wrote, by ascending key.

    Raises WssegError for a file that cannot be opened, UnsafeError for links that lead out of
    the file, raw external storage, virtual datasets, filters other than gzip, unsafe names, and
    sizes beyond the file's own.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
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
                self.end.check_header(self.header)
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
                index.setdefault(check_key(_unescape(name)), []).append(group)
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

    def _load(self, group: str, record: Record) -> tuple[str, int] | None:
        """Add a kind to a record; return the record's digest and number of kinds, if it tells."""
        dataset = self._file[group][_escape(record.key)]
        plist = dataset.id.get_create_plist()
        filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
        if dataset.external or dataset.is_virtual or not filters <= {h5py.h5z.FILTER_DEFLATE}:
            raise UnsafeError(f"{self.where}: {dataset.name} keeps its data elsewhere or through "
                              "a filter that is not ours")
        if dataset.nbytes > MAX_MEMBER or dataset.nbytes > 2000 * max(
                1, dataset.id.get_storage_size()) or dataset.dtype.hasobject:
            raise UnsafeError(f"{self.where}: {dataset.name} declares {dataset.nbytes} bytes but "
                              f"stores {dataset.id.get_storage_size()}")
        if dataset.ndim == 2:
            check_pixels(*dataset.shape)
        attrs = dict(dataset.attrs)
        data, crc = _read(dataset), attrs.pop("crc32", None)
        if crc is None or int(crc) != _crc(dataset.name, data, attrs):
            raise RecordError(f"{_unescape(group)} is damaged (wrong checksum)")
        note = attrs.pop("supervision", None)
        if note is not None:
            record.supervision = load_supervision(jsons.parse(note.encode()), 2)
        written = attrs.pop("digest", None)
        record.members.update(_from_dataset(_unescape(group), data, attrs, record.names))
        return None if written is None else (written.tobytes().hex(), int(attrs["kinds"]))

    def get(self, key: str) -> Record:
        record = Record(key, {}, self.header.classes)
        try:
            told = {self._load(group, record) for group in self._index[key]} - {None}
        except (OSError, RuntimeError, KeyError, ValueError, AttributeError, TypeError) as error:
            if key not in self._index:
                raise
            raise RecordError(f"damaged in {self.where}: {error}") from None
        if told:
            record.expected, kinds = told.pop()
            if told or kinds != len(self._index[key]):
                raise RecordError("holds other kinds than were written together")
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


class Hdf5Writer:
    """Writes records into an open file descriptor; used by ``places.FileSink``."""

    def __init__(self, handle: int, header: Header) -> None:
        self._disk = Disk(handle)
        self._file = h5py.File(self._disk, "w", libver="v110")
        try:
            self._attr("wsseg_header", header.dump())
            self._commit()
        except OSError:
            self.close(None)  # or the library crashes on it as the interpreter ends
            raise

    def _attr(self, name: str, data: bytes) -> None:
        self._file.attrs.create(name, np.frombuffer(data, np.uint8))

    def _commit(self) -> None:
        self._file.flush()
        self._disk.commit()

    def write(self, packed: Packed, digest: str) -> None:
        """Add one record. Raises OSError when the disk does not take it."""
        members = dict(packed.members)
        kinds = sorted({kind_of(s) for s in members})
        together = {"digest": np.frombuffer(bytes.fromhex(digest), np.uint8),
                    "kinds": np.uint32(len(kinds))}
        for kind in kinds:
            data, attrs = _to_dataset(kind, {s: members[s] for s in suffixes_of(kind)
                                             if s in members})
            if packed.supervision:
                attrs["supervision"] = jsons.dump(
                    {k: list(v) for k, v in packed.supervision.items()}).decode().strip()
            attrs |= together
            options = {}
            if kind in KINDS and data.ndim > 1 and data.size:
                options = {"chunks": data.shape, "compression": "gzip", "compression_opts": 1}
            group, name = _escape(kind), _escape(packed.key)
            dataset = self._file.require_group(group).create_dataset(name, data=data, **options)
            for attr, value in attrs.items():
                dataset.attrs[attr] = value
            dataset.attrs["crc32"] = np.uint32(_crc(dataset.name, data, attrs))
        self._commit()

    def close(self, end: End | None) -> None:
        """Close the file, complete if ``end`` is given."""
        if end is None:
            self._disk.drop()
        else:
            self._attr("wsseg_end", end.dump())
        try:
            self._file.close()
        except (OSError, RuntimeError):
            if self._disk.error is None:
                raise
        if end is not None:
            self._disk.commit()
