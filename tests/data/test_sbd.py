import io
import os
import struct
import zlib

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csc_matrix

from tests.conftest import complaint, run
from wsseg.data import open_dataset
from wsseg.data.mat5 import MAX_BYTES, read_struct
from wsseg.data.names import DATASETS
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError
from wsseg.io.codec import check_instance
from wsseg.io.places import open_source
from wsseg.io.supervision import by_kind

VOC = DATASETS["voc"]
BASE = "benchmark_RELEASE/dataset"
A = np.array([[0, 15, 15, 0], [8, 15, 15, 0], [8, 8, 0, 0]], np.uint8)
A_IDS = np.array([[0, 1, 3, 0], [2, 1, 3, 0], [2, 2, 0, 0]], np.uint8)
B = np.array([[20, 0], [0, 0], [0, 1]], np.uint8)


def savemat(packed=True, **variables):
    out = io.BytesIO()
    scipy.io.savemat(out, variables, do_compression=packed)
    return out.getvalue()


def edges(n, shape):
    """Boundaries as in SBD: a column of cells, each a sparse map of bits."""
    cells = np.empty((n, 1), object)
    for i in range(n):
        cells[i, 0] = csc_matrix(np.eye(*shape, k=i, dtype=bool))
    return cells


def gtcls(label, packed=True, **changes):
    present = np.unique(label)[1:, None].astype(np.uint8)
    return savemat(packed, GTcls={"Boundaries": edges(20, label.shape), "Segmentation": label,
                                  "CategoriesPresent": present, **changes})


def gtinst(ids, categories, packed=True):
    return savemat(packed, GTinst={"Boundaries": edges(3, ids.shape), "Segmentation": ids,
                                   "Categories": np.array(categories, float).reshape(-1, 1)})


FILES = {"img/a.jpg": A.shape, "cls/a.mat": gtcls(A), "inst/a.mat": gtinst(A_IDS, [15, 8, 15]),
         "img/b.jpg": B.shape, "cls/b.mat": gtcls(B, False),
         "inst/b.mat": gtinst(np.array([[1, 0], [0, 0], [0, 3]], np.uint8), [20, 7, 1], False),
         "train.txt": "a\n", "val.txt": "b\n"}


def files(**changes):
    """FILES with some replaced (``cls_a`` is cls/a.mat) or, by None, left out."""
    changed = {f"{k.replace('_', '/')}.{'jpg' if k[:3] == 'img' else 'mat'}": v
               for k, v in changes.items()}
    return {f"{BASE}/{name}": content for name, content in {**FILES, **changed}.items()
            if content is not None}


def lone(tree, kind="label", **changes):
    return open_dataset("sbd", str(tree(files(**changes)))).get("a").get(kind)


def test_the_files_that_are_written_here_are_nested_as_sbds_are():
    mat = scipy.io.loadmat(io.BytesIO(FILES["cls/a.mat"]))
    assert mat["GTcls"].shape == (1, 1)
    np.testing.assert_array_equal(mat["GTcls"][0, 0]["Segmentation"], A)
    np.testing.assert_array_equal(mat["GTcls"][0]["Segmentation"][0], A)
    assert scipy.io.loadmat(io.BytesIO(FILES["inst/a.mat"]))["GTinst"][0, 0]["Categories"].shape \
        == (3, 1)


@pytest.mark.parametrize("root", ["", "benchmark_RELEASE", BASE])
def test_the_tree_is_found_from_any_of_its_folders(tree, root):
    data = open_dataset("sbd", str(tree(files()) / root))
    assert list(data.keys()) == ["a", "b"] and data.notes == ()
    assert data.header.kinds == ("image", "instance", "label") and data.header.classes == VOC
    assert data.get("a").kinds() == {"image", "label", "instance"}


def test_labels_and_objects_are_those_of_the_files_packed_or_not(tree):
    data = open_dataset("sbd", str(tree(files())))
    for key, label in (("a", A), ("b", B)):
        record = data.get(key)
        assert record.get("label").dtype == np.uint8 and record.get("label").flags.c_contiguous
        np.testing.assert_array_equal(record.get("label"), label)
        assert record.get("image").shape[:2] == label.shape
        check_instance(record.get("instance"))
    value = data.get("a").get("instance")
    assert value.ids.dtype == np.uint16 and value.ids.tolist() == A_IDS.tolist()
    assert [(s.id, s.cls, s.thing) for s in value.segments] == [
        (1, 15, True), (2, 8, True), (3, 15, True)]
    hidden = data.get("b").get("instance")  # object 2 has a class but no pixel
    assert [(s.id, s.cls) for s in hidden.segments] == [(1, 20), (3, 1)]


def test_they_are_packed_as_the_same_masks_in_vocs_form_are(tree):
    root = tree({**files(), "voc/JPEGImages/a.jpg": A.shape, "voc/SegmentationClass/a.png": A,
                 "voc/SegmentationObject/a.png": A_IDS})
    ours = open_dataset("sbd", str(root)).get("a").pack()
    assert ours == open_dataset("voc", str(root / "voc")).get("a").pack()


def test_a_split_is_a_list_of_the_folder_or_a_path(tree):
    root = tree({**files(), "my.txt": "JPEGImages/b.jpg x/b.png\n"})
    for split, keys in (("train", ["a"]), ("val", ["b"]), (str(root / "my.txt"), ["b"])):
        assert list(open_dataset("sbd", str(root), split=split).keys()) == keys
    with pytest.raises(UsageError, match="no split 'test'.*which has train, val"):
        open_dataset("sbd", str(root), split="test")
    (root / "my.txt").write_text("a\nx\n")
    with pytest.raises(UsageError, match="1 of 2 keys of the list have nothing here: x"):
        open_dataset("sbd", str(root), split=str(root / "my.txt"))


def test_photos_and_objects_may_be_left_out(tree):
    data = open_dataset("sbd", str(tree({f"{BASE}/cls/a.mat": FILES["cls/a.mat"]})))
    assert data.header.kinds == ("label",) and data.get("a").kinds() == {"label"}
    data = open_dataset("sbd", str(tree({f"{BASE}/inst/a.mat": gtinst(B, range(1, 21))})))
    with pytest.raises(RecordError, match="instance: GTinst is of 3x2 pixels, GTcls of 3x4"):
        data.get("a").get("instance")


def test_some_missing_photos_are_an_error_and_some_missing_objects_a_note(tree):
    data = open_dataset("sbd", str(tree(files(inst_b=None))))
    assert data.notes == ("1 of 2 records have no instances: b",)
    assert data.get("b").kinds() == {"image", "label"}
    os.unlink(tree({}) / BASE / "img/b.jpg")
    with pytest.raises(WssegError, match="1 of 2 records have no photo: b"):
        open_dataset("sbd", str(tree({})))
    assert list(open_dataset("sbd", str(tree({})), split="train").keys()) == ["a"]


def test_a_tree_without_cls_is_a_usage_error(tree):
    with pytest.raises(UsageError, match=r"no SBD data found \(looked for cls/\*.mat in it"):
        open_dataset("sbd", str(tree({f"{BASE}/img/a.jpg": (2, 2), f"{BASE}/train.txt": "a\n"})))


def test_other_class_names_change_what_ids_there_can_be(tree):
    names = tuple("abcdefghijklmnopq")  # 17: 15 is one of them, 20 is not
    data = open_dataset("sbd", str(tree(files())), classes=names)
    assert data.header.classes == names and data.get("a").get("label").max() == 15
    with pytest.raises(RecordError, match="value 20 at x=0, y=0, but there are 17 classes"):
        data.get("b").get("label")
    with pytest.raises(RecordError, match="Categories has the value 20.0.* from 1 to 16"):
        data.get("b").get("instance")


with_void = A.copy()
with_void[1, 2:] = 255, 21

BAD_LABELS = {
    "empty": (b"", "not a MAT-file of MATLAB 5 to 7.2 .an empty file"),
    "page": (b"<html>" + bytes(200), "not a MAT-file .*HTML or XML"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(200), "MATLAB 7.3 .HDF5.: save it again with -v7"),
    "v7.3": (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF", "MATLAB 7.3 .HDF5."),
    "cut": (FILES["cls/a.mat"][:-20], r"MAT-file truncated \(20 bytes are missing"),
    "cut in its header": (FILES["cls/a.mat"][:100], r"MAT-file damaged \(its header"),
    "big-endian": (FILES["cls/a.mat"][:124] + b"\1\0MI", "a big-endian MAT-file"),
    "no variable": (FILES["cls/a.mat"][:128], r"no variable GTcls \(it holds none"),
    "another variable": (FILES["inst/a.mat"], r"has no variable GTcls \(it holds GTinst"),
    "no struct": (savemat(GTcls=A), "GTcls is an array of 3x4, not one struct"),
    "two structs": (savemat(GTcls=np.array([(A,), (A,)], [("Segmentation", object)])[None]),
                    "GTcls is a struct of 1x2, not one struct"),
    "no field": (savemat(GTcls={"Boundaries": A}), "GTcls has no field Segmentation"),
    "doubles": (gtcls(A.astype(float)), "Segmentation is float64, not uint8"),
    "16 bits": (gtcls(A.astype(np.int16)), "Segmentation is int16, not uint8"),
    "complex": (gtcls(A, Segmentation=A + 1j), "Segmentation has complex numbers"),
    "text": (gtcls(A, Segmentation="x"), "Segmentation is text, not a matrix of real numbers"),
    "cells": (gtcls(A, Segmentation=edges(2, (2, 2))), "Segmentation is a cell array"),
    "sparse": (gtcls(A, Segmentation=csc_matrix(A)), "Segmentation is a sparse matrix"),
    "three axes": (gtcls(A, Segmentation=np.dstack([A, A])), "is of 3x4x2, not a matrix"),
    "no pixel": (gtcls(A, Segmentation=A[:0]), "image of 0x4 pixels"),
    "turned": (gtcls(A.T), "a.mat is of 4x3 pixels, but its photo a.jpg of 3x4; transposed"),
    "smaller": (gtcls(A[:2]), "a.mat is of 2x4 pixels, but its photo a.jpg of 3x4$"),
    "void": (gtcls(with_void), "2 pixels are of no known class: value 255 at x=2, y=1, but there "
                               "are 21 classes and no void"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_what_is_no_label_is_an_error_of_its_record_alone(name, tree):
    content, message = BAD_LABELS[name]
    root = tree(files(cls_a=content))
    data = open_dataset("sbd", str(root))
    with pytest.raises(RecordError, match=f"^label: .*{message}"):
        data.get("a").get("label")
    assert data.get("a").get("instance").ids.shape == A.shape
    np.testing.assert_array_equal(data.get("b").get("label"), B)


@pytest.mark.parametrize("content, message", [
    (gtinst(A_IDS, [15, 8]), "object 3 has no class: GTinst.Categories lists 2"),
    (gtinst(A_IDS, []), "object 3 has no class: GTinst.Categories lists 0"),
    (gtinst(A_IDS, [15, 0, 8]), "Categories has the value 0.0, not a whole number from 1 to 20"),
    (gtinst(A_IDS, [15, 21, 8]), "Categories has the value 21.0"),
    (gtinst(A_IDS, [15, 1.5, 8]), "Categories has the value 1.5"),
    (gtinst(A_IDS, [15, np.nan, 8]), "Categories has the value nan"),
    (gtinst(A_IDS - 1., [15, 8, 8]), "Segmentation has the value -1.0, .* from 0 to 65535"),
    (gtinst(A_IDS * 1e5, [15, 8, 8]), "Segmentation has the value 100000.0"),
    (gtinst(A_IDS.T, [15, 8, 8]), "a.mat is of 4x3 pixels, but its photo a.jpg of 3x4"),
    (savemat(GTinst={"Segmentation": A_IDS, "Categories": A}), "Categories is of 3x4, not a col"),
    (savemat(GTinst={"Segmentation": A_IDS}), "GTinst has no field Categories"),
    (FILES["cls/a.mat"], "has no variable GTinst"),
])
def test_what_are_no_objects_is_an_error_of_their_record_alone(content, message, tree):
    with pytest.raises(RecordError, match=f"^instance: .*{message}"):
        lone(tree, "instance", inst_a=content)
    assert open_dataset("sbd", str(tree({}))).get("a").get("label").shape == A.shape


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def header(cls, shape, name=b""):
    return (element(6, struct.pack("<II", cls, 0)) + element(5, struct.pack("<2i", *shape))
            + element(1, name))


FIELD = element(5, struct.pack("<i", 16)) + element(1, b"Segmentation".ljust(16, b"\0"))


def by_hand(matrix, names=FIELD, cut=0):
    """A packed file whose GTcls.Segmentation is ``matrix``, without the last bytes of the pack."""
    body = element(14, header(2, (1, 1), b"GTcls") + names + matrix)
    packed = zlib.compress(body)
    packed = packed[:len(packed) - cut]
    return FILES["cls/a.mat"][:128] + struct.pack("<II", 15, len(packed)) + packed


def test_a_file_by_the_published_form_is_read():
    data = by_hand(element(14, header(9, (2, 3)) + element(2, bytes(range(6)))))
    found = read_struct(data, "GTcls", ["Segmentation"])["Segmentation"]
    assert found.tolist() == [[0, 2, 4], [1, 3, 5]]  # column by column
    small = by_hand(element(14, header(6, (1, 2)) + struct.pack("<HHBBxx", 2, 2, 7, 9)))
    found = read_struct(small, "GTcls", ["Segmentation"])["Segmentation"]
    assert found.tolist() == [[7, 9]] and found.dtype == np.float64
    assert read_struct(by_hand(element(14, b"")), "GTcls", ["Segmentation"])["Segmentation"].size \
        == 0


@pytest.mark.parametrize("content, message", [
    (by_hand(element(14, header(9, (1 << 15, 1 << 15)) + element(2, b"\1"))),
     "image of 32768x32768 pixels refused before decoding"),
    (by_hand(element(14, header(9, (8, 8)) + element(2, bytes(MAX_BYTES)))),
     "it unpacks to more than 67108864 bytes"),
], ids=["declared", "packed"])
def test_a_bomb_is_unsafe(content, message, tree):
    assert len(content) < 1 << 17
    with pytest.raises(UnsafeError, match=message):
        lone(tree, cls_a=content)


def test_the_limit_is_that_of_all_variables_together():
    half = by_hand(element(14, header(9, (8, 8)) + element(2, bytes(MAX_BYTES * 2 // 3))))
    with pytest.raises(RecordError, match=r"no variable other \(it holds GTcls"):
        read_struct(half, "other", [])
    with pytest.raises(UnsafeError, match="unpacks to more than"):
        read_struct(half + half[128:], "other", [])


@pytest.mark.parametrize("matrix, message", [
    (element(14, header(9, (100, 100)) + element(2, b"\1")), "1 bytes for 100x100 uint8"),
    (element(14, header(9, (-1, -1)) + element(2, b"\1")), "is of -1x-1, not a matrix"),
    (element(14, header(9, (1, 1)) + element(9, bytes(8))), "uint8 stored as type 9"),
    (element(14, header(9, (1, 1))), "MAT-file truncated"),
    (element(14, element(6, bytes(8)) + element(5, bytes(400))), "a matrix without a size"),
    (element(2, b"1"), "element 2 as GTcls.Segmentation"),
    (struct.pack("<HHI", 14, 5, 0), "a small element of 5 bytes"),
    (b"", "MAT-file truncated"),
])
def test_elements_that_cannot_be_are_record_errors(matrix, message):
    with pytest.raises(RecordError, match=message):
        read_struct(by_hand(matrix), "GTcls", ["Segmentation"])


@pytest.mark.parametrize("width, size", [(0, 16), (-1, 16), (5, 16), (1, 1025)])
def test_names_of_fields_that_cannot_be_are_a_record_error(width, size):
    names = element(5, struct.pack("<i", width)) + element(1, bytes(size))
    with pytest.raises(RecordError, match="names of GTcls's fields"):
        read_struct(by_hand(b"", names), "GTcls", ["Segmentation"])


def test_a_pack_without_its_checksum_is_damaged():
    good = element(14, header(9, (2, 3)) + element(2, bytes(range(6))))
    with pytest.raises(RecordError, match="packed data break off"):
        read_struct(by_hand(good, cut=2), "GTcls", ["Segmentation"])


def test_nothing_is_followed_into_the_depth(tree):
    """scipy.io.loadmat ends the process on this file."""
    deep = element(14, header(9, (1, 1)) + element(2, b"\1"))
    for _ in range(3000):
        deep = element(14, header(1, (1, 1)) + deep)
    with pytest.raises(RecordError, match="Segmentation is a cell array"):
        lone(tree, cls_a=by_hand(deep))


def test_a_huge_file_a_pipe_and_a_dangling_link_are_record_errors(tree):
    root = tree(files())
    path = root / BASE / "cls/a.mat"
    os.truncate(path, 1 << 40)
    data = open_dataset("sbd", str(root))
    for spoil, message in (
            (lambda: None, "bytes: more than 67108864"), (lambda: os.mkfifo(path), "not a regular"),
            (lambda: path.symlink_to("none"), "cannot read"),
            (lambda: path.symlink_to("a.mat"), "cannot read")):
        spoil()
        with pytest.raises(RecordError, match=message):
            data.get("a").get("label")
        path.unlink()
    (root / "elsewhere.mat").write_bytes(FILES["cls/a.mat"])
    path.symlink_to(root / "elsewhere.mat")  # a set may be a farm of links
    np.testing.assert_array_equal(data.get("a").get("label"), A)


@pytest.mark.parametrize("packed", [False, True])
def test_damage_ends_in_our_errors_and_never_shows_in_packed_files(packed):
    good = gtcls(A, packed)
    rng = np.random.default_rng(4)
    failures = 0
    for _ in range(1500):
        data = bytearray(good)
        data[rng.integers(128, len(data))] ^= 1 << rng.integers(8)
        try:
            found = read_struct(bytes(data), "GTcls", ["Segmentation"])["Segmentation"]
            assert not packed or np.array_equal(found, A)
        except WssegError as error:
            assert "\n" not in str(error)
            failures += 1
    assert failures > (1400 if packed else 50)


numbers = st.sampled_from([np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.float32,
                           np.float64])


@given(numbers.flatmap(lambda dtype: arrays(dtype, st.tuples(*[st.integers(1, 6)] * 2))),
       st.booleans())
def test_any_matrix_that_scipy_writes_is_read_as_it_was(values, packed):
    data = savemat(packed, other=values, S={"Before": edges(2, (3, 4)), "X": values, "After": "z"})
    found = read_struct(data, "S", ["X"])["X"]
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_ws_cat_makes_masks_of_it_that_score_and_cost_as_the_pngs_do(tree):
    root = tree({**files(), "voc/SegmentationClass/a.png": A, "voc/SegmentationClass/b.png": B,
                 "voc/SegmentationObject/a.png": A_IDS,
                 "voc/SegmentationObject/b.png": (B > 0) * B})
    for form, place in (("sbd", root / "benchmark_RELEASE"), ("voc", root / "voc")):
        run(["ws-cat", "--from", form, place, "--only", "label", "-o", root / f"{form}-masks"])
    assert run(["ws-info", "--list", root / "sbd-masks"]).stdout == b"a\nb\n"
    for name in ("a.png", "b.png"):
        assert (root / "sbd-masks" / name).read_bytes() \
            == (root / "voc-masks" / name).read_bytes()
    ends = [open_source(str(root / f"{form}-masks")).end.supervision for form in ("sbd", "voc")]
    assert ends[0] == ends[1] and by_kind(ends[0]) == {"masks": (2, 4, 5)}
    table = run(["ws-eval", root / "sbd-masks", root / "voc/SegmentationClass", "--classes",
                 "voc"]).stdout.decode()
    mean, = (line for line in table.splitlines() if line.startswith("mean "))
    assert mean.split()[1] == "100.00" and "2 records scored" in table


def test_ws_cat_passes_over_a_bad_record_when_it_is_told_to(tree):
    root = tree(files(cls_a=BAD_LABELS["cut"][0]))
    words = ["ws-cat", "--from", "sbd", root, "--only", "label", "-o", root / "out"]
    said = complaint(run(words, code=1))
    assert "a: label: MAT-file truncated" in said
    run([*words, "--keep-going", "--overwrite"], code=3)
    assert run(["ws-info", "--list", root / "out"]).stdout == b"b\n"
    words[3] = tree({f"{BASE}/img/a.jpg": A.shape}) / BASE / "img"
    assert "no SBD data found" in complaint(run([*words, "--overwrite"], code=2))
