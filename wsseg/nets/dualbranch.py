"""The strong-weak dual branch (dualbranch-2020, section 3.2): a neck, then one or two branches.

The neck is like VGG's conv6 block of the paper's single-branch net, whose layers it does not
state. Ours are ``convs`` 3x3 convolutions dilated by 32 / stride, as convolutions behind all five
poolings are: three of them span 24 cells of stride 8, LargeFOV's 224 pixels (half the dilation,
and 128 pixels, with ``fov`` 128). They have batch norms where the backbone has.

Of the neck's convolutions the first ``shared`` (the paper's n) are common to both branches, and
each branch has the others for itself, so a path always goes through as many.
"""

from __future__ import annotations

from torch import Tensor, nn

from wsseg.nets.heads import build_head, width_of
from wsseg.nets.layers import conv_norm
from wsseg.nets.spec import NetSpec


class Branch(nn.Module):
    """The neck's own part of one branch, and its head."""

    def __init__(self, convs: nn.Sequential, head: nn.Module) -> None:
        super().__init__()
        self.convs, self.head = convs, head

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """low (B,L,.,.), high (B,N,h,w) -> logits (B,classes,.,.)."""
        return self.head(low, self.convs(high))


def build_neck(spec: NetSpec, low: int, high: int, stride: int, normed: bool
               ) -> tuple[nn.Sequential, nn.ModuleDict]:
    """Return the shared convolutions, and the branches: strong, and weak where ``spec.dual``."""
    width = width_of(spec)
    dilation = max(1, 32 // stride // (1 if spec.fov == 224 else 2))

    def convs(first: int, stop: int) -> nn.Sequential:
        return nn.Sequential(*(conv_norm(high if n == 0 else width, width, 3, dilation=dilation,
                                         norm=nn.BatchNorm2d if normed else None)
                               for n in range(first, stop)))

    common = spec.shared if spec.dual else 0
    inputs = width if spec.convs else high
    branches = {name: Branch(convs(common, spec.convs),
                             build_head(spec, low, inputs, stride, normed))
                for name in ("strong", "weak")[:1 + spec.dual]}
    return convs(0, common), nn.ModuleDict(branches)
