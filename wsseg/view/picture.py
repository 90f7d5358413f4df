"""One record's maps and weak labels as two layers: a fill, to be blended, and the ink on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsseg.errors import RecordError
from wsseg.view.fills import FILL
from wsseg.view.ink import Ink
from wsseg.view.look import Look
from wsseg.view.marks import MARK
from wsseg.view.overlay import NO_PHOTO, blend, empty_layer, fit, resize_photo

#: Every kind that can be drawn.
DRAWN = (*FILL, *MARK)


@dataclass(frozen=True, eq=False)
class Layers:
    """fill, ink: uint8 RGBA (h, w, 4); seen: what a legend must explain, class ids and the label
    of ignored pixels; note: what is drawn in words."""

    fill: np.ndarray
    ink: np.ndarray
    seen: frozenset[int] = frozenset()
    note: str = ""


def size_of(values: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the (H, W) that all values of one record agree on, None if none of them tells.

    values: kind -> decoded value (see ``wsseg.io.values``). Raises RecordError if they differ.
    """
    sizes = {}
    for kind, value in values.items():
        size = (value.shape[:2] if isinstance(value, np.ndarray) else value.ids.shape
                if hasattr(value, "ids") else getattr(value, "size", None))
        if size is not None:
            sizes[kind] = tuple(int(n) for n in size)
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{k} {h}x{w}" for k, (h, w) in sizes.items())
        raise RecordError(f"sizes differ: {said}; one picture cannot show them")
    return next(iter(sizes.values()), None)


def guess_size(values: Mapping[str, Any]) -> tuple[int, int]:
    """Return a canvas (H, W) that holds values which do not tell a size."""
    corner = [np.array([240.0, 320.0])]
    if "boxes" in values:
        corner.extend(values["boxes"].xyxy[:, [3, 2]])
    if "points" in values:
        corner.extend(values["points"].xy[:, ::-1] + 1)
    height, width = np.ceil(np.max(corner, axis=0))
    return int(height), int(width)


def draw(values: Mapping[str, Any], size: tuple[int, int], out: tuple[int, int],
         look: Look) -> Layers:
    """Draw one record's values.

    values: kind -> decoded value; size: the image's (H, W); out: (h, w) of the layers, to which
    everything is scaled. Lines and letters keep their width whatever the scale.
    """
    ink, seen, notes = Ink(out), set(), []
    fill = empty_layer(out)
    kinds = FILL if not look.hot else ("score", "cam", *FILL)
    kind = next((k for k in kinds if k in values), None)
    if kind is not None:
        fill, found, note = FILL[kind](values[kind], out, look, ink)
        seen |= found
        notes.append(note)
    scale = (out[1] / size[1], out[0] / size[0])
    for kind in MARK:
        if kind in values and not (kind == "tags" and look.rank is not None):  # it names its own
            found, note = MARK[kind](values[kind], out, scale, look, ink)
            seen |= found
            notes.append(note)
    return Layers(fill, ink.pixels(), frozenset(int(c) for c in seen),
                  "; ".join(n for n in notes if n))


@dataclass(frozen=True, eq=False)
class Views:
    """All pictures of one record, scaled alike. size: the image's (H, W); ground: what lies
    under the layers, uint8 (h, w, 3); photo: whether that is a photo; layers: one per place,
    None where it lacks the record."""

    key: str
    size: tuple[int, int]
    ground: np.ndarray
    photo: bool
    layers: tuple[Layers | None, ...]

    @property
    def seen(self) -> frozenset[int]:
        """What a legend must explain."""
        return frozenset().union(*(la.seen for la in self.layers if la is not None))

    def tiles(self, alpha: float) -> list[np.ndarray | None]:
        """Return each place's layers over the ground, uint8 (h, w, 3)."""
        return [None if la is None else blend(blend(self.ground, la.fill, alpha), la.ink)
                for la in self.layers]


def views(key: str, photo: np.ndarray | None, places: Sequence[Mapping[str, Any] | None],
          looks: Sequence[Look], box: tuple[int, int] | None) -> Views:
    """Draw one record as several places have it.

    photo: uint8 (H, W, 3), or None for dark grey; places: kind -> decoded value, or None;
    looks: one per place; box: (height, width) that pictures fit in, None for full size.
    Raises RecordError when photo and values differ in size.
    """
    told = {f"{kind} of input {i + 1}" if len(places) > 1 else kind: value
            for i, values in enumerate(places) for kind, value in (values or {}).items()}
    if photo is not None:
        told["photo"] = photo
    size = size_of(told)
    if size is None:
        merged: dict[str, Any] = {}
        for values in places:
            merged.update(values or {})
        size = guess_size(merged)
    out = fit(size, box)
    ground = (np.full((*out, 3), NO_PHOTO, np.uint8) if photo is None
              else resize_photo(photo, out))
    layers = tuple(None if values is None else draw(values, size, out, look)
                   for values, look in zip(places, looks))
    return Views(key, size, ground, photo is not None, layers)
