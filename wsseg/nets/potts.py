"""The Potts primal-dual iterations in torch: on the CPU or a GPU, many images at once.

Energy, algorithm and sources: wsseg/refine/potts.py, with which this agrees to 1e-5 after equal
numbers of iterations. No gradients flow through it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

RELAX, CHECK = 1.9, 20  # those of wsseg/refine/potts.py


class BatchSolver:
    """An engine for costs (B,K,H,W) in units of the weight and edge-stop maps (B,H,W)."""

    def __init__(self, costs: Tensor, stop: Tensor, isotropic: bool = True):
        self.costs, self.isotropic = costs, isotropic
        self.wx, self.wy = stop[:, None].clone(), stop[:, None].clone()
        self.wx[..., -1] = 0
        self.wy[..., -1, :] = 0
        degree = self.wx + self.wy
        degree[..., 1:] += self.wx[..., :-1]
        degree[..., 1:, :] += self.wy[..., :-1, :]
        self.tau = 1 / degree.clamp_min(1e-3)
        self.u = torch.zeros_like(costs).scatter_(1, costs.argmin(1, keepdim=True), 1)
        self.px, self.py = torch.zeros_like(costs), torch.zeros_like(costs)

    @torch.no_grad()
    def run(self, iterations: int, relax: float) -> None:
        """Iterate; the last step is not over-relaxed, and so ends in the feasible sets."""
        for i in range(iterations):
            rho = relax if i + 1 < iterations else 1.0
            u = self._adjoint().add_(self.costs).mul_(self.tau).neg_().add_(self.u)
            u = project_simplex(u)
            x, y = _gradient(2 * u - self.u)
            x.mul_(0.5).add_(self.px)
            y.mul_(0.5).add_(self.py)
            if self.isotropic:
                norm = torch.hypot(x, y).clamp_min_(1)
                x /= norm
                y /= norm
            else:
                x.clamp_(-1, 1)
                y.clamp_(-1, 1)
            if rho == 1:
                self.u, self.px, self.py = u, x, y
            else:
                self.u.lerp_(u, rho)
                self.px.lerp_(x, rho)
                self.py.lerp_(y, rho)

    @torch.no_grad()
    def energies(self) -> tuple[Tensor, Tensor]:
        """The primal energies of the masks and the dual ones of the dual variables, (B,) each."""
        x, y = _gradient(self.u)
        x *= self.wx
        y *= self.wy
        length = torch.hypot(x, y) if self.isotropic else x.abs_() + y.abs_()
        primal = (self.costs * self.u).add_(length)
        dual = self._adjoint().add_(self.costs).amin(1)
        return (primal.sum((1, 2, 3), dtype=torch.float64), dual.sum((1, 2), dtype=torch.float64))

    def _adjoint(self) -> Tensor:
        x, y = self.wx * self.px, self.wy * self.py
        flow = (x + y).neg_()
        flow[..., 1:] += x[..., :-1]
        flow[..., 1:, :] += y[..., :-1, :]
        return flow


class SingleSolver:
    """``BatchSolver`` for one image of numpy arrays: the torch engine of ``refine.potts``."""

    def __init__(self, costs: np.ndarray, stop: np.ndarray, isotropic: bool, device: str = "cpu"):
        self.device = device
        self.batch = BatchSolver(self._tensor(costs)[None], self._tensor(stop)[None], isotropic)

    def start(self, mask: np.ndarray, duals: np.ndarray) -> None:
        """Begin at masks (K,H,W) and dual variables (2,K,H,W)."""
        self.batch.u = self._tensor(mask)[None].clone()
        self.batch.px, self.batch.py = (self._tensor(p)[None].clone() for p in duals)

    def run(self, iterations: int, relax: float) -> None:
        self.batch.run(iterations, relax)

    def energies(self) -> tuple[float, float]:
        primal, dual = self.batch.energies()
        return primal.item(), dual.item()

    def mask(self) -> np.ndarray:
        return self.batch.u[0].cpu().numpy()

    def duals(self) -> np.ndarray:
        return torch.stack((self.batch.px[0], self.batch.py[0])).cpu().numpy()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


@torch.no_grad()
def potts_batch(costs: Tensor, stop: Tensor, *, weight: float = 10.0, isotropic: bool = True,
                tolerance: float = 1e-3, max_iterations: int = 1000) -> tuple[Tensor, Tensor, int]:
    """Masks of least Potts energy for a batch; all stop when the worst one's gap is small.

    costs: float32 (B,K,H,W), +inf where a class is forbidden (but never all of a pixel's).
    stop: float32 (B,H,W), g in [0, 1] (``refine.potts.edge_stop``). weight: lambda, > 0.
    Return the masks (B,K,H,W), their relative gaps (B,) and the number of iterations.
    """
    if costs.ndim != 4 or stop.shape != (costs.shape[0], *costs.shape[2:]):
        raise ValueError("expected costs (B,K,H,W) and stop (B,H,W), got "
                         f"{tuple(costs.shape)} and {tuple(stop.shape)}")
    if not weight > 0:
        raise ValueError(f"expected a weight above 0, got {weight}")
    costs = ((costs - costs.amin(1, keepdim=True)) / weight).clamp_max(1e30)
    solver, done = BatchSolver(costs, stop, isotropic), 0
    while True:
        step = min(CHECK, max_iterations - done)
        solver.run(step, RELAX)
        done += step
        primal, dual = solver.energies()
        gap = (primal - dual).clamp_min(0) / primal.clamp_min(1e-30)
        if done >= max_iterations or bool((gap <= tolerance).all()):
            return solver.u, gap, done


def project_simplex(v: Tensor) -> Tensor:
    """The nearest points of the unit simplex along dimension 1 (see refine.potts)."""
    theta = v.amax(1, keepdim=True) - 1
    count = torch.zeros_like(theta)
    for _ in range(64):
        over = (v - theta).clamp_min_(0)
        found = (over > 0).sum(1, keepdim=True).to(v.dtype)
        theta += (over.sum(1, keepdim=True) - 1) / found
        if torch.equal(found, count):
            break
        count = found
    return (v - theta).clamp_min_(0)


def _gradient(u: Tensor) -> tuple[Tensor, Tensor]:
    x, y = torch.zeros_like(u), torch.zeros_like(u)
    torch.sub(u[..., 1:], u[..., :-1], out=x[..., :-1])
    torch.sub(u[..., 1:, :], u[..., :-1, :], out=y[..., :-1, :])
    return x, y
