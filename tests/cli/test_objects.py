"""The objects of a record, and their overlaps with what was drawn, against those of ws-eval."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from tests.conftest import run, tree, write_place  # noqa: E402
from wsseg.cli import _components  # noqa: E402
from wsseg.cli._objects import find, overlaps_of  # noqa: E402
from wsseg.data.rle import runs_of_mask  # noqa: E402
from wsseg.errors import RecordError  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.io.values import InstanceMap, Masks, Segment  # noqa: E402
from wsseg.metrics.overlaps import overlaps, run_regions  # noqa: E402
from wsseg.nets.rsis_inference import Drawn  # noqa: E402

NAMES = ("background", "cat", "dog")


def labelled() -> Record:
    """Two cats, a dog with a hole of void, and a cat of 4 pixels."""
    label = np.zeros((20, 30), np.uint8)
    label[1:6, 1:6], label[1:6, 10:16], label[10:18, 4:20] = 1, 1, 2
    label[12:14, 8:10], label[18:, 26:28] = 255, 1
    record = Record("a", names=NAMES)
    record.set("label", label)
    return record


def test_components_are_objects_and_specks_are_not_known():
    objects = find(labelled(), "label")
    masks = objects.masks((20, 30))
    assert objects.classes.tolist() == [1, 1, 2] and masks.sum((1, 2)).tolist() == [25, 30, 124]
    assert objects.valid.sum() == 600 - 4 - 4


def test_where_classes_have_no_background_all_but_objects_is_not_known():
    record = labelled()
    record.names = ("road", "car", "tree")
    objects = find(record, "label")
    assert sorted(objects.classes.tolist()) == [0, 1, 1, 2]
    assert objects.valid.sum() == 600 - 4 - 4


def test_things_are_objects_and_stuff_is_not():
    record = labelled()
    ids = np.zeros((20, 30), np.uint16)
    ids[:4], ids[4:9], ids[9:] = 700, 7, 9
    record.set("instance", InstanceMap(ids, (Segment(700, 2), Segment(7, 1, thing=False),
                                             Segment(9, 1))))
    objects = find(record, "instance")
    assert dict(zip(objects.classes.tolist(), objects.masks((20, 30)).sum((1, 2)))) == {
        1: 330, 2: 120}
    assert objects.valid.sum() == 596  # what the label map does not know
    record.drop("label")
    assert find(record, "instance").valid is None


def test_a_mask_of_many_classes_is_one_object_of_its_best():
    record = Record("a", names=NAMES)
    one, two = np.zeros((2, 5, 6), bool)
    one[:3], two[2:] = True, True
    runs = [runs_of_mask(m) for m in (one, two, one, two)]
    record.set("masks", Masks((5, 6), tuple(runs), np.array([1, 1, 2, 2]),
                              np.array([.2, .9, .3, .1])))
    objects = find(record, "masks")
    assert objects.classes.tolist() == [2, 1]
    assert np.array_equal(objects.masks((5, 6)), [one, two])
    record.set("masks", Masks((5, 6)))
    assert find(record, "masks").masks((5, 6)).shape == (0, 5, 6)


def test_a_crowd_is_no_object_and_is_not_known_but_for_the_objects_in_it():
    record = Record("a", names=NAMES)
    one, many = np.zeros((2, 5, 6), bool)
    one[:3], many[2:, 1:] = True, True
    crowd = Masks((5, 6), (runs_of_mask(many), runs_of_mask(one)), np.array([2, 1]), np.ones(2),
                  np.array([True, False]))
    record.set("masks", crowd)
    objects = find(record, "masks")
    assert objects.classes.tolist() == [1] and np.array_equal(objects.masks((5, 6)), [one])
    assert np.array_equal(objects.valid, ~many | one)
    label = np.zeros((5, 6), np.uint8)
    label[0, 0] = 255
    record.set("label", label)
    assert np.array_equal(find(record, "masks").valid, (~many | one) & (label == 0))
    record.set("label", label[1:])
    with pytest.raises(RecordError, match="label map is 4x6, masks are 5x6"):
        find(record, "masks")
    record.drop("label")
    record.set("masks", Masks((5, 6), crowd.runs[:1], crowd.classes[:1], np.ones(1),
                              np.array([True])))
    objects = find(record, "masks")
    assert objects.masks((5, 6)).shape == (0, 5, 6) and np.array_equal(objects.valid, ~many)


def test_overlaps_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    masks = rng.random((4, 12, 9)) > .6
    scores = rng.random((4, 3)).astype(np.float32) * (rng.random((4, 3)) > .3)
    true, classes = rng.random((3, 12, 9)) > .5, np.array([2, 1, 2])
    found = overlaps_of(Drawn(masks, scores), true, classes)
    mine, which = np.nonzero(scores)
    expected = overlaps(run_regions((12, 9), [runs_of_mask(m) for m in true], classes),
                        run_regions((12, 9), [runs_of_mask(masks[i]) for i in mine], which,
                                    scores[mine, which]))
    for name in ("classes", "scores", "true_classes", "crowd", "pairs"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    assert np.allclose(found.iou, expected.iou, atol=1e-6)
    nothing = overlaps_of(Drawn(masks[:0], scores[:0]), true[:0], classes[:0])
    assert len(nothing.classes) == len(nothing.pairs) == 0


def test_more_components_than_ids(monkeypatch):
    monkeypatch.setattr(_components, "_MOST", 2)
    with pytest.raises(RecordError, match="3 components, more than the 2 ids"):
        find(labelled(), "label")


def test_ws_cat_makes_components_instances(tmp_path):
    write_place(tmp_path / "labels", [labelled()], kinds=("label",), classes=NAMES)
    run(["ws-cat", "labels", "--instances", "-o", "both"], cwd=tmp_path)
    run(["ws-cat", "labels", "--instances", "--only", "instance", "-o", "alone"], cwd=tmp_path)
    assert open_source(str(tmp_path / "both")).header.kinds == ("instance", "label")
    record, = open_source(str(tmp_path / "alone"))
    assert "label" not in record
    value = record.get("instance")
    assert [(s.id, s.cls) for s in value.segments] == [(1, 1), (2, 1), (3, 2)]
    assert np.array_equal(value.ids, find(labelled(), "label").maps[0])
    assert tree(tmp_path / "both")["a.inst.png"] == tree(tmp_path / "alone")["a.inst.png"]
