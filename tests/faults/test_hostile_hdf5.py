"""HDF5 files made to do harm: refused with status 5, nothing read or written elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.faults.helpers import make_packs, tool, write
from tests.faults.hostile import HEADER, limited
from wsseg.errors import ExitStatus


def hdf5(path: Path, count: int = 3) -> Path:
    write(path, make_packs(count, "boxes"), HEADER)
    return path


def _external_link(file, canary):
    del file["label/img001"]
    file["label/img001"] = h5py.ExternalLink(str(canary / "other.h5"), "/label/img001")


def _external_group(file, canary):
    file["evil"] = h5py.ExternalLink(str(canary / "other.h5"), "/label")


def _soft_link(file, canary):
    del file["label/img001"]
    file["label/img001"] = h5py.SoftLink("/label/img000")


def _external_storage(file, canary):
    del file["label/img001"]
    file["label"].create_dataset("img001", (8,), "u1", external=[(str(canary / "precious"), 0, 8)])


def _virtual(file, canary):
    del file["label/img001"]
    layout = h5py.VirtualLayout((8,), "u1")
    layout[:] = h5py.VirtualSource(str(canary / "precious"), "label", (8,))
    file["label"].create_virtual_dataset("img001", layout)


def _huge(file, canary):
    del file["label/img001"]
    file["label"].create_dataset("img001", (100_000, 1_000_000), "u1", chunks=(1000, 1000),
                                 compression="gzip")


def _huge_contiguous(file, canary):
    del file["label/img001"]
    file["label"].create_dataset("img001", (100_000, 1_000_000), "u1")


def _objects(file, canary):
    del file["label/img001"]
    file["label"].create_dataset("img001", data=["a", "b"], dtype=h5py.string_dtype())


def _references(file, canary):
    del file["label/img001"]
    file["label"].create_dataset("img001", data=[file["label"].ref], dtype=h5py.ref_dtype)


def _unknown_filter(file, canary):
    del file["label/img001"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((8, 8))
    plist.set_filter(32_001, h5py.h5z.FLAG_OPTIONAL, (1,))
    space = h5py.h5s.create_simple((8, 8))
    data = h5py.h5d.create(file["label"].id, b"img001", h5py.h5t.NATIVE_UINT8, space, plist)
    data.write_direct_chunk((0, 0), bytes(64))


def _lossy_filter(file, canary):
    del file["label/img001"]
    file["label"].create_dataset("img001", data=np.eye(8, dtype="u1"), scaleoffset=2)


def _cycle(file, canary):
    file["label/self"] = file["label"]


def _root_cycle(file, canary):
    file["root"] = file["/"]


def _soft_cycle(file, canary):
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")


def _datatype(file, canary):
    file["label/named"] = np.dtype("u1")


def _parent_key(file, canary):
    file["label"].move("img001", "%2E%2E%2Fevil")


def _absolute_key(file, canary):
    file["label"].move("img001", "%2Ftmp%2Fwsseg-evil")


def _meta_key(file, canary):
    file["label"].move("img001", "__wsseg__%2Fjournal")


def _control_key(file, canary):
    file["label"].move("img001", "a\nb")


def _suffix(file, suffix):
    from wsseg.io.hdf5 import _crc

    data = np.frombuffer(b"evil", np.uint8)
    evil = file.require_group("evil").create_dataset("img001", data=data)
    evil.attrs["suffix"] = suffix
    evil.attrs["crc32"] = np.uint32(_crc(evil.name, data, {"suffix": suffix}))


def _suffix_up(file, canary):
    _suffix(file, "/../../evil.txt")


def _suffix_absolute(file, canary):
    _suffix(file, f"/../../../../../../../../../../..{canary}/precious")


def _suffix_meta(file, canary):
    _suffix(file, "png/../__wsseg__/x")


def _suffix_of_another_kind(file, canary):
    _suffix(file, "png")


HDF5 = {f.__name__[1:]: f for f in (
    _external_link, _external_group, _soft_link, _external_storage, _virtual, _huge,
    _huge_contiguous, _objects, _references, _unknown_filter, _lossy_filter, _cycle, _root_cycle,
    _soft_cycle, _datatype, _parent_key, _absolute_key, _meta_key, _control_key, _suffix_up,
    _suffix_absolute, _suffix_meta, _suffix_of_another_kind)}


@pytest.mark.parametrize("form", ["out", "out.tar", "out.h5"])
@pytest.mark.parametrize("name", HDF5)
def test_a_hostile_hdf5_file_is_refused(name, form, tmp_path, box, canary):
    path = hdf5(tmp_path / "evil.h5")
    shutil.copy(path, tmp_path / "other.h5")
    with h5py.File(path, "r+") as file:
        HDF5[name](file, canary)
    done = tool("ws-cat", path, "-j1", "-o", box / form)
    assert done.code == ExitStatus.UNSAFE, done
    assert done.line
    assert not (box / form / "__wsseg__" / "end.json").exists()
    assert not (box / form).is_file()


def test_an_hdf5_bomb_is_refused_before_it_is_unpacked(tmp_path, box):
    """A label map of 30,000 x 30,000 in 1 MB: 0.9 GB in memory."""
    path = hdf5(tmp_path / "bomb.h5", 1)
    with h5py.File(path, "r+") as file:
        del file["label/img000"]
        data = file["label"].create_dataset("img000", (30_000, 30_000), "u1", chunks=(1000, 30_000),
                                            compression="gzip")
        for y in range(0, 30_000, 1000):
            data[y:y + 1000] = 0
        data.attrs["crc32"] = np.uint32(0)
    done = limited(["ws-cat", str(path), "-j1", "-o", str(box / "out")], megabytes=1100)
    assert done.returncode == ExitStatus.UNSAFE, done.stderr


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n", b"\x89HDF\r\n\x1a\n" + bytes(4000),
                                     b"\x89HDF\r\n\x1a\n" + b"\xff" * 4000])
def test_hdf5_in_name_only_is_one_line(content, tmp_path):
    (tmp_path / "odd.h5").write_bytes(content)
    done = tool("ws-cat", tmp_path / "odd.h5", "-j1")
    assert done.code == ExitStatus.FAILED and "odd.h5" in done.line


def test_an_hdf5_file_of_another_program_is_one_line(tmp_path):
    with h5py.File(tmp_path / "odd.h5", "w") as file:
        file["data"] = [1, 2, 3]
    done = tool("ws-cat", tmp_path / "odd.h5", "-j1")
    assert done.code == ExitStatus.FAILED and "not one of wsseg's" in done.line
