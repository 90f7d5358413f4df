"""PASCAL VOC: VOCdevkit folders with photos, palette masks and 1-based XML boxes."""

from __future__ import annotations

import os
import re
from functools import partial

import numpy as np

from wsseg.data.base import Dataset, LazyRecord, check_photos, choose, clip_box, few, make_header
from wsseg.data.files import (PHOTOS, MaskFile, check_size, listing, photo_members, read_small,
                              size_of)
from wsseg.data.lists import split_keys
from wsseg.data.names import DATASETS
from wsseg.data.xmls import MAX_BYTES, child_number, child_text, image_size, parse_xml
from wsseg.errors import RecordError, UsageError
from wsseg.io.jsons import name_id
from wsseg.io.png import decode_labels
from wsseg.io.values import Boxes, InstanceMap, Segment

_PARTS = ("JPEGImages", "SegmentationClass", "SegmentationClassAug", "Annotations")


def open_voc(root: str, *, split: str | None = None,
             classes: tuple[str, ...] | None = None) -> Dataset:
    """Open a VOCdevkit tree: image, label, instance and boxes where their files exist.

    root: VOCdevkit, one year's folder in it, or the folder above. split: a list in
    ImageSets/Segmentation (or, failing that, ImageSets/Main) or the path of a list; without
    it, every record that has a mask or an XML. SegmentationClassAug stands in for an absent
    SegmentationClass. Raises UsageError when nothing is found, WssegError for missing photos.
    """
    folder = year_folder(root)
    names = classes or DATASETS["voc"]
    found = {part: listing(os.path.join(folder, part), endings) for part, endings in (
        ("JPEGImages", PHOTOS), ("SegmentationClass", (".png",)),
        ("SegmentationObject", (".png",)), ("Annotations", (".xml",)))}
    photos, masks, objects, boxes = found.values()
    masks = masks or listing(os.path.join(folder, "SegmentationClassAug"), (".png",))
    wanted = split_keys(split, *(os.path.join(folder, "ImageSets", part)
                                 for part in ("Segmentation", "Main")))
    if not masks and not boxes and not (photos and wanted):
        raise UsageError(f"{folder}: no masks or boxes found (looked for SegmentationClass/*.png, "
                         "SegmentationClassAug/*.png and Annotations/*.xml)")
    keys = choose({*masks, *boxes, *(photos if wanted else ())}, wanted, folder)
    check_photos(keys, photos, folder)
    notes = []
    bare = [key for key in keys if key not in masks]
    if wanted and masks and bare:
        notes.append(f"{len(bare)} of {len(keys)} records have no mask: {few(bare)}")
    files = {key: (photos.get(key), masks.get(key), objects.get(key), boxes.get(key))
             for key in keys}
    kinds = [kind for kind, some in (("image", photos), ("label", masks), ("boxes", boxes),
                                     ("instance", objects)) if some]
    return Dataset(folder, make_header(kinds, names, keys), keys,
                   lambda key: _record(key, *files[key], names), notes)


def year_folder(root: str) -> str:
    """Return the folder of one year; UsageError when there is none, or more than one."""
    for base in (root, os.path.join(root, "VOCdevkit")):
        if any(os.path.isdir(os.path.join(base, part)) for part in _PARTS):
            return base
        years = sorted(n for n in (os.listdir(base) if os.path.isdir(base) else ())
                       if re.fullmatch(r"VOC\d{4}", n))
        if len(years) == 1:
            return os.path.join(base, years[0])
        if years:
            raise UsageError(f"{base} holds {', '.join(years)}: name one of them")
    raise UsageError(f"{root}: no VOC data found (looked for {', '.join(_PARTS)} in it, in "
                     "VOC20xx and in VOCdevkit/VOC20xx)")


def _record(key: str, photo: str | None, mask: str | None, objects: str | None,
            boxes: str | None, names: tuple[str, ...]) -> LazyRecord:
    record = LazyRecord(key, photo_members(photo), names)
    if mask:
        record.members["png"] = MaskFile(mask, photo)
    if mask and objects:
        record.defer(partial(_instances, mask, objects, photo), "instance")
    if boxes:
        record.defer(partial(_boxes, boxes, photo or mask, names), "boxes")
    return record


def _boxes(path: str, picture: str | None, names: tuple[str, ...]) -> Boxes:
    data = read_small(path, MAX_BYTES)
    boxes = parse_voc_xml(data, names, size=None if picture is None else size_of(picture))
    if boxes.size is not None:
        check_size(boxes.size, picture, os.path.basename(path))
    return boxes


def parse_voc_xml(data: bytes, names: tuple[str, ...], *,
                  size: tuple[int, int] | None = None) -> Boxes:
    """Parse the boxes of a VOC annotation file.

    names: class names, index = id. size: (H, W) to use if the file states none. VOC counts
    pixels from 1 and includes the last one, so (xmin, ymin, xmax, ymax) becomes (xmin - 1,
    ymin - 1, xmax, ymax), whole numbers or not. What leaves the image is cut off; objects
    marked difficult are kept; an object's parts (head, hand, foot) are no boxes. Raises
    RecordError for malformed XML, for a box that is empty or outside, and for an unknown
    class, UnsafeError for XML with a DTD.
    """
    annotation = parse_xml(data, "annotation")
    size = image_size(annotation) or size
    xyxy, ids = [], []
    for i, item in enumerate(annotation.findall("object")):
        what = f"object[{i}]"
        name = child_text(item, "name", what)
        ids.append(name_id(name, names))
        if ids[-1] == 0:
            raise RecordError(f"{what} is of class {name!r}: a box needs a class of its own")
        frame = item.find("bndbox")
        if frame is None:
            raise RecordError(f"{what} has no <bndbox>")
        x0, y0, x1, y1 = (child_number(frame, side, f"{what}.bndbox")
                          for side in ("xmin", "ymin", "xmax", "ymax"))
        if x1 < x0 or y1 < y0:
            raise RecordError(f"{what}.bndbox is empty: x {x0:g} to {x1:g}, y {y0:g} to {y1:g}")
        xyxy.append(clip_box((x0 - 1, y0 - 1, x1, y1), size, f"{what}.bndbox"))
    return Boxes(np.array(xyxy, np.float64).reshape(-1, 4), np.array(ids, np.int64), size)


def _instances(mask: str, objects: str, photo: str | None) -> InstanceMap:
    """Return the objects with the class that most of their pixels have in the class mask.

    Ids are VOC's own; void pixels (255 in the object mask) belong to none.
    """
    classes = decode_labels(MaskFile(mask, photo).read())
    ids = decode_labels(MaskFile(objects, photo).read()).astype(np.uint16)
    if classes.shape != ids.shape:
        raise RecordError(f"SegmentationObject is of {ids.shape[0]}x{ids.shape[1]} pixels, "
                          f"SegmentationClass of {classes.shape[0]}x{classes.shape[1]}")
    ids[ids == 255] = 0
    segments = []
    for i in np.unique(ids[ids > 0]).tolist():
        votes = np.bincount(classes[ids == i], minlength=256)
        votes[255] = 0
        cls = int(votes.argmax())
        if not cls:
            raise RecordError(f"object {i} has no class in SegmentationClass")
        segments.append(Segment(i, cls))
    return InstanceMap(ids, tuple(segments))
