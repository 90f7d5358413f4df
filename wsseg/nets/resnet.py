"""ResNet-50 and ResNet-101 with dilation; parameters are named as in torchvision.

He et al. (2016). As in torchvision, a bottleneck's stride sits on its 3x3 convolution; in the
Caffe models that DeepLabV2 started from it sits on the first 1x1.
"""

from __future__ import annotations

from torch import Tensor, nn

from wsseg.nets.layers import Chain, Strides, draw_he, normed

#: Blocks of each of the four layers.
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if inputs != outputs:
            self.downsample = Chain(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                    nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = normed(self.conv1, self.bn1, x, self.relu)
        y = normed(self.conv2, self.bn2, y, self.relu)
        y = normed(self.conv3, self.bn3, y)
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Images (B,3,H,W) -> features of stride 4 (layer1, 256) and of ``stride`` (layer4, 2048)."""

    mean, scale = (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)
    channels = (256, 2048)
    low_stride = 4

    def __init__(self, depth: int, stride: int = 16) -> None:
        super().__init__()
        strides = Strides(stride)
        self.conv1 = nn.Conv2d(3, 64, 7, strides.next(2)[0], 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, strides.next(2)[0], 1)
        inputs = 64
        for number, blocks in enumerate(DEPTHS[depth]):
            width, layer = 64 << number, []
            for block in range(blocks):
                own = strides.next(2 if number and block == 0 else 1)
                layer.append(Bottleneck(inputs, width, *own))
                inputs = width * _EXPANSION
            setattr(self, f"layer{number + 1}", nn.Sequential(*layer))
        self.stride = strides.now
        draw_he(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.maxpool(normed(self.conv1, self.bn1, images, self.relu))
        low = self.layer1(x)
        return low, self.layer4(self.layer3(self.layer2(low)))
