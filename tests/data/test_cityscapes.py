import numpy as np
import pytest

from wsseg.data import open_dataset
from wsseg.data.cityscapes import LABELS
from wsseg.data.names import DATASETS
from wsseg.errors import RecordError, UsageError, WssegError

ROAD, TRAILER, CAR, PERSON, SKY, GROUND = 7, 30, 26, 24, 23, 6
LABEL_IDS = np.array([[ROAD, CAR, PERSON, 255], [GROUND, SKY, TRAILER, 33]], np.uint8)
# two cars, a group of persons (plain id), a trailer (not evaluated), and stuff
INSTANCES = np.array([[ROAD, CAR * 1000 + 1, PERSON, SKY],
                      [CAR * 1000, SKY, TRAILER * 1000, GROUND]], np.uint16)


def official(split="train", frame="ulm_000001_000019", label=LABEL_IDS, part="labelIds"):
    city = frame.split("_")[0]
    return {f"leftImg8bit/{split}/{city}/{frame}_leftImg8bit.png": np.zeros((2, 4, 3), np.uint8),
            f"gtFine/{split}/{city}/{frame}_gtFine_{part}.png": label,
            f"gtFine/{split}/{city}/{frame}_gtFine_instanceIds.png": INSTANCES,
            f"gtFine/{split}/{city}/{frame}_gtFine_polygons.json": "{}"}


def flat(key="ulm_1", label=LABEL_IDS, instance=INSTANCES):
    return {f"leftImg8bit/{key}.jpg": (2, 4), f"labelIds/{key}.png": label,
            f"instanceIds/{key}.png": instance, "val.txt": f"{key}\n"}


def test_the_label_table_agrees_with_the_class_names():
    trained = sorted((label.train_id, label.name) for label in LABELS if label.train_id != 255)
    assert [name for _, name in trained] == list(DATASETS["cityscapes"])
    assert [label.id for label in LABELS] == [*range(34), -1]
    assert sum(label.has_instances for label in LABELS) == 10


def test_the_official_layout_is_read(tree):
    root = tree({**official(), **official("val", "bonn_000002_000019")})
    data = open_dataset("cityscapes", str(root))
    assert list(data.keys()) == ["bonn_000002_000019", "ulm_000001_000019"]
    assert data.header.kinds == ("image", "instance", "label")
    assert data.get("ulm_000001_000019").kinds() == {"image", "instance", "label"}


def test_a_split_is_a_folder_or_a_list_with_cityscapes_names(tree):
    root = tree({**official(), **official("val", "bonn_000002_000019"),
                 "l.txt": "leftImg8bit/val/bonn/bonn_000002_000019_leftImg8bit.png "
                          "gtFine/val/bonn/bonn_000002_000019_gtFine_labelIds.png\n"})
    for split in ("val", str(root / "l.txt")):
        assert list(open_dataset("cityscapes", str(root), split=split).keys()) == [
            "bonn_000002_000019"]
    with pytest.raises(UsageError, match="no split 'vall'.*train, val"):
        open_dataset("cityscapes", str(root), split="vall")


def test_the_flat_layout_is_read(tree):
    root = tree({**flat(), **flat("ulm_2"), "val.txt": "ulm_2\n"})
    assert list(open_dataset("cityscapes", str(root)).keys()) == ["ulm_1", "ulm_2"]
    assert list(open_dataset("cityscapes", str(root), split="val").keys()) == ["ulm_2"]


def test_label_ids_become_train_ids_and_all_others_ignore(tree):
    label = open_dataset("cityscapes", str(tree(flat()))).get("ulm_1").get("label")
    assert label.dtype == np.uint8
    assert label.tolist() == [[0, 13, 11, 255], [255, 10, 255, 18]]


def test_train_ids_are_taken_as_they_are(tree):
    train = np.array([[0, 13, 11, 255], [255, 10, 255, 18]], np.uint8)
    root = tree(official(label=train, part="labelTrainIds"))
    label = open_dataset("cityscapes", str(root)).get("ulm_000001_000019").get("label")
    np.testing.assert_array_equal(label, train)


def test_instances_are_numbered_by_original_id_without_groups_and_ignored_labels(tree):
    value = open_dataset("cityscapes", str(tree(flat()))).get("ulm_1").get("instance")
    # ascending ids: road 7, sky 23, car 26000, car 26001; the person group, the trailer and
    # the ground are of no segment
    assert [(s.id, s.cls, s.score, s.thing) for s in value.segments] == [
        (1, 0, 1.0, False), (2, 10, 1.0, False), (3, 13, 1.0, True), (4, 13, 1.0, True)]
    assert value.ids.tolist() == [[1, 4, 0, 2], [3, 2, 0, 0]] and value.ids.dtype == np.uint16


def test_an_unknown_label_id_is_a_record_error_with_its_place(tree):
    label = LABEL_IDS.copy()
    label[1, 2:] = 34, 40
    data = open_dataset("cityscapes", str(tree(flat(label=label))))
    with pytest.raises(RecordError, match="1 pixels have the value 34.*x=2, y=1; as have 40"):
        data.get("ulm_1").get("label")


@pytest.mark.parametrize("value, message", [
    (34, "value 34"), (34_000, "value 34000"), (999, "value 999"),
    (7_001, "object of 'road', which has no instances")])
def test_an_impossible_instance_id_is_a_record_error(tree, value, message):
    data = open_dataset("cityscapes", str(tree(flat(
        instance=np.full((2, 4), value, np.uint16)))))
    with pytest.raises(RecordError, match=message):
        data.get("ulm_1").get("instance")


def test_instance_ids_in_8_bits_and_label_ids_in_16_are_refused(tree):
    data = open_dataset("cityscapes", str(tree(flat(
        label=INSTANCES, instance=INSTANCES.astype(np.uint8)))))
    with pytest.raises(RecordError, match="instance ids of 8 bits"):
        data.get("ulm_1").get("instance")
    with pytest.raises(RecordError, match="label ids of 16 bits"):
        data.get("ulm_1").get("label")


def test_missing_photos_and_double_frames_are_refused(tree):
    root = tree({**flat(), **flat("ulm_2")})
    (root / "leftImg8bit/ulm_2.jpg").unlink()
    with pytest.raises(WssegError, match="1 of 2 records have no photo: ulm_2"):
        open_dataset("cityscapes", str(root))


def test_one_frame_in_two_splits_is_refused(tree):
    root = tree({**official(), **official("val")})
    with pytest.raises(WssegError, match="are there twice: ulm_000001_000019"):
        open_dataset("cityscapes", str(root))
    assert len(open_dataset("cityscapes", str(root), split="val").keys()) == 1


def test_polygons_alone_are_a_usage_error_with_the_fix(tree):
    root = tree({"gtFine/val/ulm/ulm_1_gtFine_polygons.json": "{}"})
    with pytest.raises(UsageError, match="csCreateTrainIdLabelImgs"):
        open_dataset("cityscapes", str(root))


def test_the_number_of_class_names_must_be_19(tree):
    with pytest.raises(UsageError, match="19 classes; 2 names"):
        open_dataset("cityscapes", str(tree(flat())), classes=("a", "b"))
