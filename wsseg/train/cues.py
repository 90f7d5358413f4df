"""Cues of classes as region growing takes them: at a net's logits, inside of the photo alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from wsseg.io.record import Record
from wsseg.train.augment import Warp
from wsseg.train.samples import MAPS, Sample, Samples
from wsseg.train.tags import IGNORE, tags_vector

#: Longer side of the photos, VOC's, that a CRF's lengths in pixels are meant for.
LONGER = 500


class Cues(Samples):
    """Samples whose label maps hold cues, and 255 elsewhere.

    The classes of an image are those of its cues, and of its tags where its record has some.
    ``blind`` lists the keys that have been read and have no cue at all.
    """

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.blind: set[str] = set()

    def read(self, record: Record, photo: np.ndarray) -> Sample:
        sample = super().read(record, photo)
        if self.use in MAPS:
            if "tags" in record:
                sample.tags[:] |= tags_vector(record.get("tags"), self.classes, background=False)
            if (sample.label == IGNORE).all():
                self.blind.add(record.key)
        return sample


def cues_at(labels: Tensor, size: tuple[int, int], classes: int) -> Tensor:
    """Return the cues at the logits: int64 (B, *size), 255 where there are none.

    labels: integers (B,H,W). Logits lie corners on corners, and each pixel votes at the nearest
    one: a logit has the class of most pixels with a cue, the lowest of equals. So a thin scribble
    or a single pixel is not lost between the logits.
    """
    image, y, x = (labels != IGNORE).nonzero(as_tuple=True)
    height, width = size
    row, column = (_nearest(labels.shape[1 + i], size[i], labels.device) for i in (0, 1))
    at = ((image * classes + labels[image, y, x].long()) * height + row[y]) * width + column[x]
    votes = torch.bincount(at, minlength=len(labels) * classes * height * width)
    most, cue = votes.view(len(labels), classes, height, width).max(1)
    return cue.masked_fill_(most == 0, IGNORE)


def _nearest(length: int, count: int, device: torch.device) -> Tensor:
    """The logit nearest to each pixel: (length,)."""
    step = max(1, length - 1) / max(1, count - 1)
    pixel = torch.arange(length, device=device, dtype=torch.float64)
    return (pixel / step + .5).long().clamp_max_(count - 1)


def inside_at(warps: Sequence[Warp], size: tuple[int, int]) -> np.ndarray:
    """Return which logits lie on the photo, not on what was put around it: bool (B, *size)."""
    result = np.empty((len(warps), *size), bool)
    for image, warp in enumerate(warps):
        y, x = (np.arange(n) * ((length - 1) / max(1, n - 1)) + .5
                for n, length in zip(size, warp.size))
        here = [row[0] * x + row[1] * y[:, None] + row[2] for row in warp.matrix]
        result[image] = np.logical_and.reduce([(0 <= v) & (v < length) for v, length in
                                               zip(here, warp.source[::-1])])
    return result


def pixels_of(warps: Sequence[Warp], size: tuple[int, int]) -> np.ndarray:
    """Return how many pixels of the photo lie between two logits: float64 (B,).

    The geometric mean of both directions, before the photo was scaled to its crop, and as if its
    longer side had ``LONGER`` pixels.
    """
    steps = np.array([[(length - 1) / max(1, n - 1) for n, length in zip(size, warp.size)]
                      for warp in warps]).reshape(-1, 2)
    scales = np.array([abs(np.linalg.det(warp.matrix[:, :2])) for warp in warps])
    longer = np.array([max(warp.source) for warp in warps])
    return (np.sqrt(scales * steps.prod(1)) * LONGER / longer).clip(1e-3)
