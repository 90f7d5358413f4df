"""Members that could run code or fill the memory are refused before they do."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.faults.helpers import make_packs, stream_bytes, tool
from tests.faults.hostile import GOOD, HEAD, HEADER, TAIL, limited
from wsseg.errors import ExitStatus, RecordError, WssegError
from wsseg.io import codec
from wsseg.io.header import Header
from wsseg.io.places import open_source
from wsseg.io.stream import tar_member


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def npz(**arrays) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


@pytest.mark.parametrize("part", ["data", "classes", "size"])
@pytest.mark.parametrize("kind", ["score", "cam"])
def test_a_score_map_with_a_pickle_is_refused_and_not_opened(kind, part, tmp_path, box):
    value = {"data": np.zeros((1, 2, 2), np.float16), "classes": np.array([0]),
             "size": np.array([2, 2])}
    value[part] = np.array([Canary(box / "evil")], dtype=object)
    suffix = f"{kind}.npz"
    done = tool("ws-cat", "-j1", "-o", box / "out",
                stdin=HEAD + tar_member(f"img000.{suffix}", npz(**value)) + TAIL)
    assert not (box / "evil").exists()
    assert done.code == ExitStatus.UNSAFE, done
    assert "img000" in done.line


@pytest.mark.parametrize("name", ["img000.pkl", "img000.pickle", "img000.pth", "img000.pyd"])
def test_a_member_with_a_pickle_is_passed_on_unopened(name, box):
    """Unknown kinds are bytes to us."""
    data = pickle.dumps(Canary(box / "evil"))
    done = tool("ws-cat", "-j1", "-o", box / "out", stdin=HEAD + tar_member(name, data) + TAIL)
    assert not (box / "evil").exists()
    assert (box / "out" / name).read_bytes() == data
    assert done.code == ExitStatus.INCOMPLETE  # the digest in our TAIL is not right


def zipped(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npy_head(shape: tuple[int, ...], kind: str = "<f2") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": kind, "fortran_order": False,
                                               "shape": shape})
    return out.getvalue()


SMALL = {"classes.npy": npy(np.array([0])), "size.npy": npy(np.array([2, 2]))}
DATA = npy(np.zeros((1, 2, 2), np.float16))
SCORES = {
    "declares 100 TB": zipped({**SMALL, "data.npy": npy_head((50_000, 1_000_000, 1000)) + b"x"}),
    "declares 60 GB": zipped({**SMALL, "data.npy": npy_head((3, 100_000, 100_000)) + b"x"}),
    "negative shape": zipped({**SMALL, "data.npy": npy_head((-1, 2, 2)) + b"x" * 8}),
    "strings": zipped({**SMALL, "data.npy": npy(np.array(["a", "b"]))}),
    "records": zipped({**SMALL, "data.npy": npy(np.zeros(3, "f2,i4"))}),
    "no npy": zipped({**SMALL, "data.npy": b"no array at all"}),
    "python in the header": zipped({**SMALL, "data.npy": npy_head((1,)).replace(
        b"{'descr'", b"__import_")}),
    "encrypted": None, "unknown compression": None, "bad deflate": None,
    "negative classes": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([-1]), size=[2, 2]),
    "class 70000": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([70_000]), size=[2, 2]),
    "class 255": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([255]), size=[2, 2]),
    "classes of floats": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([0.5]), size=[2, 2]),
    "classes not a list": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array(0), size=[2, 2]),
    "negative size": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([0]), size=[-2, 2]),
    "zero size": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([0]), size=[0, 2]),
    "huge size": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([0]), size=[1 << 40, 2]),
    "size of floats": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([0]), size=[2.5, 2]),
    "size not finite": npz(data=np.zeros((1, 2, 2), "f2"), classes=np.array([0]),
                           size=[np.nan, np.inf]),
    "no data": npz(classes=np.array([0]), size=[2, 2]),
}
_plain = bytearray(zipped({**SMALL, "data.npy": DATA}))
for _name, _at, _value in (("encrypted", 6, 1), ("unknown compression", 8, 99)):
    _bad = bytearray(_plain)
    for _sign, _shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        _spot = -1
        while (_spot := _bad.find(_sign, _spot + 1)) >= 0:
            _bad[_spot + _at + _shift] = _value
    SCORES[_name] = bytes(_bad)
_bad = bytearray(_plain)
_bad[_bad.rindex(b"PK\x03\x04") + 38] ^= 0xff
SCORES["bad deflate"] = bytes(_bad)


@pytest.mark.parametrize("name", SCORES)
def test_a_malformed_score_map_is_refused_by_one_of_our_errors(name):
    with pytest.raises(WssegError) as caught:
        codec.decode("score", {"score.npz": SCORES[name]})
    assert "score" in str(caught.value)
    assert "out of memory" not in str(caught.value)


def test_a_score_map_that_is_a_zip_bomb_is_refused_within_bounds(tmp_path, box):
    """It declares 17 GB and holds 64 KB of it; another declares little and holds 1 GB."""
    class Zeros(io.RawIOBase):
        left = 1 << 30

        def read(self, size=-1):
            size = min(size, self.left)
            self.left -= size
            return bytes(size)

    liar = bytearray(zipped({**SMALL, "data.npy": DATA}))
    at = liar.rindex(b"PK\x01\x02")
    liar[at + 24:at + 28] = b"\xff\xff\xff\xfe"  # the size in the directory
    small = io.BytesIO()
    with zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in SMALL.items():
            archive.writestr(name, data)
        with archive.open("data.npy", "w") as file:
            file.write(npy_head((1, 32_768, 16_384)))
            shutil.copyfileobj(Zeros(), file, 1 << 20)
    for bomb in (bytes(liar), small.getvalue()):
        data = HEAD + tar_member("img000.score.npz", bomb) + TAIL
        done = limited(["ws-cat", "-j1", "-o", str(box / "out"), "--overwrite"], data,
                       megabytes=1100)
        assert done.returncode in (ExitStatus.FAILED, ExitStatus.UNSAFE), done.stderr
        assert b"img000" in done.stderr
        assert b"out of memory" not in done.stderr


JSONS = {
    "deep": b"[" * 100_000, "huge integer": b'{"classes":[' + b"9" * 5000 + b"]}",
    "long integer in a box": b'{"boxes":[{"class":1,"box":[0,0,' + b"9" * 400 + b',5]}]}',
    "infinite by exponent": b'{"boxes":[{"class":1,"box":[0,0,1e999,5]}]}',
    "not a number": b'{"boxes":[{"class":1,"box":[0,0,NaN,5]}]}',
    "duplicate keys": b'{"boxes":[],"boxes":[{"class":1,"box":[0,0,1,5]}]}',
    "not UTF-8": b'{"boxes":["\xff"]}', "UTF-16": '{"boxes":[]}'.encode("utf-16"),
    "lone surrogate": b'{"boxes":[{"class":"\\ud800","box":[0,0,1,5]}]}',
    "a list": b"[]", "nothing": b"", "blank": b" \n", "truth as a class":
    b'{"boxes":[{"class":true,"box":[0,0,1,5]}]}',
    "class 255": b'{"boxes":[{"class":255,"box":[0,0,1,5]}]}',
    "negative class": b'{"boxes":[{"class":-1,"box":[0,0,1,5]}]}',
    "text as numbers": b'{"boxes":[{"class":1,"box":["0","0","1","5"]}]}',
    "size of zero": b'{"size":[0,5],"boxes":[]}',
    "size beyond all images": b'{"size":[1000000000000000000000,5],"boxes":[]}',
    "garbage after": b'{"boxes":[]} {"boxes":[]}',
}


@pytest.mark.parametrize("name", JSONS)
def test_hostile_json_is_refused_by_one_of_our_errors(name):
    with pytest.raises(RecordError):
        codec.decode("boxes", {"boxes.json": JSONS[name]}, ("background", "cat"))


@pytest.mark.parametrize("data", [
    b'{"counts":{"' + b"9" * 5000 + b'":1}}', b'{"counts":{"1":2,"01":3}}',
    b'{"counts":{"1":2,"cat":3}}', b'{"counts":{"1":1e400}}', b'{"counts":{"-1":1}}',
    b'{"counts":{"1":true}}'])
def test_hostile_counts_are_refused_by_one_of_our_errors(data):
    """The same class twice would be counted once, in silence."""
    with pytest.raises(RecordError):
        codec.decode("counts", {"counts.json": data}, ("background", "cat"))


@pytest.mark.parametrize("counts,size", [
    ([5], [100_000, 200_000]), ([20_000_000_000], [100_000, 200_000]),
    ([1 << 80], [1 << 40, 1 << 40]),
    ([-5, 25], [4, 5]), ([2.5, 17.5], [4, 5]), ([19], [4, 5]), ([21], [4, 5]), (["20"], [4, 5]),
    ([True] * 20, [4, 5])])
def test_hostile_run_lengths_are_refused(counts, size):
    """Among them a mask of 20 billion pixels in 3 numbers."""
    data = json.dumps({"size": size, "masks": [{"class": 1, "counts": counts}]}).encode()
    with pytest.raises(WssegError):
        codec.decode("masks", {"masks.json": data})


def test_a_header_may_hold_no_more_than_a_header(box):
    """A first member of 100 MB is no header."""
    data = tar_member("__wsseg__/header.json", b" " * 100_000_000 + HEADER.dump()) + GOOD + TAIL
    done = tool("ws-cat", "-j1", "-o", box / "out", stdin=data)
    assert done.code == ExitStatus.UNSAFE and done.line


def test_a_good_stream_is_not_refused(box):
    """The counter-test: what all these are made from passes."""
    data = stream_bytes(make_packs(2, "boxes"), HEADER)
    assert tool("ws-cat", "-j1", "-o", box / "out", stdin=data).code == 0
    assert len(list(open_source(str(box / "out")))) == 2
    assert Header.load(HEADER.dump()) == HEADER
