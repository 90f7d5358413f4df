"""GrabCut finds what a person would, the same every time."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT, real_data
from wsseg.annotate.grabcut import cut, grabcut_box
from wsseg.annotate.objects import connected_objects, tight_boxes


def scene(size=(80, 100), centre=(50, 40), radius=22) -> tuple[np.ndarray, np.ndarray]:
    """A red disc with some texture on textured green ground, and its mask."""
    rng = np.random.default_rng(0)
    y, x = np.indices(size)
    disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius ** 2
    image = np.where(disc[..., None], [190, 50, 40], [60, 120, 60]) \
        + rng.normal(0, 12, (*size, 3)) + 15 * np.sin(x / 3)[..., None]
    return image.clip(0, 255).astype(np.uint8), disc


IMAGE, DISC = scene()
BOX = tuple(int(v) for v in tight_boxes(DISC.astype(int), np.array([1]))[0])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


def inside(mask: np.ndarray, box=BOX) -> np.ndarray:
    return mask[box[1]:box[3], box[0]:box[2]]


def test_a_disc_is_found_in_its_box():
    found = grabcut_box(IMAGE, BOX)
    assert found.dtype == bool and found.shape == (BOX[3] - BOX[1], BOX[2] - BOX[0])
    assert iou(found, inside(DISC)) > 0.9 > iou(np.ones_like(found), inside(DISC))


def test_a_loose_box_still_finds_the_disc():
    box = (BOX[0] - 6, BOX[1] - 5, BOX[2] + 4, BOX[3] + 7)
    assert iou(grabcut_box(IMAGE, box), inside(DISC, box)) > 0.9


def test_the_colours_are_rgb_and_their_order_does_not_matter_much():
    assert iou(grabcut_box(IMAGE[..., ::-1], BOX), inside(DISC)) > 0.9


def test_the_same_input_gives_the_same_mask_whatever_ran_before():
    first = grabcut_box(IMAGE, BOX)
    for number in range(3):
        cv2.setRNGSeed(number + 77)
        cv2.kmeans(np.random.default_rng(number).random((50, 3)).astype(np.float32), 3, None,
                   (cv2.TERM_CRITERIA_MAX_ITER, 5, 0), 2, cv2.KMEANS_RANDOM_CENTERS)
        grabcut_box(IMAGE[::-1], (5, 5, 60, 40))
        np.testing.assert_array_equal(grabcut_box(IMAGE, BOX), first)


def test_another_process_finds_the_same_mask():
    code = ("from tests.annotate.test_grabcut import *; import hashlib;"
            "print(hashlib.sha256(grabcut_box(IMAGE, BOX).tobytes()).hexdigest())")
    import hashlib

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    expected = hashlib.sha256(grabcut_box(IMAGE, BOX).tobytes()).hexdigest()
    assert done.stdout.decode().strip() == expected


def test_the_image_is_left_as_it_was():
    before = IMAGE.copy()
    IMAGE.setflags(write=False)
    try:
        grabcut_box(IMAGE, BOX)
    finally:
        IMAGE.setflags(write=True)
    np.testing.assert_array_equal(IMAGE, before)


def test_what_lies_beyond_the_margin_is_not_looked_at():
    small, _ = scene((300, 400), (60, 60), 12)
    box = (46, 46, 75, 75)
    changed = small.copy()
    changed[75 + 15:] = small[60, 60]  # more than half the box's side away: the disc's red
    changed[:, 75 + 15:] = small[60, 60]
    found = grabcut_box(small, box)
    np.testing.assert_array_equal(grabcut_box(changed, box), found)
    wide = grabcut_box(changed, box, margin=9)  # now red is a colour of the background
    assert not np.array_equal(wide, found)
    np.testing.assert_array_equal(grabcut_box(small, box, margin=9), found)


@pytest.mark.parametrize("box", [(0, 0, 100, 80), (0, 0, 100, 79 + 1)])
def test_a_box_over_the_whole_image_is_taken_whole(box):
    assert grabcut_box(IMAGE, box).all()


@pytest.mark.parametrize("box", [(3, 4, 4, 5), (0, 0, 1, 1), (99, 79, 100, 80), (5, 5, 8, 10)])
def test_a_box_of_few_pixels_is_taken_whole(box):
    found = grabcut_box(IMAGE, box)
    assert found.shape == (box[3] - box[1], box[2] - box[0]) and found.all()


def test_too_little_around_the_box_is_taken_whole():
    assert grabcut_box(IMAGE[:20, :20], (0, 0, 20, 20 - 0)).all()
    assert grabcut_box(IMAGE[:5, :10], (0, 0, 8, 5)).all()  # 10 pixels around it


def test_a_flat_image_is_taken_whole():
    flat = np.full((40, 40, 3), 90, np.uint8)
    assert grabcut_box(flat, (10, 10, 30, 30)).all()


def test_less_than_the_least_share_is_taken_whole():
    share = grabcut_box(IMAGE, BOX).mean()
    assert 0.5 < share < 1
    assert grabcut_box(IMAGE, BOX, min_fill=share).mean() == share
    assert grabcut_box(IMAGE, BOX, min_fill=share + 1e-6).all()


def test_more_iterations_end_where_the_mask_stays():
    masks = [grabcut_box(IMAGE, BOX, iterations=n) for n in (20, 21, 50)]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], masks[2])


def test_random_boxes_of_random_images_always_give_a_mask():
    rng = np.random.default_rng(1)
    for _ in range(30):
        h, w = rng.integers(1, 30, 2)
        image = rng.integers(0, 256, (h, w, 3)).astype(np.uint8)
        x0, y0 = rng.integers(0, w), rng.integers(0, h)
        box = (int(x0), int(y0), int(rng.integers(x0 + 1, w + 1)), int(rng.integers(y0 + 1, h + 1)))
        found = grabcut_box(image, box, iterations=2)
        assert found.shape == (box[3] - box[1], box[2] - box[0])
        assert found.mean() >= 0.1


def test_on_real_photos_it_beats_the_filled_box():
    from PIL import Image

    voc = real_data("VOC2012")
    keys = (voc / "ImageSets/Segmentation/val.txt").read_text().split()
    cut, filled = [], []
    for key in keys[::20][:14]:
        label = np.asarray(Image.open(voc / f"SegmentationClass/{key}.png"))
        image = np.asarray(Image.open(voc / f"JPEGImages/{key}.jpg").convert("RGB"))
        ids, classes = connected_objects(label, min_area=400)
        for number, box in enumerate(tight_boxes(ids, np.arange(1, len(classes) + 1)), 1):
            box = tuple(int(v) for v in box)
            known = inside(label, box) != 255
            truth = inside(ids == number, box)[known]
            cut.append(iou(grabcut_box(image, box)[known], truth))
            filled.append(iou(np.ones_like(truth), truth))
    assert len(cut) >= 20
    assert np.mean(cut) > np.mean(filled), (np.mean(cut), np.mean(filled))


# -- what other methods ask of it --------------------------------------------------------------


def test_what_cannot_be_cut_is_none_and_else_the_mask_of_the_box():
    assert cut(IMAGE, (0, 0, 100, 80)) is None
    assert cut(np.full((40, 40, 3), 90, np.uint8), (10, 10, 30, 30), min_fill=1) is None
    np.testing.assert_array_equal(cut(IMAGE, BOX), grabcut_box(IMAGE, BOX))


def test_the_core_is_always_object():
    y, x = np.indices(DISC.shape)
    ring = DISC & ((x - 50) ** 2 + (y - 40) ** 2 > 150)
    image = np.where(ring[..., None], IMAGE, scene(radius=1)[0])
    found = cut(image, BOX, core=0.3)
    height, width = found.shape
    middle = (slice(round(.35 * height), round(.65 * height)),
              slice(round(.35 * width), round(.65 * width)))
    assert found[middle].all() and not cut(image, BOX)[middle].all()


@pytest.mark.parametrize("options", [{"space": "lab"}, {"start": 0.6}, {"side": 30},
                                     {"core": 0.45, "margin": 1.0, "space": "lab", "side": 40}])
def test_every_variant_finds_the_disc(options):
    found = cut(IMAGE, BOX, **options)
    assert found.dtype == bool and iou(found, inside(DISC)) > 0.85


def test_a_box_no_longer_than_the_side_is_not_shrunk():
    longest = max(BOX[2] - BOX[0], BOX[3] - BOX[1])
    np.testing.assert_array_equal(cut(IMAGE, BOX, side=longest), cut(IMAGE, BOX))


def test_shrunk_boxes_of_every_shape_give_a_mask_or_none():
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (60, 90, 3)).astype(np.uint8)
    for box in ((0, 10, 90, 11), (5, 0, 6, 60), (1, 1, 80, 4), (10, 10, 60, 50)):
        found = cut(image, box, side=12, core=0.4, min_fill=0)
        assert found is None or found.shape == (box[3] - box[1], box[2] - box[0])
