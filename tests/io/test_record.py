"""One record: its members, its values, and what is handed on."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from tests.conftest import make_label, make_record
from wsseg.errors import RecordError
from wsseg.io.codec import encode
from wsseg.io.kinds import KINDS
from wsseg.io.png import encode_labels
from wsseg.io.record import FileMember, Packed, Record

LABEL = make_label(0)
PNG = encode_labels(LABEL)


def test_a_record_holds_the_kinds_of_its_members_and_values():
    record = Record("a", {"png": PNG, "txt": b"x"})
    record.set("tags", (1,))
    assert record.kinds() == {"label", ".txt", "tags"}
    assert "label" in record and "tags" in record and "boxes" not in record


def test_what_is_absent_is_said_with_what_is_there():
    with pytest.raises(RecordError, match=r"^has no boxes \(it holds .txt, label\)$"):
        Record("a", {"png": PNG, "txt": b"x"}).get("boxes")
    with pytest.raises(RecordError, match=r"has no label \(it holds nothing\)"):
        Record("a").get("label")


def test_a_fault_names_its_kind():
    with pytest.raises(RecordError, match="^label: not a PNG"):
        Record("a", {"png": b"zzz"}).get("label")


def test_a_value_that_is_set_replaces_every_member_of_its_kind():
    record = Record("a", {"jpg": b"x", "image.png": b"y", "png": PNG})
    with pytest.raises(RecordError, match="two members for one image: jpg, image.png"):
        record.get("image")
    photo = np.zeros((2, 3, 3), np.uint8)
    record.set("image", photo)
    assert record.get("image") is photo
    assert sorted(record.encoded()) == ["image.png", "png"]


def test_dropping_and_keeping():
    record = make_record(0, "label", "boxes", "image")
    record.drop("label")
    record.drop("tags")
    assert record.kinds() == {"boxes", "image"}
    record.keep({"image", "masks"})
    assert record.kinds() == {"image"}


def test_joining_never_replaces_what_is_there():
    record = Record("a", {"png": PNG})
    record.join({"png": b"other", "jpg": b"photo", "txt": b"t"})
    assert record.members == {"png": PNG, "jpg": b"photo", "txt": b"t"}
    record = Record("a", {"jpg": b"mine"})
    record.join({"image.png": b"theirs"})
    assert record.members == {"jpg": b"mine"}


def test_canonical_bytes_are_handed_on_after_they_were_decoded():
    assert Record("a", {"png": PNG}).encoded() == {"png": PNG}
    with pytest.raises(RecordError, match="label: PNG truncated"):
        Record("a", {"png": PNG[:-3]}).encoded()


def test_foreign_bytes_are_written_anew():
    grey = encode_labels(LABEL, palette=False)
    assert grey != PNG
    assert Record("a", {"png": grey}, canonical=False).encoded() == {"png": PNG}
    by_name = b'{ "classes": ["dog"] }'
    record = Record("a", {"tags.json": by_name}, ("background", "cat", "dog"), canonical=False)
    assert record.encoded() == encode("tags", (2,))


def test_photos_and_unknown_kinds_are_handed_on_as_they_are():
    for canonical in (True, False):
        record = Record("a", {"jpg": b"any photo", "cls": b"7", "empty": b""}, canonical=canonical)
        assert record.encoded() == {"jpg": b"any photo", "cls": b"7", "empty": b""}


def test_a_suffix_that_is_called_like_a_kind_passes_through():
    """KEY.score or KEY.label, as other programs name their files, are unknown kinds."""
    for suffix in KINDS:
        record = Record("a", {suffix: b"payload", "png": PNG})
        assert record.encoded() == {suffix: b"payload", "png": PNG}


def test_the_digest_is_over_key_suffixes_lengths_and_bytes():
    packed = Packed("k", (("a", b"12"), ("b", b"3")), {"tags": (1, 1)})
    assert packed.digest == hashlib.sha256(b"k\0a\x002\x0012k\0b\x001\x003").hexdigest()
    assert packed.digest == Packed("k", packed.members, {}).digest
    assert packed.digest != Packed("j", packed.members, {}).digest


def test_members_are_packed_in_order():
    packed = Record("a", {"z": b"1", "jpg": b"2", "b": b"3"}, supervision={"tags": (1, 2)}).pack()
    assert packed.members == (("b", b"3"), ("jpg", b"2"), ("z", b"1"))
    assert packed.supervision == {"tags": (1, 2)}


def test_only_regular_files_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    assert FileMember(str(tmp_path / "file")).read() == b"x" * 100_000
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("pipe", "not a regular file"), ("none", "No such file"),
                          (".", "not a regular file")):
        with pytest.raises(RecordError, match=message):
            FileMember(str(tmp_path / name)).read()
