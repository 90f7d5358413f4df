"""VGG-16 without its fully connected layers, with dilation, as DeepLab uses it.

Simonyan and Zisserman (2015), configuration D; parameters keep torchvision's names
(``features.N.weight``), so its weights load. DeepLab (Chen et al. 2015) pools over 3x3 with one
pixel of padding instead of 2x2, so that position i lies on pixel stride * i; where a pooling loses
its stride it stays, with stride 1, and the convolutions behind it are dilated. dualbranch-2020
removes those poolings altogether: ``pools="removed"``, which nets with a neck have.
``pools="2x2"`` is torchvision's own net, for stride 32 only: it is there to be compared with.
"""

from __future__ import annotations

from torch import Tensor, nn

from wsseg.nets.layers import Strides, draw_he

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
POOLS = ("3x3", "removed", "2x2")


class VGG16(nn.Module):
    """Images (B,3,H,W) -> conv3_3's features (256, stride 4), and the last pool's (512)."""

    mean, scale = (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)
    channels = (256, 512)
    low_stride = 4

    def __init__(self, stride: int = 8, *, pools: str = "3x3") -> None:
        super().__init__()
        if pools not in POOLS or pools == "2x2" and stride < 32:
            raise ValueError(f"no pools {pools!r} at stride {stride}")
        strides, layers, inputs = Strides(stride), [], 3
        for block, (channels, repeats) in enumerate(_BLOCKS):
            for _ in range(repeats):
                dilation = strides.dilation
                layers += [nn.Conv2d(inputs, channels, 3, padding=dilation, dilation=dilation),
                           nn.ReLU(inplace=True)]
                inputs = channels
            if block == 2:
                self._low_end = len(layers)
            own = strides.next(2)[0]
            # where nothing is pooled a layer that does nothing keeps the numbers of the others
            layers.append(nn.MaxPool2d(2) if pools == "2x2" else
                          nn.Identity() if own == 1 and pools == "removed" else
                          nn.MaxPool2d(3, own, padding=1))
        self.features = nn.Sequential(*layers)
        self.stride = strides.now
        draw_he(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        low = self.features[:self._low_end](images)
        # the pool behind conv3_3 reads `low` and copies, so nothing overwrites it in place
        return low, self.features[self._low_end:](low)
