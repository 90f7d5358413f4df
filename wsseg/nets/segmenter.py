"""A segmentation net: a backbone, a neck, and one branch or two, built from a ``NetSpec``."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsseg.errors import WssegError
from wsseg.nets.base import LOADED, Net
from wsseg.nets.dualbranch import build_neck
from wsseg.nets.msc import pyramid
from wsseg.nets.spec import NetSpec

__all__ = ["NetSpec", "Segmenter", "build"]


def build(spec: NetSpec) -> "Segmenter":
    """Return the net of a spec with random weights, in training mode."""
    return Segmenter(spec)


class Segmenter(Net):
    """Normalised images float (B,3,H,W) -> logits (B,classes,h,w) at the head's own stride.

    Position i of the logits lies on pixel stride * i: bring them to the image with
    ``layers.resize``, which keeps corners on corners.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__(spec, spec.stride, spec.pools)
        if spec.thinned:
            self.loaded = LOADED | {"fc6", "fc7"}
        normed = any(isinstance(m, nn.BatchNorm2d) for m in self.backbone.modules())
        self.neck, self.branches = build_neck(spec, *self.backbone.channels, self.backbone.stride,
                                              normed)

    @property
    def stride(self) -> int:
        """Pixels from one logit to the next."""
        plus = self.spec.head == "deeplabv3plus"
        return self.backbone.low_stride if plus else self.backbone.stride

    def forward(self, images: Tensor, branch: str = "strong") -> Tensor:
        """Logits of one branch; with ``msc`` the greatest of three scales."""
        return self.forward_scales(images, branch)[-1]

    def forward_scales(self, images: Tensor, branch: str = "strong") -> list[Tensor]:
        """With ``msc`` the logits of each scale and then the fused ones; else just the logits.

        Each map has its own size (B,classes,h,w); in training each has its loss.
        """
        head = self._branch(branch)

        def once(images: Tensor) -> Tensor:
            low, high = self.backbone(images)
            return head(low, self.neck(high))

        return pyramid(once, images) if self.spec.msc else [once(images)]

    def forward_pair(self, images: Tensor, strong: int) -> tuple[Tensor, Tensor]:
        """The strong branch's logits of the first ``strong`` images, the weak one's of the rest.

        The paper runs both branches on all images and drops the half without annotation. Here a
        branch sees its own images only, which costs half; the logits are equal unless batch norms
        inside the branches collect statistics: theirs are then of their own images only (in the
        paper also of those whose output is dropped). Backbone and neck see all images as there.
        """
        if not 0 <= strong <= len(images):
            raise ValueError(f"{strong} strong images in a batch of {len(images)}")
        heads = self._branch("strong"), self._branch("weak")

        def both(images: Tensor) -> Tensor:
            low, high = self.backbone(images)
            high = self.neck(high)
            parts = [head(low[a:b], high[a:b]) for head, a, b in
                     zip(heads, (0, strong), (strong, len(images))) if a < b]
            return torch.cat(parts)

        logits = pyramid(both, images)[-1] if self.spec.msc else both(images)
        return logits[:strong], logits[strong:]

    def compile(self, *args: object, **options: object) -> None:
        for module in (self.backbone, *self.branches.values()):
            module.compile(*args, **options)

    def _branch(self, name: str) -> nn.Module:
        if name not in self.branches:
            raise WssegError(f"this net has no {name} branch, only: {', '.join(self.branches)}")
        return self.branches[name]

    def classifiers(self, branch: str | None = None) -> list[nn.Conv2d]:
        """The last convolutions of one branch, or of all: their sum is a branch's logits."""
        names = list(self.branches) if branch is None else [branch]
        return [conv for name in names for conv in self._branch(name).head.classifiers()]
