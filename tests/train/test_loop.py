"""The loop: its steps, what stops it, and going on."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from tests.train.test_objective import Net, make_batch  # noqa: E402
from wsseg.errors import WssegError  # noqa: E402
from wsseg.train import loop  # noqa: E402
from wsseg.train.loop import Hooks, LossError, Plan, Trainer, joint_loss  # noqa: E402
from wsseg.train.objective import Objective  # noqa: E402
from wsseg.train.optim import L2SP, build_optimizer  # noqa: E402
from wsseg.train.schedule import Schedule  # noqa: E402

CPU = torch.device("cpu")


class Batches:
    """Stands for a Loader: batch ``n`` is the same whenever it is asked for."""

    rank, world = 0, 1
    augment, sampler = SimpleNamespace(crop=(6, 7)), SimpleNamespace(size=4)

    def __init__(self):
        self.asked = []

    def one(self, number):
        batch = make_batch(4, 0)
        batch.labels = batch.labels.roll(number, 2)
        batch.keys = [f"{number}.{i}" for i in range(4)]
        return batch

    def batches(self, start, stop):
        self.asked.append((start, stop))
        return map(self.one, range(start, stop))


class Dropping(Net):
    """Its answer is random while it is trained."""

    def forward_scales(self, images):
        return [F.dropout(self.one(images), .5, self.training)]


def trainer(net=None, hooks=None, l2sp=False, objective=Objective, batches=None, optimizer="sgd",
            **plan) -> Trainer:
    net = net or Net()
    groups = {"backbone_weight": [net.one.weight], "new_bias": [net.one.bias]}
    made = build_optimizer(groups, optimizer, lr=.1)
    plan = Plan(**{"iterations": 6, "lr": .1, "schedule": Schedule("poly", 6), "save_minutes": 0,
                   **plan})
    return Trainer(objective(net), made, batches or Batches(), plan, CPU, hooks or Hooks(),
                   L2SP(groups, alpha=.1) if l2sp else None)


def weights(net) -> list[torch.Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def test_steps_are_those_of_plain_sgd():
    """Written out: gradient of the mean, decay of weights, momentum, rates of a poly schedule."""
    net, plain = Net(), Net()
    trainer(net, iterations=3).run()
    velocity = {}
    for step in range(3):
        batch = Batches().one(step)
        loss = F.cross_entropy(plain.one(plain.normalise(batch.photos)), batch.labels.long(),
                               ignore_index=255)
        lr = .1 * (1 - step / 6) ** .9
        for p, rate, decay in ((plain.one.weight, 1, 5e-4), (plain.one.bias, 20, 0)):
            gradient = torch.autograd.grad(loss, p, retain_graph=True)[0] + decay * p.detach()
            velocity[rate] = .9 * velocity.get(rate, 0) + gradient
            p.data -= lr * rate * velocity[rate]
    for a, b in zip(weights(net), weights(plain)):
        torch.testing.assert_close(a, b)


def test_accumulated_batches_are_averaged():
    """Two batches of equal counts are as one of both."""
    class Twice(Batches):
        def one(self, number):
            return super().one(number // 2)

    one, two = Net(), Net()
    trainer(one).run()
    given = Twice()
    trainer(two, batches=given, accumulate=2).run()
    assert given.asked == [(0, 12)]
    for a, b in zip(weights(one), weights(two)):
        torch.testing.assert_close(a, b)


def test_l2sp_draws_to_the_start():
    free, held = Net(), Net()
    start = weights(held)[0]
    trainer(free).run()
    trainer(held, l2sp=True).run()
    assert (weights(held)[0] - start).norm() < (weights(free)[0] - start).norm()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_goes_on_bit_by_bit(optimizer):
    """From any step, with dropout, accumulation and L2-SP."""
    saved = {}

    def save(step):
        saved[step] = copy.deepcopy((whole.model.net.state_dict(), whole.optimizer.state_dict(),
                                     whole.l2sp.reference))

    options = {"optimizer": optimizer, "l2sp": True, "accumulate": 2, "iterations": 5}
    whole = trainer(Dropping(), hooks=Hooks(save=save), save_minutes=1e-12, **options)
    assert whole.run()
    assert sorted(saved) == [1, 2, 3, 4, 5]
    for step in (1, 3, 5):
        torch.manual_seed(step)
        rest = trainer(Dropping(), **options)
        rest.model.net.load_state_dict(saved[step][0])
        rest.optimizer.load_state_dict(saved[step][1])
        rest.l2sp.reference = saved[step][2]
        assert rest.run(step)
        assert rest.loader.asked == [(2 * step, 10)]
        for a, b in zip(weights(whole.model.net), weights(rest.model.net)):
            assert torch.equal(a, b)


def test_it_tells_of_steps_logs_evaluations_and_checkpoints():
    told = []
    hooks = Hooks(step=lambda step, images: told.append(("step", step, images)),
                  log=lambda entry: told.append(("log", entry["step"], sorted(entry))),
                  save=lambda step: told.append(("save", step)),
                  evaluate=lambda step: {"val_miou": .5})
    trainer(hooks=hooks, iterations=5, log_every=2, val_every=4).run()
    losses = ["img/s", "loss", "lr", "step", "waiting"]
    logs = [entry[1:] for entry in told if entry[0] == "log"]
    assert logs == [(2, losses), (4, losses), (4, ["step", "val_miou"]), (5, losses),
                    (5, ["step", "val_miou"])]
    assert [entry[1:] for entry in told if entry[0] == "step"] == [(i, 4) for i in range(1, 6)]
    assert [entry[1] for entry in told if entry[0] == "save"] == [5]


def test_time_that_is_over_ends_it_with_a_checkpoint():
    saved = []
    assert trainer(hooks=Hooks(save=saved.append), max_minutes=1e-9).run() is False
    assert saved == [1]
    assert trainer(hooks=Hooks(save=saved.append), max_minutes=1e-9, iterations=1).run() is True


class Poisoned(Objective):
    """Not a number from the fourth batch on."""

    def forward(self, batch):
        sums, counts, weights = super().forward(batch)
        return sums / (batch.keys[0] != "3.0"), counts, weights


def test_a_loss_that_is_no_number_stops_it_before_it_harms():
    net, saved, reached = Net(), [], []
    given = trainer(net, objective=Poisoned, save_minutes=1e-12, hooks=Hooks(
        save=lambda step: saved.append(step) or reached.append(weights(net))))
    with pytest.raises(LossError, match=r"the loss of step 4 is inf: its images are 3.0, 3.1, "
                                        r"3.2, 3.3 \(a smaller --lr"):
        given.run()
    assert saved == [1, 2, 3]
    for a, b in zip(reached[-1], weights(net)):
        assert torch.equal(a, b)


def test_labels_that_teach_nothing_are_told():
    class Blind(Batches):
        def one(self, number):
            batch = super().one(number)
            if number < 4:
                batch.labels.fill_(255)
            return batch

    told = []
    trainer(batches=Blind(), hooks=Hooks(warn=told.append), iterations=6, log_every=2).run()
    assert len(told) == 1 and "up to step 2 has no label to learn from" in told[0]


def test_weights_that_are_no_numbers_are_not_saved():
    """The loss of the last step was finite, and its gradient was not."""
    net, saved = Net(), []

    def step(number, images):
        next(net.parameters()).data.fill_(math.inf)

    given = trainer(net, hooks=Hooks(step=step, save=saved.append), iterations=1)
    with pytest.raises(LossError, match="weights are not finite after step 1"):
        given.run()
    assert saved == []


@pytest.mark.parametrize("error", [
    MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_memory_that_runs_out_is_told_with_what_to_lower(error):
    class Large(Objective):
        def forward(self, batch):
            raise error

    with pytest.raises(WssegError, match="out of memory with batches of 4 crops of 6x7: lower "
                                         "--batch .* or --crop"):
        trainer(objective=Large).run()


def test_other_errors_are_not_mistaken_for_that():
    class Wrong(Objective):
        def forward(self, batch):
            raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        trainer(objective=Wrong).run()


def test_terms_without_a_pixel_are_nothing():
    sums, counts = torch.tensor([6., 0.]), torch.tensor([3., 0.])
    loss, shown = joint_loss(sums, counts, torch.tensor([.25, .75]))
    assert loss.item() == shown.item() == .5


def test_the_parts_of_processes_make_the_joint_loss(monkeypatch):
    """Two processes with 1 of 4 and 3 of 4 strong images: the shares are those of all eight."""
    parts = [[torch.tensor([2., 9.]), torch.tensor([4., 3.]), torch.tensor([.25, .75])],
             [torch.tensor([8., 1.]), torch.tensor([6., 2.]), torch.tensor([.75, .25])]]
    monkeypatch.setattr(loop.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(loop.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(loop.dist, "all_reduce",
                        lambda t: t.copy_(sum(torch.stack(p) for p in parts)))
    expected = .5 * (2 + 8) / (4 + 6) + .5 * (9 + 1) / (3 + 2)
    results = [joint_loss(*p) for p in parts]
    assert [shown.item() for _, shown in results] == pytest.approx([expected] * 2)
    assert sum(loss.item() for loss, _ in results) / 2 == pytest.approx(expected)
