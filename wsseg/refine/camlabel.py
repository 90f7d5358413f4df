"""Label maps of class activation maps: thresholds, overlaps, background."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsseg.refine.fuse import label_type, smaller_area

IGNORE = 255
OVERLAPS = ("smaller", "stronger")


def label_of_cams(cams: np.ndarray, classes: Sequence[int] | np.ndarray, thresholds: np.ndarray, *,
                  overlap: str = "smaller", background: int | None = None,
                  low: float | None = None, dull: np.ndarray | None = None) -> np.ndarray:
    """Return a label map (H,W), 255 where nothing is known.

    cams: float (K,H,W), each scaled to its maximum; classes: their ids (K,), objects or stuff;
    thresholds: (K,), a class may be where its map is above 0 and reaches this. overlap: where
    several may be, the one whose region is smaller in all (panoptic-2018, section 3.3), or whose
    map is stronger, the first of equals. background: the id of what is left where all maps are
    below ``low``, or where ``dull``, bool (H,W), says that nothing stands out.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"no rule {overlap!r} for overlaps")
    size, ids = cams.shape[1:], [int(c) for c in classes]
    regions = (cams >= np.asarray(thresholds, cams.dtype)[:, None, None]) & (cams > 0)
    if overlap == "smaller":
        label, _ = smaller_area(ids, lambda cls: regions[ids.index(cls)], size)
    else:
        label = np.full(size, IGNORE, label_type(ids))
        if ids:
            some = regions.any(0)
            best = np.where(regions, cams, -1).argmax(0)
            label[some] = np.array(ids)[best[some]]
    if background is not None:
        rest = np.zeros(size, bool) if dull is None else dull.copy()
        if low is not None:
            rest |= cams.max(0, initial=0) < low
        label[rest & (label == IGNORE)] = background
    return label
