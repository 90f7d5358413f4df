"""ScribbleSup: poly-lines in XML to scribbles 3 pixels wide."""

from __future__ import annotations

import os
from functools import partial

import numpy as np

from wsseg.data.base import Dataset, LazyRecord, check_photos, choose, make_header
from wsseg.data.draw import stroke
from wsseg.data.files import PHOTOS, check_size, listing, photo_members, size_of
from wsseg.data.lists import split_keys
from wsseg.data.names import DATASETS
from wsseg.data.xmls import child_number, child_text, image_size, read_xml
from wsseg.errors import RecordError, UsageError
from wsseg.io.jsons import name_id
from wsseg.io.png import check_pixels

_FOLDERS = ("", "scribble_annotation/pascal_2012", "pascal_2012", "scribble_annotation",
            "scribbles")


def open_scribblesup(root: str, *, split: str | None = None,
                     classes: tuple[str, ...] | None = None) -> Dataset:
    """Open ScribbleSup: scribble, and image where photos are found.

    root: a folder of XML files, or a tree that has scribble_annotation/pascal_2012. Photos are
    looked for in JPEGImages in the same folder and up to three above. split: a list in
    ImageSets/Segmentation beside JPEGImages, or the path of a list. classes: VOC's by default;
    ``background`` is class 0. Raises UsageError when no XML is found.
    """
    names = classes or DATASETS["voc"]
    strokes: dict[str, str] = {}
    for part in _FOLDERS:
        folder = os.path.join(root, part) if part else root
        strokes = listing(folder, (".xml",))
        if strokes:
            break
    else:
        raise UsageError(f"{root}: no scribbles found (looked for *.xml in it and in "
                         f"{', '.join(_FOLDERS[1:])})")
    base = _voc_base(folder)
    photos = listing(os.path.join(base, "JPEGImages"), PHOTOS) if base else {}
    lists = [os.path.join(base, "ImageSets", "Segmentation")] if base else []
    keys = choose(strokes, split_keys(split, *lists), folder)
    check_photos(keys, photos, folder)

    def read(key: str) -> LazyRecord:
        photo = photos.get(key)
        record = LazyRecord(key, photo_members(photo), names)
        record.defer(partial(_scribble, strokes[key], photo, names), "scribble")
        return record

    kinds = ("scribble", "image") if photos else ("scribble",)
    return Dataset(folder, make_header(kinds, names, keys), keys, read)


def _voc_base(folder: str) -> str | None:
    """Return the folder, or the nearest of three above it, that has JPEGImages."""
    folder = os.path.abspath(folder)
    for _ in range(4):
        if os.path.isdir(os.path.join(folder, "JPEGImages")):
            return folder
        folder = os.path.dirname(folder)
    return None


def _scribble(path: str, photo: str | None, names: tuple[str, ...]) -> np.ndarray:
    """Return uint8 (H, W): the class of the pixels drawn on, later strokes over earlier ones,
    255 elsewhere.

    Points are 0-based pixels and may lie outside; a stroke without points draws nothing.
    """
    if len(names) > 255:
        raise RecordError(f"{len(names)} classes do not fit a scribble's 8 bits")
    annotation = read_xml(path, "annotation")
    size = image_size(annotation)
    if size is not None:
        check_size(size, photo, os.path.basename(path))
    elif photo is not None:
        size = size_of(photo)
    else:
        raise RecordError(f"size unknown: {os.path.basename(path)} has no <size>, and no "
                          "JPEGImages folder is beside or above it; put the photos there")
    check_pixels(size[1], size[0])
    canvas = np.full(size, 255, np.uint8)
    for i, polygon in enumerate(annotation.findall("polygon")):
        what = f"polygon[{i}]"
        cls = name_id(child_text(polygon, "tag", what), names)
        xy = [[child_number(point, axis, f"{what}.point[{n}]") for axis in ("X", "Y")]
              for n, point in enumerate(polygon.findall("point"))]
        stroke(canvas, np.array(xy, np.float64).reshape(-1, 2), cls)
    return canvas
