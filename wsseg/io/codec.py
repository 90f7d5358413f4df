"""Values to bytes and back, for every kind. Nothing is ever pickled."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsseg.errors import RecordError, UnsafeError
from wsseg.io import jsons, npz
from wsseg.io.photo import decode_photo, encode_photo
from wsseg.io.png import (check_map, check_pixels, decode_labels, encode_ids, encode_labels,
                          voc_palette)
from wsseg.io.values import InstanceMap, ScoreMap

_JSON = {
    "tags": (jsons.read_tags, jsons.write_tags),
    "counts": (jsons.read_counts, jsons.write_counts),
    "boxes": (jsons.read_boxes, jsons.write_boxes),
    "points": (jsons.read_points, jsons.write_points),
    "masks": (jsons.read_masks, jsons.write_masks),
}


#: The two members of an instance map.
_PARTS = {"inst.json": lambda value: jsons.dump(jsons.write_segments(value.segments)),
          "inst.png": lambda value: encode_ids(value.ids.astype(np.uint16))}


def decode(kind: str, members: Mapping[str, bytes], names: Sequence[str] | None = None) -> Any:
    """Decode one kind from its members.

    members: suffix -> bytes, all that belong to ``kind``. names: class names, for labels
    written by hand. Returns what ``wsseg.io.values`` describes (bytes for an unknown kind).
    Raises RecordError for anything damaged or malformed, UnsafeError for what is dangerous.
    """
    if kind == "instance":
        return _decode_instance(members, names)
    data = next(iter(members.values()))
    if not data and kind != "image":
        raise RecordError("empty file")
    if kind in _JSON:
        return _JSON[kind][0](jsons.parse(data), names)
    if kind in ("label", "scribble", "conf"):
        if data.startswith(b"\xff\xd8\xff"):
            raise RecordError("labels in a JPEG are damaged: convert them again from the source")
        return decode_labels(data)
    if kind in ("score", "cam"):
        return _decode_score(data, kind)
    return decode_photo(data) if kind == "image" else data


def encode(kind: str, value: Any) -> dict[str, bytes]:
    """Encode one value as suffix -> bytes; equal values give equal bytes."""
    if kind == "instance":
        check_instance(value)
        return {suffix: part(value) for suffix, part in _PARTS.items()}
    if kind in _JSON:
        return {f"{kind}.json": jsons.dump(_JSON[kind][1](value))}
    if kind in ("score", "cam"):
        return {f"{kind}.npz": _encode_score(value, kind)}
    if kind == "image":
        return {"image.png": encode_photo(value)}
    if kind in ("label", "scribble"):
        return {"png" if kind == "label" else "scribble.png": encode_labels(value)}
    if kind == "conf":
        return {"conf.png": encode_labels(value, palette=False)}
    return {kind.removeprefix("."): value}


def encode_member(kind: str, suffix: str, value: Any) -> bytes:
    """Encode one of the members of a value, ``encode(kind, value)[suffix]``, without the others."""
    return _PARTS[suffix](value) if suffix in _PARTS else encode(kind, value)[suffix]


def check(kind: str, value: Any) -> None:
    """Raise RecordError or UnsafeError for an array, or what is made of one, that ``kind`` cannot
    have."""
    if kind in ("label", "scribble", "conf"):
        check_map(value)
    elif kind in ("score", "cam"):
        check_score(value, kind)
    elif kind == "instance":
        check_map(value.ids)
        check_instance(value)


def _decode_instance(members: Mapping[str, bytes], names: Sequence[str] | None) -> InstanceMap:
    if set(members) != {"inst.png", "inst.json"}:
        raise RecordError(f"an instance map is two members, inst.png and inst.json; "
                          f"got {', '.join(sorted(members))}")
    ids = decode_labels(members["inst.png"]).astype(np.uint16)
    value = InstanceMap(ids, jsons.parse_segments(members["inst.json"], names))
    check_instance(value)
    return value


def check_instance(value: InstanceMap) -> None:
    """Raise RecordError unless map and segment list hold the same ids."""
    drawn = set(np.bincount(value.ids.ravel()).nonzero()[0].tolist()) - {0}
    listed = {s.id for s in value.segments}
    if drawn != listed:
        odd = sorted(drawn ^ listed)
        raise RecordError(f"instance ids in the map and in the list differ: {odd[:5]}"
                          f"{' ...' if len(odd) > 5 else ''}")


def check_score(value: ScoreMap, kind: str = "score") -> None:
    """Raise RecordError unless shapes agree, classes ascend and all numbers are in [0, 1].

    Probabilities need not sum to 1, as absent classes may be left out.
    """
    data, classes = value.data, np.asarray(value.classes)
    try:
        check_pixels(value.size[1], value.size[0])
    except (RecordError, UnsafeError) as error:
        raise type(error)(f"{kind} map of an {error}") from None
    if classes.ndim == 1 and len(classes) and (classes.min() < 0 or classes.max() > 65535
                                               or 255 in classes):
        raise RecordError(f"{kind} has a class that cannot be: {classes.tolist()}")
    if data.ndim != 3 or data.dtype not in (np.float16, np.float32):
        raise RecordError(f"{kind} data must be float16 or float32 (K, h, w); got {data.dtype} "
                          f"{data.shape}")
    if classes.shape != (len(data),) or (np.diff(classes) <= 0).any():
        raise RecordError(f"{kind} needs one ascending class id per map; got {classes.size} for "
                          f"{len(data)} maps")
    if not data.size:
        return
    low, high = float(data.min()), float(data.max())
    if not np.isfinite([low, high]).all():
        bad = np.argwhere(~np.isfinite(data))[0]
        raise RecordError(f"{kind} is not finite, first at {tuple(int(i) for i in bad)}")
    if low < -1e-3 or high > 1 + 1e-3:
        raise RecordError(f"{kind} has values in [{low:.4g}, {high:.4g}], not in [0, 1]: these "
                          "look like logits, apply a softmax")


def _decode_score(data: bytes, kind: str) -> ScoreMap:
    try:
        found = npz.read(data, ("data", "classes", "size"))
    except (RecordError, UnsafeError) as error:
        raise type(error)(f"{kind} map {error}") from None
    result = score_map(found["data"], found["classes"], found["size"], kind)
    check_score(result, kind)
    return result


def score_map(data: np.ndarray, classes: np.ndarray, size: np.ndarray, kind: str) -> ScoreMap:
    """Return a score map of arrays as files hold them, its numbers unchecked. Raises RecordError
    for a size or classes that are none."""
    if size.dtype.kind not in "iu" or size.shape != (2,):
        raise RecordError(f"{kind} map's size is {size.tolist()}, not [H, W]")
    if classes.dtype.kind not in "iu":
        raise RecordError(f"{kind} map's classes are {classes.tolist()}, not class ids")
    return ScoreMap(data, classes.astype(np.int64), (int(size[0]), int(size[1])))


def _encode_score(value: ScoreMap, kind: str) -> bytes:
    check_score(value, kind)
    out = io.BytesIO()
    np.savez(out, data=np.ascontiguousarray(value.data),
             classes=np.asarray(value.classes, np.uint16), size=np.asarray(value.size, np.uint32))
    return out.getvalue()


def check_classes(labels: np.ndarray, names: Sequence[str] | None, ignore: int = 255) -> None:
    """Raise RecordError when a label map has a value that is no class.

    The message gives value, count and first pixel, and recognises the usual accidents.
    """
    if names is None or not labels.size:
        return
    n = len(names)
    if int(labels.max()) < n:
        return
    bad = (labels >= n) & (labels != ignore)
    if not bad.any():
        return
    y, x = np.argwhere(bad)[0]
    value, count = int(labels[y, x]), int(bad.sum())
    raise RecordError(f"{count} pixels are of no known class: value {value} at x={x}, y={y}, but "
                      f"there are {n} classes{_accident(labels[bad], n)}")


def _accident(values: np.ndarray, n: int) -> str:
    found = set(np.unique(values).tolist())
    grey = (voc_palette(n) @ np.array([299, 587, 114]) + 500) // 1000
    if found <= set(grey.tolist()) | {220}:
        return "; these are the grey values of VOC's palette: the mask was read through its colours"
    if found <= set(range(34)) and n == 19:
        return "; these look like Cityscapes label ids: use ws-cat --from cityscapes"
    return "; map it away with ws-cat --remap"
