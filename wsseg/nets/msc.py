"""DeepLabV2's multi-scale form (Chen et al. 2016, section 4.1.1): one net at three scales.

The image is seen at scales 1, 0.75 and 0.5 with the same weights; a pixel's logit of a class is
the greatest of the three, and in training each of the three maps and the fused one have a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wsseg.nets.layers import resize

SCALES = (1.0, 0.75, 0.5)


def scaled(size: int, scale: float) -> int:
    """The length of ``size`` pixels at a scale, counted between centres: 321 -> 241, 161."""
    return max(1, round((size - 1) * scale) + 1)


def pyramid(net: Callable[[Tensor], Tensor], images: Tensor) -> list[Tensor]:
    """The logits of each scale, each at its own size (B,C,h,w), and last their fusion."""
    maps = [net(resize(images, (scaled(images.shape[2], s), scaled(images.shape[3], s))))
            for s in SCALES]
    return [*maps, fuse(maps)]


def fuse(maps: Sequence[Tensor]) -> Tensor:
    """The greatest of several maps (B,C,.,.) at each place, at the size of the first."""
    fused = maps[0]
    for other in maps[1:]:
        fused = torch.maximum(fused, resize(other, maps[0].shape[2:]))
    return fused
