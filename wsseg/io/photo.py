"""Photos: decoded strictly, never clipped, rotated or repaired in silence."""

from __future__ import annotations

import io

import numpy as np

from wsseg.errors import RecordError
from wsseg.io.png import check_pixels, sniff

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM")
_ORIENTATION = 0x0112


def _open(data: bytes):
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # check_pixels decides, for every format alike
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        what = sniff(data)
        raise RecordError(f"not a photo we can read ({what})" if not what.startswith("a ")
                          else f"photo damaged: {what} with a broken header ({error})") from None
    check_pixels(*image.size)
    if getattr(image, "n_frames", 1) > 1:
        raise RecordError(f"{image.format} with {image.n_frames} frames: export one of them")
    return image


def _to_rgb(image) -> np.ndarray:
    """Convert by an explicit table of modes; what would lose something is refused."""
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise RecordError("photo has grey values beyond 16 bits: save it as 8 or 16 bit")
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        if rgba[..., 3].min() < 255:
            raise RecordError("photo has transparent pixels: flatten it on a background first")
        return np.ascontiguousarray(rgba[..., :3])
    if image.mode not in ("RGB", "L", "P", "1", "CMYK", "YCbCr"):
        raise RecordError(f"photo has pixel mode {image.mode}: save it as RGB")
    return np.asarray(image.convert("RGB"))


def decode_photo(data: bytes, *, exif: str = "refuse") -> np.ndarray:
    """Decode a photo to uint8 (H, W, 3) RGB.

    16-bit grey is scaled, CMYK and palettes are converted, an opaque alpha is dropped.
    exif: what to do with an EXIF rotation, which tools apply or ignore at will so that
    photo and mask come apart: ``refuse``, ``apply`` or ``ignore``. Raises RecordError for
    anything damaged or ambiguous, UnsafeError for too many pixels.
    """
    image = _open(data)
    try:
        turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
        if turned and exif == "refuse":
            raise RecordError("photo has an EXIF rotation, so its pixel grid is ambiguous: pass "
                              "it through ws-cat --exif apply (or ignore) first")
        image.load()
        if turned and exif == "apply":
            from PIL import ImageOps

            image = ImageOps.exif_transpose(image)
        return _to_rgb(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise RecordError(f"photo damaged ({error}; {len(data)} bytes)") from None


def exif_orientation(data: bytes) -> int:
    """Return a photo's EXIF orientation, 1 for an upright one."""
    try:
        return _open(data).getexif().get(_ORIENTATION, 1) or 1
    except (OSError, SyntaxError, ValueError) as error:
        raise RecordError(f"photo damaged ({error}; {len(data)} bytes)") from None


def photo_size(data: bytes) -> tuple[int, int]:
    """Return (H, W) from a photo's header alone."""
    width, height = _open(data).size
    return height, width


def encode_photo(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) as PNG, without loss."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=4)
    return out.getvalue()


def photo_member(data: bytes) -> tuple[str, bytes]:
    """Return (suffix, bytes) under which a photo is stored: JPEG and PNG as they are, any other
    format as PNG."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg", data
    if data.startswith(b"\x89PNG"):
        return "image.png", data
    return "image.png", encode_photo(decode_photo(data))
