"""Optimisers with a rate for each group of parameters, and L2-SP (scribbles-2019).

A net names its parameters by what they are, ``Segmenter.parameter_groups()``: backbone (loaded)
or new, and weight, bias or norm. Weights alone decay. Rates are factors on the base learning rate:
new weights learn 10 times and new biases 20 times as fast (DeepLabV2's published code, and
PSPNet's in scribbles-2019); other biases keep the ratio of the two, twice, as in Caffe's solvers.

torch's momentum takes the learning rate outside of the velocity, Caffe's inside; they differ for
a few iterations after a rate changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from wsseg.errors import UsageError

GROUPS = ("backbone_weight", "backbone_bias", "backbone_norm", "new_weight", "new_bias", "new_norm")
OPTIMIZERS = ("sgd", "adam", "adamw")
ParameterGroups = Mapping[str, Sequence[nn.Parameter]]


def build_optimizer(groups: ParameterGroups, name: str = "sgd", *, lr: float,
                    momentum: float = .9, weight_decay: float = 5e-4, new_rate: float = 10.,
                    bias_rate: float = 20.) -> Optimizer:
    """Return an optimiser; each of its groups has the keys 'name' and 'rate', and lr * rate.

    bias_rate: of new biases; biases of the backbone get bias_rate / new_rate. With 'adam' the
    decay is an L2 loss, with 'adamw' it is decoupled; momentum is their first beta. Empty groups
    are left out. Raises UsageError for an unknown name or a number that is no rate, ValueError
    for an unknown group, a parameter that is in two of them, or no parameter at all.
    """
    if name not in OPTIMIZERS:
        raise UsageError(f"unknown optimiser {name!r}: one of {', '.join(OPTIMIZERS)}")
    for what, value, least in (("learning rate", lr, 0), ("momentum", momentum, 0),
                               ("weight decay", weight_decay, 0), ("rate of new weights", new_rate,
                                1e-9), ("rate of biases", bias_rate, 0)):
        if not least <= value < float("inf"):
            raise UsageError(f"the {what} cannot be {value}")
    _check_groups(groups)
    rates = {"backbone_bias": bias_rate / new_rate, "new_weight": new_rate, "new_bias": bias_rate,
             "new_norm": new_rate}
    table = [{"params": list(groups[key]), "name": key, "rate": rates.get(key, 1.),
              "lr": lr * rates.get(key, 1.),
              "weight_decay": weight_decay if key.endswith("_weight") else 0.}
             for key in GROUPS if groups.get(key)]
    if name == "sgd":
        return torch.optim.SGD(table, lr=lr, momentum=momentum)
    make = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return make(table, lr=lr, betas=(momentum, .999))


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Give each group ``lr`` times its own rate; ``lr`` is the base times the schedule's factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]


def _check_groups(groups: ParameterGroups) -> None:
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise ValueError(f"unknown parameter groups {unknown}; they are {GROUPS}")


class L2SP:
    """Loaded weights are drawn to where they started, new ones to 0 (Li et al., ICML 2018).

    1/2 alpha ||w - w0||^2 over 'backbone_weight' and 1/2 beta ||w||^2 over 'new_weight'; biases
    and normalisation are free, as in the published code of scribbles-2019's PSPNet (alpha .001,
    beta .0001). It stands in place of the optimiser's weight decay: build that with 0.
    ``add_gradients`` goes between backward (of all processes and all accumulated parts, with
    their scale undone) and the optimiser's step.
    """

    def __init__(self, groups: ParameterGroups, reference: Sequence[Tensor] | None = None, *,
                 alpha: float = 1e-3, beta: float = 1e-4):
        """reference: w0 in the order of groups['backbone_weight']; None takes the present values.

        A checkpoint must hold ``reference``: a resumed run's present values are not w0.
        """
        _check_groups(groups)
        self.alpha, self.beta = alpha, beta
        self.old = list(groups.get("backbone_weight", ()))
        self.new = list(groups.get("new_weight", ()))
        given = self.old if reference is None else list(reference)
        if [w.shape for w in given] != [w.shape for w in self.old]:
            raise ValueError(f"the {len(given)} reference weights are not those of the "
                             f"{len(self.old)} weights of the backbone")
        self.reference = [r.detach().to(w.device, w.dtype).clone() for r, w in zip(given, self.old)]

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the gradient of ``loss`` to that of each weight that has one."""
        for w, start in zip(self.old, self.reference):
            if w.grad is not None:
                w.grad.add_(w, alpha=self.alpha).sub_(start, alpha=self.alpha)
        for w in self.new:
            if w.grad is not None:
                w.grad.add_(w, alpha=self.beta)

    def loss(self) -> Tensor:
        """The penalty itself, a scalar that can be differentiated: for a log, or as a loss."""
        total = torch.zeros((), device=(self.old + self.new)[0].device if self.old or self.new
                            else None)
        for w, start in zip(self.old, self.reference):
            total = total + .5 * self.alpha * (w - start).square().sum()
        for w in self.new:
            total = total + .5 * self.beta * w.square().sum()
        return total
