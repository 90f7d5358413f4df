"""Maps drawn as a fill: one function for each kind, all of the same form.

Each takes the value, the (h, w) to draw at, a Look and the Ink for contours and names, and
returns the fill, uint8 RGBA (h, w, 4), what the legend must explain (class ids, the label of
ignored pixels), and a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from wsseg.view.colours import class_table, instance_colour
from wsseg.view.ink import Ink, inside
from wsseg.view.look import Look, scored, shares, tally
from wsseg.view.overlay import (cam_fill, contour, empty_layer, heat_fill, label_fill,
                                resize_labels, resize_values)

Drawn = tuple[np.ndarray, set[int], str]


def _table(classes: Iterable[int], look: Look) -> np.ndarray:
    return class_table(max([255, *map(int, classes)]) + 1, look.names)


def _draw_label(labels: np.ndarray, out: tuple[int, int], look: Look,
                ink: Ink) -> Drawn:
    note = shares(labels, look)
    present = np.unique(labels).tolist()
    table = _table(present, look)
    labels = resize_labels(labels, out)
    solid = labels != look.ignore
    if look.background:
        solid &= labels != 0
    ink.paint(contour(labels, solid), table[labels])
    fill = label_fill(labels, table, ignore=look.ignore, background=look.background)
    return fill, set(present) - ({0} if look.background else set()), note


def _draw_instances(value: Any, out: tuple[int, int], look: Look,
                    ink: Ink) -> Drawn:
    ids = resize_labels(value.ids, out)
    table = np.zeros((65536, 3), np.uint8)
    for number, segment in enumerate(value.segments):
        colour = instance_colour(number) if segment.thing else look.colour(segment.cls)
        table[segment.id] = colour
        mask = ids == segment.id
        if mask.any():
            ink.name(scored(look.name(segment.cls), segment.score), inside(mask), colour)
    ink.paint(contour(ids, ids > 0), table[ids])
    fill = label_fill(ids, table, ignore=-1)
    stuff = {s.cls for s in value.segments if not s.thing}
    return fill, stuff, tally((s.cls for s in value.segments), look) or "no instances"


def _draw_masks(value: Any, out: tuple[int, int], look: Look,
                ink: Ink) -> Drawn:
    fill = empty_layer(out)
    for number in np.argsort(value.scores, kind="stable"):
        runs = np.array(value.runs[number], np.int64)
        bits = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        mask = resize_labels(bits.reshape(value.size[1], value.size[0]).T, out)
        colour = instance_colour(int(number))
        fill[mask] = (*colour, 255)
        ink.paint(contour(mask, mask), colour)
        if mask.any():
            ink.name(scored(look.name(value.classes[number]), value.scores[number]),
                     inside(mask), colour)
    return fill, set(), tally(value.classes, look) or "no instances"


def _draw_score(value: Any, out: tuple[int, int], look: Look,
                ink: Ink) -> Drawn:
    if look.hot:
        return _draw_heat(value, out, look, ink)
    if not len(value.classes):
        return empty_layer(out), set(), "no class"
    best = value.classes[resize_values(value.data, out).argmax(0)]
    return _draw_label(best, out, Look(look.names, -1), ink)


def _draw_cam(value: Any, out: tuple[int, int], look: Look,
              ink: Ink) -> Drawn:
    if look.hot:
        return _draw_heat(value, out, look, ink)
    table = _table(value.classes, look)
    fill = cam_fill(resize_values(value.data, out), value.classes, table)
    peaks = ", ".join(f"{look.name(c)} up to {plane.max():.2f}"
                      for c, plane in zip(value.classes, value.data))
    return fill, set(value.classes.tolist()), peaks or "no class"


def _draw_heat(value: Any, out: tuple[int, int], look: Look,
               ink: Ink) -> Drawn:
    at = np.flatnonzero(value.classes == look.heat)
    if look.rank is not None:
        at = _strongest(value, look)[look.rank:look.rank + 1]
        if not len(at):
            return empty_layer(out), set(), f"no more than {look.rank} classes"
    elif not len(at):
        return heat_fill(np.zeros(out)), set(), f"{look.name(look.heat)} is not among its classes"
    plane, cls = value.data[at[0]].astype(np.float32), value.classes[at[0]]
    if look.rank is not None:
        ink.name(look.name(cls), (0, 0), look.colour(cls), centred=False)
    note = f"{look.name(cls)} from {plane.min():.2f} to {plane.max():.2f}"
    return heat_fill(resize_values(plane[None], out)[0]), set(), note


def _strongest(value: Any, look: Look) -> np.ndarray:
    """Rows by their mean, the greatest first; the background is of no interest."""
    rows = [i for i, c in enumerate(value.classes.tolist()) if c or not look.background]
    means = value.data.mean((1, 2), dtype=np.float64) if value.data.size else np.zeros(0)
    return np.array(sorted(rows, key=lambda i: -means[i]), np.intp)


def _draw_conf(value: np.ndarray, out: tuple[int, int], look: Look,
               ink: Ink) -> Drawn:
    fill = heat_fill(resize_labels(value, out) / 255)
    return fill, set(), f"confidence {value.mean() / 255:.0%} on average"


#: Kind -> function; the first kind that a record has is drawn.
FILL = {"instance": _draw_instances, "masks": _draw_masks, "label": _draw_label,
        "score": _draw_score, "cam": _draw_cam, "conf": _draw_conf}
