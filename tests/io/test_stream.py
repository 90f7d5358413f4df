"""The tar stream: what it holds, and that other programs can read and write it."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_label, make_record, tree, write_place
from tests.io.conftest import same
from wsseg.errors import IncompleteError, UnsafeError, WssegError
from wsseg.io.header import Header, Total
from wsseg.io.inspect import Audit
from wsseg.io.kinds import END, HEADER
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.stream import StreamSource, tar_end, tar_member, tar_record

needs_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")


@pytest.fixture
def stream(tmp_path) -> Path:
    records = [make_record(i, "label", "boxes", "image") for i in range(3)]
    records.append(Record("deep/er.x/ü", {"txt": b"hello"}))
    return Path(write_place(tmp_path / "s.tar", records, kinds=["boxes", "image", "label"]))


def read(data: bytes) -> list[Record]:
    return list(StreamSource(io.BytesIO(data), "x"))


def foreign(members: list[tuple[str, bytes]], header: Header = Header()) -> bytes:
    """A stream of members without our notes, as another program would write it, sound end."""
    total, groups = Total(), {}
    for name, data in members:
        key, _, suffix = name.partition(".")
        groups.setdefault(key, {})[suffix] = data
    for key, found in groups.items():
        total.add(key, Record(key, found, canonical=False).stored().digest, {})
    return b"".join([tar_member(HEADER, header.dump()),
                     *(tar_member(name, data) for name, data in members),
                     tar_end(total.end(header))])


def test_the_header_comes_first_and_the_end_last(stream):
    with tarfile.open(stream) as tar:
        names = tar.getnames()
    assert names == [HEADER, "img000.boxes.json", "img000.image.png", "img000.png",
                     "img001.boxes.json", "img001.image.png", "img001.png",
                     "img002.boxes.json", "img002.image.png", "img002.png",
                     "deep/er%2Ex/ü.txt", END]


def test_members_have_no_owner_and_no_time(stream):
    with tarfile.open(stream) as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
            assert info.isreg() and info.mode == 0o644


def test_a_record_is_a_multiple_of_blocks_and_nothing_lies_between(stream):
    records = [make_record(i, "label", "boxes", "image") for i in range(3)]
    data = stream.read_bytes()
    assert len(data) % 512 == 0
    for record in records:
        block = tar_record(record.pack(), record.pack().digest)
        assert len(block) % 512 == 0 and data.count(block) == 1
    assert data.endswith(bytes(1024)) and not data.endswith(bytes(2048))


@needs_tar
def test_gnu_tar_lists_it_in_silence(stream):
    done = subprocess.run(["tar", "tf", stream, "--quoting-style=literal"], capture_output=True,
                          check=True)
    assert done.stderr == b""
    with tarfile.open(stream) as tar:
        assert done.stdout.decode().splitlines() == tar.getnames()


@needs_tar
def test_unpacked_by_gnu_tar_it_is_a_place(stream, tmp_path):
    (tmp_path / "out").mkdir()
    done = subprocess.run(["tar", "xf", stream, "-C", tmp_path / "out"], capture_output=True,
                          check=True)
    assert done.stderr == b""
    unpacked, whole = open_source(str(tmp_path / "out")), open_source(str(stream))
    found = {r.key: r for r in unpacked}
    expected = {r.key: r for r in whole}
    assert found.keys() == expected.keys()
    for key, record in expected.items():
        assert found[key].stored().members == record.stored().members
    spent = whole.end.given  # tar drops what a record says, so the header says it of all
    assert unpacked.header == replace(whole.header, supervision=spent) != whole.header
    assert unpacked.end == replace(whole.end, supervision={}, labelled={},
                                   header=unpacked.header.digest)
    assert Audit(unpacked, whole=True).faults == []


@needs_tar
def test_unpacked_it_differs_from_the_directory_only_in_the_list_of_records(stream, tmp_path):
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "xf", stream, "-C", tmp_path / "out"], check=True)
    write_place(tmp_path / "dir", open_source(str(stream)), kinds=["boxes", "image", "label"])
    expected = tree(tmp_path / "dir")
    del expected["__wsseg__/records.tsv"]
    assert tree(tmp_path / "out") == expected


@needs_tar
@pytest.mark.parametrize("form", ["pax", "gnu", "ustar"])
def test_gnu_tars_own_archive_of_our_names_is_a_stream(stream, tmp_path, form):
    """Header first and end last, everything else in any order of whole records."""
    folder = tmp_path / "out"
    folder.mkdir()
    subprocess.run(["tar", "xf", stream, "-C", folder], check=True)
    names = sorted(n for n in tree(folder) if not n.startswith("__"))
    made = subprocess.run(["tar", "c", "--format", form, "-C", folder, HEADER, *names, END],
                          capture_output=True, check=True)
    header = open_source(str(stream)).header
    # its records carry no supervision, so the end must say none
    total = Total()
    for record in read_until_checked(made.stdout):
        total.add(record.key, record.stored().digest, {})
    (folder / END).write_bytes(total.end(header).dump())
    made = subprocess.run(["tar", "c", "--format", form, "-C", folder, HEADER, *names, END],
                          capture_output=True, check=True)
    found = {r.key: r for r in read(made.stdout)}
    assert sorted(found) == ["deep/er.x/ü", "img000", "img001", "img002"]
    np.testing.assert_array_equal(found["img001"].get("label"), make_label(1))


def read_until_checked(data: bytes) -> list[Record]:
    records = []
    with pytest.raises(WssegError, match="wrong digest"):
        for record in StreamSource(io.BytesIO(data), "x"):
            records.append(record)
    return records


def test_records_of_many_members_without_our_notes_are_told_apart_by_key():
    """WebDataset's way: members of one key follow one another."""
    data = foreign([("a.jpg", b"\xff\xd8\xff1"), ("a.cls", b"3"), ("a.txt", b"one"),
                    ("b.jpg", b"\xff\xd8\xff2"), ("b.cls", b"4")])
    records = read(data)
    assert [(r.key, r.members) for r in records] == [
        ("a", {"jpg": b"\xff\xd8\xff1", "cls": b"3", "txt": b"one"}),
        ("b", {"jpg": b"\xff\xd8\xff2", "cls": b"4"})]


def test_a_record_that_comes_back_later_is_refused():
    data = foreign([("a.jpg", b"1"), ("b.jpg", b"2"), ("a.txt", b"3")])
    with pytest.raises(UnsafeError, match="two records are called a"):
        read(data)


def test_a_member_twice_is_refused():
    header = tar_member(HEADER, Header().dump())
    with pytest.raises(UnsafeError, match="two members are called a.txt"):
        read(header + tar_member("a.txt", b"1") * 2)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE,
                                  tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_only_plain_files_are_members(kind):
    info = tarfile.TarInfo("a.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(UnsafeError, match="'a.png' is no plain file"):
        read(tar_member(HEADER, Header().dump()) + info.tobuf(tarfile.PAX_FORMAT))


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "a/../../b.png", "a\\b.png"])
def test_a_name_that_leads_elsewhere_is_refused(name):
    with pytest.raises(UnsafeError, match="unsafe name"):
        read(tar_member(HEADER, Header().dump()) + tar_member(name, b"x"))


def test_supervision_travels_with_its_record(stream):
    assert [r.supervision for r in open_source(str(stream))] == [{"boxes": (2, 2)}] * 3 + [{}]


def test_what_is_no_stream_is_refused(tmp_path):
    plain = tar_member("a.jpg", b"x") + bytes(1024)
    with pytest.raises(WssegError, match=f"begins with a.jpg, not with {HEADER}"):
        read(plain)
    with pytest.raises(WssegError, match="x is not a wsseg stream"):
        read(b"no tar at all" * 100)
    with pytest.raises(IncompleteError, match="x is empty"):
        read(b"")
    with pytest.raises(IncompleteError, match="empty tar"):
        read(bytes(1024))


def test_a_stream_of_a_later_format_is_refused():
    data = tar_member(HEADER, b'{"wsseg": 9, "kinds": [], "ignore": 255, "history": []}')
    with pytest.raises(WssegError, match="x: written by a later wsseg"):
        StreamSource(io.BytesIO(data), "x")


def test_the_end_is_checked_against_what_was_read(stream):
    data = stream.read_bytes()
    with tarfile.open(stream) as tar:
        at = {i.name: (i.offset, i.offset_data, i.size) for i in tar}
    first, after = at["deep/er%2Ex/ü.txt"][0], at[END][0]
    with pytest.raises(IncompleteError, match="holds 3 of 4 records"):
        read(data[:first] + data[after:])
    text = at["deep/er%2Ex/ü.txt"][1]
    with pytest.raises(WssegError, match="ü is not what was written .wrong digest"):
        read(data[:text] + b"J" + data[text + 1:])


def test_without_its_end_it_is_incomplete_but_whole_records_are_given(stream):
    with tarfile.open(stream) as tar:
        stop = next(i.offset for i in tar if i.name.startswith("img002"))
    source, keys = StreamSource(io.BytesIO(stream.read_bytes()[:stop] + bytes(1024)), "x"), []
    with pytest.raises(IncompleteError, match="x is incomplete: it has no end member after 2 rec"):
        for record in source:
            keys.append(record.key)
    assert keys == ["img000", "img001"] and source.end is None


def test_two_streams_in_a_row_are_refused_with_the_fix(stream):
    with pytest.raises(UnsafeError, match="join streams with ws-cat"):
        read(stream.read_bytes() * 2)


def test_zeros_after_the_end_are_padding(stream):
    assert len(read(stream.read_bytes() + bytes(8192))) == 4


def test_a_writers_reason_to_stop_reaches_the_reader():
    from wsseg.io.header import End

    data = tar_member(HEADER, Header().dump()) + tar_end(End(0, 0, "", "", error="disk full"))
    with pytest.raises(IncompleteError, match="x is incomplete: disk full"):
        read(data)


def test_values_survive(stream):
    found = list(open_source(str(stream)))
    for number in range(3):
        expected = make_record(number, "label", "boxes", "image")
        for kind in ("label", "boxes", "image"):
            assert same(found[number].get(kind), expected.get(kind))
    assert found[3].get("txt") == b"hello"
