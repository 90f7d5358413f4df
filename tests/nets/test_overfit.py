"""Every head, and a whole net, can learn eight real photos by heart."""

from __future__ import annotations

import importlib.util
import json
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageDraw

torch = pytest.importorskip("torch")

from tests.conftest import ROOT  # noqa: E402
from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets.layers import resize  # noqa: E402
from wsseg.nets.segmenter import NetSpec, build  # noqa: E402
from wsseg.nets.spec import HEADS  # noqa: E402
from wsseg.nets.weights import load_init  # noqa: E402

QUICKSTART = ROOT / "examples" / "quickstart"
CLASSES = tuple((QUICKSTART / "classes.txt").read_text().split())
SIZE = 97
BACKBONE = "efficientnet-lite0"


@cache
def photos() -> tuple:
    """The quickstart's photos uint8 (8,97,97,3), and its polygons drawn, int64 (8,97,97)."""
    spec = importlib.util.spec_from_file_location("photos", QUICKSTART / "photos.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = [], []
    for key, photo in module.PHOTOS.items():
        try:
            path = module.locate(photo)
        except SystemExit as error:
            pytest.skip(str(error))
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB").resize((SIZE, SIZE))))
        data = json.loads((QUICKSTART / "reference" / f"{key}.json").read_text())
        scale = (SIZE / data["imageWidth"], SIZE / data["imageHeight"])
        label = Image.new("L", (SIZE, SIZE), 0)
        for shape in data["shapes"]:
            value = 255 if shape["label"] == "ignore" else CLASSES.index(shape["label"])
            xy = [(x * scale[0], y * scale[1]) for x, y in shape["points"]]
            ImageDraw.Draw(label).polygon(xy, fill=value)
        labels.append(np.asarray(label))
    return (torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack(labels).astype(np.int64)))


def fresh(head: str, stride: int = 8, **more) -> torch.nn.Module:
    torch.manual_seed(0)
    net = build(NetSpec(BACKBONE, head, len(CLASSES), stride=stride, width=64, dropout=0.0,
                        frozen_norm=True, **more))
    try:
        load_init(net, "imagenet")
    except WssegError:  # the weights are an extra; random features will do as well
        pass
    return net.to(memory_format=torch.channels_last)


def fit(forward, parameters, labels, steps: int, rate: float) -> None:
    """Take Adam steps on all photos at once, until they are learnt or the steps are used up."""
    optimiser = torch.optim.Adam(parameters, rate)
    for _ in range(steps):
        maps = resize(forward(), labels.shape[1:])
        if accuracy(maps.detach(), labels) > 0.965:
            break
        loss = torch.nn.functional.cross_entropy(maps, labels, ignore_index=255)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def accuracy(logits, labels) -> float:
    """Share of the labelled pixels that are right."""
    right = resize(logits, labels.shape[1:]).argmax(1) == labels
    return right[labels != 255].float().mean().item()


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_eight_photos_by_heart(head):
    """The backbone is fixed, so its features are computed once."""
    images, labels = photos()
    net = fresh(head)
    with torch.no_grad():
        low, high = net.backbone.eval()(net.normalise(images))
    branch = net.branches["strong"]
    fit(lambda: branch(low, high), branch.parameters(), labels, 120, 3e-3)
    branch.eval()
    with torch.no_grad():
        assert accuracy(branch(low, high), labels) > 0.95


def test_a_whole_net_with_two_branches_learns_through_its_backbone():
    images, labels = photos()
    net = fresh("conv6", 16, dual=True, shared=2)
    pixels = net.normalise(images)
    background = (labels == 0)[labels != 255].float().mean().item()
    start = [p.detach().clone() for p in net.backbone.parameters()]
    fit(lambda: torch.cat(net.forward_pair(pixels, 4)),
        [p for p in net.parameters() if p.requires_grad], labels, 10, 2e-3)
    net.eval()
    with torch.no_grad():
        assert accuracy(torch.cat(net.forward_pair(pixels, 4)), labels) > background + 0.1
    moved = [not torch.equal(a, b) for a, b in zip(start, net.backbone.parameters())
             if b.requires_grad]
    assert all(moved)
