"""A multi-label classifier of whole images: backbone, 1x1 convolution, global average pooling.

Pooling and a linear layer commute, so pooling comes last here and the class activation maps (Zhou
et al., Learning Deep Features for Discriminative Localization, 2016) are the net's own maps:
``maps`` without their bias. EfficientNet-Lite keeps its last 1x1 convolution of 1280 channels,
which has ImageNet weights and which of the heads for segmentation only ``fcn`` keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from wsseg.nets.base import Net
from wsseg.nets.efficientnet_lite import top_of
from wsseg.nets.fields import Spec
from wsseg.nets.layers import classifier, freeze_norms
from wsseg.nets.spec import NetSpec


@dataclass(frozen=True)
class ClassifierSpec(Spec):
    """What a classifier is made of. classes: rows of its output, of which a background's is
    unused; dropout: of whole channels in front of the last layer. Raises WssegError for values
    that no net can have."""

    backbone: str
    classes: int
    stride: int = 16
    frozen_norm: bool = False
    dropout: float = 0.

    def __post_init__(self) -> None:
        NetSpec(self.backbone, "aspp", self.classes, self.stride, frozen_norm=self.frozen_norm,
                dropout=self.dropout)  # checks them


class Classifier(Net):
    """Normalised images float (B,3,H,W) -> logits (B,classes); see the module."""

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__(spec, spec.stride)
        self.top, channels = top_of(spec.backbone, self.backbone.channels[1])
        if spec.frozen_norm:
            freeze_norms(self.top)
        self.dropout = nn.Dropout2d(spec.dropout)
        self.head = classifier(channels, spec.classes)

    @property
    def stride(self) -> int:
        """Pixels from one activation to the next."""
        return self.backbone.stride

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees: (B,C,h,w), position i on pixel stride * i."""
        return self.top(self.backbone(images)[1])

    def forward(self, images: Tensor) -> Tensor:
        return self.pooled(self.features(images))

    def pooled(self, features: Tensor) -> Tensor:
        """Logits (B,classes) of features (B,C,h,w): pooled first, which is the same and less
        work."""
        pooled = self.dropout(features.mean((2, 3), keepdim=True))
        return self.head(pooled).flatten(1)

    def maps(self, features: Tensor) -> Tensor:
        """Class activations (B,classes,h,w), without the bias: their mean and it are the logits."""
        return nn.functional.conv2d(features, self.head.weight)

    def compile(self, *args: object, **options: object) -> None:
        for module in (self.backbone, self.top):
            module.compile(*args, **options)

    def classifiers(self) -> list[nn.Conv2d]:
        """The layers whose rows are classes."""
        return [self.head]


def build(spec: ClassifierSpec) -> Classifier:
    """Return the net of a spec with random weights, in training mode."""
    return Classifier(spec)
