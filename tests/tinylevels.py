"""A backbone of five small layers, so that whole runs of RSIS take seconds; and small objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from tests.conftest import write_place
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Segment
from wsseg.nets import base, spec

NAME = "fivelevels"
CHANNELS = (8, 12, 16, 24, 32)


class FiveLevels(nn.Module):
    """One strided convolution with its norm for each level."""

    stride = 32
    mean, scale = (124., 116., 104.), (.02, .02, .02)

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *CHANNELS[:-1])
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip(inputs, CHANNELS))

    def stages(self):
        return tuple(self.layers), CHANNELS


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it known until the test ends."""
    original = base.build_backbone

    def build(name: str, stride: int, frozen_norm: bool = False, pools: str = "3x3") -> nn.Module:
        return FiveLevels() if name == NAME else original(
            name, stride, frozen_norm, pools)

    monkeypatch.setattr(spec, "BACKBONES", (*spec.BACKBONES, NAME))
    monkeypatch.setattr(base, "build_backbone", build)


def squares(folder: Path, place: str, count: int, *, seed: int = 0, label: bool = False,
            height: int = 40) -> None:
    """A place of photos, 48 wide, with one to three coloured squares of cats and dogs, as
    instances or, ``label``, as a label map."""
    rng = np.random.default_rng(seed)
    colours = np.array([[110, 110, 110], [220, 60, 40], [40, 80, 230]])
    records = []
    for i in range(count):
        ids, segments = np.zeros((height, 48), np.uint16), []
        for n, x in enumerate(rng.permutation(3)[:1 + i % 3], 1):
            y, side = rng.integers(2, 24), rng.integers(9, 14)
            ids[y:y + side, 2 + 15 * x:2 + 15 * x + side] = n
            segments.append(Segment(n, int(rng.integers(1, 3))))
        classes = np.array([0, *(s.cls for s in segments)], np.uint8)[ids]
        record = Record(f"{place}{i}")
        photo = colours[classes] + rng.normal(0, 12, (*ids.shape, 3))
        record.set("image", photo.clip(0, 255).astype(np.uint8))
        if label:
            record.set("label", classes)
        else:
            record.set("instance", InstanceMap(ids, tuple(segments)))
        record.supervision.update({"masks": (1, len(segments))})
        records.append(record)
    kinds = ("image", "label") if label else ("image", "instance")
    write_place(folder / place, records, kinds=kinds)
