"""The only table that knows the names of kinds, and the rules for the names of members.

A member is called ``KEY.SUFFIX``. As in WebDataset, the name is split at the first dot of its
base name; a dot or a percent sign inside a key is written ``%2E`` or ``%25``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wsseg.errors import UnsafeError

META = "__wsseg__"
HEADER = f"{META}/header.json"
END = f"{META}/end.json"
RECORDS = f"{META}/records.tsv"


@dataclass(frozen=True)
class Kind:
    """One kind of map or label.

    ``suffixes``: member suffixes that belong to it; all of ``parts`` make one value, while any
    one of several alternative suffixes does. ``weak``: a label that a person gives.
    """

    name: str
    suffixes: tuple[str, ...]
    parts: bool = False
    weak: bool = False
    meaning: str = ""


KINDS = {kind.name: kind for kind in (
    Kind("image", ("jpg", "image.png"), meaning="the photo, uint8 (H, W, 3) RGB"),
    Kind("label", ("png",), meaning="class per pixel, uint8 or uint16 (H, W), 255 = ignore"),
    Kind("score", ("score.npz",), meaning="class probabilities (K, h, w)"),
    Kind("cam", ("cam.npz",), meaning="class activation maps in [0, 1] (K, h, w)"),
    Kind("instance", ("inst.json", "inst.png"), parts=True,
         meaning="non-overlapping instances, uint16 (H, W), 0 = none"),
    Kind("masks", ("masks.json",), meaning="possibly overlapping instances, COCO run-lengths"),
    Kind("conf", ("conf.png",), meaning="weight or reason of each label pixel, uint8 (H, W)"),
    Kind("tags", ("tags.json",), weak=True, meaning="classes present in the image"),
    Kind("counts", ("counts.json",), weak=True, meaning="number of objects of each class"),
    Kind("boxes", ("boxes.json",), weak=True, meaning="a class and a rectangle for each object"),
    Kind("points", ("points.json",), weak=True, meaning="a class and a pixel for each object"),
    Kind("scribble", ("scribble.png",), weak=True,
         meaning="class of the pixels drawn on, uint8 (H, W), 255 = not drawn"),
)}

KIND_OF_SUFFIX = {suffix: kind.name for kind in KINDS.values() for suffix in kind.suffixes}
WEAK = tuple(kind.name for kind in KINDS.values() if kind.weak)

_ESCAPE = re.compile(r"[%.]")
_UNESCAPE = re.compile(r"%(2[Ee]|25)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_key(key: str) -> str:
    """Return ``key`` if it can name a record everywhere.

    Raises UnsafeError for an empty or absolute key, an empty, ``.`` or ``..`` part, a
    backslash, a control character, text that is not UTF-8, and the reserved ``__wsseg__``.
    """
    parts = key.split("/")
    if (not key or _CONTROL.search(key) or "\\" in key or parts[0] == META
            or any(part in ("", ".", "..") for part in parts)):
        raise UnsafeError(f"unsafe name {key!r}: a key is a relative path of ordinary names")
    return key


def member_name(key: str, suffix: str) -> str:
    """Return the name of the member of ``key`` with ``suffix``."""
    return f"{_ESCAPE.sub(lambda m: f'%{ord(m[0]):02X}', check_key(key))}.{suffix}"


def split_name(name: str) -> tuple[str, str]:
    """Split a member name into its key and its suffix ('' when there is no dot).

    Raises UnsafeError where the name would make an unsafe key.
    """
    head, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    if "." in head or ".." in suffix or _CONTROL.search(suffix):
        raise UnsafeError(f"unsafe name {name!r}: a member is called KEY.SUFFIX")
    key = _UNESCAPE.sub(lambda m: "." if m[1] != "25" else "%", head + slash + stem)
    return check_key(key), suffix


def kind_of(suffix: str) -> str:
    """Return the kind that ``suffix`` belongs to. An unknown suffix is a kind of its own, with a
    dot before it: ``KEY.score`` is not the kind score."""
    return KIND_OF_SUFFIX.get(suffix, f".{suffix}")


def suffixes_of(kind: str) -> tuple[str, ...]:
    """Return the suffixes that may hold ``kind``."""
    return KINDS[kind].suffixes if kind in KINDS else (kind.removeprefix("."),)


def background_id(names: tuple[str, ...] | None) -> int | None:
    """Return the class id that stands for "no object": 0, unless the classes have no background
    (in Cityscapes 0 is road)."""
    plain = names[0].lower() if names else "background"
    return 0 if plain in ("background", "bg", "unlabeled", "unlabelled", "void") else None
