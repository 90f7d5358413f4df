"""The losses of a batch against plain computations."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from wsseg.errors import UsageError  # noqa: E402
from wsseg.train import dsrg  # noqa: E402
from wsseg.train.em import bbox_em_fixed, em_adapt, em_fixed  # noqa: E402
from wsseg.train.loop import joint_loss  # noqa: E402
from wsseg.train.mil import mil_loss  # noqa: E402
from wsseg.train.objective import METHODS, Objective, Weak  # noqa: E402
from wsseg.train.samples import Batch  # noqa: E402
from wsseg.train.tags import box_maps  # noqa: E402

SIZE = (6, 7)


class Net(nn.Module):
    """Logits are a linear map of each pixel; two of them with ``dual``; scales with ``msc``."""

    def __init__(self, classes=3, dual=False, msc=False):
        super().__init__()
        torch.manual_seed(3)
        self.spec = SimpleNamespace(dual=dual, msc=msc)
        self.one, self.two = nn.Conv2d(3, classes, 1), nn.Conv2d(3, classes, 1)

    def normalise(self, photos):
        return photos.float() / 100

    def forward_scales(self, images):
        maps = self.one(images)
        return [maps[:, :, ::2, ::2] * .5, maps] if self.spec.msc else [maps]

    def forward_pair(self, images, strong):
        return self.one(images[:strong]), self.two(images[strong:])


def make_batch(strong=2, weak=2, classes=3, *, conf=False, weak_labels=False, sources=None):
    rng = np.random.default_rng(7)
    count = strong + weak
    labels = rng.integers(0, classes, (count, *SIZE)).astype(np.uint8)
    labels[rng.random(labels.shape) < .3] = 255
    labels[strong:] = labels[strong:] if weak_labels else 255
    tags = rng.random((count, classes)) < .5
    tags[:, 0] = True
    boxes = [(np.array([[1., 1, 4, 5]]), np.array([i % (classes - 1) + 1])) for i in range(count)]
    return Batch([f"k{i}" for i in range(count)],
                 torch.from_numpy(rng.integers(0, 255, (count, 3, *SIZE)).astype(np.uint8)),
                 torch.from_numpy(labels),
                 torch.from_numpy(rng.integers(0, 256, labels.shape).astype(np.uint8))
                 if conf else None, torch.from_numpy(tags), boxes, strong, list(range(count)),
                 sources or ["strong"] * strong + ["weak"] * weak)


def loss_of(objective, batch) -> torch.Tensor:
    return joint_loss(*objective(batch))[0]


def mean_nll(logits, labels):
    return F.cross_entropy(logits, labels.long(), ignore_index=255)


def logits_of(net, batch, which=slice(None), conv="one"):
    return getattr(net, conv)(net.normalise(batch.photos[which]))


def test_strong_labels_are_the_mean_over_labelled_pixels():
    net, batch = Net(), make_batch(4, 0)
    loss = loss_of(Objective(net), batch)
    expected = mean_nll(logits_of(net, batch), batch.labels)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    gradient = net.one.weight.grad.clone()
    net.zero_grad()
    expected.backward()
    torch.testing.assert_close(gradient, net.one.weight.grad)


def test_weak_label_maps_count_as_strong_ones_do():
    net, batch = Net(), make_batch(1, 3, weak_labels=True)
    torch.testing.assert_close(loss_of(Objective(net), batch),
                               mean_nll(logits_of(net, batch), batch.labels))


def test_pixels_count_by_their_confidence():
    net, batch = Net(), make_batch(3, 1, conf=True, weak_labels=True)
    each = F.cross_entropy(logits_of(net, batch), batch.labels.long(), ignore_index=255,
                           reduction="none")
    weight = batch.conf.float() / 255 * (batch.labels != 255)
    torch.testing.assert_close(loss_of(Objective(net), batch),
                               (each * weight).sum() / weight.sum())


def test_classes_count_by_their_weight():
    net, batch = Net(), make_batch(4, 0)
    weight = [.5, 2., 3.]
    torch.testing.assert_close(
        loss_of(Objective(net, class_weight=weight), batch),
        F.cross_entropy(logits_of(net, batch), batch.labels.long(), torch.tensor(weight),
                        ignore_index=255))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "labels"])
@pytest.mark.parametrize("strong", [0, 1, 4])
def test_a_mixture_is_weighted_by_images(method, strong):
    """Shares of the batch: S/B of the strong mean and W/B of the weak one."""
    net, batch = Net(), make_batch(strong, 4 - strong, weak_labels=method in dsrg.METHODS)
    tags, which = batch.tags[strong:], slice(strong, 4)
    weak = logits_of(net, batch, which)
    expected = torch.zeros(())
    if strong:
        expected = strong / 4 * mean_nll(logits_of(net, batch, slice(0, strong)),
                                         batch.labels[:strong])
    if strong < 4:
        if method.startswith("mil"):
            total, count = mil_loss(weak, tags, method[4:])
            term = total / count
        elif method in dsrg.METHODS:
            total, count = dsrg.seeded_loss(method, weak, batch.photos[which],
                                            batch.labels[which], tags)
            term = total / count
        else:
            boxes = torch.from_numpy(np.stack([
                box_maps(*batch.boxes[i], 3, image=SIZE, size=SIZE) for i in range(strong, 4)]))
            targets = {
                "em-fixed": lambda: em_fixed(weak, tags, 5., 3.),
                "bbox-em": lambda: bbox_em_fixed(weak, boxes, 5., 3.),
                "em-adapt": lambda: em_adapt(weak, tags, .4, .2, 5, generator=[
                    np.random.default_rng((s, 1)) for s in batch.seeds[strong:]])}[method]()
            term = mean_nll(weak, targets)
        expected = expected + (4 - strong) / 4 * term
    torch.testing.assert_close(loss_of(Objective(net, Weak(method)), batch), expected)


def test_regions_grow_above_the_thresholds_given():
    net, batch = Net(), make_batch(0, 4, weak_labels=True)
    weak = Weak("dsrg", fg_least=0., bg_least=0.)
    total, count = dsrg.seeded_loss("dsrg", logits_of(net, batch), batch.photos, batch.labels,
                                    batch.tags, fg_least=0., bg_least=0.)
    torch.testing.assert_close(loss_of(Objective(net, weak), batch), total / count)
    assert loss_of(Objective(net, Weak("dsrg", fg_least=1., bg_least=1.)), batch) != total / count


def test_every_batch_has_the_same_terms_whatever_it_holds():
    """Processes add them up, so a part without strong images must have theirs too."""
    objective = Objective(Net(), Weak("em-fixed"))
    assert {len(objective(make_batch(s, 4 - s))[0]) for s in range(5)} == {2}
    rows = Objective(Net(), rows={"strong": [0, 1], "weak": [0, 2]})
    for sources in (["strong"] * 2, ["weak"] * 2, ["strong", "weak"], ["weak", "strong"]):
        batch = make_batch(2, 0, classes=2, sources=sources)
        sums, counts, weights = rows(batch)
        assert weights.tolist() == [sources.count("strong") / 2, sources.count("weak") / 2]


@pytest.mark.parametrize("method", ["labels", "em-fixed"])
def test_two_branches_add_their_means(method):
    net, batch = Net(dual=True), make_batch(1, 3, weak_labels=True)
    weak = logits_of(net, batch, slice(1, 4), "two")
    targets = batch.labels[1:] if method == "labels" else em_fixed(weak, batch.tags[1:], 5., 3.)
    torch.testing.assert_close(
        loss_of(Objective(net, Weak(method)), batch),
        mean_nll(logits_of(net, batch, slice(0, 1)), batch.labels[:1]) + mean_nll(weak, targets))


def test_each_scale_has_its_loss():
    net, batch = Net(msc=True), make_batch(4, 0)
    maps = net.forward_scales(net.normalise(batch.photos))
    up = F.interpolate(maps[0], SIZE, mode="bilinear", align_corners=True)
    torch.testing.assert_close(loss_of(Objective(net), batch),
                               mean_nll(up, batch.labels) + mean_nll(maps[1], batch.labels))
    assert loss_of(Objective(net, Weak("em-fixed")), make_batch(0, 4)).isfinite()


def test_two_data_sets_share_the_classes_they_have_in_common():
    """By hand: the net has background, cat, dog; one place knows the first two, the other
    background and dog. Logits (0, a, b) give log(1 + e^a) - a at a cat pixel of the first and
    log(1 + e^b) - b at a dog pixel of the second: what the other class has is not in the sum."""
    net, (a, b) = Net(), (.7, -.4)
    with torch.no_grad():
        net.one.weight.zero_()
        net.one.bias.copy_(torch.tensor([0., a, b]))
    batch = make_batch(2, 0, classes=2, sources=["strong", "weak"])
    batch.labels[:] = 1
    rows = {"strong": [0, 1], "weak": [0, 2]}
    expected = .5 * (np.log1p(np.exp(a)) - a) + .5 * (np.log1p(np.exp(b)) - b)
    loss = loss_of(Objective(net, rows=rows), batch)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    p, q = (1 / (1 + np.exp(-x)) for x in (a, b))
    assert net.one.bias.grad.tolist() == pytest.approx(
        [.5 * (1 - p) + .5 * (1 - q), .5 * (p - 1), .5 * (q - 1)], rel=1e-5)

    batch.labels[1, 0, 0] = 0  # class weights are the net's: 3 for cat, 5 for dog
    n, first = batch.labels[1].numel(), np.log1p(np.exp(a)) - a
    second = (5 * (n - 1) * (np.log1p(np.exp(b)) - b) + np.log1p(np.exp(b))) / (5 * (n - 1) + 1)
    weighted = Objective(net, rows=rows, class_weight=[1., 3., 5.])
    assert loss_of(weighted, batch).item() == pytest.approx(.5 * first + .5 * second, rel=1e-6)


@pytest.mark.parametrize("dual", [False, True])
def test_a_batch_without_a_label_has_no_loss_and_no_gradient(dual):
    net, batch = Net(dual=dual), make_batch(2, 2)
    batch.labels[:] = 255
    loss = loss_of(Objective(net), batch)
    loss.backward()
    assert loss.item() == 0
    for p in net.parameters():
        assert p.grad is None or not p.grad.any()


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UsageError, match="no weak loss 'emfixed': one of labels, em-fixed"):
        Weak("emfixed")
    for net, weak in ((Net(dual=True), Weak()), (Net(), Weak("em-fixed"))):
        with pytest.raises(UsageError, match="different classes"):
            Objective(net, weak, rows={"strong": [0, 1]})
