"""Heat maps: numbers in [0, 1] as colours that rise evenly from dark blue to yellow."""

from __future__ import annotations

import numpy as np

_ANCHORS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)])
LEVELS = 64


def heat_table(count: int = LEVELS) -> np.ndarray:
    """Return ``count`` colours from low to high, uint8 (count, 3)."""
    at = np.linspace(0, len(_ANCHORS) - 1, count)
    channels = [np.interp(at, np.arange(len(_ANCHORS)), channel) for channel in _ANCHORS.T]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def heat(values: np.ndarray) -> np.ndarray:
    """Colour a map.

    values: float (H, W), taken as 0 below 0 and as 1 above 1. Returns uint8 (H, W, 3) with at
    most LEVELS different colours, which keeps files small.
    """
    return heat_table()[np.rint(np.clip(values, 0, 1) * (LEVELS - 1)).astype(np.intp)]
