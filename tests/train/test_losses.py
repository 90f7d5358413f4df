"""The loss over labelled pixels against torch's own interpolation and cross-entropy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402

from wsseg.train import losses  # noqa: E402
from wsseg.train.losses import labelled_nll, subsample  # noqa: E402

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def batch(size, large, classes=5, known=.7, seed=0, images=2):
    """Logits, labels with gaps, and weights."""
    torch.manual_seed(seed)
    labels = torch.randint(0, classes, (images, *large), dtype=torch.uint8)
    labels[torch.rand(labels.shape) > known] = 255
    return torch.randn(images, classes, *size, requires_grad=True), labels, torch.rand(labels.shape)


def by_torch(logits, labels, weight=None, class_weight=None):
    """Sum and count from a whole map of upsampled float64 logits."""
    z = F.interpolate(logits.double(), labels.shape[1:], mode="bilinear", align_corners=True)
    nll = F.cross_entropy(z, labels.long(), ignore_index=255, reduction="none")
    w = (labels != 255).double() * (1 if weight is None else weight.double())
    if class_weight is not None:
        w = w * class_weight.double()[torch.where(labels == 255, 0, labels).long()]
    return (nll * w).sum(), w.sum()


@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 9), st.integers(1, 9)),
       st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 7),
       st.sampled_from((0., .02, .5, 1.)), st.booleans(), st.booleans(), st.integers(0, 99))
def test_sum_count_and_gradient_are_those_of_torch(size, large, classes, known, weighted, sparse,
                                                   seed):
    logits, labels, weight = batch(size, large, classes, known, seed)
    options = dict(weight=weight, class_weight=torch.rand(classes)) if weighted else {}
    expected, number = by_torch(logits, labels, **options)
    gradient, = torch.autograd.grad(expected, logits)
    total, count = labelled_nll(logits, labels, sparse=sparse, **options)
    total.backward()

    assert total.dtype == count.dtype == torch.float32
    assert total.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-4)
    assert count.item() == pytest.approx(number.item(), rel=1e-5)
    assert torch.allclose(logits.grad, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sparse", (True, False, None))
def test_a_mean_is_that_of_weighted_cross_entropy(sparse, device):
    logits, labels, _ = batch((9, 9), (9, 9))
    classes = torch.tensor([.5, 1, 2, 1, 3])
    expected = F.cross_entropy(logits, torch.where(labels == 255, -100, labels.long()), classes)
    mean, _ = labelled_nll(logits.to(device), labels.to(device), reduction="mean",
                           class_weight=classes, sparse=sparse)

    assert mean.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_pixel_worked_by_hand():
    logits = torch.tensor([1., 2., 4.]).view(1, 3, 1, 1).requires_grad_()
    labels = torch.tensor([[[1, 255]]])
    e = np.exp([1., 2., 4.])
    total, count = labelled_nll(logits, labels, torch.tensor([[[51, 255]]], dtype=torch.uint8))
    total.backward()

    assert count.item() == pytest.approx(.2)
    assert total.item() == pytest.approx(-.2 * np.log(e[1] / e.sum()), rel=1e-5)
    assert logits.grad.flatten().tolist() == pytest.approx(.2 * (e / e.sum() - [0, 1, 0]),
                                                           rel=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sparse", (True, False, None))
@pytest.mark.parametrize("at", ("labels", "logits"))
def test_nothing_labelled_is_0_of_0_with_zero_gradients(at, sparse, device):
    logits = torch.full((2, 3, 4, 4), 90., requires_grad=True, device=device)
    labels = torch.full((2, 13, 13), 255, dtype=torch.uint8, device=device)
    total, count = labelled_nll(logits, labels, reduction="mean", at=at, sparse=sparse)
    total.backward()

    assert total.item() == count.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("sparse", (True, False))
def test_bfloat16_logits_lose_nothing_but_their_own_rounding(sparse):
    logits, labels, _ = batch((6, 6), (30, 30))
    short = logits.detach().bfloat16().requires_grad_()
    long = short.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        total, _ = labelled_nll(short, labels, sparse=sparse)
    expected, _ = labelled_nll(long, labels, sparse=sparse)
    (total * 8).backward()
    (expected * 8).backward()

    assert total.dtype == torch.float32 and total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert short.grad.dtype == torch.bfloat16
    assert torch.allclose(short.grad.float(), long.grad, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("sparse", (True, False))
def test_huge_logits_stay_finite(sparse):
    logits = (torch.randn(1, 4, 3, 3) * 1e6).requires_grad_()
    total, _ = labelled_nll(logits, torch.randint(0, 4, (1, 20, 20)), sparse=sparse)
    total.backward()

    assert torch.isfinite(total) and torch.isfinite(logits.grad).all()


def test_a_nan_reaches_the_sum():
    logits, labels, _ = batch((4, 4), (8, 8), known=1)
    with torch.no_grad():
        logits[0, 0, 1, 1] = torch.nan
    assert all(labelled_nll(logits, labels, sparse=s)[0].isnan() for s in (True, False))


def test_the_sum_of_parts_is_the_sum_of_the_whole():
    logits, labels, weight = batch((5, 7), (20, 28), images=3)
    whole = labelled_nll(logits, labels, weight)
    parts = [labelled_nll(logits[i:i + 1], labels[i:i + 1], weight[i:i + 1]) for i in range(3)]

    for one, many in zip(whole, zip(*parts)):
        assert one.item() == pytest.approx(sum(many).item(), rel=1e-5)


@pytest.mark.parametrize("sparse", (True, False))
def test_equal_calls_give_equal_bits(sparse):
    torch.use_deterministic_algorithms(True)
    try:
        done = []
        for _ in range(3):
            logits, labels, weight = batch((17, 17), (129, 129), classes=21)
            total, _ = labelled_nll(logits, labels, weight, sparse=sparse)
            total.backward()
            done.append(total.detach().numpy().tobytes() + logits.grad.numpy().tobytes())
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(set(done)) == 1


def test_an_empty_batch_is_0_of_0():
    logits = torch.zeros(0, 3, 4, 4, requires_grad=True)
    for size in ((4, 4), (8, 8)):
        total, count = labelled_nll(logits, torch.zeros(0, *size, dtype=torch.uint8))
        total.backward()
        assert total.item() == count.item() == 0


@pytest.mark.parametrize("path", ("_by_images", "_by_bands"))
def test_a_source_that_a_batch_lacks_costs_nothing(path):
    """With --join-classes a batch may have no image of one of them."""
    total, gradient = getattr(losses, path)(torch.zeros(0, 3, 4, 4), torch.zeros(
        0, 8, 8, dtype=torch.uint8), torch.zeros(0, 8, 8))
    assert total.item() == 0 and gradient.shape == (0, 3, 4, 4)


@pytest.mark.parametrize("size", ((4, 4), (8, 8)))
def test_labels_stay_as_they_were(size):
    labels = torch.full((1, *size), 255, dtype=torch.int64)
    labels[0, 0, 0] = 2
    before = labels.clone()
    first, second = (labelled_nll(torch.ones(1, 3, 4, 4), labels, sparse=False) for _ in range(2))
    assert torch.equal(labels, before) and first == second


def test_many_classes_do_not_make_full_labels_sparse(monkeypatch):
    monkeypatch.setattr(losses, "_sparse_nll", None)
    labelled_nll(torch.zeros(1, 250, 4, 4), torch.zeros(1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("path, limit", (("_by_images", "CHUNK"), ("_by_bands", "BAND")))
@pytest.mark.parametrize("values", (1, 9 * 5 * 28, 1 << 30))
def test_parts_of_any_size_give_the_same(path, limit, values, monkeypatch):
    logits, labels, weight = batch((5, 7), (20, 28), images=5)
    weight = weight * (labels != 255)
    expected, _ = by_torch(logits, labels, weight)
    gradient, = torch.autograd.grad(expected, logits)
    monkeypatch.setattr(losses, limit, values)
    total, found = getattr(losses, path)(logits.detach(), labels, weight)

    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(found, gradient, atol=1e-5)


@pytest.mark.parametrize("length, count, pixels", (
    (321, 41, range(0, 321, 8)),        # Caffe's factor 8
    (320, 20, range(0, 320, 16)),
    (65, 5, range(0, 65, 16)),          # 13, 14 and 15 would give 5 as well
    (7, 7, range(7)),
    (10, 6, (0, 2, 4, 5, 7, 9)),        # no power of two: the centres, .83, 2.5, 4.17 ...
    (2, 5, (0, 0, 1, 1, 1)),
))
def test_labels_are_taken_under_the_logits(length, count, pixels):
    labels = torch.arange(length).view(1, 1, -1).expand(1, 3, -1)
    assert subsample(labels, (3, count))[0, 0].tolist() == list(pixels)
    assert subsample(labels.transpose(1, 2), (count, 3))[0, :, 0].tolist() == list(pixels)


def test_at_the_logits_is_cross_entropy_with_every_eighth_label():
    logits, labels, weight = batch((6, 9), (41, 65))
    total, count = labelled_nll(logits, labels, weight, at="logits")
    few, w = labels[:, ::8, ::8].long(), weight[:, ::8, ::8]
    nll = F.cross_entropy(logits, few, ignore_index=255, reduction="none")

    assert total.item() == pytest.approx((nll * w).sum().item(), rel=1e-5)
    assert count.item() == pytest.approx(w[few != 255].sum().item(), rel=1e-5)


def test_what_does_not_fit_is_refused_by_name():
    logits, labels, _ = batch((4, 4), (8, 8))
    with pytest.raises(ValueError, match=r"got \(2, 5, 4, 4\), \(2, 8\)"):
        labelled_nll(logits, labels[..., 0])
    with pytest.raises(ValueError, match="at='pixels'"):
        labelled_nll(logits, labels, at="pixels")
    labels[1, 2, 3:5] = 38
    with pytest.raises(ValueError, match="2 pixels have label 38.*5 classes"):
        labelled_nll(logits, labels)
