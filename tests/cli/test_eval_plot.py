"""ws-eval --plot: matrices, bars and curves."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from tests.cli.evals import NAMES, labels, one_worker, random_maps, score, segments  # noqa: F401
from tests.cli.test_eval_instances import disturbed, scenes
from tests.cli.test_info import run
from tests.conftest import complaint

pytestmark = pytest.mark.usefixtures("one_worker")


def test_the_confusion_matrix_is_drawn(place, tmp_path):
    pytest.importorskip("matplotlib")
    guess, truth = place("p", "label"), place("t", "label")

    run(["ws-eval", guess, truth, "--plot", tmp_path / "m.png"])
    run(["ws-eval", guess, truth, "--plot", tmp_path / "m.svg"])

    picture = np.asarray(Image.open(tmp_path / "m.png").convert("RGB")).astype(int)
    assert min(picture.shape[:2]) > 300
    dark = (picture[..., 2] - picture[..., 0] > 60) & (picture.sum(2) < 300)
    assert dark.sum() > 3000  # the diagonal of a perfect prediction, in the darkest blue
    assert "<svg" in (tmp_path / "m.svg").read_text()


@pytest.mark.parametrize("name, reason, code", [
    ("m.txt", "the file's ending must be .png, .svg or .pdf", 2), ("m.", "ending must be", 2),
    ("none/m.png", "No such file", 1)])
def test_a_plot_that_cannot_be_written_is_one_line(name, reason, code, place, tmp_path):
    done = run(["ws-eval", place("p", "label"), place("t", "label"), "--plot", tmp_path / name],
               code=code)

    assert "m." in complaint(done) and reason in complaint(done)


def test_without_matplotlib_the_fix_is_named(place, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    done = run(["ws-eval", place("p", "label"), place("t", "label"), "--plot",
                tmp_path / "m.png"], code=1)

    assert "pip install 'wsseg[plot]'" in complaint(done)


def drawn_text(tmp_path, *words) -> list[str]:
    pytest.importorskip("matplotlib")
    run(["ws-eval", *words, "--plot", tmp_path / "x.svg"])
    first = (tmp_path / "x.svg").read_bytes()
    run(["ws-eval", *words, "--plot", tmp_path / "x.svg"])
    assert (tmp_path / "x.svg").read_bytes() == first
    return re.findall(r">([^<>]+)</text>", first.decode())


def test_several_predictions_are_bars_with_intervals_and_curves_of_bands(tmp_path):
    truth = labels(tmp_path / "t", random_maps(0, 6), NAMES)
    guesses = [labels(tmp_path / f"{i}$x$", random_maps(i, 6), NAMES) for i in (1, 2)]
    words = [*guesses, truth, "--bootstrap", 30, "--trimap", 1, "--trimap", 3]

    found = drawn_text(tmp_path, *words)

    assert "mIoU (%), 95 % intervals" in found and "mIoU" in found
    assert all(guess in found for guess in guesses)
    assert "width of the boundary band (pixels)" in found
    assert all(f"{100 * one['miou']:.1f}" in found for one in score(*words[:3])["results"])
    alone = drawn_text(tmp_path, guesses[0], *words[2:])
    assert {"true", *NAMES[:4]} < set(alone)  # a matrix
    assert any("dotted" in word for word in alone)  # and a curve


@pytest.mark.parametrize("metric, names", [("ap", ["AP", "AP of things", "AP of small objects"]),
                                           ("pq", ["PQ", "PQ of things", "PQ of stuff"])])
def test_instances_are_bars_of_their_groups(metric, names, tmp_path):
    truth = scenes(0)
    place = segments(tmp_path / "t", truth)
    guess = segments(tmp_path / "p", disturbed(truth, 1))
    assert set(names) <= set(drawn_text(tmp_path, guess, place, "--metric", metric))
