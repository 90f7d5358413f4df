"""Instances in the forms of others: read back by our readers, and by COCO's own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import complaint, run, write_place
from wsseg.data import open_dataset
from wsseg.data.coco_panoptic import read_ids
from wsseg.data.export import WRITERS, city_ids, compress
from wsseg.data.names import DATASETS
from wsseg.data.rle import read_counts, runs_of_mask
from wsseg.errors import RecordError, UsageError
from wsseg.io.places import open_source
from wsseg.io.png import decode_labels
from wsseg.io.record import Record
from wsseg.io.supervision import by_kind
from wsseg.io.values import Boxes, InstanceMap, Masks, Segment

NAMES = ("background", "cat", "dog", "grass")
CITY = DATASETS["cityscapes"]
ROAD, CAR = 0, 13


def record(key="one", ids=((1, 1, 0, 7), (1, 0, 3, 3)), label=None, **segments) -> Record:
    made = Record(key)
    made.set("instance", InstanceMap(np.array(ids, np.uint16), tuple(
        Segment(int(i[1:]), *values) for i, values in segments.items())))
    if label is not None:
        made.set("label", np.array(label, np.uint8))
    return made


def animals(key="one", **more) -> Record:
    return record(key, s1=(1, .9), s3=(2, .5), s7=(3, 1., False), **more)


def write(form: str, folder: Path, *records: Record, names=NAMES, like=None) -> None:
    writer = WRITERS[form](folder, names, like)
    for one in records:
        writer.add(one)
    writer.finish()


def test_compressed_run_lengths_are_those_of_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for share in (0, .02, .5, .98, 1):
        mask = rng.random((37, 41)) < share
        text = compress(runs_of_mask(mask))
        theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert text == theirs["counts"].decode()
        assert read_counts(text, mask.shape) == runs_of_mask(mask)
    long = np.zeros((3000, 2000), bool)
    long[0, [0, -1]] = long[-1, 1000] = True
    assert compress(runs_of_mask(long)) == coco.encode(np.asfortranarray(
        long.astype(np.uint8)))["counts"].decode()


def test_a_coco_panoptic_folder_is_read_back(tmp_path):
    """The label map makes the third pixel a crowd of dogs; 255 stays void."""
    write("coco-panoptic", tmp_path, animals(label=((1, 1, 2, 3), (1, 255, 2, 2))))
    one = open_dataset("coco-panoptic", str(tmp_path), classes=NAMES).get("one")
    value = one.get("instance")
    assert value.ids.tolist() == [[1, 1, 0, 3], [1, 0, 2, 2]]
    assert [(s.cls, s.thing) for s in value.segments] == [(1, True), (2, True), (3, True)]
    assert one.get("label").tolist() == [[1, 1, 2, 3], [1, 255, 2, 2]]
    data = json.loads((tmp_path / "panoptic_wsseg.json").read_text())
    infos = data["annotations"][0]["segments_info"]
    assert infos[0] == {"id": 1, "category_id": 1, "iscrowd": 0, "area": 3, "bbox": [0, 0, 2, 2]}
    assert [i["iscrowd"] for i in infos] == [0, 0, 0, 1]
    ids = read_ids((tmp_path / "panoptic_wsseg/one.png").read_bytes())
    assert ids.tolist() == [[1, 1, 8, 7], [1, 0, 3, 3]]


def test_ids_of_16_bits_keep_their_colours(tmp_path):
    write("coco-panoptic", tmp_path, record(ids=((65535, 300),), s65535=(1,), s300=(2,)))
    ids = read_ids((tmp_path / "panoptic_wsseg/one.png").read_bytes())
    assert ids.tolist() == [[65535, 300]]


def test_coco_instances_are_read_by_pycocotools_and_by_us(tmp_path):
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    masks = Record("two")
    runs = runs_of_mask(np.array([[0, 1, 1], [0, 1, 0]], bool))
    masks.set("masks", Masks((2, 3), (runs, runs), np.array([1, 2]), np.array([.3, .25])))
    write("coco", tmp_path, animals(), masks)
    coco = COCO(str(tmp_path / "instances_wsseg.json"))
    assert [coco.anns[i]["category_id"] for i in (1, 2, 3, 4)] == [1, 2, 1, 2]  # grass is no thing
    assert coco.annToMask(coco.anns[1]).tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
    assert coco.anns[3]["bbox"] == [1, 0, 2, 2] and coco.anns[3]["area"] == 3
    found = coco.loadRes(str(tmp_path / "results_wsseg.json"))
    assert [a["score"] for a in found.anns.values()] == [.9, .5, .3, .25]
    ours = open_dataset("coco", str(tmp_path), classes=NAMES).get("two")
    assert ours.get("masks").runs == (runs, runs)


def test_stated_areas_and_objects_of_less_than_a_pixel_are_kept(tmp_path):
    runs = runs_of_mask(np.array([[0, 1, 1], [0, 1, 0]], bool))
    masks = Record("one")
    masks.set("masks", Masks((2, 3), (runs, (6,)), np.array([1, 2]), np.ones(2), None,
                             np.array([2.28, .09])))
    masks.set("boxes", Boxes(np.array([[1, 0, 3, 2], [.5, .5, .8, .8]]), np.array([1, 2]), (2, 3)))
    write("coco", tmp_path, masks)

    ours = open_dataset("coco", str(tmp_path), classes=NAMES).get("one").get("masks")
    assert ours.runs == (runs, (6,)) and ours.areas.tolist() == [2.28, .09]
    results = json.loads((tmp_path / "results_wsseg.json").read_text())
    assert [r["category_id"] for r in results] == [1]


def test_the_ids_of_another_file_are_taken_over(tmp_path):
    like = tmp_path / "official.json"
    like.write_text(json.dumps({
        "images": [{"id": 397133, "file_name": "val/one.png", "height": 2, "width": 4}],
        "annotations": [], "categories": [{"id": 90, "name": "dog", "isthing": 1},
                                          {"id": 17, "name": "cat", "isthing": 1},
                                          {"id": 200, "name": "grass", "isthing": 0}]}))
    write("coco-panoptic", tmp_path, animals(), like=str(like))
    data = json.loads((tmp_path / "panoptic_wsseg.json").read_text())
    assert data["annotations"][0]["image_id"] == 397133
    assert [i["category_id"] for i in data["annotations"][0]["segments_info"]] == [17, 90, 200]
    assert data["categories"][2] == {"id": 200, "name": "grass", "isthing": 0}
    assert data["images"][0]["file_name"] == "val/one.png"
    with pytest.raises(RecordError, match="not among the images of --like"):
        write("coco", tmp_path, animals("other"), like=str(like))
    with pytest.raises(RecordError, match="is 1x1, but in --like 2x4"):
        write("coco", tmp_path, record(ids=((1,),), s1=(1,)), like=str(like))


def test_cityscapes_is_read_back(tmp_path):
    """Two cars, road, and a group of cars that only the label map knows."""
    made = record(s1=(CAR,), s3=(CAR,), s7=(ROAD, 1., False),
                  label=((CAR, CAR, CAR, ROAD), (CAR, 255, CAR, CAR)))
    assert city_ids(made).tolist() == [[26000, 26000, 26, 7], [26000, 0, 26001, 26001]]
    write("cityscapes", tmp_path, made, names=CITY)
    again = open_dataset("cityscapes", str(tmp_path)).get("one")
    assert again.get("label").tolist() == made.get("label").tolist()
    value = again.get("instance")
    assert value.ids.tolist() == [[2, 2, 0, 1], [2, 0, 3, 3]]
    assert [(s.cls, s.thing) for s in value.segments] == [(ROAD, False), (CAR, True), (CAR, True)]
    assert decode_labels((tmp_path / "labelIds/one.png").read_bytes()).tolist() == [
        [26, 26, 26, 7], [26, 0, 26, 26]]


def test_what_the_server_of_cityscapes_takes_is_a_list_of_masks_with_scores(tmp_path):
    """As its script reads it: path label score a line, the instance where a mask is not 0. Stuff
    is left out, and a frame without things has an empty list."""
    made = record("aachen_0_0", s1=(CAR, .75), s3=(11, .5), s7=(ROAD, 1., False))
    write("cityscapes-results", tmp_path, made, record("b", ids=((0,),)), names=CITY)
    lines = [line.split() for line in (tmp_path / "aachen_0_0.txt").read_text().splitlines()]
    assert [(label, float(score)) for _, label, score in lines] == [("26", .75), ("24", .5)]
    for (name, *_), number in zip(lines, (1, 3)):
        mask = decode_labels((tmp_path / name).read_bytes())
        assert np.array_equal(mask != 0, made.get("instance").ids == number)
    assert (tmp_path / "b.txt").read_text() == ""
    with pytest.raises(RecordError, match="of class 3, which is no thing in Cityscapes"):
        write("cityscapes-results", tmp_path, record(s1=(3,)), names=CITY)


def test_what_a_form_cannot_hold_is_refused(tmp_path):
    many = Record("one")
    ids = np.arange(1, 1002, dtype=np.uint16)[None]
    many.set("instance", InstanceMap(ids, tuple(Segment(int(i), CAR) for i in ids[0])))
    for one, message in (
            (many, "more than 1000 segments of car"),
            (record(s1=(CAR, 1., False)), "segment 1 of car is stuff, but a thing in Cityscapes"),
            (record(s1=(ROAD,)), "segment 1 of road is a thing, but stuff"),
            (record(s1=(77,)), "of class 77, which Cityscapes has not"),
            (record(s1=(CAR,), label=((1, 1, 77, 1), (1, 77, 1, 1))), "label map has class 77"),
            (record(s1=(CAR,), label=((1,),)), "label map is 1x1, instance map is 2x4")):
        with pytest.raises(RecordError, match=message):
            city_ids(one)
    with pytest.raises(RecordError, match="its key holds a /"):
        write("coco", tmp_path, animals("a/b"))
    with pytest.raises(RecordError, match="class 0 is no category"):
        write("coco", tmp_path, record(s1=(0,)))
    with pytest.raises(UsageError, match="its 19 classes only: these are 4"):
        WRITERS["cityscapes"](tmp_path, NAMES, None)
    with pytest.raises(UsageError, match="categories have names"):
        WRITERS["coco"](tmp_path, None, None)


def test_ws_cat_writes_them_and_reads_them_again(tmp_path):
    place = write_place(tmp_path / "in", [animals()], kinds=["instance"], classes=NAMES)
    run(["ws-cat", place, "--to", "coco-panoptic", "-o", tmp_path / "out"])
    names = tmp_path / "names.txt"
    names.write_text("\n".join(NAMES))
    run(["ws-cat", "--from", "coco-panoptic", tmp_path / "out", "--classes", names, "-o",
         tmp_path / "again"])
    for words, message in (
            (("-o", tmp_path / "out"), "exists: name another, or add --overwrite"),
            (("-o", tmp_path / "x.tar"), "writes a folder"), ((), "writes a folder"),
            (("-o", tmp_path / "out", "--resume"), "cannot go on")):
        done = run(["ws-cat", place, "--to", "coco-panoptic", *words], code=2)
        assert message in complaint(done)
    label = Record("two")
    label.set("label", np.zeros((2, 2), np.uint8))
    place = write_place(tmp_path / "mixed", [animals(), label], kinds=["instance", "label"],
                        classes=NAMES)
    done = run(["ws-cat", place, "--to", "coco", "-o", tmp_path / "y"], code=1)
    assert "two: " in complaint(done) and not (tmp_path / "y/instances_wsseg.json").exists()
    run(["ws-cat", place, "--to", "coco", "-o", tmp_path / "z", "--keep-going"], code=3)
    assert len(json.loads((tmp_path / "z/instances_wsseg.json").read_text())["images"]) == 1


def test_masks_that_are_left_out_cost_nothing(tmp_path):
    write("coco", tmp_path / "coco", animals())
    (tmp_path / "names").write_text("\n".join(NAMES))
    for only in ("boxes", "masks"):
        run(["ws-cat", "--from", "coco", tmp_path / "coco", "--classes", tmp_path / "names",
             "--only", only, "-o", tmp_path / only])
        assert set(by_kind(open_source(str(tmp_path / only)).end.supervision)) == {only}
