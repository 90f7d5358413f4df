import os
import pickle
import struct
import time

import numpy as np
import pytest

from wsseg.data import open_dataset
from wsseg.data.names import DATASETS
from wsseg.data.pickled import read_pickled_dict
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError

VOC = DATASETS["voc"]


def vector(*classes, size=20, dtype=np.float32):
    result = np.zeros(size, dtype)
    result[list(classes)] = 1
    return result


def npy(tmp_path, content, name="cls_labels.npy"):
    path = tmp_path / name
    np.save(path, content, allow_pickle=True)
    return str(path)


def pickled(data):
    """Wrap a pickle as a numpy file."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def tags(data):
    return {record.key: record.get("tags") for record in data}


@pytest.mark.parametrize("keys", [
    [np.int32(2007000032), np.int32(2011003276)], [2007000032, 2011003276],
    ["2007_000032", "2011_003276"], [np.str_("2007_000032"), np.str_("2011_003276")]])
def test_both_dialects_of_cls_labels_give_the_same_tags(tmp_path, keys):
    content = dict(zip(keys, [vector(0, 14), vector(19)]))
    data = open_dataset("tags", npy(tmp_path, content))
    # place 0 is class 1, aeroplane; 14 is 15, person; 19 is 20, tvmonitor
    assert tags(data) == {"2007_000032": (1, 15), "2011_003276": (20,)}
    assert data.header.classes == VOC and data.header.kinds == ("tags",)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, bool, ">f4"])
def test_vectors_may_be_of_any_number_type(tmp_path, dtype):
    data = open_dataset("tags", npy(tmp_path, {"a": vector(2, dtype=dtype)}))
    assert tags(data) == {"a": (3,)}


def test_old_pickles_and_the_old_module_name_are_read(tmp_path):
    for protocol in (2, 3, 4):
        data = pickle.dumps(np.array({"a": vector(2)}, dtype=object), protocol)
        old = data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        if protocol == 4:  # a short text carries its length
            old = old.replace(b"\x8c\x16numpy.core", b"\x8c\x15numpy.core")
            old = b"\x80\x04" + old[11:]  # without the frame, whose length has changed
        path = tmp_path / f"{protocol}.npy"
        path.write_bytes(pickled(old))
        assert b"numpy.core.multiarray" in old
        assert tags(open_dataset("tags", str(path))) == {"a": (3,)}


def test_coco_vectors_and_other_integers_are_understood(tmp_path):
    data = open_dataset("tags", npy(tmp_path, {9: vector(0, 79, size=80)}))
    assert tags(data) == {"9": (1, 80)} and data.header.classes == DATASETS["coco"]


def test_a_split_chooses_from_the_file(tree, tmp_path):
    path = npy(tmp_path, {"a": vector(1), "b": vector(2)})
    one = str(tree({"one.txt": "b\n"}) / "one.txt")
    assert tags(open_dataset("tags", path, split=one)) == {"b": (3,)}


@pytest.mark.parametrize("value, message", [
    (vector(1, size=19), "a vector of 19 classes, but there are 20"),
    (vector(1) * np.nan, "value nan, not 0 or 1"), (vector(1) / 2, "value 0.5, not 0 or 1"),
    (np.zeros((2, 20)), "a vector is expected"), ([1, 2], "no vector")])
def test_a_bad_vector_is_an_error_of_its_record(tmp_path, value, message):
    data = open_dataset("tags", npy(tmp_path, {"good": vector(1), "bad": value}))
    assert data.get("good").get("tags") == (2,)
    with pytest.raises(RecordError, match=f"^tags: .*{message}"):
        data.get("bad").get("tags")


@pytest.mark.parametrize("content, message", [
    ([1, 2], "an array of int64"), (np.array([{"a": 1}], dtype=object), "not a pickled dict"),
    (np.array("text", dtype=object), "holds a str"), ({(1, 2): vector(1)}, "neither text nor"),
    ({2007000032: vector(1), "2007_000032": vector(1)}, "same key twice: 2007_000032")])
def test_other_numpy_files_are_refused(tmp_path, content, message):
    with pytest.raises(WssegError, match=message):
        open_dataset("tags", npy(tmp_path, content))


@pytest.mark.parametrize("data", [
    b"", b"\x93NUMPY", b"PK\x03\x04", pickled(b""), pickled(b"\x80\x04"), pickled(b"."),
    pickled(b"]."), pickled(b"N."), pickled(b"\x01."), pickled(b"\x80\x04" + b"(" * 100_000)])
def test_damaged_files_are_refused(data):
    with pytest.raises(WssegError, match="not a pickled file of image tags"):
        read_pickled_dict(data, "x.npy")


class Canary:
    """Unpickling this the usual way makes a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def canaries(path):
    code = f"open({str(path)!r}, 'w')"
    yield Canary(os.system, f"touch {path}")
    yield Canary(eval, code)
    yield Canary(exec, code)
    yield Canary(open, str(path), "w")
    yield Canary(getattr, Canary(__import__, "os"), "system")
    yield Canary(np.save, str(path), 1)
    yield Canary(np.load, str(path))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_no_pickle_runs_anything(tmp_path, protocol):
    path = tmp_path / "canary"
    control = tmp_path / "control"
    pickle.loads(pickle.dumps(Canary(os.system, f"touch {control}")))
    assert control.exists()  # the seed works where it is let
    for place in (lambda c: c, lambda c: {"a": c}, lambda c: np.array({"a": c}, dtype=object),
                  lambda c: np.array({c.call[1]: [c]}, dtype=object)):
        for seed in canaries(path):
            with pytest.raises(UnsafeError, match="x.npy: pickle that calls .* refused"):
                read_pickled_dict(pickled(pickle.dumps(place(seed), protocol)), "x.npy")
    assert not path.exists()


@pytest.mark.parametrize("call", [b"cnumpy\nload\n.", b"cnumpy.core.multiarray\nfrombuffer\n.",
                                  b"c_codecs\nlookup\n.", b"cbuiltins\neval\n.",
                                  b"cnumpy\nndarray.tofile\n.", b"\x80\x02Px\n."])
def test_neighbours_of_the_allowed_names_are_unsafe(call):
    with pytest.raises(UnsafeError):
        read_pickled_dict(pickled(call), "x.npy")


@pytest.mark.parametrize("bomb", [
    b"\x96" + b"\xff" * 7 + b"\0.",                                # a bytearray of 2**56 bytes
    b"N" + b"r" + b"\xff" * 4 + b".",                              # a place 2**32 - 1 of the memo
    b"B\xff\xff\xff\x7f.",                                         # bytes of 2 GiB
    b")" + b"2\x86" * 80 + b".",                                   # tuples of tuples by copying
    b"})" + b"q\0h\0\x86" * 80 + b"Ns.",                          # and their hash as a key
])
def test_small_pickles_that_ask_for_much_are_refused_at_once(bomb):
    start = time.perf_counter()
    with pytest.raises(WssegError):
        read_pickled_dict(pickled(bomb), "x.npy")
    assert time.perf_counter() - start < 0.5


def test_a_forged_dtype_never_reaches_numpy():
    """Bytes declared to be objects would make numpy follow them as pointers."""
    array = (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
             b"(I1\n(I1\ntcnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
             b"I00\nS'AAAAAAAA'\ntb")
    outer = np.array({"a": 0}, dtype=object)
    data = pickle.dumps(outer, 0)
    content = read_pickled_dict(pickled(data), "x.npy")
    assert content == {"a": 0}
    with pytest.raises(WssegError, match="not a pickled file"):
        read_pickled_dict(pickled(array + b"."), "x.npy")


def test_tsv_holds_names_or_ids(tree):
    root = tree({"t.tsv": "# key\ttags\r\n2007_000032\taeroplane,person\r\n"
                          "JPEGImages/2007_000039.jpg\t20, 15\r\nempty\t\r\nmy key\tdog\r\n"})
    data = open_dataset("tags", str(root / "t.tsv"))
    assert tags(data) == {"2007_000032": (1, 15), "2007_000039": (15, 20), "empty": (),
                          "my key": (12,)}


@pytest.mark.parametrize("text, message", [
    ("a\tdoge", "line 1: unknown class 'doge'; did you mean 'dog'"), ("a\t21", "class 21 of 21"),
    ("a\t255", "255 is not a class id"), ("a\t" + "9" * 5000, "line 1: ")])
def test_a_bad_tag_is_an_error_of_its_record(tree, text, message):
    data = open_dataset("tags", str(tree({"t.tsv": f"{text}\nb\tdog\n"}) / "t.tsv"))
    assert data.get("b").get("tags") == (12,)
    with pytest.raises(RecordError, match=message):
        data.get("a").get("tags")


@pytest.mark.parametrize("text, error, message", [
    ("a\tdog\nb dog\n", UsageError, ":2: no tags"), ("", UsageError, "no tags found"),
    ("a\tdog\na\tcat\n", UsageError, r"a is listed twice \(lines 1 and 2\)"),
    ("../a\tdog\n", UnsafeError, "t.tsv:1: unsafe name")])
def test_a_bad_tsv_is_refused_at_opening(tree, text, error, message):
    with pytest.raises(error, match=message):
        open_dataset("tags", str(tree({"t.tsv": text}) / "t.tsv"))


MAIN = {"ImageSets/Main/cat_val.txt": "2008_1 -1\n2008_2  1\n2008_3  0\n",
        "ImageSets/Main/dog_val.txt": "2008_1 -1\r\n2008_2  1\r\n2008_3 -1\r\n",
        "ImageSets/Main/val.txt": "2008_1\n"}


@pytest.mark.parametrize("root", ["", "ImageSets/Main", "ImageSets"])
def test_voc_image_sets_count_difficult_as_present(tree, root):
    data = open_dataset("tags", str(tree(MAIN) / root), classes=("background", "cat", "dog"))
    assert tags(data) == {"2008_1": (), "2008_2": (1, 2), "2008_3": (1,)}


def test_voc_image_sets_need_every_class_and_the_same_keys(tree):
    root = str(tree(MAIN))
    names = ("background", "cat", "dog")
    with pytest.raises(UsageError, match="1 of 3 class files are missing: cow_val.txt"):
        open_dataset("tags", root, classes=(*names, "cow"))
    with pytest.raises(UsageError, match="no split 'train': .*cat_SPLIT.txt and found val"):
        open_dataset("tags", root, classes=names, split="train")
    tree({"ImageSets/Main/cat_train.txt": "a 1\n", "ImageSets/Main/dog_train.txt": "b 1\n"})
    with pytest.raises(UsageError, match="no split chosen: .* found train, val"):
        open_dataset("tags", root, classes=names)
    with pytest.raises(WssegError, match="2 keys are not in every class file: a, b"):
        open_dataset("tags", root, classes=names, split="train")


@pytest.mark.parametrize("line", ["a", "a 2", "a 1 1", "a yes"])
def test_a_malformed_image_set_names_its_line(tree, line):
    root = tree({**MAIN, "ImageSets/Main/dog_val.txt": f"2008_1 1\n{line}\n"})
    with pytest.raises(WssegError, match=r"dog_val.txt:2: not a new key"):
        open_dataset("tags", str(root), classes=("background", "cat", "dog"))
