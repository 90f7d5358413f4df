"""The matching against every permutation there is, and the soft IoU against numpy."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

torch = pytest.importorskip("torch")

from wsseg.train.matching import PADDED, match, padded, soft_iou_costs  # noqa: E402


def best_of_all(cost, step_class=None, object_class=None) -> float:
    """The least cost of (T,G) over all ways to pair as many as can be paired."""
    steps, objects = cost.shape
    if step_class is not None:
        return sum(best_of_all(cost[np.ix_(step_class == c, object_class == c)])
                   for c in set(step_class) & set(object_class))
    if steps > objects:
        return best_of_all(cost.T)
    rows = np.arange(steps)
    return min((cost[rows, list(order)].sum() for chosen in combinations(range(objects), steps)
                for order in permutations(chosen)), default=0.)


def total(cost, found) -> float:
    some = np.flatnonzero(found >= 0)
    return cost[some, found[some]].sum()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5), st.integers(0, 5), st.booleans(), st.integers(0, 2 ** 32 - 1))
def test_no_permutation_is_cheaper(steps, objects, ties, seed):
    rng = np.random.default_rng(seed)
    cost = rng.random((1, steps, objects))
    if ties:
        cost = cost.round(1)
    found = match(cost, np.array([steps]), np.array([objects]))[0]
    used = found[found >= 0]
    assert len(used) == len(set(used)) == min(steps, objects)
    assert total(cost[0], found) == pytest.approx(best_of_all(cost[0]), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(0, 2 ** 32 - 1))
def test_no_permutation_within_the_classes_is_cheaper(steps, objects, classes, seed):
    rng = np.random.default_rng(seed)
    cost = rng.random((1, steps, objects))
    mine, theirs = rng.integers(0, classes, (1, steps)), rng.integers(0, classes, (1, objects))
    found = match(cost, np.array([steps]), np.array([objects]), mine, theirs)[0]
    some = np.flatnonzero(found >= 0)
    assert (mine[0, some] == theirs[0, found[some]]).all()
    expected = sum(min((mine == c).sum(), (theirs == c).sum()) for c in range(classes))
    assert len(some) == len(set(found[some])) == expected
    assert total(cost[0], found) == pytest.approx(best_of_all(cost[0], mine[0], theirs[0]),
                                                  abs=1e-9)


def test_a_batch_is_its_images_and_padding_is_never_paired():
    """As with RSIS' own matrix, in which what is not real costs 10."""
    rng = np.random.default_rng(3)
    cost = rng.random((40, 6, 7))
    steps, objects = rng.integers(0, 7, 40), rng.integers(0, 8, 40)
    found = match(cost, steps, objects)
    for i, (n, m) in enumerate(zip(steps, objects)):
        assert (found[i, n:] == -1).all() and found[i].max(initial=-1) < m
        assert (found[i, :n] >= 0).sum() == min(n, m)
        alone = match(cost[i:i + 1, :n, :m], steps[i:i + 1], objects[i:i + 1])[0]
        assert np.array_equal(alone, found[i, :n])
        whole = padded(cost[i:i + 1], steps[i:i + 1], objects[i:i + 1])[0]
        rows, columns = linear_sum_assignment(whole)
        real = (rows < n) & (columns < m)
        assert real.sum() == min(n, m)
        assert whole[rows[real], columns[real]].sum() == pytest.approx(total(cost[i], found[i]))


def test_odd_costs():
    assert match(np.zeros((2, 3, 0)), np.array([3, 3]), np.array([0, 0])).tolist() == [[-1] * 3] * 2
    two = match(np.full((1, 2, 2), .4), np.array([2]), np.array([2]))[0]  # two identical objects
    assert sorted(two) == [0, 1]
    more = match(np.array([[[.5, .1, .9, .2]]]), np.array([1]), np.array([4]))
    assert more.tolist() == [[1]]
    far = match(np.zeros((1, 2, 2)), np.array([99]), np.array([99]))  # more than there is room for
    assert sorted(far[0]) == [0, 1]
    for bad in (np.nan, np.inf, PADDED + 1):
        with pytest.raises(ValueError, match="not a number of at most 10"):
            match(np.full((1, 1, 1), bad), np.array([1]), np.array([1]))


# -- soft IoU ----------------------------------------------------------------------------------


def scene(dtype=torch.float64, requires_grad=False):
    torch.manual_seed(0)
    logits = (2 * torch.randn(2, 3, 5, 4, dtype=dtype)).requires_grad_(requires_grad)
    return logits, torch.rand(2, 2, 5, 4) > .6, torch.rand(2, 5, 4) > .2


@pytest.mark.parametrize("known", [False, True])
def test_soft_iou_is_that_of_its_formula(known):
    logits, masks, valid = scene()
    found = soft_iou_costs(logits, masks, valid if known else None).numpy()
    for b in range(2):
        seen = valid[b].numpy() if known else np.ones((5, 4), bool)
        for t in range(3):
            s = 1 / (1 + np.exp(-logits[b, t].numpy()[seen]))
            for g in range(2):
                y = masks[b, g].numpy()[seen].astype(float)
                expected = 1 - (s * y).sum() / ((s + y - s * y).sum() + 1e-6)
                assert found[b, t, g] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("known", [False, True])
def test_gradients_of_the_soft_iou(known):
    logits, masks, valid = scene(requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: soft_iou_costs(x, masks, valid if known else None), (logits,))


def test_soft_iou_of_sure_masks_is_their_iou():
    masks = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    masks[0, 0, :2], masks[0, 1, 1:3] = 1, 1  # the third is empty
    costs = soft_iou_costs(40. * masks.float() - 20, masks)[0]
    assert costs[0, 0] == pytest.approx(0, abs=1e-5)
    assert costs[0, 1] == pytest.approx(1 - 4 / 12, abs=1e-5)
    assert costs[0, 2] == costs[2, 1] == 1 and torch.isfinite(costs).all()
    with torch.autocast("cpu", torch.bfloat16):  # sums of many pixels stay exact
        assert torch.equal(soft_iou_costs(40. * masks.float() - 20, masks)[0], costs)
