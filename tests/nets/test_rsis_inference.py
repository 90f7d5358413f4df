"""The rules by which steps become objects, on worked examples."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets.rsis import Found  # noqa: E402
from wsseg.nets.rsis_inference import (Drawn, choose, run_steps, upsampled,  # noqa: E402
                                       without_overlap)

SIZE = (40, 50)


def steps(*areas, stops, classes=None) -> Found:
    """Masks of the first so many pixels of each row-major image."""
    masks = torch.full((1, len(areas), *SIZE), -5.)
    for mask, area in zip(masks[0], areas):
        mask.view(-1)[:area] = 5.
    torch.manual_seed(0)
    logits = torch.randn(1, len(areas), 4) if classes is None else torch.tensor([classes])
    return Found(masks, logits, torch.tensor([stops]))


def softmax(x) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_rsis_rules():
    """The second step says stop, and those behind it go on; the third's area is under .1 %."""
    found = steps(100, 200, 1, 300, 2, stops=[2., -1., 3., 0., 1.])
    drawn = choose(found, 0, SIZE)
    assert [int(m.sum()) for m in drawn.masks] == [100, 300, 2]
    expected = softmax(found.classes[0].numpy()) / (1 + np.exp(-found.stops[0].numpy()))[:, None]
    expected[:, 0] = 0  # no object is background
    assert np.allclose(drawn.scores, expected[[0, 3, 4]], atol=1e-6)
    assert np.array_equal(drawn.best()[0], expected[[0, 3, 4]].argmax(1))
    assert np.allclose(drawn.best()[1], expected[[0, 3, 4]].max(1))
    every = choose(found, 0, SIZE, background=None)
    assert (every.scores > 0).all() and every.scores.shape == (3, 4)


def test_image_labels_are_masked_in_and_counts_keep_the_first():
    found = steps(100, 200, 300, stops=[2., 1., 3.])
    allowed = np.array([False, True, False, True])
    drawn = choose(found, 0, SIZE, allowed=allowed)
    inside = softmax(found.classes[0].numpy()[:, allowed])
    assert np.allclose(drawn.scores[:, allowed], inside / (1 + np.exp([[-2.], [-1.], [-3.]])),
                       atol=1e-6)
    assert (drawn.scores[:, ~allowed] == 0).all()
    first = choose(found, 0, SIZE, allowed=allowed, count=2)
    assert np.array_equal(first.masks, drawn.masks[:2])
    assert np.array_equal(first.scores, drawn.scores[:2])
    assert len(choose(found, 0, SIZE, allowed=allowed, count=9).masks) == 3
    for nothing in (choose(found, 0, SIZE, count=0),
                    choose(found, 0, SIZE, allowed=np.zeros(4, bool))):
        assert nothing.masks.shape == (0, *SIZE) and nothing.scores.shape == (0, 4)
        assert without_overlap(nothing).max() == 0 and len(nothing.best()[0]) == 0


def test_w_rsis_draws_what_it_is_told():
    """Whatever it is sure of; an object's score is its pixels' mean probability."""
    found = Found(torch.full((2, 3, *SIZE), -4.))
    found.masks[1, 0, :10], found.masks[1, 2, 20:] = 2., .5
    drawn = choose(found, 1, SIZE, tokens=np.array([3, 1, 2]))
    assert len(drawn.masks) == 2  # nothing was drawn in the second step
    assert drawn.best()[0].tolist() == [3, 2]
    assert np.allclose(drawn.best()[1], 1 / (1 + np.exp([-2., -.5])), atol=1e-6)
    assert len(choose(found, 1, SIZE, tokens=np.array([3])).masks) == 1
    assert len(choose(found, 1, SIZE, tokens=np.zeros(0, int)).masks) == 0


def test_overlap_goes_to_the_more_probable():
    probabilities = np.zeros((3, 1, 5), np.float32)
    probabilities[0, 0, :3], probabilities[1, 0, 1:] = .8, .7
    probabilities[1, 0, 2] = .9
    probabilities[2] = probabilities[0]  # an identical object: the first has it
    drawn = Drawn(probabilities > .5, np.ones((3, 2), np.float32), probabilities)
    assert without_overlap(drawn).tolist() == [[1, 1, 2, 2, 2]]


def test_masks_go_back_to_the_photo_as_they_were_squashed():
    small = torch.full((1, 4, 4), -8.)
    small[0, :, :2] = 8.
    large = upsampled(small, (12, 20)) > .5
    assert large[0, :, :10].all() and not large[0, :, 10:].any()
    same = upsampled(small, (4, 4))
    assert np.allclose(same, small.sigmoid())


def test_memory_that_runs_out_is_one_line():
    class Net(torch.nn.Module):
        def normalise(self, images):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(WssegError, match="2 photos: lower --batch"):
        run_steps(Net(), np.zeros((2, 8, 8, 3), np.uint8), None, torch.device("cpu"))
