"""Cityscapes: label ids to the 19 train ids, and instance ids to panoptic segments."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import NamedTuple

import numpy as np

from wsseg.data.base import Dataset, LazyRecord, check_photos, choose, few, make_header
from wsseg.data.files import PHOTOS, MaskFile, listing, photo_members
from wsseg.data.lists import split_keys
from wsseg.data.names import DATASETS
from wsseg.errors import RecordError, UsageError, WssegError
from wsseg.io.png import decode_labels
from wsseg.io.values import InstanceMap, Segment


class Label(NamedTuple):
    """One of Cityscapes' labels. train_id: class id here, 255 = not evaluated."""

    id: int
    train_id: int
    name: str
    has_instances: bool


LABELS = tuple(Label(*row) for row in (
    (0, 255, "unlabeled", False), (1, 255, "ego vehicle", False),
    (2, 255, "rectification border", False), (3, 255, "out of roi", False),
    (4, 255, "static", False), (5, 255, "dynamic", False), (6, 255, "ground", False),
    (7, 0, "road", False), (8, 1, "sidewalk", False), (9, 255, "parking", False),
    (10, 255, "rail track", False), (11, 2, "building", False), (12, 3, "wall", False),
    (13, 4, "fence", False), (14, 255, "guard rail", False), (15, 255, "bridge", False),
    (16, 255, "tunnel", False), (17, 5, "pole", False), (18, 255, "polegroup", False),
    (19, 6, "traffic light", False), (20, 7, "traffic sign", False),
    (21, 8, "vegetation", False), (22, 9, "terrain", False), (23, 10, "sky", False),
    (24, 11, "person", True), (25, 12, "rider", True), (26, 13, "car", True),
    (27, 14, "truck", True), (28, 15, "bus", True), (29, 255, "caravan", True),
    (30, 255, "trailer", True), (31, 16, "train", True), (32, 17, "motorcycle", True),
    (33, 18, "bicycle", True), (-1, 255, "license plate", False)))

_BY_ID = {label.id: label for label in LABELS}
_PARTS = ("photos", "labelIds", "labelTrainIds", "instanceIds")
_ENDING = re.compile(r"_(leftImg8bit|gtFine_.*)$")


def open_cityscapes(root: str, *, split: str | None = None,
                    classes: tuple[str, ...] | None = None) -> Dataset:
    """Open Cityscapes: image, label (19 train ids, 255 = ignore) and instance (panoptic).

    root: a folder with leftImg8bit/SPLIT/CITY and gtFine/SPLIT/CITY, or with the flat folders
    leftImg8bit, labelIds (or labelTrainIds) and instanceIds. split: one of its splits (the flat
    form has SPLIT.txt), or the path of a list. classes: other names for the 19 classes. Raises
    UsageError when nothing is found, WssegError for missing photos.
    """
    names = classes or DATASETS["cityscapes"]
    if len(names) != 19:
        raise UsageError(f"Cityscapes has 19 classes; {len(names)} names were given")
    flat = any(os.path.isdir(os.path.join(root, part)) for part in _PARTS[1:])
    found, wanted = _flat(root, split) if flat else _official(root, split)
    photos, labels, train, instances = (found[part] for part in _PARTS)
    if not labels and not train and not instances and not (photos and split):
        raise UsageError(f"{root}: no Cityscapes labels found (looked for gtFine/SPLIT/CITY/"
                         "*_gtFine_labelIds.png and for labelIds/*.png; labels that are only "
                         "polygons must be drawn by csCreateTrainIdLabelImgs first)")
    known = {*labels, *train, *instances, *(photos if split else ())}
    keys = choose(known, wanted, root)
    check_photos(keys, photos, root)
    kinds = [kind for kind, some in (("image", photos), ("label", labels or train),
                                     ("instance", instances)) if some]

    def read(key: str) -> LazyRecord:
        photo = photos.get(key)
        record = LazyRecord(key, photo_members(photo), names)
        if key in labels:
            record.defer(partial(_label, labels[key], photo), "label")
        elif key in train:
            record.members["png"] = MaskFile(train[key], photo)
        if key in instances:
            record.defer(partial(_instances, instances[key], photo), "instance")
        return record

    return Dataset(root, make_header(kinds, names, keys), keys, read)


def _flat(root: str, split: str | None) -> tuple[dict[str, dict[str, str]], list[str] | None]:
    """Return part -> key -> path, and the keys of the split."""
    found = {part: listing(os.path.join(root, part), (f"_gtFine_{part}.png", ".png"))
             for part in _PARTS[1:]}
    found["photos"] = listing(os.path.join(root, "leftImg8bit"), ("_leftImg8bit.png", *PHOTOS))
    return found, _keys(split_keys(split, root))


def _official(root: str, split: str | None
              ) -> tuple[dict[str, dict[str, str]], list[str] | None]:
    folders = {part: "gtFine" for part in _PARTS} | {"photos": "leftImg8bit"}
    splits = {name for folder in ("gtFine", "leftImg8bit") for name in
              _folders(os.path.join(root, folder))}
    chosen = {split} if split in splits else splits
    found: dict[str, dict[str, str]] = {part: {} for part in _PARTS}
    doubles = []
    for part, folder in folders.items():
        ending = "_leftImg8bit.png" if part == "photos" else f"_gtFine_{part}.png"
        for name in sorted(chosen):
            for city in _folders(os.path.join(root, folder, name)):
                files = listing(os.path.join(root, folder, name, city), (ending,))
                doubles += [key for key in files if key in found[part]]
                found[part].update(files)
    if doubles:
        raise WssegError(f"{root}: {len(doubles)} frames are there twice: {few(doubles)}")
    if split is None or split in splits:
        return found, None
    try:
        return found, _keys(split_keys(split))
    except UsageError as error:
        raise UsageError(f"{error} (the splits are {few(sorted(splits)) or 'none'})") from None


def _folders(path: str) -> list[str]:
    if not os.path.isdir(path):
        return []
    return sorted(name for name in os.listdir(path) if os.path.isdir(os.path.join(path, name)))


def _keys(entries: list[str] | None) -> list[str] | None:
    """Take Cityscapes' file endings off the entries of a list."""
    return entries and [_ENDING.sub("", entry) for entry in entries]


def _seen(ids: np.ndarray, also: tuple[int, ...] = ()) -> list[int]:
    """Return the ids in a map, ascending. Raises RecordError unless each belongs to a label or
    is one of ``also``."""
    seen = np.flatnonzero(np.bincount(ids.ravel())).tolist()
    bad = [i for i in seen if (i // 1000 if i >= 1000 else i) not in _BY_ID and i not in also]
    if bad:
        y, x = np.argwhere(ids == bad[0])[0]
        raise RecordError(f"{int((ids == bad[0]).sum())} pixels have the value {bad[0]}, which "
                          f"is no Cityscapes label id, the first at x={x}, y={y}"
                          f"{f'; as have {few(bad[1:])}' if bad[1:] else ''}")
    return seen


def _train_ids() -> np.ndarray:
    """Return label id -> train id as uint8 (256,)."""
    table = np.full(256, 255, np.uint8)
    for label in LABELS:
        table[label.id] = label.train_id
    return table


def _label(path: str, photo: str | None) -> np.ndarray:
    """Return uint8 (H, W) of train ids from label ids; 255 is -1 (license plate) in 8 bits."""
    ids = decode_labels(MaskFile(path, photo).read())
    if ids.dtype != np.uint8:
        raise RecordError("label ids of 16 bits: are these instance ids?")
    _seen(ids, (255,))
    return _train_ids()[ids]


def _instances(path: str, photo: str | None) -> InstanceMap:
    """Return panoptic segments from instance ids.

    An object (label id * 1000 + number) is one thing, all pixels of a stuff class are one
    segment, numbered together from 1 by ascending id. Groups (the plain id of a label that has
    instances) and labels outside of the 19 classes belong to none.
    """
    ids = decode_labels(MaskFile(path, photo).read())
    if ids.dtype != np.uint16:
        raise RecordError(f"instance ids of 8 bits: those above 255 were lost when {path} was "
                          "written; make it again with 16 bits")
    numbers = np.zeros(1 << 16, np.uint16)
    segments: list[Segment] = []
    for value in _seen(ids):
        entry = _BY_ID[value // 1000 if value >= 1000 else value]
        if value >= 1000 and not entry.has_instances:
            raise RecordError(f"instance id {value} is an object of {entry.name!r}, which has "
                              "no instances")
        if entry.train_id == 255 or entry.has_instances != (value >= 1000):
            continue
        numbers[value] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, entry.train_id, 1.0, value >= 1000))
    return InstanceMap(numbers[ids], tuple(segments))
