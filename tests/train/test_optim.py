"""Optimisers: rates and decay of each group worked out by hand, L2-SP against autograd."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from wsseg.errors import UsageError  # noqa: E402
from wsseg.train.optim import GROUPS, L2SP, build_optimizer, set_lr  # noqa: E402


def groups(value=2.):
    """Two parameters a group, of equal values and with a gradient of 1."""
    made = {key: [nn.Parameter(torch.full((3,), value)) for _ in range(2)] for key in GROUPS}
    for parameter in sum(made.values(), []):
        parameter.grad = torch.ones(3)
    return made


def test_one_step_moves_each_group_by_its_own_rate_and_decays_weights_alone():
    made = groups()
    optimizer = build_optimizer(made, lr=.5, weight_decay=.1)
    set_lr(optimizer, .5 * .02)
    optimizer.step()
    rates = {"backbone_weight": 1, "backbone_bias": 2, "backbone_norm": 1,
             "new_weight": 10, "new_bias": 20, "new_norm": 10}

    for key, rate in rates.items():
        gradient = 1 + (.1 * 2. if key.endswith("weight") else 0)
        assert [p[0].item() for p in made[key]] == pytest.approx([2 - .01 * rate * gradient] * 2)


def test_momentum_gathers():
    made = groups()
    optimizer = build_optimizer(made, lr=.1, momentum=.5, weight_decay=0)
    for _ in range(3):
        optimizer.step()
    # velocities 1, 1.5 and 1.75
    assert made["backbone_norm"][0][0].item() == pytest.approx(2 - .1 * 4.25)


@pytest.mark.parametrize("name, decayed", (("adam", 0), ("adamw", .1)))
def test_adam_steps_by_the_rate_and_adamw_decays_beside_it(name, decayed):
    made = groups()
    build_optimizer(made, name, lr=1e-3, weight_decay=.1, new_rate=20, bias_rate=20).step()
    # the first step of Adam is the learning rate, whatever the gradient
    assert made["new_weight"][0][0].item() == pytest.approx(2 - .02 * (1 + decayed * 2), rel=1e-5)
    assert made["backbone_bias"][0][0].item() == pytest.approx(2 - .001, rel=1e-5)


def test_groups_without_parameters_are_left_out():
    optimizer = build_optimizer({"new_weight": groups()["new_weight"], "new_norm": []}, lr=1)
    assert [g["name"] for g in optimizer.param_groups] == ["new_weight"]


def test_rates_outlive_a_saved_state():
    first, second = (build_optimizer(groups(), lr=.5) for _ in range(2))
    second.load_state_dict(first.state_dict())
    set_lr(second, .1)
    assert {g["name"]: g["lr"] for g in second.param_groups}["new_bias"] == pytest.approx(2.)


def test_wrong_names_and_numbers_are_refused():
    made = groups()
    with pytest.raises(UsageError, match="'lion'.*sgd"):
        build_optimizer(made, "lion", lr=1)
    for wrong in ({"lr": -1}, {"lr": float("nan")}, {"lr": 1, "weight_decay": -.1},
                  {"lr": 1, "new_rate": 0}):
        with pytest.raises(UsageError, match="cannot be"):
            build_optimizer(made, **wrong)
    with pytest.raises(ValueError, match="'head'"):
        build_optimizer({"head": []}, lr=1)
    with pytest.raises(ValueError, match="more than one"):
        build_optimizer({"new_bias": made["new_bias"], "new_norm": made["new_bias"]}, lr=1)


def test_l2sp_adds_the_gradient_of_its_loss():
    made = groups()
    pull = L2SP(made, alpha=.3, beta=.7)
    with torch.no_grad():
        for parameter in sum(made.values(), []):
            parameter += torch.randn(3)
    moved = made["backbone_weight"] + made["new_weight"]
    expected = torch.autograd.grad(pull.loss(), moved)
    by_hand = .5 * .3 * sum(((w - 2) ** 2).sum() for w in made["backbone_weight"]) \
        + .5 * .7 * sum((w ** 2).sum() for w in made["new_weight"])
    pull.add_gradients()

    assert pull.loss().item() == pytest.approx(by_hand.item())
    for w, gradient in zip(moved, expected):
        assert torch.allclose(w.grad, 1 + gradient)
    for key in set(GROUPS) - {"backbone_weight", "new_weight"}:
        assert all((p.grad == 1).all() for p in made[key])


def test_l2sp_takes_its_reference_from_a_checkpoint():
    made = groups(value=5.)
    pull = L2SP(made, [torch.full((3,), 4.)] * 2, alpha=1., beta=0.)
    made["backbone_weight"][1].grad = None
    pull.add_gradients()

    assert made["backbone_weight"][0].grad.tolist() == [2, 2, 2]
    assert made["backbone_weight"][1].grad is None
    with pytest.raises(ValueError, match="1 reference weights.*2 weights"):
        L2SP(made, [torch.zeros(3)])


def test_l2sp_of_nothing_is_nothing():
    pull = L2SP({})
    pull.add_gradients()
    assert pull.loss().item() == 0
