"""Panoptic quality: worked examples, and the published rules spelled out by loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.metrics.usual_panoptic import Entry, average, count
from wsseg.metrics import panoptic as module
from wsseg.metrics.overlaps import map_regions, run_regions
from wsseg.metrics.panoptic import panoptic_counts, panoptic_score

C = 3


@pytest.fixture(params=["native", "numpy"], autouse=True, scope="module")
def engine(request):
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "numpy":
            patch.setattr(module, "_native", None)
        elif module._native is None:
            pytest.skip("native kernels not built")
        yield


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A map of one row from (id, length)."""
    return np.repeat(*zip(*runs)).astype(np.uint16)[None]


def regions(ids, classes: dict[int, int], crowd=()):
    numbers = sorted(classes)
    return map_regions(np.asarray(ids, np.uint16), numbers, [classes[n] for n in numbers],
                       crowd=[n in crowd for n in numbers])


def counted(truth, prediction) -> list[list[float]]:
    """[iou, tp, fp, fn] of each class."""
    return panoptic_counts(truth, prediction, C).T.tolist()


# -- worked examples ---------------------------------------------------------------------------


def test_a_match_a_false_positive_and_a_false_negative():
    truth = regions(row((1, 6), (2, 4), (3, 10)), {1: 1, 2: 1, 3: 2})
    guess = regions(row((1, 8), (2, 2), (3, 10)), {1: 1, 2: 1, 3: 2})

    # 1: 6 / 8; prediction 2 meets truth 2 in 2 of 4: exactly one half is no match
    assert counted(truth, guess) == [[0, 0, 0, 0], [0.75, 1, 1, 1], [1, 1, 0, 0]]
    score = panoptic_score(panoptic_counts(truth, guess, C))
    assert math.isnan(score.pq[0])
    assert score.pq[1:].tolist() == [0.75 / 2, 1] and score.sq[1:].tolist() == [0.75, 1]
    assert score.dq[1:].tolist() == [0.5, 1] and score.scored() == 2
    assert score.mean() == (0.6875, 0.875, 0.75)
    assert score.mean(np.array([False, True, False])) == (0.375, 0.75, 0.5)


def test_what_is_predicted_on_void_is_not_in_the_union():
    truth = regions(row((1, 6), (0, 6)), {1: 1})
    guess = regions(row((1, 12)), {1: 1})
    assert counted(truth, guess)[1] == [1, 1, 0, 0]


def test_void_in_the_prediction_hides_nothing():
    truth = regions(row((1, 10)), {1: 1})
    guess = regions(row((1, 6), (0, 4)), {1: 1})
    assert counted(truth, guess)[1] == [0.6, 1, 0, 0]


@pytest.mark.parametrize("on_void, wrong", [(6, 0), (5, 1), (4, 1)])
def test_a_prediction_with_more_than_half_of_its_area_on_void_is_not_wrong(on_void, wrong):
    truth = regions(row((0, on_void), (2, 20 - on_void)), {2: 2})
    guess = regions(row((1, 10), (2, 10)), {1: 1, 2: 2})
    assert counted(truth, guess)[1] == [0, 0, wrong, 0]


def test_a_crowd_is_no_false_negative_and_excuses_its_own_class_only():
    truth = regions(row((1, 10), (2, 10)), {1: 1, 2: 2}, crowd=[1])
    one = regions(row((1, 6), (0, 4), (2, 10)), {1: 1, 2: 2})
    other = regions(row((1, 6), (0, 4), (2, 10)), {1: 2, 2: 2})
    assert counted(truth, one)[1:] == [[0, 0, 0, 0], [1, 1, 0, 0]]
    assert counted(truth, other)[2] == [1, 1, 1, 0]


def test_void_and_crowd_together_excuse():
    truth = regions(row((0, 3), (1, 3), (2, 14)), {1: 1, 2: 2}, crowd=[1])
    guess = regions(row((1, 10), (2, 10)), {1: 1, 2: 2})
    assert counted(truth, guess)[1] == [0, 0, 0, 0]


def test_of_two_crowds_of_a_class_only_the_last_excuses():
    truth = regions(row((1, 5), (2, 5)), {1: 1, 2: 1}, crowd=[1, 2])
    assert counted(truth, regions(row((1, 5), (0, 5)), {1: 1}))[1][2] == 1
    assert counted(truth, regions(row((0, 5), (1, 5)), {1: 1}))[1][2] == 0


def test_the_ids_of_background_are_neither_segment_nor_void():
    truth = regions(row((9, 5), (1, 5)), {1: 1})  # 9 is not listed
    assert counted(truth, regions(row((2, 5), (0, 5)), {2: 1}))[1] == [0, 0, 1, 1]


def test_without_any_class_the_means_are_undefined():
    void = regions(row((0, 4)), {})
    score = panoptic_score(panoptic_counts(void, void, C))
    assert np.isnan(score.pq).all() and np.isnan(score.mean()).all() and score.scored() == 0


def test_a_class_of_errors_only_has_all_zeros_and_is_in_the_mean():
    truth, guess = regions(row((1, 4)), {1: 1}), regions(row((1, 4)), {1: 2})
    score = panoptic_score(panoptic_counts(truth, guess, C))
    assert score.mean() == (0, 0, 0) and score.scored() == 2


def test_ids_of_sixteen_bits_are_kept_apart():
    truth = regions(row((65535, 4), (255, 4)), {65535: 1, 255: 1})
    guess = regions(row((65535, 4), (65279, 4)), {65535: 1, 65279: 1})
    assert counted(truth, guess)[1] == [2, 2, 0, 0]


def test_what_cannot_be_scored_is_refused():
    one = regions(row((1, 4)), {1: 1})
    with pytest.raises(ValueError, match="sizes differ"):
        panoptic_counts(one, regions(row((1, 5)), {1: 1}), C)
    with pytest.raises(ValueError, match="not listed"):
        panoptic_counts(one, regions(row((1, 2), (7, 2)), {1: 1}), C)
    with pytest.raises(ValueError, match="class 5, but"):
        panoptic_counts(one, regions(row((1, 4)), {1: 5}), C)
    with pytest.raises(ValueError, match="overlap"):
        panoptic_counts(one, run_regions((1, 4), [[0, 4]], [1]), C)
    with pytest.raises(ValueError, match="unique"):
        map_regions(row((1, 4)), [1, 1], [0, 0])


# -- against loops -----------------------------------------------------------------------------


@st.composite
def scenes(draw):
    """A true map and a predicted one that often agrees, with their segments."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 8)))
    truth = draw(arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 2, 3, 700, 9])))
    same = draw(arrays(bool, shape, elements=st.sampled_from([True, True, True, False])))
    other = draw(arrays(np.uint16, shape, elements=st.sampled_from([0, 1, 2, 3, 700])))
    guess = np.where(same & (truth != 9), truth, other)
    classes = {i: draw(st.integers(0, C - 1)) for i in (1, 2, 3, 700)}
    swapped = {i: draw(st.sampled_from([c, c, c, (c + 1) % C])) for i, c in classes.items()}
    crowd = {i for i in classes if draw(st.integers(0, 4)) == 0}

    def there(ids, table):
        return {i: c for i, c in table.items() if (ids == i).any()}
    return truth, there(truth, classes), crowd, guess, there(guess, swapped)


def loops(scene) -> np.ndarray:
    truth, classes, crowd, guess, guessed = scene
    stats = count(truth, {i: Entry(c, i in crowd) for i, c in classes.items()}, guess,
                  {i: Entry(c) for i, c in guessed.items()})
    return np.array([stats.get(c, [0, 0, 0, 0]) for c in range(C)], float).T


def ours(scene) -> np.ndarray:
    truth, classes, crowd, guess, guessed = scene
    return panoptic_counts(regions(truth, classes, crowd), regions(guess, guessed), C)


@given(scenes())
def test_counts_are_those_of_the_published_rules(scene):
    np.testing.assert_array_equal(ours(scene), loops(scene))


@given(st.lists(scenes(), min_size=1, max_size=4))
def test_means_are_those_of_the_published_rules(many):
    total = sum(ours(scene) for scene in many)
    if total[1:].sum():
        expected = average({c: total[:, c].tolist() for c in range(C)})
        np.testing.assert_allclose(panoptic_score(total).mean(), expected, atol=1e-12)


def test_hotcoco_has_the_same_figures(tmp_path):
    panoptic = pytest.importorskip("hotcoco.panoptic")
    Image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    documents, total = [], np.zeros((4, C))
    categories = [{"id": c + 1, "name": str(c), "isthing": int(c != 0)} for c in range(C)]
    for name in ("truth", "guess"):
        (tmp_path / name).mkdir()
        documents.append({"categories": categories, "images": [], "annotations": []})
    for i in range(8):
        truth = np.kron(rng.integers(0, 7, (4, 5)), np.ones((5, 6))).astype(np.uint16)
        guess = np.where(rng.random(truth.shape) < 0.85, truth, 0).astype(np.uint16)
        guess[:, :7] = np.roll(guess, 3, 0)[:, :7]
        classes = {j: j % C for j in range(1, 7)}
        for ids, crowd, document, name in ((truth, {6}, documents[0], "truth"),
                                           (guess, set(), documents[1], "guess")):
            document["images"].append({"id": i, "file_name": f"{i}.jpg", "height": 20,
                                       "width": 30})
            segments = [
                {"id": j, "category_id": c + 1, "iscrowd": int(j in crowd), "bbox": [0, 0, 1, 1],
                 "area": int((ids == j).sum())} for j, c in classes.items() if (ids == j).any()]
            document["annotations"].append({"image_id": i, "file_name": f"{i}.png",
                                            "segments_info": segments})
            Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], -1).astype(np.uint8)).save(
                tmp_path / name / f"{i}.png")
        total += ours((truth, {j: c for j, c in classes.items() if (truth == j).any()}, {6},
                       guess, {j: c for j, c in classes.items() if (guess == j).any()}))
    for name, document in zip(("truth", "guess"), documents):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))

    found = panoptic.pq_compute(str(tmp_path / "truth.json"), str(tmp_path / "guess.json"),
                                str(tmp_path / "truth"), str(tmp_path / "guess"))

    score = panoptic_score(total)
    for name, of in (("All", None), ("Things", np.arange(C) != 0), ("Stuff", np.arange(C) == 0)):
        values = [found[name][key] for key in ("pq", "sq", "rq")]
        np.testing.assert_allclose(values, score.mean(of), atol=1e-9)
