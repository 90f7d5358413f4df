import os
import pickle
from functools import partial

import numpy as np
import pytest

from wsseg.data import FORMATS, open_dataset
from wsseg.data.base import Dataset, LazyRecord, choose, clip_box, few, make_header
from wsseg.data.files import MaskFile, listing, photo_members, read_small, size_of
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError
from wsseg.io.record import Record


def dataset(keys, read=Record):
    return Dataset("here", make_header(["label"], ("a", "b"), keys), keys, read)


def make(value, calls=None):
    if calls is not None:
        calls.append(value)
    if value is None:
        raise RecordError("it is broken")
    return value


def test_records_come_in_the_order_of_the_keys():
    data = dataset(["b", "a"])
    assert [record.key for record in data] == ["b", "a"] == list(data.keys())
    assert data.end is None and data.header.count == 2 and data.header.classes == ("a", "b")


def test_an_unknown_key_is_a_key_error():
    with pytest.raises(KeyError):
        dataset(["a"]).get("b")


def test_a_bad_record_does_not_end_the_iteration():
    def read(key):
        if key == "b":
            raise RecordError("bad")
        return Record(key)
    records = iter(dataset(["a", "b", "c"], read))
    assert next(records).key == "a"
    with pytest.raises(RecordError):
        next(records)
    assert next(records).key == "c"


def test_no_keys_double_keys_and_unsafe_keys_are_refused():
    with pytest.raises(UsageError, match="no records"):
        dataset([])
    with pytest.raises(WssegError, match="twice: a"):
        dataset(["a", "b", "a"])
    with pytest.raises(UnsafeError):
        dataset(["a/../b"])


def test_a_deferred_value_is_made_once_and_only_on_demand():
    calls = []
    record = LazyRecord("a")
    record.defer(partial(make, (1, 2), calls), "label", "instance")
    assert record.kinds() == {"label", "instance"} and "label" in record and not calls
    assert (record.get("label"), record.get("instance"), record.get("label")) == (1, 2, 1)
    assert calls == [(1, 2)]


def test_a_dropped_or_replaced_value_does_not_come_back():
    record = LazyRecord("a")
    record.defer(partial(make, (1, 2, 3)), "label", "instance", "conf")
    record.drop("label")
    record.set("conf", 9)
    assert record.get("instance") == 2
    assert record.kinds() == {"instance", "conf"} and record.get("conf") == 9
    with pytest.raises(RecordError, match="has no label"):
        record.get("label")


def test_an_error_while_making_names_the_kind():
    record = LazyRecord("a")
    record.defer(partial(make, None), "boxes")
    with pytest.raises(RecordError, match="^boxes: it is broken$"):
        record.get("boxes")
    assert "boxes" in record  # still said to be there, so that no tool takes it for absent


def test_a_lazy_record_travels_to_a_worker_and_packs():
    record = LazyRecord("a", names=("x", "y"))
    record.defer(partial(make, (1,)), "tags", )
    again = pickle.loads(pickle.dumps(record))
    assert again.pack().members == (("tags.json", b'{"classes":[1]}\n'),)


def test_missing_keys_are_counted_and_five_are_named():
    with pytest.raises(UsageError, match=r"6 of 7 keys .*: b0, b1, b2, b3, b4 \.\.\.$"):
        choose(["a"], ["a"] + [f"b{i}" for i in range(6)], "here")
    assert choose({"b", "a"}, None, "here") == ["a", "b"]
    assert few([1, 2]) == "1, 2"


def test_boxes_are_cut_to_the_image():
    assert clip_box((-3, 1, 12, 30), (20, 10), "b") == (0, 1, 10, 20)
    assert clip_box((-3, 1, 12, 30), None, "b") == (0, 1, 12, 30)
    for outside in ((10, 0, 12, 5), (-4, 0, 0, 5), (0, 20, 5, 25)):
        with pytest.raises(RecordError, match="outside of the image of 20x10"):
            clip_box(outside, (20, 10), "b")
    for empty in ((3, 1, 3, 2), (4, 1, 3, 2), (0, 2, 3, 1)):
        with pytest.raises(RecordError, match="b is empty"):
            clip_box(empty, (20, 10), "b")


def test_listing_ignores_case_of_endings_and_hidden_files(tree):
    root = tree({"a.JPG": "", "b.png": "", ".c.png": "", "d.txt": "", ".png": ""})
    assert list(listing(str(root), (".jpg", ".png"))) == ["a", "b"]
    assert listing(str(root / "none"), (".png",)) == {}


def test_files_that_make_one_key_are_refused_by_name(tree):
    root = tree({"a.jpg": "", "a.png": "", "b.jpg": "", "c.jpg": "", "C.jpg": ""})
    with pytest.raises(WssegError, match="2 files .*: a.jpg and a.png, C.jpg and c.jpg"):
        listing(str(root), (".jpg", ".png"))


def test_photos_of_every_format_are_members(tree):
    from PIL import Image

    root = tree({"a.JPEG": (4, 6), "b.png": np.zeros((4, 6, 3), np.uint8)})
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    Image.fromarray(pixels).save(root / "c.bmp")
    assert list(photo_members(str(root / "a.JPEG"))) == ["jpg"]
    assert list(photo_members(str(root / "b.png"))) == ["image.png"]
    assert photo_members(None) == {}
    record = LazyRecord("c", photo_members(str(root / "c.bmp")))
    np.testing.assert_array_equal(record.get("image"), pixels)
    assert record.pack().members[0][1].startswith(b"\x89PNG")


def test_a_mask_of_another_size_than_its_photo_is_refused(tree):
    root = tree({"p.jpg": (4, 6), "good.png": np.zeros((4, 6), np.uint8),
                 "turned.png": np.zeros((6, 4), np.uint8), "half.png": np.zeros((2, 3), np.uint8)})
    photo = str(root / "p.jpg")
    assert MaskFile(str(root / "good.png"), photo).read()
    with pytest.raises(RecordError, match="6x4 pixels, but its photo p.jpg of 4x6; transposed"):
        MaskFile(str(root / "turned.png"), photo).read()
    with pytest.raises(RecordError, match="2x3 pixels, but its photo p.jpg of 4x6$"):
        MaskFile(str(root / "half.png"), photo).read()


def test_the_size_of_a_photo_with_a_long_header_is_found(tree):
    root = tree({"p.jpg": (4, 6)})
    data = (root / "p.jpg").read_bytes()
    comment = b"\xff\xfe\xff\xff" + bytes(65533)  # a comment segment of 64 KiB before the frame
    (root / "long.jpg").write_bytes(data[:2] + comment * 2 + data[2:])
    assert size_of(str(root / "long.jpg")) == (4, 6)


def test_what_is_no_regular_file_is_refused_without_a_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    for name in ("pipe", "dangling"):
        with pytest.raises(RecordError):
            size_of(str(tmp_path / name))
        with pytest.raises(RecordError):
            read_small(str(tmp_path / name), 100)


def test_odd_names_are_keys_and_unsafe_ones_are_refused(tree):
    odd = ["my photo", "-rf", "it's", "\u00e9t\u00e9", "e\u0301t\u00e9", "\U0001f600", "a.b", "50%"]
    root = tree({f"in/{name}.xml": "<annotation/>" for name in odd})
    (root / "in").rename(root / "Annotations")
    assert list(open_dataset("voc", str(root)).keys()) == sorted(odd)
    for bad in (b"a\nb.xml", b"a\xff.xml", b"a\\b.xml"):
        path = bytes(root / "Annotations") + b"/" + bad
        open(path, "w").close()
        with pytest.raises(UnsafeError) as caught:
            open_dataset("voc", str(root))
        assert str(caught.value).isprintable()
        os.unlink(path)


def test_a_file_above_its_limit_is_refused(tree):
    path = str(tree({"x": b"12345"}) / "x")
    assert read_small(path, 5) == b"12345"
    with pytest.raises(RecordError, match="5 bytes: more than 4"):
        read_small(path, 4)


def test_unknown_formats_and_missing_roots_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="voc, sbd, cityscapes, coco"):
        open_dataset("voc2012", str(tmp_path))
    with pytest.raises(UsageError, match="no such file or folder"):
        open_dataset("voc", str(tmp_path / "none"))


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_folder_is_a_usage_error_that_says_what_was_looked_for(name, tmp_path):
    with pytest.raises(UsageError, match=r"looked for|class names are unknown"):
        open_dataset(name, str(tmp_path))
