"""RSIS: a recurrent decoder that names one object of an image after the other.

Salvador et al., Recurrent Neural Networks for Semantic Instance Segmentation (2017): five
ConvLSTMs from coarse to fine, each fed by a skip from the encoder and by the one before it, give
at every step a mask, a class, and whether there was an object left. W-RSIS (budget-2019) is told
the class of the object to draw at each step, and gives masks alone.

Where W-RSIS' one-hot enters is not stated there. A map of one value through a 3x3 convolution is
one vector but at its border, so here each class has a vector that is added to the gates, of the
first ConvLSTM (``first``) or of all (``all``), or that also scales them (``film``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsseg.nets.base import Net
from wsseg.nets.layers import resize
from wsseg.nets.levels import stages
from wsseg.nets.rsis_spec import RSISSpec

__all__ = ["RSIS", "RSISSpec", "Found", "build"]

State = tuple[Tensor, Tensor]


@dataclass
class Found:
    """What the steps of a batch gave, as logits: masks (B,T,H,W); classes (B,T,K) and stops
    (B,T), above 0 where an object was left; both None for W-RSIS."""

    masks: Tensor
    classes: Tensor | None = None
    stops: Tensor | None = None


class Cell(nn.Module):
    """A ConvLSTM, 3x3, without peepholes; its input is a skip and, but for the first, what the
    one before it gave.

    Its one convolution of all inputs is here two: the skip's is the same at every step.
    """

    def __init__(self, skip: int, before: int, hidden: int, classes: int = 0, film: bool = False
                 ) -> None:
        super().__init__()
        self.hidden = hidden
        self.skip = nn.Conv2d(skip, 4 * hidden, 3, padding=1)
        self.gates = nn.Conv2d(before + hidden, 4 * hidden, 3, padding=1, bias=False)
        bound = 1 / math.sqrt(9 * (skip + before + hidden))  # as if they were one
        for weight in (self.skip.weight, self.skip.bias, self.gates.weight):
            nn.init.uniform_(weight, -bound, bound)
        self.shift = self.scale = None
        if classes:
            self.shift = nn.Embedding(classes, 4 * hidden)
            nn.init.normal_(self.shift.weight, std=.1)
        if classes and film:
            self.scale = nn.Embedding(classes, 4 * hidden)
            nn.init.zeros_(self.scale.weight)

    def forward(self, fixed: Tensor, before: Tensor | None, state: State | None,
                token: Tensor | None) -> State:
        """One step. fixed: ``skip`` of the features; token: classes (B,). Returns h and c."""
        if state is None:
            hidden = fixed.new_zeros((len(fixed), self.hidden, *fixed.shape[2:]))
        else:
            hidden = state[0]
        total = fixed
        if before is not None:
            total = total + self.gates(torch.cat([before, hidden], 1))
        elif state is not None:
            total = total + self.gates(hidden)
        if self.scale is not None:
            total = total * (1 + self.scale(token)[:, :, None, None])
        if self.shift is not None:
            total = total + self.shift(token)[:, :, None, None]
        enter, forget, leave, value = total.chunk(4, 1)
        cell = enter.sigmoid() * value.tanh()
        if state is not None:
            cell = cell + forget.sigmoid() * state[1]
        return leave.sigmoid() * cell.tanh(), cell


class Decoder(nn.Module):
    """The five ConvLSTMs, coarse to fine, and what is read from them."""

    def __init__(self, spec: RSISSpec) -> None:
        super().__init__()
        widths = spec.widths
        told = {None: (), "first": (0,)}.get(spec.token, range(5))
        self.cells = nn.ModuleList(
            Cell(widths[max(0, i - 1)], widths[i - 1] if i else 0, width,
                 spec.classes if i in told else 0, spec.token == "film")
            for i, width in enumerate(widths))
        self.mask = nn.Conv2d(widths[-1], 1, 3, padding=1)
        self.cls = self.stop = None
        if spec.token is None:
            self.cls = nn.Linear(sum(widths), spec.classes)
            self.stop = nn.Linear(sum(widths), 1)

    def forward(self, skips: list[Tensor], size: tuple[int, int], steps: int,
                tokens: Tensor | None) -> Found:
        fixed = [cell.skip(skip) for cell, skip in zip(self.cells, skips)]
        states: list[State | None] = [None] * len(self.cells)
        masks, seen = [], []
        for step in range(steps):
            token = None if tokens is None else tokens[:, step]
            before = None
            for i, cell in enumerate(self.cells):
                if before is not None:
                    before = resize(before, fixed[i].shape[2:])
                states[i] = cell(fixed[i], before, states[i], token)
                before = states[i][0]
            masks.append(self.mask(resize(before, size))[:, 0])
            if self.cls is not None:
                seen.append(torch.cat([h.amax((2, 3)) for h, _ in states], 1))
        found = Found(torch.stack(masks, 1))
        if self.cls is not None:
            side = torch.stack(seen, 1)
            found.classes, found.stops = self.cls(side), self.stop(side)[:, :, 0]
        return found


class RSIS(Net):
    """Normalised images float (B,3,H,W) -> one object at each step."""

    def __init__(self, spec: RSISSpec) -> None:
        super().__init__(spec, 32)
        channels = stages(self.backbone)[1]
        widths = (spec.widths[0], *spec.widths[:-1])
        self.skips = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1, bias=False),
                          nn.BatchNorm2d(width))
            for inputs, width in zip(channels[::-1], widths))
        self.decoder = Decoder(spec)

    def forward(self, images: Tensor, steps: int | None = None, tokens: Tensor | None = None
                ) -> Found:
        """Return masks at the images' size. steps: the spec's by default; tokens: for W-RSIS,
        the class of each step, int64 (B,T), which then says how many there are. Raises
        ValueError for tokens where there may be none, or none where there must be."""
        if (tokens is None) != (self.spec.token is None):
            raise ValueError("W-RSIS needs tokens, and RSIS takes none")
        if tokens is not None:
            steps = tokens.shape[1]
        return self.decoder(self.encode(images), images.shape[2:], steps or self.spec.steps, tokens)

    def encode(self, images: Tensor) -> list[Tensor]:
        """The skips of the decoder, that of stride 32 first."""
        features = []
        for stage in stages(self.backbone)[0]:
            images = stage(images)
            features.append(images)
        return [skip(x) for skip, x in zip(self.skips, features[::-1])]

    def compile(self, *args: object, **options: object) -> None:
        """``torch.compile`` the encoder: the decoder has another number of steps for each batch."""
        self.encode = torch.compile(self.encode, *args, **options)

    def classifiers(self) -> list[nn.Linear]:
        """The layers whose rows are classes."""
        return [] if self.decoder.cls is None else [self.decoder.cls]


def build(spec: RSISSpec) -> RSIS:
    """Return the net of a spec with random weights, in training mode."""
    return RSIS(spec)
