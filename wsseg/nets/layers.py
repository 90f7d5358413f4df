"""Small parts that the nets share: norms that hold still, convolutions with a norm, dilation."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wsseg.nets.depthwise import Depthwise
from wsseg.nets.still import folded, fused


class FrozenNorm(nn.BatchNorm2d):
    """Batch norm that always uses its stored statistics and never learns.

    The state dict is that of ``BatchNorm2d``, so the same weights load with and without freezing.
    """

    kept = None  #: see ``still``: it can be part of a convolution, but nothing is kept

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps, momentum)
        self.weight.requires_grad_(False)
        self.bias.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "FrozenNorm":
        return super().train(False)


def normed(conv: nn.Conv2d, norm: nn.Module, x: Tensor, act: nn.Module | None = None) -> Tensor:
    """act(norm(conv(x))), without act norm(conv(x)). A norm that holds still becomes part of the
    convolution, of which the gradients are the same to rounding: two passes over the features
    less, forth and back. Without gradients a CPU does all in one."""
    found = fused(conv, norm, x, act)
    if found is None:
        found = _normed(conv, norm, x)
        return found if act is None else act(found)
    return found


def _normed(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(norm, FrozenNorm) or conv.bias is not None:
        return norm(conv(x))
    weight, bias = folded(conv, norm)
    if hasattr(conv, "convolve"):
        return conv.convolve(x, weight, bias)
    return nn.functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation,
                                conv.groups)


class Chain(nn.Sequential):
    """Layers one after another, a convolution and the norm behind it as ``normed``."""

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if isinstance(layer, nn.Conv2d) and layers and isinstance(layers[0], nn.BatchNorm2d):
                norm = layers.pop(0)
                relu = layers.pop(0) if layers and isinstance(layers[0], nn.ReLU) else None
                x = normed(layer, norm, x, relu)
            else:
                x = layer(x)
        return x


class FewNorm(nn.BatchNorm2d):
    """Batch norm behind a pooling to few values, which one image may leave a single one.

    Of one value per channel the variance is 0 and the output would be the bias whatever the
    input, so such a batch is normalised by the stored statistics and leaves them as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return nn.functional.batch_norm(x, self.running_mean, self.running_var, self.weight,
                                            self.bias, False, 0.0, self.eps)
        return super().forward(x)


def freeze_norms(module: nn.Module) -> nn.Module:
    """Replace every ``BatchNorm2d`` below ``module`` by a ``FrozenNorm``; return the module."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d) and not isinstance(child, FrozenNorm):
            frozen = FrozenNorm(child.num_features, child.eps, child.momentum)
            frozen.to(child.running_mean.device, child.running_mean.dtype)
            frozen.load_state_dict(child.state_dict())
            setattr(module, name, frozen)
        else:
            freeze_norms(child)
    return module


def conv_norm(inputs: int, outputs: int, kernel: int = 3, *, dilation: int = 1,
              norm: type[nn.BatchNorm2d] | None = nn.BatchNorm2d, separable: bool = False
              ) -> nn.Sequential:
    """Convolution of stride 1, norm (a bias where ``norm`` is None) and ReLU; keeps the size.

    ``separable``: a depthwise convolution with its norm and ReLU, then a pointwise one, as
    DeepLab-v3+ has it. Weights are drawn as by He et al. for ReLU.
    """
    pad = dilation * (kernel // 2)
    if separable and kernel > 1:
        depthwise = Depthwise(inputs, kernel, dilation=dilation)
        first = [depthwise, *([norm(inputs)] if norm else []), nn.ReLU(inplace=True)]
        return Chain(*_drawn(first), *conv_norm(inputs, outputs, 1, norm=norm))
    conv = nn.Conv2d(inputs, outputs, kernel, padding=pad, dilation=dilation, bias=norm is None)
    return Chain(*_drawn([conv, *([norm(outputs)] if norm else []), nn.ReLU(inplace=True)]))


def classifier(inputs: int, classes: int, kernel: int = 1, *, dilation: int = 1) -> nn.Conv2d:
    """The last layer: a convolution with a bias, weights drawn with deviation 0.01."""
    conv = nn.Conv2d(inputs, classes, kernel, padding=dilation * (kernel // 2), dilation=dilation)
    nn.init.normal_(conv.weight, std=0.01)
    nn.init.zeros_(conv.bias)
    return conv


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps (B,C,h,w) to ``size`` bilinearly, first sample on first and last on last.

    Every backbone here puts position i of its output on pixel stride * i, so corners must stay on
    corners; a size of stride * k + 1 then has no shift at all.
    """
    if maps.shape[2:] == torch.Size(size):
        return maps
    return nn.functional.interpolate(maps, size, mode="bilinear", align_corners=True)


def draw_he(module: nn.Module) -> None:
    """Draw every convolution below ``module`` as by He et al., over the outputs of an input."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            # torch's own fan does not know of groups: a depthwise layer would come out far too weak
            fan = child.out_channels // child.groups * math.prod(child.kernel_size)
            nn.init.normal_(child.weight, std=math.sqrt(2 / fan))
            if child.bias is not None:
                nn.init.zeros_(child.bias)


def _drawn(layers: list[nn.Module]) -> list[nn.Module]:
    for layer in layers:
        draw_he(layer)
    return layers


class Strides:
    """Turns the strides beyond ``stride`` into dilation, one strided layer after another.

    A layer that loses its stride keeps the dilation so far and those behind it get it times the
    stride: the output at every stride-th position is then what the strided net would give.
    """

    def __init__(self, stride: int) -> None:
        self.stride, self.now, self.dilation = stride, 1, 1

    def next(self, stride: int) -> tuple[int, int]:
        """The (stride, dilation) of the next layer, whose own stride is ``stride``."""
        dilation = self.dilation
        if stride > 1 and self.now * stride > self.stride:
            self.dilation *= stride
            return 1, dilation
        self.now *= stride
        return stride, dilation
