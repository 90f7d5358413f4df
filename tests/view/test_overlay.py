"""Fills, contours and blending, against values worked out by hand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from wsseg.view.colours import (class_colour, class_name, class_table, has_background, ink_on,
                                instance_colour)
from wsseg.view.heat import LEVELS, heat, heat_table
from wsseg.view.overlay import (HATCH, blend, cam_fill, contour, fit, hatch, heat_fill, jpeg,
                                label_fill, png, resize_labels, resize_photo, resize_strokes,
                                resize_values)

TABLE = class_table(256)


def test_a_blended_pixel_is_the_weighted_mean_of_photo_and_class_colour():
    photo = np.full((1, 2, 3), (100, 200, 40), np.uint8)
    fill = label_fill(np.array([[0, 1]]), TABLE)  # class 1 is (128, 0, 0)
    assert blend(photo, fill, 0.5).tolist() == [[[100, 200, 40], [114, 100, 20]]]
    assert blend(photo, fill, 0.25).tolist() == [[[100, 200, 40], [107, 150, 30]]]
    assert blend(photo, fill, 0).tolist() == photo.tolist()
    assert blend(photo, fill, 1).tolist() == [[[100, 200, 40], [128, 0, 0]]]


def test_a_layer_that_is_half_clear_counts_half():
    photo = np.zeros((1, 1, 3), np.uint8)
    layer = np.array([[[250, 0, 0, 51]]], np.uint8)  # opacity 1/5
    assert blend(photo, layer).tolist() == [[[50, 0, 0]]]
    assert blend(photo, layer, 0.5).tolist() == [[[25, 0, 0]]]


def test_blending_layers_of_another_size_is_an_error():
    with pytest.raises(ValueError, match="differ in size"):
        blend(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 4), np.uint8))


def test_the_hatch_marks_ignored_pixels_and_no_others():
    labels = np.zeros((16, 16), np.uint8)
    labels[:, 8:] = 255
    labels[:4, :4] = 1
    photo = np.full((16, 16, 3), 90, np.uint8)
    result = blend(photo, label_fill(labels, TABLE), 0.5)
    assert (result[4:, :8] == 90).all()
    assert (result[:4, :4] == (109, 45, 45)).all()
    stripes = hatch((16, 16))[:, 8:]
    assert stripes.mean() == 0.25
    light = round((90 + HATCH[0]) / 2)
    assert (result[:, 8:][stripes] == light).all()
    assert (result[:, 8:][~stripes] == 90).all()


def test_class_0_is_drawn_where_it_is_no_background():
    names = ("road", "sky")
    fill = label_fill(np.array([[0, 1]]), class_table(256, names), background=False)
    assert fill.tolist() == [[[170, 170, 170, 255], [128, 0, 0, 255]]]


def test_labels_above_255_have_colours():
    table = class_table(301)
    fill = label_fill(np.array([[300]], np.uint16), table)
    assert fill[0, 0, :3].tolist() == list(class_colour(300))
    assert fill[0, 0, 3] == 255


def test_the_contour_lies_on_region_borders_only():
    labels = np.zeros((6, 7), np.uint8)
    labels[1:5, 2:6] = 3
    expected = np.zeros((6, 7), bool)
    expected[1:5, 2:6] = True
    expected[2:4, 3:5] = False
    assert (contour(labels, labels > 0) == expected).all()
    both = contour(labels)
    assert (both & (labels > 0) == expected).all()
    assert both[0, 2:6].all() and not both[0, :2].any()


def test_the_edge_of_the_image_is_no_border():
    assert not contour(np.full((4, 4), 2)).any()


def test_touching_regions_both_have_a_contour():
    labels = np.array([[1, 1, 2, 2]])
    assert contour(labels).tolist() == [[False, True, True, False]]


def test_activations_are_as_opaque_as_they_are_strong():
    values = np.array([[[0.0, 0.5, 0.1]], [[0.04, 0.2, 1.0]]], np.float32)
    fill = cam_fill(values, np.array([1, 2]), TABLE)
    # Steps of 1/8: 0.04 -> 0, 0.5 -> 128/255, 1 -> 255; the colour is the winner's.
    assert fill.tolist() == [[[0, 0, 0, 0], [128, 0, 0, 128], [0, 128, 0, 255]]]


def test_no_activations_leave_the_photo_alone():
    assert not cam_fill(np.zeros((0, 2, 3), np.float32), np.zeros(0, int), TABLE).any()


def test_heat_rises_from_dark_blue_to_yellow():
    table = heat_table(5)
    assert table[0].tolist() == [68, 1, 84] and table[-1].tolist() == [253, 231, 37]
    luma = heat_table().astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(luma) > 0).all()
    coloured = heat(np.array([[-1, 0, 0.5, 1, 2]]))
    assert coloured[0, 0].tolist() == coloured[0, 1].tolist() == [68, 1, 84]
    assert coloured[0, 3].tolist() == coloured[0, 4].tolist() == [253, 231, 37]
    assert np.abs(coloured[0, 2].astype(int) - (33, 145, 140)).max() <= 3  # middle anchor
    assert len(np.unique(heat(np.linspace(0, 1, 999)[None]), axis=1)[0]) == LEVELS
    assert (heat_fill(np.zeros((2, 2)))[..., 3] == 255).all()


def test_scaling_keeps_proportions():
    assert fit((375, 500), (300, 300)) == (225, 300)
    assert fit((500, 375), (225, 300)) == (225, 169)
    assert fit((1, 1000), (10, 10)) == (1, 10)
    assert fit((7, 9), None) == (7, 9)


def test_labels_scale_by_nearest_pixel():
    labels = np.array([[1, 2], [3, 255]], np.uint8)
    assert (resize_labels(labels, (4, 6)) == np.kron(labels, np.ones((2, 3), np.uint8))).all()
    assert resize_labels(np.arange(9).reshape(3, 3), (1, 1)).tolist() == [[4]]


def test_a_thin_stroke_stays_whole_when_made_smaller():
    drawn = np.zeros((400, 400), bool)
    drawn[np.arange(400), np.arange(400)] = True
    small = resize_strokes(drawn, (40, 40))
    assert (small == np.eye(40, dtype=bool)).all()
    assert resize_strokes(np.eye(2, dtype=bool), (4, 4)).sum() == 8


def test_photos_and_values_scale_smoothly():
    photo = np.zeros((40, 40, 3), np.uint8)
    photo[:, 20:] = 200
    small = resize_photo(photo, (4, 4))
    assert small.shape == (4, 4, 3)
    assert small[:, 0].max() <= 6 and abs(int(small[0, 3, 0]) - 200) <= 6
    values = resize_values(np.array([[[0.0, 1.0]]], np.float16), (1, 4))
    assert values.dtype == np.float32
    assert np.allclose(values, [[[0, 0.25, 0.75, 1]]])


def test_png_keeps_every_pixel_of_few_and_many_colours():
    few = label_fill(np.random.default_rng(0).integers(0, 256, (40, 50)), TABLE)
    many = np.random.default_rng(1).integers(0, 256, (40, 50, 4), np.uint8)
    for pixels in (few, many, many[..., :3]):
        image = Image.open(io.BytesIO(png(pixels)))
        back = np.asarray(image.convert("RGBA" if pixels.shape[2] == 4 else "RGB"))
        if pixels.shape[2] == 4:  # what is clear has no colour worth keeping
            assert (back[..., 3] == pixels[..., 3]).all()
            shown = pixels[..., 3] > 0
            assert (back[shown] == pixels[shown]).all()
        else:
            assert (back == pixels).all()
    assert Image.open(io.BytesIO(png(few))).mode == "P"
    assert Image.open(io.BytesIO(jpeg(many[..., :3]))).format == "JPEG"


def test_class_0_is_background_unless_its_name_says_otherwise():
    assert has_background(None) and has_background(("__background__", "cat"))
    assert not has_background(("road", "sky"))
    assert class_colour(0) == (0, 0, 0) and class_colour(0, ("road",)) == (170, 170, 170)
    assert class_colour(15) == (192, 128, 128)  # VOC's person
    assert class_name(1, ("bg", "cat")) == "cat" and class_name(7, ("bg", "cat")) == "class 7"


def test_instances_have_colours_of_their_own():
    colours = np.array([instance_colour(n) for n in range(40)], int)
    apart = np.abs(colours[:, None] - colours[None]).sum(2) + 1000 * np.eye(40, dtype=int)
    assert apart.min() > 10
    assert np.abs(np.diff(colours, axis=0)).sum(1).min() > 100  # neighbours in number


def test_ink_on_dark_is_white_and_on_light_is_black():
    assert ink_on((0, 0, 128)) == (255, 255, 255)
    assert ink_on((253, 231, 37)) == (0, 0, 0)
