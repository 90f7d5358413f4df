"""ws-eval --metric ap: sizes of objects, crowds among masks, and Cityscapes' rules."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.evals import NAMES, masks, one_worker, score, segments  # noqa: F401
from tests.cli.test_eval_many import text
from tests.cli.test_info import run
from tests.conftest import complaint, write_place
from wsseg.io.record import Record
from wsseg.io.values import Masks

pytestmark = pytest.mark.usefixtures("one_worker")
CAT, DOG = 1, 2


def box(height: int, width: int, x: int = 0) -> np.ndarray:
    mask = np.zeros((120, 260), bool)
    mask[:height, x:x + width] = True
    return mask


def runs(mask: np.ndarray) -> tuple[int, ...]:
    flat = mask.T.ravel()
    change = np.flatnonzero(np.diff(flat.astype(int), prepend=0))
    return tuple(np.diff([0, *change, flat.size]).tolist())


def truths(place, images, **more) -> str:
    """A place of masks with fields of ``Masks``."""
    records = []
    for i, drawn in enumerate(images):
        records.append(Record(f"r{i:02d}"))
        records[-1].set("masks", Masks((120, 260), tuple(map(runs, drawn)),
                                       np.full(len(drawn), CAT), np.ones(len(drawn)),
                                       **{k: np.array(v[i]) for k, v in more.items()}))
    return write_place(place, records, kinds=["masks"], classes=NAMES)


def test_small_medium_and_large_objects_have_their_scores(tmp_path):
    small, medium, large = box(20, 20), box(50, 50, 30), box(100, 100, 100)
    truth = masks(tmp_path / "t", [([small, medium, large], [CAT] * 3, [1] * 3)])
    # the small one is found after a wrong detection of its size, the large one is not found
    guess = masks(tmp_path / "p", [([box(20, 20, 210), small, medium], [CAT] * 3, [.9, .8, .7])])

    found = score(guess, truth, "--metric", "ap")

    assert (found["ap_small"], found["ap_medium"], found["ap_large"]) == (.5, 1, 0)
    assert found["classes"][CAT]["ap_small"] == .5 and found["classes"][DOG]["ap_small"] is None
    lines = text(guess, truth, "--metric", "ap").splitlines()
    assert [line.split()[:2] for line in lines[3:6]] == [
        ["small", "50.00"], ["medium", "100.00"], ["large", "0.00"]]
    assert "objects of up to 1024 pixels" in lines[3] and "9216 and more" in lines[5]
    assert "ap_small" not in score(guess, truth, "--metric", "ap", "--rule", "voc")


def test_the_truth_may_state_areas_of_its_own(tmp_path):
    one = box(20, 20)
    guess = masks(tmp_path / "p", [([one], [CAT], [.9])])
    found = score(guess, truths(tmp_path / "t", [[one]], areas=[[2000.]]), "--metric", "ap")
    assert (found["ap"], found["ap_small"], found["ap_medium"]) == (1, None, 1)


def test_a_crowd_among_masks_is_neither_found_nor_missed(tmp_path):
    one, crowd, inside = box(20, 20), box(60, 100, 100), box(30, 30, 110)
    guess = masks(tmp_path / "p", [([inside, one], [CAT] * 2, [.9, .5])])
    plain = truths(tmp_path / "t", [[one, crowd]])
    marked = truths(tmp_path / "u", [[one, crowd]], crowd=[[False, True]])
    assert score(guess, marked, "--metric", "ap")["ap"] == 1
    assert score(guess, plain, "--metric", "ap")["ap"] < .5


def test_cityscapes_rules_from_the_command_line(tmp_path):
    ids = np.zeros((1, 600), np.uint16)
    ids[0, :200], ids[0, 200:280] = 1, 2  # the second has less than 100 pixels
    label = np.where(ids > 0, DOG, 255).astype(np.uint8)
    label[0, 400:] = 0
    listed = [(1, DOG), (2, DOG)]
    truth = segments(tmp_path / "t", [(ids, listed)], label=[label])
    guess = ids.copy()
    guess[0, 200:], guess[0, 300:395], guess[0, 450:] = 0, 3, 4  # on void, on background
    place = segments(tmp_path / "p", [(guess, [(1, DOG, .5), (3, DOG, .9), (4, DOG, .8)])])

    found = score(place, truth, "--metric", "ap", "--rule", "cityscapes")

    # right after one wrong: (0, 1), (0, 0), (1, 1/2)
    assert found["ap"] == .25 and found["classes"][DOG]["truths"] == 1
    assert found["thresholds"] == pytest.approx(np.arange(50, 100, 5) / 100)
    assert "rules of cityscapes (trapezoid)" in text(place, truth, "--metric", "ap", "--rule",
                                                     "cityscapes")
    done = run(["ws-eval", place, truth, "--metric", "ap", "--rule", "cityscapes",
                "--thresholds", ".3"], code=2)
    assert "begin at 0.5" in complaint(done)
