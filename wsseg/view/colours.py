"""Colours and names of classes and instances."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np

from wsseg.io.png import voc_palette

Colour = tuple[int, int, int]

_BACKGROUND = {"background", "bg", "unlabeled", "unlabelled", "none"}
_FIRST = (170, 170, 170)  # class 0 where it is a real class: VOC has black for it
_GOLDEN = 0.618033988749895


def has_background(names: Sequence[str] | None) -> bool:
    """Whether class 0 means "nothing here", as far as its name tells; True without names."""
    return not names or names[0].strip("_ ").lower() in _BACKGROUND


def class_colour(cls: int, names: Sequence[str] | None = None) -> Colour:
    """Return the RGB colour of a class: VOC's, but grey for a class 0 that is no background."""
    if cls == 0 and not has_background(names):
        return _FIRST
    red, green, blue = voc_palette(cls + 1)[cls]
    return int(red), int(green), int(blue)


def class_table(count: int, names: Sequence[str] | None = None) -> np.ndarray:
    """Return the colours of classes 0..count-1, uint8 (count, 3)."""
    table = voc_palette(count)
    table[:1] = class_colour(0, names)
    return table


def class_name(cls: int, names: Sequence[str] | None) -> str:
    """Return the name of a class, or ``class 7`` where it has none."""
    return names[cls] if names and cls < len(names) else f"class {cls}"


def instance_colour(number: int) -> Colour:
    """Return a colour for the number-th instance (from 0); neighbours in number differ most."""
    hue = (number * _GOLDEN + 0.02) % 1
    saturation, value = ((0.85, 1.0), (0.6, 0.95), (0.95, 0.75))[number // 5 % 3]
    red, green, blue = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def ink_on(colour: Colour) -> Colour:
    """Return black or white, whichever reads better on ``colour`` (WCAG contrast)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in (v / 255 for v in colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
