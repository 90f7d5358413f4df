"""Photos: every pixel mode is converted by a rule, or refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from wsseg.errors import RecordError, UnsafeError
from wsseg.io.photo import (decode_photo, encode_photo, exif_orientation, photo_member,
                            photo_size)

RGB = np.random.default_rng(0).integers(0, 256, (9, 13, 3)).astype(np.uint8)
GREY = RGB[..., 0].copy()


def saved(image: Image.Image | np.ndarray, form: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(out, form, **options)
    return out.getvalue()


def turned(orientation: int, form: str = "JPEG", size: tuple[int, int] = (9, 13)) -> bytes:
    """A photo whose left half is bright, with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[:, :size[1] // 2] = 200
    return saved(pixels, form, exif=exif)


def grey3(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_rgb_comes_back_as_it_was(form):
    np.testing.assert_array_equal(decode_photo(saved(RGB, form)), RGB)


def test_what_is_encoded_is_decoded_without_loss():
    np.testing.assert_array_equal(decode_photo(encode_photo(RGB)), RGB)
    assert encode_photo(RGB) == encode_photo(np.asfortranarray(RGB))


def test_a_jpeg_is_decoded_as_pillow_does():
    data = saved(RGB, "JPEG", quality=90)
    np.testing.assert_array_equal(decode_photo(data),
                                  np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_grey_is_repeated():
    np.testing.assert_array_equal(decode_photo(saved(GREY)), grey3(GREY))
    mask = GREY > 128
    np.testing.assert_array_equal(decode_photo(saved(mask)), grey3(mask * np.uint8(255)))


def test_a_palette_is_applied():
    image = Image.fromarray(GREY % 3)
    image.putpalette([9, 8, 7, 20, 30, 40, 250, 251, 252])
    expected = np.array([[9, 8, 7], [20, 30, 40], [250, 251, 252]], np.uint8)[GREY % 3]
    np.testing.assert_array_equal(decode_photo(saved(image)), expected)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_byte(form):
    deep = np.random.default_rng(1).integers(0, 65536, (9, 13)).astype(np.uint16)
    np.testing.assert_array_equal(decode_photo(saved(deep, form)),
                                  grey3((deep >> 8).astype(np.uint8)))


def test_32_bit_grey_beyond_16_bits_is_refused():
    """Its high byte alone would be a picture of noise."""
    with pytest.raises(RecordError):
        decode_photo(saved(np.full((4, 5), 70000, np.int32), "TIFF"))


def test_cmyk_is_converted():
    white = Image.new("CMYK", (5, 4), (0, 0, 0, 0))
    assert (decode_photo(saved(white, "JPEG")) >= 250).all()
    black = Image.new("CMYK", (5, 4), (0, 0, 0, 255))
    assert (decode_photo(saved(black, "JPEG")) <= 5).all()


def test_an_opaque_alpha_is_dropped_and_a_transparent_one_refused():
    alpha = np.full((*GREY.shape, 1), 255, np.uint8)
    np.testing.assert_array_equal(decode_photo(saved(np.concatenate([RGB, alpha], 2))), RGB)
    np.testing.assert_array_equal(decode_photo(saved(np.concatenate([GREY[..., None], alpha], 2))),
                                  grey3(GREY))
    alpha[3, 4] = 254
    for pixels in (RGB, GREY[..., None]):
        with pytest.raises(RecordError, match="transparent pixels"):
            decode_photo(saved(np.concatenate([pixels, alpha], 2)))


def test_a_transparent_palette_entry_matters_only_where_it_is_used():
    image = Image.fromarray(GREY % 3)
    image.putpalette([9, 8, 7, 20, 30, 40, 250, 251, 252, 1, 1, 1])
    assert decode_photo(saved(image, transparency=3)).shape == RGB.shape
    with pytest.raises(RecordError, match="transparent pixels"):
        decode_photo(saved(image, transparency=1))


def test_a_mode_that_would_lose_something_is_refused():
    with pytest.raises(RecordError, match="pixel mode F: save it as RGB"):
        decode_photo(saved(np.zeros((4, 5), np.float32), "TIFF"))


def test_several_frames_are_refused():
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for form in ("GIF", "TIFF"):
        data = saved(frames[0], form, save_all=True, append_images=frames[1:])
        with pytest.raises(RecordError, match=f"{form} with 2 frames"):
            decode_photo(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_rotated_photo_is_refused_with_the_fix(form):
    with pytest.raises(RecordError, match="EXIF rotation.*ws-cat --exif apply"):
        decode_photo(turned(6, form))
    assert exif_orientation(turned(6, form)) == 6


@pytest.mark.parametrize("orientation, move", [
    (1, lambda p: p), (2, lambda p: p[:, ::-1]), (3, lambda p: p[::-1, ::-1]),
    (4, lambda p: p[::-1]), (5, lambda p: p.transpose(1, 0, 2)),
    (6, lambda p: np.rot90(p, -1)), (7, lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
    (8, lambda p: np.rot90(p))])
def test_a_rotation_is_applied_or_ignored(orientation, move):
    data = turned(orientation, "PNG")
    plain = np.zeros((9, 13, 3), np.uint8)
    plain[:, :6] = 200
    np.testing.assert_array_equal(decode_photo(data, exif="ignore"), plain)
    np.testing.assert_array_equal(decode_photo(data, exif="apply"), move(plain))


def test_an_upright_photo_needs_no_choice():
    assert exif_orientation(saved(RGB, "JPEG")) == 1
    for orientation in (0, 1):
        assert decode_photo(turned(orientation)).shape == (9, 13, 3)


def test_what_is_no_photo_is_called_by_its_name():
    with pytest.raises(RecordError, match=r"not a photo we can read \(JSON\)"):
        decode_photo(b"{}")
    with pytest.raises(RecordError, match="photo damaged: a JPEG with a broken header"):
        decode_photo(b"\xff\xd8\xff\xe0junk")
    with pytest.raises(RecordError, match="an empty file"):
        decode_photo(b"")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_cut_photo_is_refused(form):
    data = saved(np.kron(RGB, np.ones((9, 9, 1), np.uint8)), form)
    with pytest.raises(RecordError, match="photo damaged"):
        decode_photo(data[:len(data) * 2 // 3])


def test_a_huge_photo_is_refused_before_it_is_decoded():
    head = saved(np.zeros((1, 1, 3), np.uint8), "BMP")
    data = head[:18] + (1 << 15).to_bytes(4, "little") * 2 + head[26:]
    with pytest.raises(UnsafeError, match="32768x32768 pixels refused"):
        photo_size(data)


def test_the_size_is_height_and_width():
    assert photo_size(saved(RGB, "JPEG")) == (9, 13)


def test_jpeg_and_png_are_stored_as_they_are_and_others_as_png():
    for form, suffix in (("JPEG", "jpg"), ("PNG", "image.png")):
        data = saved(RGB, form)
        assert photo_member(data) == (suffix, data)
    suffix, data = photo_member(saved(RGB, "BMP"))
    assert suffix == "image.png"
    np.testing.assert_array_equal(decode_photo(data), RGB)
