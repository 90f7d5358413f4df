import base64
import json

import numpy as np
import pytest

from wsseg.data import open_dataset
from wsseg.errors import RecordError, UnsafeError, UsageError
from wsseg.io.png import encode_labels

CLASSES = "background\ncat\ndog\n"
SIZE = (10, 12)


def shape(label, points, kind="polygon", **fields):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **fields}


def square(label, x0, y0, x1, y1, **fields):
    return shape(label, [[x0, y0], [x1, y0], [x1, y1], [x0, y1]], **fields)


def content(*shapes, **fields):
    return json.dumps({"version": "5.4.1", "flags": {}, "shapes": list(shapes),
                       "imagePath": "a.jpg", "imageData": None, "imageHeight": SIZE[0],
                       "imageWidth": SIZE[1], **fields})


def record(tree, *shapes, files={}, **fields):
    root = tree({"classes.txt": CLASSES, "in/a.json": content(*shapes, **fields), **files})
    return open_dataset("labelme", str(root / "in")).get("a")


def region(y0, y1, x0, x1):
    result = np.zeros(SIZE, bool)
    result[y0:y1, x0:x1] = True
    return result


def test_only_the_kinds_that_the_shapes_give_are_there(tree):
    box = shape("cat", [[1, 1], [4, 4]], "rectangle")
    assert record(tree).kinds() == set()
    assert record(tree, box).kinds() == {"boxes"}
    assert record(tree, box, square("dog", 1, 1, 3, 3)).kinds() == {"boxes", "label", "instance"}
    assert record(tree, shape("cat", [[1, 1]], "point")).kinds() == {"points"}
    assert record(tree, shape("cat", [[1, 1], [2, 2]], "line")).kinds() == {"scribble"}


def test_rectangles_are_boxes_whichever_corners_were_drawn(tree):
    value = record(tree, shape("dog", [[8.5, 2], [3, 6]], "rectangle"),
                   shape("cat", [[-2, 5], [20, 9]], "rectangle")).get("boxes")
    assert value.xyxy.tolist() == [[3, 2, 8.5, 6], [0, 5, 12, 9]]
    assert value.classes.tolist() == [2, 1] and value.size == SIZE


def test_polygons_are_painted_in_order(tree):
    item = record(tree, square("cat", 1, 1, 7, 6), square("dog", 4, 3, 10, 9))
    want = region(1, 6, 1, 7) * np.uint8(1)
    want[region(3, 9, 4, 10)] = 2
    np.testing.assert_array_equal(item.get("label"), want)
    value = item.get("instance")
    np.testing.assert_array_equal(value.ids, want)  # ids 1, 2 happen to be the classes
    assert [(s.id, s.cls, s.score, s.thing) for s in value.segments] == [
        (1, 1, 1.0, True), (2, 2, 1.0, True)]


def test_shapes_of_one_label_and_group_are_one_instance(tree):
    value = record(tree, square("cat", 0, 0, 2, 2, group_id=5),
                   square("dog", 4, 0, 6, 2, group_id=5),
                   square("cat", 8, 0, 10, 2, group_id=5), square("cat", 0, 6, 2, 8),
                   square("cat", 4, 6, 6, 8)).get("instance")
    assert [(s.id, s.cls) for s in value.segments] == [(1, 1), (2, 2), (3, 1), (4, 1)]
    assert value.ids[0, [0, 4, 8]].tolist() == [1, 2, 1] and value.ids[6, [0, 4]].tolist() == [3, 4]


def test_an_instance_covered_by_others_is_left_out(tree):
    value = record(tree, square("cat", 2, 2, 4, 4), square("dog", 1, 1, 6, 6)).get("instance")
    assert [(s.id, s.cls) for s in value.segments] == [(1, 2)]
    np.testing.assert_array_equal(value.ids, region(1, 6, 1, 6))


@pytest.mark.parametrize("label, painted", [("background", 0), ("_background_", 0),
                                            ("ignore", 255), ("__ignore__", 255)])
def test_background_and_ignore_erase_the_instance(tree, label, painted):
    item = record(tree, square("cat", 1, 1, 7, 6), square(label, 2, 2, 5, 5))
    hole = region(2, 5, 2, 5)
    assert (item.get("label")[hole] == painted).all()
    np.testing.assert_array_equal(item.get("instance").ids, region(1, 6, 1, 7) & ~hole)


def test_a_circle_holds_the_pixels_within_its_radius(tree):
    label = record(tree, shape("dog", [[5, 5], [5, 8]], "circle")).get("label")
    # middles at most 3 from (5, 5): |dx|, |dy| of 0.5, 1.5, 2.5; 2.5 with 2.5 (3.54) is outside
    # and 2.5 with 1.5 (2.92) is not
    want = region(2, 8, 2, 8)
    want[[2, 2, 7, 7], [2, 7, 2, 7]] = False
    np.testing.assert_array_equal(label == 2, want)


def encoded(mask):
    return base64.b64encode(encode_labels(mask.astype(np.uint8), palette=False)).decode()


def test_a_mask_is_the_picture_of_its_box_cut_to_the_image(tree):
    part = np.array([[1, 0, 1], [0, 1, 1]])
    item = record(tree, shape("cat", [[2, 3], [4, 4]], "mask", mask=encoded(part)),
                  shape("dog", [[-1, 9], [1, 10]], "mask", mask=encoded(part)))
    label = item.get("label")
    np.testing.assert_array_equal(label[3:5, 2:5], part)
    np.testing.assert_array_equal(label[9, :2], [0, 2])  # column 0 is the part's second one
    assert np.count_nonzero(label) == 4 + 1


def test_lines_are_scribbles_and_points_are_points(tree):
    item = record(tree, shape("dog", [[2.9, 3.2], [6.4, 3.9]], "line"),
                  shape("background", [[1, 8], [5, 8], [9, 8]], "linestrip"),
                  shape("cat", [[3.7, 2.2]], "point"),
                  shape("dog", [[0, 0], [11.9, 9.9]], "points"))
    want = np.full(SIZE, 255, np.uint8)
    want[2:5, 1:8] = 2   # pixels (2, 3) to (6, 3), one more to each side
    want[7:10, 0:11] = 0
    np.testing.assert_array_equal(item.get("scribble"), want)
    points = item.get("points")
    assert points.xy.tolist() == [[3, 2], [0, 0], [11, 9]]
    assert points.classes.tolist() == [1, 2, 2] and points.size == SIZE


def test_true_flags_that_name_classes_are_tags(tree):
    assert record(tree, flags={"cat": True, "dog": False, "blurred": True}).get("tags") == (1,)
    assert record(tree, flags={"dog": False}).get("tags") == ()
    assert "tags" not in record(tree, flags={"blurred": True})
    assert "tags" not in record(tree, flags=None)


def test_class_names_are_given_or_in_the_folder_or_above(tree):
    files = {"in/a.json": content(square("wolf", 1, 1, 3, 3))}
    root = tree(files)
    with pytest.raises(UsageError, match="give them with --classes, or put classes.txt"):
        open_dataset("labelme", str(root / "in"))
    data = open_dataset("labelme", str(root / "in"), classes=("background", "wolf"))
    assert data.get("a").get("label").max() == 1 and data.header.classes == ("background", "wolf")
    tree({"in/classes.txt": "__ignore__\n_background_\nfox\nwolf\n"})
    data = open_dataset("labelme", str(root / "in"))
    assert data.header.classes == ("background", "fox", "wolf")
    assert data.get("a").get("label").max() == 2


@pytest.mark.parametrize("where, path", [
    ("in/a.jpg", "a.jpg"), ("in/a.jpg", "C:\\Users\\me\\a.jpg"), ("in/a.jpg", "/tmp/a.jpg"),
    ("JPEGImages/a.jpg", "..\\JPEGImages\\a.jpg"), ("photos/a.jpg", "a.jpg")])
def test_the_photo_is_found_by_its_base_name(tree, where, path):
    item = record(tree, files={where: SIZE}, imagePath=path)
    assert item.get("image").shape == (*SIZE, 3)


@pytest.mark.parametrize("path", ["../../secret.jpg", "..", "", "b.jpg", None, 5, "a\0.jpg"])
def test_no_path_leads_out_of_the_tree(tree, path):
    assert "image" not in record(tree, files={"../secret.jpg": SIZE}, imagePath=path)


def test_a_size_that_is_not_the_photos_is_a_record_error(tree):
    with pytest.raises(RecordError, match="a.json is of 10x12 .*a.jpg of 12x10; transposed, or an "
                                          "EXIF rotation"):
        record(tree, files={"in/a.jpg": (12, 10)})
    with pytest.raises(RecordError, match="a.json is of 10x12 .*a.jpg of 5x6$"):
        record(tree, files={"in/a.jpg": (5, 6)})


def test_the_photo_gives_a_size_that_the_file_lacks(tree):
    item = record(tree, shape("cat", [[1, 1], [40, 4]], "rectangle"), files={"in/a.jpg": SIZE},
                  imageHeight=None, imageWidth=None)
    assert item.get("boxes").xyxy.tolist() == [[1, 1, 12, 4]]
    (tree({}) / "in/a.jpg").unlink()
    with pytest.raises(RecordError, match="size unknown"):
        record(tree, imageHeight=None, imageWidth=None)


@pytest.mark.parametrize("bad, message", [
    (square("cats", 1, 1, 3, 3), r"shapes\[0\]: unknown class 'cats'; did you mean 'cat'"),
    (shape("cat", [[1, 1], [2, 2]], "ellipse"), "shape_type is 'ellipse': known are circle"),
    (shape("cat", [[1, 1], [2, 2]]), "a polygon of 2 points, not at least 3"),
    (shape("cat", [[1, 1]], "rectangle"), "a rectangle of 1 points, not 2"),
    (shape("cat", [[1, 1], [1, 1, 1]], "line"), "points is no list of"),
    (shape("cat", [[1, "x"]], "point"), r"points\[0\] is 'x', not a finite number"),
    (shape("cat", [[1, 1]], "point", group_id="a"), "group_id is 'a'"),
    ({"points": []}, r"shapes\[0\] has no label"),
    (7, r"shapes\[0\] has no label"),
])
def test_malformed_shapes_are_record_errors(tree, bad, message):
    with pytest.raises(RecordError, match=message):
        record(tree, bad)


@pytest.mark.parametrize("kind, bad, message", [
    ("boxes", shape("cat", [[3, 3], [3, 8]], "rectangle"), "is empty"),
    ("boxes", shape("cat", [[13, 3], [15, 8]], "rectangle"), "outside of the image of 10x12"),
    ("boxes", shape("ignore", [[1, 3], [5, 8]], "rectangle"), "draw a polygon"),
    ("points", shape("cat", [[12, 3]], "point"), "outside of the image of 10x12"),
    ("points", shape("ignore", [[1, 3]], "point"), "points mark objects"),
    ("label", shape("cat", [[1, 1], [2, 2]], "mask"), "has no text 'mask'"),
    ("label", shape("cat", [[1, 1], [2, 2]], "mask", mask="%%"), "not base64"),
    ("label", shape("cat", [[1, 1], [2, 2]], "mask", mask="aGk="), r"mask: not a PNG"),
    ("label", shape("cat", [[1, 1], [2, 2]], "mask", mask=encoded(np.ones((3, 2)))),
     "of 3x2 pixels, its box of 2x2"),
    ("label", shape("cat", [[1, 1], [1e300, 2]], "mask", mask=encoded(np.ones((3, 2)))),
     "pixels away"),
    ("label", shape("cat", [[1, 1], [1e300, 2], [3, 3]]), "not finite or more than"),
])
def test_shapes_that_cannot_be_drawn_are_errors_of_their_kind(tree, kind, bad, message):
    item = record(tree, bad)
    with pytest.raises(RecordError, match=f"^{kind}: .*{message}"):
        item.get(kind)


@pytest.mark.parametrize("text, message", [
    ("[" * 100_000, "bad JSON"), ('{"shapes": [NaN]}', "NaN is not JSON"),
    ('{"shapes": [], "shapes": []}', "the same key twice"), ("{}", "no list 'shapes'"),
    ("", "bad JSON"), ("7", "not a LabelMe file"), (b"\xff", "bad JSON"),
    (content(imageHeight="10"), "imageHeight and imageWidth are '10' and 12"),
    (content(imageHeight=0), "image of 0x12"), (content(flags=[1]), "not an object")])
def test_a_bad_file_is_an_error_of_its_record_alone(tree, text, message):
    root = tree({"classes.txt": CLASSES, "a.json": text,
                 "b.json": content(square("cat", 1, 1, 3, 3))})
    data = open_dataset("labelme", str(root))
    with pytest.raises(RecordError, match=message):
        data.get("a")
    assert data.get("b").get("label").sum() == 4


def test_an_absurd_size_is_refused(tree):
    with pytest.raises(UnsafeError, match="refused before decoding"):
        record(tree, imageHeight=10 ** 6, imageWidth=10 ** 6)


def test_a_folder_of_class_names_alone_is_a_usage_error(tree):
    with pytest.raises(UsageError, match=r"no LabelMe files found \(looked for \*.json"):
        open_dataset("labelme", str(tree({"classes.txt": CLASSES})))
    with pytest.raises(UsageError, match="classes.txt: not UTF-8"):
        open_dataset("labelme", str(tree({"classes.txt": b"\xff\n"})))


def test_a_split_is_a_list(tree):
    root = tree({"classes.txt": CLASSES, "a.json": content(), "b.json": content(),
                 "val.txt": "b\n"})
    assert list(open_dataset("labelme", str(root), split="val").keys()) == ["b"]
    assert list(open_dataset("labelme", str(root)).keys()) == ["a", "b"]
