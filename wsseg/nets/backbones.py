"""The backbones by name: images (B,3,H,W) -> (features of low stride, features of ``stride``)."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from wsseg.nets.layers import freeze_norms
from wsseg.nets.spec import BACKBONES as NAMES

#: Name -> module and class, and the arguments that come before the stride.
BACKBONES: dict[str, tuple[str, str, tuple[Any, ...]]] = {
    "vgg16": ("vgg", "VGG16", ()),
    "resnet50": ("resnet", "ResNet", (50,)),
    "resnet101": ("resnet", "ResNet", (101,)),
    "xception65": ("xception", "Xception65", ()),
    "efficientnet-lite0": ("efficientnet_lite", "EfficientNetLite", (0,)),
    "efficientnet-lite1": ("efficientnet_lite", "EfficientNetLite", (1,)),
    "efficientnet-lite2": ("efficientnet_lite", "EfficientNetLite", (2,)),
}
assert tuple(BACKBONES) == NAMES


def build_backbone(name: str, stride: int, frozen_norm: bool = False, pools: str = "3x3"
                   ) -> nn.Module:
    """Return a backbone with random weights, dilated to an output stride of 8, 16 or 32.

    It has ``channels`` (low, high), ``low_stride``, ``stride``, and ``mean`` and ``scale`` for
    (RGB - mean) * scale; ``forward(images)`` returns (low, high), where position i lies on pixel
    stride * i. ``frozen_norm``: its batch norms keep their statistics and are not trained.
    ``pools``: what VGG-16 does where a pooling loses its stride.
    """
    module, kind, arguments = BACKBONES[name]
    more = {"pools": pools} if name == "vgg16" else {}
    made = getattr(importlib.import_module(f"wsseg.nets.{module}"), kind)(*arguments, stride,
                                                                          **more)
    return freeze_norms(made) if frozen_norm else made
