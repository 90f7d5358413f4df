"""What the labels in a record count as."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.cli._supervision import spent
from wsseg.io.record import Record
from wsseg.io.values import Points

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
