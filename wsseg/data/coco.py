"""COCO instances: boxes, masks (possibly overlapping) and tags from one JSON file."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from wsseg.data.base import Dataset, LazyRecord, check_photos, choose, clip_box, make_header
from wsseg.data.cocojson import (Categories, Image, find_photos, load_json, locate,
                                 read_categories, read_images, rows)
from wsseg.data.draw import polygon_changes
from wsseg.data.files import check_size, number_field, photo_members
from wsseg.data.rle import read_counts, runs_of_changes, union
from wsseg.errors import RecordError, WssegError
from wsseg.io.png import check_pixels
from wsseg.io.values import Boxes, Masks

#: One annotation and how messages call it.
Item = tuple[str, dict[str, Any]]


def open_coco(root: str, *, split: str | None = None,
              classes: tuple[str, ...] | None = None) -> Dataset:
    """Open COCO instances: image, boxes, masks and tags.

    root: the JSON file, or a folder with annotations/instances_SPLIT.json and SPLIT/*.jpg.
    split: the SPLIT, or the path of a list of keys (file names without extension). Classes are
    0 = background and then the categories by ascending id; with ``classes``, every category
    must be among those names. Crowds have no box, and masks that are marked so, after those of
    the objects. Annotations whose box has no width or no height (COCO has a few) have neither;
    both count as present in tags, and notes count them. Masks have the areas that the file says.
    Where no photos are found beside the JSON, records have none. Raises WssegError for a bad
    file, UsageError when there is none.
    """
    path, wanted = locate(root, split, "instances")
    data = load_json(path)
    categories = read_categories(data, path, "background", classes)
    images = read_images(data, path)
    annotations = rows(data, "annotations", path)
    items: dict[int, list[Item]] = {i: [] for i in images}
    lost = [a["id"] for a in annotations
            if type(a.get("image_id")) is not int or a["image_id"] not in images]
    if lost:
        raise WssegError(f"{path}: {len(lost)} annotations are of an image that is not listed, "
                         f"the first with id {lost[0]}")
    for i, annotation in enumerate(annotations):
        items[annotation["image_id"]].append((f"annotations[{i}]", annotation))
    by_key = {image.key: image for image in images.values()}
    keys = choose(by_key, wanted, path)
    photos = find_photos(path, "instances", [by_key[key] for key in keys])
    check_photos(keys, photos, path)
    drawn = any(a.get("segmentation") for a in annotations)
    kinds = {"boxes", "tags", *(["image"] if photos else ()), *(["masks"] if drawn else ())}

    def read(key: str) -> LazyRecord:
        image, photo = by_key[key], photos.get(key)
        record = LazyRecord(key, photo_members(photo), categories.names)
        job = image, photo, items[image.id], categories
        record.defer(partial(_tags, *job), "tags")
        record.defer(partial(_boxes, *job), "boxes")
        if drawn:
            record.defer(partial(_masks, *job), "masks")
        return record

    return Dataset(path, make_header(kinds, categories.names, keys), keys, read,
                   _notes(annotations))


def _notes(annotations: list[dict[str, Any]]) -> list[str]:
    crowds = sum(_is_crowd(a) for a in annotations)
    flat = sum(not _is_crowd(a) and _is_flat(a) for a in annotations)
    short = sum(isinstance(p, array) and len(p) < 6 for a in annotations
                if isinstance(a.get("segmentation"), list) for p in a["segmentation"])
    return [f"{count} {what}" for count, what in (
        (crowds, "crowd annotations have no box"),
        (flat, "annotations of no width or height are left out"),
        (short, "polygons of fewer than three points enclose nothing")) if count]


def _is_crowd(item: dict[str, Any]) -> bool:
    return bool(item.get("iscrowd", 0))


def _is_flat(item: dict[str, Any]) -> bool:
    box = item.get("bbox")
    return isinstance(box, list) and len(box) == 4 and 0 in box[2:]


def _objects(items: list[Item]) -> list[Item]:
    """Leave out crowds and flat annotations, so that boxes are in the places of their masks."""
    return [(what, a) for what, a in items if not _is_crowd(a) and not _is_flat(a)]


def _tags(image: Image, photo: str | None, items: list[Item], categories: Categories
          ) -> tuple[int, ...]:
    return tuple(sorted({categories.class_of(a, what) for what, a in items}))


def _classes(items: list[Item], categories: Categories) -> np.ndarray:
    return np.array([categories.class_of(a, what) for what, a in items], np.int64)


def _boxes(image: Image, photo: str | None, items: list[Item], categories: Categories) -> Boxes:
    """Return boxes from [x, y, width, height] in pixels from 0, cut to the image."""
    check_size(image.size, photo, "the image in the JSON")
    items = _objects(items)
    xyxy = np.zeros((len(items), 4))
    for i, (what, annotation) in enumerate(items):
        box = annotation.get("bbox")
        if not isinstance(box, list) or len(box) != 4:
            raise RecordError(f"{what}.bbox is {box!r:.60}, not [x, y, width, height]")
        x, y, width, height = (number_field(v, f"{what}.bbox[{n}]") for n, v in enumerate(box))
        xyxy[i] = clip_box((x, y, x + width, y + height), image.size, f"{what}.bbox")
    return Boxes(xyxy, _classes(items, categories), image.size)


def _masks(image: Image, photo: str | None, items: list[Item], categories: Categories) -> Masks:
    check_size(image.size, photo, "the image in the JSON")
    check_pixels(image.size[1], image.size[0])
    items = _objects(items) + [(what, a) for what, a in items
                               if _is_crowd(a) and a.get("segmentation")]
    runs = tuple(segmentation_runs(annotation.get("segmentation"), image.size,
                                   f"{what}.segmentation") for what, annotation in items)
    crowd = np.array([_is_crowd(annotation) for _, annotation in items], bool)
    return Masks(image.size, runs, _classes(items, categories), np.ones(len(items)),
                 crowd if crowd.any() else None, _areas(items, runs))


def _areas(items: list[Item], runs: Sequence[Sequence[int]]) -> np.ndarray | None:
    """Return the areas that annotations state, of polygons rather than of pixels; where some
    state none, those of the pixels."""
    if not any("area" in annotation for _, annotation in items):
        return None
    return np.array([max(0.0, number_field(a["area"], f"{what}.area")) if "area" in a
                     else float(sum(pixels[1::2])) for (what, a), pixels in zip(items, runs)])


def segmentation_runs(value: Any, size: tuple[int, int], what: str) -> tuple[int, ...]:
    """Return the runs (column by column, background first) of a COCO segmentation.

    value: polygons [[x, y, x, y, ...], ...], of which the union is taken, or run-lengths
    {"size": [H, W], "counts": list or compressed text}. size: (H, W) of the image. Raises
    RecordError, its message beginning with ``what``, for anything else.
    """
    try:
        if isinstance(value, dict):
            if value.get("size") != list(size):
                raise RecordError(f"size is {value.get('size')!r:.40}, but the image has "
                                  f"{list(size)}")
            return read_counts(value.get("counts"), size)
        if not isinstance(value, list) or not value:
            raise RecordError("neither polygons nor run-lengths: this object has only a box")
        parts = []
        for n, polygon in enumerate(value):
            if not isinstance(polygon, array):
                flat = polygon if isinstance(polygon, list) else [polygon]
                polygon = [number_field(v, f"[{n}][{k}]") for k, v in enumerate(flat)]
            if len(polygon) % 2:
                raise RecordError(f"[{n}] has {len(polygon)} numbers, not pairs of x and y")
            parts.append(polygon_changes(np.array(polygon, np.float64).reshape(-1, 2), size))
    except RecordError as error:
        raise RecordError(f"{what}: {error}") from None
    return runs_of_changes(union(parts), size)
