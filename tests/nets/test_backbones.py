"""The backbones against torchvision, timm, a plain walk over the weights, and themselves."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets.backbones import BACKBONES, build_backbone  # noqa: E402
from wsseg.nets.depthwise import Depthwise  # noqa: E402
from wsseg.nets.efficientnet_lite import EfficientNetLite, rounded  # noqa: E402
from wsseg.nets.layers import FewNorm, FrozenNorm  # noqa: E402
from wsseg.nets.vgg import VGG16  # noqa: E402
from wsseg.nets.weights import _imagenet  # noqa: E402
from wsseg.nets.xception import Xception65  # noqa: E402

FAST = ("vgg16", "resnet50", "efficientnet-lite0")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def stirred(net: torch.nn.Module) -> torch.nn.Module:
    """The net in evaluation, with statistics and offsets that are not 0 and 1."""
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return net.eval()


def twin(name: str, stride: int, source: torch.nn.Module) -> torch.nn.Module:
    net = build_backbone(name, stride)
    net.load_state_dict(source.state_dict())
    return net.eval()


@pytest.mark.parametrize("name, first, second", [
    ("resnet50", 32, 16), ("xception65", 32, 8),
    ("efficientnet-lite0", 32, 8), ("efficientnet-lite2", 32, 16), ("vgg16", 32, 16)])
@torch.no_grad()
def test_a_dilated_net_is_the_strided_one_in_between_its_positions(name, first, second):
    coarse = stirred(build_backbone(name, first))
    fine = twin(name, second, coarse)
    image = torch.randn(1, 3, 65, 97)
    (low, high), (same, dense) = coarse(image), fine(image)
    assert (coarse.stride, fine.stride) == (first, second)
    assert high.shape[2:] == (64 // first + 1, 96 // first + 1)
    assert dense.shape[2:] == (64 // second + 1, 96 // second + 1)
    torch.testing.assert_close(low, same)
    step = first // second
    assert (dense[:, :, ::step, ::step] - high).abs().max() < 2e-5 * high.abs().max()


@torch.no_grad()
def test_dilated_vgg_is_the_strided_one_up_to_its_last_pool():
    """DeepLab's pool5 stays undilated, so only conv5_3 can be compared at stride 8."""
    coarse = stirred(VGG16(16))
    fine = twin("vgg16", 8, coarse)
    image = torch.randn(1, 3, 65, 65)
    torch.testing.assert_close(fine.features[:-1](image)[:, :, ::2, ::2],
                               coarse.features[:-1](image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pools, last", [("3x3", 2), ("removed", 0)])
def test_vgg_of_stride_8_keeps_or_drops_its_last_two_pools(pools, last):
    net = VGG16(8, pools=pools)
    kept = [m for m in net.features if isinstance(m, torch.nn.MaxPool2d)]
    assert [m.stride for m in kept] == [2, 2, 2] + [1] * last
    assert {m.dilation[0] for m in net.features[-7:] if isinstance(m, torch.nn.Conv2d)} == {2}
    assert net(torch.zeros(1, 3, 33, 33))[1].shape == (1, 512, 5, 5)


@pytest.mark.parametrize("name", ("resnet50", "resnet101", "vgg16"))
@torch.no_grad()
def test_torchvisions_weights_give_torchvisions_features(name):
    models = pytest.importorskip("torchvision.models")
    with torch.random.fork_rng():
        theirs = models.get_model(name, weights=None, init_weights=False) if name == "vgg16" \
            else models.get_model(name, weights=None)
    stirred(theirs)
    ours = (VGG16(32, pools="2x2") if name == "vgg16" else build_backbone(name, 32)).eval()
    state = {k: v for k, v in theirs.state_dict().items()
             if not k.startswith(("fc.", "classifier."))}
    ours.load_state_dict(state)
    image = torch.randn(1, 3, 64, 64)
    if name == "vgg16":
        low, high = theirs.features[:16](image), theirs.features(image)
    else:
        low = theirs.layer1(theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image)))))
        high = theirs.layer4(theirs.layer3(theirs.layer2(low)))
    assert torch.equal(ours(image)[0], low)
    assert torch.equal(ours(image)[1], high)


def walk(state: dict, image: torch.Tensor, strides: list[int]) -> tuple:
    """EfficientNet-Lite from its weights alone, in plain functions, padded as TensorFlow does."""
    def norm(x, name):
        return F.batch_norm(x, *(state[f"{name}.{k}"] for k in (
            "running_mean", "running_var", "weight", "bias")), False, 0.0, 1e-3)

    def conv(x, name, stride=1, groups=1):
        weight = state[name + ".weight"]
        k = weight.shape[2]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + k - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, None, stride, 0, 1, groups)

    x = F.relu6(norm(conv(image, "_conv_stem", 2), "_bn0"))
    low, total = None, 2
    for n, stride in enumerate(strides):
        at, y = f"_blocks.{n}", x
        if f"{at}._expand_conv.weight" in state:
            y = F.relu6(norm(conv(y, f"{at}._expand_conv"), f"{at}._bn0"))
        y = F.relu6(norm(conv(y, f"{at}._depthwise_conv", stride, y.shape[1]), f"{at}._bn1"))
        y = norm(conv(y, f"{at}._project_conv"), f"{at}._bn2")
        x = x + y if x.shape == y.shape else y
        total *= stride
        low = x if total == 4 else low
    return low, x


#: Strides of the blocks, from the repeats of each stage that the paper's depth factors give.
REPEATS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}


@pytest.mark.parametrize("variant", (0, 1, 2))
@torch.no_grad()
def test_efficientnet_lite_is_bit_equal_to_a_plain_walk_over_its_published_weights(variant):
    try:
        path = _imagenet(f"efficientnet-lite{variant}")
    except WssegError as error:
        pytest.skip(str(error))
    state = torch.load(path, weights_only=True)
    strides = [s if n == 0 else 1 for s, repeats in zip((1, 2, 2, 2, 1, 2, 1), REPEATS[variant])
               for n in range(repeats)]
    own = {k: v for k, v in state.items() if not k.startswith(("_conv_head.", "_bn1.", "_fc."))}
    for same, size in ((True, (64, 96)), (True, (65, 97)), (False, (65, 97))):
        net = EfficientNetLite(variant, 32, same=same)
        net.load_state_dict(own)
        image = torch.randn(1, 3, *size)
        for ours, theirs in zip(net.eval()(image), walk(state, image, strides)):
            assert torch.equal(ours, theirs)


def test_widths_are_rounded_as_published():
    assert [rounded(n * 1.1) for n in (16, 24, 40, 80, 112, 192, 320)] \
        == [16, 24, 48, 88, 120, 208, 352]


def test_the_weights_of_timms_xception_fit_by_name():
    names = set(Xception65().state_dict())
    assert {"stem.0.conv.weight", "stem.1.bn.running_var", "blocks.0.shortcut.conv.weight",
            "blocks.1.stack.conv3.conv_dw.weight", "blocks.19.shortcut.bn.bias",
            "blocks.20.stack.conv3.bn_pw.weight"} <= names
    assert not {n for n in names if n.startswith(("blocks.3.shortcut", "blocks.20.shortcut"))}
    assert sum(p.numel() for p in Xception65().parameters()) == 37_867_312  # timm's, without head


@pytest.mark.parametrize("stride", (32, 16))
@torch.no_grad()
def test_xception_is_timms(stride):
    timm = pytest.importorskip("timm.models.xception_aligned")
    theirs = stirred(timm.xception65(output_stride=stride))
    ours = Xception65(stride).eval()
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k[:5] != "head."})
    image = torch.randn(1, 3, 65, 65)
    last, between = theirs.forward_intermediates(image)
    assert torch.equal(ours(image)[1], last)
    assert torch.equal(ours(image)[0], between[1])


@pytest.mark.parametrize("name", FAST)
def test_frozen_norms_stay_frozen(name):
    net = build_backbone(name, 16, frozen_norm=True)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert bool(norms) == (name != "vgg16")
    plain = build_backbone(name, 16)
    assert net.state_dict().keys() == plain.state_dict().keys()
    net.train()
    before = {k: v.clone() for k, v in net.state_dict().items() if "running" in k}
    net(torch.randn(2, 3, 33, 33))[1].sum().backward()
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())
    assert all(isinstance(m, FrozenNorm) and not m.training for m in norms)
    assert all(p.grad is None for m in norms for p in m.parameters())
    assert next(net.parameters()).grad is not None


def test_every_backbone_says_what_it_gives():
    for name in BACKBONES:
        if name not in ("resnet101", "efficientnet-lite2"):  # seen above
            net = build_backbone(name, 16).eval()
            low, high = net(torch.zeros(1, 3, 33, 33))
            assert (low.shape[1], high.shape[1]) == net.channels
            assert (low.shape[2], high.shape[2]) == (32 // net.low_stride + 1, 3)


@pytest.mark.parametrize("kernel, stride, dilation", [(5, 1, 1), (5, 2, 1), (5, 1, 2), (3, 1, 4)])
def test_the_depthwise_gradients_are_those_of_torch(kernel, stride, dilation):
    layer = Depthwise(3, kernel, stride, dilation).double()
    x = torch.randn(2, 3, 9, 7, dtype=torch.double, requires_grad=True)
    assert torch.equal(layer(x), torch.nn.Conv2d.forward(layer, x))
    assert torch.autograd.gradcheck(layer, x)
    found = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight))
    wanted = torch.autograd.grad(torch.nn.Conv2d.forward(layer, x).square().sum(),
                                 (x, layer.weight))
    torch.testing.assert_close(found, wanted)


def test_a_norm_of_one_value_uses_its_statistics():
    norm = FewNorm(4).train()
    norm.running_mean.fill_(2.0)
    one = torch.full((1, 4, 1, 1), 5.0)
    torch.testing.assert_close(norm(one), (one - 2) / (1 + norm.eps) ** 0.5)
    assert norm.running_mean.tolist() == [2.0] * 4
    two = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1).expand(2, 4, 1, 1)
    torch.testing.assert_close(norm(two).mean(), torch.tensor(0.0))
    assert norm.running_mean.tolist() == [2.0] * 4  # the mean of 1 and 3 is 2 as well


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite0", "xception65"])
def test_a_frozen_norm_inside_its_convolution_changes_neither_features_nor_gradients(name):
    from wsseg.nets.layers import FrozenNorm, freeze_norms

    torch.manual_seed(0)
    plain = build_backbone(name, 16, False).double()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(.5, 2)
            module.weight.data.uniform_(.5, 2)
            module.bias.data.normal_()
    plain.eval()
    frozen = freeze_norms(copy.deepcopy(plain))
    assert any(isinstance(m, FrozenNorm) for m in frozen.modules())
    images = torch.randn(1, 3, 33, 33, dtype=torch.float64)
    outputs = [net(images) for net in (plain, frozen)]
    for low, high in zip(*outputs):
        torch.testing.assert_close(low, high, rtol=1e-9, atol=1e-9)
    weights = [next(m.weight for m in net.modules() if isinstance(m, torch.nn.Conv2d))
               for net in (plain, frozen)]
    grads = [torch.autograd.grad(sum(o.square().mean() for o in out), w)[0]
             for out, w in zip(outputs, weights)]
    torch.testing.assert_close(*grads, rtol=1e-7, atol=1e-9)
