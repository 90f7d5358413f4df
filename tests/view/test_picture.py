"""Every kind of value is drawn where it belongs, and told in words."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.errors import RecordError
from wsseg.io.kinds import KINDS
from wsseg.io.values import Boxes, InstanceMap, Masks, Points, ScoreMap, Segment
from wsseg.view.colours import class_colour, instance_colour
from wsseg.view.ink import Ink, font, grown, inside, shorten
from wsseg.view.look import Look, shares
from wsseg.view.overlay import HATCH, NO_PHOTO
from wsseg.view.picture import DRAWN, draw, guess_size, size_of, views

NAMES = ("background", "cat", "dog")
LOOK = Look(NAMES)
SIZE = (60, 80)


def one(kind, value, look=LOOK, out=SIZE):
    return draw({kind: value}, SIZE, out, look)


def test_every_kind_but_the_photo_can_be_drawn():
    assert set(DRAWN) == set(KINDS) - {"image"}


def test_a_label_map_is_filled_and_outlined():
    labels = np.zeros(SIZE, np.uint8)
    labels[10:30, 10:50] = 2
    labels[40:50, :] = 255
    layers = one("label", labels)
    assert (layers.fill[11:29, 11:49] == (*class_colour(2), 255)).all()
    assert not layers.fill[30:40].any()
    assert (layers.fill[40:50][layers.fill[40:50, :, 3] > 0] == (*HATCH, 255)).all()
    line = layers.ink[..., 3] > 0
    assert line.sum() == 2 * 40 + 2 * 18  # the border of 20 x 40, corners once
    assert line[10, 10:50].all() and not line[40:50].any()
    assert layers.seen == {2, 255}
    assert layers.note == "dog 17%, ignored 17%"


def test_shares_name_the_largest_parts_first():
    labels = np.repeat(np.arange(9), 10)[None]
    labels[0, 20:40] = 1
    assert shares(labels, Look()).startswith("class 1 33%, class 4 11%")
    assert shares(labels, Look()).endswith(", 1 more")
    assert shares(np.zeros((2, 2), int), LOOK) == "background only"
    assert shares(np.eye(20, dtype=int)[:1], Look()) == "class 1 5%"


def test_instances_have_their_own_colours_and_names():
    ids = np.zeros(SIZE, np.uint16)
    ids[5:25, 5:75] = 300
    ids[35:55, 5:75] = 7
    value = InstanceMap(ids, (Segment(7, 1, 0.5), Segment(300, 2)))
    layers = one("instance", value)
    assert (layers.fill[6, 6] == (*instance_colour(1), 255)).all()
    assert (layers.fill[36, 6] == (*instance_colour(0), 255)).all()
    assert layers.note == "1 × cat, 1 × dog"
    assert layers.seen == frozenset()  # their names stand in the picture
    patch = layers.ink[30:60, 20:60]
    assert (patch[..., 3] > 0).sum() > 300  # "cat 0.50" on a patch in the lower one


def test_stuff_of_a_panoptic_map_has_the_colour_of_its_class():
    value = InstanceMap(np.full(SIZE, 3, np.uint16), (Segment(3, 2, thing=False),))
    layers = one("instance", value)
    assert (layers.fill[0, 0] == (*class_colour(2), 255)).all()
    assert layers.seen == {2}


def test_overlapping_masks_show_the_most_certain_on_top():
    left = np.zeros(SIZE, np.uint8)
    left[:, :50] = 1
    right = np.zeros(SIZE, np.uint8)
    right[:, 30:] = 1

    def runs(mask):
        flat = np.concatenate(([0], mask.T.ravel(), [1 - mask.T.ravel()[-1]]))
        cuts = np.flatnonzero(np.diff(flat))
        return tuple(np.diff([0, *cuts]).tolist())

    value = Masks(SIZE, (runs(left), runs(right)), np.array([1, 2]), np.array([0.9, 0.4]))
    fill = one("masks", value).fill
    assert (fill[0, 40] == (*instance_colour(0), 255)).all()
    assert (fill[0, 60] == (*instance_colour(1), 255)).all()


def test_scores_are_drawn_as_their_best_class():
    data = np.zeros((2, 6, 8), np.float32)
    data[0], data[1, :, 4:] = 0.4, 0.6
    layers = one("score", ScoreMap(data, np.array([0, 2]), SIZE))
    assert not layers.fill[:, :35].any()
    assert (layers.fill[:, 45:] == (*class_colour(2), 255)).all()
    assert layers.seen == {2}


def test_a_heat_map_shows_one_class():
    data = np.zeros((2, *SIZE), np.float16)
    data[1, :, 40:] = 1
    value = ScoreMap(data, np.array([1, 2]), SIZE)
    layers = one("score", value, Look(NAMES, heat=2))
    assert layers.fill[0, 0, :3].tolist() == [68, 1, 84]
    assert layers.fill[0, 79, :3].tolist() == [253, 231, 37]
    assert layers.note == "dog from 0.00 to 1.00"
    absent = one("cam", value, Look(NAMES, heat=0))
    assert (absent.fill[..., :3] == (68, 1, 84)).all()
    assert "background is not among" in absent.note


def test_a_heat_map_is_preferred_to_a_label_map_only_when_asked_for():
    values = {"label": np.full(SIZE, 1, np.uint8),
              "score": ScoreMap(np.ones((1, *SIZE), np.float32), np.array([2]), SIZE)}
    assert (draw(values, SIZE, SIZE, LOOK).fill[..., :3] == class_colour(1)).all()
    assert (draw(values, SIZE, SIZE, Look(NAMES, heat=2)).fill[..., :3] == (253, 231, 37)).all()


def test_the_strongest_classes_are_drawn_by_rank():
    """By their mean; the background, and what is not there, is left out."""
    data = np.zeros((3, *SIZE), np.float16)
    data[0], data[1, :, 40:], data[2] = 1, 1, .25
    value = ScoreMap(data, np.array([0, 1, 2]), SIZE)
    first, second, third = (one("cam", value, Look(NAMES, rank=r)) for r in range(3))
    assert first.note == "cat from 0.00 to 1.00" and second.note == "dog from 0.25 to 0.25"
    assert first.fill[0, 79, :3].tolist() == [253, 231, 37] and first.ink[..., 3].any()
    assert not third.fill.any() and third.note == "no more than 2 classes"
    none = ScoreMap(np.zeros((0, 2, 2), np.float16), np.zeros(0, int), SIZE)
    assert not one("score", none, Look(NAMES, rank=0)).fill.any()
    tagged = draw({"cam": value, "tags": (1, 2)}, SIZE, SIZE, Look(NAMES, rank=0))
    assert tagged.note == "cat from 0.00 to 1.00"  # its tags would cover its own name


def test_activations_and_confidence_say_what_they_reach():
    cam = ScoreMap(np.full((1, 2, 2), 0.5, np.float32), np.array([1]), SIZE)
    assert one("cam", cam).note == "cat up to 0.50"
    assert (one("cam", cam).fill[..., 3] == 128).all()
    assert one("conf", np.full(SIZE, 51, np.uint8)).note == "confidence 20% on average"


def test_a_box_is_two_pixels_wide_inside_its_edge():
    boxes = Boxes(np.array([[20.0, 20, 60, 50]]), np.array([2]), SIZE)
    ink = one("boxes", boxes, Look()).ink
    line = ink[..., 3] > 0
    expected = np.zeros(SIZE, bool)
    expected[20:50, 20:60] = True
    expected[22:48, 22:58] = False
    below = slice(38, None)  # the name covers what is above
    assert (line[below] == expected[below]).all()
    assert not line[:20].any() and not line[:, :20].any()
    assert (ink[49, 20:60, :3] == class_colour(2)).all()


def test_boxes_scale_with_the_picture_but_not_their_lines():
    boxes = Boxes(np.array([[10.0, 10, 30, 50]]), np.array([1]), SIZE)
    ink = one("boxes", boxes, Look(), (120, 160)).ink
    assert (ink[99, 20:60, :3] == class_colour(1)).all() and ink[98, 40, 3] and not ink[97, 40, 3]
    assert not ink[100].any()


def test_a_box_beyond_the_image_is_clipped():
    boxes = Boxes(np.array([[-10.0, -5, 200, 500]]), np.array([1]), SIZE)
    line = one("boxes", boxes).ink[..., 3] > 0
    assert line[-2:].all() and not line[-3, 30:-2].any()


def test_scribbles_are_opaque_with_a_white_rim():
    drawn = np.full(SIZE, 255, np.uint8)
    drawn[30, 10:70] = 0
    layers = one("scribble", drawn)
    assert (layers.ink[30, 10:70] == (0, 0, 0, 255)).all()
    assert (layers.ink[29, 10:70] == 255).all() and (layers.ink[31, 10:70] == 255).all()
    assert not layers.ink[:29].any()
    assert layers.seen == {0} and layers.note == "scribbles on 1%: background"


def test_points_sit_on_the_middle_of_their_pixel():
    points = Points(np.array([[40.0, 30]]), np.array([1]), SIZE)
    layers = one("points", points)
    assert (layers.ink[30, 40] == (*class_colour(1), 255)).all()
    rows, columns = np.nonzero(layers.ink[..., 3])
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (60, 80)
    assert layers.note == "points: 1 × cat"


def test_tags_and_counts_are_written_into_the_picture():
    layers = draw({"tags": (1, 2), "counts": {1: 3}}, SIZE, SIZE, LOOK)
    assert layers.ink[..., 3].any()
    assert layers.note == "tags: cat, dog; counts: 3 × cat"
    assert layers.seen == {1, 2}


def test_nothing_to_draw_is_clear():
    layers = draw({}, SIZE, SIZE, LOOK)
    assert not layers.fill.any() and not layers.ink.any() and layers.note == ""
    empty = {"boxes": Boxes(np.zeros((0, 4)), np.zeros(0, int)), "tags": (),
             "instance": InstanceMap(np.zeros(SIZE, np.uint16), ()),
             "score": ScoreMap(np.zeros((0, 2, 2), np.float32), np.zeros(0, int), SIZE)}
    for kind, value in empty.items():
        layers = one(kind, value)
        assert not layers.fill.any() and not layers.ink.any()


def test_parts_of_another_size_are_refused_with_both_sizes():
    values = {"label": np.zeros((10, 12), np.uint8)}
    with pytest.raises(RecordError, match="label 10x12, photo 20x20"):
        views("k", np.zeros((20, 20, 3), np.uint8), [values], [LOOK], None)
    assert size_of({"tags": (1,), "boxes": Boxes(np.zeros((0, 4)), np.zeros(0, int))}) is None


def test_a_record_without_any_size_gets_a_canvas_that_holds_it():
    boxes = Boxes(np.array([[0.0, 0, 640, 100.5]]), np.array([1]))
    points = Points(np.array([[5.0, 479]]), np.array([1]))
    assert guess_size({"boxes": boxes, "points": points}) == (480, 640)
    assert guess_size({"tags": (1,)}) == (240, 320)


def test_a_record_without_photo_is_drawn_on_dark_grey():
    labels = np.zeros(SIZE, np.uint8)
    drawn = views("k", None, [{"label": labels}, None], [LOOK, LOOK], (30, 40))
    assert not drawn.photo and drawn.size == SIZE
    tile, missing = drawn.tiles(0.5)
    assert tile.shape == (30, 40, 3) and (tile == NO_PHOTO).all()
    assert missing is None


def test_a_full_size_picture_keeps_untouched_pixels():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    labels = np.zeros(SIZE, np.uint8)
    labels[20:40, 20:40] = 1
    tile, = views("k", photo, [{"label": labels}], [LOOK], None).tiles(0.5)
    assert (tile[labels == 0] == photo[labels == 0]).all()
    assert (tile[20, 20:40] == class_colour(1)).all()  # the contour in full colour
    expected = (photo[21:39, 21:39].astype(float) + class_colour(1)) / 2
    assert np.abs(tile[21:39, 21:39] - expected).max() <= 0.5


def test_names_stay_in_the_picture_and_off_each_other():
    ink = Ink((100, 200))
    for _ in range(3):
        ink.name("a name", (195, 97), (200, 0, 0))
    rows = (ink.pixels()[..., 3] > 0).any(1)
    assert rows.sum() < 100
    assert ink.pixels()[..., 3].any()
    apart = Ink((200, 200))
    for _ in range(3):
        apart.name("name", (10, 10), (0, 0, 200), False)
    assert (apart.pixels()[..., 3] > 0).any(1).sum() == 3 * (apart.size + 6)


def test_a_point_inside_a_region_is_inside_even_when_it_is_a_ring():
    rows, columns = np.ogrid[:50, :50]
    distance = (rows - 25) ** 2 + (columns - 25) ** 2
    ring = (distance < 400) & (distance > 200)
    x, y = inside(ring)
    assert ring[y, x]
    assert inside(np.eye(1, dtype=bool)) == (0, 0)


def test_growing_makes_squares():
    mask = np.zeros((7, 7), bool)
    mask[3, 3] = mask[0, 0] = True
    result = grown(mask, 1)
    assert result[2:5, 2:5].all() and result[:2, :2].all() and result.sum() == 9 + 4 - 0


def test_long_text_is_cut_with_an_ellipsis():
    cut = shorten("a very long class name", 60, 12)
    assert cut.endswith("…") and font(12).getlength(cut) <= 60
    assert shorten("cat", 60, 12) == "cat"
