"""The E-steps against loops over pixels written from the paper and its supplementary algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from wsseg.train.em import adapt_scores, bbox_em_fixed, em_adapt, em_fixed  # noqa: E402

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def batch(seed, images, classes, height, width, listed=.5):
    """Logits without ties, and tags."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (images, classes, height, width))
    return torch.from_numpy(logits), torch.from_numpy(rng.random((images, classes)) < listed)


BATCHES = st.builds(batch, st.integers(0, 9999), st.integers(1, 4), st.integers(1, 8),
                    st.integers(1, 7), st.integers(1, 7), st.sampled_from((0., .3, .6, 1.)))


def adapt_one(f, tags, bg_portion, fg_portion, orders, suppress, margin=1e-5):
    """One image, step by step: f {class: [score of each pixel]}, orders one list an iteration."""
    f, pixels = {c: list(row) for c, row in enumerate(f.tolist())}, f.shape[1]
    listed = [c for c in f if tags[c]]
    if not listed:
        return np.array([f[c] for c in f])
    if suppress:
        for x in range(pixels):
            lowest = min(f[c][x] for c in listed)
            for c in f:
                if c not in listed and f[c][x] > lowest:
                    f[c][x] = lowest - margin
    top = [max(f[c][x] for c in listed) for x in range(pixels)]
    mean = sum(top) / pixels
    for order in orders:
        for c in [0] * bool(tags[0]) + order:
            portion = bg_portion if c == 0 else fg_portion
            gaps = sorted(top[x] - f[c][x] for x in range(pixels))
            bias = gaps[min(int(portion * pixels), pixels - 1)]
            f[c] = [v + bias for v in f[c]]
            top = [max(a, b) for a, b in zip(top, f[c])]
    shift = mean - sum(top) / pixels
    return np.array([[v + shift for v in f[c]] for c in f])


def adapt_loop(logits, tags, bg_portion, fg_portion, iterations, suppress, rng):
    """All images; the orders are drawn iteration by iteration, then image by image."""
    tags, flat = tags.numpy(), logits.flatten(2).numpy()
    classes = [np.flatnonzero(t[1:]) + 1 for t in tags]
    orders = [[c[rng.permutation(len(c))].tolist() for c in classes] for _ in range(iterations)]
    done = [adapt_one(f, t, bg_portion, fg_portion, [o[i] for o in orders], suppress)
            for i, (f, t) in enumerate(zip(flat, tags))]
    return torch.from_numpy(np.stack(done)).view_as(logits)


@settings(max_examples=60, deadline=None)
@given(BATCHES, st.sampled_from((0., .2, .4, 1.)), st.sampled_from((0., .2, .37, 1.)),
       st.integers(0, 3), st.booleans(), st.integers(0, 99))
def test_em_adapt_is_the_supplementary_algorithm(given_batch, bg, fg, iterations, suppress, seed):
    logits, tags = given_batch
    expected = adapt_loop(logits, tags, bg, fg, iterations, suppress, np.random.default_rng(seed))
    options = bg, fg, iterations, suppress, 1e-5
    scores = adapt_scores(logits, tags, *options, np.random.default_rng(seed))
    labels = em_adapt(logits, tags, *options, np.random.default_rng(seed))
    short = em_adapt(logits.float(), tags, *options, np.random.default_rng(seed))

    assert torch.allclose(scores, expected, atol=1e-9)
    # where a bias makes two classes equal, rounding decides between them
    best = expected.max(1, keepdim=True).values - 1e-9
    assert (expected.gather(1, labels[:, None]) >= best).all()
    assert (expected.gather(1, short[:, None]) >= best - 1e-4).all()


def test_em_adapt_worked_by_hand():
    # Background and class 1 listed, 5 pixels; class 2 is absent but leads at the first one.
    logits = torch.tensor([[[4., 3, 2, 1, 0]], [[0., 1, 0, 0, -9]], [[9., 0, 0, 0, -8]]])[None]
    tags = torch.tensor([[True, True, False]])
    # Background: it leads everywhere, bias 0. Class 1: gaps 4 2 2 1 9, sorted 1 2 2 4 9; the
    # floor(.4 * 5) = 2nd from 0 is 2, so it becomes 2 3 2 2 -7 and M goes from 4 3 2 1 0 to
    # 4 3 2 2 0: mean 2.2 for 2.0, so all lose .2. Class 2: the lowest listed are 0 1 0 0 -9;
    # above them are 9 and -8, which become 0 and -9 less the margin.
    scores = adapt_scores(logits, tags, bg_portion=.4, fg_portion=.4, iterations=1, margin=.5)
    expected = torch.tensor([[[3.8, 2.8, 1.8, .8, -.2]], [[1.8, 2.8, 1.8, 1.8, -7.2]],
                             [[-.7, -.2, -.2, -.2, -9.7]]])

    assert torch.allclose(scores[0], expected)
    assert em_adapt(logits, tags, .4, .4, 1).tolist() == [[[0, 0, 0, 1, 0]]]


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.sampled_from((0., .2, .5, 1.)), st.integers(1, 3), st.integers(0, 99))
def test_the_class_visited_last_gets_its_portion_and_absent_classes_nothing(given_batch, portion,
                                                                            iterations, seed):
    logits, tags = given_batch
    pixels = logits.shape[2] * logits.shape[3]
    scores = adapt_scores(logits, tags, .4, portion, iterations)  # in ascending order
    labels = em_adapt(logits.float(), tags, .4, portion, iterations,
                      generator=np.random.default_rng(seed))

    assert torch.isfinite(scores).all()
    for score, label, tag, own in zip(scores.flatten(2), labels, tags, logits.argmax(1)):
        listed = tag.nonzero()[:, 0].tolist()
        if not listed:
            assert torch.equal(label, own)
            continue
        share = .4 if listed[-1] == 0 else portion
        wins = score[listed[-1]] >= score[listed].amax(0) - 1e-9
        assert wins.sum() >= min(int(share * pixels) + 1, pixels)
        assert set(label.unique().tolist()) <= set(listed)


def test_portions_that_add_up_to_more_than_all_stay_finite():
    logits, tags = batch(1, 2, 8, 9, 9, listed=1)
    scores = adapt_scores(logits * 1e3, tags, .4, .2, 50, generator=np.random.default_rng(0))
    labels = em_adapt(logits, tags, 1., 1., 50)

    assert torch.isfinite(scores).all()
    assert scores.amax(1).mean().item() == pytest.approx(1e3 * logits.amax(1).mean().item())
    assert labels.max() < 8


def test_an_absent_class_that_ties_or_that_rounding_lifts_is_not_taken():
    logits = torch.tensor([7e4, 7e4, 9e4]).view(1, 3, 1, 1)  # 7e4 - 1e-5 is 7e4 in float32
    assert em_adapt(logits, torch.tensor([[False, True, False]])).item() == 1
    assert em_adapt(logits, torch.tensor([[False, False, True]])).item() == 2


def test_orders_are_drawn_anew_and_any_generator_serves():
    logits, tags = batch(3, 1, 8, 16, 16, listed=1)
    ours = [em_adapt(logits, tags, .4, .2, 1, generator=np.random.default_rng(s)) for s in range(6)]
    theirs = [em_adapt(logits, tags, .4, .2, 1, generator=torch.Generator().manual_seed(s))
              for s in (0, 0, 1, 2, 3, 4)]

    assert len({t.numpy().tobytes() for t in ours}) > 1
    assert torch.equal(theirs[0], theirs[1])
    assert len({t.numpy().tobytes() for t in theirs}) > 1


def test_a_generator_of_its_own_frees_an_image_from_its_batch():
    logits, tags = batch(5, 3, 8, 16, 16, listed=1)

    def each():
        return [np.random.default_rng(i) for i in range(3)]

    whole = em_adapt(logits, tags, generator=each())
    for i, one in enumerate(each()):
        alone = em_adapt(logits[i:i + 1], tags[i:i + 1], generator=[one])
        assert torch.equal(whole[i:i + 1], alone)


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.booleans())
def test_em_fixed_is_algorithm_1(given_batch, forbid):
    logits, tags = given_batch
    labels = em_fixed(logits, tags, forbid=forbid)
    for i, k in np.ndindex(labels.shape[0], labels[0].numel()):
        f = logits[i].flatten(1)[:, k].tolist()
        z = tags[i].tolist()
        raised = [v + (5 if c else 3) * z[c] for c, v in enumerate(f)]
        if forbid and any(z):
            raised = [v if z[c] else -np.inf for c, v in enumerate(raised)]
        assert labels[i].flatten()[k] == np.argmax(raised)


@settings(max_examples=30, deadline=None)
@given(BATCHES, st.integers(0, 99), st.booleans())
def test_boxes_boost_their_own_pixels_and_the_background_all(given_batch, seed, forbid):
    logits, _ = given_batch
    inside = torch.from_numpy(np.random.default_rng(seed).random(logits.shape) < .4)
    inside[:, 0] = True
    labels = bbox_em_fixed(logits, inside, 4., 1., forbid=forbid)
    for i, y, x in np.ndindex(*labels.shape):
        raised = [v + (1 if c == 0 else 4 * inside[i, c, y, x].item())
                  for c, v in enumerate(logits[i, :, y, x].tolist())]
        if forbid:
            raised = [v if inside[i, c, y, x] else -np.inf for c, v in enumerate(raised)]
        assert labels[i, y, x] == np.argmax(raised)


def test_a_map_of_pixel_labels_stands_for_boxes():
    logits = torch.zeros(1, 3, 1, 4)
    labels = torch.tensor([[[0, 1, 2, 255]]])
    assert bbox_em_fixed(logits, labels).tolist() == [[[0, 1, 2, 0]]]
    assert bbox_em_fixed(logits, labels, 3., 5.).tolist() == [[[0, 0, 0, 0]]]


@pytest.mark.parametrize("device", DEVICES)
def test_no_gradient_flows_and_half_precision_is_widened(device):
    logits, tags = batch(0, 2, 5, 6, 6)
    half = logits.bfloat16().to(device).requires_grad_()
    for step in (em_fixed, em_adapt):
        labels = step(half, tags)
        assert not labels.requires_grad and labels.dtype == torch.int64
        assert torch.equal(labels.cpu(), step(half.detach().float().cpu(), tags))


def test_tags_of_another_shape_and_impossible_portions_are_refused():
    logits, tags = batch(0, 2, 5, 6, 6)
    for step in (em_fixed, em_adapt, bbox_em_fixed):
        with pytest.raises(ValueError, match=r"got \(2, 5, 6, 6\) and \(2, 4\)"):
            step(logits, tags[:, :4])
    with pytest.raises(ValueError, match="1.5"):
        em_adapt(logits, tags | True, fg_portion=1.5)
