"""Dense CRF in torch: batched, on any device, and differentiable (CRF-RNN).

Source: Kraehenbuehl and Koltun (NIPS 2011) and, as a network, Zheng et al., "Conditional random
fields as recurrent neural networks" (ICCV 2015), algorithm 1. The model and the lattice arithmetic
are those of ``wsseg.refine.densecrf``; Q agrees with its native engine to 1e-4. Gradients flow to
unary terms, kernel weights and compatibility, not to features. Written without device-specific
code but untested on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

#: What a kernel's weight may be: a number, a tensor of one, or one for each class (K,).
Weight = float | Tensor


class Lattice:
    """The permutohedral lattice of a batch of point sets.

    features: (B, N, d), in standard deviations; a batch of 1 serves values of any batch. Raises
    ValueError where cells cannot be numbered in 63 bits.
    """

    @torch.no_grad()
    def __init__(self, features: Tensor) -> None:
        batch, points, d = features.shape
        self.batch, self.points, self.d = batch, points, d
        base, rank, weights = _simplices(features.reshape(-1, d))
        low = base.amin(dim=0) - 2 * (d + 1)
        cells = (base.amax(dim=0) + 2 * (d + 1) - low + 1).tolist()
        stride, total = [], 1
        for size in cells[:d]:
            stride.append(total)
            total *= size
        if total * batch >= 2 ** 62:
            raise ValueError("the features span more lattice cells than can be numbered: "
                             "a standard deviation is too small")
        strides = torch.tensor(stride + [0], device=features.device)
        key = ((base - low) * strides).sum(dim=1)
        key += torch.arange(batch, device=key.device).repeat_interleave(points) * total
        # From corner k - 1 to k all coordinates grow by 1, but that of rank d - k + 1 falls by d.
        by_rank = torch.zeros_like(rank).scatter_(1, rank, strides.expand_as(rank))
        steps = sum(stride) - (d + 1) * by_rank.flip(1)[:, :d]
        corners = torch.cat([key[:, None], key[:, None] + steps.cumsum(dim=1)], dim=1)
        keys, rows = torch.unique(corners, return_inverse=True)
        self.size = size = len(keys)
        # Splat, blurs and slice as weighted sums of table rows; the last row of a table stays 0.
        order = rows.flatten().argsort(stable=True)
        starts = torch.bincount(rows.flatten(), minlength=size + 1).cumsum(0).roll(1)
        starts[0] = 0
        self._splat = order // (d + 1), starts, weights.flatten()[order]
        self._slice = rows, None, weights
        here = torch.arange(size + 1, device=keys.device)
        halves = weights.new_tensor([1, 0.5, 0.5]).expand(size + 1, 3).contiguous()
        self._blurs = []
        for step in (sum(stride) - (d + 1) * s for s in stride + [0]):
            beside = [torch.cat([_find(keys, keys + s), here[-1:]]) for s in (-step, step)]
            self._blurs.append((torch.stack([here, *beside], dim=1), None, halves))
        self._scale = 1 / (1 + 2.0 ** -d)

    def __call__(self, values: Tensor) -> Tensor:
        """Filter values (B, N, K), without normalisation."""
        batch, points, k = values.shape
        if points != self.points or (batch != self.batch and self.batch != 1):
            raise ValueError(f"values {tuple(values.shape)} do not fit a lattice of "
                             f"{self.batch} x {self.points} points")
        if batch == self.batch:
            return _Filter.apply(values.reshape(-1, k), self, False).reshape(values.shape)
        beside = values.transpose(0, 1).reshape(points, batch * k)
        filtered = _Filter.apply(beside, self, False)
        return filtered.reshape(points, batch, k).transpose(0, 1)

    def filter(self, values: Tensor, transposed: bool) -> Tensor:
        """Filter values (B N, K); transposed: along the axes in reverse order."""
        blurs = reversed(self._blurs) if transposed else self._blurs
        for rows, starts, weights in (self._splat, *blurs, self._slice):
            values = embedding_bag(rows, values, starts, mode="sum",
                                   per_sample_weights=weights.to(values.dtype))
        return values * self._scale


class Kernel:
    """A lattice with symmetric normalisation: k(i, j) becomes n_i k(i, j) n_j."""

    @torch.no_grad()
    def __init__(self, features: Tensor) -> None:
        self.lattice = Lattice(features)
        ones = features.new_ones(*features.shape[:2], 1)
        self.norm = (self.lattice(ones) + 1e-20).rsqrt()

    def __call__(self, q: Tensor) -> Tensor:
        """Filter q (B, N, K)."""
        norm = self.norm.to(q.dtype)
        return self.lattice(q * norm) * norm


def gauss_kernel(size: tuple[int, int], sigma: Sequence[float], *,
                 like: Tensor | None = None) -> Kernel:
    """Return the Gaussian kernel of positions in an image of ``size`` (H, W).

    sigma: standard deviations of x and y in pixels; like: gives dtype and device.
    """
    return Kernel(_positions(size, sigma, torch.empty(0) if like is None else like)[None])


def rgb_kernel(image: Tensor, sigma: Sequence[float]) -> Kernel:
    """Return the appearance kernel of images (B, 3, H, W) with values 0 ... 255.

    sigma: standard deviations of x, y (pixels), red, green and blue (grey levels).
    """
    colours = image if image.is_floating_point() else image.float()
    place = _positions(tuple(image.shape[2:]), sigma[:2], colours).expand(len(image), -1, -1)
    colours = colours.flatten(2).transpose(1, 2) / colours.new_tensor(sigma[2:])
    return Kernel(torch.cat([place, colours], dim=2))


def mean_field(unary: Tensor, image: Tensor | None = None, *, gauss_weight: Weight = 3.0,
               rgb_weight: Weight = 4.0, gauss_sigma: Sequence[float] = (3.0, 3.0),
               rgb_sigma: Sequence[float] = (49.0, 49.0, 5.0, 5.0, 5.0),
               compatibility: Tensor | None = None, iterations: int = 10,
               kernels: Sequence[Kernel] | None = None) -> Tensor:
    """Return the marginals (B, K, H, W) after some mean-field iterations.

    unary: (B, K, H, W), -log p; image: (B, 3, H, W), 0 ... 255. compatibility: (K, K), the cost of
    label l beside label m; None is Potts, the same as minus the identity. kernels: (Gaussian,
    appearance) made before, to use on several maps of the same images; then no image is needed.
    Differentiable in unary, both weights and compatibility.
    """
    batch, classes, height, width = unary.shape
    if kernels is None:
        if image is None or tuple(image.shape) != (batch, 3, height, width):
            raise ValueError(f"unary terms {tuple(unary.shape)} need images "
                             f"({batch}, 3, {height}, {width}), got "
                             f"{None if image is None else tuple(image.shape)}")
        colours = image.to(torch.float64 if unary.dtype == torch.float64 else torch.float32)
        wanted = [isinstance(w, Tensor) or w != 0 for w in (gauss_weight, rgb_weight)]
        kernels = (gauss_kernel((height, width), gauss_sigma, like=colours) if wanted[0] else None,
                   rgb_kernel(colours, rgb_sigma) if wanted[1] else None)
    logits = -unary.flatten(2).transpose(1, 2)
    q = logits.softmax(dim=2)
    for _ in range(iterations):
        agreement = torch.zeros_like(q)
        for kernel, weight in zip(kernels, (gauss_weight, rgb_weight)):
            if kernel is not None:
                agreement = agreement + weight * kernel(q)
        if compatibility is not None:
            agreement = -agreement @ compatibility.T
        q = (logits + agreement).softmax(dim=2)
    return q.transpose(1, 2).reshape(unary.shape).contiguous()


class DenseCrf(nn.Module):
    """Mean-field with trainable kernel weights and, if ``classes`` is given, compatibility.

    Without ``classes`` the two weights are single numbers and labels are exchangeable (Potts), so
    that the number of labels may differ from image to image, as instances do. With it there is a
    weight for each class and a (K, K) compatibility, at first minus the identity.
    """

    def __init__(self, classes: int | None = None, *, gauss_sigma: Sequence[float] = (3.0, 3.0),
                 gauss_weight: float = 3.0,
                 rgb_sigma: Sequence[float] = (49.0, 49.0, 5.0, 5.0, 5.0),
                 rgb_weight: float = 4.0, iterations: int = 10) -> None:
        super().__init__()
        shape = () if classes is None else (classes,)
        self.gauss_sigma, self.rgb_sigma = tuple(gauss_sigma), tuple(rgb_sigma)
        self.iterations = iterations
        self.gauss_weight = nn.Parameter(torch.full(shape, float(gauss_weight)))
        self.rgb_weight = nn.Parameter(torch.full(shape, float(rgb_weight)))
        self.compatibility = None if classes is None else nn.Parameter(-torch.eye(classes))

    def forward(self, unary: Tensor, image: Tensor) -> Tensor:
        """unary: (B, K, H, W); image: (B, 3, H, W), 0 ... 255. Returns marginals (B, K, H, W)."""
        return mean_field(unary, image, gauss_weight=self.gauss_weight, rgb_weight=self.rgb_weight,
                          gauss_sigma=self.gauss_sigma, rgb_sigma=self.rgb_sigma,
                          compatibility=self.compatibility, iterations=self.iterations)


class _Filter(torch.autograd.Function):
    """The lattice filter is linear: its gradient is the transposed filter."""

    @staticmethod
    def forward(ctx, values: Tensor, lattice: Lattice, transposed: bool) -> Tensor:
        ctx.lattice, ctx.transposed = lattice, transposed
        return lattice.filter(values, transposed)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Filter.apply(gradient, ctx.lattice, not ctx.transposed), None, None


def _positions(size: tuple[int, int], sigma: Sequence[float], like: Tensor) -> Tensor:
    """x and y of each pixel in standard deviations: (H W, 2)."""
    y, x = (torch.arange(n, dtype=like.dtype, device=like.device) / s
            for n, s in zip(size, (sigma[1], sigma[0])))
    return torch.stack([x.expand(size), y[:, None].expand(size)], dim=2).reshape(-1, 2)


def _simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Corner 0 (N, d + 1) of the simplex of each point, ranks, and weights of its corners."""
    count, d = features.shape
    spread = features.new_tensor((2 / 3) ** 0.5 * (d + 1)).item()  # rounded as elsewhere
    at, total = features.new_empty(count, d + 1), features.new_zeros(count)
    for j in range(d, 0, -1):
        c = features[:, j - 1] * (1 / (j * (j + 1)) ** 0.5 * spread)
        at[:, j] = total - c * j
        total = total + c
    at[:, 0] = total
    if not (at.abs() < 2 ** 22).all():
        raise ValueError("the features span more lattice cells than can be numbered: "
                         "a standard deviation is too small")
    near = torch.round(at * (1 / (d + 1)))
    base, rest = near.long() * (d + 1), at - near * (d + 1)
    # The order of the remainders, equal ones by coordinate: the largest has rank 0.
    order = rest.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(d + 1, device=order.device).expand_as(order))
    rank += near.sum(dim=1).long()[:, None]  # how far the point is off the lattice's plane
    move = (rank < 0).long() * (d + 1) - (rank > d).long() * (d + 1)
    base, rank = base + move, rank + move
    inside = (at - base.to(at.dtype)) * (1 / (d + 1))
    falling = torch.empty_like(inside).scatter_(1, rank, inside)
    weights = torch.empty_like(inside)
    weights[:, 0] = 1 + falling[:, d] - falling[:, 0]
    weights[:, 1:] = (falling[:, :-1] - falling[:, 1:]).flip(1)
    return base, rank, weights


def _find(keys: Tensor, wanted: Tensor) -> Tensor:
    """Positions of ``wanted`` among the sorted keys, len(keys) for those that are not there."""
    at = torch.searchsorted(keys, wanted)
    found = keys[at.clamp(max=len(keys) - 1)] == wanted
    return torch.where(found, at, len(keys))
