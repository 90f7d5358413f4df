"""What the labels in a record count as."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.cli._supervision import spent
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Masks, Points, Segment

VOC, STREET = ("background", "cat", "dog"), ("road", "sky", "car")


@pytest.mark.parametrize("names, classes", [(VOC, 1), (STREET, 2)])
def test_background_points_are_clicks_but_no_class(names, classes):
    record = Record("a", names=names)
    record.set("points", Points(np.zeros((4, 2)), np.array([0, 1, 1, 0])))
    assert spent(record) == {"points": (classes, 4)}


@pytest.mark.parametrize("names, classes", [(VOC, 1), (STREET, 2)])
def test_background_scribbles_are_no_class(names, classes):
    record = Record("a", names=names)
    record.set("scribble", np.array([[0, 255, 2, 2]], np.uint8))
    assert spent(record) == {"scribble": (classes, classes)}


def test_specks_of_a_label_map_are_no_objects_that_a_person_drew():
    label = np.zeros((12, 12), np.uint8)
    label[1:5, 1:5] = 1  # 16 pixels
    label[6, 6:10] = 1
    label[9:, 0:5] = 2  # 15
    record = Record("a", names=VOC)
    record.set("label", label)
    assert spent(record, truth=True) == {"masks": (1, 1)}


def masks() -> Record:
    """Two cats, a dog, and a crowd of sheep."""
    record = Record("a", names=(*VOC, "sheep"))
    record.set("masks", Masks((2, 2), ((0, 1, 3), (1, 1, 2), (2, 1, 1), (3, 1)),
                              np.array([1, 1, 2, 3]), np.ones(4),
                              np.array([False, False, False, True])))
    return record


def test_true_masks_are_objects_and_crowds_are_none():
    assert spent(masks()) == {}
    assert spent(masks(), truth=True) == {"masks": (2, 3)}
    record = masks()
    record.set("masks", Masks((2, 2)))
    assert spent(record, truth=True) == {"masks": (0, 0)}


def test_what_tells_objects_best_is_counted():
    record = masks()
    record.set("label", np.array([[1, 1], [2, 0]], np.uint8))  # as ws-cat --labels paints it
    assert spent(record, truth=True) == {"masks": (2, 3)}
    record.set("instance", InstanceMap(np.eye(2, dtype=np.uint16), (Segment(1, 2),)))
    assert spent(record, truth=True) == {"masks": (1, 1)}
