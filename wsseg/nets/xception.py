"""Xception-65, the aligned form that DeepLab-v3+ uses, with dilation.

Chen et al., Encoder-Decoder with Atrous Separable Convolution (2018), figure 4: strided separable
convolutions instead of poolings, a norm and ReLU behind every 3x3 depthwise convolution of the
last block. Parameters are named as in timm's ``xception65`` (``stem``, ``blocks``), whose weights
``xception65.tf_in1k`` are TensorFlow's: ``stem.0.conv.weight``,
``blocks.1.stack.conv2.conv_dw.weight``, ``blocks.1.shortcut.bn.running_mean``, and so on.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from wsseg.nets.depthwise import Depthwise
from wsseg.nets.layers import Chain, Strides, draw_he, normed

#: Channels of the three separable convolutions, and the stride of the last, of each block.
BLOCKS = (((128,) * 3, 2), ((256,) * 3, 2), ((728,) * 3, 2), *((((728,) * 3, 1),) * 16),
          ((728, 1024, 1024), 2), ((1536, 1536, 2048), 1))
_LOW = 1  # the block whose third convolution starts from stride 4


class Separable(nn.Module):
    """Depthwise 3x3 and pointwise convolution, each with its norm, and with ReLUs at the end."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, relu: bool) -> None:
        super().__init__()
        self.conv_dw = Depthwise(inputs, 3, stride, dilation)
        self.bn_dw = _norm(inputs)
        self.act_dw = nn.ReLU(inplace=True) if relu else nn.Identity()
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn_pw = _norm(outputs)
        self.act_pw = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = normed(self.conv_dw, self.bn_dw, x, self.act_dw)
        return normed(self.conv_pw, self.bn_pw, x, self.act_pw)


class Block(nn.Module):
    """Three separable convolutions and, but for the last block, a shortcut past them."""

    def __init__(self, inputs: int, widths: tuple[int, ...], stride: int, strided: bool,
                 dilation: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.shortcut = None
        if not last and (inputs != widths[-1] or strided):
            self.shortcut = _conv(inputs, widths[-1], 1, stride)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for n, width in enumerate(widths, 1):
            if not last:
                layers[f"act{n}"] = nn.ReLU(inplace=n > 1)  # the shortcut needs the block's input
            layers[f"conv{n}"] = Separable(inputs, width, stride if n == 3 else 1, dilation, last)
            inputs = width
        self.stack = Chain(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output, and what the third convolution starts from."""
        before = self.stack[:-1](x)
        y = self.stack[-1](before)
        if self.last:
            return y, before
        return y + (x if self.shortcut is None else self.shortcut(x)), before


class Xception65(nn.Module):
    """Images (B,3,H,W), RGB / 127.5 - 1 -> features of stride 4 (256) and ``stride`` (2048)."""

    mean, scale = (127.5,) * 3, (1 / 127.5,) * 3
    channels = (256, 2048)
    low_stride = 4

    def __init__(self, stride: int = 16) -> None:
        super().__init__()
        strides = Strides(stride)
        self.stem = nn.Sequential(_conv(3, 32, 3, strides.next(2)[0], relu=True),
                                  _conv(32, 64, 3, 1, relu=True))
        self.blocks = nn.ModuleList()
        inputs = 64
        for number, (widths, step) in enumerate(BLOCKS):
            own, dilation = strides.next(step)
            self.blocks.append(Block(inputs, widths, own, step > 1, dilation,
                                     number == len(BLOCKS) - 1))
            inputs = widths[-1]
        self.stride = strides.now
        draw_he(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = low = self.stem(images)
        for number, block in enumerate(self.blocks):
            x, before = block(x)
            if number == _LOW:
                low = before
        return low, x


def _conv(inputs: int, outputs: int, kernel: int, stride: int, relu: bool = False
          ) -> nn.Sequential:
    layers = [("conv", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)),
              ("bn", _norm(outputs))] + [("act", nn.ReLU(inplace=True))] * relu
    return Chain(OrderedDict(layers))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
