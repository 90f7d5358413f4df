"""Instances and panoptic maps of real photos, perturbed: equal to the published scripts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.conftest import real_data
from tests.metrics.usual_panoptic import Entry, average, count
from tests.metrics.usual_precision import coco_files, coco_precision, compressed
from wsseg.cli._regions import true_regions
from wsseg.data import open_dataset
from wsseg.data.rle import runs_of_mask
from wsseg.metrics.average_precision import AREAS, COCO, average_precision, match
from wsseg.metrics.overlaps import map_regions, overlaps, run_regions
from wsseg.metrics.panoptic import panoptic_counts, panoptic_score

CROWD = 60000


def disturbed(ids: np.ndarray, classes: dict[int, int], rng: np.random.Generator
              ) -> tuple[np.ndarray, dict[int, int]]:
    """Shift a map, lose some segments, cut one in two, and give some another class."""
    guess = np.roll(ids, rng.integers(-4, 5, 2), (0, 1))
    for i in classes:
        if rng.random() < 0.15:
            guess[guess == i] = 0
    some = rng.choice(list(classes))
    half = guess[:, ids.shape[1] // 2:]
    half[half == some] = CROWD - 1
    named = {i: c if rng.random() < 0.9 else int(rng.choice(list(classes.values())))
             for i, c in (*classes.items(), (CROWD - 1, classes[some]))}
    return guess, {i: c for i, c in named.items() if (guess == i).any()}


@pytest.mark.parametrize("name, root, split, n_classes, ignored", [
    ("coco_panoptic", "coco-panoptic", "train2017", 134, 0),
    ("cityscapes", "cityscapes", "val", 19, 255)])
def test_scores_are_those_of_the_published_scripts(name, root, split, n_classes, ignored):
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(0)
    folder = real_data(name)
    source = open_dataset(root, str(folder), split=split)
    scenes, images, theirs, ours = [], [], {}, np.zeros((4, n_classes))
    for key in source.keys()[:25]:
        record = source.get(key)
        value, label = record.get("instance"), record.get("label")
        ids = value.ids.copy()
        classes = {s.id: s.cls for s in value.segments}
        crowd = {}
        for cls in np.unique(label[(ids == 0) & (label != 255) & (label != ignored)]).tolist():
            crowd[CROWD + cls] = cls
            ids[(value.ids == 0) & (label == cls)] = CROWD + cls
        guess, guessed = disturbed(np.where(ids >= CROWD, 0, ids).astype(np.uint16), classes, rng)
        scores = np.round(rng.random(len(guessed)), 2)
        entries = {i: Entry(c) for i, c in classes.items()} | {
            i: Entry(c, True) for i, c in crowd.items()}
        truth = map_regions(ids, list(entries), [e.cls for e in entries.values()],
                            crowd=[e.crowd for e in entries.values()])
        prediction = map_regions(guess, list(guessed), list(guessed.values()), scores)
        ours += panoptic_counts(truth, prediction, n_classes)
        stats = count(ids.astype(np.int64), entries, guess.astype(np.int64),
                      {i: Entry(c) for i, c in guessed.items()})
        for cls, row in stats.items():
            theirs[cls] = [a + b for a, b in zip(theirs.get(cls, [0] * 4), row)]
        images.append(overlaps(truth, prediction))
        order = np.argsort(list(guessed))
        scenes.append(([compressed(ids == i) for i in entries],
                       [e.cls for e in entries.values()], [e.crowd for e in entries.values()],
                       [compressed(guess == i) for i in sorted(guessed)],
                       [guessed[i] for i in sorted(guessed)], scores[order]))

    np.testing.assert_allclose(panoptic_score(ours).mean(), average(theirs), atol=1e-12)
    found = average_precision(match(images, n_classes, COCO))
    files = coco_files(scenes)
    expected, *of_sizes = coco_precision(*files, n_classes, area=slice(4))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    for within, values in zip(AREAS.values(), of_sizes):
        np.testing.assert_allclose(
            average_precision(match(images, n_classes, COCO, within=within)), values, atol=1e-9)
    assert 0.1 < np.nanmean(expected) < 0.95 and 0.1 < panoptic_score(ours).mean()[0] < 0.95


def test_records_of_a_coco_file_are_scored_as_the_file_is(tmp_path):
    """Crowds and stated areas reach the scores through records."""
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(1)
    source = open_dataset("coco-panoptic", str(real_data("coco_panoptic")), split="train2017")
    scenes = []
    for key in source.keys()[:25]:
        record = source.get(key)
        value = record.get("instance")
        truth = [(value.ids == s.id, s.cls, bool(rng.random() < .1)) for s in value.segments
                 if s.thing]
        found = [(np.roll(mask, rng.integers(-2, 3, 2), (0, 1)), cls) for mask, cls, _ in truth
                 for _ in range(rng.integers(0, 3))]
        scenes.append(([compressed(m) for m, _, _ in truth], [c for _, c, _ in truth],
                       [k for _, _, k in truth], [compressed(m) for m, _ in found],
                       [c for _, c in found], np.round(rng.random(len(found)), 2),
                       [m.sum() * rng.uniform(.8, 1.2) for m, _, _ in truth],
                       [runs_of_mask(m) for m, _ in found]))
    document, results = coco_files([scene[:7] for scene in scenes])
    for note in document["annotations"]:
        note["segmentation"] = {"size": note["segmentation"]["size"],
                                "counts": note["segmentation"]["counts"].decode()}
    file = {**document, "categories": [{"id": c + 1, "name": f"c{c}"} for c in range(134)],
            "images": [{**one, "file_name": f"{one['id']:03d}.jpg"} for one in
                       document["images"]]}
    (tmp_path / "x.json").write_text(json.dumps(file))
    truth = open_dataset("coco", str(tmp_path / "x.json"))
    images = []
    for key in truth.keys():
        regions, _ = true_regions(truth.get(key), True)
        _, _, _, _, classes, scores, _, runs = scenes[int(key)]
        images.append(overlaps(regions, run_regions(regions.size, runs,
                                                    np.array(classes, int) + 1, scores)))
    assert sum(one.crowd.sum() for one in images) > 3
    every = coco_precision(document, results, 134, area=slice(4))
    for within, expected in zip((None, *AREAS.values()), every):
        found = average_precision(match(images, 135, COCO, within=within))[1:]
        np.testing.assert_allclose(found, expected, atol=1e-9)
        assert 0.05 < np.nanmean(expected) < 0.95
