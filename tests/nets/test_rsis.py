"""RSIS' decoder against plain ConvLSTMs, W-RSIS' tokens against one-hot maps, specs, files."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from tests import tinylevels  # noqa: E402
from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets.layers import FrozenNorm, freeze_norms, resize  # noqa: E402
from wsseg.nets.levels import levels  # noqa: E402
from wsseg.nets.model import load_model, model_bytes  # noqa: E402
from wsseg.nets.rsis import RSISSpec, build  # noqa: E402
from wsseg.train.optim import GROUPS  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny")


@pytest.fixture
def tiny(monkeypatch):
    tinylevels.install(monkeypatch)


def made(token=None, hidden=32, **more):
    torch.manual_seed(1)
    net = build(RSISSpec(tinylevels.NAME, 4, hidden, 5, (64, 64), token, **more)).eval()
    for name, parameter in net.decoder.named_parameters():
        if "shift" in name or "scale" in name:
            torch.nn.init.normal_(parameter)
    return net


def usual(net, images, steps, onehot=None):
    """The decoder as its paper draws it: each ConvLSTM is one convolution of all its inputs.
    onehot: (B,T,K), maps of which go to the cells that are told, as more inputs."""
    features = levels(net.backbone, images)[::-1]
    skips = [skip(f) for skip, f in zip(net.skips, features)]
    states = [None] * 5
    masks, classes, stops = [], [], []
    for t in range(steps):
        before = None
        for i, (cell, skip) in enumerate(zip(net.decoder.cells, skips)):
            size = skip.shape[2:]
            h, c = states[i] or (skip.new_zeros(len(skip), cell.hidden, *size),) * 2
            inputs, weights = [skip], [cell.skip.weight]
            if before is not None:
                inputs.append(F.interpolate(before, size, mode="bilinear", align_corners=True))
            inputs.append(h)
            weights.append(cell.gates.weight)
            if cell.shift is not None:
                told = onehot[:, t, :, None, None].expand(-1, -1, *size)
                kernel = torch.zeros(4 * cell.hidden, onehot.shape[2], 3, 3)
                kernel[:, :, 1, 1] = cell.shift.weight.T
                inputs.append(told)
                weights.append(kernel)
            gates = F.conv2d(torch.cat(inputs, 1), torch.cat(weights, 1), cell.skip.bias,
                             padding=1)
            i_, f, o, g = gates.chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i_) * torch.tanh(g)
            states[i] = before, _ = torch.sigmoid(o) * torch.tanh(c), c
        masks.append(net.decoder.mask(resize(before, images.shape[2:]))[:, 0])
        if net.decoder.cls is not None:
            side = torch.cat([F.adaptive_max_pool2d(h, 1).flatten(1) for h, _ in states], 1)
            classes.append(net.decoder.cls(side))
            stops.append(net.decoder.stop(side)[:, 0])
    return [torch.stack(v, 1) for v in (masks, classes, stops) if v]


@torch.no_grad()
def test_the_decoder_is_five_convlstms():
    net, images = made(), torch.randn(2, 3, 64, 80)
    found, expected = net(images, 3), usual(net, images, 3)
    assert found.masks.shape == (2, 3, 64, 80)
    assert found.classes.shape == (2, 3, 4) and found.stops.shape == (2, 3)
    for a, b in zip((found.masks, found.classes, found.stops), expected):
        assert torch.allclose(a, b, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("token", ["first", "all"])
def test_a_token_is_a_map_of_its_one_hot(token):
    """Through the middle of a 3x3 kernel."""
    net, images = made(token), torch.randn(2, 3, 64, 64)
    tokens = torch.tensor([[1, 1, 2], [3, 2, 1]])
    found = net(images, tokens=tokens)
    assert found.classes is None and found.stops is None
    expected = usual(net, images, 3, F.one_hot(tokens, 4).float())
    assert torch.allclose(found.masks, expected[0], atol=1e-5)
    told = [cell.shift is not None for cell in net.decoder.cells]
    assert told == [True] + [token == "all"] * 4


@torch.no_grad()
def test_film_without_scale_is_a_token_everywhere():
    images, tokens = torch.randn(1, 3, 64, 64), torch.tensor([[1, 3]])
    film, plain = made("film"), made("all")
    plain.load_state_dict({k: v for k, v in film.state_dict().items() if ".scale." not in k},
                          strict=True)
    assert not torch.allclose(film(images, tokens=tokens).masks, plain(images, tokens=tokens).masks)
    for cell in film.decoder.cells:
        torch.nn.init.zeros_(cell.scale.weight)
    assert torch.equal(film(images, tokens=tokens).masks, plain(images, tokens=tokens).masks)


@torch.no_grad()
def test_steps_to_come_change_nothing():
    net, images = made(), torch.randn(1, 3, 64, 64)
    assert torch.equal(net(images, 5).masks[:, :2], net(images, 2).masks)
    assert net(images).masks.shape[1] == net.spec.steps
    told, tokens = made("first"), torch.tensor([[1, 2, 3]])
    other = torch.tensor([[1, 2, 1]])
    a, b = told(images, tokens=tokens).masks, told(images, tokens=other).masks
    assert torch.equal(a[:, :2], b[:, :2]) and not torch.allclose(a[:, 2], b[:, 2])


def test_tokens_are_for_w_rsis_alone():
    images, tokens = torch.randn(1, 3, 64, 64), torch.tensor([[1]])
    for net, given in ((made(), tokens), (made("first"), None)):
        with pytest.raises(ValueError, match="W-RSIS needs tokens, and RSIS takes none"):
            net(images, tokens=given)


@pytest.mark.parametrize("token", [None, "film"])
def test_every_parameter_is_in_one_group(token):
    net = made(token)
    groups = net.parameter_groups()
    assert set(groups) == set(GROUPS)
    flat = [id(p) for part in groups.values() for p in part]
    assert sorted(flat) == sorted(id(p) for p in net.parameters())
    assert len(groups["backbone_norm"]) == 10 and len(groups["new_norm"]) == 10
    rest = len(list(freeze_norms(net).parameters())) - sum(
        2 for m in net.modules() if isinstance(m, FrozenNorm))
    assert sum(map(len, net.parameter_groups().values())) == rest


@pytest.mark.parametrize("token", [None, "first", "film"])
def test_a_model_is_read_back_as_it_was(tmp_path, token):
    net, images = made(token), torch.randn(1, 3, 64, 64)
    task = "rsis" if token is None else "wrsis"
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_bytes(net, {"task": task, "classes": list("abcd")}))
    again, card = load_model(path, task=task)
    assert again.spec == net.spec and card["task"] == task
    tokens = None if token is None else torch.tensor([[1, 3]])
    with torch.no_grad():
        assert torch.allclose(again(images, 2, tokens).masks, net(images, 2, tokens).masks,
                              atol=1e-5)


def test_specs_come_back_from_json():
    spec = RSISSpec(tinylevels.NAME, 21, 48, 7, (64, 96), "all", "count", True)
    assert RSISSpec.from_json(spec.as_json()) == spec
    assert RSISSpec.from_json({"backbone": "resnet101", "classes": 21}).widths == (
        128, 64, 32, 16, 8)


@pytest.mark.parametrize("wrong, said", [
    ({"backbone": "resnet11"}, "no backbone 'resnet11'"), ({"hidden": 24}, "a multiple of 16"),
    ({"steps": 0}, "steps is 0"), ({"steps": 10 ** 9}, "steps is"), ({"size": [64]}, "size"),
    ({"size": [64, True]}, "size is True"), ({"token": "none"}, "no token 'none'"),
    ({"order": 3}, "no order 3"), ({"frozen_norm": 1}, "frozen_norm is 1"),
    ({"hiden": 16}, "did you mean hidden?"), ({"classes": None}, "classes is None")])
def test_wrong_specs_are_one_line(wrong, said):
    with pytest.raises(WssegError) as error:
        RSISSpec.from_json({"backbone": tinylevels.NAME, "classes": 3, **wrong})
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(WssegError, match="classes is missing"):
        RSISSpec.from_json({"backbone": tinylevels.NAME})
    with pytest.raises(WssegError, match="described by an object"):
        RSISSpec.from_json([])
