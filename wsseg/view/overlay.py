"""Maps over photos: fills, hatches, contours, and how they are blended."""

from __future__ import annotations

import io

import numpy as np

from wsseg.view.heat import heat

HATCH = (235, 235, 235)
NO_PHOTO = (40, 40, 40)
_PERIOD, _STRIPE = 8, 2


def fit(size: tuple[int, int], box: tuple[int, int] | None) -> tuple[int, int]:
    """Return (h, w) of ``size`` (H, W) scaled to fit a box (height, width); None keeps it."""
    if box is None:
        return size
    scale = min(box[0] / size[0], box[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a map (H, W) of any dtype to ``size`` (h, w) by its nearest pixels."""
    if labels.shape == tuple(size):
        return labels
    rows, columns = (((np.arange(n) + 0.5) * old / n).astype(np.intp)
                     for n, old in zip(size, labels.shape))
    return labels[rows[:, None], columns]


def resize_photo(photo: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale uint8 (H, W, 3) to ``size`` (h, w)."""
    if photo.shape[:2] == tuple(size):
        return photo
    from PIL import Image

    return np.asarray(Image.fromarray(photo).resize(size[::-1], Image.Resampling.LANCZOS,
                                                    reducing_gap=3.0))


def resize_values(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale float maps (K, h, w) smoothly to float32 (K, *size)."""
    from PIL import Image

    values = np.asarray(values, np.float32)
    if values.shape[1:] == tuple(size):
        return values
    result = np.empty((len(values), *size), np.float32)
    for i, plane in enumerate(values):
        result[i] = np.asarray(Image.fromarray(plane).resize(size[::-1],
                                                             Image.Resampling.BILINEAR))
    return result


def resize_strokes(drawn: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale bool (H, W) to ``size``; a pixel is set if any part of it was, so that a thin
    stroke stays whole when it is made smaller."""
    if drawn.shape == tuple(size):
        return drawn
    if size[0] > drawn.shape[0] or size[1] > drawn.shape[1]:
        return resize_labels(drawn, size)
    from PIL import Image

    plane = Image.fromarray(drawn.astype(np.float32))
    return np.asarray(plane.resize(size[::-1], Image.Resampling.BOX)) > 1e-3


def hatch(shape: tuple[int, int]) -> np.ndarray:
    """Return the stripes, bool (H, W), that stand for "ignored"."""
    height, width = shape
    return (np.arange(height)[:, None] + np.arange(width)) % _PERIOD < _STRIPE


def contour(regions: np.ndarray, of: np.ndarray | None = None) -> np.ndarray:
    """Return the inner border pixels of regions.

    regions: any integers (H, W). of: bool (H, W), the pixels that may be border. The result,
    bool (H, W), is set where one of the four neighbours belongs to another region; the edge of
    the image is no border.
    """
    edge = np.zeros(regions.shape, bool)
    down, right = regions[1:] != regions[:-1], regions[:, 1:] != regions[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge if of is None else edge & of


def empty_layer(shape: tuple[int, int]) -> np.ndarray:
    """Return a layer with nothing on it, uint8 (H, W, 4)."""
    return np.zeros((*shape, 4), np.uint8)


def label_fill(labels: np.ndarray, table: np.ndarray, *, ignore: int = 255,
               background: bool = True) -> np.ndarray:
    """Colour a label map as a layer.

    labels: integers (H, W); table: uint8 (n, 3), more colours than the greatest label.
    background: leave class 0 clear. Returns uint8 RGBA (H, W, 4): classes opaque in their
    colour, ignored pixels clear but for a light diagonal hatch.
    """
    colours = np.full((len(table), 4), 255, np.uint8)
    colours[:, :3] = table
    if background:
        colours[0] = 0
    if 0 <= ignore < len(colours):
        colours[ignore] = 0
    fill = colours.take(labels, axis=0)
    fill[(labels == ignore) & hatch(labels.shape)] = (*HATCH, 255)
    return fill


def cam_fill(values: np.ndarray, classes: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Colour activation maps as a layer: the strongest class's colour, the more opaque the
    stronger, in steps of 1/8.

    values: float (K, H, W) in [0, 1]; classes: ids (K,). Returns uint8 RGBA (H, W, 4).
    """
    fill = empty_layer(values.shape[1:])
    if len(values):
        fill[..., :3] = table[np.asarray(classes)[values.argmax(0)]]
        fill[..., 3] = np.rint(np.rint(np.clip(values.max(0), 0, 1) * 8) * 255 / 8)
        fill[fill[..., 3] == 0] = 0
    return fill


def heat_fill(values: np.ndarray) -> np.ndarray:
    """Colour float (H, W) in [0, 1] as an opaque heat layer, uint8 RGBA (H, W, 4)."""
    fill = np.full((*values.shape, 4), 255, np.uint8)
    fill[..., :3] = heat(values)
    return fill


def blend(photo: np.ndarray, layer: np.ndarray, alpha: float = 1.0) -> np.ndarray:
    """Lay a layer over a photo.

    photo: uint8 (H, W, 3); layer: uint8 RGBA (H, W, 4), whose opacity is multiplied by
    ``alpha``. Returns uint8 (H, W, 3), rounded to nearest; clear pixels are untouched.
    """
    if photo.shape[:2] != layer.shape[:2]:
        raise ValueError(f"photo {photo.shape} and layer {layer.shape} differ in size")
    weight = layer[..., 3:].astype(np.float32) * np.float32(alpha / 255)
    mixed = photo + (layer[..., :3].astype(np.float32) - photo) * weight
    return np.rint(mixed).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Encode uint8 RGB or RGBA (H, W, 3 or 4) as a PNG, with a palette if 256 colours do."""
    from PIL import Image

    out = io.BytesIO()
    if pixels.shape[2] == 4:
        packed = np.ascontiguousarray(pixels).view(np.uint32)[..., 0]
        found = np.unique(packed)
        if len(found) <= 256:
            colours = found.view(np.uint8).reshape(-1, 4)
            image = Image.fromarray(np.searchsorted(found, packed).astype(np.uint8))
            image.putpalette(colours[:, :3].tobytes())
            image.save(out, "PNG", transparency=colours[:, 3].tobytes())
            return out.getvalue()
    Image.fromarray(pixels).save(out, "PNG", compress_level=4)
    return out.getvalue()


def jpeg(pixels: np.ndarray, quality: int = 80) -> bytes:
    """Encode uint8 (H, W, 3) as a JPEG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, optimize=True)
    return out.getvalue()
