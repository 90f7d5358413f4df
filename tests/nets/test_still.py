"""Convolution, norm and ReLU in one step, against one after the other."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests import tinynet  # noqa: E402
from wsseg.nets import still  # noqa: E402
from wsseg.nets.backbones import build_backbone  # noqa: E402
from wsseg.nets.classifier import ClassifierSpec, build  # noqa: E402
from wsseg.nets.depthwise import Depthwise  # noqa: E402
from wsseg.nets.layers import FrozenNorm, freeze_norms, normed  # noqa: E402
from wsseg.nets.running import evaluating  # noqa: E402

needs_ops = pytest.mark.skipif(not still._usable(), reason="this torch has no such convolutions")
CONVS = {"1x1": lambda: nn.Conv2d(12, 8, 1, bias=False),
         "strided 1x1": lambda: nn.Conv2d(12, 8, 1, 2, bias=False),
         "3x3": lambda: nn.Conv2d(12, 8, 3, 2, 1, bias=False),
         "dilated": lambda: nn.Conv2d(12, 8, 3, 1, 2, 2, bias=False),
         "depthwise": lambda: Depthwise(12, 5, 2, 1),
         "dilated depthwise": lambda: Depthwise(12, 3, 1, 4)}
ACTS = {"none": None, "relu": nn.ReLU(), "in place": nn.ReLU(inplace=True), "relu6": nn.ReLU6(),
        "identity": nn.Identity()}


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """Norms that do something."""
    torch.manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in ((norm.weight, .5, 1.5), (norm.bias, -1, 3),
                                      (norm.running_mean, -1, 1), (norm.running_var, .5, 2)):
                nn.init.uniform_(tensor, low, high)
    return module


def after_another(conv, norm, x, act):
    found = norm(conv(x))
    return found if act is None else copy.deepcopy(act)(found)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("name", CONVS)
@torch.no_grad()
def test_one_step_gives_what_three_give(name, act):
    torch.manual_seed(1)
    conv, act = CONVS[name](), ACTS[act]
    norm = stirred(FrozenNorm(conv.out_channels))
    kept = still.settle(copy.deepcopy(norm))
    for batch, height, width in ((1, 9, 11), (1, 9, 11), (1, 9, 11), (2, 9, 11), (1, 12, 5),
                                 (1, 9, 11)):
        x = 3 * torch.randn(batch, 12, height, width)
        expected = after_another(conv, norm, x, act)
        for given in (x, x.contiguous(memory_format=torch.channels_last)):
            before = given.clone()
            for one in (norm, kept):
                torch.testing.assert_close(normed(conv, one, given, act), expected, atol=1e-5,
                                           rtol=1e-5)
            assert torch.equal(given, before)


@needs_ops
@torch.no_grad()
def test_bits_do_not_depend_on_the_images_that_came_before():
    torch.manual_seed(1)
    conv, act = nn.Conv2d(48, 96, 1, bias=False), nn.ReLU6()
    for conv in (conv, nn.Conv2d(48, 32, 3, padding=1, bias=False), Depthwise(48, 5)):
        norm = still.settle(stirred(FrozenNorm(conv.out_channels)))
        images = [torch.randn(1, 48, *size).contiguous(memory_format=torch.channels_last)
                  for size in ((17, 21), (17, 21), (33, 40))]
        alone = [normed(conv, still.settle(copy.deepcopy(norm)), x, act) for x in images]
        for order in itertools.permutations(range(3)):
            for i in (*order, *order[::-1]):
                assert torch.equal(normed(conv, norm, images[i], act), alone[i])


@needs_ops
@pytest.mark.parametrize("room, shapes", [(0, 1), (2, 2), (100, 6)])
@torch.no_grad()
def test_layouts_are_kept_for_as_many_shapes_as_there_is_room_for(monkeypatch, room, shapes):
    conv, norm = nn.Conv2d(12, 8, 3, bias=False), stirred(FrozenNorm(8))
    kept = still.settle(copy.deepcopy(norm))
    monkeypatch.setattr(still, "_MOST", room * conv.weight.nbytes)
    for width in (5, 6, 7, 8, 9, 10, 5, 6):
        x = torch.randn(1, 12, 9, width).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(normed(conv, kept, x), norm(conv(x)), atol=1e-5, rtol=1e-5)
    assert len(kept.kept._last.packed) == shapes


@needs_ops
@torch.no_grad()
def test_what_it_is_not_for_runs_as_before(monkeypatch):
    conv, x = nn.Conv2d(4, 4, 1, bias=False), torch.randn(1, 4, 5, 5)
    norm = stirred(FrozenNorm(4))
    assert still.fused(conv, norm, x, None) is not None
    plain = nn.BatchNorm2d(4).eval()
    assert still.fused(conv, plain, x, None) is None  # bit for bit what torch gives
    assert still.fused(conv, still.settle(copy.deepcopy(plain)), x, None) is not None
    assert still.fused(conv, still.settle(copy.deepcopy(plain)).train(), x, None) is None
    assert still.fused(nn.Conv2d(4, 4, 1), norm, x, None) is None
    assert still.fused(conv, norm, x, nn.Sigmoid()) is None
    assert still.fused(conv, nn.Identity(), x, None) is None
    assert still.fused(copy.deepcopy(conv).double(), norm, x.double(), None) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert still.fused(conv, norm, x, None) is None
    with torch.enable_grad():
        assert still.fused(conv, norm, x, None) is None
    monkeypatch.setattr(still, "_usable", lambda: False)
    assert still.fused(conv, norm, x, None) is None
    torch.testing.assert_close(normed(conv, norm, x, nn.ReLU()), norm(conv(x)).relu())


@needs_ops
@torch.no_grad()
def test_weights_that_change_are_seen():
    conv, norm = nn.Conv2d(4, 6, 3, padding=1, bias=False), still.settle(stirred(FrozenNorm(6)))
    x = torch.randn(1, 4, 8, 8)
    for change in (lambda: conv.weight.mul_(2), lambda: norm.bias.add_(1),
                   lambda: norm.load_state_dict(stirred(FrozenNorm(6), 3).state_dict()),
                   lambda: setattr(conv, "weight", nn.Parameter(conv.weight.flip(0)))):
        for _ in range(3):
            normed(conv, norm, x)
        change()
        torch.testing.assert_close(normed(conv, norm, x), norm(conv(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ("efficientnet-lite0", "resnet50", "xception65"))
@torch.no_grad()
def test_a_whole_settled_backbone_gives_the_same_features(name):
    net = stirred(build_backbone(name, 16)).eval()
    image = torch.randn(1, 3, 65, 49).contiguous(memory_format=torch.channels_last)
    expected = net(image)
    quick = still.settle(freeze_norms(copy.deepcopy(net)))
    for _ in range(3):
        for found, one in zip(quick(image), expected):
            assert (found - one).abs().max() < 1e-5 * max(1, one.abs().max())


def test_gradients_are_those_of_a_net_that_is_not_settled():
    conv, norm = nn.Conv2d(4, 6, 3, bias=False), stirred(FrozenNorm(6))
    x = torch.randn(2, 4, 8, 8)
    grads = []
    for one in (norm, still.settle(copy.deepcopy(norm))):
        with torch.no_grad():
            normed(conv, one, x)
        grads.append(torch.autograd.grad(normed(conv, one, x, nn.ReLU()).sum(), conv.weight)[0])
    assert torch.equal(*grads)


@torch.no_grad()
def test_what_is_kept_is_in_no_state_and_no_copy():
    net = nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), stirred(FrozenNorm(6)))
    names = list(net.state_dict())
    still.settle(net)
    for _ in range(3):
        normed(net[0], net[1], torch.randn(1, 4, 8, 8))
    assert list(net.state_dict()) == names and still.settled(net)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert still.settled(twin) and twin[1].kept._last.weight is None


def test_a_net_is_settled_while_it_is_evaluated(monkeypatch):
    tinynet.install(monkeypatch)
    net = stirred(build(ClassifierSpec("tiny", 3))).train()
    with evaluating(net):
        assert still.settled(net) and not net.training
    assert not still.settled(net) and net.training
    still.settle(net)
    with evaluating(net):
        pass
    assert still.settled(net)
    still.stir(net)
    assert not still.settled(net)


def test_trying_it_draws_no_random_number():
    state = torch.get_rng_state()
    still._usable.cache_clear()
    still._usable()
    assert torch.equal(state, torch.get_rng_state())
