"""Files damaged at random end in one of our errors, never in any other."""

import json
import pickle
import struct

import numpy as np
import pytest

from wsseg.data import open_dataset
from wsseg.data.names import DATASETS
from wsseg.data.pickled import read_pickled_dict, vector
from wsseg.data.voc import parse_voc_xml
from wsseg.errors import WssegError

JUNK = (None, True, -1, 0, 1 << 40, 10 ** 400, 1e308, 1.5, "", "x", "../x", "\ud800", [], {}, [[]],
        [None] * 4, {"size": [1, 1], "counts": "0"}, [1, 2], "a\n", [[1, 1, 2, 2, 3]])


def damaged(value, rng):
    """Replace, remove or repeat one node of a JSON value."""
    copy = json.loads(json.dumps(value))
    node = copy
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = keys[rng.integers(len(keys))]
        if isinstance(node[key], (dict, list)) and len(node[key]) and rng.random() < 0.8:
            node = node[key]
            continue
        action = rng.integers(4)
        if action == 0:
            del node[key]
        elif action == 1 and isinstance(node, list):
            node.append(node[key])
        else:
            node[key] = JUNK[rng.integers(len(JUNK))]
        return json.dumps(copy)


def read_all(name, path, **options):
    """Read everything there is; return whether a WssegError came up. Others pass through."""
    failed = False
    try:
        data = open_dataset(name, path, **options)
    except WssegError:
        return True
    for key in data.keys():
        try:
            record = data.get(key)
        except WssegError:
            failed = True
            continue
        for kind in sorted(record.kinds()):
            try:
                record.get(kind)
            except WssegError as error:
                assert "\n" not in str(error)
                failed = True
    return failed


COCO = {"images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8},
                   {"id": 2, "file_name": "b.jpg", "height": 6, "width": 8}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 3, 2],
             "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]]},
            {"id": 2, "image_id": 2, "category_id": 5, "iscrowd": 0, "bbox": [0, 0, 8, 6],
             "segmentation": {"size": [6, 8], "counts": [0, 48]}}]}
PANOPTIC = {**COCO, "images": COCO["images"][:1], "annotations": [
    {"image_id": 1, "file_name": "a.png", "segments_info": [
        {"id": 7, "category_id": 5, "area": 48, "iscrowd": 0, "bbox": [0, 0, 8, 6]}]}]}
LABELME = {"flags": {"cat": True}, "imagePath": "a.jpg", "imageHeight": 6, "imageWidth": 8}
LABELME["shapes"] = [
    {"label": "cat", "points": [[1, 1], [4, 1], [4, 3]], "shape_type": "polygon", "group_id": 1},
    {"label": "dog", "points": [[1, 1], [4, 2]], "shape_type": "rectangle", "group_id": None},
    {"label": "dog", "points": [[1, 1], [4, 2]], "shape_type": "linestrip"},
    {"label": "cat", "points": [[4, 4], [4, 6]], "shape_type": "circle"},
    {"label": "cat", "points": [[1, 1]], "shape_type": "point"}]


@pytest.mark.parametrize("name, value, file", [
    ("coco", COCO, "in/instances_x.json"), ("coco-panoptic", PANOPTIC, "in/panoptic_x.json"),
    ("labelme", LABELME, "in/a.json")])
def test_damaged_json_ends_in_our_errors(tree, name, value, file):
    seven = np.zeros((6, 8, 3), np.uint8)
    seven[..., 0] = 7
    options = {"classes": ("background", "cat", "dog")} if name == "labelme" else {}
    root = tree({file: json.dumps(value), "in/panoptic_x/a.png": seven})
    assert not read_all(name, str(root / "in"), **options)
    rng = np.random.default_rng(1)
    failures = 0
    for _ in range(400):
        (root / file).write_text(damaged(value, rng))
        failures += read_all(name, str(root / "in"), **options)
    assert failures > 100


def test_damaged_xml_ends_in_our_errors():
    good = (b"<annotation><size><width>50</width><height>40</height></size><object><name>dog</name>"
            b"<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
            b"</annotation>")
    assert parse_voc_xml(good, DATASETS["voc"]).xyxy.tolist() == [[0, 1, 30, 40]]
    rng = np.random.default_rng(2)
    failures = 0
    for _ in range(1000):
        data = bytearray(good)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256)
        try:
            parse_voc_xml(bytes(data), DATASETS["voc"])
        except WssegError:
            failures += 1
    assert failures > 500


def test_damaged_pickles_end_in_our_errors(tmp_path):
    np.save(tmp_path / "x.npy", {"a": np.ones(20, np.float32), "b": np.zeros(20, np.float32)},
            allow_pickle=True)
    good = (tmp_path / "x.npy").read_bytes()
    start = 10 + struct.unpack("<H", good[8:10])[0]
    assert pickle.loads(good[start:]).item().keys() == {"a", "b"}
    rng = np.random.default_rng(3)
    failures = 0
    for _ in range(2000):
        data = bytearray(good)
        data[rng.integers(start, len(data))] = rng.integers(256)
        try:
            for value in read_pickled_dict(bytes(data), "x.npy").values():
                vector(value)
        except (WssegError, ValueError):  # the second for one bad vector
            failures += 1
    assert failures > 500
