import json

import numpy as np
import pytest
from PIL import Image

from wsseg.data import open_dataset
from wsseg.data.coco_panoptic import read_ids
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError

BIG = 5 + 256 * 2 + 65536 * 3  # colour (5, 2, 3)
IDS = np.array([[BIG, BIG, 0, 7], [9, 9, 9, 7]])
CATEGORIES = [{"id": 1, "name": "person", "isthing": 1}, {"id": 200, "name": "rug", "isthing": 0},
              {"id": 3, "name": "car", "isthing": 1}]
SEGMENTS = [{"id": 9, "category_id": 200, "area": 3, "iscrowd": 0},
            {"id": BIG, "category_id": 3, "area": 2, "iscrowd": 0},
            {"id": 7, "category_id": 1, "area": 2, "iscrowd": 1}]


def colours(ids):
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)


def files(segments=SEGMENTS, ids=IDS, **annotation):
    annotation = {"image_id": 4, "file_name": "p.png", "segments_info": segments, **annotation}
    content = {"images": [{"id": 4, "file_name": "p.jpg", "height": 2, "width": 4}],
               "categories": CATEGORIES, "annotations": [annotation]}
    return {"panoptic_val.json": json.dumps(content), "panoptic_val/p.png": colours(ids),
            "val/p.jpg": (2, 4)}


def record(tree, *arguments, **fields):
    return open_dataset("coco-panoptic", str(tree(files(*arguments, **fields)))).get("p")


def test_segments_are_numbered_in_their_order_without_crowds(tree):
    value = record(tree).get("instance")
    # rug is class 3, car 2, person 1, by ascending category id after the reserved 0
    assert [(s.id, s.cls, s.score, s.thing) for s in value.segments] == [
        (1, 3, 1.0, False), (2, 2, 1.0, True)]
    assert value.ids.tolist() == [[2, 2, 0, 0], [1, 1, 1, 0]] and value.ids.dtype == np.uint16


def test_labels_are_contiguous_ids_with_void_ignored(tree):
    label = record(tree).get("label")
    assert label.tolist() == [[2, 2, 255, 1], [3, 3, 3, 1]]  # the crowd keeps its class
    assert label.dtype == np.uint8


def test_the_header_tells_names_and_kinds(tree):
    data = open_dataset("coco-panoptic", str(tree(files())))
    assert data.header.classes == ("unlabeled", "person", "car", "rug")
    assert data.header.kinds == ("image", "instance", "label") and data.header.count == 1
    assert data.get("p").kinds() == {"image", "instance", "label"}


def test_the_json_itself_and_its_split_open_the_same_set(tree):
    root = tree(files())
    for path, split in ((root, "val"), (root / "panoptic_val.json", None)):
        assert list(open_dataset("coco-panoptic", str(path), split=split).keys()) == ["p"]


@pytest.mark.parametrize("segments, message", [
    (SEGMENTS[1:], "PNG that the JSON does not list: 9$"),
    ([*SEGMENTS, {"id": 11, "category_id": 1}], "JSON that the PNG does not show: 11$"),
    ([{**SEGMENTS[0], "area": 4}, *SEGMENTS[1:]], r"area differs .*: 9 \(4, shown 3\)"),
    ([{**SEGMENTS[0], "id": 0}, *SEGMENTS[1:]], "id 0: 0 means VOID"),
    ([{**SEGMENTS[0], "id": 1 << 24}, *SEGMENTS[1:]], "id 16777216: .*2\\*\\*24"),
    ([SEGMENTS[0], *SEGMENTS], "the same id twice: 9"),
    ([{**SEGMENTS[0], "id": "9"}], "no list of segments with an integer id"),
    (None, "no list of segments"),
    ([{**SEGMENTS[0], "category_id": 2}, *SEGMENTS[1:]], r"segments_info\[0\].category_id is 2"),
])
def test_a_png_and_a_list_that_disagree_are_a_record_error(tree, segments, message):
    item = record(tree, segments)
    for kind in ("instance", "label"):
        with pytest.raises(RecordError, match=message):
            item.get(kind)


def test_an_empty_list_needs_an_empty_png(tree):
    item = record(tree, [], np.zeros((2, 4), int))
    assert item.get("label").tolist() == [[255] * 4] * 2 and item.get("instance").segments == ()


def test_a_png_or_photo_of_another_size_is_a_record_error(tree):
    with pytest.raises(RecordError, match="p.png is of 4x2 pixels, the image in the JSON of 2x4"):
        record(tree, SEGMENTS, IDS.T).get("label")
    root = tree({**files(), "val/p.jpg": (4, 2)})
    with pytest.raises(RecordError, match="its photo p.jpg of 4x2; transposed"):
        open_dataset("coco-panoptic", str(root)).get("p").get("label")


def png(tree, array):
    return (tree({"x.png": array}) / "x.png").read_bytes()


def test_ids_are_read_from_colours(tree):
    np.testing.assert_array_equal(read_ids(png(tree, colours(IDS))), IDS)


def test_pngs_that_cannot_hold_ids_are_refused(tree):
    for array, message in ((IDS.astype(np.uint8), "8-bit of colour type 3"),
                           (IDS.astype(np.uint16), "16-bit of colour type 0"),
                           (np.zeros((2, 4, 4), np.uint8), "8-bit of colour type 6")):
        with pytest.raises(RecordError, match=message):
            read_ids(png(tree, array))
    with pytest.raises(RecordError, match="not a PNG .a JPEG"):
        read_ids(b"\xff\xd8\xff")


def test_no_flipped_bit_and_no_cut_changes_an_id_in_silence(tree):
    ids = np.random.default_rng(0).integers(0, 1 << 24, (9, 7))
    data = png(tree, colours(ids))
    refused = 0
    for bit in range(len(data) * 8):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        try:
            np.testing.assert_array_equal(read_ids(bytes(broken)), ids)
        except (RecordError, UnsafeError):
            refused += 1
    assert refused >= (len(data) - 12) * 8  # all but the end chunk, which holds no pixel
    for end in range(0, len(data) - 12, 5):
        with pytest.raises(RecordError):
            read_ids(data[:end])


def test_a_bomb_is_refused_by_its_header():
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (10 ** 5).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    with pytest.raises(UnsafeError, match="refused before decoding"):
        read_ids(header + bytes(30))


def test_missing_pngs_and_folders_are_named(tree):
    root = tree(files())
    (root / "panoptic_val/p.png").unlink()
    with pytest.raises(WssegError, match="1 of 1 PNGs are missing: p.png"):
        open_dataset("coco-panoptic", str(root))
    (root / "panoptic_val").rmdir()
    with pytest.raises(UsageError, match="no PNGs found"):
        open_dataset("coco-panoptic", str(root))


@pytest.mark.parametrize("name", ["../p.png", "/p.png", None, "..", "a\\b.png"])
def test_png_names_that_leave_their_folder_are_refused(tree, name):
    with pytest.raises(WssegError):
        record(tree, file_name=name)


def test_an_annotation_of_an_unlisted_image_is_refused(tree):
    with pytest.raises(WssegError, match="1 annotations are of an image that is not listed: 5"):
        record(tree, image_id=5)


def test_two_annotations_of_one_image_are_refused(tree):
    content = files()
    data = json.loads(content["panoptic_val.json"])
    data["annotations"] *= 2
    content["panoptic_val.json"] = json.dumps(data)
    with pytest.raises(WssegError, match=r"annotations\[\].image_id are there twice: 4"):
        open_dataset("coco-panoptic", str(tree(content)))


def test_a_photo_need_not_be_there(tree):
    root = tree(files())
    (root / "val/p.jpg").unlink()
    data = open_dataset("coco-panoptic", str(root))
    assert data.header.kinds == ("instance", "label") and "image" not in data.get("p")
    assert Image.open(root / "panoptic_val/p.png").mode == "RGB"
