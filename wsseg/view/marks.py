"""Weak labels drawn with ink: one function for each kind, all of the same form.

Each takes the value, the (h, w) to draw at, the (x, y) scale that leads there, a Look and the
Ink, and returns the class ids that the legend must show, and a note.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wsseg.view.ink import Ink
from wsseg.view.look import Look, percent, scored, tally
from wsseg.view.overlay import resize_strokes

Marked = tuple[set[int], str]


def _mark_scribble(value: np.ndarray, out: tuple[int, int], scale: tuple[float, float],
                   look: Look, ink: Ink) -> Marked:
    classes = [c for c in np.unique(value).tolist() if c != 255]
    for cls in classes:
        ink.stroke(resize_strokes(value == cls, out), look.colour(cls))
    drawn = np.count_nonzero(value != 255) / value.size
    return set(classes), f"scribbles on {percent(drawn)}: " + (
        ", ".join(map(look.name, classes)) or "none")


def _mark_boxes(value: Any, out: tuple[int, int], scale: tuple[float, float], look: Look,
                ink: Ink) -> Marked:
    scores = [1.0] * len(value.xyxy) if value.scores is None else value.scores
    for xyxy, cls, score in zip(value.xyxy, value.classes, scores):
        ink.box(xyxy * (scale * 2), look.colour(cls), scored(look.name(cls), score))
    return set(value.classes.tolist()), "boxes: " + (tally(value.classes, look) or "none")


def _mark_points(value: Any, out: tuple[int, int], scale: tuple[float, float], look: Look,
                 ink: Ink) -> Marked:
    for (x, y), cls in zip(value.xy, value.classes):
        ink.dot((x + 0.5) * scale[0], (y + 0.5) * scale[1], look.colour(cls))
    return set(value.classes.tolist()), "points: " + (tally(value.classes, look) or "none")


def _mark_tags(value: tuple[int, ...], out: tuple[int, int], scale: tuple[float, float],
               look: Look, ink: Ink) -> Marked:
    for cls in value:
        ink.name(look.name(cls), (ink.size / 2, ink.size / 2), look.colour(cls), False)
    return set(value), "tags: " + (", ".join(map(look.name, value)) or "none")


def _mark_counts(value: dict[int, int], out: tuple[int, int], scale: tuple[float, float],
                 look: Look, ink: Ink) -> Marked:
    for cls, count in value.items():
        ink.name(f"{count} × {look.name(cls)}", (ink.size / 2, ink.size / 2), look.colour(cls),
                 False)
    said = ", ".join(f"{n} × {look.name(c)}" for c, n in value.items())
    return set(value), "counts: " + (said or "none")


#: Kind -> function; all kinds that a record has are drawn, in this order.
MARK = {"scribble": _mark_scribble, "boxes": _mark_boxes, "points": _mark_points,
        "tags": _mark_tags, "counts": _mark_counts}
