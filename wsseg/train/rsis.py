"""RSIS with its losses: masks, classes, and whether there is an object left.

Salvador et al. (2017), and budget-2019 for W-RSIS, which has the masks' loss alone. Of an image
with n objects the first n steps (all T, if those are fewer) are paired with objects, by the soft
IoU alone or, for W-RSIS, within a class; later steps teach nothing but that the one behind the
last object is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.nets.rsis import RSIS, Found
from wsseg.train.matching import PADDED, match, soft_iou_costs
from wsseg.train.rsis_samples import ObjectBatch
from wsseg.train.rsis_stages import Stages

#: Weights of the losses and the balance of the last, as in RSIS' published code.
MASK, CLASS, STOP, BALANCE = 1., .1, .5, .5


@dataclass(frozen=True)
class Weights:
    """Of the three losses; balance: a step without object counts so much, one with an object 1
    less that."""

    mask: float = MASK
    cls: float = CLASS
    stop: float = STOP
    balance: float = BALANCE


def stop_loss(stops: Tensor, objects: Tensor, balance: float = BALANCE, most: int | None = None
              ) -> tuple[Tensor, Tensor]:
    """Return sum and count of the loss of stop logits (B,S).

    objects: (B,) steps of each image that have an object. Each such step shall say so (1), the
    next one 0; what comes then does not count. most: steps that a net has, if more than S.
    """
    step = torch.arange(stops.shape[1], device=stops.device)
    last = objects.clamp(max=most or stops.shape[1])[:, None]
    present, counted = step < last, step <= last
    each = F.binary_cross_entropy_with_logits(stops.float(), present.float(), reduction="none")
    each = each * torch.where(present, 1 - balance, balance)
    return each[counted].sum(), counted.sum().float()


class RSISObjective(nn.Module):
    """A net and its loss, one module so that it can be wrapped for several processes.

    masked: W-RSIS' matching is within a class; plain otherwise. stages: when the losses of
    classes and stops set in, None for at once. seen: batches before the end of the last one.
    """

    def __init__(self, net: RSIS, weights: Weights = Weights(), *, masked: bool = True,
                 stages: Stages | None = None) -> None:
        super().__init__()
        self.net, self.weights, self.masked, self.stages = net, weights, masked, stages
        self.seen = 0

    def forward(self, batch: ObjectBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums, counts and weights (3,) of the losses of masks, classes and stops, or
        (1,) of W-RSIS': each is weight * sum / count over the batches of all processes."""
        if self.training:
            self.seen = batch.number + 1
        return self.losses(self.found(batch, int(batch.objects.max()) + 1), batch)

    def found(self, batch: ObjectBatch, most: int | None = None) -> Found:
        """Return what the net draws: of RSIS at most so many steps, later ones teach nothing."""
        net, spec = self.net, self.net.spec
        images = net.normalise(batch.photos).contiguous(memory_format=torch.channels_last)
        if spec.token is not None:
            return net(images, tokens=batch.tokens)
        return net(images, min(spec.steps, most or spec.steps))

    def losses(self, found: Found, batch: ObjectBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the losses of ``forward`` for what was drawn."""
        spec = self.net.spec
        objects = batch.objects.clamp(max=spec.steps)
        cost = soft_iou_costs(found.masks, batch.masks, batch.valid)
        paired = self._paired(cost, objects, batch)
        some, taken = paired >= 0, paired.clamp(min=0)
        masks = cost.gather(2, taken[:, :, None])[:, :, 0][some].sum(), some.sum().float()
        if spec.token is not None:
            return masks[0][None], masks[1][None], cost.new_tensor([self.weights.mask])
        true = batch.classes.gather(1, taken)[some]
        classes = F.cross_entropy(found.classes[some].float(), true, reduction="sum"), masks[1]
        stops = stop_loss(found.stops, objects, self.weights.balance, spec.steps)
        cls, stop = (True, True) if self.stages is None else self.stages.of(batch.number)
        weights = self.weights.mask, self.weights.cls * cls, self.weights.stop * stop
        return (torch.stack([masks[0], classes[0], stops[0]]),
                torch.stack([masks[1], classes[1], stops[1]]), cost.new_tensor(weights))

    @torch.no_grad()
    def judge(self, batch: ObjectBatch, device: torch.device, bf16: bool = False
              ) -> tuple[Found, Tensor, Tensor]:
        """Return what the net draws in all its steps, and sums and counts of the losses."""
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = self.found(batch)
            return found, *self.losses(found, batch)[:2]

    def _paired(self, cost: Tensor, objects: Tensor, batch: ObjectBatch) -> Tensor:
        """The object of each step, int64 (B,S), -1 for none."""
        numbers = np.nan_to_num(cost.detach().cpu().numpy(), nan=PADDED)  # the loss stays one
        steps, held = objects.cpu().numpy(), batch.objects.cpu().numpy()
        classes = (None, None)
        if self.net.spec.token is not None and self.masked:
            classes = batch.tokens.cpu().numpy(), batch.classes.cpu().numpy()
        return torch.from_numpy(match(numbers, steps, held, *classes)).to(cost.device)
