"""LabelMe's shapes as pixels, boxes and points."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsseg.data.base import clip_box
from wsseg.data.draw import polygon_changes, stroke
from wsseg.data.rle import mask_of_runs, runs_of_changes
from wsseg.errors import RecordError
from wsseg.io.png import decode_labels
from wsseg.io.values import Boxes, InstanceMap, Points, Segment

#: Shape type -> least and greatest number of points.
COUNTS = {"polygon": (3, 1 << 30), "circle": (2, 2), "mask": (2, 2), "rectangle": (2, 2),
          "line": (2, 2), "linestrip": (1, 1 << 30), "point": (1, 1), "points": (1, 1 << 30)}


@dataclass(frozen=True, eq=False)
class Shape:
    """One shape. cls: class id, 255 = ignore; xy: float64 (N, 2), pixel i covers i <= x < i + 1;
    mask: a mask shape's base64 PNG; what: how messages call it."""

    type: str
    cls: int
    xy: np.ndarray
    group: int | None
    mask: Any
    what: str


def area(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a polygon, circle or mask as bool (H, W).

    Polygons follow COCO's rule (see ``polygon_changes``); a circle holds the pixels whose
    middle is at most its radius from its centre. Raises RecordError for a malformed mask.
    """
    if shape.type == "polygon":
        return mask_of_runs(runs_of_changes(polygon_changes(shape.xy, size), size), size)
    if shape.type == "circle":
        (x, y), edge = shape.xy
        far = np.hypot(np.arange(size[1]) + 0.5 - x, (np.arange(size[0]) + 0.5 - y)[:, None])
        return far <= np.hypot(edge[0] - x, edge[1] - y)
    return _mask(shape, size)


def _mask(shape: Shape, size: tuple[int, int]) -> np.ndarray:
    """Return a mask shape: a picture of its box, whose corners are pixels and belong to it."""
    if not isinstance(shape.mask, str):
        raise RecordError(f"{shape.what} is a mask, but has no text 'mask'")
    try:
        part = decode_labels(base64.b64decode(shape.mask, validate=True)) > 0
    except (binascii.Error, ValueError) as error:
        raise RecordError(f"{shape.what}.mask is not base64 ({error})") from None
    except RecordError as error:
        raise RecordError(f"{shape.what}.mask: {error}") from None
    if np.abs(shape.xy).max() > 1 << 20:
        raise RecordError(f"{shape.what}: its box is more than {1 << 20} pixels away")
    x0, y0, x1, y1 = np.floor(shape.xy).astype(int).ravel()
    if part.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise RecordError(f"{shape.what}.mask is of {part.shape[0]}x{part.shape[1]} pixels, its "
                          f"box of {y1 - y0 + 1}x{x1 - x0 + 1}")
    result = np.zeros(size, bool)
    top, left, bottom, right = max(y0, 0), max(x0, 0), min(y1 + 1, size[0]), min(x1 + 1, size[1])
    if top < bottom and left < right:
        result[top:bottom, left:right] = part[top - y0:bottom - y0, left - x0:right - x0]
    return result


def paint(shapes: Sequence[Shape], size: tuple[int, int], classes: int
          ) -> tuple[np.ndarray, InstanceMap]:
    """Paint areas in their order, later ones over earlier ones.

    size: (H, W). classes: number of classes. Returns label, uint8 or uint16 (H, W), and
    instance. Background erases in both; ignore is 255 in the label and no instance. Shapes of
    one class and group are one instance; instances are numbered from 1 in the order of their
    first shape, without those that others cover altogether.
    """
    label = np.zeros(size, np.uint8 if classes <= 255 else np.uint16)
    ids = np.zeros(size, np.int32)
    found: dict[Any, int] = {}
    owners = [0]
    for shape in shapes:
        inside = area(shape, size)
        label[inside] = shape.cls
        if shape.cls in (0, 255):
            ids[inside] = 0
            continue
        name = shape.what if shape.group is None else (shape.cls, shape.group)
        number = found.setdefault(name, len(owners))
        if number == len(owners):
            owners.append(shape.cls)
        ids[inside] = number
    seen = [i for i in np.flatnonzero(np.bincount(ids.ravel())).tolist() if i]
    if len(seen) > 65535:
        raise RecordError(f"{len(seen)} instances; an instance map holds 65535")
    numbers = np.zeros(len(owners), np.uint16)
    numbers[seen] = np.arange(1, len(seen) + 1)
    return label, InstanceMap(numbers[ids], tuple(
        Segment(n, owners[i]) for n, i in enumerate(seen, 1)))


def scribble(shapes: Sequence[Shape], size: tuple[int, int]) -> np.ndarray:
    """Draw lines 3 pixels wide: uint8 (H, W) of classes, 255 elsewhere and where an ignored
    stroke erases."""
    canvas = np.full(size, 255, np.uint8)
    for shape in shapes:
        if shape.cls > 255:
            raise RecordError(f"{shape.what}: class {shape.cls} does not fit a scribble's 8 bits")
        stroke(canvas, shape.xy, shape.cls)
    return canvas


def boxes(shapes: Sequence[Shape], size: tuple[int, int]) -> Boxes:
    """Return rectangles, whichever corners were drawn, cut to the image.

    Raises RecordError for one that is empty, outside, or of background or ignore.
    """
    xyxy = np.zeros((len(shapes), 4))
    for i, shape in enumerate(shapes):
        if shape.cls in (0, 255):
            raise RecordError(f"{shape.what} is a rectangle of background or ignore: boxes mark "
                              "objects, draw a polygon")
        xyxy[i] = clip_box((*shape.xy.min(axis=0), *shape.xy.max(axis=0)), size, shape.what)
    return Boxes(xyxy, np.array([shape.cls for shape in shapes], np.int64), size)


def points(shapes: Sequence[Shape], size: tuple[int, int]) -> Points:
    """Return the pixels that points fall into; RecordError for one outside or of ignore."""
    for shape in shapes:
        low, high = shape.xy.min(axis=0), shape.xy.max(axis=0)
        if shape.cls == 255:
            raise RecordError(f"{shape.what} is a point of ignore: points mark objects")
        if (low < 0).any() or (high >= size[::-1]).any():
            raise RecordError(f"{shape.what} lies outside of the image of {size[0]}x{size[1]}")
    classes = [shape.cls for shape in shapes for _ in shape.xy]
    return Points(np.floor(np.concatenate([shape.xy for shape in shapes])),
                  np.array(classes, np.int64), size)
