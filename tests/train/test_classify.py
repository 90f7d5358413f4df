"""The loss of image tags against its formula."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import tinynet  # noqa: E402
from wsseg.nets.classifier import ClassifierSpec, build  # noqa: E402
from wsseg.train.classify import TagObjective, tag_probabilities  # noqa: E402
from wsseg.train.loop import joint_loss  # noqa: E402
from wsseg.train.samples import Batch  # noqa: E402


@pytest.fixture
def net(monkeypatch):
    tinynet.install(monkeypatch)
    torch.manual_seed(0)
    made = build(ClassifierSpec("tiny", 4)).eval()
    torch.nn.init.normal_(made.head.weight, std=1.)
    torch.nn.init.normal_(made.head.bias, std=1.)
    return made


def batch(count, seed=0):
    rng = np.random.default_rng(seed)
    photos = torch.from_numpy(rng.integers(0, 256, (count, 3, 17, 25)).astype(np.uint8))
    tags = torch.from_numpy(rng.random((count, 4)) < .5)
    labels = torch.full((count, 17, 25), 255, dtype=torch.uint8)
    return Batch([str(i) for i in range(count)], photos, labels, None, tags, [], 0, [])


def by_formula(probabilities, tags, weights):
    terms = -np.where(tags, np.log(probabilities), np.log(1 - probabilities)) * weights
    return terms.sum() / (weights.sum() * len(tags))


@pytest.mark.parametrize("background", [None, 0, 2])
@pytest.mark.parametrize("weight", [None, [1., 2., .5, 0.]])
def test_it_is_the_weighted_mean_cross_entropy_of_the_classes(net, background, weight):
    given = batch(5)
    loss, shown = joint_loss(*TagObjective(net, background, class_weight=weight)(given))
    weights = np.array(weight or [1.] * 4)
    if background is not None:
        weights[background] = 0
    found = tag_probabilities(net, given.photos.permute(0, 2, 3, 1).contiguous().numpy())
    expected = by_formula(found.astype(float), given.tags.numpy(), weights)
    assert shown.item() == pytest.approx(expected, rel=1e-5) and loss.requires_grad


def test_the_background_learns_nothing(net):
    joint_loss(*TagObjective(net, 0)(batch(3)))[0].backward()
    assert (net.head.weight.grad[0] == 0).all() and (net.head.weight.grad[1:] != 0).any()


def test_parts_of_a_batch_add_up(net):
    """What several processes do: sums and counts are added."""
    objective, whole = TagObjective(net, 0), batch(6)
    halves = [Batch(whole.keys[s], whole.photos[s], whole.labels[s], None, whole.tags[s], [], 0, [])
              for s in (slice(0, 2), slice(2, 6))]
    sums, counts = zip(*(objective(h)[:2] for h in halves))
    expected = objective(whole)
    torch.testing.assert_close(sum(sums), expected[0])
    torch.testing.assert_close(sum(counts), expected[1])
