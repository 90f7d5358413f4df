"""What the kinds hold once decoded. Images, labels, scribbles and conf are plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """Probabilities (score) or activations (cam) of some classes.

    data: float16 or float32 (K, h, w); classes: ascending class ids (K,); size: (H, W) of the
    image, where h, w may be smaller by a stride.
    """

    data: np.ndarray
    classes: np.ndarray
    size: tuple[int, int]


@dataclass(frozen=True)
class Segment:
    """One entry of an instance map."""

    id: int
    cls: int
    score: float = 1.0
    thing: bool = True


@dataclass(frozen=True, eq=False)
class InstanceMap:
    """Non-overlapping segments. ids: uint16 (H, W), 0 = none; every other id has a Segment."""

    ids: np.ndarray
    segments: tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Rectangles in pixels, 0-based and half-open: a box covers x0 <= x < x1, y0 <= y < y1.

    xyxy: float64 (N, 4); classes: int64 (N,); scores: float64 (N,) or None; size: (H, W).
    """

    xyxy: np.ndarray
    classes: np.ndarray
    size: tuple[int, int] | None = None
    scores: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Points:
    """Pixels, 0-based. xy: float64 (N, 2); classes: int64 (N,); size: (H, W)."""

    xy: np.ndarray
    classes: np.ndarray
    size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Masks:
    """Possibly overlapping masks as uncompressed COCO run-lengths (column-major, from 0).

    runs: one tuple of run lengths per mask, each summing to H * W. crowd: bool (N,), masks that
    stand for many objects, or None; areas: float64 (N,) as a data set states them, or None.
    """

    size: tuple[int, int]
    runs: tuple[tuple[int, ...], ...] = ()
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    crowd: np.ndarray | None = None
    areas: np.ndarray | None = None
