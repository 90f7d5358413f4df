"""What COCO's instance and panoptic files share: strict loading, tables, and finding photos."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsseg.data.base import doubles, few
from wsseg.data.files import read_small
from wsseg.data.lists import read_list
from wsseg.errors import RecordError, UnsafeError, UsageError, WssegError
from wsseg.io.jsons import name_id
from wsseg.io.kinds import check_key

MAX_BYTES = 1 << 32  # instances_train2017.json has 448 MB


@dataclass(frozen=True)
class Image:
    """One row of ``images``. size: (H, W)."""

    id: int
    file_name: str
    size: tuple[int, int]

    @property
    def key(self) -> str:
        return os.path.splitext(os.path.basename(self.file_name))[0]


@dataclass(frozen=True)
class Categories:
    """The categories of a file. ids: COCO category id -> class id; things: class ids."""

    names: tuple[str, ...]
    ids: dict[int, int]
    things: frozenset[int]

    def class_of(self, item: dict[str, Any], what: str) -> int:
        """Return the class id of an annotation. Raises RecordError for an unknown category."""
        number = item.get("category_id")
        if type(number) is not int or number not in self.ids:
            raise RecordError(f"{what}.category_id is {number!r:.40}: no such category")
        return self.ids[number]


def load_json(path: str) -> dict[str, Any]:
    """Load a COCO file strictly: UTF-8, no NaN, no key twice in one object, bounded depth.

    Polygons become ``array('d')`` while they are read, a quarter of the memory of lists.
    Raises WssegError saying what is wrong.
    """
    def constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    try:
        text = read_small(path, MAX_BYTES).decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_compact, parse_constant=constant)
    except RecordError as error:
        raise WssegError(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise WssegError(f"{path}: bad JSON: {error}") from None
    if not isinstance(value, dict):
        raise WssegError(f"{path}: not a COCO file: its outermost value is no object")
    return value


def _compact(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("the same key twice in one object")
    polygons = result.get("segmentation")
    if isinstance(polygons, list):
        result["segmentation"] = [_packed(polygon) for polygon in polygons]
    return result


def _packed(polygon: Any) -> Any:
    """Return a list of numbers as an array; leave all else for its record to complain of."""
    if isinstance(polygon, list) and set(map(type, polygon)) <= {int, float}:
        try:
            return array("d", polygon)
        except OverflowError:
            pass
    return polygon


def rows(data: dict[str, Any], name: str, path: str, *, key: str = "id") -> list[dict[str, Any]]:
    """Return one of a file's tables. Raises WssegError unless it is a list of objects whose
    integer ``key`` is there and unique."""
    table = data.get(name)
    if not isinstance(table, list):
        raise WssegError(f"{path}: no list {name!r} (a COCO file has images, annotations and "
                         "categories)")
    for i, row in enumerate(table):
        if not isinstance(row, dict) or type(row.get(key)) is not int:
            raise WssegError(f"{path}: {name}[{i}] has no integer {key!r}")
    again = doubles(row[key] for row in table)
    if again:
        raise WssegError(f"{path}: {len(again)} values of {name}[].{key} are there twice: "
                         f"{few(again)}")
    return table


def read_images(data: dict[str, Any], path: str) -> dict[int, Image]:
    """Return id -> Image. Raises WssegError for missing fields and for two images of one key,
    UnsafeError for a file name that leaves its folder."""
    images = {}
    for i, row in enumerate(rows(data, "images", path)):
        name, height, width = (row.get(field) for field in ("file_name", "height", "width"))
        if (not isinstance(name, str) or type(height) is not int or type(width) is not int
                or height < 1 or width < 1):
            raise WssegError(f"{path}: images[{i}] needs a file_name, and a height and a width "
                             "of at least 1")
        try:
            images[row["id"]] = Image(row["id"], check_key(name), (height, width))
        except UnsafeError as error:
            raise UnsafeError(f"{path}: images[{i}].file_name: {error}") from None
    again = doubles(image.key for image in images.values())
    if again:
        raise WssegError(f"{path}: {len(again)} file names stand for two images each (without "
                         f"folder and extension): {few(again)}")
    return images


def read_categories(data: dict[str, Any], path: str, zero: str,
                    classes: Sequence[str] | None) -> Categories:
    """Return the categories, numbered from 1 by ascending category id after ``zero``.

    classes: names to use instead, among which every category's name must be; their places are
    the class ids. Raises WssegError for names that are missing, unknown or there twice.
    """
    table = sorted(rows(data, "categories", path), key=lambda row: row["id"])
    own: list[str] = [row.get("name", "") for row in table]
    if not all(isinstance(name, str) and name for name in own):
        raise WssegError(f"{path}: a category has no name")
    again = doubles([zero, *own])
    if again:
        raise WssegError(f"{path}: {len(again)} names stand for two classes each: {few(again)}")
    if classes is None and len(own) > 254:
        raise WssegError(f"{path}: {len(own)} categories, but class id 255 means 'ignore': give "
                         "the names to use, with something unused as number 255")
    names = tuple(classes or (zero, *own))
    try:
        ids = {row["id"]: name_id(row["name"], names) for row in table}
    except RecordError as error:
        raise UsageError(f"{path}: {error} among the class names given") from None
    things = {ids[row["id"]] for row in table if row.get("isthing", 1)}
    return Categories(names, ids, frozenset(things))


def locate(root: str, split: str | None, prefix: str) -> tuple[str, list[str] | None]:
    """Return the path of the JSON file, and the keys of a list file.

    root: the JSON file, or a folder that has PREFIX_SPLIT.json in itself or in annotations/.
    Raises UsageError when there is none, or no way to choose.
    """
    if not os.path.isdir(root):
        return root, None if split is None else _list_or_fail(split, "")
    found = {}
    for folder in (root, os.path.join(root, "annotations")):
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
            if name.startswith(f"{prefix}_") and name.endswith(".json"):
                found[name[len(prefix) + 1:-5]] = os.path.join(folder, name)
    if not found:
        raise UsageError(f"{root}: no annotations found (looked for {prefix}_SPLIT.json and "
                         f"annotations/{prefix}_SPLIT.json)")
    if split in found:
        return found[split], None
    if len(found) > 1:
        raise UsageError(f"{root}: {'no split ' + repr(split) if split else 'no split chosen'}: "
                         f"it has {', '.join(found)}")
    return next(iter(found.values())), (None if split is None
                                        else _list_or_fail(split, f" (it has {next(iter(found))})"))


def _list_or_fail(split: str, there: str) -> list[str]:
    if not os.path.exists(split):
        raise UsageError(f"no split {split!r}{there}, and no list file of that name")
    return read_list(split)


def find_photos(json_path: str, prefix: str, images: Sequence[Image]) -> dict[str, str]:
    """Return key -> path of the photos that are there; {} where no folder has any of them.

    For .../annotations/PREFIX_NAME.json the folders are NAME, images/NAME, images and the
    folder itself, beside the file and one level up.
    """
    stem = os.path.splitext(os.path.basename(json_path))[0]
    name = stem.removeprefix(f"{prefix}_")
    here = os.path.dirname(os.path.abspath(json_path))
    for base in (here, os.path.dirname(here)):
        for part in (name, os.path.join("images", name), "images", ""):
            folder = os.path.join(base, part)
            present = _present(folder, images)
            if present:
                return present
    return {}


def _present(folder: str, images: Sequence[Image]) -> dict[str, str]:
    names: dict[str, set[str]] = {}  # one listing of each folder, not one stat of each file
    result = {}
    for image in images:
        path = os.path.join(folder, image.file_name)
        where, base = os.path.split(path)
        if where not in names:
            names[where] = set(os.listdir(where)) if os.path.isdir(where) else set()
        if base in names[where]:
            result[image.key] = path
    return result
