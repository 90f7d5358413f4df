"""One record: a key, its members, and what its labels cost a person."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wsseg.errors import RecordError
from wsseg.io import codec
from wsseg.io.kinds import KINDS, kind_of, suffixes_of

MAX_MEMBER = 1 << 33

#: label kind -> (class names given, objects marked), of one record or summed over many.
Supervision = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class FileMember:
    """A member that is still on disk; read where it is needed, often in a worker."""

    path: str

    def read(self) -> bytes:
        """Return the file's bytes. Raises RecordError if it is no ordinary, readable file."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                info = os.fstat(handle)
                if not stat.S_ISREG(info.st_mode):
                    raise RecordError(f"{self.path} is not a regular file")
                if info.st_size > MAX_MEMBER:
                    raise RecordError(f"{self.path} has {info.st_size} bytes: more than "
                                      f"{MAX_MEMBER}")
                data = os.read(handle, info.st_size + 1)
                if len(data) != info.st_size:  # huge, or growing while we look
                    with os.fdopen(os.dup(handle), "rb") as file:
                        data += file.read()
                return data
            finally:
                os.close(handle)
        except OSError as error:
            raise RecordError(f"cannot read {self.path}: {error.strerror}") from None


@dataclass(frozen=True, eq=False)
class ValueMember:
    """A member of a value that its place keeps decoded; encoded where its bytes are wanted."""

    kind: str
    suffix: str
    value: Any

    def read(self) -> bytes:
        """Return the canonical bytes. Raises RecordError for what ``kind`` cannot have."""
        return codec.encode_member(self.kind, self.suffix, self.value)


Member = bytes | FileMember | ValueMember


@dataclass(frozen=True)
class Packed:
    """A record encoded for a place: sorted (suffix, bytes) members."""

    key: str
    members: tuple[tuple[str, bytes], ...]
    supervision: Supervision

    @property
    def digest(self) -> str:
        """SHA-256 over the members' suffixes, lengths and bytes, as hex."""
        total = hashlib.sha256()
        for suffix, data in self.members:
            total.update(f"{self.key}\0{suffix}\0{len(data)}\0".encode())
            total.update(data)
        return total.hexdigest()


@dataclass
class Record:
    """One image's maps and labels, decoded on demand.

    members: suffix -> bytes, or what reads them. names: class names of the place it came from.
    canonical: the bytes were written by wsseg and may be passed on as they are. expected: the
    digest it was written with, where the place says. joined: suffixes that came from elsewhere;
    foreign: those of them that wsseg did not write.
    """

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    canonical: bool = True
    supervision: Supervision = field(default_factory=dict)
    expected: str | None = None
    joined: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    _values: dict[str, Any] = field(default_factory=dict)

    def kinds(self) -> set[str]:
        """Return the kinds this record holds."""
        return {kind_of(suffix) for suffix in self.members} | set(self._values)

    def __contains__(self, kind: str) -> bool:
        return kind in self._values or any(s in self.members for s in suffixes_of(kind))

    def read(self, kind: str) -> dict[str, bytes]:
        """Return suffix -> bytes of one kind as stored. Raises RecordError if it is absent."""
        found = {s: self.members[s] for s in suffixes_of(kind) if s in self.members}
        if not found:
            held = ", ".join(sorted(self.kinds())) or "nothing"
            raise RecordError(f"has no {kind} (it holds {held})")
        if len(found) > 1 and not KINDS[kind].parts:
            raise RecordError(f"has two members for one {kind}: {', '.join(found)}")
        return {s: m if isinstance(m, bytes) else m.read() for s, m in found.items()}

    def held(self, kind: str) -> Any:
        """Return the value of ``kind`` that a place keeps decoded, unchecked, or else None."""
        found = [self.members[s] for s in suffixes_of(kind) if s in self.members]
        return found[0].value if found and isinstance(found[0], ValueMember) else None

    def get(self, kind: str) -> Any:
        """Return the decoded value of ``kind``. Raises RecordError if absent or bad."""
        if kind not in self._values:
            try:
                value = self.held(kind)
                if value is None:
                    value = codec.decode(kind, self.read(kind), self.names)
                else:
                    codec.check(kind, value)
                self._values[kind] = value
            except RecordError as error:
                if kind in self:
                    raise RecordError(f"{kind}: {error}") from None
                raise
        return self._values[kind]

    def set(self, kind: str, value: Any) -> None:
        """Put a value in place of whatever ``kind`` was."""
        self.drop(kind)
        self._values[kind] = value

    def drop(self, kind: str) -> None:
        """Remove ``kind`` if it is there."""
        self._values.pop(kind, None)
        for suffix in suffixes_of(kind):
            self.members.pop(suffix, None)

    def keep(self, kinds: set[str]) -> None:
        """Drop every kind but these."""
        for kind in self.kinds() - kinds:
            self.drop(kind)

    def join(self, other: Mapping[str, Member], *, canonical: bool = True) -> None:
        """Add another place's members for the same key; ours win. canonical: as of a record."""
        ours = self.kinds()
        new = {s: m for s, m in other.items() if kind_of(s) not in ours}
        self.members.update(new)
        self.joined.update(new)
        if not canonical:
            self.foreign.update(new)

    @property
    def proven(self) -> bool:
        """Whether its place holds arrays with checksums of their own; the bytes that an encoder
        makes of them may be another build's than those ``expected`` tells of."""
        return any(isinstance(m, ValueMember) for s, m in self.members.items()
                   if s not in self.joined)

    def stored(self) -> Packed:
        """Return the members as they lie in the place, changed or not, without joined ones."""
        members = {s: m if isinstance(m, bytes) else m.read()
                   for s, m in self.members.items() if s not in self.joined}
        return Packed(self.key, tuple(sorted(members.items())), self.supervision)

    def encoded(self) -> dict[str, bytes]:
        """Return every member as canonical bytes.

        What is passed on as it is was decoded first, but for photos: nothing damaged is handed
        on. Raises RecordError.
        """
        result: dict[str, bytes] = {}
        for kind in self.kinds():
            stored = any(s in self.members for s in suffixes_of(kind))
            if kind == "image" and stored or kind not in KINDS:
                result.update(self.read(kind))
            elif stored and self.canonical and self.foreign.isdisjoint(suffixes_of(kind)):
                self.get(kind)
                result.update(self.read(kind))
            else:
                result.update(codec.encode(kind, self.get(kind)))
        return result

    def pack(self) -> Packed:
        """Encode for writing."""
        return Packed(self.key, tuple(sorted(self.encoded().items())), dict(self.supervision))
