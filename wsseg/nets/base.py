"""What the nets share: a backbone, photos as it wants them, and parameters by what they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from wsseg.nets.backbones import build_backbone
from wsseg.nets.layers import FrozenNorm

GROUPS = ("backbone_weight", "backbone_bias", "backbone_norm", "new_weight", "new_bias",
          "new_norm")
#: Names of the parts that come with a backbone's weights.
LOADED = frozenset(("backbone", "top"))


class Net(nn.Module):
    """A net on the backbone that its spec names, of output stride ``stride``."""

    mean: Tensor
    scale: Tensor

    #: Names of the parts that learn at the backbone's rate.
    loaded = LOADED

    def __init__(self, spec: Any, stride: int, pools: str = "3x3") -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec.backbone, stride, spec.frozen_norm, pools)
        for name in ("mean", "scale"):
            values = torch.tensor(getattr(self.backbone, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def normalise(self, images: Tensor) -> Tensor:
        """RGB of 0..255, uint8 or float, (B,3,H,W) or (B,H,W,3) -> the backbone's (B,3,H,W).

        A (B,H,W,3) batch comes out in channels_last without a copy for that.
        """
        if images.ndim == 4 and images.shape[1] != 3 and images.shape[3] == 3:
            images = images.permute(0, 3, 1, 2)
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B,3,H,W) or (B,H,W,3), not {tuple(images.shape)}")
        return (images - self.mean).mul_(self.scale)

    def compile(self, *args: object, **options: object) -> None:
        """``torch.compile`` what is called for each batch of images, by whichever method."""
        self.backbone.compile(*args, **options)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter that is trained, once, by where it lies and what it is (``GROUPS``).

        The affine parameters of frozen norms are in no group.
        """
        groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
        for name, module in self.named_modules():
            if isinstance(module, FrozenNorm):
                continue
            part = "new" if self.loaded.isdisjoint(name.split(".")) else "backbone"
            for kind, parameter in module.named_parameters(recurse=False):
                norm = isinstance(module, nn.BatchNorm2d)
                groups[f"{part}_{'norm' if norm else kind}"].append(parameter)
        return groups
