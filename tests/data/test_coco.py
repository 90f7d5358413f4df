import json
import pickle

import numpy as np
import pytest
from pycocotools import mask as oracle

from wsseg.data import open_dataset
from wsseg.data.rle import mask_of_runs
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError

SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]  # x 1..3, y 1..2
IMAGES = [{"id": 7, "file_name": "b.jpg", "height": 6, "width": 8},
          {"id": 3, "file_name": "a.jpg", "height": 6, "width": 8}]
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "cup"}]


def note(number, category=18, image=7, **fields):
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": 0,
            "bbox": [1, 1, 3, 2], "segmentation": [SQUARE], **fields}


def content(*annotations, **fields):
    return json.dumps({"images": IMAGES, "categories": CATEGORIES,
                       "annotations": list(annotations), **fields})


def opened(tree, *annotations, **fields):
    return open_dataset("coco", str(tree({"x.json": content(*annotations, **fields)}) / "x.json"))


def masks(record):
    value = record.get("masks")
    return [mask_of_runs(runs, value.size) for runs in value.runs]


def test_categories_are_numbered_from_1_by_their_ids(tree):
    data = opened(tree, note(1, 90), note(2, 1), note(3, 18, image=3))
    assert data.header.classes == ("background", "person", "dog", "cup")
    assert data.header.kinds == ("boxes", "masks", "tags") and list(data.keys()) == ["a", "b"]
    assert data.get("b").get("boxes").classes.tolist() == [3, 1]
    assert data.get("b").get("tags") == (1, 3) and data.get("a").get("tags") == (2,)


def test_boxes_become_corners_and_are_cut_to_the_image(tree):
    value = opened(tree, note(1, bbox=[0.5, 1.25, 2, 3]), note(2, bbox=[-1, 4, 20, 20])
                   ).get("b").get("boxes")
    assert value.xyxy.tolist() == [[0.5, 1.25, 2.5, 4.25], [0, 4, 8, 6]] and value.size == (6, 8)


def test_polygons_of_one_object_are_united(tree):
    other = [3, 2, 7, 2, 7, 5, 3, 5]  # x 3..6, y 2..4
    want = np.zeros((6, 8), bool)
    want[1:3, 1:4] = want[2:5, 3:7] = True
    record = opened(tree, note(1, segmentation=[SQUARE, other])).get("b")
    np.testing.assert_array_equal(masks(record)[0], want)
    assert record.get("masks").scores.tolist() == [1.0]


@pytest.mark.parametrize("form", ["list", "text"])
def test_run_lengths_are_read_in_both_forms(tree, form):
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:6] = 1
    counts = oracle.encode(np.asfortranarray(mask))["counts"].decode()
    if form == "list":  # column 3 starts at 3 * 6: 20 off, 2 on, 4 off, 2 on, 4 off, 2 on, 14 off
        counts = [20, 2, 4, 2, 4, 2, 14]
    record = opened(tree, note(1, segmentation={"size": [6, 8], "counts": counts})).get("b")
    np.testing.assert_array_equal(masks(record)[0], mask.astype(bool))


def test_crowds_have_no_box_and_a_mask_that_says_so(tree):
    crowd = note(1, 1, iscrowd=1, segmentation={"size": [6, 8], "counts": [40, 8]})
    data = opened(tree, crowd, note(2), note(3, image=3))
    record = data.get("b")
    found = record.get("masks")
    assert record.get("boxes").classes.tolist() == [2] and found.classes.tolist() == [2, 1]
    assert found.crowd.tolist() == [False, True] and found.runs[1] == (40, 8)
    assert data.get("a").get("masks").crowd is None
    assert record.get("tags") == (1, 2)
    assert data.notes == ("1 crowd annotations have no box",)


def test_a_crowd_without_outline_is_only_present(tree):
    record = opened(tree, note(1, 1, iscrowd=1, segmentation=[]), note(2)).get("b")
    assert record.get("tags") == (1, 2) and record.get("masks").classes.tolist() == [2]


def test_masks_have_the_areas_that_the_file_states(tree):
    data = opened(tree, note(1, area=5.5), note(2), note(3, image=3))
    assert data.get("b").get("masks").areas.tolist() == [5.5, 6]
    assert data.get("a").get("masks").areas is None
    with pytest.raises(RecordError, match="area is 'x', not a finite number"):
        opened(tree, note(1, area="x")).get("b").get("masks")


def test_annotations_without_area_are_left_out_and_counted(tree):
    data = opened(tree, note(1, bbox=[3, 3, 0, 2]), note(2), note(3, segmentation=[[1, 1, 2, 2]]))
    record = data.get("b")
    assert len(record.get("boxes").classes) == 2 == len(record.get("masks").runs)
    assert record.get("masks").runs[1] == (48,)
    assert data.notes == ("1 annotations of no width or height are left out",
                          "1 polygons of fewer than three points enclose nothing")


def test_an_image_without_annotations_is_a_record_without_objects(tree):
    record = opened(tree, note(1)).get("a")
    assert record.get("tags") == () and record.get("boxes").xyxy.shape == (0, 4)
    assert record.get("masks").runs == ()


def test_a_file_of_boxes_alone_has_no_masks(tree):
    data = opened(tree, note(1, segmentation=[]))
    assert data.header.kinds == ("boxes", "tags") and data.get("b").kinds() == {"boxes", "tags"}


def test_given_class_names_decide_the_ids(tree):
    path = str(tree({"x.json": content(note(1, 1))}) / "x.json")
    names = ("background", "cup", "dog", "person", "sofa")
    data = open_dataset("coco", path, classes=names)
    assert data.get("b").get("tags") == (3,) and data.header.classes == names
    with pytest.raises(UsageError, match="unknown class 'dog'; did you mean 'dogs'"):
        open_dataset("coco", path, classes=("background", "cup", "dogs", "person"))


def test_folders_and_photos_are_found_as_coco_ships_them(tree):
    root = tree({"annotations/instances_val.json": content(note(1)),
                 "annotations/instances_train.json": content(note(1)),
                 "val/a.jpg": (6, 8), "val/b.jpg": (6, 8), "images/train/b.jpg": (6, 8),
                 "images/train/a.jpg": (6, 8), "one.txt": "b\n"})
    for split, folder in (("val", "val"), ("train", "images/train")):
        record = open_dataset("coco", str(root), split=split).get("b")
        assert record.members["jpg"].path == str(root / folder / "b.jpg")
    with pytest.raises(UsageError, match="no split chosen: it has train, val"):
        open_dataset("coco", str(root))
    data = open_dataset("coco", str(root / "annotations/instances_val.json"),
                        split=str(root / "one.txt"))
    assert list(data.keys()) == ["b"]


def test_a_folder_with_one_json_needs_no_split(tree):
    root = tree({"annotations/instances_val.json": content(note(1)), "one.txt": "b\n"})
    assert len(open_dataset("coco", str(root)).keys()) == 2
    assert list(open_dataset("coco", str(root), split=str(root / "one.txt")).keys()) == ["b"]
    with pytest.raises(UsageError, match=r"no split 'test' \(it has val\)"):
        open_dataset("coco", str(root), split="test")


def test_missing_photos_are_counted(tree):
    root = tree({"annotations/instances_val.json": content(note(1)), "val/a.jpg": (6, 8)})
    with pytest.raises(WssegError, match="1 of 2 records have no photo: b"):
        open_dataset("coco", str(root), split="val")


def test_a_photo_of_another_size_is_a_record_error(tree):
    root = tree({"annotations/instances_val.json": content(note(1)), "val/a.jpg": (6, 8),
                 "val/b.jpg": (8, 6)})
    with pytest.raises(RecordError, match="boxes: .*6x8 pixels.*b.jpg of 8x6; transposed"):
        open_dataset("coco", str(root), split="val").get("b").get("boxes")


@pytest.mark.parametrize("fields, message", [
    ({"segmentation": {"size": [6, 9], "counts": [54]}}, r"size is \[6, 9\], but .*\[6, 8\]"),
    ({"segmentation": {"size": [6, 8], "counts": [40]}}, "covers 40 pixels"),
    ({"segmentation": {"size": [6, 8]}}, "neither a list"),
    ({"segmentation": None}, "this object has only a box"),
    ({"segmentation": [[1, 1, 2, 2, 3]]}, "has 5 numbers"),
    ({"segmentation": [["1", 1, 2, 2, 3, 3]]}, r"\[0\]\[0\] is '1', not a finite number"),
    ({"segmentation": [{"x": 1}]}, "not a finite number"),
    ({"segmentation": [[1, 1, 1e400, 2, 3, 3]]}, "not finite or more than"),
    ({"segmentation": [[1, 1, 10 ** 400, 2, 3, 3]]}, "not a finite number"),
    ({"segmentation": [[1, 1, 1e30, 2, 3, 3]]}, "not finite or more than"),
    ({"category_id": 99}, "category_id is 99: no such category"),
    ({"category_id": [1]}, "no such category"),
])
def test_a_bad_segmentation_is_an_error_of_its_record(tree, fields, message):
    text = content(note(1, image=3), note(2, **fields)).replace("Infinity", "1e400")
    data = open_dataset("coco", str(tree({"x.json": text}) / "x.json"))
    assert len(masks(data.get("a"))) == 1
    with pytest.raises(RecordError, match=rf"^masks: annotations\[1\].*{message}"):
        data.get("b").get("masks")


@pytest.mark.parametrize("box, message", [
    ([1, 2, 3], "not .x, y, width, height"), (None, "not .x, y, width, height"),
    ([1, 2, -3, 4], "is empty"), ([9, 1, 3, 3], "outside of the image of 6x8"),
    ([1, 2, "3", 4], r"\[2\] is '3', not a finite number")])
def test_a_bad_box_is_an_error_of_its_record(tree, box, message):
    with pytest.raises(RecordError, match=rf"annotations\[0\].bbox.*{message}"):
        opened(tree, note(1, bbox=box)).get("b").get("boxes")


DOUBLE = [IMAGES[0], {**IMAGES[0], "id": 8, "file_name": "x/b.png"}]


@pytest.mark.parametrize("text, message", [
    (content(note(1), note(1)), r"annotations\[\].id are there twice: 1"),
    (content(images=[IMAGES[0]] * 2), r"images\[\].id are there twice: 7"),
    (content(categories=[CATEGORIES[0]] * 2), r"categories\[\].id are there twice: 18"),
    (content(categories=[*CATEGORIES, {"id": 2, "name": "dog"}]), "two classes each: dog"),
    (content(categories=[{"id": 2}]), "a category has no name"),
    (content(categories=[{"id": i, "name": f"c{i}"} for i in range(300)]), "300 categories"),
    (content(images=DOUBLE), "two images each .*: b"),
    (content(images=[{"id": 1, "file_name": "a.jpg", "height": 0, "width": 3}]), r"images\[0\]"),
    (content(note(5, image=99)), "1 annotations are of an image that is not listed.* id 5"),
    (content(images={}), "no list 'images'"),
    ("[]", "its outermost value is no object"),
    ('{"a": 1, "a": 2}', "the same key twice"),
    ('{"a": NaN}', "NaN is not JSON"),
    ("[" * 100_000, "bad JSON"),
    ('{"a": ' + "9" * 5000 + "}", "bad JSON"),
    (b"\xff\xfe{}", "bad JSON"),
    ("", "bad JSON"),
])
def test_a_bad_file_is_refused_at_opening(tree, text, message):
    with pytest.raises(WssegError, match=message):
        open_dataset("coco", str(tree({"x.json": text}) / "x.json"))


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "a\\b.jpg"])
def test_file_names_that_leave_their_folder_are_unsafe(tree, name):
    with pytest.raises(UnsafeError, match=r"images\[0\].file_name"):
        opened(tree, images=[{"id": 1, "file_name": name, "height": 1, "width": 1}])


def test_an_absurd_image_size_is_refused_when_masks_are_asked_for(tree):
    data = opened(tree, note(1), images=[{**IMAGES[0], "height": 10 ** 6, "width": 10 ** 6}])
    with pytest.raises(UnsafeError, match="refused before decoding"):
        data.get("b").get("masks")


def test_records_travel_to_workers(tree):
    record = pickle.loads(pickle.dumps(opened(tree, note(1)).get("b")))
    assert [name for name, _ in record.pack().members] == ["boxes.json", "masks.json", "tags.json"]
