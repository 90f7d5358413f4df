"""Records to the forms in which others exchange instances: COCO, COCO panoptic, Cityscapes.

Each writer takes records one by one and makes files under one folder; what describes all of them
(COCO's JSON) is written last. What they write, the readers of ``wsseg.data`` read back.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsseg.data.cityscapes import LABELS
from wsseg.data.cocojson import Image, load_json, read_categories, read_images, rows
from wsseg.data.names import DATASETS, THINGS
from wsseg.data.rle import mask_of_runs, runs_of_mask
from wsseg.errors import RecordError, UsageError
from wsseg.io import jsons
from wsseg.io.atomic import atomic_write
from wsseg.io.kinds import background_id
from wsseg.io.png import encode_labels
from wsseg.io.record import Record

IGNORE = 255
_MOST = 1000  # objects of a class in a Cityscapes image: their ids are label * 1000 + number


class Cityscapes:
    """instanceIds/KEY.png and labelIds/KEY.png of Cityscapes' label ids, as the flat form of
    ``open_cityscapes`` has them. Raises UsageError for other classes than its 19."""

    def __init__(self, folder: Path, names: Sequence[str] | None, like: str | None) -> None:
        if names is None or tuple(names) != DATASETS["cityscapes"]:
            raise UsageError("Cityscapes' ids are of its 19 classes only: these are "
                             f"{'unknown' if names is None else len(names)}")
        if like is not None:
            raise UsageError("--like is a COCO file: it has no meaning for Cityscapes")
        self._folder = folder

    def add(self, record: Record) -> None:
        """Write one record. Raises RecordError for 1000 objects of a class and more, and for a
        stuff class that is a thing."""
        ids = city_ids(record)
        for name, values in (("instanceIds", ids), ("labelIds", np.where(
                ids >= _MOST, ids // _MOST, ids).astype(np.uint8))):
            path = self._folder / name / f"{_plain(record.key)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, encode_labels(values, palette=False))

    def finish(self) -> None:
        """Nothing describes all of them."""


class CityResults(Cityscapes):
    """KEY.txt and KEY/NUMBER.png, what Cityscapes' server and script take for instances: a line
    for each thing, with its mask's file (255 inside), Cityscapes' label id and the score."""

    def add(self, record: Record) -> None:
        """Write one record. Raises RecordError for a thing of no class of theirs."""
        value, key = record.get("instance"), _plain(record.key)
        labels = {one.train_id: one.id for one in LABELS if one.has_instances}
        lines = []
        for segment in (s for s in value.segments if s.thing):
            if segment.cls not in labels or segment.cls == IGNORE:
                raise RecordError(f"segment {segment.id} is of class {segment.cls}, which is no "
                                  "thing in Cityscapes")
            name = f"{key}/{segment.id}.png"
            (self._folder / key).mkdir(parents=True, exist_ok=True)
            mask = np.where(value.ids == segment.id, np.uint8(255), np.uint8(0))
            atomic_write(self._folder / name, encode_labels(mask, palette=False))
            lines.append(f"{name} {labels[segment.cls]} {segment.score:.6f}\n")
        self._folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self._folder / f"{key}.txt", "".join(lines).encode())


def city_ids(record: Record) -> np.ndarray:
    """Return Cityscapes' instance ids, uint16 (H, W), of a record's instance map and label map.

    Where the instance map has no segment, the label map tells the class (of things: a group);
    255, and where there is none, is 0 (unlabeled).
    """
    value = record.get("instance")
    labels = {one.train_id: one for one in LABELS if one.train_id != IGNORE}
    table = np.zeros(1 + int(value.ids.max(initial=0)), np.uint16)
    count: dict[int, int] = {}
    for segment in value.segments:
        if segment.cls not in labels:
            raise RecordError(f"segment {segment.id} is of class {segment.cls}, which Cityscapes "
                              "has not")
        own, number = labels[segment.cls], count.get(segment.cls, 0)
        count[segment.cls] = number + 1
        if segment.thing != own.has_instances:
            here, there = ("a thing", "stuff") if segment.thing else ("stuff", "a thing")
            raise RecordError(f"segment {segment.id} of {own.name} is {here}, but {there} in "
                              "Cityscapes")
        if number >= _MOST:
            raise RecordError(f"more than {_MOST} segments of {own.name}: Cityscapes cannot "
                              "number them")
        if segment.id < len(table):
            table[segment.id] = own.id * _MOST + number if own.has_instances else own.id
    ids = table[value.ids]
    if "label" in record:
        label = _same_size(record, ids.shape)
        odd = ~np.isin(label, [*labels, IGNORE]) & (value.ids == 0)
        if odd.any():
            raise RecordError(f"its label map has class {label[odd][0]}, which Cityscapes has not")
        plain = np.zeros(max(256, int(label.max(initial=0)) + 1), np.uint16)
        plain[[*labels]] = [one.id for one in labels.values()]
        ids = np.where(value.ids == 0, plain[label], ids)
    return ids


class _Coco:
    """What COCO's forms share. like: a COCO file whose ids of categories (by name) and of images
    (by key) are used, so that its own tools take the result."""

    def __init__(self, folder: Path, names: Sequence[str] | None, like: str | None) -> None:
        if names is None:
            raise UsageError("COCO's categories have names: give those of the classes with "
                             "--classes")
        self.folder, self.names = folder, tuple(names)
        self.background = background_id(self.names)
        self.things = set(next((THINGS[n] for n, known in DATASETS.items() if known == self.names),
                               set(range(len(names))) - {self.background}))
        self.ids = {c: c for c in range(len(names)) if c != self.background}
        self.known: dict[str, Image] | None = None
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        if like is not None:
            data = load_json(like)
            found = read_categories(data, like, self.names[0], self.names)
            self.ids = {cls: number for number, cls in found.ids.items()}
            self.things = set(found.things) if any("isthing" in r for r in rows(
                data, "categories", like)) else self.things
            self.known = {image.key: image for image in read_images(data, like).values()}

    def category(self, cls: int) -> int:
        if cls not in self.ids:
            raise RecordError(f"class {cls} is no category")
        return self.ids[cls]

    def image(self, record: Record, size: tuple[int, int]) -> int:
        """Note a record's image; return its id."""
        key = _plain(record.key)
        if self.known is None:
            number, name = len(self.images) + 1, f"{key}.jpg"
        elif key not in self.known:
            raise RecordError("is not among the images of --like")
        elif self.known[key].size != tuple(size):
            raise RecordError("is {}x{}, but in --like {}x{}".format(*size, *self.known[key].size))
        else:
            number, name = self.known[key].id, self.known[key].file_name
        self.images.append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
        return number

    def write(self, name: str, value: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write(self.folder / name, jsons.dump(value))

    def finish_as(self, name: str, **more: Any) -> None:
        table = [{"id": number, "name": self.names[cls], "isthing": int(cls in self.things)}
                 for cls, number in sorted(self.ids.items(), key=lambda pair: pair[1])]
        self.write(name, {"images": self.images, "annotations": self.annotations,
                          "categories": table, **more})


class CocoPanoptic(_Coco):
    """panoptic_wsseg.json and panoptic_wsseg/KEY.png: ids of segments as colours.

    Where the instance map has no segment but the label map a class, it is a crowd of that class.
    """

    def add(self, record: Record) -> None:
        value = record.get("instance")
        ids, infos = value.ids.astype(np.int64), []
        classes = {s.id: (s.cls, 0) for s in value.segments}
        if "label" in record:
            label = _same_size(record, ids.shape)
            free = 1 + int(ids.max(initial=0))
            for cls in np.unique(label[value.ids == 0]).tolist():
                if cls not in (IGNORE, self.background):
                    classes[free] = cls, 1
                    ids[(value.ids == 0) & (label == cls)] = free
                    free += 1
        areas = np.bincount(ids.ravel())
        for number, (cls, crowd) in classes.items():
            if number < len(areas) and areas[number]:  # its rules know no empty segment
                y, x = np.nonzero(ids == number)
                infos.append({"id": number, "category_id": self.category(cls), "iscrowd": crowd,
                              "area": int(areas[number]), "bbox": _bbox(x, y)})
        name = f"{_plain(record.key)}.png"
        path = self.folder / "panoptic_wsseg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, _colours(ids))
        self.annotations.append({"image_id": self.image(record, ids.shape), "file_name": name,
                                 "segments_info": infos})

    def finish(self) -> None:
        self.finish_as("panoptic_wsseg.json")


class Coco(_Coco):
    """instances_wsseg.json of the kind masks, or the things of instance maps, as compressed
    run-lengths; and results_wsseg.json, the list with scores that COCO's ``loadRes`` takes.

    Areas that a data set states are kept, and so are its objects of less than a pixel where the
    record has their boxes: its scores count them as missed.
    """

    def add(self, record: Record) -> None:
        if "masks" in record:
            value = record.get("masks")
            crowd = np.zeros(len(value.runs), bool) if value.crowd is None else value.crowd
            areas = [None] * len(value.runs) if value.areas is None else value.areas.tolist()
            found = list(zip(value.runs, value.classes.tolist(), value.scores.tolist(), crowd,
                             areas))
            small = _given_boxes(record, value.classes[~crowd])
            size = value.size
        else:
            value = record.get("instance")
            size, small = value.ids.shape, {}
            found = [(runs_of_mask(value.ids == s.id), s.cls, s.score, False, None)
                     for s in value.segments if s.thing]
        image = self.image(record, size)
        for i, (runs, cls, score, crowded, area) in enumerate(found):
            y, x = np.nonzero(mask_of_runs(runs, size))
            box = _bbox(x, y) if len(x) else small.get(i)
            if box is not None:
                self.annotations.append({
                    "id": len(self.annotations) + 1, "image_id": image,
                    "category_id": self.category(cls), "iscrowd": int(crowded), "score": score,
                    "area": len(x) if area is None else area, "bbox": box,
                    "segmentation": {"size": list(map(int, size)), "counts": compress(runs)}})
                if len(x) and not crowded:
                    self.results.append({k: self.annotations[-1][k] for k in (
                        "image_id", "category_id", "segmentation", "score")})

    def finish(self) -> None:
        self.write("results_wsseg.json", self.results)
        self.finish_as("instances_wsseg.json")


def _given_boxes(record: Record, classes: np.ndarray) -> dict[int, list[float]]:
    """Return [x, y, width, height] of each mask of a record that has a box for each, else {}."""
    value = record.get("boxes") if "boxes" in record else None
    if value is None or not np.array_equal(value.classes, classes):
        return {}
    low, high = value.xyxy[:, :2], value.xyxy[:, 2:]
    return dict(enumerate(np.concatenate([low, high - low], axis=1).tolist()))


#: Name of a form -> what writes it, called with a folder, class names and a COCO file or None.
WRITERS = {"coco": Coco, "coco-panoptic": CocoPanoptic, "cityscapes": Cityscapes,
           "cityscapes-results": CityResults}


def compress(runs: Sequence[int]) -> str:
    """Return COCO's compressed text of run-lengths (see ``rle``)."""
    text = []
    for i, run in enumerate(runs):
        value = int(run) - (int(runs[i - 2]) if i > 2 else 0)
        while True:
            digit, value = value & 31, value >> 5
            done = value == (-1 if digit & 16 else 0)
            text.append(chr(48 + (digit if done else digit | 32)))
            if done:
                break
    return "".join(text)


def _colours(ids: np.ndarray) -> bytes:
    """Encode ids below 2**24 as R + 256 G + 65536 B of a PNG."""
    from PIL import Image as Pillow

    out = io.BytesIO()
    rgb = (ids[..., None] >> np.array([0, 8, 16])) & 255
    Pillow.fromarray(rgb.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _bbox(x: np.ndarray, y: np.ndarray) -> list[int]:
    return [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]


def _plain(key: str) -> str:
    if "/" in key:
        raise RecordError("its key holds a /, which these file names cannot")
    return key


def _same_size(record: Record, size: tuple[int, int]) -> np.ndarray:
    label = record.get("label")
    if label.shape != size:
        raise RecordError(f"label map is {label.shape[0]}x{label.shape[1]}, instance map is "
                          f"{size[0]}x{size[1]}")
    return label
