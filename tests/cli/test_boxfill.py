"""ws-boxfill: boxes to masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import conftest
from tests.annotate.test_grabcut import scene
from tests.cli.boxfilling import SIZE, boxed, disc_place, fill, iou
from tests.cli.test_info import info, run
from tests.conftest import complaint, make_label, tree, write_place
from wsseg.io.places import open_source
from wsseg.io.record import Record


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


def random_boxes(number: int) -> Record:
    rng = np.random.default_rng(number)
    n = int(rng.integers(0, 8))
    x, y = rng.integers(0, 28, n), rng.integers(0, 18, n)
    far = np.stack([x + rng.integers(1, 14, n), y + rng.integers(1, 10, n)], 1)
    return boxed(np.concatenate([np.stack([x, y], 1), far], 1), rng.integers(1, 3, n),
                 key=f"r{number:02d}")


def painted(record: Record, outside: int) -> tuple[list, list]:
    """Label and box of each pixel: that of the smallest box over it, the later of equals."""
    boxes = record.get("boxes")
    height, width = SIZE
    clipped = [(x0, y0, min(x1, width), min(y1, height)) for x0, y0, x1, y1 in boxes.xyxy]
    label = [[outside] * width for _ in range(height)]
    ids = [[0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            over = [((x1 - x0) * (y1 - y0), -i) for i, (x0, y0, x1, y1) in enumerate(clipped)
                    if x0 <= x < x1 and y0 <= y < y1]
            if over:
                number = -min(over)[1]
                label[y][x], ids[y][x] = int(boxes.classes[number]), number + 1
    return label, ids


# -- rect --------------------------------------------------------------------------------------


def test_the_smallest_box_wins_each_pixel(tmp_path):
    source = write_place(tmp_path / "p", map(random_boxes, range(20)))

    for number, record in enumerate(fill(source, tmp_path / "out", "--method", "rect",
                                         "--instances")):
        label, ids = painted(random_boxes(number), 0)
        assert record.get("label").tolist() == label
        assert record.get("instance").ids.tolist() == ids


def test_outside_all_boxes_may_be_unknown(tmp_path):
    source = write_place(tmp_path / "p", map(random_boxes, range(6)))

    for number, record in enumerate(fill(source, tmp_path / "out", "--method", "rect",
                                         "--outside", "ignore")):
        assert record.get("label").tolist() == painted(random_boxes(number), 255)[0]


def test_outside_is_unknown_where_the_classes_have_no_background(tmp_path):
    for names, outside in ((("road", "car"), 255), (("background", "car"), 0)):
        source = write_place(tmp_path / names[0], [boxed([[1, 1, 5, 4]], [1])], classes=names)
        record, = fill(source, tmp_path / f"{names[0]}-out", "--method", "rect")
        assert record.get("label")[0, 0] == outside and record.get("label")[2, 2] == 1


def test_the_order_of_boxes_does_not_matter(tmp_path):
    xyxy = np.array([[0, 0, 20, 15], [3, 3, 12, 9], [5, 4, 8, 7]])
    labels = []
    for name, order in (("a", [0, 1, 2]), ("b", [2, 0, 1])):
        source = write_place(tmp_path / name, [boxed(xyxy[order], np.array([1, 2, 1])[order])])
        labels.append(fill(source, tmp_path / f"{name}-out", "--method", "rect")[0].get("label"))
    np.testing.assert_array_equal(*labels)


def test_an_instance_map_numbers_the_boxes_and_leaves_out_what_is_covered(tmp_path):
    source = write_place(tmp_path / "p", [boxed([[0, 0, 4, 2], [0, 0, 2, 2], [2, 0, 4, 2]],
                                                [1, 2, 1], size=(3, 4))])

    record, = fill(source, tmp_path / "out", "--method", "rect", "--instances")

    value = record.get("instance")
    assert value.ids.tolist() == [[2, 2, 3, 3], [2, 2, 3, 3], [0, 0, 0, 0]]
    assert [(s.id, s.cls) for s in value.segments] == [(2, 2), (3, 1)]
    assert open_source(str(tmp_path / "out")).header.kinds == ("instance", "label")


def test_instances_are_written_only_if_asked_for(place, tmp_path):
    assert {frozenset(r.kinds()) for r in fill(place("p", "boxes"), tmp_path / "out",
                                               "--method", "rect")} == {frozenset({"label"})}


def test_boxes_are_kept_if_asked_for(place, tmp_path):
    records = fill(place("p", "boxes"), tmp_path / "out", "--method", "rect", "--keep", "boxes")

    assert [r.kinds() for r in records] == [{"label", "boxes"}] * 6


def test_an_image_without_boxes_is_background(tmp_path):
    source = write_place(tmp_path / "p", [boxed([], [])])

    record, = fill(source, tmp_path / "out", "--method", "rect", "--instances")

    assert not record.get("label").any() and record.get("label").shape == SIZE
    assert record.get("instance").segments == ()


def test_what_leaves_the_image_is_cut_off(tmp_path):
    source = write_place(tmp_path / "p", [boxed([[-5, -2, 3, 4], [25, 15, 99, 99]], [1, 2])])

    label = fill(source, tmp_path / "out", "--method", "rect")[0].get("label")

    assert (label[:4, :3] == 1).all() and (label[15:, 25:] == 2).all()
    assert (label > 0).sum() == 4 * 3 + 5 * 5


@pytest.mark.parametrize("method", ["rect", "grabcut"])
@pytest.mark.parametrize("box", [[30, 0, 35, 5], [0, 20, 5, 25], [-9, 0, 0, 5]])
def test_a_box_outside_the_image_is_named(method, box, tmp_path):
    image = np.zeros((*SIZE, 3), np.uint8)
    source = write_place(tmp_path / "p", [boxed([[1, 1, 9, 9], box], [1, 1], image=image)])

    done = run(["ws-boxfill", source, "--method", method, "-o", tmp_path / "out"], code=1)

    assert f"a: box 1 {[float(v) for v in box]} lies outside the 20x30 image" in complaint(done)


def test_boxes_that_do_not_say_the_size_need_the_photo(place, tmp_path):
    boxes = boxed([[1, 1, 9, 9]], [1], key="img000", size=None)
    source = write_place(tmp_path / "p", [boxes])

    done = run(["ws-boxfill", source, "--method", "rect", "-o", tmp_path / "none"], code=1)
    record, = fill(source, tmp_path / "out", "--method", "rect", "--images", place("i", "image"))

    assert "img000: its boxes do not say the image's size" in complaint(done)
    assert record.get("label").shape == (24, 32) and (record.get("label") == 1).sum() == 64


# -- grabcut -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def disc(tmp_path_factory) -> tuple[Path, np.ndarray]:
    return disc_place(tmp_path_factory.mktemp("disc"))


def test_grabcut_finds_the_object_in_the_box(disc, tmp_path):
    source, mask = disc
    found = fill(source, tmp_path / "cut")[0].get("label")
    whole = fill(source, tmp_path / "rect", "--method", "rect")[0].get("label")

    assert set(np.unique(found)) == {0, 2}
    assert iou(found == 2, mask) > 0.9 > iou(whole == 2, mask)


def test_grabcut_never_leaves_its_box(disc, tmp_path):
    source, _ = disc
    whole = fill(source, tmp_path / "rect", "--method", "rect")[0].get("label")

    assert (fill(source, tmp_path / "cut")[0].get("label")[whole == 0] == 0).all()


def test_too_little_found_is_the_whole_box(disc, tmp_path):
    source, _ = disc
    whole = fill(source, tmp_path / "rect", "--method", "rect")[0].get("label")
    share = (fill(source, tmp_path / "cut")[0].get("label") > 0).sum() / (whole > 0).sum()
    assert 0.5 < share < 0.95

    for least, same in ((share - 0.01, False), (share + 0.01, True)):
        found = fill(source, tmp_path / f"{same}", "--min-fill", f"{least:.4f}")[0].get("label")
        assert np.array_equal(found, whole) == same


@pytest.mark.parametrize("image, box", [
    (np.full((*SIZE, 3), 90, np.uint8), [5, 5, 20, 15]),  # nothing to find
    (scene(SIZE, (15, 10), 6)[0], [0, 0, 30, 20]),  # nothing around it
    (scene(SIZE, (15, 10), 6)[0], [7, 7, 9, 9])])  # too small for colour models
def test_where_grabcut_cannot_work_the_whole_box_is_taken(image, box, tmp_path):
    source = write_place(tmp_path / "p", [boxed([box], [1], image=image)])

    label = fill(source, tmp_path / "out")[0].get("label")

    x0, y0, x1, y1 = box
    assert (label[y0:y1, x0:x1] == 1).all() and (label > 0).sum() == (x1 - x0) * (y1 - y0)


def test_the_smallest_box_wins_among_what_grabcut_found(tmp_path):
    outer, ring = scene((80, 100), (50, 40), 30)
    inner, dot = scene((80, 100), (50, 40), 9)
    image = outer.copy()
    image[dot] = (30, 40, 220)
    boxes = [[18, 8, 83, 73], [39, 29, 62, 52]]
    source = write_place(tmp_path / "p", [boxed(boxes, [1, 2], size=dot.shape, image=image)])

    record, = fill(source, tmp_path / "out", "--instances")

    label = record.get("label")
    assert iou(label == 2, dot) > 0.9 and iou(label == 1, ring & ~dot) > 0.9
    ids = record.get("instance").ids
    np.testing.assert_array_equal(np.array([0, 1, 2])[ids], label)


def test_photos_of_a_foreign_folder_are_joined_by_key(tmp_path):
    (tmp_path / "photos/sub").mkdir(parents=True)
    image, mask = scene()
    Image.fromarray(image).save(tmp_path / "photos/sub/x.1.jpg", quality=95)
    ys, xs = np.nonzero(mask)
    box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    source = write_place(tmp_path / "p", [boxed([box], [1], key="sub/x.1", size=mask.shape)])

    record, = fill(source, tmp_path / "out", "--images", tmp_path / "photos")

    assert record.key == "sub/x.1" and record.kinds() == {"label"}
    assert iou(record.get("label") == 1, mask) > 0.9


def test_photos_in_a_pipe_go_in_step_with_the_boxes(place, tmp_path):
    photos = conftest.run(["ws-cat", place("i", "image")]).stdout
    conftest.run(["ws-boxfill", place("p", "boxes"), "--images", "-", "-o", tmp_path / "piped"],
                 stdin=photos)
    fill(tmp_path / "p", tmp_path / "out", "--images", tmp_path / "i")

    piped, out = ({n: d for n, d in tree(tmp_path / name).items() if n[0] != "_"}
                  for name in ("piped", "out"))
    assert len(out) == 6 and piped == out


@pytest.mark.parametrize("form, code, message", [
    ("p", 2, "3 records are without counterpart"), ("p.tar", 1, "img003: no counterpart in")])
def test_a_missing_photo_is_named(form, code, message, place, tmp_path):
    source, photos = place(form, "boxes"), place("i", "image", count=3)

    done = run(["ws-boxfill", source, "--images", photos, "-o", tmp_path / "out"], code=code)

    assert message in complaint(done) and "img003" in complaint(done)
    assert not (tmp_path / "out/__wsseg__/end.json").exists()


@pytest.mark.parametrize("form", ["p", "p.tar", "p.h5"])
def test_keep_going_fills_the_boxes_that_have_a_photo(form, place, tmp_path):
    records = fill(place(form, "boxes"), tmp_path / "out", "--images",
                   place("i", "image", count=3), "--keep-going", code=3)

    assert [r.key for r in records] == ["img000", "img001", "img002"]


def test_grabcut_without_photos_is_a_usage_error(place, tmp_path):
    done = run(["ws-boxfill", place("p", "boxes"), "-o", tmp_path / "out"], code=2)

    assert "grabcut needs the photos: name their folder with --images" in complaint(done)


@pytest.mark.parametrize("shape, hint", [((21, 30), False), ((30, 20), True)])
def test_a_photo_of_another_size_is_told_with_both_sizes(shape, hint, tmp_path):
    image = np.zeros((*shape, 3), np.uint8)
    source = write_place(tmp_path / "p", [boxed([[1, 1, 9, 9]], [1], image=image)])

    done = run(["ws-boxfill", source, "-o", tmp_path / "out"], code=1)

    text = complaint(done)
    assert f"a: boxes are for a 20x30 image, but the photo is {shape[0]}x{shape[1]}" in text
    assert ("transposed" in text) == hint


def test_a_record_without_boxes_is_named(place, tmp_path):
    done = run(["ws-boxfill", place("p", "label"), "--method", "rect", "-o", tmp_path / "out"],
               code=1)

    assert "img000: has no boxes (it holds label)" in complaint(done)


# -- together ----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["rect", "grabcut"])
def test_masks_made_of_boxes_cost_what_the_boxes_did(method, place, tmp_path):
    fill(place("p", "boxes", "image"), tmp_path / "out", "--method", method)

    facts = info(tmp_path / "out")
    assert facts["supervision"] == {"boxes": [6, 12, 12]}
    assert "no strong label used" in facts["labels"]
    assert facts["classes"] == list(conftest.CLASSES)
    assert [e["tool"] for e in facts["history"]] == ["ws-boxfill"]


def test_the_history_holds_what_was_asked_for_and_not_where_files_lay(place, tmp_path):
    for name in ("i", "j"):
        fill(place(f"p{name}", "boxes"), tmp_path / f"out{name}", "--images",
             place(name, "image"), "--margin", "0.75")

    assert info(tmp_path / "outi")["history"][0]["arguments"] == ["--margin", "0.75"]
    assert tree(tmp_path / "outi") == tree(tmp_path / "outj")


def test_boxes_of_separate_rectangles_give_their_label_map_back(place, tmp_path):
    source = place("p", "label")
    run(["ws-weaken", source, "--boxes", "-o", tmp_path / "boxes"])

    for number, record in enumerate(fill(tmp_path / "boxes", tmp_path / "out", "--method",
                                         "rect")):
        label = make_label(number)
        np.testing.assert_array_equal(record.get("label")[label != 255], label[label != 255])


@pytest.mark.parametrize("words", [["--method", "magic"], ["--iterations", "0"],
                                   ["--margin", "-1"], ["--min-fill", "1.5"],
                                   ["--outside", "nothing"]])
def test_values_that_cannot_be_are_usage_errors(words, place, tmp_path):
    done = run(["ws-boxfill", place("p", "boxes"), *words, "-o", tmp_path / "out"], code=2)

    assert words[0] in complaint(done)
    assert not (tmp_path / "out").exists()
