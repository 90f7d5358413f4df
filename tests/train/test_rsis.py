"""RSIS' losses against numpy, what must not change them, and that photos are learnt by heart."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import tinylevels  # noqa: E402
from tests.nets.test_overfit import photos  # noqa: E402
from wsseg.annotate.objects import connected_objects  # noqa: E402
from wsseg.nets.rsis import Found, RSISSpec, build  # noqa: E402
from wsseg.train.augment import Augment  # noqa: E402
from wsseg.train.rsis import RSISObjective, stop_loss  # noqa: E402
from wsseg.train.rsis_samples import (ObjectBatch, Objects, ObjectSample,  # noqa: E402
                                      squashed, stacked_objects)
from wsseg.train.rsis_stages import Stages  # noqa: E402
from wsseg.train.sampling import Draw  # noqa: E402

SIZE, CLASSES, STEPS = (33, 33), 4, 4


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    tinylevels.install(monkeypatch)


def made(token=None, **more) -> RSISObjective:
    torch.manual_seed(0)
    net = build(RSISSpec(tinylevels.NAME, CLASSES, 16, STEPS, SIZE, token))
    return RSISObjective(net, **more)


def batch_of(*objects, order="class", number=0) -> ObjectBatch:
    """Images of objects given as (class, top, left, side)."""
    samples = []
    for i, some in enumerate(objects):
        masks = np.zeros((len(some), *SIZE), bool)
        for mask, (_, y, x, side) in zip(masks, some):
            mask[y:y + side, x:x + side] = True
        photo = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), np.uint8)
        samples.append(ObjectSample(str(i), photo, masks, np.array([o[0] for o in some], int)))
    return stacked_objects(samples, [Draw("strong", i, i) for i in range(len(objects))],
                           steps=STEPS, order=order, number=number)


ONE, TWO = (1, 2, 3, 9), (2, 14, 15, 11)


def drawn(batch, steps=3, seed=0) -> Found:
    torch.manual_seed(seed)
    n = len(batch.keys)
    return Found(torch.randn(n, steps, *SIZE), torch.randn(n, steps, CLASSES),
                 torch.randn(n, steps))


# -- losses ------------------------------------------------------------------------------------


def test_stop_loss_is_that_of_its_formula():
    """Steps with an object shall say so, the next shall not, those behind it do not count."""
    stops = torch.randn(4, 3, generator=torch.manual_seed(0))
    objects = [0, 1, 2, 3]
    for balance in (.5, .3):
        expected, count = 0., 0
        for row, n in zip(1 / (1 + np.exp(-stops.double().numpy())), objects):
            for t, p in enumerate(row[:n + 1]):
                expected -= (1 - balance) * np.log(p) if t < n else balance * np.log(1 - p)
                count += 1
        found = stop_loss(stops, torch.tensor(objects), balance)
        assert found[0].item() == pytest.approx(expected, rel=1e-5) and found[1] == count == 9


def test_losses_are_those_of_the_cheapest_pairs():
    objective, batch = made(), batch_of([ONE, TWO], [TWO])
    found = drawn(batch)
    sums, counts, weights = objective.losses(found, batch)
    assert weights.tolist() == pytest.approx([1, .1, .5])
    s = found.masks.sigmoid().numpy()

    def cost(b, t, g):
        y = batch.masks[b, g].numpy()
        return 1 - (s[b, t] * y).sum() / ((s[b, t] + y - s[b, t] * y).sum() + 1e-6)

    straight = cost(0, 0, 0) + cost(0, 1, 1), [1, 2]
    crossed = cost(0, 0, 1) + cost(0, 1, 0), [2, 1]
    best, classes = min(straight, crossed)
    assert sums[0].item() == pytest.approx(best + cost(1, 0, 0), rel=1e-5) and counts[0] == 3
    logp = found.classes.log_softmax(2).numpy()
    nll = -logp[0, 0, classes[0]] - logp[0, 1, classes[1]] - logp[1, 0, 2]
    assert sums[1].item() == pytest.approx(nll, rel=1e-5) and counts[1] == 3
    assert counts[2] == 3 + 2


def test_the_order_of_the_true_objects_is_all_one():
    objective = made()
    a, b = batch_of([ONE, TWO, (1, 0, 20, 8)]), batch_of([TWO, (1, 0, 20, 8), ONE])
    found = drawn(a, 4)
    assert torch.allclose(objective.losses(found, a)[0], objective.losses(found, b)[0])


def test_no_object_teaches_the_stop_alone():
    objective, batch = made(), batch_of([], [])
    assert batch.masks.shape[1] == 1 and batch.objects.tolist() == [0, 0]
    sums, counts, weights = objective(batch)
    assert sums[:2].tolist() == counts[:2].tolist() == [0, 0] and counts[2] == 2
    (weights * sums / counts.clamp_min(1)).sum().backward()
    assert objective.net.decoder.stop.weight.grad.abs().sum() > 0
    told = made("first")
    sums, counts, _ = told(batch)
    assert (sums.tolist(), counts.tolist()) == ([0.], [0.])


def test_more_objects_than_steps():
    """The best of them are taken; nothing is said of a step behind the last."""
    many = [(1 + i % 3, i, 2 * i, 4 + i) for i in range(9)]
    objective, batch = made(), batch_of(many, [ONE])
    sums, counts, _ = objective(batch)
    assert counts.tolist() == [STEPS + 1, STEPS + 1, STEPS + 2]
    assert torch.isfinite(sums).all()
    told = made("all")
    assert batch.tokens.shape == (2, STEPS)
    assert told(batch)[1].tolist() == [STEPS + 1]


def test_two_identical_objects_are_both_to_be_drawn():
    objective, batch = made(), batch_of([ONE, ONE])
    found = drawn(batch)
    sums, counts, _ = objective.losses(found, batch)
    costs = [objective.losses(Found(found.masks[:, [t]], found.classes[:, [t]],
                                    found.stops[:, [t]]), batch)[0][0].item() for t in (0, 1)]
    assert counts[0] == 2 and sums[0].item() == pytest.approx(sum(costs), rel=1e-5)


def test_steps_behind_the_objects_get_no_gradient():
    objective, batch = made(), batch_of([ONE], [ONE, TWO])
    found = drawn(batch, 4)
    for values in (found.masks, found.classes, found.stops):
        values.requires_grad_()
    sums, counts, weights = objective.losses(found, batch)
    (weights * sums / counts).sum().backward()
    assert (found.masks.grad.abs().sum((2, 3)) > 0).tolist() == [[True, False, False, False],
                                                               [True, True, False, False]]
    assert (found.stops.grad != 0).tolist() == [[True, True, False, False],
                                                [True, True, True, False]]


def test_what_is_not_known_does_not_count():
    objective, batch = made(), batch_of([ONE])
    found = drawn(batch)
    batch.valid = torch.ones(1, *SIZE, dtype=torch.bool)
    before = objective.losses(found, batch)[0]
    batch.valid[:, :, 20:] = False
    found.masks[:, :, :, 20:] = 9.
    less = objective.losses(found, batch)[0]
    found.masks[:, :, :, 20:] = -9.
    assert torch.equal(objective.losses(found, batch)[0], less) and less[0] != before[0]


def test_masked_matching_keeps_to_the_classes():
    """Where masks drawn for one class fit the other's object better, the plain one crosses."""
    batch = batch_of([ONE, TWO])
    assert batch.tokens.tolist() == [[1, 2]]
    crossed = Found(12. * batch.masks.flip(1).float() - 6)
    masked, plain = (made("first", masked=m).losses(crossed, batch)[0].item()
                     for m in (True, False))
    assert plain < .1 and masked > 1.9


def test_losses_set_in_one_after_the_other():
    objective = made(stages=Stages(2, 5))
    for number, expected in ((0, [1, 0, 0]), (2, [1, .1, 0]), (4, [1, .1, 0]), (5, [1, .1, .5])):
        batch = batch_of([ONE], number=number)
        weights = objective(batch)[2]
        assert weights.tolist() == pytest.approx(expected) and objective.seen == number + 1


def test_patience_brings_the_stop_loss_on():
    stages = Stages(0, None, patience=2)
    told = [stages.look(v, 9) for v in (3., 2., 2.5, 2.4, 9., 8., 8.5, 8.6, 8.7)]
    assert told == ["better", "better", "", "next", "better", "better", "", "", ""]
    assert stages.of(9) == (True, True)
    again = Stages(0, None, patience=2)
    again.restore(stages.as_json())
    assert again == stages
    calm = Stages(3, 4)
    assert [calm.look(v, 1) for v in (1., 2., 3., 4.)] == ["better", "", "", ""]
    assert calm.of(2) == (False, False) and calm.of(4) == (True, True)


def test_a_loss_that_is_no_number_stays_one():
    """The loop then names the images."""
    objective, batch = made(), batch_of([ONE, TWO])
    found = drawn(batch)
    found.masks[:] = torch.nan
    assert objective.losses(found, batch)[0][0].isnan()


# -- learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "first"])
def test_photos_are_learnt_by_heart(token):
    """Four real photos of five objects: masks, classes and where to stop."""
    torch.manual_seed(0)
    images, labels = photos()
    augment, samples = Augment(65, flip=0, squash=True), []
    for i in range(4):
        label = labels[i].numpy().astype(np.uint8)
        ids, classes = connected_objects(label, min_area=150)
        objects = Objects((ids.astype(np.uint16),), classes, (label != 255).astype(np.uint8))
        samples.append(squashed(str(i), images[i].numpy(), objects, augment, 0))
    batch = stacked_objects(samples, [Draw("strong", i, i) for i in range(4)], steps=3)
    net = build(RSISSpec(tinylevels.NAME, 9, 64, 3, (65, 65), token))
    objective = RSISObjective(net.to(memory_format=torch.channels_last))
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(150):
        sums, counts, weights = objective(batch)
        loss = (weights * sums / counts).sum()
        if sums[0] / counts[0] < .15:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert sums[0] / counts[0] < .2  # a mean soft IoU of over .8
    if token is None:
        found = objective.judge(batch, torch.device("cpu"))[0]
        right = [found.classes[i, :n].argmax(1).sort()[0].tolist()
                 == sorted(batch.classes[i, :n].tolist()) for i, n in enumerate(batch.objects)]
        assert all(right)
        for row, n in zip(found.stops, batch.objects.tolist()):
            assert (row[:n + 1] > 0).tolist() == ([True] * n + [False])[:len(row)]
