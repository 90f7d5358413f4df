"""Label maps as PNG: every way of writing indices is read as those indices."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wsseg.errors import RecordError, UnsafeError
from wsseg.io import png
from wsseg.io.png import (SIGNATURE, decode_labels, encode_ids, encode_labels, sniff,
                          voc_palette)

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
         (1, 0, 2, 1))  # first row, first column, row step, column step of each pass


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def row_bytes(row: np.ndarray, depth: int) -> bytes:
    """One row of samples, packed from the left as PNG packs them."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = ((row[:, None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8)
    return np.packbits(bits.ravel()).tobytes()


def filtered(rows: list[bytes], kinds: list[int], bpp: int) -> bytes:
    """PNG's five row filters, byte by byte, as its specification words them."""
    out, above = b"", bytes(len(rows[0]) if rows else 0)
    for row, kind in zip(rows, kinds):
        line = bytearray([kind])
        for i, x in enumerate(row):
            a, b = (row[i - bpp] if i >= bpp else 0), above[i]
            c = above[i - bpp] if i >= bpp else 0
            p = a + b - c
            paeth = min((a, b, c), key=lambda v: (abs(p - v), (a, b, c).index(v)))
            line.append((x - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
        out, above = out + bytes(line), row
    return out


def write_png(samples: np.ndarray, depth: int = 8, colour: int = 3, *, interlace: bool = False,
              filters=(0,), parts: int = 1, extra: bytes = b"") -> bytes:
    """A PNG by hand: any depth, filters by row in turn, interlaced, IDAT in parts."""
    height, width = samples.shape
    passes = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlace else [samples]
    raw = b""
    for part in passes:
        if part.size:
            rows = [row_bytes(row.astype(np.int64), depth) for row in part]
            raw += filtered(rows, [filters[i % len(filters)] for i in range(len(rows))],
                            max(1, depth // 8))
    data, step = zlib.compress(raw), 0
    step = -(-len(data) // parts)
    return (SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0,
                                                   int(interlace)))
            + (chunk(b"PLTE", voc_palette(1 << min(depth, 8)).tobytes()) if colour == 3 else b"")
            + extra + b"".join(chunk(b"IDAT", data[i:i + step]) for i in range(0, len(data), step))
            + chunk(b"IEND", b""))


def by_pillow(array: np.ndarray, mode: str | None = None, **options) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette(np.random.default_rng(1).integers(0, 256, 768).astype(np.uint8).tobytes())
    elif mode:
        image = image.convert(mode)
    image.save(out, "PNG", **options)
    return out.getvalue()


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


shapes = st.tuples(st.integers(1, 19), st.integers(1, 19))


@given(shapes, st.sampled_from([np.uint8, np.uint16]), st.booleans(), st.integers(0, 99))
def test_what_is_written_is_read_again(shape, dtype, palette, seed):
    labels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    assert_same(decode_labels(encode_labels(labels, palette=palette)), labels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 65), (1, 4096)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_odd_sizes_survive(shape, dtype):
    labels = (np.arange(np.prod(shape)) % 300).astype(dtype).reshape(shape)
    assert_same(decode_labels(encode_labels(labels)), labels)


def test_equal_arrays_give_equal_bytes_whatever_their_memory_layout():
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    expected = encode_labels(labels)
    assert encode_labels(labels.copy()) == expected
    assert encode_labels(np.asfortranarray(labels)) == expected
    assert encode_labels(np.repeat(labels, 2, 1)[:, ::2]) == expected
    assert encode_labels(labels[::-1][::-1]) == expected


@given(shapes, st.sampled_from([0, 1, 255, 256, 65535]), st.booleans(), st.integers(0, 99))
def test_ids_take_8_bits_where_that_is_enough(shape, most, deep, seed):
    ids = np.random.default_rng(seed).integers(0, most + 1, shape).astype(
        np.uint16 if deep or most > 255 else np.uint8)
    kind = np.uint8 if ids.max() < 256 else np.uint16
    data = encode_ids(ids)
    assert_same(decode_labels(data), ids.astype(kind))
    assert data == encode_ids(np.asfortranarray(ids)) == encode_ids(ids.astype(kind))
    assert_same(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
                ids.astype(kind))
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("L" if kind == np.uint8 else "I;16")
        np.testing.assert_array_equal(np.asarray(image), ids)
    assert Image.open(io.BytesIO(data)).verify() is None


def test_a_label_map_is_written_in_vocs_colours():
    with Image.open(io.BytesIO(encode_labels(np.array([[0, 1, 15, 255]], np.uint8)))) as image:
        assert image.mode == "P"
        assert np.asarray(image.convert("RGB")).tolist() == [
            [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]]


def test_vocs_palette_follows_its_definition():
    def bit(value: int, index: int) -> int:
        return value >> index & 1

    for number, colour in enumerate(voc_palette().tolist()):
        r = g = b = 0
        c = number
        for j in range(8):
            r |= bit(c, 0) << 7 - j
            g |= bit(c, 1) << 7 - j
            b |= bit(c, 2) << 7 - j
            c >>= 3
        assert colour == [r, g, b]
    assert voc_palette(21).tolist() == [list(c) for c in (
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128),
        (0, 128, 128), (128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0),
        (64, 0, 128), (192, 0, 128), (64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0),
        (0, 192, 0), (128, 192, 0), (0, 64, 128))]
    assert voc_palette()[255].tolist() == [224, 224, 192]
    assert len({tuple(c) for c in voc_palette().tolist()}) == 256


LABELS = np.random.default_rng(3).integers(0, 256, (13, 17)).astype(np.uint8)
FLAT = np.kron(np.array([[0, 1, 15], [255, 2, 0]], np.uint8), np.ones((9, 11), np.uint8))
DEEP = np.random.default_rng(4).integers(0, 65536, (13, 17)).astype(np.uint16)


@pytest.mark.parametrize("labels", [LABELS, FLAT], ids=["noise", "flat"])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"compress_level": 0},
                                     {"compress_level": 9}, {"bits": 8}], ids=str)
def test_pillows_palette_and_grey_pngs_are_read_as_indices(labels, options):
    assert_same(decode_labels(by_pillow(labels, "P", **options)), labels)
    options.pop("bits", None)
    assert_same(decode_labels(by_pillow(labels, **options)), labels)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_pillows_small_palettes_are_read_as_indices(bits):
    labels = LABELS % (1 << bits)
    assert_same(decode_labels(by_pillow(labels, "P", bits=bits)), labels)


def test_pillows_one_bit_masks_are_0_and_1():
    mask = LABELS > 99
    assert_same(decode_labels(by_pillow(mask)), mask.astype(np.uint8))


def test_pillows_and_cv2s_16_bit_pngs_are_read():
    assert_same(decode_labels(by_pillow(DEEP)), DEEP)
    assert_same(decode_labels(cv2.imencode(".png", DEEP)[1].tobytes()), DEEP)


@pytest.mark.parametrize("labels", [LABELS, FLAT], ids=["noise", "flat"])
@pytest.mark.parametrize("strategy", range(5))
def test_cv2s_grey_pngs_are_read(labels, strategy):
    for level in (0, 1, 9):
        data = cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, level,
                                             cv2.IMWRITE_PNG_STRATEGY, strategy])[1].tobytes()
        assert_same(decode_labels(data), labels)


def test_our_own_maps_are_read_alike_by_pillow_and_cv2():
    for labels in (LABELS, DEEP):
        data = encode_labels(labels, palette=False)
        assert_same(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED), labels)
    with Image.open(io.BytesIO(encode_labels(LABELS))) as image:
        assert_same(np.asarray(image), LABELS)


@settings(max_examples=60)
@given(shapes, st.sampled_from([1, 2, 4, 8]), st.booleans(),
       st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 99))
def test_any_palette_png_of_the_standard_is_read_as_its_indices(shape, depth, interlace, filters,
                                                               parts, seed):
    labels = np.random.default_rng(seed).integers(0, 1 << depth, shape).astype(np.uint8)
    data = write_png(labels, depth, 3, interlace=interlace, filters=filters, parts=parts)
    assert_same(decode_labels(data), labels)


@settings(max_examples=40)
@given(shapes, st.sampled_from([1, 8, 16]), st.booleans(),
       st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 99))
def test_any_grey_png_of_1_8_or_16_bits_is_read_as_its_samples(shape, depth, interlace, filters,
                                                               seed):
    labels = np.random.default_rng(seed).integers(0, 1 << depth, shape)
    expected = labels.astype(np.uint16 if depth == 16 else np.uint8)
    data = write_png(labels, depth, 0, interlace=interlace, filters=filters)
    assert_same(decode_labels(data), expected)


@pytest.mark.parametrize("depth", [2, 4])
def test_the_samples_of_a_2_or_4_bit_grey_png_are_never_scaled(depth):
    """Pillow multiplies them by 85 or 17, which makes other classes of them."""
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % (1 << depth)
    try:
        found = decode_labels(write_png(labels, depth, 0))
    except RecordError:
        return
    assert_same(found, labels)


def test_chunks_of_other_programs_are_passed_over():
    extra = chunk(b"tEXt", b"Software\0anything") + chunk(b"tRNS", bytes(3)) \
        + chunk(b"pHYs", struct.pack(">IIB", 1, 1, 0))
    assert_same(decode_labels(write_png(LABELS, extra=extra)), LABELS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_colour_image_is_refused_with_the_fix(mode):
    with pytest.raises(RecordError, match="colour image where class indices.*--colours"):
        decode_labels(by_pillow(LABELS, mode))


@pytest.mark.parametrize("data, what", [
    (b"\xff\xd8\xff\xe0", "a JPEG"), (b"GIF89a", "a GIF"), (b"{}", "JSON"), (b"", "an empty file"),
    (b"\x93NUMPY", "a numpy file"), (b"PK\x03\x04", "a zip file"), (b"<html>", "HTML or XML"),
    (b"RIFF", "a WebP"), (b"zzz", "3 bytes of something else")])
def test_what_is_no_png_is_called_by_its_name(data, what):
    assert sniff(data) == what
    with pytest.raises(RecordError, match="not a PNG") as caught:
        decode_labels(data)
    assert what in str(caught.value)


def test_a_cut_png_says_where_it_ends():
    data = encode_labels(FLAT)
    for size in (8, 20, 33, len(data) // 2, len(data) - 1):
        with pytest.raises(RecordError, match=f"PNG truncated at byte {size}$"):
            decode_labels(data[:size])


def test_damage_to_a_png_says_what_is_wrong():
    data = encode_labels(FLAT)
    spot = data.index(b"IDAT") + 8
    with pytest.raises(RecordError, match="wrong checksum"):
        decode_labels(data[:spot] + bytes([data[spot] ^ 1]) + data[spot + 1:])
    with pytest.raises(RecordError, match="4 bytes after its end"):
        decode_labels(data + b"tail")
    with pytest.raises(RecordError, match="bad header"):
        decode_labels(data[:33] + data[8:])


@pytest.mark.parametrize("rows", [12, 14])
def test_too_few_or_too_many_rows_are_refused(rows):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 17, 13, 8, 3, 0, 0, 0))
    body = zlib.compress(bytes(18 * rows))
    data = SIGNATURE + head + chunk(b"PLTE", bytes(768)) + chunk(b"IDAT", body) \
        + chunk(b"IEND", b"")
    with pytest.raises(RecordError, match="PNG damaged .*does not unpack to 234 bytes"):
        decode_labels(data)


def test_a_huge_image_is_refused_before_it_is_decoded():
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 20, 1 << 20, 8, 3, 0, 0, 0))
    data = SIGNATURE + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(UnsafeError, match="1048576x1048576 pixels refused"):
        decode_labels(data)
    assert png.MAX_PIXELS == 1 << 28


def test_an_image_without_pixels_is_refused():
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 3, 0, 0, 0))
    data = SIGNATURE + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(RecordError, match="image of 5x0 pixels"):
        decode_labels(data)


@pytest.mark.parametrize("array", [np.zeros((2, 3), np.int64), np.zeros((2, 3, 3), np.uint8),
                                   np.zeros((2, 3), bool), np.zeros(5, np.uint8)])
def test_only_uint8_and_uint16_maps_are_written(array):
    for encode in (encode_labels, encode_ids):
        with pytest.raises(RecordError, match="a label map is uint8 or uint16") as caught:
            encode(array)
        assert str(array.dtype) in str(caught.value) and str(array.shape) in str(caught.value)


@given(shapes, st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 99))
def test_a_png_is_read_alike_with_and_without_the_native_rows(shape, filters, seed):
    labels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    data = write_png(labels, filters=filters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wsseg.io.png._native", None)
        plain = decode_labels(data)
    assert_same(plain, labels)
    assert_same(decode_labels(data), labels)


def test_rows_of_an_unknown_filter_are_refused():
    raw = bytes([5, 1, 2, 3])
    data = (SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 1, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))
    with pytest.raises(RecordError, match="damaged"):
        decode_labels(data)
