"""What instance maps hold, seen from runs of equal pixels rather than by sorting them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

try:
    from wsseg.native import _labels as _native
except ImportError:  # not built: numpy does the same, slower
    _native = None


def values_of(ids: np.ndarray) -> np.ndarray:
    """Return the values of a map, uint8 or uint16 (H, W): ascending, int64 (M,)."""
    if _native is not None and ids.dtype.isnative:
        return _native.values(np.ascontiguousarray(ids))
    return np.unique(ids).astype(np.int64)


def labels_without_id(ids: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the labels where ids are 0: ascending, int64 (M,).

    ids, label: uint8 or uint16 (H, W).
    """
    if _native is not None and ids.dtype.isnative and label.dtype.isnative:
        return _native.labels_without(*map(np.ascontiguousarray, (ids, label)))
    return np.unique(label[ids == 0]).astype(np.int64)


def filled(ids: np.ndarray, label: np.ndarray, codes: Mapping[int, int]) -> np.ndarray:
    """Return ids, uint8 or uint16 (H, W), with ``codes[label]`` where they are 0, or 0 where that
    is not told. uint8 only of ids and codes that are."""
    if ids.dtype == np.uint8 and max(codes.values(), default=0) > 255:
        ids = ids.astype(np.uint16)
    code = np.zeros(1 << 8 * label.itemsize, ids.dtype.newbyteorder("="))
    code[list(codes)] = list(codes.values())
    if _native is not None and ids.dtype.isnative and label.dtype.isnative:
        return _native.filled(*map(np.ascontiguousarray, (ids, label)), code)
    return np.where(ids == 0, code[label], ids)
