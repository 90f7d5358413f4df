"""LabelMe: one JSON file a photo, with shapes of many types, to every kind they can give."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import Any

import numpy as np

from wsseg.data import shapes as draw
from wsseg.data.base import Dataset, LazyRecord, choose, few
from wsseg.data.files import check_size, listing, number_field, photo_members, read_small, size_of
from wsseg.data.lists import split_keys
from wsseg.data.shapes import Shape
from wsseg.errors import RecordError, UsageError
from wsseg.io import jsons
from wsseg.io.header import Header
from wsseg.io.png import check_pixels

_GROUP_OF_TYPE = {"polygon": "areas", "circle": "areas", "mask": "areas", "rectangle": "boxes",
                  "line": "strokes", "linestrip": "strokes", "point": "points",
                  "points": "points"}


def open_labelme(root: str, *, split: str | None = None,
                 classes: tuple[str, ...] | None = None) -> Dataset:
    """Open a folder of LabelMe's JSON files.

    Each record has only the kinds that its shapes give: rectangles give boxes, polygons,
    circles and masks give label and instance, lines give scribble, points give points, and
    top-level flags that name classes give tags; the photo, if it is found by its base name in
    the folder or in JPEGImages or photos beside it, gives image. split: SPLIT.txt in the
    folder, or the path of a list. classes: by default from classes.txt in the folder or the
    one above. Raises UsageError for no files or no class names.
    """
    names = classes or _class_names(root)
    files = listing(root, (".json",))
    if not files:
        raise UsageError(f"{root}: no LabelMe files found (looked for *.json)")
    keys = choose(files, split_keys(split, root), root)
    # The kinds are known only once a file is read.
    return Dataset(root, Header(classes=names, count=len(keys)), keys,
                   lambda key: _record(key, files[key], names))


def _class_names(root: str) -> tuple[str, ...]:
    """Read classes.txt, understanding LabelMe's own ``__ignore__`` and ``_background_``."""
    root = os.path.abspath(root)
    for folder in (root, os.path.dirname(root)):
        path = os.path.join(folder, "classes.txt")
        if os.path.isfile(path):
            try:
                text = read_small(path, 1 << 24).decode("utf-8-sig")
            except UnicodeDecodeError:
                raise UsageError(f"{path}: not UTF-8 text") from None
            names = jsons.parse_names(re.sub(r"^__ignore__\s*\n", "", text), path)
            return ("background", *names[1:]) if names[0] == "_background_" else names
    raise UsageError(f"{root}: the class names are unknown: give them with --classes, or put "
                     "classes.txt (one name a line, background first) in this folder or the one "
                     "above")


def _record(key: str, path: str, names: tuple[str, ...]) -> LazyRecord:
    data = jsons.parse(read_small(path, jsons.MAX_BYTES))
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        raise RecordError(f"{os.path.basename(path)} is not a LabelMe file: it has no list "
                          "'shapes'")
    photo = _photo(os.path.dirname(path), data.get("imagePath"))
    size = _size(data, photo, os.path.basename(path))
    record = LazyRecord(key, photo_members(photo), names)
    groups: dict[str, list[Shape]] = {}
    for i, item in enumerate(data["shapes"]):
        shape = _shape(item, f"shapes[{i}]", names)
        groups.setdefault(_GROUP_OF_TYPE[shape.type], []).append(shape)
    if "areas" in groups:
        record.defer(partial(draw.paint, groups["areas"], size, len(names)), "label", "instance")
    for kind, group, make in (("boxes", "boxes", draw.boxes), ("points", "points", draw.points),
                              ("scribble", "strokes", draw.scribble)):
        if group in groups:
            record.defer(partial(make, groups[group], size), kind)
    flags = data.get("flags") or {}
    if not isinstance(flags, dict):
        raise RecordError(f"flags is {flags!r:.40}, not an object")
    named = {name for name in flags if name in names}
    if named:
        record.set("tags", tuple(sorted(names.index(n) for n in named if flags[n] is True)))
    return record


def _photo(folder: str, image_path: Any) -> str | None:
    """Return the photo of this base name in the folder or in one beside it; None if none.

    Only the base name counts: paths in LabelMe files are those of the machine they were drawn
    on, often a Windows one, and must not lead anywhere else here.
    """
    if not isinstance(image_path, str):
        return None
    name = re.split(r"[/\\]", image_path)[-1]
    if not name or name in (".", "..") or "\0" in name:
        return None
    for part in ("", "../JPEGImages", "../photos"):
        path = os.path.join(folder, part, name)
        if os.path.isfile(path):
            return path
    return None


def _size(data: dict[str, Any], photo: str | None, what: str) -> tuple[int, int]:
    """Return (H, W) from the file or else its photo; RecordError when they differ."""
    height, width = data.get("imageHeight"), data.get("imageWidth")
    if height is None and width is None:
        if photo is None:
            raise RecordError(f"size unknown: {what} has no imageHeight and imageWidth, and its "
                              "photo was not found")
        height, width = size_of(photo)
    if type(height) is not int or type(width) is not int:
        raise RecordError(f"imageHeight and imageWidth are {height!r:.20} and {width!r:.20}")
    check_pixels(width, height)
    check_size((height, width), photo, what)
    return height, width


def _shape(item: Any, what: str, names: tuple[str, ...]) -> Shape:
    """Check one shape. Raises RecordError for a wrong type, label, or number of points."""
    if not isinstance(item, dict) or not isinstance(item.get("label"), str):
        raise RecordError(f"{what} has no label")
    kind = item.get("shape_type") or "polygon"  # files from before 2019 have none
    if not isinstance(kind, str) or kind not in _GROUP_OF_TYPE:
        raise RecordError(f"{what}.shape_type is {kind!r:.40}: known are "
                          f"{few(sorted(_GROUP_OF_TYPE), 9)}")
    points = item.get("points")
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2
                                               for p in points):
        raise RecordError(f"{what}.points is no list of [x, y]")
    xy = np.array([[number_field(v, f"{what}.points[{n}]") for v in p]
                   for n, p in enumerate(points)], np.float64).reshape(-1, 2)
    low, high = draw.COUNTS[kind]
    if not low <= len(xy) <= high:
        wanted = str(low) if low == high else f"at least {low}"
        raise RecordError(f"{what} is a {kind} of {len(xy)} points, not {wanted}")
    label = item["label"]
    if label in ("ignore", "__ignore__"):
        cls = 255
    elif label in ("background", "_background_"):
        cls = 0
    else:
        try:
            cls = jsons.name_id(label, names)
        except RecordError as error:
            raise RecordError(f"{what}: {error}") from None
    group = item.get("group_id")
    if group is not None and type(group) is not int:
        raise RecordError(f"{what}.group_id is {group!r:.40}, not a whole number")
    return Shape(kind, cls, xy, group, item.get("mask"), what)
