"""The parts at work: a small net learns to segment, from masks and from tags alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from wsseg.train.augment import Augment  # noqa: E402
from wsseg.train.em import em_adapt, em_fixed  # noqa: E402
from wsseg.train.losses import labelled_nll  # noqa: E402
from wsseg.train.optim import build_optimizer, set_lr  # noqa: E402
from wsseg.train.sampling import Sampler  # noqa: E402
from wsseg.train.schedule import Schedule  # noqa: E402
from wsseg.train.tags import tags_of_label  # noqa: E402

COLOURS = np.array([[110, 110, 110], [200, 80, 60], [60, 90, 200]])


def picture(rng):
    """A noisy photo of one rectangle or two, and its labels."""
    label = np.zeros((32, 40), np.uint8)
    for side in rng.permutation(2)[:rng.integers(1, 3)]:
        y, height, x = rng.integers(2, 6), rng.integers(16, 24), 3 + 18 * side
        label[y:y + height, x:x + 14] = rng.integers(1, 3)
    photo = COLOURS[label] + rng.normal(0, 25, (*label.shape, 3))
    return photo.clip(0, 255).astype(np.uint8), label


def train(objective, steps=60):
    """The share of pixels that are right after a run on 24 pictures."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pictures = [picture(rng) for _ in range(24)]
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 3, 3, 1, 1))
    optimizer = build_optimizer({"new_weight": [net[0].weight, net[2].weight],
                                 "new_bias": [net[0].bias, net[2].bias]}, lr=.01)
    sampler, schedule = Sampler({"weak": 24}, 8), Schedule("poly", steps, warm_up=5)
    spec = Augment((32, 32), scale=(.9, 1.2))
    for step in range(steps):
        photos, labels, tags, rngs = [], [], [], []
        for draw in sampler.batch(step):
            own = np.random.default_rng(draw.seed)
            photo, label = pictures[draw.index]
            warp = spec.draw(label.shape, own)
            photos.append(warp.photo(photo))
            labels.append(torch.from_numpy(warp.label(label)))
            tags.append(torch.from_numpy(tags_of_label(label, 3)))
            rngs.append(own)
        images = torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)
        logits = net((images.float() - 128) / 64)
        total, count = objective(logits, torch.stack(labels), torch.stack(tags), rngs)
        optimizer.zero_grad()
        (total / count.clamp_min(1)).backward()
        set_lr(optimizer, .01 * schedule.factor(step))
        optimizer.step()
    photos, labels = (np.stack(part) for part in zip(*pictures))
    with torch.no_grad():
        logits = net((torch.from_numpy(photos).permute(0, 3, 1, 2).float() - 128) / 64)
    found = logits.argmax(1).numpy()
    truth = labels[:, ::2, ::2]
    return (found == truth).mean()


def test_masks_teach_best_then_em_adapt_then_em_fixed():
    """The order of Table 1 of wssl-2015: 67.6, 38.2 and 20.8."""
    strong = train(lambda f, y, z, g: labelled_nll(f, y, at="logits"))
    adapt = train(lambda f, y, z, g: labelled_nll(f, em_adapt(f, z, generator=g)))
    fixed = train(lambda f, y, z, g: labelled_nll(f, em_fixed(f, z)))

    assert strong > .95
    assert adapt > .75
    assert fixed < adapt
