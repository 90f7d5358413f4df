"""The detector: the same as torchvision's own Faster R-CNN, whole on any backbone and size."""

from __future__ import annotations

import sys
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from tests import tinynet  # noqa: E402
from wsseg.errors import UsageError, WssegError  # noqa: E402
from wsseg.nets import detector  # noqa: E402
from wsseg.nets.detector import LOSSES, DetectorSpec, build, detect  # noqa: E402
from wsseg.nets.model import load_model, model_bytes  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture
def tiny(monkeypatch):
    tinynet.install(monkeypatch)


def small(seed: int = 0, **more) -> detector.Detector:
    torch.manual_seed(seed)
    net = build(DetectorSpec("tiny", 3, width=16, anchors=(8, 16, 32), **more))
    head = net.roi_heads.box_predictor  # sure of something, so that there is something to compare
    torch.nn.init.normal_(head.cls_score.weight, std=.2)
    torch.nn.init.normal_(head.bbox_pred.weight, std=.1)
    torch.nn.init.normal_(net.rpn.head.cls_logits.weight, std=.2)
    return net


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def torchvisions(net):
    """torchvision's FasterRCNN with our backbone and our weights."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    class Body(torch.nn.Module):
        out_channels = 16

        def forward(self, x):
            return OrderedDict([("0", net.pyramid(net.backbone(x)[1]))])

    other = FasterRCNN(
        Body(), rpn_anchor_generator=AnchorGenerator((net.spec.anchors,), ((.5, 1., 2.),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2), box_head=net.roi_heads.box_head,
        box_predictor=FastRCNNPredictor(64, 4), rpn_head=net.rpn.head,
        image_mean=[0.] * 3, image_std=[1.] * 3, min_size=64,
        _skip_resize=True)  # in training, where it would draw a size
    other.roi_heads.box_predictor.load_state_dict(net.roi_heads.box_predictor.state_dict())
    return other


def test_it_is_torchvisions_faster_rcnn(tiny):
    """On photos whose size needs no padding: boxes, classes + 1, scores, and in training the
    losses of the same draws."""
    net = small().eval()
    other = torchvisions(net).eval()
    photos = net.normalise(torch.from_numpy(images(2, 64, 96, 3)))
    with torch.no_grad():
        ours, theirs = net(photos), other(list(photos))
    assert sum(len(boxes) for boxes, _, _ in ours) > 20
    for (boxes, classes, scores), one in zip(ours, theirs):
        kept = ((one["boxes"][:, 2:] - one["boxes"][:, :2]) >= 1).all(1)
        assert torch.allclose(boxes, one["boxes"][kept], atol=1e-3)
        assert torch.equal(classes + 1, one["labels"][kept])
        assert torch.allclose(scores, one["scores"][kept], atol=1e-5)
    net.train(), other.train()
    boxes = torch.tensor([[4., 6, 30, 40]]), torch.zeros(0, 4)
    classes = torch.tensor([2]), torch.zeros(0, dtype=torch.int64)
    torch.manual_seed(1)
    mine = net.losses(photos, list(zip(boxes, classes)))
    torch.manual_seed(1)
    usual = other(list(photos), [{"boxes": b, "labels": c + 1} for b, c in zip(boxes, classes)])
    assert torch.allclose(mine, torch.stack([usual[name] for name in LOSSES]), atol=1e-5)


@pytest.mark.parametrize("size", [(33, 47), (64, 64), (7, 90), (1, 1)])
def test_boxes_of_any_photo_lie_inside_it(tiny, size):
    net = small().eval()
    found = detect(net, images(2, *size, 3), CPU, least=0., most=7)
    for boxes, classes, scores in found:
        assert boxes.dtype == scores.dtype == np.float64 and classes.dtype == np.int64
        assert len(boxes) == len(classes) == len(scores) <= 7
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= size[::-1]).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
        assert ((classes >= 0) & (classes < 3)).all() and (np.diff(scores) <= 0).all()
    sure = detect(net, images(2, *size, 3), CPU, least=.99)
    assert all((scores >= .99).all() for _, _, scores in sure)


def test_a_batch_is_what_its_photos_are_alone(tiny):
    net, photos = small().eval(), images(3, 40, 56, 3)
    together = detect(net, photos, CPU)
    for i in range(3):
        for a, b in zip(together[i], detect(net, photos[i:i + 1], CPU)[0]):
            assert np.allclose(a, b, atol=1e-4)


def joined(found: list, most: int) -> list[tuple]:
    """Greedy suppression among boxes of one class, one at a time."""
    kept: list[tuple] = []
    for box, cls, score in sorted(found, key=lambda one: -one[2]):
        for other, own, _ in kept:
            low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
            meet = (high - low).clip(0).prod()
            area = sum((b[2:] - b[:2]).prod() for b in (box, other))
            if cls == own and meet / (area - meet) > .5:
                break
        else:
            kept.append((box, cls, score))
    return kept[:most]


def test_boxes_of_all_views_come_back_into_the_photo_and_the_best_stay(tiny):
    net, photo = small().eval(), images(1, 64, 96, 3)
    normal = net.normalise(torch.from_numpy(photo).permute(0, 3, 1, 2))
    twice = torch.nn.functional.interpolate(normal, scale_factor=2, mode="bilinear")
    every = []
    with torch.no_grad():
        for view, factor, mirrored in ((normal, 1, False), (normal.flip(3), 1, True),
                                       (twice, 2, False), (twice.flip(3), 2, True)):
            for box, cls, score in zip(*(part.double().numpy() for part in net(view)[0])):
                x0, y0, x1, y1 = box / factor
                box = np.array([96 - x1, y0, 96 - x0, y1] if mirrored else [x0, y0, x1, y1])
                if (box[2:] - box[:2] >= 1).all():
                    every.append((box, cls, score))
    want = joined(every, 30)
    boxes, classes, scores = detect(net, photo, CPU, most=30, scales=(1, 2), flip=True)[0]
    assert len(scores) == len(want) == 30
    assert np.allclose(scores, [score for _, _, score in want], atol=1e-5)
    assert np.allclose(boxes, [box for box, _, _ in want], atol=1e-2)
    assert classes.tolist() == [cls for _, cls, _ in want]


def test_the_levels_of_a_pyramid_have_the_strides_of_its_anchors():
    net = build(DetectorSpec("efficientnet-lite0", 2, True, 32, width=16)).eval()
    with torch.no_grad():
        found = net.features(torch.zeros(1, 3, 128, 192))
        assert [128 // f.shape[2] for f in found.values()] == [4, 8, 16, 32, 64]
        assert {f.shape[1] for f in found.values()} == {16}
        assert detect(net, images(1, 70, 90, 3), CPU, least=0.)[0][0].shape[1] == 4


def test_parameters_are_of_the_backbone_or_new_and_each_in_one_group(tiny):
    net = small()
    groups = net.parameter_groups()
    given = [p for group in groups.values() for p in group]
    assert len(given) == len({id(p) for p in given}) == len(list(net.parameters()))
    assert {id(p) for p in net.backbone.parameters()} == {
        id(p) for name in groups if name.startswith("backbone") for p in groups[name]}


def test_a_model_file_holds_it_whole(tiny, tmp_path):
    net, path = small().eval(), tmp_path / "model.safetensors"
    path.write_bytes(model_bytes(net, {"task": "detect", "classes": ["background", "a", "b"]}))
    again, card = load_model(path, task="detect")
    photos = images(1, 40, 50, 3)
    for a, b in zip(detect(net, photos, CPU)[0], detect(again, photos, CPU)[0]):
        assert len(a) and np.allclose(a, b, atol=1e-3)
    assert DetectorSpec.from_json(card["net"]) == net.spec
    with pytest.raises(UsageError, match="is a model of ws-train --task detect"):
        load_model(path)


@pytest.mark.parametrize("change, message", [
    ({"backbone": "resnet5"}, "did you mean resnet50"), ({"classes": 0}, "classes is 0"),
    ({"fpn": True}, "stride is 16, it must be 32 for a feature pyramid"),
    ({"fpn": True, "stride": 32, "anchors": (8,)}, "five lengths"),
    ({"anchors": ()}, "anchors is"), ({"anchors": (0.5,)}, "anchors is"),
    ({"anchors": (float("nan"),)}, "anchors is"), ({"anchors": 16}, "anchors is 16"),
    ({"width": 1}, "width is 1"), ({"stride": 7}, "stride is 7"), ({"fpn": 1}, "fpn is 1")])
def test_a_spec_that_no_net_can_have_is_refused(change, message):
    with pytest.raises(WssegError, match=message):
        DetectorSpec(**{"backbone": "resnet50", "classes": 2, **change})


def test_a_spec_with_an_unknown_setting_is_refused():
    with pytest.raises(WssegError, match="no setting 'anchor' .did you mean anchors"):
        DetectorSpec.from_json({"backbone": "resnet50", "classes": 2, "anchor": [8]})
    with pytest.raises(WssegError, match="classes is missing"):
        DetectorSpec.from_json({"backbone": "resnet50"})


def test_without_torchvision_it_says_what_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("torchvision.models.detection")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(WssegError, match=r"needs torchvision, .* pip install 'wsseg\[nets\]'"):
        build(DetectorSpec("efficientnet-lite0", 2))
