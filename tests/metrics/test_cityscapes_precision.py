"""Average precision by Cityscapes' rules: worked examples, loops, and the published script."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from PIL import Image

from tests.metrics.test_overlaps import runs_of
from tests.metrics.usual_precision import cityscapes_precision
from wsseg.metrics.average_precision import CITYSCAPES, RULES, average_precision, match
from wsseg.metrics.overlaps import Overlaps, map_regions, overlaps, run_regions

SIZE = (60, 80)
RULE = RULES["cityscapes"]
VOID, GROUND = 0, 999  # of an instance map: nothing to say, and neither region nor void
CAR, RIDER = 26, 25


def regions(ids: np.ndarray):
    """Segments of an instance map with Cityscapes' ids; a plain class id is a group."""
    numbers = [int(i) for i in np.unique(ids) if i not in (VOID, GROUND)]
    classes = [(CAR, RIDER).index(i // 1000 or i) for i in numbers]
    return map_regions(ids, numbers, classes, crowd=[i < 1000 for i in numbers])


def precision(images: list[Overlaps], thresholds=CITYSCAPES) -> np.ndarray:
    return average_precision(match(images, 2, thresholds, choice=RULE.choice, most=RULE.most,
                                   least=RULE.least), RULE.interpolation)


def one(ids, masks, scores, classes=None) -> Overlaps:
    found = run_regions(ids.shape, [runs_of(m) for m in masks],
                        np.zeros(len(masks), int) if classes is None else classes, scores)
    return overlaps(regions(ids), found, void=True)


def blank() -> np.ndarray:
    return np.full(SIZE, GROUND, np.uint16)


def box(x0: int, x1: int, y0: int = 0, y1: int = 20) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_right_wrong_right_of_two():
    # (recall, precision): (0, 1), (1/2, 1), (1/2, 1/2), (1, 2/3), joined by straight lines
    ids = blank()
    ids[box(0, 10)], ids[box(20, 30)] = 26001, 26002
    masks, scores = [box(0, 10), box(40, 50), box(20, 30)], [.9, .8, .7]
    expected = 1 / 2 * 1 + 1 / 2 * (1 / 2 + 2 / 3) / 2
    assert precision([one(ids, masks, scores)])[0] == pytest.approx([expected] * 10)
    # of equal scores the curve has one point
    assert precision([one(ids, masks, [.5, .5, .5])])[0, 0] == pytest.approx((1 + 2 / 3) / 2)


def test_the_threshold_itself_is_not_enough():
    ids = blank()
    ids[box(0, 10)] = 26001
    half = [one(ids, [box(0, 5)], [.9])]
    assert precision(half, [.5])[0, 0] == 0
    assert precision(half, [.5 - 1e-12])[0, 0] == 1


def test_what_is_mostly_void_or_group_or_small_is_left_out():
    ids = blank()
    ids[box(0, 10)], ids[box(20, 28)], ids[box(28, 30, 0, 10)] = 26001, VOID, 26003
    ids[box(30, 34)], ids[box(70, 74)], ids[box(60, 64)] = 26, 26, 25
    right, wrong = box(0, 10), box(20, 40)  # 160 void, 20 small, 80 of a group: of 400, 0.65
    assert precision([one(ids, [right, wrong], [.5, .9])], [.6, .65])[0].tolist() == [1, .25]
    # the group of another class is no excuse
    assert precision([one(ids, [right, box(60, 64)], [.5, .9])], [.5])[0, 0] == .25
    # a group that is small counts twice, as it does in the script
    ids[box(70, 74)] = GROUND
    assert precision([one(ids, [right, wrong], [.5, .9])], [.8, .85])[0].tolist() == [1, .25]
    # a small region is neither found nor missed
    assert precision([one(ids, [right, box(28, 30, 0, 10)], [.5, .9])], [.5])[0, 0] == 1


def test_more_than_a_hundred_detections_count():
    ids = blank()
    ids[box(0, 10)] = 26001
    masks = [box(40, 45)] * 120 + [box(0, 10)]
    found = precision([one(ids, masks, np.linspace(1, .5, 121))], [.5])[0, 0]
    assert found == pytest.approx(1 / 121 / 2)


def scene(rng: np.random.Generator, overlapping: bool):
    """A true map of ids, masks, classes and scores of one image."""
    ids = blank()
    for number in (*rng.permutation([26001, 26002, 26003, 25001, 25002, 26, VOID]),):
        y, x = rng.integers(0, SIZE[0] - 10), rng.integers(0, SIZE[1] - 10)
        ids[y:y + rng.integers(5, 25), x:x + rng.integers(5, 25)] = number
    masks, classes = [], []
    for number in np.unique(ids).tolist():
        for _ in range(int(rng.integers(0, 3)) if overlapping else 1):
            mask = np.roll(ids == number, rng.integers(-3, 4, 2), (0, 1))
            if mask.any() and number != GROUND:
                masks.append(mask)
                classes.append(int(rng.random() < .1) ^ (0 if number // 1000 == 26 else 1))
    return ids, masks, classes, np.round(rng.random(len(masks)), 1).tolist()


@pytest.fixture(scope="module")
def scenes() -> list[tuple]:
    rng = np.random.default_rng(0)
    return [scene(rng, bool(n % 2)) for n in range(40)]


def ours(scenes) -> np.ndarray:
    return precision([one(ids, masks, scores, classes) for ids, masks, classes, scores in scenes])


def test_the_rules_are_those_of_the_loops(scenes):
    found = ours(scenes)
    assert 0.05 < found.mean() < 0.9
    for c, label in enumerate((CAR, RIDER)):
        images = []
        for ids, masks, classes, scores in scenes:
            numbers = [i for i in np.unique(ids).tolist() if i == label or i // 1000 == label]
            mine = [n for n, cls in enumerate(classes) if cls == c]
            images.append(([ids == i for i in numbers], [i < 1000 for i in numbers], ids == VOID,
                           [masks[n] for n in mine], [scores[n] for n in mine]))
        expected = [cityscapes_precision(images, level) for level in CITYSCAPES]
        np.testing.assert_allclose(found[c], expected, atol=1e-12)


def test_maps_have_the_precision_of_their_masks(scenes):
    """Where masks do not overlap, a map of them is the same prediction."""
    as_map, as_masks = [], []
    for ids, masks, classes, scores in scenes[::2]:
        drawn = np.zeros(SIZE, np.uint16)
        for n, mask in enumerate(masks, 1):
            drawn[mask] = n
        left = [n for n in range(1, len(masks) + 1) if (drawn == n).any()]
        given = [classes[n - 1] for n in left], [scores[n - 1] for n in left]
        as_map.append(overlaps(regions(ids), map_regions(drawn, left, *given), void=True))
        as_masks.append(one(ids, [drawn == n for n in left], given[1], given[0]))
    np.testing.assert_array_equal(precision(as_map), precision(as_masks))


def test_the_published_script_agrees(scenes, tmp_path, monkeypatch):
    pytest.importorskip("cityscapesscripts")
    script = importlib.import_module(
        "cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    monkeypatch.chdir(tmp_path)
    # numpy 2.4 lacks the one, and its numbers trouble the other
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.setattr(script, "writeDict2JSON", lambda *_: None)
    truths, lists = [], []
    for n, (ids, masks, classes, scores) in enumerate(scenes):
        truth = tmp_path / f"a_{n:06d}_000000_gtFine_instanceIds.png"
        Image.fromarray(np.where(ids == GROUND, 7, ids).astype(np.uint16)).save(truth)
        rows = []
        for m, mask in enumerate(masks):
            Image.fromarray(mask.astype(np.uint8)).save(tmp_path / f"{n}_{m}.png")
            rows.append(f"{n}_{m}.png {(CAR, RIDER)[classes[m]]} {scores[m]}\n")
        (tmp_path / f"{n}.txt").write_text("".join(rows))
        truths.append(str(truth))
        lists.append(str(tmp_path / f"{n}.txt"))
    args = script.args
    args.predictionPath, args.gtInstancesFile = str(tmp_path), str(tmp_path / "instances.json")
    args.JSONOutput, args.quiet = False, True

    average = script.evaluateImgLists(lists, truths, args)["averages"]["classes"]

    for c, label in enumerate(("car", "rider")):
        assert ours(scenes)[c].mean() == pytest.approx(average[label]["ap"], abs=1e-9)
        assert ours(scenes)[c, 0] == pytest.approx(average[label]["ap50%"], abs=1e-9)
