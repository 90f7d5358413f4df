"""Streams made to do harm: refused with status 5, nothing written outside."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.faults.helpers import make_header, make_packs, stream_bytes, tool, write
from tests.faults.hostile import GOOD, HEAD, HEADER, LABEL, TAIL, limited, member
from wsseg.errors import ExitStatus
from wsseg.io.stream import tar_member

MEMBERS = {
    "parent": member("../evil.png"), "absolute": member("/tmp/wsseg-evil.png"),
    "parent inside": member("a/../../b.png"), "dot": member("./a.png"),
    "empty part": member("a//b.png"), "double dot part": member("a/..b/../../c.png"),
    "symbolic link": member("link.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link": member("link.png", b"", type=tarfile.LNKTYPE, linkname="img000.png"),
    "fifo": member("fifo.png", b"", type=tarfile.FIFOTYPE),
    "character device": member("null.png", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": member("disk.png", b"", type=tarfile.BLKTYPE, devmajor=8, devminor=0),
    "directory": member("folder", b"", type=tarfile.DIRTYPE),
    "newline": member("a\nb.png"), "escape": member("a\x1b[31mb.png"),
    "delete": member("a\x7f.png"),
    "backslash": member("..\\evil.png"), "backslash in suffix": member("a.x\\..\\evil"),
    "duplicate member": member("img001.png") * 2,
    "duplicate record": member("img000.png"),
    "duplicate record apart": member("img001.png") + member("img002.png") + member("img001.png"),
    "ours": member("__wsseg__/journal.tsv"), "ours below": member("__wsseg__/tmp/x.png"),
    "ours as key": member("__wsseg__.png"), "second header": HEAD,
    "1 TB": member("big.png", b"", size=1 << 40, format=tarfile.GNU_FORMAT),
    "not UTF-8": member(b"caf\xe9.png"),
    "nothing": member(".png"), "no suffix": member("README"), "hidden": member("a/.png"),
    "sparse": member("sparse.png", b"", type=tarfile.GNUTYPE_SPARSE),
}


@pytest.mark.parametrize("form", ["out", "out.tar", "out.h5", "-"])
@pytest.mark.parametrize("name", MEMBERS)
def test_a_hostile_member_is_refused(name, form, box, canary):
    data = HEAD + GOOD + MEMBERS[name] + TAIL
    done = tool("ws-cat", "-j1", "-o", "-" if form == "-" else box / form, stdin=data)
    assert done.code == ExitStatus.UNSAFE, done
    assert done.line
    assert not (box / form / "__wsseg__" / "end.json").exists()
    assert not (box / form).is_file()
    assert not Path("/tmp/wsseg-evil.png").exists()


def sparse_bomb() -> bytes:
    """Eight GB of zeros in two blocks: a GNU sparse member, old format."""
    info = tarfile.TarInfo("big.png")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[386:398] = b"%011o\0" % 0
    block[398:410] = b"%011o\0" % 0
    block[483:495] = b"%011o\0" % ((1 << 33) - 1)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def test_a_sparse_member_is_refused_before_its_holes_are_filled(box):
    done = limited(["ws-cat", "-j1", "-o", str(box / "out")], HEAD + sparse_bomb() + TAIL)
    assert done.returncode == ExitStatus.UNSAFE, done.stderr
    assert b"big.png" in done.stderr


def test_a_member_larger_than_its_stream_costs_no_memory(box):
    """It declares 8 GB, and the stream ends."""
    data = HEAD + GOOD + member("big.png", b"", size=(1 << 33) - 1)
    done = limited(["ws-cat", "-j1", "-o", str(box / "out")], data)
    assert done.returncode == ExitStatus.INCOMPLETE, done.stderr


@pytest.mark.parametrize("form", ["out", "out.tar", "out.h5"])
def test_streams_joined_by_cat_are_refused(form, box):
    one = stream_bytes(make_packs(2), make_header())
    other = stream_bytes(make_packs(4)[2:], make_header())
    for both in (one + other, one[:-1024] + other, one + b"trailing", one[:-1024] + GOOD):
        done = tool("ws-cat", "-j1", "-o", box / form, "--overwrite", stdin=both)
        assert done.code == ExitStatus.UNSAFE, done
        assert "join streams with ws-cat" in done.line


def test_a_hostile_member_in_a_tar_of_another_program_is_refused(box, canary):
    """The first record is a link, and the second writes through it."""
    data = HEAD + member("sub", b"", type=tarfile.SYMTYPE, linkname=str(canary)) \
        + member("sub/img000.png") + TAIL
    done = tool("ws-cat", "-j1", "-o", box / "out", stdin=data)
    assert done.code == ExitStatus.UNSAFE


@pytest.mark.parametrize("pax", [
    {"path": "../evil.png"}, {"path": "/evil.png"}, {"size": "1099511627776"}, {"size": "-1"},
    {"linkpath": "/etc/passwd"}, {"GNU.sparse.map": "0,1,2", "GNU.sparse.size": "8589934591"},
    {"GNU.sparse.name": "../evil.png", "GNU.sparse.major": "1", "GNU.sparse.minor": "0",
     "GNU.sparse.realsize": "8589934591"}, {"comment": '{"members": 1e999}'},
    {"comment": '{"members":1,"supervision":{"boxes":[1e999,2]}}'},
    {"comment": '{"members":1,"supervision":{"boxes":["a","b"]}}'},
    {"comment": "[" * 100_000}, {"comment": '{"members":1,"supervision":7}'},
    {"hdrcharset": "BINARY"}, {"mtime": "nan"}, {"uid": "x"}],
    ids=lambda p: next(iter(p.items()))[0] + "=" + next(iter(p.values()))[:20])
def test_hostile_pax_records_do_no_harm(pax, box):
    info = tarfile.TarInfo("img001.png")
    info.size, info.pax_headers = len(LABEL), pax
    data = HEAD + GOOD + info.tobuf(tarfile.PAX_FORMAT) + LABEL + bytes(-len(LABEL) % 512) + TAIL
    done = tool("ws-cat", "-j1", "-o", box / "out", stdin=data)
    assert done.code in (ExitStatus.FAILED, ExitStatus.INCOMPLETE, ExitStatus.UNSAFE)
    assert done.line


HEADERS = {
    "kinds of numbers": {"kinds": [1, "label"]}, "kinds of objects": {"kinds": [{}]},
    "kinds as text": {"kinds": "label"}, "kinds missing": {"kinds": None},
    "classes of numbers": {"classes": [1, 2]}, "classes as text": {"classes": "cat"},
    "classes as object": {"classes": {"cat": 1}},
    "infinite ignore": {"ignore": float("inf")}, "ignore as text": {"ignore": "x"},
    "history of text": {"history": ["x"]}, "history as text": {"history": "x"},
    "history without id": {"history": [{"tool": "x"}]},
    "count as text": {"count": "many"}, "negative count": {"count": -5},
    "infinite count": {"count": float("inf")},
    "supervision of text": {"supervision": {"boxes": "ab"}},
    "supervision as list": {"supervision": [1]}, "later format": {"wsseg": 2},
    "format as truth": {"wsseg": True}, "huge number": {"ignore": 10 ** 400},
}


@pytest.mark.parametrize("form", ["stream", "directory"])
@pytest.mark.parametrize("name", HEADERS)
def test_a_malformed_header_is_one_line(name, form, tmp_path, box):
    value = {**json.loads(HEADER.dump()), **HEADERS[name]}
    header = json.dumps(value).replace("Infinity", "1e999").encode()
    place = tmp_path / "place"
    if form == "directory":
        write(place, make_packs(1), HEADER)
        (place / "__wsseg__" / "header.json").write_bytes(header)
        done = tool("ws-cat", place, "--exif", "apply", "-j1", "-o", box / "out")
    else:
        data = tar_member("__wsseg__/header.json", header) + GOOD + TAIL
        done = tool("ws-cat", "--exif", "apply", "-j1", "-o", box / "out", stdin=data)
    assert done.code in (ExitStatus.FAILED, ExitStatus.INCOMPLETE), done
    assert done.line
    assert not (box / "out" / "__wsseg__" / "end.json").exists()


@pytest.mark.parametrize("change", [
    {"records": float("inf")}, {"records": "x"}, {"error": 5}, {"error": ["a", "b"]},
    {"supervision": {"boxes": 3}}, {"supervision": []}, {"digest": None}, {"failed": None}])
def test_a_malformed_end_is_one_line(change, tmp_path, box):
    write(tmp_path / "place", make_packs(1), HEADER)
    end = tmp_path / "place" / "__wsseg__" / "end.json"
    value = json.dumps({**json.loads(end.read_bytes()), **change}).replace("Infinity", "1e999")
    data = HEAD + GOOD + tar_member("__wsseg__/end.json", value.encode()) + bytes(1024)
    done = tool("ws-cat", "-j1", "-o", box / "out1", stdin=data)
    assert done.code in (ExitStatus.FAILED, ExitStatus.INCOMPLETE) and done.line
    end.write_text(value)
    done = tool("ws-cat", tmp_path / "place", "-j1", "-o", box / "out2")
    assert done.code in (ExitStatus.FAILED, ExitStatus.INCOMPLETE) and done.line
