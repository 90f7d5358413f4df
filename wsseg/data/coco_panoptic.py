"""COCO panoptic: a JSON file and a folder of PNGs whose colours are segment ids."""

from __future__ import annotations

import io
import os
import struct
from functools import partial
from typing import Any

import numpy as np

from wsseg.data.base import Dataset, LazyRecord, check_photos, choose, doubles, few, make_header
from wsseg.data.cocojson import (Categories, Image, find_photos, load_json, locate,
                                 read_categories, read_images, rows)
from wsseg.data.files import check_size, photo_members
from wsseg.errors import RecordError, UsageError, WssegError
from wsseg.io.kinds import check_key
from wsseg.io.png import SIGNATURE, check_pixels, sniff
from wsseg.io.record import FileMember
from wsseg.io.values import InstanceMap, Segment


def open_coco_panoptic(root: str, *, split: str | None = None,
                       classes: tuple[str, ...] | None = None) -> Dataset:
    """Open COCO panoptic: image, label and instance.

    root: the JSON file, or a folder that has panoptic_SPLIT.json in itself or in annotations/;
    the PNGs lie in a folder of the JSON's name beside it, the photos in SPLIT/ there or one
    level up. split: the SPLIT, or the path of a list of keys. Classes: 0 is reserved
    (``unlabeled``), then the categories by ascending id; with ``classes``, every category must
    be among those names. Raises UsageError when files are not found, WssegError for a bad JSON.
    """
    path, wanted = locate(root, split, "panoptic")
    data = load_json(path)
    categories = read_categories(data, path, "unlabeled", classes)
    images = read_images(data, path)
    annotations = rows(data, "annotations", path, key="image_id")
    lost = [a["image_id"] for a in annotations if a["image_id"] not in images]
    if lost:
        raise WssegError(f"{path}: {len(lost)} annotations are of an image that is not listed: "
                         f"{few(lost)}")
    items = {images[a["image_id"]].key: (images[a["image_id"]], f"annotations[{i}]", a)
             for i, a in enumerate(annotations)}
    keys = choose(items, wanted, path)
    folder = os.path.splitext(path)[0]
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: no PNGs found (looked for the folder {folder})")
    there = set(os.listdir(folder))
    gone = [n for n in (_file_name(items[key][2], items[key][1], path) for key in keys)
            if n not in there]
    if gone:
        raise WssegError(f"{folder}: {len(gone)} of {len(keys)} PNGs are missing: {few(gone)}")
    photos = find_photos(path, "panoptic", [items[key][0] for key in keys])
    check_photos(keys, photos, path)

    def read(key: str) -> LazyRecord:
        image, what, item = items[key]
        photo = photos.get(key)
        record = LazyRecord(key, photo_members(photo), categories.names)
        png = os.path.join(folder, item["file_name"])
        record.defer(partial(_maps, png, image, photo, what, item, categories),
                     "instance", "label")
        return record

    kinds = {"instance", "label", *(["image"] if photos else ())}
    return Dataset(path, make_header(kinds, categories.names, keys), keys, read)


def _file_name(item: dict[str, Any], what: str, path: str) -> str:
    name = item.get("file_name")
    if not isinstance(name, str) or "/" in name:
        raise WssegError(f"{path}: {what}.file_name is {name!r:.60}, not the name of a PNG")
    return check_key(name)


def read_ids(data: bytes) -> np.ndarray:
    """Return the segment ids of a panoptic PNG, int64 (H, W): R + 256 G + 65536 B.

    Raises RecordError for a damaged file and for anything but 8-bit RGB, where ids would have
    been lost, UnsafeError for too many pixels.
    """
    from PIL import Image as Pillow

    if data[:8] != SIGNATURE or len(data) < 33:
        raise RecordError(f"not a PNG ({sniff(data)})")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    check_pixels(width, height)
    if (depth, colour) != (8, 2):
        raise RecordError(f"a panoptic PNG is 8-bit RGB, not {depth}-bit of colour type {colour}:"
                          " its ids are lost or were never panoptic ones")
    try:
        Pillow.open(io.BytesIO(data), formats=("PNG",)).verify()  # checksums; load ignores some
        rgb = np.asarray(Pillow.open(io.BytesIO(data), formats=("PNG",))).astype(np.int64)
    except (OSError, SyntaxError, ValueError) as error:
        raise RecordError(f"PNG damaged ({error})") from None
    return rgb @ np.array([1, 256, 65536])


def _maps(png: str, image: Image, photo: str | None, what: str, item: dict[str, Any],
          categories: Categories) -> tuple[InstanceMap, np.ndarray]:
    ids = read_ids(FileMember(png).read())
    if ids.shape != image.size:
        raise RecordError(f"{os.path.basename(png)} is of {ids.shape[0]}x{ids.shape[1]} pixels, "
                          f"the image in the JSON of {image.size[0]}x{image.size[1]}")
    check_size(image.size, photo, "the image in the JSON")
    return panoptic_maps(ids, item.get("segments_info"), categories, what)


def panoptic_maps(ids: np.ndarray, infos: Any, categories: Categories, what: str
                  ) -> tuple[InstanceMap, np.ndarray]:
    """Return the instance map and the label map of one panoptic annotation.

    ids: int64 (H, W), 0 = VOID. infos: its ``segments_info``. Segments are numbered from 1 in
    their order; crowds are no instance but have their class in the label, uint8 or uint16
    (H, W), where VOID is 255. Raises RecordError listing the ids that only one of the two has,
    whose area differs, or that cannot be (0, twice, 2**24 and above).
    """
    if not isinstance(infos, list) or not all(
            isinstance(s, dict) and type(s.get("id")) is int for s in infos):
        raise RecordError(f"{what}.segments_info is no list of segments with an integer id")
    listed = [s["id"] for s in infos]
    if not all(0 < i < 1 << 24 for i in listed):
        odd = [i for i in listed if not 0 < i < 1 << 24]
        raise RecordError(f"{what}.segments_info: id {few(odd)}: 0 means VOID, and colours end "
                          "before 2**24")
    if len(set(listed)) != len(listed):
        raise RecordError(f"{what}.segments_info: the same id twice: {few(doubles(listed))}")
    if len(listed) > 65535:
        raise RecordError(f"{what}: {len(listed)} segments; an instance map holds 65535")
    known = np.array([0, *listed], np.int64)
    order = np.argsort(known)
    place = order[np.searchsorted(known[order], ids).clip(max=len(known) - 1)]
    strange = known[place] != ids
    if strange.any():
        raise RecordError("segments of the PNG that the JSON does not list: "
                          f"{few(np.unique(ids[strange]).tolist())}")
    areas = np.bincount(place.ravel(), minlength=len(known)).tolist()
    unseen = [i for i, area in zip(listed, areas[1:]) if not area]
    if unseen:
        raise RecordError(f"segments of the JSON that the PNG does not show: {few(unseen)}")
    wrong = [f"{s['id']} ({s['area']}, shown {area})" for s, area in zip(infos, areas[1:])
             if s.get("area", area) != area]
    if wrong:
        raise RecordError(f"segments whose area differs from the JSON's: {few(wrong)}")
    classes = [categories.class_of(s, f"{what}.segments_info[{i}]") for i, s in enumerate(infos)]
    numbers = np.zeros(len(known), np.uint16)
    segments: list[Segment] = []
    for i, (info, cls) in enumerate(zip(infos, classes), 1):
        if not info.get("iscrowd", 0):
            numbers[i] = len(segments) + 1
            segments.append(Segment(len(segments) + 1, cls, 1.0, cls in categories.things))
    table = np.array([255, *classes], np.uint8 if len(categories.names) <= 255 else np.uint16)
    return InstanceMap(numbers[place], tuple(segments)), table[place]
