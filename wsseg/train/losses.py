"""Negative log-likelihood over the labelled pixels (wssl-2015 Eq. 1, dualbranch-2020 Eq. 2).

Scribbles, pseudo-labels and masks alike: pixels of 255 carry no loss (partial cross-entropy,
scribbles-2019). The caller divides the sum by the count, after adding up both over accumulation
steps and processes, so that the mean is that of the joint batch.

Logits are upsampled to the labels inside the loss, a few rows or images at a time, and the
gradient is computed on the way: no (B,K,H,W) array outlives the call, and on a CPU none is made.
Where few pixels are labelled only those are interpolated. tests/benchmarks/loss.py measures it
against ``F.interpolate`` and ``F.cross_entropy``: on one core with 21 classes a quarter of their
time, and a tenth where 3 % of the pixels are labelled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = 255
#: Labelled share, for each class, under which interpolating single pixels is faster (measured).
SPARSE = .005
#: And never above this, for single pixels want memory for each class.
SPARSE_MOST = .1
#: Values of upsampled logits held at a time, on a GPU 256 MB, else 1 MB.
CHUNK, BAND = 1 << 26, 1 << 18


def labelled_nll(logits: Tensor, labels: Tensor, weight: Tensor | None = None,
                 reduction: str = "sum", *, at: str = "labels",
                 class_weight: Tensor | None = None,
                 sparse: bool | None = None) -> tuple[Tensor, Tensor]:
    """Return the sum of -log softmax at the labelled pixels, and their weighted number.

    logits: float (B,K,h,w) of any precision. labels: integers (B,H,W), 255 = no label. weight:
    (B,H,W), float or uint8 in 255ths (the kind ``conf``). class_weight: (K,), multiplied in; the
    count includes both, as in ``cross_entropy``. at: 'labels' upsamples the logits (bilinear,
    corners on corners, where the nets here have them); 'logits' takes the labels under each
    logit (``subsample``), as wssl-2015 was trained. reduction: 'sum', or 'mean' for the
    sum over the count (0 of 0 is 0). sparse: interpolate single pixels; None decides by the
    labelled share, on a CPU alone, since counting would make a GPU wait. Both results are
    float32 scalars; with nothing labelled the sum is 0 and its gradient zero. Raises ValueError
    for shapes that do not fit or, on a CPU, for labels that are no class (a GPU's own assertion
    catches those later, and less clearly).
    """
    _check(logits, labels, weight)
    if at not in ("labels", "logits") or reduction not in ("sum", "mean"):
        raise ValueError(f"unknown at={at!r} or reduction={reduction!r}")
    if at == "logits":
        size = (logits.shape[2], logits.shape[3])
        labels = subsample(labels, size)
        weight = None if weight is None else subsample(weight, size)
    weight = _pixel_weight(labels, weight, class_weight)
    with torch.autocast(logits.device.type, enabled=False):
        if sparse is None:
            sparse = not weight.is_cuda and (
                (weight != 0).float().mean().item() < min(SPARSE * logits.shape[1], SPARSE_MOST))
        if sparse:
            total = _sparse_nll(logits, labels, weight)
        else:
            total = _DenseNLL.apply(logits, labels, weight)
    count = weight.sum()
    if reduction == "mean":
        total = total / torch.where(count > 0, count, 1)
    return total, count


def subsample(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the labels (B,H,W) under each of the logits, (B, *size).

    Where a stride that is a power of two gives ``size`` these are pixels 0, s, 2s, ..., on which
    a net with odd kernels centres its outputs (Caffe's shrink layer: 321 to 41 by 8); otherwise
    the pixel below the centre of each logit.
    """
    rows, columns = (_grid(labels.shape[1 + i], size[i], labels.device) for i in (0, 1))
    return labels.index_select(1, rows).index_select(2, columns)


def _grid(length: int, count: int, device: torch.device) -> Tensor:
    for stride in (1 << i for i in range(8)):
        if -(-length // stride) == count:
            return torch.arange(0, length, stride, device=device)
    centre = (torch.arange(count, device=device, dtype=torch.float64) + .5) * (length / count)
    return centre.long().clamp_max(length - 1)


def _check(logits: Tensor, labels: Tensor, weight: Tensor | None) -> None:
    if logits.ndim != 4 or labels.ndim != 3 or len(logits) != len(labels) \
            or weight is not None and weight.shape != labels.shape:
        raise ValueError("expected logits (B,K,h,w), labels (B,H,W) and weight (B,H,W), got "
                         f"{tuple(logits.shape)}, {tuple(labels.shape)} and "
                         f"{None if weight is None else tuple(weight.shape)}")
    if labels.is_cuda or not labels.numel():
        return
    wrong = labels[(labels >= logits.shape[1]) & (labels != IGNORE) | (labels < 0)]
    if len(wrong):
        raise ValueError(f"{len(wrong)} pixels have label {int(wrong[0])}, which is neither "
                         f"one of the {logits.shape[1]} classes nor {IGNORE}")


def _pixel_weight(labels: Tensor, weight: Tensor | None, class_weight: Tensor | None) -> Tensor:
    """Return float32 (B,H,W), 0 where no label is."""
    known = labels != IGNORE
    if weight is None:
        result = known.float()
    else:
        unit = 1 / 255 if weight.dtype == torch.uint8 else 1.
        result = (weight.float() * unit).masked_fill_(~known, 0)
    if class_weight is not None:
        each = class_weight.to(labels.device, torch.float32)
        result = result * each[labels.long().masked_fill(~known, 0)]
    return result


class _DenseNLL(torch.autograd.Function):
    """The sum over all pixels; keeps the gradient of the small logits alone for backward."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
        small, size = logits.detach().float(), labels.shape[1:]
        if small.shape[2:] == size:
            gradient = small.clone()
            total = _to_gradient(gradient, labels, weight)
        else:
            total, gradient = (_by_images if small.is_cuda else _by_bands)(small, labels, weight)
        ctx.kind = logits.dtype
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return (ctx.saved_tensors[0] * grad).to(ctx.kind), None, None


def _to_gradient(z: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted sum over logits (B,K,H,W), and put its gradient in their place."""
    w, target = weight[:, None], labels.masked_fill(labels == IGNORE, 0)[:, None].long()
    z -= z.amax(1, keepdim=True)
    nll = z.gather(1, target).neg_()
    scale = z.exp_().sum(1, keepdim=True)
    nll += scale.log()
    z *= w / scale  # softmax minus the target, times the weight
    z.scatter_add_(1, target, -w)
    return nll.mul_(w).masked_fill_(w == 0, 0).sum()


def _by_images(small: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The sum and its gradient, some images at a time."""
    step = max(1, CHUNK // (small.shape[1] * labels.shape[1:].numel()))
    total, gradients = weight.new_zeros(()), []
    for i in range(0, len(small), step):
        with torch.enable_grad():
            part = small[i:i + step].requires_grad_()
            large = F.interpolate(part, labels.shape[1:], mode="bilinear", align_corners=True)
        z = large.detach()
        total += _to_gradient(z, labels[i:i + step], weight[i:i + step])
        gradients.append(torch.autograd.grad(large, part, z)[0])
    return total, torch.cat(gradients) if gradients else small


def _by_bands(small: Tensor, labels: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The sum and its gradient, some rows at a time: as many as a core's cache holds.

    Interpolation is a product with a matrix for each axis, and its gradient with the transposed.
    """
    (images, classes, height, width), (rows, columns) = small.shape, labels.shape[1:]
    down, across = (_interpolation(n, m, small.device) for n, m in ((rows, height),
                                                                     (columns, width)))
    band = max(1, BAND // (classes * columns))
    total, gradient = weight.new_zeros(()), torch.empty_like(
        small, memory_format=torch.contiguous_format)
    for i in range(images):
        wide = small[i] @ across.T  # (K,h,W)
        back = torch.zeros_like(wide)
        for y in range(0, rows, band):
            mix = down[y:y + band]
            used = mix.any(0).nonzero()
            low, high = int(used[0]), int(used[-1]) + 1
            mix = mix[:, low:high]
            z = torch.matmul(mix, wide[:, low:high])[None]
            total += _to_gradient(z, labels[i:i + 1, y:y + band], weight[i:i + 1, y:y + band])
            back[:, low:high] += torch.matmul(mix.T, z[0])
        torch.matmul(back, across, out=gradient[i])
    return total, gradient


def _interpolation(length: int, count: int, device: torch.device) -> Tensor:
    """The matrix (length, count) of ``F.interpolate`` along an axis."""
    below, above, share = _corners(length, count, device)
    row = torch.arange(length, device=device)
    matrix = torch.zeros(length, count, device=device)
    matrix.index_put_((row, below), 1 - share, accumulate=True)
    return matrix.index_put_((row, above), share, accumulate=True)


def _sparse_nll(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """The sum over the pixels with weight: each a bag of the four logits around it."""
    classes, height, width = logits.shape[1:]
    rows = logits.float().permute(0, 2, 3, 1).reshape(-1, classes)
    image, y, x = (weight != 0).nonzero(as_tuple=True)
    y0, y1, fy = (t[y] for t in _corners(labels.shape[1], height, labels.device))
    x0, x1, fx = (t[x] for t in _corners(labels.shape[2], width, labels.device))
    first = image * (height * width)
    top, bottom = first + y0 * width, first + y1 * width
    corners = torch.stack((top + x0, top + x1, bottom + x0, bottom + x1), 1)
    shares = torch.stack(((1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx), 1)
    z = F.embedding_bag(corners, rows, mode="sum", per_sample_weights=shares)
    nll = F.cross_entropy(z, labels[image, y, x].long(), reduction="none")
    return (nll * weight[image, y, x]).sum()


def _corners(length: int, count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Index below, index above and share of the one above, of ``F.interpolate``: (length,) each."""
    place = torch.arange(length, device=device) * ((count - 1) / max(1, length - 1))
    below = place.long().clamp_max_(count - 1)
    return below, (below + 1).clamp_max_(count - 1), place - below
