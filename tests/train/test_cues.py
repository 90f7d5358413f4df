"""Cues for region growing: where logits lie, how pixels vote, and what a record's classes are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from tests.conftest import make_record, write_place  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.train.augment import Augment, Warp  # noqa: E402
from wsseg.train.cues import Cues, cues_at, inside_at, pixels_of  # noqa: E402


def whole(size):
    return Warp(np.eye(2, 3), size, size)


def test_logits_lie_inside_where_their_pixel_does():
    """Each pixel tells its place in the photo; 0 is around it."""
    rng = np.random.default_rng(0)
    for seed in range(8):
        warp = Augment(33, scale=(.3, 1.5), rotate=20).draw((40, 50), np.random.default_rng(seed))
        label = warp.label(np.ones((40, 50), np.uint8), 0)
        # labels are of whole pixels, to 1/32 where the photo is turned
        assert (inside_at([warp], (9, 9))[0] != label[::4, ::4]).mean() < .03
        if warp.upright:
            assert np.array_equal(inside_at([warp], (9, 9))[0], label[::4, ::4])
    assert inside_at([whole((33, 33))], tuple(rng.integers(1, 9, 2))).all()


def test_pixels_of_the_photo_are_counted_before_its_scaling():
    assert pixels_of([whole((321, 321))], (41, 41)).tolist() == [pytest.approx(8 * 500 / 321)]
    assert pixels_of([whole((401, 1000))], (41, 101)) == pytest.approx(.5 * (10 * 9.99) ** .5)
    warp = Augment(321, scale=(.64, .64), flip=1, rotate=45).draw((375, 500),
                                                                  np.random.default_rng(1))
    assert pixels_of([warp], (41, 41)).tolist() == [pytest.approx(12.5)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from([(17, 17, 5, 5), (16, 24, 4, 3), (5, 9, 1, 9),
                                             (1, 1, 1, 1), (6, 7, 6, 7)]))
def test_each_pixel_votes_at_the_nearest_logit(seed, sizes):
    height, width, h, w = sizes
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 255], (2, height, width), p=[.1, .05, .05, .8])
    found = cues_at(torch.from_numpy(labels.astype(np.uint8)), (h, w), 3).numpy()
    rows = [int(np.floor(y * (h - 1) / max(1, height - 1) + .5 + 1e-9)) for y in range(height)]
    columns = [int(np.floor(x * (w - 1) / max(1, width - 1) + .5 + 1e-9)) for x in range(width)]
    for b in range(2):
        votes = np.zeros((3, h, w), int)
        for y, x in np.argwhere(labels[b] != 255):
            votes[labels[b, y, x], rows[y], columns[x]] += 1
        assert np.array_equal(found[b], np.where(votes.any(0), votes.argmax(0), 255))


def test_tags_of_a_record_are_its_classes_too(tmp_path):
    records = [make_record(i, "image", "label") for i in range(3)]
    for record in records:
        label = np.full_like(record.get("label"), 255)
        label[4:6] = 0
        record.set("label", label if record.key != "img001" else np.full_like(label, 255))
    records[2].set("tags", (2,))
    write_place(tmp_path / "cues", records[:2], kinds=("image", "label"))
    write_place(tmp_path / "tagged", records[2:], kinds=("image", "label", "tags"))
    for name, expected in (("cues", [True, False, False]), ("tagged", [True, False, True])):
        source = open_source(str(tmp_path / name))
        samples = Cues(source, None, source.keys(), "label", 3)
        assert samples.load(0).tags.tolist() == expected
        assert samples.blind == set()
        if name == "cues":
            samples.load(1)
            assert samples.blind == {"img001"}
