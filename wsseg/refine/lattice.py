"""Gaussian filtering in high dimensions on the permutohedral lattice.

Source: Adams, Baek, Davis, "Fast high-dimensional filtering using the permutohedral lattice"
(2010), with the arithmetic of Kraehenbuehl's dense CRF code: points are splatted to the corners of
their simplex with barycentric weights, blurred by [1/2 1 1/2] along the d + 1 axes, and sliced.
Only lattice points next to a data point exist; values that a blur would carry beyond are lost,
as in that code.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np

from wsseg.errors import RecordError

#: Most feature dimensions that the native engine takes.
MAX_DIMENSIONS = 16


def native() -> ModuleType | None:
    """Return the compiled kernels, or None where they were not built."""
    try:
        return import_module("wsseg.native._lattice")
    except ImportError:
        return None


def filter(features: np.ndarray, values: np.ndarray, *, engine: str = "auto") -> np.ndarray:
    """Return sum_j exp(-|f_i - f_j|^2 / 2) v_j, approximately and without normalisation.

    features: (N, d), in units of standard deviations; values: (N, K). Returns float32 (N, K).
    The constant factor is the reference code's: filter ones as well and divide to normalise.
    engine: "native", "torch", or "auto" for the first of them that is there. Raises RecordError
    for other shapes, values that are not finite, and features that span too many lattice cells.
    """
    features, values = (np.ascontiguousarray(a, dtype=np.float32) for a in (features, values))
    if features.ndim != 2 or values.ndim != 2 or len(features) != len(values) \
            or not features.size or not values.size:
        raise RecordError(f"filtering needs features (N, d) and values (N, K), got "
                          f"{features.shape} and {values.shape}")
    if features.shape[1] > MAX_DIMENSIONS:
        raise RecordError(f"features have {features.shape[1]} dimensions; "
                          f"at most {MAX_DIMENSIONS} can be filtered")
    if not (np.isfinite(features).all() and np.isfinite(values).all()):
        raise RecordError("features or values to filter are not finite")
    kernels = native() if engine in ("auto", "native") else None
    try:
        if kernels is not None:
            return kernels.filter(features, values)
        if engine in ("auto", "torch"):
            return _torch_filter(features, values)
    except ValueError as error:
        raise RecordError(str(error)) from None
    if engine == "native":
        raise RecordError("the native kernels are not built here; use the torch engine")
    raise RecordError(f"no lattice engine is named {engine!r}; there are auto, native and torch")


def _torch_filter(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    import torch

    from wsseg.nets.crf import Lattice
    lattice = Lattice(torch.from_numpy(features)[None])
    return lattice(torch.from_numpy(values)[None])[0].numpy()
