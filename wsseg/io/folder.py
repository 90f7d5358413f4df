"""Records read from a directory: a stream unpacked, or any folder of images or masks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from wsseg.errors import IncompleteError, RecordError, UsageError, WssegError
from wsseg.io import jsons
from wsseg.io.header import End, Header, Total
from wsseg.io.kinds import (END, HEADER, KIND_OF_SUFFIX, META, RECORDS, check_key, kind_of,
                            split_name)
from wsseg.io.record import FileMember, Record, Supervision
from wsseg.io.supervision import load_supervision, together

_PHOTOS = {"jpg": "jpg", "jpeg": "jpg", "png": "image.png"}
_PNGS = {"scribble": "scribble.png", "conf": "conf.png"}  # label maps where nothing is said
_OTHER_PHOTOS = ("bmp", "tif", "tiff", "webp", "ppm")
#: Of a foreign folder, those of these that are not read are told of.
_PICTURES = {*_OTHER_PHOTOS, "avif", "gif", "heic", "jfif", "jp2"}


def _scan(root: Path) -> Iterator[str]:
    """Yield the names of the files under ``root``, '/'-separated, hidden ones left out."""
    for folder, folders, files in os.walk(root):
        inner = os.path.relpath(folder, root)
        folders[:] = sorted(f for f in folders
                            if f[0] != "." and not (inner == "." and f == META))
        for name in files:
            if name[0] != ".":
                yield name if inner == "." else f"{inner}/{name}"


def _foreign(name: str, as_kind: str | None) -> tuple[str, str] | None:
    """Split a foreign file's name into key and suffix; None if it is nothing we read.

    The key is all before the last dot, unless what follows the first dot is a suffix of ours.
    as_kind ``image`` takes every picture for a photo; otherwise a PNG is a label map, or what
    as_kind says.
    """
    head, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    if "." in suffix and suffix in KIND_OF_SUFFIX:
        return head + slash + stem, suffix
    stem, dot, extension = base.rpartition(".")
    extension = extension.lower()
    if not dot or not stem:
        return None
    if as_kind == "image" or extension in ("jpg", "jpeg") and as_kind != "label":
        suffix = _PHOTOS.get(extension, extension if extension in _OTHER_PHOTOS else "")
    else:
        suffix = {"png": _PNGS.get(as_kind, "png"),
                  "jpg": "png", "jpeg": "png"}.get(extension, "")
    return (head + slash + stem, suffix) if suffix else None


class FolderSource:
    """Records of a directory by ascending key.

    as_kind: what the pictures of a foreign folder are (``image``, ``label``, ``scribble`` or
    ``conf``). classes: class names, where the folder has no header and no ``classes.txt``. Where
    RECORDS is missing, as in a stream that another program unpacked, no record says what labels
    it carries: the header then says it for all of them, instead of the end.
    Raises UsageError when there is nothing to read, UnsafeError for unsafe names.
    """

    def __init__(self, root: str | Path, *, as_kind: str | None = None,
                 classes: Sequence[str] | None = None) -> None:
        self.root = Path(root)
        self.where = str(root)
        self.end: End | None = None
        self.canonical = (self.root / HEADER).is_file()
        try:
            if self.canonical:
                self.header = Header.load((self.root / HEADER).read_bytes())
                if (self.root / END).is_file():
                    self.end = End.load((self.root / END).read_bytes())
                    self.end.check_header(self.header)
                    if not (self.root / RECORDS).exists():
                        self._tell_of_all(self.end)
            else:
                self.header = Header(classes=self._names(classes))
        except (RecordError, OSError) as error:
            raise WssegError(f"{self.where}: {error}") from None
        self._index: dict[str, dict[str, str]] = {}
        self.passed: list[str] = []  # pictures of forms that are not read here
        for name in _scan(self.root):
            split = split_name(name) if self.canonical else _foreign(name, as_kind)
            if split is None or self.canonical and not split[1]:
                if name.rpartition(".")[2].lower() in _PICTURES:
                    self.passed.append(name)
                continue
            members = self._index.setdefault(check_key(split[0]), {})
            if split[1] in members:
                raise UsageError(f"{self.where}: {members[split[1]]} and {name} are both the "
                                 f"{kind_of(split[1])} of {split[0]}; remove one")
            members[split[1]] = name
        self._keys = sorted(self._index)
        if not self.canonical:
            kinds = {kind_of(s) for members in self._index.values() for s in members}
            self.header = replace(self.header, kinds=tuple(sorted(kinds)))
        if not self._keys and not self.canonical:
            what = "photos" if as_kind == "image" else "photos, masks or labels"
            raise UsageError(f"{self.where}: no {what} found in it (looked for .jpg, .png and "
                             "the names that wsseg writes)")

    def _tell_of_all(self, end: End) -> None:
        self.header = replace(self.header, supervision=together(self.header.supervision, end.given))
        self.end = replace(end, supervision={}, labelled={}, header=self.header.digest)

    def _names(self, classes: Sequence[str] | None) -> tuple[str, ...] | None:
        listed = self.root / "classes.txt"
        if classes is None and listed.is_file():
            try:
                return jsons.parse_names(listed.read_text("utf-8"), str(listed))
            except UnicodeError as error:
                raise UsageError(f"{listed} is not UTF-8 text ({error})") from None
        return None if classes is None else tuple(classes)

    def keys(self) -> Sequence[str]:
        return self._keys

    def files(self, key: str) -> dict[str, str]:
        """Return suffix -> file name relative to the root of one record."""
        return self._index.get(key, {})

    def get(self, key: str) -> Record:
        members: dict[str, bytes | FileMember] = {}
        for suffix, name in self._index[key].items():
            member = FileMember(os.path.join(self.where, name))
            if suffix in _OTHER_PHOTOS:
                from wsseg.io.photo import photo_member

                suffix, member = photo_member(member.read())
            members[suffix] = member
        digest, supervision = self.recorded.get(key, (None, {}))
        if digest is None and self.recorded:
            raise RecordError(f"not written by wsseg: {self.root / RECORDS} does not name it")
        return Record(key, members, self.header.classes, self.canonical, dict(supervision), digest)

    @cached_property
    def recorded(self) -> dict[str, tuple[str, Supervision]]:
        """Key -> (digest, supervision) as written; empty for what is not ours or not complete.

        Raises WssegError if this is not what was written.
        """
        if not self.canonical or self.end is None or self.end.error is not None:
            return {}
        path, total = self.root / RECORDS, Total()
        if not path.exists():
            return {}  # a tar unpacked by another program
        found = read_journal(path)
        for key, (digest, supervision) in found.items():
            total.add(key, digest, supervision)
        if not self.end.agrees(total.end(self.header)):
            raise WssegError(f"{path} is damaged: it is not what was written")
        return found

    def __iter__(self) -> Iterator[Record]:
        for key in self._keys:
            yield self.get(key)
        self.check_complete()

    def check_complete(self) -> None:
        """Raise IncompleteError unless every record that was written is there."""
        if not self.canonical:
            return
        if self.end is None:
            raise IncompleteError(f"{self.where} is incomplete: it has no {END} yet (finish it "
                                  "with --resume)")
        if self.end.error is not None or self.end.records != len(self._keys):
            raise IncompleteError(f"{self.where} is incomplete: " + (self.end.error or
                                  f"it holds {len(self._keys)} of {self.end.records} records"))


def read_journal(path: Path) -> dict[str, tuple[str, Supervision]]:
    """Return key -> (digest, supervision) from a records or journal file, {} if there is none.

    What follows a damaged line is not believed.
    """
    found: dict[str, tuple[str, Supervision]] = {}
    for line in path.read_bytes().split(b"\n")[:-1] if path.is_file() else ():
        try:
            key, digest, note = line.decode().split("\t")
            int(digest, 16)
            found[check_key(key)] = digest, load_supervision(jsons.parse(note.encode()), 2)
        except (ValueError, WssegError, AttributeError, TypeError):
            break
    return found


def journal_line(key: str, digest: str, supervision: Supervision) -> bytes:
    """Return one line of ``records.tsv``: key, digest, supervision as JSON."""
    return f"{key}\t{digest}\t".encode() + jsons.dump({k: list(v) for k, v
                                                       in supervision.items()})
