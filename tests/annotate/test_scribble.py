"""Simulated scribbles: strokes like a hand's, on their own object, the same for the same seed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tests.conftest import make_label, real_data
from wsseg.annotate.objects import connected_objects
from wsseg.annotate.scribble import NOT_DRAWN, Stroke, draw_scribbles, plan_scribbles

labels = arrays(np.uint8, st.tuples(st.integers(1, 15), st.integers(1, 15)),
                elements=st.sampled_from([0, 0, 1, 2, 255]))


def draw(label: np.ndarray, seed: int = 0, **options) -> np.ndarray:
    ids, classes = connected_objects(label)
    return draw_scribbles(label, ids, classes, np.random.default_rng(seed), **options)


def plan(label: np.ndarray, seed: int = 0, **options) -> list[Stroke]:
    ids, classes = connected_objects(label)
    return plan_scribbles(label, ids, classes, np.random.default_rng(seed), **options)


def box(size: tuple[int, int] = (200, 300), cls: int = 3) -> np.ndarray:
    """One rectangle, of 60 % by 2/3 of the image."""
    label = np.zeros(size, np.uint8)
    label[size[0] // 5:-size[0] // 5, size[1] // 6:-size[1] // 6] = cls
    return label


@st.composite
def scenes(draw_from, sizes=((120, 160), (210, 320), (300, 200)), most=5) -> np.ndarray:
    """A map like a real one: large rounded objects that cover each other, void between."""
    size = draw_from(st.sampled_from(sizes))
    label = np.zeros(size, np.uint8)
    for _ in range(draw_from(st.integers(1, most))):
        centre = [draw_from(st.integers(0, n)) for n in size[::-1]]
        axes = [draw_from(st.integers(8, n // 3)) for n in size[::-1]]
        angle, cls = draw_from(st.integers(0, 180)), draw_from(st.integers(1, 4))
        cv2.ellipse(label, centre, [n + 2 for n in axes], angle, 0, 360, 255, -1)
        cv2.ellipse(label, centre, axes, angle, 0, 360, cls, -1)
    return label


def check_right(label: np.ndarray, drawn: np.ndarray) -> None:
    """Nothing is drawn but on its own class, and something on every object."""
    assert drawn.dtype == np.uint8 and drawn.shape == label.shape
    on = drawn != NOT_DRAWN
    np.testing.assert_array_equal(drawn[on], label[on])
    ids, classes = connected_objects(label)
    assert set(range(1, len(classes) + 1)) <= set(ids[on].tolist())
    assert (drawn == 0).any() == (label == 0).any()


# -- properties --------------------------------------------------------------------------------


@settings(max_examples=60)
@given(labels, st.integers(0, 9), st.integers(1, 5), st.sampled_from([None, 1, 3]),
       st.sampled_from([.001, .03, .25]))
def test_what_is_drawn_is_right_and_every_object_gets_some(label, seed, width, strokes, coverage):
    check_right(label, draw(label, seed, width=width, strokes=strokes, coverage=coverage))


@settings(max_examples=25)
@given(scenes(), st.integers(0, 9), st.integers(1, 6))
def test_large_objects_as_well(label, seed, width):
    check_right(label, draw(label, seed, width=width))


@settings(max_examples=40)
@given(labels, st.integers(0, 9), st.floats(.01, .3))
def test_even_the_sloppy_touch_every_object(label, seed, sloppy):
    drawn = draw(label, seed, sloppy=sloppy)
    ids, classes = connected_objects(label)
    for number, cls in enumerate(classes, start=1):
        assert (drawn[ids == number] == cls).any()


@settings(max_examples=25)
@given(scenes([(210, 320), (300, 200)], 2), st.integers(0, 9), st.sampled_from([.02, .03, .04]))
def test_as_much_is_drawn_as_was_asked_where_there_is_room(label, seed, coverage):
    drawn = draw(label, seed, coverage=coverage) != NOT_DRAWN
    assert .6 * coverage < drawn.sum() / (label != 255).sum() < 1.35 * coverage


@settings(max_examples=15)
@given(st.integers(0, 99), st.sampled_from([1, 2, 3, 5, 8]))
def test_strokes_are_as_wide_as_the_pen_and_have_no_gaps(seed, width):
    label = np.ones((90, 120), np.uint8)
    drawn = draw(label, seed, width=width, strokes=1) == 1
    stroke, = plan(label, seed, width=width, strokes=1)
    at = np.linspace(0, len(stroke.xy) - 1, 6 * len(stroke.xy))
    x, y = (np.interp(at, np.arange(len(stroke.xy)), c) for c in stroke.xy.T)
    rows, cols = np.mgrid[:90, :120]
    away = np.hypot(cols[..., None] - x, rows[..., None] - y).min(axis=2)
    assert drawn[away < width / 2 - 1].all() and not drawn[away > width / 2 + 1.3].any()
    assert ndimage.label(drawn, np.ones((3, 3)))[1] == 1


@settings(max_examples=20)
@given(scenes(), st.integers(0, 99), st.floats(0, .2))
def test_the_same_seed_draws_the_same_and_another_one_something_else(label, seed, sloppy):
    first = draw(label, seed, sloppy=sloppy)
    np.testing.assert_array_equal(first, draw(label.copy(), seed, sloppy=sloppy))
    assert not np.array_equal(first, draw(label, seed + 1, sloppy=sloppy))


# -- strokes like a hand's ---------------------------------------------------------------------


def test_strokes_are_strokes_and_not_areas():
    drawn = draw(box(), strokes=1)
    assert 60 < (drawn == 3).sum() < .15 * (box() == 3).sum()
    ys, xs = np.nonzero(drawn == 3)
    assert np.ptp(xs) > 80  # along the longest extent


def test_strokes_keep_off_the_border_where_there_is_room():
    depth = ndimage.distance_transform_edt(np.pad(box(), 1) == 3)[1:-1, 1:-1]
    near = [depth[draw(box(), seed) == 3].min() for seed in range(10)]
    assert min(near) >= 1.5 and np.median(near) > 4


def test_strokes_are_smooth():
    turns = []
    for seed in range(5):
        for stroke in plan(box(), seed):
            steps = np.diff(stroke.xy[::4], axis=0)  # over 8 pixels, past a hand's shaking
            angles = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
            turns += np.abs(np.diff(angles)).tolist()
    assert np.median(turns) < .35 and np.quantile(turns, .95) < 1.2


def test_strokes_are_no_straight_lines():
    bends = []
    for seed in range(8):
        for stroke in plan(box(), seed):
            chord = stroke.xy[-1] - stroke.xy[0]
            away = (stroke.xy - stroke.xy[0]) @ [-chord[1], chord[0]] / np.hypot(*chord)
            bends.append(np.abs(away).max() / np.hypot(*chord))
    assert np.median(bends) > .05


def test_a_stroke_follows_a_bent_object():
    label = np.zeros((200, 300), np.uint8)
    cv2.ellipse(label, (150, 190), (120, 150), 0, 180, 360, 2, 22)  # an arch
    xs = np.nonzero(draw(label, strokes=1, coverage=.05) == 2)[1]
    assert np.ptp(xs) > 130  # over the top, from one leg into the other


def test_larger_objects_get_more_strokes_and_small_ones_a_dash():
    label = np.zeros((200, 300), np.uint8)
    label[10:190, 10:200], label[50:62, 240:252], label[150:153, 250:253] = 1, 2, 3
    strokes = [s for seed in range(5) for s in plan(label, seed)]
    count = [sum(s.cls == c for s in strokes) for c in range(4)]
    assert count[1] > 5 and count[2] == count[3] == 5
    lengths = [max(s.length() for s in strokes if s.cls == c) for c in (1, 2, 3)]
    assert lengths[0] > 60 > 12 > lengths[1] and lengths[2] < 3


def test_later_strokes_go_where_earlier_ones_are_not():
    label = np.ones((150, 150), np.uint8)
    far = {n: np.mean([ndimage.distance_transform_edt(draw(label, seed, strokes=n) != 1).max()
                       for seed in range(8)]) for n in (1, 3)}
    assert far[3] < .8 * far[1]
    parts = [ndimage.label(draw(label, seed, strokes=3) == 1, np.ones((3, 3)))[1]
             for seed in range(8)]
    crossed = sum(len(plan(label, seed, strokes=3)) > n for seed, n in enumerate(parts))
    assert crossed <= 3


@pytest.mark.parametrize("strokes", [1, 2, 4])
def test_as_many_strokes_as_asked_where_there_is_room(strokes):
    found = plan(box(), strokes=strokes)
    assert sum(s.number == 1 for s in found) == strokes
    assert strokes <= sum(s.number == 0 for s in found) <= 2 * strokes


def test_a_wider_pen_draws_wider_but_not_more():
    drawn = [draw(box(), width=w) == 3 for w in (1, 3, 9)]
    wide = [cv2.distanceTransform(d.view(np.uint8), cv2.DIST_L2, 3).max() for d in drawn]
    assert wide[0] <= 1.5 < wide[1] < wide[2]
    assert max(d.sum() for d in drawn) < 2.5 * min(d.sum() for d in drawn)


# -- sloppy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [.02, .1])
def test_about_the_share_of_wrong_pixels_that_was_asked_for(share):
    wrong = total = 0
    label = box()
    label[100:160, 20:70] = 2
    for seed in range(60):
        drawn = draw(label, seed, sloppy=share)
        on = drawn != NOT_DRAWN
        wrong, total = wrong + (drawn[on] != label[on]).sum(), total + on.sum()
    assert wrong / total == pytest.approx(share, rel=.35)


def test_a_slip_goes_on_from_the_end_of_its_stroke_over_the_border():
    slips = [s for seed in range(5) for s in plan(box(), seed, sloppy=.1) if len(s.slip)]
    assert slips
    for stroke in slips:
        ends = stroke.xy[[0, -1]]
        assert np.hypot(*(ends - stroke.slip[0]).T).min() == 0
        x, y = np.rint(stroke.slip[-1]).astype(int)
        assert not (0 <= y < 200 and 0 <= x < 300) or box()[y, x] != stroke.cls


def test_nobody_slips_where_there_is_one_class():
    label = np.ones((60, 80), np.uint8)
    np.testing.assert_array_equal(np.unique(draw(label, sloppy=.3)), [1, NOT_DRAWN])
    assert not any(len(s.slip) for s in plan(label, sloppy=.3))


# -- edges -------------------------------------------------------------------------------------


def test_a_thin_object_gets_at_least_a_pixel():
    label = np.zeros((30, 30), np.uint8)
    label[np.arange(30), np.arange(30)] = 1  # a diagonal of single pixels
    label[29, 0] = 2
    drawn = draw(label, width=1)
    assert (drawn == 1).any() and drawn[29, 0] == 2


def test_void_is_never_drawn_on():
    label = make_label(0, (60, 80))
    label[20:40] = 255
    assert (draw(label)[20:40] == NOT_DRAWN).all()


@pytest.mark.parametrize("sloppy", [0, .2])
def test_nothing_to_draw_draws_nothing(sloppy):
    label = np.full((6, 6), 255, np.uint8)
    assert (draw(label, sloppy=sloppy) == NOT_DRAWN).all()


def test_an_image_that_is_one_object_has_no_background_stroke():
    drawn = draw(np.ones((20, 20), np.uint8))
    assert set(np.unique(drawn)) == {1, 255}


def test_without_a_background_class_0_is_drawn_as_an_object_only():
    label = np.zeros((60, 80), np.uint8)
    ids, classes = connected_objects(label, background=None)
    found = plan_scribbles(label, ids, classes, np.random.default_rng(0), background=None)
    assert {(s.cls, s.number) for s in found} == {(0, 1)}


@pytest.mark.parametrize("cls", [1, 254])
def test_any_8_bit_class_is_drawn(cls):
    label = np.zeros((20, 20), np.uint8)
    label[5:15, 5:15] = cls
    assert set(np.unique(draw(label))) == {0, cls, 255}


def test_real_masks_get_strokes_like_those_of_scribblesup():
    from PIL import Image

    folder = real_data("VOC2012") / "SegmentationClass"
    shares = []
    for path in sorted(folder.iterdir())[::60]:
        label = np.asarray(Image.open(path))
        drawn = draw(label)
        check_right(label, drawn)
        shares.append((drawn != NOT_DRAWN).mean())
    assert .027 < np.mean(shares) < .033 and max(shares) < .05
