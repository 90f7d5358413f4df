"""Gaps as scribbles-2019 prints them, and the quality of labels that leave pixels out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wsseg.metrics.gap import gap, label_quality


# scribbles-2019, table 2: baseline, full, strategy, reduction in %
@pytest.mark.parametrize("baseline, full, score, reduction", [
    (64.3, 71.5, 69.1, 66.7), (66.4, 73.4, 70.5, 58.6), (67.6, 75.1, 72.1, 60.0),
    (67.8, 76.6, 73.0, 59.1), (69.3, 77.0, 74.4, 66.2)])
def test_the_reductions_of_table_2(baseline, full, score, reduction):
    found = gap(score, full, baseline)
    assert round(100 * found.reduction, 1) == reduction
    assert found.remaining == pytest.approx(full - score)
    assert found.full_gap == pytest.approx(full - baseline)


def test_a_row_of_table_1_does_not_follow_its_own_formula():
    """local + Potts is printed with -70.4 %; (4.4 - 8.2) / 4.4 is -86.4 %."""
    assert round(100 * gap(63.3, 71.5, 67.1).reduction, 1) == -86.4


@pytest.mark.parametrize("weak, full, share", [(74.3, 77.3, 96.1), (75.5, 78.6, 96.1),
                                               (75.7, 79.0, 95.8), (63.6, 71.6, 88.8)])
def test_the_percentage_of_full_supervision_of_panoptic_2018(weak, full, share):
    """Table 1's second row is printed as 96.3, which 75.5 / 78.6 is not."""
    assert round(100 * gap(weak, full).share, 1) == share


def test_what_has_no_gap_has_no_reduction():
    assert math.isnan(gap(.5, .7).reduction) and math.isnan(gap(.5, .7, .7).reduction)
    assert math.isnan(gap(.5, .7, .8).reduction) and math.isnan(gap(.5, 0).share)
    assert gap(.8, .7, .6).reduction == pytest.approx(2)


def test_label_quality_by_hand():
    #                 predicted 0  1  none
    found = label_quality(np.array([[6, 0, 2], [1, 2, 1]]))
    assert found.coverage == 9 / 12 and found.precision == 8 / 9 and found.recall == 8 / 12
    assert found.mean_precision == pytest.approx((6 / 7 + 2 / 2) / 2)
    assert found.mean_recall == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert found.miou == pytest.approx((6 / 7 + 2 / 3) / 2)


def test_labels_of_nothing_have_no_precision():
    found = label_quality(np.array([[0, 0, 5], [0, 0, 0]]))
    assert found.coverage == found.recall == found.mean_recall == 0
    assert all(map(math.isnan, (found.precision, found.mean_precision, found.miou)))
