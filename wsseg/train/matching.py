"""Which predicted mask stands for which true object: the cheapest assignment of all.

RSIS gives its masks in an order of its own, so before the loss is taken each step is given the
object that makes the sum of the costs least (the Hungarian algorithm, here scipy's
``linear_sum_assignment``). What must not be paired costs ``PADDED``, as in RSIS' published code;
W-RSIS' masked matching pairs steps and objects of one class only (budget-2019, section 5).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

PADDED = 10.  #: cost of pairs that are not real; a soft IoU's cost is at most 1


def padded(cost: np.ndarray, steps: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Return costs (B,T,G) with ``PADDED`` where there is no such step (B,) or object (B,)."""
    real = ((np.arange(cost.shape[1]) < steps[:, None])[:, :, None]
            & (np.arange(cost.shape[2]) < objects[:, None])[:, None])
    return np.where(real, cost, PADDED)


def match(cost: np.ndarray, steps: np.ndarray, objects: np.ndarray,
          step_class: np.ndarray | None = None, object_class: np.ndarray | None = None
          ) -> np.ndarray:
    """Return the object of each step, int64 (B,T), -1 for none.

    cost: (B,T,G), finite; steps, objects: how many of each image are real, integers (B,). As
    many steps get an object as there are objects, or all steps if those are fewer, and the sum
    of their costs is the least possible. step_class (B,T), object_class (B,G): pair equal
    classes only, as many as there are of both. Raises ValueError for costs of ``PADDED`` and more
    or not a number.
    """
    cost = np.asarray(cost, np.float64)
    steps, objects = np.minimum(steps, cost.shape[1]), np.minimum(objects, cost.shape[2])
    if not (padded(cost, steps, objects) <= PADDED).all():
        raise ValueError("a cost is not a number of at most 10")
    result = np.full(cost.shape[:2], -1, np.int64)
    for image, (n, m) in enumerate(zip(steps.tolist(), objects.tolist())):
        if step_class is None:
            _assign(cost[image], np.arange(n), np.arange(m), result[image])
            continue
        mine, theirs = step_class[image, :n], object_class[image, :m]
        for cls in np.intersect1d(mine, theirs):
            _assign(cost[image], np.flatnonzero(mine == cls), np.flatnonzero(theirs == cls),
                    result[image])
    return result


def _assign(cost: np.ndarray, steps: np.ndarray, objects: np.ndarray, result: np.ndarray) -> None:
    if len(steps) == len(objects) == 1:
        result[steps] = objects
        return
    rows, columns = linear_sum_assignment(cost[np.ix_(steps, objects)])
    result[steps[rows]] = objects[columns]


def soft_iou_costs(logits: Tensor, masks: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return 1 - soft IoU of every step with every object, (B,T,G), differentiable.

    logits: (B,T,H,W); masks: the objects, 0 or 1 of any type (B,G,H,W); valid: bool (B,H,W),
    False where nothing is known, which then counts for nothing. Of probabilities s and a mask y
    the soft IoU is sum(s y) / (sum(s + y - s y) + 1e-6) (RSIS).
    """
    with torch.autocast(logits.device.type, enabled=False):  # sums over all pixels
        kind = torch.promote_types(logits.dtype, torch.float32)
        s, y = logits.to(kind).sigmoid().flatten(2), masks.flatten(2).to(kind)
        if valid is not None:
            known = valid.flatten(1)[:, None].to(kind)
            s, y = s * known, y * known
        meet = s @ y.transpose(1, 2)
        join = s.sum(2)[:, :, None] + y.sum(2)[:, None] - meet
        return 1 - meet / (join + 1e-6)
