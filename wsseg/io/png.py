"""Label maps as PNG: a strict reader that no flipped bit gets past, and a deterministic writer.

Pillow's plain load accepts some damaged palette images and hands over wrong labels; cv2 turns
palettes into colours. This reader checks every chunk's CRC, the zlib checksum and the exact
amount of data before it returns a pixel. Maps of 8 and 16 bits, not interlaced (what we and
most tools write), are decoded here; all others go to Pillow after the same checks.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np

from wsseg.errors import RecordError, UnsafeError
from wsseg.io.inflate import inflate

try:
    from wsseg.native import _labels as _native
except ImportError:  # not built: numpy and Pillow do the same
    _native = None

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 1 << 28


def voc_palette(n: int = 256) -> np.ndarray:
    """Return PASCAL VOC's colour map, uint8 (n, 3): the bits of the class id interleaved."""
    ids = np.arange(n, dtype=np.int64)
    palette = np.zeros((n, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= ((ids >> channel) & 1) << (7 - bit)
        ids >>= 3
    return palette.astype(np.uint8)


_PALETTE = voc_palette().tobytes()


def check_pixels(width: int, height: int) -> None:
    """Raise UnsafeError when an image is too large to decode (or has no pixel: RecordError)."""
    if width < 1 or height < 1:
        raise RecordError(f"image of {height}x{width} pixels")
    if width * height > MAX_PIXELS:
        raise UnsafeError(f"image of {height}x{width} pixels refused before decoding: "
                          f"more than {MAX_PIXELS} pixels")


def _chunks(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return IHDR and the IDAT chunks of a PNG whose every chunk is sound."""
    if data[:8] != SIGNATURE:
        raise RecordError(f"not a PNG ({sniff(data)})")
    header, pixels, at, size = b"", [], 8, len(data)
    while at + 12 <= size:
        length = int.from_bytes(data[at:at + 4], "big")
        stop = at + 8 + length
        if stop + 4 > size:
            break
        body = data[at + 4:stop]
        if zlib.crc32(body) != int.from_bytes(data[stop:stop + 4], "big"):
            raise RecordError(f"PNG damaged at byte {at} of {size} (wrong checksum)")
        kind = body[:4]
        if kind == b"IDAT":
            pixels.append(body[4:])
        elif kind == b"IHDR":
            if header or length != 13 or at != 8:
                raise RecordError("PNG damaged (bad header)")
            header = body[4:]
        elif kind == b"IEND":
            if not header or not pixels or stop + 4 != size:
                raise RecordError(f"PNG damaged ({size - stop - 4} bytes after its end)")
            return header, pixels
        at = stop + 4
    raise RecordError(f"PNG truncated at byte {size}")


def decode_labels(data: bytes) -> np.ndarray:
    """Decode a label map.

    data: the bytes of a palette, grey, 1-bit or 16-bit grey PNG. Returns uint8 or uint16
    (H, W) indices: a palette is never applied. Raises RecordError for anything damaged, for
    colour images and for other formats, UnsafeError for more than MAX_PIXELS pixels.
    """
    header, pixels = _chunks(data)
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    check_pixels(width, height)
    if colour not in (0, 3):
        raise RecordError("a colour image where class indices are needed: convert it with "
                          "ws-cat --colours")
    size = _raw_size(height, width, depth, interlace)
    try:
        raw = inflate(b"".join(pixels), size)
    except ValueError as error:
        raise RecordError(f"PNG damaged ({error})") from None
    if depth in (8, 16) and not interlace:
        if _native is not None:
            unfilter = _native.unfilter if depth == 8 else _native.unfilter16
            try:
                return unfilter(raw, height, width)
            except ValueError as error:
                raise RecordError(f"PNG damaged ({error})") from None
        rows = np.frombuffer(raw, np.uint8).reshape(height, -1)
        if depth == 8 and not rows[:, 0].any():
            return np.ascontiguousarray(rows[:, 1:])
    return _decode_with_pillow(data, depth)


def _raw_size(height: int, width: int, depth: int, interlace: int) -> int:
    """Return the bytes of all rows, each with its filter's number (Adam7: of all passes)."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1)) if interlace else ((0, 0, 1, 1),)
    total = 0
    for y, x, dy, dx in passes:
        rows, columns = len(range(y, height, dy)), len(range(x, width, dx))
        total += rows * (1 + (columns * depth + 7) // 8) if columns else 0
    return total


def _decode_with_pillow(data: bytes, depth: int) -> np.ndarray:
    """Decode what we do not ourselves; Pillow stretches grey of 2 and 4 bits to 0..255."""
    from PIL import Image

    try:
        Image.open(io.BytesIO(data)).verify()
        with Image.open(io.BytesIO(data)) as image:
            if image.mode not in ("P", "L", "1", "I;16"):
                raise RecordError(f"a {image.mode} image where class indices are needed")
            labels = np.asarray(image, np.uint16 if image.mode == "I;16" else np.uint8)
            return labels // (255 // ((1 << depth) - 1)) if image.mode == "L" else labels
    except (OSError, SyntaxError, ValueError) as error:
        raise RecordError(f"PNG damaged ({error})") from None


def encode_labels(labels: np.ndarray, *, palette: bool = True) -> bytes:
    """Encode uint8 (H, W) as a palette PNG with VOC's colours, or as a grey one, and uint16
    (H, W) as a 16-bit grey PNG. Equal arrays give equal bytes."""
    check_map(labels)
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(labels))
    if palette and labels.dtype == np.uint8:
        image.putpalette(_PALETTE)  # turns mode L into P, indices kept
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def check_map(labels: np.ndarray) -> None:
    """Raise RecordError unless this is uint8 or uint16 (H, W), UnsafeError for too many pixels."""
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise RecordError(f"a label map is uint8 or uint16 (H, W); got {labels.dtype} "
                          f"{labels.shape}")
    check_pixels(labels.shape[1], labels.shape[0])


def encode_ids(ids: np.ndarray) -> bytes:
    """Encode uint8 or uint16 (H, W) as a grey PNG, of 8 bits if that is enough and else of 16.
    Equal values give equal bytes.

    No row is filtered: of flat maps that makes smaller files than the filters of photos, and
    the bytes need only be copied when they are read.
    """
    check_map(ids)
    height, width = ids.shape
    depth = 8 if ids.max() < 256 else 16
    rows = np.zeros((height, 1 + width * depth // 8), np.uint8)
    samples = np.ascontiguousarray(ids, np.uint8 if depth == 8 else ">u2")
    rows[:, 1:] = samples.view(np.uint8)
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b"")))


def sniff(data: bytes) -> str:
    """Say what a file's first bytes look like, for messages."""
    for magic, name in ((b"\xff\xd8\xff", "a JPEG"), (SIGNATURE, "a PNG"), (b"GIF8", "a GIF"),
                        (b"BM", "a BMP"), (b"II*\0", "a TIFF"), (b"MM\0*", "a TIFF"),
                        (b"\x89HDF", "an HDF5 file"), (b"PK\x03\x04", "a zip file"),
                        (b"\x93NUMPY", "a numpy file"), (b"%PDF", "a PDF"), (b"<", "HTML or XML"),
                        (b"{", "JSON"), (b"RIFF", "a WebP")):
        if data.startswith(magic):
            return name
    return f"{len(data)} bytes of something else" if data else "an empty file"
