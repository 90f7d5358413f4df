"""Augmentation against pixels computed one by one, and the tensor form against the numpy one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from wsseg.errors import UsageError  # noqa: E402
from wsseg.train.augment import MEAN, Augment  # noqa: E402

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
CV5 = int(cv2.__version__.split(".")[0]) >= 5  # before, warpAffine counted in 1/32 of a pixel
SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def picture(size, seed=0):
    """A smooth photo, and labels."""
    rng = np.random.default_rng(seed)
    photo = cv2.resize(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), size[::-1],
                       interpolation=cv2.INTER_CUBIC)
    return photo, rng.integers(0, 21, size, dtype=np.uint8)


def places(warp):
    """Where each output pixel's centre lies in the input: x and y, (h,w)."""
    y, x = np.mgrid[:warp.size[0], :warp.size[1]] + .5
    return warp.matrix[:, :2] @ np.stack([x.ravel(), y.ravel()]) + warp.matrix[:, 2:]


def label_by_pixel(label, warp, fill=255):
    x, y = np.floor(places(warp)).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < label.shape[1]) & (y < label.shape[0])
    index = y.clip(0, label.shape[0] - 1), x.clip(0, label.shape[1] - 1)
    return np.where(inside, label[index], fill).reshape(warp.size)


def photo_by_pixel(photo, warp):
    """Bilinear, with the mean colour all around."""
    padded = np.empty((photo.shape[0] + 4, photo.shape[1] + 4, 3))
    padded[:] = warp.mean
    padded[2:-2, 2:-2] = photo
    x, y = (p.clip(-1.5, n + .5) + 1.5 for p, n in zip(places(warp), photo.shape[1::-1]))
    x0, y0 = (np.floor(p).astype(int) for p in (x, y))
    fx, fy = ((p - q)[:, None] for p, q in ((x, x0), (y, y0)))
    value = (padded[y0, x0] * (1 - fx) + padded[y0, x0 + 1] * fx) * (1 - fy) \
        + (padded[y0 + 1, x0] * (1 - fx) + padded[y0 + 1, x0 + 1] * fx) * fy
    return value.reshape(*warp.size, 3)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.sampled_from((0., 30., 180.)), st.booleans(), st.integers(0, 999))
def test_every_pixel_comes_from_where_the_matrix_says(size, crop, rotate, squash, seed):
    photo, label = picture(size, seed)
    spec = Augment(crop, scale=(.6, 2), rotate=rotate, squash=squash)
    warp = spec.draw(size, np.random.default_rng(seed))
    taken, drawn = warp.photo(photo), warp.label(label)
    steps = np.hypot(warp.matrix[:, 0], warp.matrix[:, 1])
    distance = abs(places(warp) % 1 - .5).max(0).reshape(crop)  # .5 on a border
    sure = distance < .5 - 1 / 16  # no nearer to it than cv2 counts

    assert taken.shape == (*crop, 3) and drawn.shape == crop and drawn.dtype == np.uint8
    expected = label_by_pixel(label, warp)
    assert np.array_equal(drawn, expected) if warp.upright \
        else np.array_equal(drawn[sure], expected[sure])
    if steps.max() < 2:
        assert abs(taken - photo_by_pixel(photo, warp)).max() < (1 if CV5 else 17)


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.integers(0, 999))
def test_without_scale_and_turn_pixels_are_copied(size, crop, seed):
    rng = np.random.default_rng(seed)
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    warp = Augment(crop, scale=(1, 1)).draw(size, rng)
    number = np.arange(size[0] * size[1], dtype=np.uint16).reshape(size)
    source = warp.label(number, fill=65535)
    padded = np.concatenate([photo.reshape(-1, 3), np.array([MEAN], np.uint8)])

    assert np.array_equal(warp.photo(photo), padded[np.minimum(source, number.size)])
    for axis in (0, 1):  # all of it is in view, or the crop is full
        shown = (source < number.size).any(1 - axis).sum()
        assert shown == min(size[axis], crop[axis])
    mirrored = warp.matrix[0, 0] < 0
    if shown > 1:
        row = source[(source < number.size).any(1)][0]
        row = row[row < number.size].astype(int)
        assert (np.diff(row) == (-1 if mirrored else 1)).all()


def test_offsets_reach_both_ends_and_flips_happen_as_often_as_asked():
    rng = np.random.default_rng(0)
    spec = Augment((4, 4), scale=(1, 1), flip=.25)
    warps = [spec.draw((6, 3), rng) for _ in range(2000)]
    mirrored = np.array([w.matrix[0, 0] < 0 for w in warps])
    left = {int(w.matrix[0, 2]) - 4 * (w.matrix[0, 0] < 0) for w in warps}

    assert left == {-1, 0}
    assert {int(w.matrix[1, 2]) for w in warps} == {0, 1, 2}
    assert abs(mirrored.mean() - .25) < .05


def test_scales_fill_their_range():
    rng = np.random.default_rng(0)
    warps = [Augment(50, scale=(.5, 2), flip=0).draw((1000, 1000), rng) for _ in range(500)]
    factors = np.array([1 / w.matrix[0, 0] for w in warps])

    assert factors.min() >= .5 and factors.max() <= 2
    assert abs(factors.mean() - 1.25) < .05


def test_a_squashed_image_is_all_there():
    photo, label = picture((40, 80))
    warp = Augment((20, 20), squash=True, flip=0).draw((40, 80), np.random.default_rng(0))

    assert np.array_equal(warp.label(label), label[1::2, 2::4])
    assert np.allclose(warp.photo(photo), cv2.resize(photo, (20, 20),
                                                     interpolation=cv2.INTER_AREA), atol=2)


def test_far_below_half_size_the_photo_is_averaged():
    stripes = np.zeros((90, 90, 3), np.uint8)
    stripes[::2] = 200  # one row in two: any single row would be 0 or 200
    warp = Augment(9, scale=(.1, .1), flip=0).draw((90, 90), np.random.default_rng(0))
    assert abs(warp.photo(stripes).astype(int) - 100).max() <= 12


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, st.sampled_from((0., 20., 90.)), st.integers(0, 999))
def test_boxes_go_where_their_pixels_go(size, crop, rotate, seed):
    rng = np.random.default_rng(seed)
    corner, extent = rng.integers(0, size), rng.integers(1, 20, 2)
    y0, x0 = corner
    y1, x1 = np.minimum(corner + extent, size)
    mask = np.zeros(size, np.uint8)
    mask[y0:y1, x0:x1] = 1
    warp = Augment(crop, scale=(.7, 2), rotate=rotate).draw(size, rng)
    boxes, kept = warp.boxes(np.array([[x0, y0, x1, y1]]))
    rows, columns = warp.label(mask, fill=0).nonzero()

    if not len(kept):
        assert not len(rows)
        return
    a, b, c, d = boxes[0]
    assert 0 <= a < c <= crop[1] and 0 <= b < d <= crop[0]
    if len(rows):  # pixels whose centre is inside
        assert a - .6 <= columns.min() and columns.max() + 1 <= c + .6
        assert b - .6 <= rows.min() and rows.max() + 1 <= d + .6
    if warp.upright and min(c - a, d - b) > 2:
        assert abs(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                   - boxes[0]).max() < 1


def test_boxes_that_are_cut_away_are_dropped():
    warp = Augment((10, 10), scale=(1, 1), flip=0).draw((10, 10), np.random.default_rng(0))
    boxes = np.array([[0, 0, 4, 4], [-8, 0, 2, 4], [12, 0, 15, 3]])
    assert warp.boxes(boxes)[1].tolist() == [0, 1]
    kept, index = warp.boxes(boxes, visible=.25)
    assert index.tolist() == [0] and kept.tolist() == [[0, 0, 4, 4]]
    assert warp.boxes(np.zeros((0, 4)))[0].shape == (0, 4)


def test_colour_is_one_matrix_of_what_was_drawn():
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)

    def changed(**options):
        spec = Augment(8, scale=(1, 1), flip=0, **options)
        return spec.draw((8, 8), np.random.default_rng(3)).photo(photo).astype(float)

    def close(got, expected):  # cv2 counts in 1/1024 of a factor, and rounds
        return abs(got - expected.clip(0, 255)).max() < .75

    share = np.random.default_rng(3).random(9)[5:] * 2 - 1
    assert np.array_equal(changed(), photo)
    assert close(changed(brightness=.4), photo * (1 + .4 * share[0]))
    assert close(changed(contrast=.4), (photo - 127.5) * (1 + .4 * share[1]) + 127.5)
    vivid, luma = 1 + .4 * share[2], photo @ [.299, .587, .114]
    assert close(changed(saturation=.4), vivid * photo + (1 - vivid) * luma[..., None])


def test_a_third_of_a_turn_of_hue_exchanges_the_colours():
    spec = Augment(1, scale=(1, 1), flip=0, hue=1 / 3)
    matrix = spec._colour(.5, .5, .5, 1.)
    assert matrix[:, :3] == pytest.approx(np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), abs=1e-6)


def test_equal_generators_draw_equal_warps_and_options_do_not_shift_one_another():
    one, two = (Augment(9, hue=hue, rotate=rotate) for hue, rotate in ((0, 0), (.2, 0)))
    a, b = (s.draw((30, 40), np.random.default_rng(5)) for s in (one, two))
    assert np.array_equal(a.matrix, b.matrix)
    assert a.colour is None and b.colour.shape == (3, 4)


@pytest.mark.parametrize("wrong", ({"crop": 0}, {"scale": (2, 1)}, {"scale": (0, 1)}, {"flip": 2},
                                   {"rotate": -1}, {"contrast": -.1}, {"hue": .6},
                                   {"scale": (1, float("nan"))}))
def test_what_is_out_of_range_is_named(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Augment(**{"crop": 8, **wrong})


def test_a_map_of_another_size_is_refused():
    warp = Augment(8).draw((10, 12), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"expected 10x12 pixels.*\(12, 10\)"):
        warp.label(np.zeros((12, 10), np.uint8))
