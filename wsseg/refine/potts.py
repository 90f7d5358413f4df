"""Potts regularisation of soft maps: the maximum a posteriori masks of scribbles-2019.

The energy (scribbles-2019, eq. 2, 3 and 5), minimised over masks u whose K values at each pixel
lie on the unit simplex:

    E(u) = sum_i <f_i, u_i> + weight * sum_c TV_g(u_c),    f = -log P,   g_i = exp(-edge |grad I|_i)
    TV_g(u_c) = sum_i g_i |grad u_c|_i,   grad by forward differences, 0 across the image's border

There is no factor 1/2 before the sum over classes (eq. 3 has none), so a boundary between two
classes costs 2 * weight * g per unit of length. "A proper labelling is recovered by selecting at
each pixel the class with highest value." Scribbles are no constraint in the paper: they train the
maps; ``seeds`` offers them as one.

Where the paper is silent we chose:

- TV is isotropic, |grad u| = sqrt(ux^2 + uy^2), because the model is said to penalise "the total
  length of the interface"; ``isotropic=False`` takes |ux| + |uy|, the energy that graph cuts see.
- |grad I| is the root of (Ix^2 + Iy^2) averaged over the three channels, values 0..255, forward
  differences: a grey photo gets the gradient of its grey values. The paper names neither the
  scale (eta = .01 makes sense on 0..255 only) nor the colours.
- Probabilities are normalised at each pixel and clipped at ``floor`` before the logarithm.

The algorithm is the primal-dual one of Chambolle and Pock (2011) with the diagonal preconditioning
of Pock and Chambolle (ICCV 2011, eq. 10 with alpha = 1): with the weights g inside the linear
operator the dual variables live in unit balls, the dual step becomes 1/2 and the primal step
1 / (sum of the weights of a pixel's four edges). Steps are over-relaxed by 1.9, but for the one
before each check of the duality gap, so that what is checked and returned is feasible. Measured on
photos at weight 10: over-relaxation halves the iterations of isotropic problems (restarted Halpern
iterations gained nothing more), and starting from the solution for blocks of 2x2 pixels, and so on
down, takes 2.3 to 2.8 times fewer to a gap of 1e-3, up to four times fewer to 1e-4. The paper cites
a "strategy" of another reference for this convex problem; the minimum does not depend on it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wsseg.errors import RecordError, UsageError

ENGINES = ("auto", "native", "torch", "numpy")
FREE = 255  # a pixel without a seed
FORBIDDEN = np.float32(1e30)  # stands for an infinite cost in the engines
RELAX = 1.9
CHECK = 20  # iterations between two looks at the duality gap
COARSE = 400  # iterations at most at each reduced size

# scribbles-2019, supplementary 5.3: "lambda = 10 when using the local or combined PAMs and
# lambda = 50 when only the global PAM is used. For the edge stop function, eta = 0.01."
PRESETS = {
    "scribbles-potts": {"weight": 10.0, "edge": 0.01},
    "scribbles-potts-global": {"weight": 50.0, "edge": 0.01},
}


@dataclass(frozen=True)
class Result:
    """What ``potts`` found.

    ``mask`` is float32 (K,H,W) on the simplex and ``labels`` int64 (H,W) its argmax. ``primal`` is
    the relaxed energy of ``mask``, ``dual`` a lower bound on that of every mask and labelling,
    ``energy`` that of ``labels``: the labelling is within ``energy - dual`` of the best one there
    is. ``gap`` is primal - dual relative to the primal energy above the sum of each pixel's least
    cost, so it does not change when a constant is added to the costs of a pixel. ``iterations``
    are those at full size.
    """

    mask: np.ndarray
    labels: np.ndarray
    iterations: int
    gap: float
    primal: float
    dual: float
    energy: float
    engine: str


class Solver(Protocol):
    """An engine at work on one problem; costs are in units of ``weight``, so weights are g."""

    def start(self, mask: np.ndarray, duals: np.ndarray) -> None: ...
    def run(self, iterations: int, relax: float) -> None: ...
    def energies(self) -> tuple[float, float]: ...
    def mask(self) -> np.ndarray: ...
    def duals(self) -> np.ndarray: ...


def potts(unary: np.ndarray, image: np.ndarray | None, *, weight: float = 10.0, edge: float = 0.01,
          probabilities: bool = False, floor: float = 1e-5, seeds: np.ndarray | None = None,
          isotropic: bool = True, pyramid: bool = True, tolerance: float = 1e-3,
          max_iterations: int = 1000, engine: str = "auto", threads: int = 1,
          device: str = "cpu") -> Result:
    """Masks of least Potts energy (scribbles-2019 eq. 5; see the module for what is minimised).

    unary: float (K,H,W), costs in nats, +inf where a class is forbidden; or, with
        ``probabilities``, values >= 0 of which -log of the normalised value is taken.
    image: uint8 (H,W,3) RGB, or None for g = 1 everywhere.
    weight, edge: the paper's lambda (nats per pixel length and class) and eta (per grey level).
    seeds: integers (H,W), the class that a pixel must have, 255 where it is free.
    pyramid: start from the solution at half the size, and so on: the same minimum, sooner.
    tolerance: stop when ``Result.gap`` falls to it; ``max_iterations`` bounds the work.
    engine: 'auto' takes native, else torch, else numpy; ``device`` is torch's. ``threads`` is
        native's and never changes the result.
    Raises RecordError for data that cannot be right, UsageError for parameters.
    """
    _check_numbers(weight=weight, edge=edge, tolerance=tolerance)
    if max_iterations < 1 or threads < 1:
        raise UsageError(f"Potts needs 1 or more iterations and threads, got {max_iterations} "
                         f"and {threads}")
    costs = prepare_costs(unary, probabilities=probabilities, floor=floor, seeds=seeds)
    stop = edge_stop(image, edge, size=costs.shape[1:])
    least = costs.min(0)
    with np.errstate(over="ignore"):
        costs -= least
        if weight == 0 or costs.shape[0] == 1 or stop.size == 1:
            return _free(costs, least)
        # In units of the weight, so that every engine meets weights in [0, 1].
        costs /= np.float32(weight)
    np.minimum(costs, FORBIDDEN, out=costs)
    name = resolve_engine(engine)

    def make(costs: np.ndarray, stop: np.ndarray) -> Solver:
        return _make(name, costs, stop, isotropic, threads, device)

    solver = make(costs, stop)
    solver.start(*(_coarse_start(costs, stop, make, tolerance, max_iterations) if pyramid
                   else _cold_start(costs)))
    iterations, primal, dual = iterate(solver, tolerance, max_iterations)
    mask = np.asarray(solver.mask())
    labels = mask.argmax(0)
    base = float(least.sum(dtype=np.float64))
    energy = weight * labelling_energy(labels, costs, stop, isotropic=isotropic)
    return Result(mask, labels, iterations, relative_gap(primal, dual), base + weight * primal,
                  base + weight * dual, base + energy, name)


def iterate(solver: Solver, tolerance: float, max_iterations: int) -> tuple[int, float, float]:
    """Run until the gap is small; return (iterations, primal, dual) in the solver's units."""
    done = 0
    while True:
        step = min(CHECK, max_iterations - done)
        solver.run(step, RELAX)
        done += step
        primal, dual = solver.energies()
        if done == max_iterations or relative_gap(primal, dual) <= tolerance:
            return done, primal, dual


def relative_gap(primal: float, dual: float) -> float:
    """The duality gap over the primal energy, of costs whose least at each pixel is 0."""
    return max(primal - dual, 0.0) / primal if primal > 0 else 0.0


def labelling_energy(labels: np.ndarray, costs: np.ndarray, stop: np.ndarray, *,
                     weight: float = 1.0, isotropic: bool = True) -> float:
    """The energy E of a labelling: integers (H,W), costs (K,H,W), g (H,W)."""
    right, below = labels.copy(), labels.copy()
    right[:, :-1], below[:-1] = labels[:, 1:], labels[1:]
    across, down = right != labels, below != labels
    # A boundary is in the gradient of the class that ends there and of the one that begins.
    length = across.astype(np.float32) + down
    if isotropic:
        length = np.sqrt(length) + np.where(across & down & (right == below),
                                            np.float32(np.sqrt(2)), length)
    else:
        length *= 2
    chosen = np.take_along_axis(costs, labels[None], 0)
    return float(chosen.sum(dtype=np.float64)
                 + weight * np.multiply(stop, length).sum(dtype=np.float64))


def edge_stop(image: np.ndarray | None, edge: float, *,
              size: tuple[int, int] | None = None) -> np.ndarray:
    """g = exp(-edge |grad I|), float32 (H,W), from a uint8 (H,W,3) image; 1 without an image.

    |grad I| is in grey levels of 0..255: the root of the mean over channels of Ix^2 + Iy^2 by
    forward differences, 0 across the border.
    """
    _check_numbers(edge=edge)
    if image is None:
        if size is None:
            raise UsageError("an edge-stop map needs an image or a size")
        return np.ones(size, np.float32)
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise RecordError(f"Potts needs a uint8 image (H,W,3), got {image.dtype} {image.shape}")
    if size is not None and image.shape[:2] != tuple(size):
        raise RecordError(f"the image is {image.shape[0]}x{image.shape[1]}, the map "
                          f"{size[0]}x{size[1]}")
    square = np.zeros(image.shape[:2], np.float32)
    for channel in range(3):
        value = image[..., channel].astype(np.float32)
        square[:, :-1] += np.diff(value, axis=1) ** 2
        square[:-1] += np.diff(value, axis=0) ** 2
    return np.exp(np.float32(-edge) * np.sqrt(square / 3)).astype(np.float32)


def prepare_costs(unary: np.ndarray, *, probabilities: bool = False, floor: float = 1e-5,
                  seeds: np.ndarray | None = None) -> np.ndarray:
    """Check a map (K,H,W) and return its costs as a new float32 array; +inf where forbidden."""
    unary = np.asarray(unary)
    if unary.ndim != 3 or unary.size == 0 or unary.dtype.kind not in "fiu":
        raise RecordError(f"Potts needs a real map (K,H,W), got {unary.dtype} {unary.shape}")
    values = unary.astype(np.float32)
    if np.isnan(values).any():
        raise RecordError(f"{int(np.isnan(values).any(0).sum())} pixels of the map hold NaN")
    if probabilities:
        if not 0 <= floor < 1:
            raise UsageError(f"the floor of probabilities must lie in [0, 1), got {floor}")
        if values.min() < 0 or np.isinf(values).any():
            raise RecordError("probabilities must be finite and not negative, got "
                              f"{values.min():g} to {values.max():g}")
        total = values.sum(0)
        values /= np.where(total > 0, total, 1)
        values[:, total == 0] = 1 / len(values)
        with np.errstate(divide="ignore"):
            values = -np.log(np.maximum(values, np.float32(floor), out=values))
    if seeds is not None:
        seeds = np.asarray(seeds)
        if seeds.shape != values.shape[1:] or seeds.dtype.kind not in "iu":
            raise RecordError(f"seeds must be integers {values.shape[1:]}, got {seeds.dtype} "
                              f"{seeds.shape}")
        held = seeds != FREE
        if held.any() and not 0 <= seeds[held].min() <= seeds[held].max() < len(values):
            raise RecordError(f"a seed is no class of 0..{len(values) - 1}")
        for k in range(len(values)):
            values[k][held & (seeds != k)] = np.inf
            values[k][held & (seeds == k)] = 0
    if np.isneginf(values).any() or np.isinf(values.min(0)).any():
        raise RecordError("a pixel of the map has no class of finite cost")
    return values


def workspace_bytes(classes: int, height: int, width: int) -> int:
    """Memory that ``potts`` takes above its input with the native engine, about."""
    return 4 * height * (width + 24) * (9 * classes + 10)


def resolve_engine(name: str) -> str:
    """The engine that ``name`` stands for here, without importing torch."""
    if name not in ENGINES:
        raise UsageError(f"no Potts engine {name!r}; there are {', '.join(ENGINES)}")
    if name in ("auto", "native"):
        try:
            import wsseg.native._potts  # noqa: F401
            return "native"
        except ImportError:
            if name == "native":
                raise UsageError("the native Potts kernel is not built here (it needs a C++ "
                                 "compiler when wsseg is installed); use the torch or numpy "
                                 "engine") from None
    if name != "numpy" and importlib.util.find_spec("torch"):
        return "torch"
    if name == "torch":
        raise UsageError("the torch engine needs PyTorch: pip install 'wsseg[nets]'")
    return "numpy"


class NumpySolver:
    """The algorithm, plainly: the oracle of the other engines, and the last resort."""

    def __init__(self, costs: np.ndarray, stop: np.ndarray, isotropic: bool):
        self.costs, self.isotropic = costs, isotropic
        self.wx, self.wy = stop.copy(), stop.copy()
        self.wx[:, -1] = 0
        self.wy[-1] = 0
        degree = self.wx + self.wy
        degree[:, 1:] += self.wx[:, :-1]
        degree[1:] += self.wy[:-1]
        self.tau = 1 / np.maximum(degree, np.float32(1e-3))
        self.start(*_cold_start(costs))

    def start(self, mask: np.ndarray, duals: np.ndarray) -> None:
        """Begin at masks (K,H,W) and dual variables (2,K,H,W)."""
        self.u, self.p = mask.copy(), duals.copy()

    def run(self, iterations: int, relax: float) -> None:
        """Iterate; the last step is not over-relaxed, and so ends in the feasible sets."""
        for i in range(iterations):
            rho = np.float32(relax if i + 1 < iterations else 1)
            u = project_simplex(self.u - self.tau * (self.costs + self._adjoint()))
            p = self._gradient(2 * u - self.u)
            p *= np.float32(0.5)
            p += self.p
            if self.isotropic:
                p /= np.maximum(np.sqrt(p[0] ** 2 + p[1] ** 2), 1)
            else:
                np.clip(p, -1, 1, out=p)
            self.u = u if rho == 1 else self.u + rho * (u - self.u)
            self.p = p if rho == 1 else self.p + rho * (p - self.p)

    def energies(self) -> tuple[float, float]:
        """The primal energy of the masks and the dual one of the dual variables."""
        gradient = self._gradient(self.u)
        gradient[0] *= self.wx
        gradient[1] *= self.wy
        length = np.sqrt((gradient ** 2).sum(0)) if self.isotropic else np.abs(gradient).sum(0)
        return (float((self.costs * self.u).sum(dtype=np.float64) + length.sum(dtype=np.float64)),
                float((self.costs + self._adjoint()).min(0).sum(dtype=np.float64)))

    def mask(self) -> np.ndarray:
        return self.u

    def duals(self) -> np.ndarray:
        return self.p

    def _gradient(self, u: np.ndarray) -> np.ndarray:
        g = np.zeros((2, *u.shape), np.float32)
        np.subtract(u[..., 1:], u[..., :-1], out=g[0, ..., :-1])
        np.subtract(u[:, 1:], u[:, :-1], out=g[1, :, :-1])
        return g

    def _adjoint(self) -> np.ndarray:
        x, y = self.wx * self.p[0], self.wy * self.p[1]
        flow = -(x + y)
        flow[..., 1:] += x[..., :-1]
        flow[:, 1:] += y[:, :-1]
        return flow


def project_simplex(v: np.ndarray) -> np.ndarray:
    """The nearest points of the unit simplex, along the first axis.

    Newton's steps from below on sum(max(v - theta, 0)) = 1, a decreasing convex function of theta
    made of lines: exact once the set of positive entries stays the same.
    """
    theta = v.max(0) - 1
    count = np.zeros(theta.shape, np.intp)
    for _ in range(64):
        over = v - theta
        np.maximum(over, 0, out=over)
        found = np.count_nonzero(over, axis=0)
        theta += (over.sum(0) - 1) / found.astype(np.float32)
        if np.array_equal(found, count):
            break
        count = found
    return np.maximum(v - theta, 0)


def _make(name: str, costs: np.ndarray, stop: np.ndarray, isotropic: bool, threads: int,
          device: str) -> Solver:
    if name == "native":
        from wsseg.native._potts import Solver as NativeSolver
        return NativeSolver(costs, stop, isotropic, threads)
    if name == "torch":
        from wsseg.nets.potts import SingleSolver
        return SingleSolver(costs, stop, isotropic, device)
    return NumpySolver(costs, stop, isotropic)


def _cold_start(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _vertices(costs), np.zeros((2, *costs.shape), np.float32)


def _coarse_start(costs: np.ndarray, stop: np.ndarray, make: Callable[..., Solver],
                  tolerance: float, max_iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks and dual variables to start from, solved for blocks of 2x2 pixels and enlarged."""
    height, width = stop.shape
    if min(height, width) < 32:
        return _cold_start(costs)
    odd = ((0, height % 2), (0, width % 2))
    wide = np.pad(costs, ((0, 0), *odd))
    small = wide[:, ::2, ::2] + wide[:, 1::2, ::2] + wide[:, ::2, 1::2] + wide[:, 1::2, 1::2]
    small -= small.min(0)
    np.minimum(small, FORBIDDEN, out=small)
    # The edges that leave a block: two to its right and two below it.
    g = np.pad(stop, odd, mode="edge")
    g = g[1::2, 1::2] + (g[::2, 1::2] + g[1::2, ::2]) / 2
    solver = make(small, g)
    solver.start(*_coarse_start(small, g, make, tolerance, max_iterations))
    iterate(solver, tolerance, min(max_iterations, COARSE))
    return tuple(np.ascontiguousarray(a.repeat(2, -2).repeat(2, -1)[..., :height, :width])
                 for a in (solver.mask(), solver.duals()))


def _vertices(costs: np.ndarray) -> np.ndarray:
    mask = np.zeros(costs.shape, np.float32)
    np.put_along_axis(mask, costs.argmin(0)[None], 1, 0)
    return mask


def _free(costs: np.ndarray, least: np.ndarray) -> Result:
    """Each pixel's cheapest class: the minimum where nothing joins the pixels."""
    energy = float(least.sum(dtype=np.float64))
    return Result(_vertices(costs), costs.argmin(0), 0, 0.0, energy, energy, energy, "none")


def _check_numbers(**numbers: float) -> None:
    for name, value in numbers.items():
        if not (np.isfinite(value) and value >= 0):
            raise UsageError(f"Potts {name} must be finite and not negative, got {value}")
