"""Dense CRF in numpy and scipy: slow and plain, for where there is neither compiler nor PyTorch.

The model and the arithmetic are those of ``densecrf``; the lattice's steps are sparse matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix


class Lattice:
    """The permutohedral lattice of points with features (N, d), in standard deviations.

    Raises ValueError where its cells cannot be numbered in 63 bits.
    """

    def __init__(self, features: np.ndarray) -> None:
        points, d = features.shape
        base, rank, weights = _simplices(np.asarray(features, np.float32))
        low = base.min(axis=0) - 2 * (d + 1)
        cells = [int(n) for n in base.max(axis=0) + 2 * (d + 1) - low + 1]
        stride, total = [], 1
        for size in cells[:d]:
            stride.append(total)
            total *= size
        if total >= 2 ** 62:
            raise ValueError("the features span more lattice cells than can be numbered: "
                             "a standard deviation is too small")
        strides = np.array([*stride, 0])
        by_rank = np.zeros_like(rank)
        np.put_along_axis(by_rank, rank, np.broadcast_to(strides, rank.shape), axis=1)
        # From corner k - 1 to k all coordinates grow by 1, but that of rank d - k + 1 falls by d.
        steps = sum(stride) - (d + 1) * by_rank[:, :0:-1]
        key = (base - low) @ strides
        corners = np.concatenate([key[:, None], key[:, None] + steps.cumsum(axis=1)], axis=1)
        keys, rows = np.unique(corners, return_inverse=True)
        count = len(keys)
        self._slice = csr_matrix((weights.ravel(), rows.ravel(), np.arange(points + 1) * (d + 1)),
                                 (points, count))
        self._splat = self._slice.T.tocsr()
        self._blurs = [_blur(keys, sum(stride) - (d + 1) * s) for s in strides]
        self._scale = np.float32(1 / (1 + 2.0 ** -d))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Filter values (N, K), without normalisation."""
        table = self._splat @ values
        for blur in self._blurs:
            table = blur @ table
        return self._scale * (self._slice @ table)


def mean_field(unary: np.ndarray, image: np.ndarray, *, gauss_sigma: Sequence[float],
               gauss_weight: float, rgb_sigma: Sequence[float], rgb_weight: float,
               iterations: int) -> np.ndarray:
    """Return the marginals, float32 (K, H, W), of unary terms (K, H, W); see ``dense_crf``."""
    classes, height, width = unary.shape
    y, x = np.indices((height, width), np.float32).reshape(2, -1)
    kernels = []
    if gauss_weight > 0:
        place = np.stack([x / gauss_sigma[0], y / gauss_sigma[1]], axis=1)
        kernels.append((gauss_weight, Lattice(place)))
    if rgb_weight > 0:
        colours = image.reshape(-1, 3).astype(np.float32) / np.float32(rgb_sigma[2:])
        place = np.stack([x / rgb_sigma[0], y / rgb_sigma[1]], axis=1)
        kernels.append((rgb_weight, Lattice(np.concatenate([place, colours], axis=1))))
    ones = np.ones((height * width, 1), np.float32)
    norms = [1 / np.sqrt(lattice(ones) + 1e-20) for _, lattice in kernels]
    logits = -unary.reshape(classes, -1).T.astype(np.float32)
    q = _softmax(logits)
    for _ in range(iterations):
        q = _softmax(logits + sum((np.float32(weight) * norm * lattice(q * norm)
                                   for (weight, lattice), norm in zip(kernels, norms)),
                                  start=np.float32(0)))
    return np.ascontiguousarray(q.T).reshape(unary.shape)


def _softmax(logits: np.ndarray) -> np.ndarray:
    result = np.exp(logits - logits.max(axis=1, keepdims=True))
    result /= result.sum(axis=1, keepdims=True)
    return result


def _simplices(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Corner 0 (N, d + 1) of the simplex of each point, ranks, and weights of its corners."""
    count, d = features.shape
    spread = np.float32((2 / 3) ** 0.5 * (d + 1))
    at, total = np.empty((count, d + 1), np.float32), np.zeros(count, np.float32)
    for j in range(d, 0, -1):
        c = features[:, j - 1] * np.float32(1 / (j * (j + 1)) ** 0.5 * spread)
        at[:, j] = total - c * np.float32(j)
        total += c
    at[:, 0] = total
    if not (np.abs(at) < 2 ** 22).all():
        raise ValueError("the features span more lattice cells than can be numbered: "
                         "a standard deviation is too small")
    near = np.round(at * np.float32(1 / (d + 1)))
    base, rest = near.astype(np.int64) * (d + 1), at - near * np.float32(d + 1)
    # The order of the remainders, equal ones by coordinate: the largest has rank 0.
    order = (-rest).argsort(axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(d + 1), order.shape), axis=1)
    rank += near.sum(axis=1).astype(np.int64)[:, None]  # how far off the lattice's plane
    move = (rank < 0) * (d + 1) - (rank > d) * (d + 1)
    base, rank = base + move, rank + move
    inside = (at - base.astype(np.float32)) * np.float32(1 / (d + 1))
    falling = np.empty_like(inside)
    np.put_along_axis(falling, rank, inside, axis=1)
    weights = np.empty_like(inside)
    weights[:, 0] = 1 + falling[:, d] - falling[:, 0]
    weights[:, 1:] = (falling[:, :-1] - falling[:, 1:])[:, ::-1]
    return base, rank, weights


def _blur(keys: np.ndarray, step: int) -> csr_matrix:
    """Weights 1, 1/2, 1/2 of a lattice point and its neighbours along one axis."""
    rows, columns = [np.arange(len(keys))], [np.arange(len(keys))]
    for wanted in (keys - step, keys + step):
        at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        there = np.flatnonzero(keys[at] == wanted)
        rows.append(there)
        columns.append(at[there])
    weights = np.repeat(np.float32([1, 0.5, 0.5]), [len(r) for r in rows])
    return csr_matrix((weights, (np.concatenate(rows), np.concatenate(columns))),
                      (len(keys), len(keys)))
