"""Convolution, norm and ReLU in one step, for what needs no gradient on a CPU.

On one thread torch sends a 1x1 convolution of a small batch to a kernel of its own that first
copies channels_last maps, and a ReLU reads and writes all features again. oneDNN does all three in
one pass over them, in a way that torch has for its compiler: ``torch.ops.mkldnn``. That is no
public interface, so it is tried once, and without it everything runs as in training.

A norm that holds still is in the weights. ``settle`` lets a net keep those, in the layout that
oneDNN wants for each of the first shapes that come; all that is otherwise made anew for every
image. A norm that is neither frozen nor settled runs as it is, bit for bit.
``tests/benchmarks/cam.py`` measures it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

_RELUS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0., 6.]), nn.Identity: ("none", [])}

_MOST = 4 << 20  # bytes of one layer's weights in several layouts


@dataclass(frozen=True, eq=False)
class _Parts:
    """of: the tensors and their versions; packed: shape -> the weight in the layout for it."""

    of: Any = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    packed: dict[torch.Size, Tensor] = field(default_factory=dict)


class Kept:
    """What a settled net keeps of one convolution with its norm, in no state dict and no copy."""

    def __init__(self) -> None:
        self._last = _Parts()

    def __deepcopy__(self, memo: Any) -> Kept:
        return Kept()

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()

    def parts(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias for inputs like x."""
        last = self._last  # several threads may be here: what is kept changes as a whole
        made_of = [(t, t._version) for t in (conv.weight, norm.weight, norm.bias,
                                             norm.running_mean, norm.running_var)]
        if last.of is None or not all(a is b and n == m
                                      for (a, n), (b, m) in zip(last.of, made_of)):
            last = self._last = _Parts(made_of, *folded(conv, norm))
        packed = last.packed.get(x.shape)
        if packed is None:
            if last.packed and (1 + len(last.packed)) * last.weight.nbytes > _MOST:
                return last.weight, last.bias
            packed = last.packed[x.shape] = torch.ops.mkldnn._reorder_convolution_weight(
                last.weight, *_numbers(conv), list(x.shape))
        return packed, last.bias


def settle(net: nn.Module) -> nn.Module:
    """Let a net keep what ``normed`` makes of its norms on a CPU, until ``stir``; return it.

    Costs the memory of its weights, and again for each shape of input up to ``_MOST`` a layer, or
    once for a layer that is larger. Weights may change, but not through ``.data``.
    """
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.kept = Kept()
    return net


def settled(net: nn.Module) -> bool:
    """Whether a net is settled; one without norms always is."""
    return all("kept" in vars(m) for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def stir(net: nn.Module) -> None:
    """Undo ``settle``."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and "kept" in vars(module):
            del module.kept


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight (C,D,k,k) and bias (C,) of a convolution with a norm that holds still behind it."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def fused(conv: nn.Conv2d, norm: nn.Module, x: Tensor, act: nn.Module | None) -> Tensor | None:
    """act(norm(conv(x))) in one step, or None where that cannot be."""
    if (torch.is_grad_enabled() or x.device.type != "cpu" or torch.compiler.is_compiling()
            or not hasattr(norm, "kept") or norm.training or conv.bias is not None
            or x.dtype != torch.float32 or conv.weight.dtype != torch.float32
            or getattr(conv, "same", False) or torch.is_autocast_enabled("cpu")
            or type(act) not in (*_RELUS, type(None)) or not _usable()):
        return None
    kept = norm.kept
    weight, bias = folded(conv, norm) if kept is None else kept.parts(conv, norm, x)
    name, numbers = ("none", []) if act is None else _RELUS[type(act)]
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *_numbers(conv), name, numbers,
                                                   "")


def _numbers(conv: nn.Conv2d) -> tuple[list[int], list[int], list[int], int]:
    return list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups


@cache
def _usable() -> bool:
    """Whether this torch has oneDNN's convolutions, under the names used here."""
    if not torch.backends.mkldnn.is_available():
        return False
    random = torch.Generator("cpu").manual_seed(0)  # the run's own numbers stay as they are
    for groups in (1, 8):
        weight = torch.randn(8, 8 // groups, 3, 3, generator=random, device="cpu")
        x = 9 * torch.randn(2, 8, 9, 11, generator=random, device="cpu")
        bias = torch.arange(8., device="cpu")
        plain = nn.functional.conv2d(x, weight, bias, 2, 1, 1, groups)
        x = x.contiguous(memory_format=torch.channels_last)
        how = [1, 1], [2, 2], [1, 1], groups
        try:
            packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *how, list(x.shape))
            found = [(torch.ops.mkldnn._convolution_pointwise(x, w, bias, *how, *_RELUS[act], ""),
                      act()(plain)) for w in (weight, packed) for act in _RELUS]
        except (AttributeError, RuntimeError, TypeError, ValueError):
            return False
        if not all(torch.allclose(*pair, atol=1e-4) for pair in found):
            return False
    return True
