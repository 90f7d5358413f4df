"""A backbone of three layers, so that whole runs of training take seconds."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from wsseg.nets import backbones, spec

NAMES = ("tiny", "plain")


class Tiny(nn.Module):
    """Three convolutions of stride 2, 8 and 12 channels, with batch norms or ``plain``."""

    channels = (8, 12)
    low_stride = 4
    mean, scale = (124., 116., 104.), (.02, .02, .02)

    def __init__(self, plain: bool = False) -> None:
        super().__init__()
        self.stride = 8
        self.low = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(),
                                 nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8),
                                 nn.ReLU())
        self.high = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12),
                                  nn.ReLU())
        for part in (self.low, self.high) if plain else ():
            for i, layer in enumerate(part):
                if isinstance(layer, nn.BatchNorm2d):
                    part[i] = nn.Identity()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(images)
        return low, self.high(low)


def install(monkeypatch: pytest.MonkeyPatch | None = None) -> None:
    """Make it known as ``tiny`` and ``plain``, for good or until the test ends."""

    def build(name: str, stride: int, frozen_norm: bool = False, pools: str = "3x3") -> nn.Module:
        if name not in NAMES:
            return original(name, stride, frozen_norm, pools)
        made = Tiny(name == "plain")
        return backbones.freeze_norms(made) if frozen_norm else made

    from wsseg.nets import base

    original = base.build_backbone
    for module, what, value in ((spec, "BACKBONES", (*spec.BACKBONES, *NAMES)),
                                (base, "build_backbone", build)):
        if monkeypatch is None:
            setattr(module, what, value)
        else:
            monkeypatch.setattr(module, what, value)
