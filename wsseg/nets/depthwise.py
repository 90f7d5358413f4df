"""Depthwise convolution, with the gradients that a CPU is slow at computed another way.

oneDNN (torch 2.15, AVX-512) has fast gradients for undilated 3x3 kernels only. For others in
bfloat16 the weight's gradient takes 40 times as long as the convolution, in float32 6 to 14 times;
the input's gradient with dilation takes 17 times as long. So on a CPU these are computed in
float32, and the input's gradient of stride 1 as a convolution with the kernel turned round.
``tests/benchmarks/nets.py`` measures it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def depthwise(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1,
              bias: Tensor | None = None) -> Tensor:
    """x (B,C,H,W), weight (C,1,k,k) with k odd, bias (C,) without gradient -> (B,C,h,w) of x's
    dtype, as F.conv2d has it."""
    if x.device.type != "cpu" or (weight.shape[2] <= 3 and dilation == 1):
        return nn.functional.conv2d(x, weight, bias, stride, padding, dilation, x.shape[1])
    with torch.autocast("cpu", enabled=False):
        kind = torch.float64 if weight.dtype == torch.float64 else torch.float32
        return _Depthwise.apply(x.to(kind), weight.to(kind), bias, stride, padding, dilation
                                ).to(x.dtype)


class _Depthwise(torch.autograd.Function):
    """x, weight of one floating-point type -> convolution with C groups."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int,
                padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.numbers = stride, padding, dilation
        return nn.functional.conv2d(x, weight, bias, stride, padding, dilation, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.numbers
        need_x, need_weight = ctx.needs_input_grad[:2]
        channels, span = x.shape[1], dilation * (weight.shape[2] - 1)
        turned = stride == 1 and dilation > 1 and padding <= span
        grads = [None, None]
        if need_x and turned:
            grads[0] = nn.functional.conv2d(grad, weight.flip(2, 3), None, 1, span - padding,
                                            dilation, channels)
        mask = [need_x and not turned, need_weight, False]
        if any(mask):
            made = torch.ops.aten.convolution_backward(
                grad, x, weight, None, [stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0],
                channels, mask)
            grads = [made[0] if mask[0] else grads[0], made[1]]
        return *grads, None, None, None, None


class Depthwise(nn.Conv2d):
    """A depthwise convolution without bias, padded alike on both sides."""

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, dilation * (kernel // 2), dilation,
                         channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The same convolution with other numbers."""
        return depthwise(x, weight, self.stride[0], self.padding[0], self.dilation[0], bias)
