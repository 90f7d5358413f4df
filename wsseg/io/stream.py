"""Records as a POSIX tar: through a pipe, or as a ``.tar`` file.

The first member is the header and the last one the end: tarfile alone takes a stream that was
cut between two members for a shorter complete one. The first member of each record says in a
pax comment how many members it has, so that a reader hands it on at once, and their digest.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator

from wsseg.errors import IncompleteError, RecordError, UnsafeError, WssegError
from wsseg.io import jsons
from wsseg.io.header import End, Header, Total
from wsseg.io.kinds import END, HEADER, member_name, split_name
from wsseg.io.record import MAX_MEMBER, Packed, Record, Supervision
from wsseg.io.supervision import load_supervision

NOTE = "comment"  # the one pax keyword that other tars pass over in silence
_BLOCK = 512
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_MAX_META = 1 << 26


def tar_member(name: str, data: bytes, pax: dict[str, str] | None = None) -> bytes:
    """Return one tar member: pax header if needed, header, data, padding."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.pax_headers = pax or {}
    head = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    return head + data + bytes(-len(data) % _BLOCK)


def tar_record(packed: Packed, digest: str) -> bytes:
    """Return all members of one record as one block of bytes."""
    parts, note = [], {"members": len(packed.members), "sha256": digest}
    if packed.supervision:
        note["supervision"] = {k: list(v) for k, v in packed.supervision.items()}
    pax = {NOTE: jsons.dump(note).decode().strip()}
    for suffix, data in packed.members:
        parts.append(tar_member(member_name(packed.key, suffix), data, pax))
        pax = {}
    return b"".join(parts)


def tar_end(end: End) -> bytes:
    """Return the end member and the two empty blocks that close a tar."""
    return tar_member(END, end.dump()) + bytes(2 * _BLOCK)


class StreamSource:
    """Records of a tar stream, in the order in which they arrive.

    file: a raw file (short reads allowed), so that a record is handed on when it is there.
    Raises WssegError at once for what is no stream of ours, UnsafeError for members that
    could do harm, IncompleteError after the last whole record of a cut stream.
    """

    def __init__(self, file: io.RawIOBase, where: str) -> None:
        self.where = where
        self.end: End | None = None
        self._total = Total()
        try:
            self._tar = tarfile.open(fileobj=file, mode="r|", bufsize=1 << 20,
                                     encoding="utf-8", errors="surrogateescape")
            first = self._next()
        except tarfile.TarError as error:
            if str(error) == "empty file":
                raise IncompleteError(f"{where} is empty: what should have written it "
                                      "failed") from None
            if str(error) == "truncated header":
                raise IncompleteError(f"{where} is incomplete (it breaks off in its first block) "
                                      "or no wsseg stream") from None
            raise WssegError(f"{where} is not a wsseg stream ({error})") from None
        if first is None:
            raise IncompleteError(f"{where} is an empty tar, without even a header")
        if first.name != HEADER:
            raise WssegError(f"{where} is not a wsseg stream: it begins with {first.name}, not "
                             f"with {HEADER}")
        try:
            self.header = Header.load(self._read(first, _MAX_META))
        except RecordError as error:
            raise WssegError(f"{where}: {error}") from None

    def _cut(self, why: str) -> IncompleteError:
        return IncompleteError(f"{self.where} is incomplete: {why} after "
                               f"{self._total.records} records")

    def _next(self) -> tarfile.TarInfo | None:
        """Return the next member, None at the tar's own end (whole or not)."""
        try:
            info = self._tar.next()
        except (tarfile.ReadError, EOFError):
            raise self._cut("it breaks off") from None
        except (tarfile.TarError, ValueError, UnicodeError, OverflowError) as error:
            raise self._cut(f"it is damaged ({error})") from None
        self._tar.members.clear()  # tarfile remembers every member for ever
        if info is not None and (info.type not in _PLAIN or info.sparse is not None):
            raise UnsafeError(f"{self.where}: member {info.name!r} is no plain file")
        return info

    def _read(self, info: tarfile.TarInfo, limit: int = MAX_MEMBER) -> bytes:
        if not 0 <= info.size <= limit:
            raise UnsafeError(f"{self.where}: member {info.name!r} has {info.size} bytes")
        try:
            data = self._tar.extractfile(info).read()
        except (tarfile.TarError, OSError, EOFError):
            data = b""
        if len(data) != info.size:
            raise self._cut(f"{info.name} breaks off")
        return data

    def __iter__(self) -> Iterator[Record]:
        record, due, seen = None, 0, set()
        while (info := self._next()) is not None:
            if info.name == END:
                if record is not None:
                    yield self._done(record)
                self._finish(info)
                return
            key, suffix = split_name(info.name)
            if not suffix:
                raise UnsafeError(f"{self.where}: member {info.name!r} is not called KEY.SUFFIX")
            data = self._read(info)
            if record is None or record.key != key:
                if record is not None:
                    yield self._done(record)
                if hash(key) in seen:
                    raise UnsafeError(f"{self.where}: two records are called {key}")
                seen.add(hash(key))
                due, spent, digest = self._note(info)
                record = Record(key, names=self.header.classes, supervision=spent,
                                expected=digest)
            if suffix in record.members:
                raise UnsafeError(f"{self.where}: two members are called {info.name}")
            record.members[suffix] = data
            if len(record.members) == due:
                yield self._done(record)
                record = None
        raise self._cut("it has no end member")

    def _note(self, info: tarfile.TarInfo) -> tuple[int, Supervision, str | None]:
        try:
            note = json.loads(info.pax_headers.get(NOTE, "{}"))
            spent = load_supervision(note.get("supervision", {}), 2)
            return int(note.get("members", 0)), spent, note.get("sha256")
        except (ValueError, TypeError, AttributeError, OverflowError,
                RecursionError):  # a comment that is not ours
            raise self._cut(f"{info.name} has a damaged pax comment") from None

    def _done(self, record: Record) -> Record:
        digest = Packed(record.key, tuple(sorted(record.members.items())), {}).digest
        if record.expected not in (None, digest):
            raise WssegError(f"{self.where} is damaged: {record.key} is not what was written "
                             "(wrong digest)")
        record.expected = None
        self._total.add(record.key, digest, record.supervision)
        return record

    def _finish(self, info: tarfile.TarInfo) -> None:
        """Check the end member and that nothing but the tar's two empty blocks follows."""
        try:
            end = End.load(self._read(info, _MAX_META))
        except RecordError as error:
            raise self._cut(str(error)) from None
        start = self._tar.fileobj.tell() + -info.size % _BLOCK
        if self._next() is not None:
            raise UnsafeError(f"{self.where} goes on after its end member: join streams with "
                              "ws-cat, not with cat")
        file = self._tar.fileobj
        if file.tell() - start < _BLOCK or len(file.read(_BLOCK)) < _BLOCK:
            raise self._cut("its last blocks are missing")
        while rest := file.read(1 << 16):
            if rest.strip(b"\0"):
                raise UnsafeError(f"{self.where} goes on after its end member: join streams "
                                  "with ws-cat, not with cat")
        end.check(self._total, self.header, self.where)
        self.end = end
