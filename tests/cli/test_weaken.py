"""ws-weaken: weak labels as an annotator would give them, against plain definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tests.cli.test_info import run
from tests.conftest import complaint, tree, write_place
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Segment

ALL = ("--tags", "--counts", "--boxes", "--points", "--scribbles")
SIZE = (40, 48)


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


def random_label(number: int) -> np.ndarray:
    """Blobs of classes 1..4 that touch, overlap, cross void and leave crumbs."""
    rng = np.random.default_rng(number)
    label = np.zeros(SIZE, np.uint8)
    for value in rng.choice([1, 2, 3, 4, 255], 9):
        y, x = rng.integers(0, 36), rng.integers(0, 44)
        label[y:y + rng.integers(2, 14), x:x + rng.integers(2, 16)] = value
    return label


def labelled(number: int) -> Record:
    record = Record(f"r{number:02d}")
    record.set("label", random_label(number))
    return record


def segmented(number: int) -> Record:
    """Objects that a label map does not show: touching ones, and one in two parts."""
    record = labelled(number)
    rng = np.random.default_rng(number)
    ids = np.where(record.get("label") == 255, 0, record.get("label")).astype(np.uint16) * 10
    ids[:, 24:][ids[:, 24:] == 20] = 21  # class 2 is two objects that may touch
    present = np.unique(ids[ids > 0]).tolist()
    segments = tuple(Segment(int(i), int(i) // 10) for i in rng.permutation(present))
    record.set("instance", InstanceMap(ids, segments))
    return record


def objects(label: np.ndarray, least: int, background: int | None = 0
            ) -> list[tuple[int, np.ndarray]]:
    """(class, mask) of each 8-connected part that is large enough."""
    found = []
    for cls in sorted(set(label.ravel().tolist()) - {background, 255}):
        parts, count = ndimage.label(label == cls, np.ones((3, 3)))
        found += [(cls, parts == i) for i in range(1, count + 1) if (parts == i).sum() >= least]
    return found


def masks_of(record: Record, least: int = 16) -> list[tuple[int, np.ndarray]]:
    if "instance" not in record:
        return objects(record.get("label"), least)
    value = record.get("instance")
    return [(s.cls, value.ids == s.id) for s in value.segments]


MAKERS = {"label": labelled, "instance": segmented}
NUMBERS = range(12)


@pytest.fixture(params=MAKERS, scope="module")
def weakened(request, tmp_path_factory) -> tuple[str, list[tuple[Record, Record]]]:
    """What it was made from, and pairs of a strong record and the weak one made of it."""
    make, folder = MAKERS[request.param], tmp_path_factory.mktemp(request.param)
    source = write_place(folder / "strong", map(make, NUMBERS))
    run(["ws-weaken", source, *ALL, "-j1", "-o", folder / "weak"])
    return request.param, list(zip(map(make, NUMBERS), open_source(str(folder / "weak"))))


def test_nothing_strong_is_left(weakened):
    for _, weak in weakened[1]:
        assert weak.kinds() == {"tags", "counts", "boxes", "points", "scribble"}


def test_tags_are_the_classes_that_occur(weakened):
    kind, pairs = weakened
    for strong, weak in pairs:
        values = strong.get("label") if kind == "label" else \
            np.array([s.cls for s in strong.get("instance").segments])
        assert weak.get("tags") == tuple(sorted(set(values.ravel().tolist()) - {0, 255}))


def test_counts_are_the_objects_of_each_class(weakened):
    for strong, weak in weakened[1]:
        classes = [cls for cls, _ in masks_of(strong)]
        assert weak.get("counts") == {c: classes.count(c) for c in set(classes)}


def test_boxes_are_the_tightest_around_each_object(weakened):
    for strong, weak in weakened[1]:
        expected = []
        for cls, mask in masks_of(strong):
            pixels = [(x, y) for y, x in np.argwhere(mask).tolist()]
            xs, ys = zip(*pixels)
            expected.append((cls, min(xs), min(ys), max(xs) + 1, max(ys) + 1))
        boxes = weak.get("boxes")
        assert boxes.size == SIZE
        assert sorted((c, *b) for c, b in zip(boxes.classes.tolist(), boxes.xyxy.tolist())) == \
            sorted(expected)


def test_each_object_has_one_point_at_its_deepest(weakened):
    for strong, weak in weakened[1]:
        points, left = weak.get("points"), masks_of(strong)
        assert points.size == SIZE
        for cls, (x, y) in zip(points.classes.tolist(), points.xy.astype(int).tolist()):
            at = next(i for i, (c, mask) in enumerate(left) if c == cls and mask[y, x])
            depth = ndimage.distance_transform_edt(np.pad(left.pop(at)[1], 1))[1:-1, 1:-1]
            assert depth[y, x] == pytest.approx(depth.max(), abs=1e-4)
        assert left == []


def test_scribbles_lie_on_what_they_name_and_on_every_object(weakened):
    for strong, weak in weakened[1]:
        drawn = weak.get("scribble")
        on = drawn != 255
        np.testing.assert_array_equal(drawn[on], strong.get("label")[on])
        assert 0 in drawn[on]
        for _, mask in masks_of(strong):
            assert on[mask].any()


@pytest.mark.parametrize("least", [1, 16, 60])
def test_small_parts_are_no_objects_but_their_class_is_a_tag(least, tmp_path):
    source = write_place(tmp_path / "p", map(labelled, NUMBERS))

    run(["ws-weaken", source, "--boxes", "--tags", "--min-area", str(least), "-o",
         tmp_path / "out"])

    for strong, weak in zip(map(labelled, NUMBERS), open_source(str(tmp_path / "out"))):
        assert weak.get("boxes").classes.tolist() == \
            [cls for cls, _ in objects(strong.get("label"), least)]
        assert weak.get("tags") == tuple(c for c, _ in sorted(
            {c: None for c, _ in objects(strong.get("label"), 1)}.items()))


def test_where_there_is_no_background_class_0_is_an_object(tmp_path):
    source = write_place(tmp_path / "p", map(labelled, NUMBERS),
                         classes=("road", "car", "wall", "bus", "sky"))

    run(["ws-weaken", source, "--boxes", "-o", tmp_path / "out"])

    for strong, weak in zip(map(labelled, NUMBERS), open_source(str(tmp_path / "out"))):
        assert weak.get("boxes").classes.tolist() == \
            [cls for cls, _ in objects(strong.get("label"), 16, background=None)]


def panoptic() -> Record:
    """Two things, one patch of stuff (class 2), and the rest unknown."""
    ids = np.zeros((20, 30), np.uint16)
    ids[:10, :15], ids[10:, :15], ids[:, 25:] = 1, 2, 3
    record = Record("a")
    record.set("instance", InstanceMap(ids, (Segment(1, 1), Segment(2, 2, thing=False),
                                             Segment(3, 1))))
    return record


def test_stuff_is_a_tag_and_no_object(tmp_path):
    run(["ws-weaken", write_place(tmp_path / "p", [panoptic()]), "--tags", "--boxes", "--counts",
         "-o", tmp_path / "out"])

    record, = open_source(str(tmp_path / "out"))
    assert record.get("tags") == (1, 2) and record.get("counts") == {1: 2}
    assert record.get("boxes").xyxy.tolist() == [[0, 0, 15, 10], [25, 0, 30, 20]]


def test_stuff_is_never_scribbled_on_as_background(tmp_path):
    run(["ws-weaken", write_place(tmp_path / "p", [panoptic()]), "--scribbles", "-o",
         tmp_path / "out"])

    record, = open_source(str(tmp_path / "out"))
    assert set(np.unique(record.get("scribble")[10:, :15])) <= {2, 255}


def test_stuff_is_scribbled_on_too(tmp_path):
    run(["ws-weaken", write_place(tmp_path / "p", [panoptic()]), "--scribbles", "-o",
         tmp_path / "out"])

    drawn = next(iter(open_source(str(tmp_path / "out")))).get("scribble")
    assert set(np.unique(drawn[10:, :15])) == {2, 255}
    assert set(np.unique(drawn[:10, :15])) == set(np.unique(drawn[:, 25:])) == {1, 255}
    assert set(np.unique(drawn[:, 15:25])) == {255}


def test_what_the_label_map_alone_knows_is_scribbled_on_too(tmp_path):
    record = panoptic()
    label = np.zeros((20, 30), np.uint8)  # background in the middle, and a fourth class there
    label[:10, :15], label[10:, :15], label[:, 25:], label[:, 20:25] = 1, 2, 1, 4
    record.set("label", label)
    source = write_place(tmp_path / "p", [record])

    run(["ws-weaken", source, "--scribbles", "-o", tmp_path / "out"])

    drawn = next(iter(open_source(str(tmp_path / "out")))).get("scribble")
    on = drawn != 255
    np.testing.assert_array_equal(drawn[on], label[on])
    assert set(np.unique(drawn[on])) == {0, 1, 2, 4}


def test_what_is_unknown_is_never_scribbled_on_as_class_0(tmp_path):
    source = write_place(tmp_path / "p", [panoptic()], classes=("road", "car", "sky"))

    run(["ws-weaken", source, "--scribbles", "-o", tmp_path / "out"])

    record, = open_source(str(tmp_path / "out"))
    assert 0 not in record.get("scribble")  # there is no road in it


def test_a_class_that_a_scribble_cannot_hold_is_named(tmp_path):
    record = labelled(0)
    record.set("label", np.where(record.get("label") == 1, 300, 0).astype(np.uint16))
    source = write_place(tmp_path / "p", [record], classes=None)

    done = run(["ws-weaken", source, "--scribbles", "-o", tmp_path / "out"], code=1)

    assert "Overflow" not in complaint(done) and "class 300" in complaint(done)


# -- chance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["--scribbles"], ["--points", "--random-points"]])
def test_the_same_seed_gives_the_same_and_another_one_something_else(words, tmp_path):
    source = write_place(tmp_path / "p", map(labelled, NUMBERS))
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        run(["ws-weaken", source, *words, "--seed", seed, "-o", tmp_path / name])

    a, b, c = (tree(tmp_path / name) for name in "abc")
    assert a == b
    records = [n for n in a if not n.startswith("__")]
    assert sum(a[n] != c[n] for n in records) > len(records) / 2


def scribbles(place) -> list[np.ndarray]:
    return [r.get("scribble") for r in open_source(str(place))]


def test_scribbles_depend_on_seed_and_key_alone(tmp_path):
    source = write_place(tmp_path / "p", map(labelled, NUMBERS))
    ways = {"plain": [], "jobs": ["-j2"], "more": ["--boxes", "--points", "--random-points"],
            "strong": ["--keep", "label", "--tags"]}
    for name, words in ways.items():
        run(["ws-weaken", source, "--scribbles", "--seed", "3", *words, "-o", tmp_path / name])

    for name in ways:
        for ours, theirs in zip(scribbles(tmp_path / "plain"), scribbles(tmp_path / name)):
            np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> str:
    """Maps with room for strokes."""
    def make(number: int) -> Record:
        record = Record(f"r{number}")
        label = np.zeros((120, 160), np.uint8)
        label[20 + number:100, 20:110 + number] = 1
        record.set("label", label)
        return record
    return write_place(tmp_path_factory.mktemp("room") / "p", map(make, range(8)))


def share_drawn(room: str, out: Path, *words: str) -> float:
    run(["ws-weaken", room, "--scribbles", *words, "-o", out])
    return float(np.mean([(s != 255).mean() for s in scribbles(out)]))


def test_coverage_is_the_share_of_pixels_drawn(room, tmp_path):
    assert share_drawn(room, tmp_path / "a") == pytest.approx(.03, rel=.2)
    assert share_drawn(room, tmp_path / "b", "--coverage", ".06") == pytest.approx(.06, rel=.2)


def test_a_wide_pen_draws_short_strokes(room, tmp_path):
    assert share_drawn(room, tmp_path / "a", "--stroke-width", "5") == pytest.approx(.03, rel=.3)
    for drawn in scribbles(tmp_path / "a"):
        assert ndimage.binary_erosion(drawn != 255, np.ones((4, 4))).any()


def test_strokes_is_the_number_of_them(room, tmp_path):
    share_drawn(room, tmp_path / "a", "--strokes", "1")
    for drawn in scribbles(tmp_path / "a"):
        assert ndimage.label(drawn == 1, np.ones((3, 3)))[1] == 1
        assert ndimage.label(drawn == 0, np.ones((3, 3)))[1] <= 2


def test_the_sloppy_err_and_others_never(room, tmp_path):
    wrong = {}
    for share in ("0", ".1"):
        share_drawn(room, tmp_path / share, "--sloppy", share)
        pairs = zip(open_source(room), scribbles(tmp_path / share))
        errors = [(s != 255) & (s != r.get("label")) for r, s in pairs]
        wrong[share] = np.sum(errors) / sum((s != 255).sum() for s in scribbles(tmp_path / share))
    assert wrong["0"] == 0 and .04 < wrong[".1"] < .2


def test_random_points_are_anywhere_in_their_object(tmp_path):
    source = write_place(tmp_path / "p", map(labelled, NUMBERS))
    run(["ws-weaken", source, "--points", "-o", tmp_path / "deep"])
    run(["ws-weaken", source, "--points", "--random-points", "-o", tmp_path / "random"])

    moved = 0
    for strong, deep, weak in zip(map(labelled, NUMBERS), open_source(str(tmp_path / "deep")),
                                  open_source(str(tmp_path / "random"))):
        for (cls, mask), (x, y) in zip(masks_of(strong), weak.get("points").xy.astype(int)):
            assert mask[y, x]
        assert weak.get("points").classes.tolist() == deep.get("points").classes.tolist()
        moved += (weak.get("points").xy != deep.get("points").xy).any()
    assert moved > 6


def test_a_record_is_drawn_the_same_whatever_is_beside_it(tmp_path):
    for name, numbers in (("few", [3]), ("many", NUMBERS)):
        run(["ws-weaken", write_place(tmp_path / name, map(labelled, numbers)), "--scribbles",
             "-o", tmp_path / f"{name}-out"])

    assert (tmp_path / "few-out/r03.scribble.png").read_bytes() == \
        (tmp_path / "many-out/r03.scribble.png").read_bytes()
