"""Region growing against a flood fill, its losses against plain numpy, and what is learnt."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from wsseg.refine.densecrf import PRESETS, dense_crf  # noqa: E402
from wsseg.train import dsrg  # noqa: E402
from wsseg.train.augment import Augment, Warp  # noqa: E402
from wsseg.train.cues import cues_at, inside_at  # noqa: E402
from wsseg.train.dsrg import (boundary_loss, expansion_loss, grow, probabilities,  # noqa: E402
                              rank_pool, refine, seed_loss, seeded_loss)


def random_case(seed, images=2, classes=4, height=9, width=11):
    """Blotchy refined probabilities, a few cues, tags and an inside."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 1, (images, classes, height, width))
    for axis in (2, 3):
        z = z + np.roll(z, 1, axis) + np.roll(z, -1, axis)
    p = np.exp(rng.choice([.5, 2., 4.]) * z)
    p /= p.sum(1, keepdims=True)
    tags = rng.random((images, classes)) < .6
    tags[:, 0] = True
    inside = rng.random((images, height, width)) < .9
    cues = np.where(inside & (rng.random(inside.shape) < .1),
                    rng.integers(0, classes, inside.shape), 255)
    cues[~np.take_along_axis(tags, np.where(cues == 255, 0, cues).reshape(images, -1), 1)
         .reshape(cues.shape)] = 255
    return p, cues, tags, inside


# -- growing -----------------------------------------------------------------------------------


def flood(p, cues, tags, inside, fg, bg):
    """What grow must give, one pixel after the other: from each cue over the neighbours."""
    (images, classes, height, width), result = p.shape, cues.copy()
    for b in range(images):
        likely = {}
        for y in range(height):
            for x in range(width):
                c = max((c for c in range(classes) if tags[b, c]), key=lambda c: p[b, c, y, x])
                if inside[b, y, x] and p[b, c, y, x] > (fg if c else bg):
                    likely[y, x] = c
        for start, c in likely.items():
            if cues[b][start] != c:
                continue
            seen, queue = {start}, deque([start])
            while queue:
                y, x = queue.popleft()
                if cues[b, y, x] == 255:
                    result[b, y, x] = c
                for at in ((y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                    if likely.get(at) == c and at not in seen:
                        seen.add(at)
                        queue.append(at)
    return result


def grown(p, cues, tags, inside, fg, bg):
    return grow(*map(torch.from_numpy, (p, cues, tags, inside)), fg, bg).numpy()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 9999), st.sampled_from([(.85, .99), (.4, .5), (.6, .2), (0., 0.)]))
def test_growing_is_a_flood_fill_that_keeps_the_cues(seed, least):
    p, cues, tags, inside = random_case(seed)
    result = grown(p, cues, tags, inside, *least)
    assert np.array_equal(result, flood(p, cues, tags, inside, *least))
    assert (result[cues != 255] == cues[cues != 255]).all()
    assert (result[~inside] == 255).all()
    for b in range(len(p)):
        new = (result[b] != 255) & (cues[b] == 255)
        assert set(result[b][new]) <= set(cues[b][cues[b] != 255])
        assert tags[b][result[b][new]].all()
    most = grown(p, cues, tags, inside, .99, .999)
    assert ((most == 255) | (most == grown(p, cues, tags, inside, .3, .3))).all()


def test_a_region_by_hand():
    """One class of .9 in an N of pixels that touch by their corners alone; the background's .9
    does not do, and a pixel that is the background's cue does not join but lets pass."""
    shape = np.array([list("a..b."), list(".a.b."), list("..x.b"), list("a...."), list("a.a..")])
    p = np.zeros((1, 3, 5, 5))
    p[0, 0] = .9
    p[0, 1, shape != "."], p[0, 0, shape != "."] = .9, .1
    cues = np.full((1, 5, 5), 255)
    cues[0, 0, 0], cues[0, 2, 2], cues[0, 4, 4] = 1, 0, 0
    tags, inside = np.array([[True, True, False]]), np.ones((1, 5, 5), bool)
    expected = np.full((5, 5), 255)
    expected[np.isin(shape, ["b"])] = 1
    expected[0, 0] = expected[1, 1] = 1
    expected[2, 2] = expected[4, 4] = 0
    assert np.array_equal(grown(p, cues, tags, inside, .85, .99)[0], expected)
    assert (grown(p, cues, tags, inside, .85, .8)[0] == 0).sum() > 10
    assert np.array_equal(grown(p, cues, tags, inside, .95, .99), cues)


def test_a_class_without_tag_neither_grows_nor_hinders():
    """Of the tags the argmax is taken, and its own probability must suffice."""
    p = np.zeros((1, 3, 1, 3))
    p[0, :, 0] = np.array([[.02, .03, .95], [.05, .9, .05], [.02, .88, .1]]).T
    cues = np.array([[[255, 1, 255]]])
    inside = np.ones((1, 1, 3), bool)
    for tags, expected in (([True, True, False], [255, 1, 1]), ([True, True, True], [255, 1, 1])):
        assert grown(p, cues, np.array([tags]), inside, .85, .99)[0, 0].tolist() == expected


# -- losses ------------------------------------------------------------------------------------


def plain_seed(p, cues, balanced):
    result = []
    for prob, cue in zip(p, cues):
        groups = [cue == 0, (cue != 0) & (cue != 255)] if balanced else [cue != 255]
        total = 0.
        for group in groups:
            terms = [-np.log(prob[cue[y, x], y, x]) for y, x in np.argwhere(group)]
            total += sum(terms) / max(1, len(terms))
        result.append(total)
    return result


def plain_boundary(p, q, inside):
    return [sum(q[b, c, y, x] * np.log(min(20., max(.05, q[b, c, y, x] / p[b, c, y, x])))
                for c in range(p.shape[1]) for y, x in np.argwhere(inside[b])) / inside[b].sum()
            for b in range(len(p))]


def plain_expansion(p, tags, cues, inside):
    """Equation 4 and 5 of SEC, by sorting; the decay is for 1681 pixels."""
    def pool(values, decay):
        d = decay ** (1681 / len(values))
        values = sorted(values, reverse=True)
        z = sum(d ** j for j in range(len(values)))
        return sum(d ** j * v for j, v in enumerate(values)) / z

    result = []
    for b in range(len(p)):
        there = [p[b, c][inside[b]] for c in range(p.shape[1])]
        shown = [c for c in range(1, len(there)) if tags[b, c] and (cues[b] == c).any()]
        absent = [c for c in range(1, len(there)) if not tags[b, c]]
        total = -np.log(pool(there[0], .999))
        if shown:
            total -= sum(np.log(pool(there[c], .996)) for c in shown) / len(shown)
        if absent:
            total -= sum(np.log(1 - max(there[c])) for c in absent) / len(absent)
        result.append(total)
    return result


@pytest.mark.parametrize("seed", range(5))
def test_losses_are_those_of_the_papers(seed):
    p, cues, tags, inside = random_case(seed, 3)
    q = random_case(seed + 100, 3)[0]
    tp, tq, tc, tt, ti = map(torch.from_numpy, (p, q, cues, tags, inside))
    for balanced in (False, True):
        assert seed_loss(tp, tc, balanced=balanced).tolist() == pytest.approx(
            plain_seed(p, cues, balanced))
    assert boundary_loss(tp, tq, ti).tolist() == pytest.approx(plain_boundary(p, q, inside))
    assert expansion_loss(tp, tt, tc, ti).tolist() == pytest.approx(
        plain_expansion(p, tags, cues, inside))


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_right(seed):
    """Also where q / p is out of bounds: the derivative is 0 there."""
    p, cues, tags, inside = random_case(seed, 2, 3, 4, 5)
    logits = torch.from_numpy(3 * np.log(p)).requires_grad_()
    refined = probabilities(torch.from_numpy(np.log(random_case(seed + 9, 2, 3, 4, 5)[0])))
    tc, tt, ti = map(torch.from_numpy, (cues, tags, inside))
    ratio = refined / probabilities(logits)
    assert ((ratio > 20) | (ratio < .05)).any()
    for loss in (lambda z: seed_loss(probabilities(z), tc, balanced=True),
                 lambda z: boundary_loss(probabilities(z), refined, ti),
                 lambda z: expansion_loss(probabilities(z), tt, tc, ti)):
        assert torch.autograd.gradcheck(loss, (logits,))


def test_the_boundary_loss_draws_the_net_to_the_refined_map():
    """Within the bounds its gradient is that of cross-entropy with soft targets: (p - q) / N."""
    logits = torch.randn(1, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    p = logits.softmax(1)
    refined = (logits + .3 * torch.randn(1, 4, 5, 6, dtype=torch.float64)).softmax(1).detach()
    boundary_loss(p, refined).sum().backward()
    torch.testing.assert_close(logits.grad, (p - refined).detach() / 30)
    assert boundary_loss(refined, refined).item() == pytest.approx(0, abs=1e-12)


def test_losses_of_nothing_are_nothing():
    p = probabilities(torch.randn(2, 3, 4, 4, requires_grad=True))
    cues, tags = torch.full((2, 4, 4), 255), torch.tensor([[True] * 3, [True, False, False]])
    nowhere = torch.zeros(2, 4, 4, dtype=torch.bool)
    total = (seed_loss(p, cues, balanced=True) + seed_loss(p, cues)
             + boundary_loss(p, p.detach(), nowhere) + expansion_loss(p, tags, cues, nowhere))
    assert total.tolist() == [0, 0]
    total.sum().backward()


@pytest.mark.parametrize("method", dsrg.METHODS)
def test_without_a_background_no_class_is_one(method):
    """Classes in another order have the same loss then."""
    rng = np.random.default_rng(3)
    logits = torch.from_numpy(rng.normal(0, 2, (2, 3, 6, 7)))
    photos = torch.from_numpy(rng.integers(0, 255, (2, 3, 24, 28)))
    labels = torch.full((2, 24, 28), 255)
    labels[:, 4:20:5, :10], labels[:, 8:11, 18:] = 0, 1  # apart, so that no vote is a tie
    tags = torch.tensor([[True, True, False]] * 2)
    order, other = [1, 0, 2], labels.where(labels == 255, 1 - labels)

    def both(background):
        more = {"fg_least": .5, "bg_least": .99, "background": background}
        return [dsrg.seeded_loss(method, *given, **more)[0].item() for given in (
            (logits, photos, labels, tags), (logits[:, order], photos, other, tags[:, order]))]

    one, two = both(False)
    assert one == pytest.approx(two, rel=1e-9) and one > 0
    assert both(True)[0] != pytest.approx(one, rel=1e-3)


def test_ranks_count_by_hand():
    """Three values, decay such that weights are 1, 1/2, 1/4: (4*.5 + 2*.3 + .1) / 7."""
    decay = .5 ** (3 / 1681)
    values, inside = torch.tensor([[[.1, .5, .3, .9]]]), torch.tensor([[True, True, True, False]])
    assert rank_pool(values, inside, decay).item() == pytest.approx(2.7 / 7)
    assert rank_pool(values, inside, 1e-30).item() == pytest.approx(.5)
    assert rank_pool(values, inside, 1.).item() == pytest.approx(.3)


# -- what comes from the crop ------------------------------------------------------------------


def whole(size):
    return Warp(np.eye(2, 3), size, size)


def test_the_crf_is_that_of_ws_crf_at_the_same_scale():
    rng = np.random.default_rng(0)
    photo = np.kron(rng.integers(0, 256, (3, 4, 3)), np.ones((5, 4, 1))).astype(np.uint8)
    p = rng.dirichlet(np.ones(3), photo.shape[:2]).transpose(2, 0, 1).astype(np.float32)
    p = probabilities(torch.from_numpy(p).log()[None])
    expected = dense_crf(p[0].numpy(), photo, PRESETS["dsrg"].scaled(1 / 12), engine="torch")
    found = refine(p, torch.from_numpy(photo).permute(2, 0, 1)[None],
                   torch.ones(1, *photo.shape[:2], dtype=torch.bool), np.array([12.]))
    assert found.sum(1).numpy() == pytest.approx(1, abs=1e-5)
    assert found[0].numpy() == pytest.approx(expected, abs=2e-3)  # at least 1e-4 there


def test_what_is_around_a_photo_changes_nothing():
    """Neither its colour nor the net's logits there, with all losses and their gradients."""
    torch.manual_seed(0)
    warps = [Augment(65, scale=(.5, .9), rotate=30).draw((50, 60), np.random.default_rng(i))
             for i in range(3)]
    inside = torch.from_numpy(inside_at(warps, (9, 9)))
    assert 0 < inside.float().mean() < 1
    photos = torch.randint(0, 256, (3, 3, 65, 65), dtype=torch.uint8)
    labels = torch.full((3, 65, 65), 255, dtype=torch.uint8)
    labels[:, 28:40, 28:40], labels[:, 44:52] = 1, 0
    tags = torch.tensor([[True, True, False]] * 3)
    around = ~torch.from_numpy(inside_at(warps, (65, 65)))[:, None]
    for method in dsrg.METHODS:
        results = []
        for shift in (0., 4.):
            logits = torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(1))
            logits[:, 2] += shift * ~inside
            logits.requires_grad_()
            colours = photos if not shift else photos.masked_fill(wider(around), 7)
            total, count = seeded_loss(method, logits, colours, labels, tags, warps)
            total.backward()
            assert count == 3 and not logits.grad[~inside[:, None].expand_as(logits)].any()
            results.append((total.detach(), logits.grad * inside[:, None]))
        torch.testing.assert_close(*results, atol=1e-4, rtol=1e-4)


def test_a_photo_that_fills_any_part_of_a_crop_has_finite_marginals():
    """Barycentric weights are below 0 by rounding now and then: their root was once NaN."""
    for seed in (1, 2, 9):
        rng = np.random.default_rng(seed)
        inside = torch.from_numpy(rng.random((8, 17, 17)) < rng.random())
        photos = torch.from_numpy(rng.integers(0, 256, (8, 3, 65, 65)).astype(np.uint8))
        p = probabilities(torch.from_numpy(rng.normal(0, 3, (8, 5, 17, 17))).float())
        assert refine(p, photos, inside, rng.uniform(5, 40, 8)).isfinite().all()


@pytest.mark.parametrize("method", dsrg.METHODS)
def test_processes_may_share_a_batch(method):
    """Sums and counts of its parts add up to those of the whole."""
    torch.manual_seed(0)
    photos = torch.randint(0, 256, (4, 3, 65, 65), dtype=torch.uint8)
    warps = [Augment(65).draw((50, 60), np.random.default_rng(i)) for i in range(4)]
    labels = torch.full((4, 65, 65), 255, dtype=torch.uint8)
    labels[:3, 28:40, 28:40], labels[1:, 44:52] = 1, 0
    tags, logits = torch.tensor([[True, True, False]] * 4), 3 * torch.randn(4, 3, 9, 9)
    given = logits, photos, labels, tags
    whole_batch = seeded_loss(method, *given, warps)
    parts = [seeded_loss(method, *(t[a:b] for t in given), warps[a:b]) for a, b in ((0, 1), (1, 4))]
    assert whole_batch[1] == parts[0][1] + parts[1][1] == 4
    assert whole_batch[0].item() == pytest.approx((parts[0][0] + parts[1][0]).item(), rel=1e-4)


def wider(around):
    """Less what the photo's interpolation reaches: 8 pixels."""
    return -nn.functional.max_pool2d(-around.float(), 33, 1, 16) > 0


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'seed': one of dsrg, sec"):
        seeded_loss("seed", torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 9, 9),
                    torch.zeros(1, 9, 9, dtype=torch.uint8), torch.ones(1, 2, dtype=torch.bool))


# -- learning ----------------------------------------------------------------------------------


def pictures(count=6, size=(49, 49)):
    """Photos of a disc or a square on grey with noise, their truth, and cues: a few pixels."""
    rng, photos, truth = np.random.default_rng(0), [], np.zeros((count, *size), np.uint8)
    y, x = np.mgrid[:size[0], :size[1]]
    for i in range(count):
        cy, cx, r = (*rng.integers(18, 31, 2), rng.integers(11, 15))
        away = np.hypot(y - cy, x - cx) if i % 2 else np.maximum(abs(y - cy), abs(x - cx))
        truth[i][away < r] = 1 + i % 2
        colour = np.array([[110, 110, 110], [200, 80, 60], [60, 90, 200]])[truth[i]]
        photos.append((colour + rng.normal(0, 15, colour.shape)).clip(0, 255).astype(np.uint8))
    cues = np.full_like(truth, 255)
    for i in range(count):
        cy, cx = np.argwhere(truth[i]).mean(0).astype(int)
        cues[i, cy - 3:cy + 4, cx - 3:cx + 4] = truth[i, cy, cx]
        cues[i, :2], cues[i, -2:] = 0, 0
    return np.stack(photos), truth, cues


@pytest.mark.parametrize("method", dsrg.METHODS)
def test_it_learns_objects_from_a_few_pixels_each(method, monkeypatch):
    photos, truth, cues = pictures()
    images = torch.from_numpy(photos).permute(0, 3, 1, 2)
    tags = torch.tensor([[True, i % 2 == 0, i % 2 == 1] for i in range(len(photos))])
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 2, 1),
                        nn.ReLU(), nn.Conv2d(16, 3, 1))
    optimizer = torch.optim.Adam(net.parameters(), .02)
    seen, original = [], dsrg.grow

    def spy(*args):
        seen.append(original(*args))
        return seen[-1]

    monkeypatch.setattr(dsrg, "grow", spy)
    losses = []
    for _ in range(30):
        total, count = seeded_loss(method, net((images.float() - 128) / 64), images,
                                   torch.from_numpy(cues), tags)
        optimizer.zero_grad()
        (total / count).backward()
        optimizer.step()
        losses.append((total / count).item())
    found = net((images.float() - 128) / 64).argmax(1).numpy()
    small = truth[:, ::4, ::4]
    assert losses[-1] < .5 * losses[0]
    assert (found == small)[small > 0].mean() > .9
    assert (found == small).mean() > .9
    if method == "dsrg":
        seeds = cues_at(torch.from_numpy(cues), small.shape[1:], 3).numpy()
        right = [(g.numpy() == small)[small > 0].mean() for g in (seen[0], seen[10], seen[-1])]
        last = seen[-1].numpy()
        assert (seeds == small)[small > 0].mean() < .3 < right[2]
        assert right[0] < right[1] <= right[2] + .05 and right[2] > right[0] + .2, right
        assert (last == small)[(small > 0) & (seeds == 255)].mean() > .8
        assert (last == small)[last != 255].mean() > .9
