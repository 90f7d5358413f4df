"""Activation maps against gradients, a plain forward pass, and the usual packages."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from tests import tinynet  # noqa: E402
from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets import cam  # noqa: E402
from wsseg.nets.cam import METHODS, ActivationMaps, activations, scaled  # noqa: E402
from wsseg.nets.classifier import ClassifierSpec, build  # noqa: E402
from wsseg.nets.inference import pooled, views  # noqa: E402

CPU = torch.device("cpu")
if "WSSEG_CAM_PACKAGES" in os.environ:  # a folder with grad-cam and torchcam
    sys.path.append(os.environ["WSSEG_CAM_PACKAGES"])


@pytest.fixture
def net(monkeypatch):
    tinynet.install(monkeypatch)
    torch.manual_seed(5)
    made = build(ClassifierSpec("tiny", 4)).eval()
    torch.nn.init.normal_(made.head.weight, std=1.)
    torch.nn.init.normal_(made.head.bias, std=1.)
    return made


def photos(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width, 3)).astype(np.uint8)


def features_of(net, pixels):
    return net.features(net.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))).detach()


# -- the methods by their definitions ----------------------------------------------------------


def logit(net, features, cls):
    return net.pooled(features)[:, cls]


def by_gradients(net, features, cls, method):
    """Maps (h,w) of one image, from the definitions, by differentiating numbers or tensors."""
    features = features.clone().double().requires_grad_()
    score = logit(net, features, cls)[0]
    if method == "gradcam":
        grad, = torch.autograd.grad(score, features)
        weight = grad.mean((2, 3), keepdim=True)
    else:
        value = score.exp()
        first, = torch.autograd.grad(value, features, create_graph=True)
        second, third = torch.zeros_like(features), torch.zeros_like(features)
        for at in np.ndindex(*features.shape):  # the derivatives of each activation by itself
            grad, = torch.autograd.grad(first[at], features, create_graph=True)
            second[at] = grad[at].detach()
            third[at] = torch.autograd.grad(grad[at], features, retain_graph=True)[0][at]
        below = 2 * second + features.detach().sum((2, 3), keepdim=True) * third
        alpha = torch.where(below != 0, second / below, 0.)
        weight = (alpha * first.detach().clamp_min(0)).sum((2, 3), keepdim=True)
    return (weight * features).sum(1)[0].clamp_min(0).detach()


@pytest.mark.parametrize("method", ["gradcam", "gradcam++"])
def test_weights_are_those_of_gradients(net, method):
    """Grad-CAM's maps as they are, Grad-CAM++'s up to exp(S), a factor of the whole map."""
    net.double()
    features = features_of(net, photos(2, 9, 17))[:, :, :2, :3]
    found = activations(net, features, [3, 1], method)
    for i in range(2):
        for row, cls in enumerate((3, 1)):
            expected = by_gradients(net, features[i:i + 1], cls, method)
            mine = found[i, row]
            if method == "gradcam++":
                expected, mine = (scaled(m[None, None])[0, 0] for m in (expected, mine))
            torch.testing.assert_close(mine, expected, rtol=1e-9, atol=1e-12)


def test_cam_is_the_mean_map_and_gradcam_is_cam(net):
    features = features_of(net, photos(3, 33, 41))
    maps = {m: activations(net, features, [0, 2], m) for m in METHODS}
    torch.testing.assert_close(maps["cam"], net.maps(features)[:, [0, 2]].clamp_min(0))
    torch.testing.assert_close(scaled(maps["gradcam"]), scaled(maps["cam"]))
    assert (scaled(maps["gradcam++"]) - scaled(maps["cam"])).abs().max() > .01
    with pytest.raises(ValueError, match="no method"):
        activations(net, features, [0], "scorecam")


# -- whole photos ------------------------------------------------------------------------------


def plainly(net, images, cls):
    """images: float (1,3,H,W), normalised. Position i of the maps lies on pixel stride * i."""
    height, width = images.shape[2:]
    down, across = -(-(height - 1) // net.stride), -(-(width - 1) // net.stride)
    canvas = torch.zeros(1, 3, down * net.stride + 1, across * net.stride + 1)
    canvas[:, :, :height, :width] = images
    maps = F.conv2d(net.features(canvas), net.head.weight[cls:cls + 1]).clamp_min(0)
    full = F.interpolate(maps, canvas.shape[2:], mode="bilinear", align_corners=True)
    return full[:, :, :height, :width].detach()


@pytest.mark.parametrize("size", [(33, 41), (24, 32), (1, 1), (50, 3)])
@pytest.mark.parametrize("scales, flip", [((1.,), False), ((1.,), True), ((.5, 1., 1.7), True)])
def test_scales_and_mirror_images_are_averaged(net, size, scales, flip):
    pixels = photos(2, *size)
    maker = ActivationMaps(net, CPU, scales=scales, flip=flip, stride=4)
    wanted = np.array([[False, True, False, True], [True, False, False, False]])
    found = maker(pixels, wanted, full=True)
    for i, (one, classes) in enumerate(zip(found, ([1, 3], [0]))):
        assert one.classes.tolist() == classes and one.full.shape == (len(classes), *size)
        image = net.normalise(torch.from_numpy(pixels[i:i + 1]).permute(0, 3, 1, 2))
        for row, cls in enumerate(classes):
            total = torch.zeros(1, 1, *size)
            for scale in scales:
                near = image if scale == 1 else F.interpolate(
                    image, [max(1, round(n * scale)) for n in size], mode="bilinear",
                    antialias=scale < 1)
                for mirrored in (False, True)[:1 + flip]:
                    full = plainly(net, near.flip(3) if mirrored else near, cls)
                    full = full.flip(3) if mirrored else full
                    total += F.interpolate(full, size, mode="bilinear", align_corners=False)
            whole = scaled(total)
            np.testing.assert_allclose(one.full[row], whole[0, 0], atol=2e-5)
            low = scaled(pooled(whole, 4))[0, 0]
            np.testing.assert_allclose(one.low[row].astype(float), low, atol=2e-3)
            assert one.full[row].max() in (0, 1) and one.low[row].max() in (0, 1)


def test_classes_are_those_wanted_or_found(net):
    pixels = photos(3, 24, 32)
    probability = torch.sigmoid(net(net.normalise(torch.from_numpy(
        np.pad(pixels, ((0, 0), (0, 0), (0, 0), (0, 0)))).permute(0, 3, 1, 2)))).detach().numpy()
    maker = ActivationMaps(net, CPU, least=.3)
    padded = net.pooled(maker._features(net.normalise(torch.from_numpy(pixels).permute(
        0, 3, 1, 2)))).sigmoid().detach().numpy()
    for one, p in zip(maker(pixels), padded):
        assert one.classes.tolist() == np.flatnonzero(p >= .3).tolist() and one.full is None
    for one, p in zip(maker(pixels, background=1), padded):
        assert one.classes.tolist() == [c for c in np.flatnonzero(p >= .3) if c != 1]
    assert probability.shape == padded.shape
    none = maker(pixels, np.zeros((3, 4), bool), full=True)
    assert [n.full.shape for n in none] == [(0, 24, 32)] * 3
    assert none[0].low.shape == (0, 6, 8) and none[0].low.dtype == np.float16


def test_classes_are_found_by_the_mean_over_all_views(net):
    """Whatever the order of the scales; a threshold between what the views say and their mean."""
    pixels, scales = photos(3, 48, 64), (.5, 2., 1.)
    images = net.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    maker = ActivationMaps(net, CPU, scales=scales, flip=True)
    with torch.no_grad():
        each = np.stack([net.pooled(maker._features(view)).sigmoid().double().numpy()
                         for view, _ in views(images, scales, True)])
    at = np.unravel_index(np.ptp(each, 0).argmax(), each.shape[1:])
    mean = each.mean(0)
    least = float((each[0][at] + mean[at]) / 2)
    assert ((each[0] >= least) != (mean >= least)).any()
    for order in (scales, scales[::-1]):
        found = ActivationMaps(net, CPU, scales=order, flip=True, least=least)(pixels)
        for one, p in zip(found, mean):
            assert one.classes.tolist() == np.flatnonzero(p >= least).tolist()


def test_gradcam_is_cam_over_several_scales(net):
    found = [ActivationMaps(net, CPU, method, (.5, 1.), True)(photos(2, 50, 41), np.ones(
        (2, 4), bool), full=True) for method in ("cam", "gradcam")]
    for one, other in zip(*found):
        np.testing.assert_allclose(one.full, other.full, atol=1e-6)


def test_a_class_that_is_nowhere_active_is_zero(net):
    with torch.no_grad():
        net.head.weight[2] = -net.head.weight[2].abs()  # the features end with a ReLU
    one, = ActivationMaps(net, CPU)(photos(1, 24, 32), np.array([[False, False, True, False]]),
                                    full=True)
    assert (one.full == 0).all() and (one.low == 0).all()


def test_memory_that_runs_out_is_one_line(net, monkeypatch):
    def none(*_):
        raise RuntimeError("could not allocate 3 bytes")

    monkeypatch.setattr(cam, "activations", none)
    with pytest.raises(WssegError, match="out of memory with 2 photos of 24x32: lower --batch"):
        ActivationMaps(net, CPU)(photos(2, 24, 32))


# -- the usual packages, with the same net -----------------------------------------------------


def features_module(net):
    """The net as they take one: images in, logits out, its features the output of ``last``."""
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Identity()
            self.fc = net.head

        def forward(self, images):
            return self.fc(self.last(net.features(images)).mean((2, 3), keepdim=True)).flatten(1)

    return Plain().eval()


def test_gradcam_is_pytorch_grad_cams(net):
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, image = features_module(net), net.normalise(torch.from_numpy(
        photos(1, 65, 49)).permute(0, 3, 1, 2))
    found = activations(net, net.features(image), range(4), "gradcam")
    for cls in range(4):
        with package.GradCAM(model, [model.last]) as theirs:
            targets = [ClassifierOutputTarget(cls)]
            theirs(image, targets)
            maps = theirs.get_cam_image(image, model.last, targets,
                                        theirs.activations_and_grads.activations[0].numpy(),
                                        theirs.activations_and_grads.gradients[0].numpy(), False)
        np.testing.assert_allclose(np.maximum(maps, 0)[0], found[0, cls].detach(), atol=1e-5)


@pytest.mark.parametrize("method, theirs", [("cam", "CAM"), ("gradcam", "GradCAM")])
def test_maps_are_torchcams(net, method, theirs):
    methods = pytest.importorskip("torchcam.methods")
    model, image = features_module(net), net.normalise(torch.from_numpy(
        photos(1, 65, 49)).permute(0, 3, 1, 2))
    found = activations(net, net.features(image), range(4), method)
    more = {"fc_layer": "fc"} if method == "cam" else {}
    for cls in range(4):
        with getattr(methods, theirs)(model, "last", **more) as extractor:
            scores = model(image)
            maps, = extractor(cls, scores, normalized=False)
        np.testing.assert_allclose(maps.detach().clamp_min(0).reshape(found[0, cls].shape),
                                   found[0, cls].detach(), atol=1e-5)
