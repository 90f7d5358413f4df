"""The JSON kinds: parsed strictly, checked against what they must hold, written canonically.

Class references are ids in everything we write; a name is understood where the class names
are known, so that a person may write ``"cat"``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wsseg.errors import RecordError, UsageError
from wsseg.io.png import check_pixels
from wsseg.io.values import Boxes, Masks, Points, Segment

MAX_BYTES = 1 << 28


def parse(data: bytes) -> Any:
    """Parse strict JSON: UTF-8, no NaN or Infinity, no duplicate keys, bounded depth.

    Raises RecordError saying what is wrong.
    """
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(items)
        if len(result) != len(items):
            raise ValueError("the same key twice in one object")
        return result

    def constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    if len(data) > MAX_BYTES:
        raise RecordError(f"JSON of {len(data)} bytes: more than {MAX_BYTES}")
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=pairs,
                          parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"bad JSON: {error}") from None


def dump(value: Any, *, indent: int | None = None) -> bytes:
    """Write canonical JSON: sorted keys, UTF-8, one final newline."""
    separators = (",", ":") if indent is None else None
    return (json.dumps(value, sort_keys=True, indent=indent, separators=separators,
                       ensure_ascii=False, allow_nan=False) + "\n").encode()


def class_id(value: Any, names: Sequence[str] | None) -> int:
    """Return the id of a class given by id or by name.

    Raises RecordError for an unknown name (with the nearest known one) or a bad id.
    """
    if isinstance(value, str):
        if names is None:
            raise RecordError(f"class {value!r} is a name, but the class names are unknown: "
                              "give them with --classes")
        return name_id(value, names)
    if type(value) is not int or not 0 <= value < 65535 or value == 255:
        raise RecordError(f"class {value!r} is not a class id")
    return value


def name_id(name: str, names: Sequence[str]) -> int:
    """Return the index of ``name`` in ``names``, or raise RecordError with the nearest."""
    if name in names:
        return names.index(name)
    import difflib

    plain = {n.replace(" ", "").lower(): n for n in names}
    near = difflib.get_close_matches(name.replace(" ", "").lower(), plain, 1)
    hint = f"; did you mean {plain[near[0]]!r}?" if near else ""
    raise RecordError(f"unknown class {name!r}{hint}")


def _number(value: Any, what: str) -> float:
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        value = "too large"
    raise RecordError(f"{what} is {value!r}, not a finite number")


def _field(value: Any, name: str, kind: type, what: str) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get(name), kind):
        raise RecordError(f"{what}: no {name!r} of type {kind.__name__}")
    return value[name]


def _size(value: Any) -> tuple[int, int] | None:
    size = value.get("size")
    if size is None:
        return None
    if (not isinstance(size, list) or len(size) != 2
            or any(type(n) is not int or not 1 <= n < 1 << 31 for n in size)):
        raise RecordError(f"size is {size!r}, not [height, width]")
    return size[0], size[1]


def _numbers(item: Any, name: str, count: int, what: str) -> list[float]:
    values = _field(item, name, list, what)
    if len(values) != count:
        raise RecordError(f"{what}.{name} has {len(values)} numbers, not {count}")
    return [_number(v, f"{what}.{name}[{i}]") for i, v in enumerate(values)]


def _sized(size: tuple[int, int] | None, items: dict[str, Any]) -> dict[str, Any]:
    return items if size is None else {"size": list(size), **items}


def _plain(number: float) -> int | float:
    """Whole numbers as integers, so that a box reads [3,4,5,6]."""
    return int(number) if float(number).is_integer() else float(number)


def read_tags(value: Any, names: Sequence[str] | None) -> tuple[int, ...]:
    """Return ascending class ids from ``{"classes": [...]}``."""
    ids = [class_id(v, names) for v in _field(value, "classes", list, "tags")]
    return tuple(sorted(set(ids)))


def write_tags(tags: Sequence[int]) -> Any:
    return {"classes": [int(t) for t in tags]}


def read_counts(value: Any, names: Sequence[str] | None) -> dict[int, int]:
    """Return class id -> number of objects from ``{"counts": {"15": 2}}``."""
    result = {}
    for name, count in _field(value, "counts", dict, "counts").items():
        if type(count) is not int or count < 0:
            raise RecordError(f"counts[{name!r}] is {count!r}, not a number of objects")
        cls = class_id(int(name) if name.isdecimal() and len(name) < 6 else name, names)
        if cls in result:
            raise RecordError(f"counts names class {cls} twice")
        result[cls] = count
    return dict(sorted(result.items()))


def write_counts(counts: dict[int, int]) -> Any:
    return {"counts": {str(c): int(n) for c, n in counts.items()}}


def read_boxes(value: Any, names: Sequence[str] | None) -> Boxes:
    """Return boxes from ``{"size": [H, W], "boxes": [{"class", "box": [x0, y0, x1, y1]}]}``.

    Raises RecordError for an empty or turned rectangle; one that leaves the image is kept.
    """
    items = _field(value, "boxes", list, "boxes")
    xyxy = np.zeros((len(items), 4))
    for i, item in enumerate(items):
        xyxy[i] = _numbers(item, "box", 4, f"boxes[{i}]")
        if xyxy[i, 2] <= xyxy[i, 0] or xyxy[i, 3] <= xyxy[i, 1]:
            raise RecordError(f"boxes[{i}] is empty: {item['box']} is not [x0, y0, x1, y1] with "
                              "x0 < x1 and y0 < y1")
    classes = np.array([class_id(i.get("class"), names) for i in items], np.int64)
    scores = None
    if any("score" in item for item in items):
        scores = np.array([_number(item.get("score"), f"boxes[{i}].score")
                           for i, item in enumerate(items)])
    return Boxes(xyxy, classes, _size(value), scores)


def write_boxes(boxes: Boxes) -> Any:
    items = [{"class": int(c), "box": [_plain(v) for v in b]}
             for c, b in zip(boxes.classes, boxes.xyxy)]
    if boxes.scores is not None:
        for item, score in zip(items, boxes.scores):
            item["score"] = float(score)
    return _sized(boxes.size, {"boxes": items})


def read_points(value: Any, names: Sequence[str] | None) -> Points:
    """Return points from ``{"size": [H, W], "points": [{"class", "at": [x, y]}]}``."""
    items = _field(value, "points", list, "points")
    xy = np.array([_numbers(item, "at", 2, f"points[{i}]") for i, item in enumerate(items)])
    return Points(xy.reshape(-1, 2),
                  np.array([class_id(i.get("class"), names) for i in items], np.int64),
                  _size(value))


def write_points(points: Points) -> Any:
    return _sized(points.size, {"points": [{"class": int(c), "at": [_plain(v) for v in p]}
                                           for c, p in zip(points.classes, points.xy)]})


def read_masks(value: Any, names: Sequence[str] | None) -> Masks:
    """Return masks from ``{"size", "masks": [{"class", "score", "counts": [...]}]}``, where a
    mask may also have ``"crowd": true``, and all of them an ``"area"``.

    Raises RecordError unless every mask's runs cover the image exactly.
    """
    items = _field(value, "masks", list, "masks")
    size = _size(value)
    if size is None:
        raise RecordError("masks: no 'size'")
    check_pixels(size[1], size[0])
    runs = []
    for i, item in enumerate(items):
        counts = _field(item, "counts", list, f"masks[{i}]")
        if any(type(n) is not int or n < 0 for n in counts) or sum(counts) != size[0] * size[1]:
            raise RecordError(f"masks[{i}].counts does not cover {size[0]}x{size[1]} pixels")
        runs.append(tuple(counts))
    return Masks(size, tuple(runs),
                 np.array([class_id(i.get("class"), names) for i in items], np.int64),
                 np.array([_number(i.get("score", 1.0), "score") for i in items]),
                 _crowds(items), _areas(items))


def _crowds(items: Sequence[dict[str, Any]]) -> np.ndarray | None:
    if not any("crowd" in item for item in items):
        return None
    for i, item in enumerate(items):
        if not isinstance(item.get("crowd", False), bool):
            raise RecordError(f"masks[{i}].crowd is {item['crowd']!r}, not true or false")
    found = np.array([item.get("crowd", False) for item in items])
    return found if found.any() else None


def _areas(items: Sequence[dict[str, Any]]) -> np.ndarray | None:
    if not any("area" in item for item in items):
        return None
    found = np.array([_number(item.get("area"), f"masks[{i}].area")
                      for i, item in enumerate(items)])
    if found.min() < 0:
        raise RecordError(f"masks[{int(found.argmin())}].area is below 0")
    return found


def write_masks(masks: Masks) -> Any:
    items = [{"class": int(c), "score": float(s), "counts": [int(n) for n in r]}
             for c, s, r in zip(masks.classes, masks.scores, masks.runs)]
    for i, item in enumerate(items):
        if masks.crowd is not None and masks.crowd[i]:
            item["crowd"] = True
        if masks.areas is not None:
            item["area"] = _plain(masks.areas[i])
    return _sized(masks.size, {"masks": items})


def read_segments(value: Any, names: Sequence[str] | None) -> tuple[Segment, ...]:
    """Return the segments of an instance map, by ascending id. Ids are 1..65535 and unique."""
    segments = []
    for i, item in enumerate(_field(value, "segments", list, "segments")):
        number = _field(item, "id", int, f"segments[{i}]")
        if number is True or not 1 <= number <= 65535:
            raise RecordError(f"segments[{i}].id is {number}, not in 1..65535")
        thing = item.get("thing", True)
        if not isinstance(thing, bool):
            raise RecordError(f"segments[{i}].thing is {thing!r}, not true or false")
        segments.append(Segment(number, class_id(item.get("class"), names),
                                _number(item.get("score", 1.0), f"segments[{i}].score"),
                                thing))
    segments.sort(key=lambda s: s.id)
    if len({s.id for s in segments}) != len(segments):
        raise RecordError("segments: the same id twice")
    return tuple(segments)


#: Reads JSON without calls back into Python.
_PLAIN = json.JSONDecoder()


def parse_segments(data: bytes, names: Sequence[str] | None) -> tuple[Segment, ...]:
    """Return the segments of an instance map's list: ``read_segments(parse(data), names)``, in
    fewer steps for lists like those that we write."""
    found = _plain_segments(data)
    return read_segments(parse(data), names) if found is None else found


def _plain_segments(data: bytes) -> tuple[Segment, ...] | None:
    """Return the segments of a list that gives each its id, class, score and thing and nothing
    else, or None for any other, sound or not.

    That no key comes twice is told by the colons: a sound list has one for each key.
    """
    if len(data) > 1 << 20:
        return None
    try:
        items = _PLAIN.decode(data.decode())["segments"]
        rows = sorted((i["id"], i["class"], i["score"], i["thing"]) for i in items)
        ids, classes, scores, things = zip(*rows)
        if (type(items) is list and data.count(b":") == 1 + 4 * len(rows)
                and set(map(type, ids)) == set(map(type, classes)) == {int}
                and set(map(type, scores)) == {float} and set(map(type, things)) == {bool}
                and 1 <= ids[0] and ids[-1] <= 65535 and len(set(ids)) == len(ids)
                and 0 <= min(classes) and max(classes) < 65535 and 255 not in classes
                and math.isfinite(sum(scores))):
            return tuple(map(Segment, ids, classes, scores, things))
    except (ValueError, RecursionError, LookupError, TypeError):
        pass
    return None


def write_segments(segments: Sequence[Segment]) -> Any:
    return {"segments": [{"id": s.id, "class": s.cls, "score": float(s.score), "thing": s.thing}
                         for s in sorted(segments, key=lambda s: s.id)]}


def parse_names(text: str, where: str) -> tuple[str, ...]:
    """Return class names from a text file: one a line, the first one is class 0.

    Raises UsageError for none, for duplicates, and for an empty line before the last name.
    """
    names = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    while names and not names[-1]:
        names.pop()
    if not names or "" in names or len(set(names)) != len(names):
        raise UsageError(f"{where}: class names are one a line, the background first, "
                         "each once, with no empty line between")
    return tuple(names)
