"""The losses of a detector over a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsseg.nets.detector import LOSSES, Detector
from wsseg.train.samples import Batch

_LEAST = 2.  # pixels of a box's sides that a crop must leave


class DetectObjective(nn.Module):
    """A detector and its four losses, one module so that it can be wrapped for several
    processes. Images without boxes teach what is no object.

    rois: proposals of an image that the box head learns from, a quarter of them objects at most.
    """

    def __init__(self, net: Detector, rois: int = 512) -> None:
        super().__init__()
        self.net = net
        net.roi_heads.fg_bg_sampler.batch_size_per_image = rois

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums (4,), counts (4,) and weights (4,), see ``Objective``: torchvision's losses
        are means over a batch, which count as often as it has images."""
        images = self.net.normalise(batch.photos)
        losses = self.net.losses(images, [target(xyxy, ids, images.device)
                                          for xyxy, ids in batch.boxes])
        counts = losses.new_full((len(LOSSES),), len(images))
        return losses * counts, counts, torch.ones_like(counts)


def target(xyxy, ids, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return boxes and classes as tensors, without those of which a crop left a sliver."""
    sides = xyxy[:, 2:] - xyxy[:, :2]
    kept = (sides >= _LEAST).all(axis=1)
    return (torch.from_numpy(xyxy[kept]).to(device, torch.float32),
            torch.from_numpy(ids[kept]).to(device, torch.int64))
