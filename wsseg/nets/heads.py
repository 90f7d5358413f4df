"""Heads: features of a backbone (low, high) -> class logits, at the head's own stride.

Every head has ``classifiers()``, the convolutions whose outputs are the logits (their sum, where
there are several): what Cross-Pretrain replaces and Cross-Joint shares row by row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsseg.nets.efficientnet_lite import top_of
from wsseg.nets.layers import Chain, FewNorm, classifier, conv_norm, freeze_norms, resize
from wsseg.nets.spec import FC_WIDTH, NetSpec

#: Head -> channels of its hidden layers, and its dropout, unless the spec says otherwise.
WIDTHS = {"largefov": FC_WIDTH, "aspp": FC_WIDTH, "deeplabv3": 256, "deeplabv3plus": 256,
          "pspnet": 512, "conv6": 512, "fcn": 512}
DROPOUTS = {"largefov": 0.5, "aspp": 0.5, "deeplabv3": 0.1, "deeplabv3plus": 0.1, "pspnet": 0.1,
            "conv6": 0.5, "fcn": 0.1}
LOW_WIDTH = 48
BINS = (1, 2, 3, 6)
_ASPP_RATES, _PLUS_RATES = (6, 12, 18, 24), (6, 12, 18)


def at_stride(rate: int, published: int, stride: int) -> int:
    """A dilation published for one output stride, for another one: as many pixels apart."""
    return max(1, rate * published // stride)


def field_of_view(dilation: int, stride: int, kernel: int = 3) -> int:
    """The field of view of fc6 in pixels as DeepLab counts it: its span, and one pool5 cell of 32.

    The released nets agree: 7x7 dilated by 4 and 3x3 by 12 give 224 at stride 8, 4x4 by 4 gives
    128. (The features below see further: in pixels of the image this is a lower bound.)
    """
    return (kernel - 1) * dilation * stride + 32


def fc6_dilation(fov: int, stride: int) -> int:
    """The dilation of a 3x3 fc6 for a field of view: 12 for 224 at stride 8, and 6 for 128.

    wssl-2015's small field of view is a 4x4 kernel dilated by 4, 65 M parameters; 3x3 dilated by 6
    has the same span with the 20.5 M of the large one, so the two differ in nothing else.
    """
    return max(1, (fov - 32) // (2 * stride))


class FC(nn.Module):
    """fc6 (3x3, dilated), fc7 (1x1) and the classifier fc8, with dropout between them.

    DeepLab-LargeFOV (Chen et al. 2015) is one of these, DeepLabV2's ASPP on VGG-16 four.
    """

    def __init__(self, inputs: int, classes: int, width: int, dropout: float, dilation: int
                 ) -> None:
        super().__init__()
        self.fc6 = conv_norm(inputs, width, 3, dilation=dilation, norm=None)
        self.fc7 = conv_norm(width, width, 1, norm=None)
        self.drop = nn.Dropout(dropout)
        self.fc8 = classifier(width, classes)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return self.fc8(self.drop(self.fc7(self.drop(self.fc6(high)))))

    def classifiers(self) -> list[nn.Conv2d]:
        return [self.fc8]


class ASPP(nn.Module):
    """DeepLabV2's atrous pyramid (Chen et al. 2016): four branches, dilated differently, summed.

    A branch is a single 3x3 classifier, as on ResNet-101, or with ``width`` a ``FC``, as on VGG-16.
    """

    def __init__(self, inputs: int, classes: int, stride: int, width: int | None, dropout: float
                 ) -> None:
        super().__init__()
        rates = [at_stride(rate, 8, stride) for rate in _ASPP_RATES]
        self.plain = width is None
        self.branches = nn.ModuleList(
            classifier(inputs, classes, 3, dilation=rate) if width is None
            else FC(inputs, classes, width, dropout, rate) for rate in rates)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        maps = [branch(high) if self.plain else branch(low, high) for branch in self.branches]
        return maps[0] + maps[1] + maps[2] + maps[3]

    def classifiers(self) -> list[nn.Conv2d]:
        return list(self.branches) if self.plain else [b.fc8 for b in self.branches]


class Pyramid(nn.Module):
    """DeepLab-v3's atrous pyramid with image pooling: features of ``stride`` -> ``width`` channels.

    Rates 6, 12, 18 at output stride 16, twice that at 8 (Chen et al. 2017).
    """

    def __init__(self, inputs: int, stride: int, width: int, dropout: float, separable: bool
                 ) -> None:
        super().__init__()
        self.pyramid = nn.ModuleList([conv_norm(inputs, width, 1)] + [
            conv_norm(inputs, width, 3, dilation=at_stride(rate, 16, stride), separable=separable)
            for rate in _PLUS_RATES])
        self.pool = conv_norm(inputs, width, 1, norm=FewNorm)
        self.project = conv_norm(width * 5, width, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, high: Tensor) -> Tensor:
        maps = [branch(high) for branch in self.pyramid]
        maps.append(self.pool(high.mean((2, 3), keepdim=True)).expand_as(maps[0]))
        return self.drop(self.project(torch.cat(maps, 1)))


class DeepLabV3(Pyramid):
    """The pyramid and a classifier (Chen et al. 2017): the paper's net but for its multi-grid."""

    def __init__(self, inputs: int, classes: int, stride: int, width: int, dropout: float,
                 separable: bool) -> None:
        super().__init__(inputs, stride, width, dropout, separable)
        self.classifier = classifier(width, classes)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return self.classifier(super().forward(high))

    def classifiers(self) -> list[nn.Conv2d]:
        return [self.classifier]


class DeepLabV3Plus(Pyramid):
    """The pyramid, then a decoder with the low features (Chen et al. 2018), at their stride."""

    def __init__(self, low: int, high: int, classes: int, stride: int, width: int, dropout: float,
                 separable: bool) -> None:
        super().__init__(high, stride, width, dropout, separable)
        self.low = conv_norm(low, LOW_WIDTH, 1)
        self.decoder = nn.Sequential(conv_norm(LOW_WIDTH + width, width, 3, separable=separable),
                                     conv_norm(width, width, 3, separable=separable))
        self.classifier = classifier(width, classes)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        x = resize(super().forward(high), low.shape[2:])
        return self.classifier(self.decoder(torch.cat([self.low(low), x], 1)))

    def classifiers(self) -> list[nn.Conv2d]:
        return [self.classifier]


class PSPNet(nn.Module):
    """Means over 1, 4, 9 and 36 cells beside the features (Zhao et al. 2017).

    A cell's mean is narrowed to ``width``, as is the whole; with ResNet that is the paper's 512.
    The paper's second loss, on layer 4's input while training, is not here.
    """

    def __init__(self, inputs: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.cells = nn.ModuleList(
            Chain(nn.AdaptiveAvgPool2d(n), *conv_norm(inputs, width, 1, norm=FewNorm))
            for n in BINS)
        self.narrow = conv_norm(inputs + width * len(BINS), width, 3)
        self.drop = nn.Dropout(dropout)
        self.classifier = classifier(width, classes)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        size = high.shape[2:]
        maps = [high, *(resize(cell(high), size) for cell in self.cells)]
        return self.classifier(self.drop(self.narrow(torch.cat(maps, 1))))

    def classifiers(self) -> list[nn.Conv2d]:
        return [self.classifier]


class Linear(nn.Module):
    """A classifier alone: all the depth is in the neck before it, dualbranch-2020's conv6 block.

    With what a classifier of images has before its linear layer (``top``) it is that classifier
    made convolutional (Long et al. 2015): ``--init`` can start it from one, trained on tags.
    """

    def __init__(self, inputs: int, classes: int, dropout: float, top: nn.Module | None = None
                 ) -> None:
        super().__init__()
        self.top = top or nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.classifier = classifier(inputs, classes)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        return self.classifier(self.drop(self.top(high)))

    def classifiers(self) -> list[nn.Conv2d]:
        return [self.classifier]


def width_of(spec: NetSpec) -> int:
    """Channels of the hidden layers of this spec's head and neck."""
    return spec.width or WIDTHS[spec.head]


def build_head(spec: NetSpec, low: int, high: int, stride: int, normed: bool) -> nn.Module:
    """Return the head of a spec for features of ``low`` and ``high`` channels, ``high`` at stride.

    ``normed``: the backbone has batch norms. VGG-16 has none: its ASPP then has fc6 and fc7.
    """
    width = width_of(spec)
    dropout = DROPOUTS[spec.head] if spec.dropout is None else float(spec.dropout)
    if spec.head == "largefov":
        return FC(high, spec.classes, width, dropout, fc6_dilation(spec.fov, stride))
    if spec.head == "aspp":
        return ASPP(high, spec.classes, stride, None if normed else width, dropout)
    if spec.head == "pspnet":
        return PSPNet(high, spec.classes, width, dropout)
    if spec.head == "conv6":
        return Linear(high, spec.classes, dropout)
    if spec.head == "fcn":
        top, channels = (None, high) if spec.convs else top_of(spec.backbone, high)
        if top is not None and spec.frozen_norm:
            freeze_norms(top)
        return Linear(channels, spec.classes, dropout, top)
    separable = bool(spec.separable)
    if spec.head == "deeplabv3":
        return DeepLabV3(high, spec.classes, stride, width, dropout, separable)
    if spec.separable is None:  # as released for Xception; the small nets are about speed
        separable = spec.backbone.startswith(("xception", "efficientnet"))
    return DeepLabV3Plus(low, high, spec.classes, stride, width, dropout, separable)
