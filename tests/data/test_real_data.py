"""Readers on real data, where it is present (WSSEG_DATA, or ../shared/data)."""

import numpy as np

from wsseg.data import open_dataset
from wsseg.data.names import DATASETS
from wsseg.io.codec import check_classes, check_instance


def test_voc_masks_and_photos_agree(real):
    data = open_dataset("voc", real("VOC2012"), split="val")
    everything = open_dataset("voc", real("VOC2012"))
    assert (len(data.keys()), len(everything.keys())) == (300, 1200)
    seen = np.zeros(256, bool)
    for record in data:
        label = record.get("label")
        check_classes(label, data.header.classes)
        assert record.get("image").shape[:2] == label.shape
        seen |= np.bincount(label.ravel(), minlength=256) > 0
    assert np.flatnonzero(seen).tolist() == [*range(21), 255]


def test_cityscapes_labels_and_instances_agree(real):
    data = open_dataset("cityscapes", real("cityscapes"), split="val")
    assert len(data.keys()) == 120
    things = 0
    for key in data.keys()[::4]:
        record = data.get(key)
        label, value = record.get("label"), record.get("instance")
        check_instance(value)
        assert set(np.unique(label)) <= {*range(19), 255}
        for segment in value.segments:
            inside = label[value.ids == segment.id]
            assert (inside == segment.cls).all()
            things += segment.thing
        # what has a class but no segment can only be a group of things
        assert set(np.unique(label[value.ids == 0])) <= {*range(11, 19), 255}
    assert things > 100


def test_coco_panoptic_agrees_with_the_class_table(real):
    data = open_dataset("coco-panoptic", real("coco_panoptic"))
    assert data.header.classes == DATASETS["coco-panoptic"] and len(data.keys()) == 100
    for key in data.keys()[::5]:
        record = data.get(key)
        label, value = record.get("label"), record.get("instance")
        check_instance(value)
        assert record.get("image").shape[:2] == label.shape == value.ids.shape
        for segment in value.segments:
            assert (label[value.ids == segment.id] == segment.cls).all()
            assert segment.thing == (segment.cls <= 80)
