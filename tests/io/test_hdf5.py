"""HDF5 files: plain h5py reads them as documented, and they give back what was written."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import CLASSES, make_label, make_record, write_place
from tests.cli.test_info import run
from tests.io.conftest import make_value, same
from wsseg.errors import IncompleteError, RecordError, UnsafeError, WssegError
from wsseg.io import codec, hdf5
from wsseg.io.hdf5 import Hdf5Source
from wsseg.io.inspect import Audit, check_record
from wsseg.io.kinds import KINDS
from wsseg.io.png import encode_labels
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, ScoreMap, Segment

DEEP = (np.arange(12, dtype=np.uint16) * 999).reshape(3, 4)
SCORE = ScoreMap(np.linspace(0, 1, 24).astype(np.float16).reshape(2, 3, 4), np.array([0, 7]),
                 (6, 8))


@pytest.fixture
def path(tmp_path) -> Path:
    first = make_record(0, "label", "boxes", "image")
    second = Record("deep/er.x/ü%", supervision={"tags": (1, 1)})
    for kind, value in (("label", DEEP), ("score", SCORE), ("tags", (2,)),
                        ("instance", InstanceMap(DEEP, tuple(
                            Segment(int(i), 1) for i in DEEP.ravel() if i)))):
        second.set(kind, value)
    second.members["note.txt"] = b"hello"
    return Path(write_place(tmp_path / "x.h5", [first, second], kinds=["label"]))


def test_a_label_map_is_an_array_under_its_kind_and_key(path):
    with h5py.File(path) as file:
        assert file["label/img000"].dtype == np.uint8
        np.testing.assert_array_equal(file["label/img000"][()], make_label(0))
        assert file["label/deep%2Fer%2Ex%2Fü%25"].dtype == np.uint16
        np.testing.assert_array_equal(file["label/deep%2Fer%2Ex%2Fü%25"][()], DEEP)


def test_a_score_map_has_its_classes_and_size_as_attributes(path):
    with h5py.File(path) as file:
        data = file["score/deep%2Fer%2Ex%2Fü%25"]
        assert data.dtype == np.float16
        np.testing.assert_array_equal(data[()], SCORE.data)
        assert data.attrs["classes"].tolist() == [0, 7] and data.attrs["size"].tolist() == [6, 8]


def test_an_instance_map_has_its_segments_as_json(path):
    with h5py.File(path) as file:
        data = file["instance/deep%2Fer%2Ex%2Fü%25"]
        np.testing.assert_array_equal(data[()], DEEP)
        segments = json.loads(data.attrs["segments"].tobytes())["segments"]
        assert [s["id"] for s in segments] == DEEP.ravel()[1:].tolist()


def test_everything_else_is_its_bytes_and_says_its_suffix(path):
    with h5py.File(path) as file:
        boxes, note = file["boxes/img000"], file["%2Enote%2Etxt/deep%2Fer%2Ex%2Fü%25"]
        assert boxes.attrs["suffix"] == "boxes.json"
        assert json.loads(boxes[()].tobytes())["boxes"][0]["class"] == 1
        assert note.attrs["suffix"] == "note.txt" and note[()].tobytes() == b"hello"
        assert file["image/img000"].attrs["suffix"] == "image.png"


def test_header_and_end_are_attributes_of_the_root(path):
    with h5py.File(path) as file:
        header, end = (json.loads(file.attrs[f"wsseg_{n}"].tobytes()) for n in ("header", "end"))
        assert header["classes"] == list(CLASSES) and end["records"] == 2
        assert file["boxes/img000"].attrs["supervision"] == '{"boxes":[2,2]}'
        assert sorted(file) == ["%2Enote%2Etxt", "boxes", "image", "instance", "label", "score",
                                "tags"]


def test_it_is_read_by_ascending_key_and_looked_up(path):
    source = Hdf5Source(path)
    assert source.keys() == ["deep/er.x/ü%", "img000"]
    assert [r.key for r in source] == source.keys()
    assert source.get("img000").supervision == {"boxes": (2, 2)}
    assert source.end.supervision == {"boxes": (1, 2, 2), "tags": (1, 1, 1)}
    with pytest.raises(KeyError):
        source.get("none")


def test_every_kind_survives(tmp_path):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        values = {kind: make_value(kind, rng) for kind in KINDS}
        record = Record("a")
        for kind, value in values.items():
            record.set(kind, value)
        source = Hdf5Source(write_place(tmp_path / f"{seed}.h5", [record]))
        found, = source
        assert found.pack().members == record.pack().members
        for kind, value in values.items():
            assert same(found.get(kind), value)


def test_empty_and_large_members_survive(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 1 << 20).astype(np.uint8).tobytes()
    many = InstanceMap(np.arange(5000, dtype=np.uint16).reshape(50, 100),
                       tuple(Segment(i, 1) for i in range(1, 5000)))  # a list beyond 64 KiB
    record = Record("a", {"empty": b"", "big.bin": noise, "zeros": bytes(100_000)})
    record.set("instance", many)
    record.set("label", np.zeros((700, 900), np.uint8))
    found, = Hdf5Source(write_place(tmp_path / "x.h5", [record]))
    assert found.pack().members == record.pack().members


def test_equal_records_give_equal_files(path, tmp_path):
    source = Hdf5Source(path)
    write_place(tmp_path / "y.h5", reversed(list(source)), kinds=["label"])
    write_place(tmp_path / "z.h5", reversed(list(source)), kinds=["label"])
    assert (tmp_path / "y.h5").read_bytes() == (tmp_path / "z.h5").read_bytes()


def test_label_maps_are_compressed(tmp_path):
    record = Record("a")
    record.set("label", np.zeros((1000, 1000), np.uint8))
    assert Path(write_place(tmp_path / "x.h5", [record])).stat().st_size < 50_000


# -- what is not ours ------------------------------------------------------------------------


def edit(path: Path):
    return h5py.File(path, "r+")


def test_a_foreign_hdf5_file_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"] = [1, 2]
    with pytest.raises(WssegError, match="is an HDF5 file, but not one of wsseg's"):
        Hdf5Source(tmp_path / "x.h5")


def test_what_is_no_hdf5_file_is_refused(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(WssegError, match="not a readable HDF5 file"):
        Hdf5Source(tmp_path / "x.h5")


def test_a_file_of_a_later_format_is_refused(path):
    with edit(path) as file:
        data = file.attrs["wsseg_header"].tobytes().replace(b'"wsseg": 1', b'"wsseg": 4')
        file.attrs["wsseg_header"] = np.frombuffer(data, np.uint8)
    with pytest.raises(WssegError, match="later wsseg"):
        Hdf5Source(path)


def test_an_edited_array_is_noticed(path):
    with edit(path) as file:
        file["label/img000"][0, 0] = 1
    with pytest.raises(RecordError, match=r"label is damaged \(wrong checksum\)"):
        Hdf5Source(path).get("img000")


def test_edited_attributes_are_noticed(path):
    with edit(path) as file:
        file["score/deep%2Fer%2Ex%2Fü%25"].attrs["classes"] = np.array([0, 8], np.uint16)
    with pytest.raises(RecordError, match="score is damaged"):
        Hdf5Source(path).get("deep/er.x/ü%")


def test_without_its_end_it_is_incomplete(path):
    with edit(path) as file:
        del file.attrs["wsseg_end"]
    keys = []
    with pytest.raises(IncompleteError, match="it has no end"):
        for record in Hdf5Source(path):
            keys.append(record.key)
    assert len(keys) == 2


def test_a_lost_record_is_noticed(path):
    with edit(path) as file:
        del file["label/img000"], file["boxes/img000"], file["image/img000"]
    with pytest.raises(IncompleteError, match="it holds 1 of 2 records"):
        list(Hdf5Source(path))


def test_a_lost_part_of_a_record_is_noticed(path):
    with edit(path) as file:
        del file["boxes/img000"]
    with pytest.raises(RecordError, match="holds other kinds than were written together"):
        Hdf5Source(path).get("img000")


def test_arrays_are_not_encoded_to_be_read(path, monkeypatch):
    source = Hdf5Source(path)
    monkeypatch.setattr(codec, "encode_member", None)
    np.testing.assert_array_equal(source.get("img000").get("label"), make_label(0))
    value = source.get("deep/er.x/ü%").get("instance")
    np.testing.assert_array_equal(value.ids, DEEP)
    assert [s.id for s in value.segments] == DEEP.ravel()[1:].tolist()
    with pytest.raises(ValueError, match="read-only"):
        value.ids[0] = 1


def test_a_later_encoder_whose_bytes_differ_finds_nothing_damaged(tmp_path, monkeypatch):
    path = write_place(tmp_path / "two.h5", [make_record(i, "label", "boxes") for i in range(2)])
    bytes_then = Hdf5Source(path).get("img000").pack()
    monkeypatch.setattr(codec, "encode_labels", lambda labels, **_: encode_labels(
        labels, palette=False))
    source = Hdf5Source(path)
    assert source.get("img000").pack() != bytes_then
    audit = Audit(source, whole=True)
    assert [audit.take(check_record(r)) for r in source] == [None, None] and not audit.close()
    run(["ws-cat", path, "-o", tmp_path / "again"])


@pytest.mark.parametrize("name, value, message", [
    ("supervision", '{"tags":["a","b"]}', "supervision tags"),
    ("supervision", '{"tags":[1,-5]}', "supervision tags"),
    ("supervision", '{"tags":[1,1,1]}', "supervision tags"),
    ("size", np.array([6, 8, 3], np.uint32), r"size is \[6, 8, 3\], not"),
    ("size", np.array([6.7, 8.2]), r"size is \[6.7, 8.2\], not"),
    ("classes", np.array([0.2, 7.1]), "not class ids"),
])
def test_attributes_that_cannot_be_are_refused_in_a_forged_file(path, name, value, message):
    """The checksum is no signature."""
    with edit(path) as file:
        data = file["score/deep%2Fer%2Ex%2Fü%25"]
        data.attrs[name] = value
        attrs = {k: v for k, v in data.attrs.items() if k != "crc32"}
        data.attrs["crc32"] = np.uint32(hdf5._crc(data.name, data[()], attrs))
    with pytest.raises(RecordError, match=message):
        Hdf5Source(path).get("deep/er.x/ü%")


@pytest.mark.parametrize("link", [h5py.SoftLink("/label/img000"),
                                  h5py.ExternalLink("other.h5", "/label/img000")])
def test_links_are_not_followed(path, link):
    with edit(path) as file:
        file["label/evil"] = link
    with pytest.raises(UnsafeError, match="soft or external link"):
        Hdf5Source(path)


def test_data_kept_elsewhere_is_not_read(path, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret" * 4)
    with edit(path) as file:
        file.create_dataset("label/evil", (4, 6), np.uint8,
                            external=[(str(tmp_path / "secret"), 0, 24)])
    with pytest.raises(UnsafeError, match="keeps its data elsewhere"):
        Hdf5Source(path).get("evil")


def test_a_virtual_dataset_is_not_read(path):
    layout = h5py.VirtualLayout((24, 32), np.uint8)
    layout[:] = h5py.VirtualSource("other.h5", "x", (24, 32))
    with edit(path) as file:
        file.create_virtual_dataset("label/evil", layout)
    with pytest.raises(UnsafeError, match="keeps its data elsewhere"):
        Hdf5Source(path).get("evil")


def test_a_dataset_that_declares_more_than_it_stores_is_refused(path):
    with edit(path) as file:
        file.create_dataset("label/evil", (1 << 16, 1 << 16), np.uint8, chunks=(64, 64))
    with pytest.raises(UnsafeError, match="declares 4294967296 bytes but stores 0"):
        Hdf5Source(path).get("evil")


def test_a_group_where_data_should_be_is_refused(path):
    with edit(path) as file:
        file.create_group("label/evil")
    with pytest.raises(UnsafeError, match="is not a dataset"):
        Hdf5Source(path)


def test_an_array_of_a_later_h5py_kind_is_a_fault_of_its_record(path):
    with edit(path) as file:
        file["label/odd"] = np.zeros((2, 2), np.uint8)
    with pytest.raises(RecordError, match="wrong checksum"):
        Hdf5Source(path).get("odd")


@pytest.mark.parametrize("options", [
    {}, {"chunks": (3, 4)}, {"chunks": (3, 4), "compression": "gzip"},
    {"chunks": (2, 3), "compression": "gzip"}, {"chunks": (3, 4), "maxshape": (None, 4)}])
def test_an_array_is_what_h5py_reads_however_it_is_laid_out(path, options):
    with edit(path) as file:
        data = file.create_dataset("label/odd", data=DEEP, **options)
        data.attrs["crc32"] = np.uint32(hdf5._crc(data.name, data[()], {}))
    np.testing.assert_array_equal(Hdf5Source(path).get("odd").get("label"), DEEP)


def test_a_chunk_whose_filter_was_skipped_is_not_unpacked(path):
    with edit(path) as file:
        data = file.create_dataset("label/odd", DEEP.shape, DEEP.dtype, chunks=DEEP.shape,
                                   compression="gzip")
        data.id.write_direct_chunk((0, 0), DEEP.tobytes(), filter_mask=1)
        data.attrs["crc32"] = np.uint32(hdf5._crc(data.name, DEEP, {}))
    np.testing.assert_array_equal(Hdf5Source(path).get("odd").get("label"), DEEP)


@pytest.mark.parametrize("chunk", [
    zlib.compress(DEEP.tobytes() * 2), zlib.compress(DEEP.tobytes()[:-1]),
    zlib.compress(DEEP.tobytes())[:-1], zlib.compress(bytes(1 << 24)), b"nothing"])
def test_a_chunk_of_another_size_is_damaged(path, chunk):
    with edit(path) as file:
        data = file.create_dataset("label/odd", DEEP.shape, DEEP.dtype, chunks=DEEP.shape,
                                   compression="gzip")
        data.id.write_direct_chunk((0, 0), chunk)
        data.attrs["crc32"] = np.uint32(hdf5._crc(data.name, DEEP, {}))
    with pytest.raises(RecordError, match=r"damaged in .*x\.h5: "):
        Hdf5Source(path).get("odd")


def test_labels_are_stored_decoded_whatever_their_png(tmp_path):
    label = make_label(0)
    record = Record("a", {"png": encode_labels(label, palette=False)}, canonical=False)
    found, = Hdf5Source(write_place(tmp_path / "x.h5", [record]))
    assert found.read("label") == {"png": encode_labels(label)}
