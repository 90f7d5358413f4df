"""A backbone's features at strides 2, 4, 8, 16 and 32, for decoders with skips.

Position i of each lies on pixel stride * i, as with all backbones here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from wsseg.errors import WssegError
from wsseg.nets.efficientnet_lite import EfficientNetLite
from wsseg.nets.layers import normed
from wsseg.nets.resnet import ResNet
from wsseg.nets.vgg import VGG16
from wsseg.nets.xception import Xception65

STRIDES = (2, 4, 8, 16, 32)
#: One function for each level: from the level before (the images, for the first) to this one.
Stages = Sequence[Callable[[Tensor], Tensor]]


def stages(backbone: nn.Module) -> tuple[Stages, tuple[int, ...]]:
    """Return the five stages of a backbone of stride 32, and the channels of each.

    A backbone of another make may have a method ``stages`` of its own. Raises WssegError for one
    that has not five levels.
    """
    own = getattr(backbone, "stages", None)
    if own is not None:
        return own()
    for kind, split in _SPLITS.items():
        if isinstance(backbone, kind):
            if backbone.stride != STRIDES[-1]:
                raise WssegError(f"five levels need a backbone of stride 32, not "
                                 f"{backbone.stride}")
            return split(backbone)
    raise WssegError(f"{type(backbone).__name__} has no five levels")


def levels(backbone: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the features of normalised images (B,3,H,W), those of stride 2 first."""
    found = []
    for stage in stages(backbone)[0]:
        images = stage(images)
        found.append(images)
    return found


def _chain(*layers: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x
    return run


def _resnet(net: ResNet) -> tuple[Stages, tuple[int, ...]]:
    """The first level is the stem before its pooling."""
    def stem(x: Tensor) -> Tensor:
        return normed(net.conv1, net.bn1, x, net.relu)

    return ((stem, _chain(net.maxpool, net.layer1), net.layer2, net.layer3, net.layer4),
            (64, 256, 512, 1024, 2048))


def _efficientnet(net: EfficientNetLite) -> tuple[Stages, tuple[int, ...]]:
    """Each level is the last block of its stride."""
    def stem(x: Tensor) -> Tensor:
        return normed(net._conv_stem, net._bn0, x, net.act)

    blocks = list(net._blocks)
    starts = [i for i, b in enumerate(blocks) if b._depthwise_conv.stride[0] > 1]
    parts = [blocks[a:b] for a, b in zip([0, *starts], [*starts, len(blocks)])]
    return ((_chain(stem, *parts[0]), *(_chain(*part) for part in parts[1:])),
            tuple(part[-1]._project_conv.out_channels for part in parts))


def _vgg(net: VGG16) -> tuple[Stages, tuple[int, ...]]:
    """The last convolution of each stride, and the last pooling."""
    layers = list(net.features)
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    ends = [*pools[1:], len(layers)]
    return (tuple(_chain(*layers[a:b]) for a, b in zip([0, *ends], ends)),
            (128, 256, 512, 512, 512))


def _xception(net: Xception65) -> tuple[Stages, tuple[int, ...]]:
    blocks = [lambda x, block=block: block(x)[0] for block in net.blocks]
    return ((net.stem, blocks[0], blocks[1], _chain(*blocks[2:-2]), _chain(*blocks[-2:])),
            (64, 128, 256, 728, 2048))


_SPLITS = {ResNet: _resnet, EfficientNetLite: _efficientnet, VGG16: _vgg, Xception65: _xception}
