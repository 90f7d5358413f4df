"""What a classifier of image tags learns from: a binary cross-entropy for each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wsseg.nets.classifier import Classifier
from wsseg.train.samples import Batch


class TagObjective(nn.Module):
    """A classifier and its loss, one module so that it can be wrapped for several processes.

    background: the class that is no object and that nobody is asked about, None if there is none.
    class_weight: (K,) factors of the classes' losses. The loss is the weighted mean over images
    and classes, so that its size depends on neither.
    """

    weight: Tensor

    def __init__(self, net: Classifier, background: int | None, *,
                 class_weight: Sequence[float] | None = None) -> None:
        super().__init__()
        self.net = net
        weight = torch.ones(net.spec.classes) if class_weight is None else torch.tensor(
            class_weight, dtype=torch.float32)
        if background is not None:
            weight[background] = 0
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums, counts and weights (1,) of the batch's loss, as ``Objective`` does."""
        images = self.net.normalise(batch.photos).contiguous(memory_format=torch.channels_last)
        logits = self.net(images).float()
        each = nn.functional.binary_cross_entropy_with_logits(logits, batch.tags.float(),
                                                              reduction="none")
        count = self.weight.sum() * len(logits)
        return (each * self.weight).sum()[None], count[None], logits.new_ones(1)


@torch.no_grad()
def tag_probabilities(net: Classifier, photos: np.ndarray, *, bf16: bool = False) -> np.ndarray:
    """Return float32 (B,K) of photos of one size, uint8 (B,H,W,3)."""
    device = net.mean.device
    images = net.normalise(torch.from_numpy(photos).to(device).permute(0, 3, 1, 2))
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        logits = net(images.contiguous(memory_format=torch.channels_last))
    return logits.float().sigmoid().cpu().numpy()
