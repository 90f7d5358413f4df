import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.data import open_dataset
from wsseg.data.names import DATASETS
from wsseg.data.voc import parse_voc_xml
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError

VOC = DATASETS["voc"]
HEAD = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>" \
       "</bndbox></part>"


def obj(name, x0, y0, x1, y1, extra=""):
    return (f"<object>{extra}<name>{name}</name><difficult>1</difficult><bndbox><xmax>{x1}</xmax>"
            f"<xmin>{x0}</xmin><ymin>{y0}</ymin><ymax>{y1}</ymax></bndbox>{extra}</object>")


def xml(*objects, size=(40, 50)):
    shape = "" if size is None else (f"<size><width>{size[1]}</width><height>{size[0]}</height>"
                                     "<depth>3</depth></size>")
    return f"<annotation><filename>a.jpg</filename>{shape}{''.join(objects)}</annotation>"


def boxes(*objects, size=(40, 50)):
    return parse_voc_xml(xml(*objects, size=size).encode(), VOC)


def labels(*rows):
    return np.array(rows, np.uint8)


FILES = {
    "JPEGImages/a.jpg": (2, 3), "JPEGImages/b.jpg": (40, 50), "JPEGImages/c.jpg": (2, 3),
    "SegmentationClass/a.png": labels([0, 15, 255], [8, 15, 15]),
    "SegmentationObject/a.png": labels([0, 1, 255], [3, 1, 1]),
    "Annotations/b.xml": xml(obj("dog", 1, 1, 50, 40)),
    "ImageSets/Segmentation/val.txt": "a\r\nc\r\n",
    "ImageSets/Main/boxed.txt": "b\n",
}


def year(**changes):
    files = {**FILES, **changes}
    return {f"VOCdevkit/VOC2012/{name}": c for name, c in files.items() if c is not None}


@pytest.mark.parametrize("root", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_tree_is_found_from_any_of_its_folders(tree, root):
    data = open_dataset("voc", str(tree(year()) / root))
    assert list(data.keys()) == ["a", "b"]  # c has neither mask nor XML
    assert data.header.kinds == ("boxes", "image", "instance", "label")
    assert data.header.classes == VOC
    assert [sorted(r.kinds()) for r in data] == [["image", "instance", "label"],
                                                 ["boxes", "image"]]


def test_two_years_must_be_chosen_from(tree):
    root = tree({"VOC2007/JPEGImages/a.jpg": (2, 3), "VOC2012/JPEGImages/a.jpg": (2, 3)})
    with pytest.raises(UsageError, match="holds VOC2007, VOC2012: name one"):
        open_dataset("voc", str(root))


def test_masks_keep_their_indices_and_photos_their_pixels(tree):
    record = open_dataset("voc", str(tree(year()))).get("a")
    np.testing.assert_array_equal(record.get("label"), FILES["SegmentationClass/a.png"])
    assert record.get("image").shape == (2, 3, 3)
    assert not record.canonical and record.names == VOC


def test_objects_take_their_class_from_the_class_mask(tree):
    value = open_dataset("voc", str(tree(year()))).get("a").get("instance")
    assert value.ids.dtype == np.uint16
    assert value.ids.tolist() == [[0, 1, 0], [3, 1, 1]]  # void is of no object
    assert [(s.id, s.cls, s.thing) for s in value.segments] == [(1, 15, True), (3, 8, True)]


def test_most_pixels_that_are_not_void_decide_the_class(tree):
    changed = {"SegmentationClass/a.png": labels([255, 255, 255], [8, 15, 15]),
               "SegmentationObject/a.png": labels([1, 1, 1], [1, 1, 1])}
    value = open_dataset("voc", str(tree(year(**changed)))).get("a").get("instance")
    assert [(s.id, s.cls) for s in value.segments] == [(1, 15)]  # 3 void, 2 persons, 1 cat


def test_object_and_class_masks_of_two_sizes_are_a_record_error(tree):
    files = year(**{"SegmentationObject/a.png": labels([1, 1])})
    root = tree({name: f for name, f in files.items() if "JPEGImages" not in name})
    with pytest.raises(RecordError, match="SegmentationObject is of 1x2 .*Class of 2x3"):
        open_dataset("voc", str(root)).get("a").get("instance")


def test_an_object_without_a_class_is_a_record_error(tree):
    changed = {"SegmentationObject/a.png": labels([2, 1, 255], [3, 1, 1])}
    data = open_dataset("voc", str(tree(year(**changed))))
    with pytest.raises(RecordError, match="instance: object 2 has no class"):
        data.get("a").get("instance")


def test_a_split_is_read_from_segmentation_then_main_then_a_path(tree):
    root = tree({**year(), "my.txt": "/JPEGImages/a.jpg /SegmentationClass/a.png\n"})
    for split, keys in (("val", ["a", "c"]), ("boxed", ["b"]), (str(root / "my.txt"), ["a"])):
        assert list(open_dataset("voc", str(root), split=split).keys()) == keys


def test_a_listed_photo_without_a_mask_is_noted(tree):
    data = open_dataset("voc", str(tree(year())), split="val")
    assert data.notes == ("1 of 2 records have no mask: c",)
    assert data.get("c").kinds() == {"image"}


def test_listed_keys_with_no_file_are_counted(tree):
    root = tree({**year(), "my.txt": "a\nx1\nx2\n"})
    with pytest.raises(UsageError, match="2 of 3 keys of the list have nothing here: x1, x2"):
        open_dataset("voc", str(root), split=str(root / "my.txt"))


def test_missing_photos_are_counted_unless_there_are_none_at_all(tree, tmp_path):
    root = tree(year())
    (root / "VOCdevkit/VOC2012/JPEGImages/b.jpg").unlink()
    with pytest.raises(WssegError, match="1 of 2 records have no photo: b"):
        open_dataset("voc", str(root))
    for photo in (root / "VOCdevkit/VOC2012/JPEGImages").iterdir():
        photo.unlink()
    assert open_dataset("voc", str(root)).get("b").kinds() == {"boxes"}


def test_segmentationclassaug_stands_in_only_for_absent_masks(tree):
    aug = {"SegmentationClassAug/c.png": labels([1, 1, 1], [1, 1, 1])}
    root = tree(year(**aug))
    assert "c" not in open_dataset("voc", str(root)).keys()
    (root / "VOCdevkit/VOC2012/SegmentationClass/a.png").unlink()
    assert open_dataset("voc", str(root)).get("c").get("label").tolist() == [[1] * 3] * 2


def test_a_broken_mask_is_an_error_of_its_record_alone(tree):
    data = open_dataset("voc", str(tree(year(**{"SegmentationClass/c.png": b"<html>"}))))
    assert data.get("a").get("label") is not None
    with pytest.raises(RecordError, match=r"label: not a PNG \(HTML or XML\)"):
        data.get("c").get("label")


def test_a_mask_larger_than_its_photo_is_a_record_error(tree):
    root = tree(year(**{"SegmentationClass/c.png": np.zeros((3, 2), np.uint8)}))
    with pytest.raises(RecordError, match="c.png is of 3x2 pixels.* of 2x3; transposed"):
        open_dataset("voc", str(root)).get("c").get("label")


def test_a_colour_mask_is_a_record_error(tree):
    root = tree(year(**{"SegmentationClass/c.png": np.zeros((2, 3, 3), np.uint8)}))
    with pytest.raises(RecordError, match="colour image"):
        open_dataset("voc", str(root)).get("c").get("label")


def test_an_xml_of_another_size_than_its_photo_is_a_record_error(tree):
    root = tree(year(**{"Annotations/b.xml": xml(size=(50, 40))}))
    with pytest.raises(RecordError, match="b.xml is of 50x40 pixels.* of 40x50; transposed"):
        open_dataset("voc", str(root)).get("b").get("boxes")


def test_the_photo_gives_the_size_that_an_xml_lacks(tree):
    root = tree(year(**{"Annotations/b.xml": xml(obj("cat", 41, 31, 60, 60), size=(0, 0))}))
    value = open_dataset("voc", str(root)).get("b").get("boxes")
    assert value.size == (40, 50) and value.xyxy.tolist() == [[40, 30, 50, 40]]


def test_one_based_inclusive_becomes_zero_based_half_open():
    value = boxes(obj("person", 1, 1, 50, 40), obj("dog", 3, 4, 3, 4))
    assert value.xyxy.tolist() == [[0, 0, 50, 40], [2, 3, 3, 4]]  # whole image; one pixel
    assert value.classes.tolist() == [15, 12] and value.size == (40, 50)
    assert value.xyxy.dtype == np.float64 and value.classes.dtype == np.int64


def test_floats_are_kept():
    assert boxes(obj("dog", "10.5", 2, "2.05e1", "30.25")).xyxy.tolist() == [[9.5, 1, 20.5, 30.25]]


def test_parts_are_no_boxes_and_give_no_name():
    value = boxes(obj("person", 2, 2, 9, 9, extra=HEAD))
    assert value.classes.tolist() == [15] and value.xyxy.tolist() == [[1, 1, 9, 9]]


def test_a_picture_without_objects_has_no_boxes():
    assert boxes().xyxy.shape == (0, 4) and boxes().classes.shape == (0,)


def test_boxes_partly_outside_are_cut():
    assert boxes(obj("dog", 0, -3, 60, 45)).xyxy.tolist() == [[0, 0, 50, 40]]
    assert boxes(obj("dog", 0, -3, 60, 45), size=None).xyxy.tolist() == [[0, 0, 60, 45]]


@pytest.mark.parametrize("bad, message", [
    (obj("dog", 51, 1, 60, 10), "outside of the image of 40x50"),
    (obj("dog", 9, 1, 8, 10), "empty"),
    (obj("dog", "9.4", 1, "9.2", 10), "empty"),
    (obj("dog", "nan", 1, 8, 10), "<xmin> is 'nan', not a finite number"),
    (obj("dog", "1e999", 1, 8, 10), "not a finite number"),
    (obj("dog", "1_0", 1, 8, 10), "not a finite number"),
    (obj("", 1, 1, 8, 10), r"object\[0\] has an empty <name>"),
    (obj("dining table", 1, 1, 8, 10), "unknown class 'dining table'; did you mean 'diningtable'"),
    (obj("head", 1, 1, 8, 10), "unknown class 'head'"),
    (obj("background", 1, 1, 8, 10), "a class of its own"),
    ("<object><name>dog</name></object>", r"object\[0\] has no <bndbox>"),
    (obj("dog", 1, 1, 8, 10).replace("xmin", "x"), "has no <xmin>"),
])
def test_malformed_objects_are_record_errors(bad, message):
    with pytest.raises(RecordError, match=message):
        boxes(bad)


box = st.tuples(st.integers(1, 50), st.integers(1, 50), st.integers(1, 40), st.integers(1, 40),
                st.integers(1, 20))


@given(st.lists(box, max_size=5))
def test_voc_boxes_survive_the_round_trip(items):
    written = [(min(a, b), min(c, d), max(a, b), max(c, d), cls) for a, b, c, d, cls in items]
    value = boxes(*(obj(VOC[cls], *edges) for *edges, cls in written))
    again = [(x0 + 1, y0 + 1, x1, y1, cls)
             for (x0, y0, x1, y1), cls in zip(value.xyxy.tolist(), value.classes.tolist())]
    assert again == written
    areas = (value.xyxy[:, 2] - value.xyxy[:, 0]) * (value.xyxy[:, 3] - value.xyxy[:, 1])
    assert areas.tolist() == [(x1 - x0 + 1) * (y1 - y0 + 1) for x0, y0, x1, y1, _ in written]


BOMB = ('<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa">' +
        "".join(f'<!ENTITY {n} "{f"&{m};" * 10}">' for m, n in zip("abcdefghi", "bcdefghij")) +
        "]><annotation>&j;</annotation>")
EXTERNAL = ('<!DOCTYPE annotation [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
            "<annotation><object><name>&x;</name></object></annotation>")


@pytest.mark.parametrize("text", [BOMB, EXTERNAL, "<!DOCTYPE annotation><annotation/>"])
def test_entities_and_dtds_are_unsafe(text):
    with pytest.raises(UnsafeError, match="DTD"):
        parse_voc_xml(text.encode(), VOC)


@pytest.mark.parametrize("data, message", [
    (b"<annotation>" + b"<object>" * 100_000, "deeper than 64"),
    (b"<annotation>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</annotation>", "deeper than 64"),
    (b"<annotation><object>", "bad XML"),
    (b"<annotation>\xff</annotation>", "bad XML"),
    (b'<?xml version="1.0" encoding="no-such"?><annotation/>', "bad XML"),
    (b"", "not XML but an empty file"),
    (b"\xff\xd8\xff\xe0", "not XML but a JPEG"),
    (b"<html/>", "XML of <html>, not of <annotation>"),
    (b" " * (1 << 24) + b"<annotation/>", "more than 16777216"),
])
def test_hostile_xml_is_a_record_error(data, message):
    with pytest.raises(RecordError, match=message):
        parse_voc_xml(data, VOC)


def test_a_huge_xml_file_is_refused_before_it_is_read(tree):
    root = tree(year())
    with open(root / "VOCdevkit/VOC2012/Annotations/b.xml", "r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(RecordError, match="more than 16777216"):
        open_dataset("voc", str(root)).get("b").get("boxes")
