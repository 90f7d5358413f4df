"""Agreement: against a decision made pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.annotate.test_grabcut import BOX, DISC, IMAGE, inside
from tests.annotate.test_rect import SIZE, area, whole_boxes
from tests.annotate.test_softcut import crf
from wsseg.annotate.agree import agreement, opinions, paint_agreed


def masks_of(box, number: int = 0) -> list[np.ndarray | None]:
    """Two masks that depend on the box alone; sometimes one is missing."""
    rng = np.random.default_rng([*box, number])
    shape = (box[3] - box[1], box[2] - box[0])
    second = rng.random(shape) < .7 if rng.random() < .9 else None
    return [rng.random(shape) < .7, second]


def by_pixel(boxes, classes, outside, contested, rest):
    label = np.full(SIZE, outside, int)
    ids = np.zeros(SIZE, int)
    order = sorted(range(len(boxes)), key=lambda i: (-area(boxes[i]), i))
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            agreed, over = set(), set()
            for i in order:
                x0, y0, x1, y1 = b = boxes[i]
                if not (x0 <= x < x1 and y0 <= y < y1):
                    continue
                over.add(classes[i])
                masks = masks_of(b)
                said = [None if m is None else bool(m[y - y0, x - x0]) for m in masks]
                if None in said or len(set(said)) == 2:
                    if rest is None or not ids[y, x]:
                        label[y, x], ids[y, x] = 255, 0
                elif said[0] and classes[i] in agreed:
                    label[y, x], ids[y, x] = 255, 0
                elif said[0]:
                    label[y, x], ids[y, x] = classes[i], i + 1
                    agreed.add(classes[i])
                elif rest is not None and not ids[y, x]:
                    label[y, x] = rest
            if not contested and len(over) > 1 and ids[y, x]:
                label[y, x], ids[y, x] = 255, 0
    return label, ids


@given(whole_boxes(), st.data(), st.sampled_from([0, 255]), st.booleans(),
       st.sampled_from([None, 255]))
def test_a_pixel_is_labelled_where_all_agree_and_no_box_of_its_class_disputes_it(
        boxes, data, outside, contested, rest):
    classes = data.draw(st.lists(st.integers(1, 3), min_size=len(boxes), max_size=len(boxes)))
    label, ids = paint_agreed(np.array(boxes, np.int64).reshape(-1, 4), np.array(classes, int),
                              SIZE, masks_of, outside=outside, contested=contested, rest=rest)
    expected = by_pixel(boxes, classes, outside, contested, rest)
    np.testing.assert_array_equal(label, expected[0])
    np.testing.assert_array_equal(ids, expected[1])


def test_agreement_by_example():
    one, two = np.array([[1, 1, 0, 0]], bool), np.array([[1, 0, 1, 0]], bool)
    both, doubt = agreement([one, two], (0, 0, 4, 1))
    assert both.tolist() == [[True, False, False, False]]
    assert doubt.tolist() == [[False, True, True, False]]


def test_where_a_method_fails_the_box_is_unknown():
    both, doubt = agreement([np.ones((1, 2), bool), None], (0, 0, 2, 1))
    assert not both.any() and doubt.all()


@pytest.mark.parametrize("consent, count", [("paper", 2), ("strict", 5)])
def test_grabcut_and_proposal_are_asked(consent, count):
    proposals = pytest.importorskip("higra") and __import__(
        "wsseg.annotate.proposals", fromlist=["build"])
    regions = proposals.build(proposals.gradient(IMAGE))
    masks = opinions(IMAGE, BOX, regions=regions, regularise=crf, consent=consent)
    assert len(masks) == count and all(m is not None for m in masks)
    both, doubt = agreement(masks, BOX)
    truth = inside(DISC)
    assert truth[both].mean() > 0.97 and both.sum() > 0.8 * truth.sum()
    assert not (truth & ~both & ~doubt).mean() > 0.05
