"""SBD, the Semantic Boundaries Dataset: MAT-files of classes and objects on VOC's photos.

Source: Hariharan, Arbelaez, Bourdev, Maji, Malik: Semantic contours from inverse detectors (ICCV
2011); the form is that of benchmark.tgz.
"""

from __future__ import annotations

import os
from functools import partial

import numpy as np

from wsseg.data.base import Dataset, LazyRecord, check_photos, choose, few, make_header
from wsseg.data.files import PHOTOS, check_size, listing, photo_members, read_small
from wsseg.data.lists import split_keys
from wsseg.data.mat5 import MAX_BYTES, read_struct
from wsseg.data.names import DATASETS
from wsseg.errors import RecordError, UsageError
from wsseg.io.png import check_pixels
from wsseg.io.values import InstanceMap, Segment

_FOLDERS = ("", "dataset", "benchmark_RELEASE/dataset")


def open_sbd(root: str, *, split: str | None = None,
             classes: tuple[str, ...] | None = None) -> Dataset:
    """Open SBD: label (without a void border), and image and instance where their files exist.

    root: the folder of cls, inst and img, benchmark_RELEASE or the folder above. split: a list
    there (train, val) or the path of a list; without it, every record of cls. classes: VOC's by
    default. Raises UsageError when nothing is found, WssegError for missing photos.
    """
    folders = [os.path.join(root, part) if part else root for part in _FOLDERS]
    folder = next((f for f in folders if os.path.isdir(os.path.join(f, "cls"))), root)
    masks = listing(os.path.join(folder, "cls"), (".mat",))
    if not masks:
        raise UsageError(f"{root}: no SBD data found (looked for cls/*.mat in it, in dataset and "
                         "in benchmark_RELEASE/dataset)")
    names = classes or DATASETS["voc"]
    objects = listing(os.path.join(folder, "inst"), (".mat",))
    photos = listing(os.path.join(folder, "img"), PHOTOS)
    keys = choose(masks, split_keys(split, folder), folder)
    check_photos(keys, photos, folder)
    bare = [key for key in keys if key not in objects]
    notes = [f"{len(bare)} of {len(keys)} records have no instances: {few(bare)}"] \
        if objects and bare else []
    kinds = [kind for kind, some in (("image", photos), ("label", masks), ("instance", objects))
             if some]

    def read(key: str) -> LazyRecord:
        photo = photos.get(key)
        record = LazyRecord(key, photo_members(photo), names)
        record.defer(partial(_label, masks[key], photo, len(names)), "label")
        if key in objects:
            record.defer(partial(_instances, objects[key], masks[key], photo, len(names)),
                         "instance")
        return record

    return Dataset(folder, make_header(kinds, names, keys), keys, read, notes)


def _read(path: str, variable: str, photo: str | None, *fields: str) -> list[np.ndarray]:
    """Return Segmentation (H, W), of the photo's size, and the other fields of one file."""
    found = read_struct(read_small(path, MAX_BYTES), variable, ("Segmentation", *fields))
    height, width = found["Segmentation"].shape
    check_pixels(width, height)
    check_size((height, width), photo, os.path.basename(path))
    return [found["Segmentation"], *(found[field] for field in fields)]


def _label(path: str, photo: str | None, classes: int) -> np.ndarray:
    """Return uint8 (H, W) of class ids below ``classes``. Raises RecordError for any other."""
    label, = _read(path, "GTcls", photo)
    if label.dtype != np.uint8:
        raise RecordError(f"GTcls.Segmentation is {label.dtype}, not uint8")
    bad = label >= classes
    if bad.any():
        y, x = np.argwhere(bad)[0]
        raise RecordError(f"{int(bad.sum())} pixels are of no known class: value {label[y, x]} at "
                          f"x={x}, y={y}, but there are {classes} classes and no void in SBD")
    return label


def _instances(path: str, mask: str, photo: str | None, classes: int) -> InstanceMap:
    """Return the objects that are drawn, with SBD's ids and the classes of Categories (n, 1)."""
    ids, categories = _read(path, "GTinst", photo, "Categories")
    if photo is None and ids.shape != (size := _read(mask, "GTcls", None)[0].shape):
        raise RecordError(f"GTinst is of {ids.shape[0]}x{ids.shape[1]} pixels, GTcls of "
                          f"{size[0]}x{size[1]}")
    if categories.size and 1 not in categories.shape:
        raise RecordError(f"GTinst.Categories is of {categories.shape[0]}x{categories.shape[1]}, "
                          "not a column")
    ids = _whole(ids, "Segmentation", 0, 65535).astype(np.uint16)
    found = _whole(categories.ravel(), "Categories", 1, classes - 1).astype(np.int64).tolist()
    drawn = np.flatnonzero(np.bincount(ids.ravel())[1:]) + 1
    if drawn.size and drawn[-1] > len(found):
        raise RecordError(f"object {drawn[-1]} has no class: GTinst.Categories lists {len(found)}")
    return InstanceMap(ids, tuple(Segment(i, found[i - 1]) for i in drawn.tolist()))


def _whole(values: np.ndarray, field: str, low: int, high: int) -> np.ndarray:
    """Return the values. Raises RecordError unless all are whole numbers from low to high."""
    bad = ~((values >= low) & (values <= high))
    if values.dtype.kind == "f":
        bad |= values != np.trunc(values)
    if bad.any():
        raise RecordError(f"GTinst.{field} has the value {values[bad][0].item()}, not a whole "
                          f"number from {low} to {high}")
    return values
