"""The heads on the backbones, the dual branch, the multi-scale form, and the spec."""

from __future__ import annotations

import json
from functools import cache

import pytest

torch = pytest.importorskip("torch")

from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets.backbones import build_backbone  # noqa: E402
from wsseg.nets.dualbranch import build_neck  # noqa: E402
from wsseg.nets.heads import FC, build_head, fc6_dilation, field_of_view  # noqa: E402
from wsseg.nets.layers import resize  # noqa: E402
from wsseg.nets.msc import fuse, scaled  # noqa: E402
from wsseg.nets.base import GROUPS  # noqa: E402
from wsseg.nets.segmenter import NetSpec, build  # noqa: E402
from wsseg.nets.spec import BACKBONES, HEADS  # noqa: E402

LITE = "efficientnet-lite0"


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(head: str = "aspp", **more) -> torch.nn.Module:
    more = {"classes": 3, "width": 8, **more}
    return build(NetSpec(LITE, head, **more))


@cache
def features(backbone: str) -> tuple:
    """A backbone's (low, high) of a small image, and whether it has norms."""
    torch.manual_seed(0)
    net = build_backbone(backbone, 16).eval()
    with torch.no_grad():
        low, high = net(torch.randn(2, 3, 65, 49))
    return low, high, backbone != "vgg16"


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", ("vgg16", "resnet50", "xception65", *BACKBONES[4:]))
def test_every_head_fits_every_backbone(backbone, head):
    low, high, normed = features(backbone)
    assert high.shape[2:] == (5, 4)
    spec = NetSpec(backbone, head, 7, width=8, dual=True, shared=1)
    neck, branches = build_neck(spec, low.shape[1], high.shape[1], 16, normed)
    single = build_head(NetSpec(backbone, head, 7, width=8), low.shape[1], high.shape[1], 16,
                        normed)
    size = (17, 13) if head == "deeplabv3plus" else (5, 4)
    for logits in (single(low, high), branches["weak"](low, neck(high))):
        assert logits.shape == (2, 7, *size)
    logits.square().sum().backward()
    assert all(p.grad is not None for p in branches["weak"].parameters())


@pytest.mark.parametrize("stride", (8, 16, 32))
@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_logits_come_at_the_stride_that_the_net_says(head, stride):
    net = small(head, stride=stride).eval()
    logits = net(torch.zeros(1, 3, 97, 65))
    assert logits.shape == (1, 3, 96 // net.stride + 1, 64 // net.stride + 1)
    assert net.stride == (4 if head == "deeplabv3plus" else stride)


@pytest.mark.parametrize("head", HEADS)
def test_a_single_image_trains(head):
    net = small(head).train()
    net(torch.randn(1, 3, 33, 33)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("fov, stride", [(224, 8), (128, 8), (224, 16), (128, 16)])
def test_the_field_of_view_is_what_its_name_says(fov, stride):
    """What fc6 sees by the support of a gradient: a span of cells, and pool5's 32 pixels."""
    head = FC(4, 2, 8, 0.0, fc6_dilation(fov, stride)).double()
    high = torch.rand(1, 4, 41, 41, dtype=torch.double, requires_grad=True)
    head(high, high)[0, :, 20, 20].sum().backward()
    rows = high.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (rows[-1] - rows[0]).item() * stride + 32 == fov
    assert field_of_view(fc6_dilation(fov, stride), stride) == fov


def test_large_fov_is_deeplabs():
    """7x7 dilated by 4 has the published 224 as well, 4x4 by 4 the published 128."""
    assert fc6_dilation(224, 8) == 12
    assert field_of_view(4, 8, kernel=7) == 224
    assert field_of_view(4, 8, kernel=4) == 128
    net = build(NetSpec("vgg16", "largefov", 21, stride=8))
    count = sum(p.numel() for p in net.parameters())
    assert round(count / 1e6, 1) == 20.5  # the paper's figure


def test_three_neck_convolutions_see_as_far_as_large_fov():
    neck, _ = build_neck(NetSpec("vgg16", "conv6", 2, 8, dual=True, width=2), 3, 4, 8, False)
    high = torch.rand(1, 4, 41, 41, requires_grad=True)
    for layer in neck.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.ones_(layer.weight)
    neck(high)[0, :, 20, 20].sum().backward()
    rows = high.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert (rows[-1] - rows[0]).item() * 8 + 32 == 224


@torch.no_grad()
def test_aspp_is_the_sum_of_its_four_dilated_classifiers():
    net = small("aspp", stride=8).eval()
    convs = net.classifiers()
    assert [c.dilation[0] for c in convs] == [6, 12, 18, 24]
    assert [c.dilation[0] for c in small("aspp").classifiers()] == [3, 6, 9, 12]
    image = torch.randn(1, 3, 65, 65)
    high = net.backbone(image)[1]
    torch.testing.assert_close(net(image), sum(conv(high) for conv in convs))
    for conv in convs:
        torch.nn.init.zeros_(conv.weight)
    assert not net(image).any()  # the classifiers are all there is


@pytest.mark.parametrize("name", ("deeplabv3", "deeplabv3plus"))
def test_rates_of_deeplab_v3_are_twice_as_large_at_stride_8(name):
    for stride, rates in ((16, [1, 6, 12, 18]), (8, [1, 12, 24, 36])):
        head = build_head(NetSpec("resnet50", name, 2, width=4), 2, 2, stride, True)
        assert [branch[0].dilation[0] for branch in head.pyramid] == rates


@torch.no_grad()
def test_deeplab_v3_sees_the_whole_image_through_its_pooling():
    head = build_head(NetSpec("resnet50", "deeplabv3", 3, width=8), 2, 6, 16, True).eval()
    high = torch.rand(1, 6, 41, 41)
    far = high.clone()
    far[:, :, 40, 40] += 10
    change = (head(high, far) - head(high, high))[0, :, 0, 0]
    assert change.abs().max() > 1e-6  # further than 18, the largest rate
    for branch in head.pool.children():
        if hasattr(branch, "weight"):
            torch.nn.init.zeros_(branch.weight)
    assert not (head(high, far) - head(high, high))[0, :, 0, 0].any()


@torch.no_grad()
def test_pspnets_coarsest_cell_is_the_mean():
    head = build_head(NetSpec("resnet50", "pspnet", 2, width=4), 2, 6, 16, True).eval()
    high = torch.rand(1, 6, 7, 5)
    mean = high.mean((2, 3), keepdim=True)
    torch.testing.assert_close(head.cells[0](high), head.cells[0][1:](mean))


@pytest.mark.parametrize("shared", range(4))
def test_a_path_goes_through_as_many_convolutions_however_many_are_shared(shared):
    net = small("conv6", dual=True, shared=shared)
    kernels = [sum(isinstance(m, torch.nn.Conv2d) for m in part.modules())
               for part in (net.neck, net.branches["strong"], net.branches["weak"])]
    assert kernels == [shared, 3 - shared + 1, 3 - shared + 1]
    single = small("conv6")
    path = sum(p.numel() for part in (net.neck, net.branches["strong"]) for p in part.parameters())
    assert path == sum(p.numel() for p in single.branches.parameters())
    shapes = [[p.shape for p in net.branches[name].parameters()] for name in net.branches]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("msc", (False, True))
@pytest.mark.parametrize("head", ("conv6", "deeplabv3plus"))
@torch.no_grad()
def test_forward_pair_is_both_forwards_with_the_other_half_dropped(head, msc):
    net = small(head, dual=True, shared=2, msc=msc, dropout=0.0).eval()
    images = torch.randn(5, 3, 33, 33)
    strong, weak = net(images), net(images, branch="weak")
    assert not torch.allclose(strong, weak)
    for n in (0, 2, 5):
        first, second = net.forward_pair(images, n)
        torch.testing.assert_close(first, strong[:n], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(second, weak[n:], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="6 strong images in a batch of 5"):
        net.forward_pair(images, 6)


def test_a_branch_learns_from_its_own_images_only():
    net = small("conv6", dual=True, shared=3)
    strong, _ = net.forward_pair(torch.randn(4, 3, 33, 33), 2)
    strong.square().sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in net.branches["weak"].parameters())
    for part in (net.branches["strong"], net.neck, net.backbone):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())


@torch.no_grad()
def test_the_strong_branch_never_depends_on_the_weak_one():
    net = small("conv6", dual=True).eval()
    image = torch.randn(1, 3, 33, 33)
    before = net(image)
    for parameter in net.branches["weak"].parameters():
        parameter.fill_(7.0)
    assert torch.equal(net(image), before)


def test_a_single_branch_net_has_no_weak_branch():
    with pytest.raises(WssegError, match="no weak branch, only: strong"):
        small()(torch.zeros(1, 3, 33, 33), branch="weak")


@torch.no_grad()
def test_the_multi_scale_logits_are_the_greatest_of_the_resized_maps():
    net, plain = small("largefov", msc=True).eval(), small("largefov").eval()
    plain.load_state_dict(net.state_dict())
    image = torch.randn(1, 3, 65, 97)
    *maps, fused = net.forward_scales(image)
    assert [m.shape[2:] for m in maps] == [(5, 7), (4, 5), (3, 4)]
    torch.testing.assert_close(maps[2], plain(resize(image, (33, 49))))
    assert torch.equal(maps[0], plain(image))
    wanted = torch.stack([resize(m, (5, 7)) for m in maps]).amax(0)
    assert torch.equal(fused, wanted)
    assert torch.equal(net(image), fused)
    assert len(plain.forward_scales(image)) == 1
    assert [scaled(321, s) for s in (1, 0.75, 0.5)] == [321, 241, 161]


def test_each_map_gets_the_gradient_of_the_places_where_it_is_greatest():
    high = torch.tensor([[[[3.0, 1.0]]]], requires_grad=True)
    other = torch.tensor([[[[2.0, 2.0]]]], requires_grad=True)
    fuse([high, other]).sum().backward()
    assert high.grad.flatten().tolist() == [1, 0]
    assert other.grad.flatten().tolist() == [0, 1]


@pytest.mark.parametrize("frozen", (False, True))
def test_every_trained_parameter_is_in_one_group(frozen):
    net = small("deeplabv3plus", dual=True, frozen_norm=frozen)
    groups = net.parameter_groups()
    assert tuple(groups) == GROUPS
    found = [id(p) for group in groups.values() for p in group]
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in net.parameters() if p.requires_grad}
    assert bool(groups["backbone_norm"]) != frozen
    assert {p.ndim for p in groups["backbone_weight"] + groups["new_weight"]} == {4}
    assert {p.ndim for name in GROUPS if "weight" not in name for p in groups[name]} == {1}
    inside = {id(p) for p in net.backbone.parameters()}
    assert all((id(p) in inside) == name.startswith("backbone")
               for name, group in groups.items() for p in group)


def test_vgg_has_biases_and_no_norms():
    groups = build(NetSpec("vgg16", "largefov", 3, width=4)).parameter_groups()
    assert [len(groups[name]) for name in GROUPS] == [15, 15, 0, 1, 1, 0]


@pytest.mark.parametrize("more, new", [
    (dict(head="largefov"), ["fc8"]), (dict(head="aspp"), ["fc8"]),
    (dict(head="largefov", width=3), ["fc6", "fc7", "fc8"]),  # 4,096 filters are not thinned to 3
    (dict(head="largefov", neck=1), ["convs", "fc6", "fc7", "fc8"]),
    (dict(head="largefov", backbone="efficientnet-lite0"), ["fc6", "fc7", "fc8"])])
def test_fc6_and_fc7_of_vgg_learn_as_its_backbone_does(more, new):
    """wssl-2015, 4.1: the final layer alone has another rate."""
    net = build(NetSpec(**{"backbone": "vgg16", "classes": 3, "width": 4, **more}))
    ours = {id(p) for name, group in net.parameter_groups().items() if name.startswith("new")
            for p in group}
    found = {part for name, p in net.named_parameters() if id(p) in ours
             for part in name.split(".") if part in ("convs", "fc6", "fc7", "fc8")}
    assert sorted(found) == new


@pytest.mark.parametrize("more, count", [
    (dict(head="largefov"), 5), (dict(head="conv6"), 3), (dict(head="aspp", dual=True), 3),
    (dict(head="conv6", neck=0), 5)])
def test_vgg_loses_its_last_poolings_before_a_neck(more, count):
    net = build(NetSpec(**{"backbone": "vgg16", "classes": 3, "width": 4, "stride": 8, **more}))
    assert sum(isinstance(m, torch.nn.MaxPool2d) for m in net.backbone.modules()) == count


def test_images_are_normalised_from_either_layout():
    net = small()
    pixels = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    out = net.normalise(pixels)
    torch.testing.assert_close(out, (pixels.permute(0, 3, 1, 2).float() - 127) / 128)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(net.normalise(pixels.permute(0, 3, 1, 2).float()), out)
    with pytest.raises(ValueError, match="not \\(5, 7, 3\\)"):
        net.normalise(pixels[0])
    assert not {"mean", "scale"} & net.state_dict().keys()


def test_the_other_backbones_are_normalised_as_torchvision_does():
    values = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    net = build(NetSpec("vgg16", "conv6", 2, width=4))
    image = torch.rand(1, 3, 4, 5)
    wanted = (image - values[0].view(3, 1, 1)) / values[1].view(3, 1, 1)
    torch.testing.assert_close(net.normalise(image * 255), wanted, rtol=1e-4, atol=1e-5)


def test_channels_last_stays_channels_last():
    for head in HEADS:
        net = small(head).to(memory_format=torch.channels_last)
        image = torch.randn(2, 3, 33, 33).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            low, high = net.backbone(image)
            logits = net(image)
        for maps in (low, high, logits):
            assert maps.is_contiguous(memory_format=torch.channels_last)


def test_a_spec_survives_json():
    spec = NetSpec("resnet101", "aspp", 21, 8, True, 2, True, True, 128, 0.25, 512, 4, False)
    assert NetSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec
    assert NetSpec.from_json({"backbone": "vgg16", "head": "largefov", "classes": 2}) \
        == NetSpec("vgg16", "largefov", 2)


@pytest.mark.parametrize("change, message", [
    ({"backbone": "resnet-50"}, "no backbone 'resnet-50' \\(did you mean resnet50\\?\\)"),
    ({"backbone": "q"}, "no backbone 'q': one of vgg16, "),
    ({"backbone": ["vgg16"]}, "no backbone \\['vgg16'\\]"),
    ({"head": "deeplab-v3+"}, "did you mean deeplabv3plus"),
    ({"head": None}, "no head None"),
    ({"classes": 0}, "classes is 0, it must be an integer from 1"),
    ({"classes": True}, "classes is True"),
    ({"classes": 2.0}, "classes is 2.0"),
    ({"classes": 10 ** 30}, "classes is 1000"),
    ({"stride": 4}, "stride is 4, it must be 8 or 16 or 32"),
    ({"stride": "16"}, "stride is '16'"),
    ({"stride": 16.0}, "stride is 16.0"),
    ({"dual": 1}, "dual is 1, it must be true or false"),
    ({"dual": True, "shared": 4}, "shared is 4, it must be at most 3"),
    ({"shared": -1}, "shared is -1"),
    ({"fov": 256}, "fov is 256, it must be 128 or 224"),
    ({"dropout": 1}, "dropout is 1, it must be from 0 to below 1"),
    ({"dropout": float("nan")}, "dropout is nan"),
    ({"width": 10 ** 9}, "width is 1000000000"),
    ({"neck": 99}, "neck is 99"),
    ({"separable": "yes"}, "separable is 'yes'"),
    ({"heads": "aspp"}, "no setting 'heads' \\(did you mean head\\?\\)"),
])
def test_a_wrong_spec_is_refused_in_one_line(change, message):
    data = {"backbone": "vgg16", "head": "largefov", "classes": 2, **change}
    with pytest.raises(WssegError, match=message) as caught:
        NetSpec.from_json(data)
    assert len(str(caught.value).splitlines()) == 1


def test_a_spec_without_its_classes_or_of_another_kind_is_refused():
    with pytest.raises(WssegError, match="classes is missing"):
        NetSpec.from_json({"backbone": "vgg16", "head": "largefov"})
    with pytest.raises(WssegError, match="described by an object, not by \\[\\]"):
        NetSpec.from_json([])
