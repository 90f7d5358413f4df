"""Probabilities of whole photos against a plain forward pass."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from tests import tinynet  # noqa: E402
from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets.inference import Inference, pooled, predict_probabilities  # noqa: E402
from wsseg.refine.fuse import resample  # noqa: E402
from wsseg.nets.segmenter import NetSpec, build  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(params=["largefov", "deeplabv3plus"])
def net(request, monkeypatch):
    tinynet.install(monkeypatch)
    torch.manual_seed(5)
    made = build(NetSpec("tiny", request.param, 4, width=8, dual=True, shared=1)).eval()
    for conv in made.classifiers():
        torch.nn.init.normal_(conv.weight, std=2.)  # so that scores differ
    return made


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (1, height, width, 3)).astype(np.uint8)


def plain_logits(net, images, branch="strong"):
    """images: float (1,3,H,W), normalised. Position i of the logits lies on pixel stride * i."""
    height, width = images.shape[2:]
    down, across = -(-(height - 1) // net.stride), -(-(width - 1) // net.stride)
    canvas = torch.zeros(1, 3, down * net.stride + 1, across * net.stride + 1)
    canvas[:, :, :height, :width] = images
    with torch.no_grad():
        low, high = net.backbone(canvas)
        logits = net.branches[branch](low, net.neck(high))
    full = F.interpolate(logits, canvas.shape[2:], mode="bilinear", align_corners=True)
    return full[:, :, :height, :width]


def normalised(pixels):
    mean, scale = torch.tensor(tinynet.Tiny.mean), torch.tensor(tinynet.Tiny.scale)
    return ((torch.from_numpy(pixels).float() - mean) * scale).permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [(33, 41), (24, 32), (1, 1), (3, 50), (50, 3), (65, 64)])
@pytest.mark.parametrize("branch", ["strong", "weak"])
def test_it_is_a_forward_pass_of_the_net(net, size, branch):
    pixels = photo(*size)
    expected = plain_logits(net, normalised(pixels), branch).softmax(1)
    labels, scores = Inference(net, CPU, branch=branch, stride=1)(pixels, score=True)
    torch.testing.assert_close(torch.from_numpy(scores), expected.half(), atol=2e-3, rtol=0)
    assert labels.shape == (1, *size) and labels.dtype == np.int64
    clear = expected.topk(2, 1).values
    clear = (clear[:, 0] - clear[:, 1] > 1e-4).numpy()
    assert np.array_equal(labels[clear], expected.argmax(1).numpy()[clear])


def test_scales_and_mirror_images_are_averaged(net):
    pixels = photo(40, 56)
    images = normalised(pixels)
    parts = []
    for scale in (.5, 1., 1.5):
        size = round(40 * scale), round(56 * scale)
        near = images if scale == 1 else F.interpolate(
            images, size, mode="bilinear", align_corners=False, antialias=scale < 1)
        for mirrored in (False, True):
            logits = plain_logits(net, near.flip(3) if mirrored else near)
            logits = logits.flip(3) if mirrored else logits
            parts.append(F.interpolate(logits, (40, 56), mode="bilinear",
                                       align_corners=False).softmax(1))
    given = torch.from_numpy(pixels)
    torch.testing.assert_close(
        predict_probabilities(net, given, scales=(.5, 1., 1.5), flip=True),
        torch.stack(parts).mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(predict_probabilities(net, given, scales=(1.5,)), parts[4],
                               atol=1e-5, rtol=1e-5)
    turned = predict_probabilities(net, given.flip(2), flip=True).flip(3)
    torch.testing.assert_close(turned, predict_probabilities(net, given, flip=True), atol=1e-5,
                               rtol=1e-5)


def test_classes_that_cannot_be_have_no_share(net):
    pixels = torch.from_numpy(photo(24, 32))
    allowed = torch.tensor([[True, False, True, False]])
    found = predict_probabilities(net, pixels, classes=allowed)
    assert not found[:, [1, 3]].any()
    torch.testing.assert_close(found.sum(1), torch.ones(1, 24, 32))
    free = predict_probabilities(net, pixels)
    torch.testing.assert_close(found[:, [0, 2]], free[:, [0, 2]] / free[:, [0, 2]].sum(1, True),
                               atol=1e-5, rtol=1e-4)


def test_some_classes_in_another_order(net):
    pixels = photo(24, 32)
    everything = Inference(net, CPU, stride=1)(pixels, score=True)[1].astype(float)
    labels, scores = Inference(net, CPU, rows=(3, 0), stride=1)(pixels, score=True)
    part = everything[:, [3, 0]]
    np.testing.assert_allclose(scores, part / part.sum(1, keepdims=True), atol=3e-3)
    assert set(np.unique(labels)) <= {0, 1}
    only = Inference(net, CPU, rows=(3, 0))(pixels, np.array([[False, True]]))[0]
    assert (only == 1).all()


def test_a_batch_is_as_its_photos_one_by_one(net):
    run = Inference(net, CPU, stride=2)
    pixels = np.concatenate([photo(24, 32, seed) for seed in range(4)])
    labels, scores = run(pixels, score=True)
    for i in range(4):
        one, score = run(pixels[i:i + 1], score=True)
        np.testing.assert_allclose(scores[i].astype(float), score[0].astype(float), atol=2e-3)
        assert (labels[i] == one[0]).mean() > .999
    assert run(pixels, label=False) == (None, None)


@pytest.mark.parametrize("size, stride", [((6, 9), 4), ((8, 8), 4), ((5, 1), 64), ((7, 3), 1)])
def test_cells_are_means_of_what_is_there(size, stride):
    values = torch.rand(2, 3, *size)
    found = pooled(values, stride).numpy()
    rows, columns = -(-size[0] // stride), -(-size[1] // stride)
    assert found.shape == (2, 3, rows, columns)
    for y in range(rows):
        for x in range(columns):
            cell = values[:, :, y * size[0] // rows:-(-(y + 1) * size[0] // rows),
                          x * size[1] // columns:-(-(x + 1) * size[1] // columns)]
            np.testing.assert_allclose(found[:, :, y, x], cell.mean((2, 3)), rtol=1e-5)


@pytest.mark.parametrize("length", range(332, 338))
def test_scores_come_back_to_where_they_were(length):
    ramp = torch.linspace(0, 1, length).expand(1, 1, 8, length).contiguous()
    found = resample(pooled(ramp, 4)[0].numpy(), (8, length))[0, 4]
    shift = np.abs(found - ramp[0, 0, 4].numpy())[4:-4] * (length - 1)
    assert shift.max() < .51


@pytest.mark.parametrize("error", [MemoryError(), torch.cuda.OutOfMemoryError("CUDA"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_memory_that_runs_out_is_told_with_what_to_lower(net, error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(type(net), "forward", fail)
    with pytest.raises(WssegError, match="out of memory with 1 photos of 24x32: lower --batch"):
        Inference(net, CPU)(photo(24, 32))
    error = RuntimeError("shapes")
    with pytest.raises(RuntimeError, match="shapes"):
        Inference(net, CPU)(photo(24, 32))
