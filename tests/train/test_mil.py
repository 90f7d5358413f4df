"""The multiple-instance losses against loops, and what their pools must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from wsseg.train.mil import FORMS, POOLS, mil_loss, pool_scores  # noqa: E402


def loop(logits, tags, pool, form, r):
    """Sum and count in plain Python."""
    def pooled(row):
        return max(row) if pool == "max" else math.log(
            sum(math.exp(r * v) for v in row) / len(row)) / r

    total = count = 0
    for f, z in zip(logits.double().flatten(2).numpy(), tags.tolist()):
        if not any(z):
            continue
        listed, count = [c for c, v in enumerate(z) if v], count + 1
        if form == "sigmoid":
            s = [pooled(row) for row in f]
            terms = [math.log1p(math.exp(-s[c] if z[c] else s[c])) for c in range(1, len(z))]
            total += sum(terms) / max(1, len(terms))
            continue
        if form == "pixel":
            f = f - np.log(np.exp(f).sum(0))
            terms = [-pooled(f[c]) for c in listed]
        else:
            s = [pooled(row) for row in f]
            terms = [math.log(sum(math.exp(v) for v in s)) - s[c] for c in listed]
        total += sum(terms) / len(terms)
    return total, count


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 6), st.integers(1, 5),
       st.sampled_from(POOLS), st.sampled_from(FORMS), st.sampled_from((.5, 5.)))
def test_losses_are_those_of_a_loop(seed, images, classes, size, pool, form, r):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 2, (images, classes, size, 3))).float()
    tags = torch.from_numpy(rng.random((images, classes)) < .4)
    total, count = mil_loss(logits.requires_grad_(), tags, pool, form, r)
    expected, number = loop(logits.detach(), tags, pool, form, r)
    total.backward()

    assert count.item() == number
    assert total.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[~tags.any(1)] == 0).all()


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=20), st.floats(.1, 50))
def test_log_sum_exp_lies_between_mean_and_maximum(values, r):
    row = torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)
    value = pool_scores(row, "lse", r).item()

    assert np.mean(values) - 1e-9 <= value <= max(values) + 1e-9
    assert pool_scores(row, "lse", 1e6).item() == pytest.approx(max(values), abs=1e-4)
    assert pool_scores(row).item() == max(values)


def test_two_pixels_worked_by_hand():
    # Pixel softmaxes (.75, .25) and (.2, .8); both classes listed: -(log .75 + log .8) / 2.
    logits = torch.tensor([[.75, .2], [.25, .8]]).log().view(1, 2, 1, 2)
    total, count = mil_loss(logits, torch.tensor([[True, True]]))

    assert total.item() == pytest.approx(-(math.log(.75) + math.log(.8)) / 2)
    assert count.item() == 1


@pytest.mark.parametrize("form", FORMS)
def test_without_a_background_no_class_is_one(form):
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (2, 3, 4, 5)))
    tags, order = torch.tensor([[True, False, True], [False, True, False]]), [1, 2, 0]
    one, two = (mil_loss(*given, form=form, background=False) for given in (
        (logits, tags), (logits[:, order], tags[:, order])))
    assert one[0].item() == pytest.approx(two[0].item(), rel=1e-6)
    assert (one[0] != mil_loss(logits, tags, form=form)[0]) == (form == "sigmoid")


def test_unknown_names_and_shapes_are_refused():
    logits, tags = torch.zeros(1, 2, 3, 3), torch.ones(1, 2)
    with pytest.raises(ValueError, match="'mean'.*max, lse"):
        mil_loss(logits, tags, pool="mean")
    with pytest.raises(ValueError, match="'hinge'"):
        mil_loss(logits, tags, form="hinge")
    with pytest.raises(ValueError, match=r"\(1, 3\)"):
        mil_loss(logits, torch.ones(1, 3))
