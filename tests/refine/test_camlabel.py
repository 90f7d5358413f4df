"""Labels of activation maps against a loop over all pixels."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.refine.camlabel import IGNORE, label_of_cams


def plainly(cams, classes, thresholds, overlap, background, low, dull):
    areas = [int(((c >= t) & (c > 0)).sum()) for c, t in zip(cams, thresholds)]
    label = np.full(cams.shape[1:], IGNORE)
    for y, x in np.ndindex(*label.shape):
        here = [k for k in range(len(classes)) if cams[k, y, x] >= thresholds[k]
                and cams[k, y, x] > 0]
        if here and overlap == "smaller":
            label[y, x] = classes[min(here, key=lambda k: (areas[k], -classes[k]))]
        elif here:
            label[y, x] = classes[max(here, key=lambda k: (cams[k, y, x], -k))]
        elif background is not None and (
                low is not None and all(c[y, x] < low for c in cams)
                or dull is not None and dull[y, x]):
            label[y, x] = background
    return label


@pytest.mark.parametrize("overlap", ["smaller", "stronger"])
@pytest.mark.parametrize("count", [0, 1, 2, 4])
@pytest.mark.parametrize("background, low, dull", [(None, None, False), (0, .2, False),
                                                   (0, None, True), (7, .1, True)])
def test_it_is_a_loop_over_pixels(overlap, count, background, low, dull):
    rng = np.random.default_rng(count)
    for _ in range(5):
        cams = (rng.integers(0, 11, (count, 9, 8)) / 10).astype(np.float32)  # ties and zeros
        classes = np.sort(rng.choice(np.arange(1, 250), count, replace=False))
        thresholds = rng.choice([.2, .3, .5, 1.], count).astype(np.float32)
        flat = rng.random((9, 8)) < .3 if dull else None
        label = label_of_cams(cams, classes, thresholds, overlap=overlap, background=background,
                              low=low, dull=flat)
        assert label.dtype == np.uint8
        assert np.array_equal(label, plainly(cams, classes.tolist(), thresholds, overlap,
                                             background, low, flat))


def test_nothing_is_where_a_map_is_zero_and_wide_ids_have_room():
    cams = np.zeros((1, 2, 2), np.float32)
    cams[0, 0, 0] = 1
    label = label_of_cams(cams, [300], np.array([0.]))
    assert label.dtype == np.uint16 and label[0, 0] == 300 and (label == IGNORE).sum() == 3
    with pytest.raises(ValueError, match="no rule"):
        label_of_cams(cams, [1], np.array([.5]), overlap="larger")
