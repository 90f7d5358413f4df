"""What ws-cat may change on the way, and what it makes of foreign data sets."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.cli.cat_cases import data, lone, read
from tests.cli.test_info import info, run
from tests.conftest import complaint, keys_of, make_label, make_record, tree, write_place
from wsseg.data.names import DATASETS
from wsseg.io.places import open_source
from wsseg.io.png import voc_palette
from wsseg.io.values import Boxes


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


# -- changing --------------------------------------------------------------------------------


@pytest.mark.parametrize("remap", ["1=255,255=0", "1=2,2=1", "0=3", " 2 = 7 ", "1=300"])
def test_remap_changes_each_pixel_once(remap, tmp_path):
    old = make_label(1)
    table = dict(part.split("=") for part in remap.split(","))
    table = {int(k): int(v) for k, v in table.items()}
    source = write_place(tmp_path / "p", [make_record(1, "label")], classes=None)

    run(["ws-cat", source, "--remap", remap, "-o", tmp_path / "out"])

    new = read(tmp_path / "out")["img001"].get("label")
    assert new.tolist() == [[table.get(v, v) for v in row] for row in old.tolist()]
    assert new.dtype == (np.uint16 if "300" in remap else np.uint8)


def test_remap_of_a_class_that_is_not_there_changes_nothing(place, tmp_path):
    run(["ws-cat", place("p", "label"), "--remap", "300=1", "-o", tmp_path / "out"])

    assert data(tmp_path / "out") == data(tmp_path / "p")


def test_remap_to_what_is_no_class_is_refused(place, tmp_path):
    done = run(["ws-cat", place("p", "label"), "--remap", "1=7", "-o", tmp_path / "out"], code=1)

    assert "img000: " in complaint(done) and "value 7" in complaint(done)


@pytest.mark.parametrize("remap", ["1", "1=", "a=2", "1=2,", "-1=2", "1=65536", "1=2=3", "1.0=2"])
def test_a_remap_that_cannot_be_read_is_a_usage_error(remap, place, tmp_path):
    done = run(["ws-cat", place("p", "label"), "--remap", remap, "-o", tmp_path / "o"], code=2)

    assert "is not FROM=TO" in complaint(done)


def test_what_was_changed_is_part_of_the_history(place, tmp_path):
    run(["ws-cat", place("p", "label"), "--remap", "1=2", "-o", tmp_path / "a"])
    run(["ws-cat", tmp_path / "a", "-o", tmp_path / "b"])

    assert [(e["tool"], e["arguments"]) for e in info(tmp_path / "b")["history"]] == \
        [("ws-cat", ["--remap", "1=2"])]


def coloured(folder: Path, colours: np.ndarray) -> str:
    folder.mkdir()
    Image.fromarray(colours).save(folder / "a.png")
    return str(folder)


def test_masks_in_colours_of_voc_become_class_ids(tmp_path):
    source = coloured(tmp_path / "p", voc_palette()[make_label(0)])

    done = run(["ws-cat", source, "-o", tmp_path / "refused"], code=1)
    run(["ws-cat", source, "--colours", "voc", "-o", tmp_path / "out"])

    assert "a: label: " in complaint(done) and "--colours" in complaint(done)
    np.testing.assert_array_equal(read(tmp_path / "out")["a"].get("label"), make_label(0))


def test_masks_in_colours_of_cityscapes_become_train_ids(tmp_path):
    colours = np.array([[[128, 64, 128], [0, 0, 142]], [[0, 0, 0], [119, 11, 32]]], np.uint8)

    run(["ws-cat", coloured(tmp_path / "p", colours), "--colours", "cityscapes", "-o",
         tmp_path / "out"])

    assert read(tmp_path / "out")["a"].get("label").tolist() == [[0, 13], [255, 18]]


def test_a_colour_of_no_class_is_counted_and_named(tmp_path):
    colours = voc_palette()[make_label(0)]
    colours[5, 7:9] = 1, 2, 3

    done = run(["ws-cat", coloured(tmp_path / "p", colours), "--colours", "voc", "-o",
                tmp_path / "out"], code=1)

    assert "a: 2 pixels have no colour of voc, the first at x=7, y=5: #010203" in complaint(done)


def test_a_record_changed_by_hand_is_taken_only_if_told(place, tmp_path):
    source = place("p", "label", "boxes", count=3)
    path = Path(source) / "img001.boxes.json"
    path.write_text(path.read_text().replace('"class":1', '"class":2'))

    done = run(["ws-cat", source, "-o", tmp_path / "out"], code=1)
    run(["ws-cat", source, "--edited", "-o", tmp_path / "taken"])

    assert "img001: is not what was written" in complaint(done)
    assert "--edited" in complaint(done)
    assert read(tmp_path / "taken")["img001"].get("boxes").classes.tolist() == [2, 2]
    assert info(tmp_path / "taken", "--check")["sound"] is True
    assert data(tmp_path / "taken").keys() == data(source).keys()


def turned(folder: Path, orientation: int) -> tuple[str, np.ndarray]:
    """A folder with one rotated photo; its pixels as they are stored."""
    folder.mkdir()
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(make_record(0, "image").get("image")).save(folder / "a.jpg", exif=exif)
    return str(folder), np.asarray(Image.open(folder / "a.jpg").convert("RGB"))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_rotated_photos_are_turned_or_left_as_exif_says(orientation, tmp_path):
    source, stored = turned(tmp_path / "p", orientation)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(Path(source) / "a.jpg")))

    for choice, pixels in (("apply", upright), ("ignore", stored)):
        run(["ws-cat", source, "--exif", choice, "-o", tmp_path / choice])
        record = read(tmp_path / choice)["a"]
        np.testing.assert_array_equal(record.get("image"), pixels)
        (content,) = record.read("image").values()
        assert Image.open(io.BytesIO(content)).getexif().get(0x112, 1) == 1


def test_a_rotated_photo_is_refused_where_it_is_looked_at(tmp_path):
    source, _ = turned(tmp_path / "p", 6)
    boxes = lone(tmp_path / "b", boxes=Boxes(np.array([[1, 1, 9, 9.]]), np.array([1])))

    done = run(["ws-boxfill", boxes, "--images", source, "-o", tmp_path / "out"], code=1)

    assert "a: " in complaint(done) and "--exif" in complaint(done)


def test_exif_leaves_upright_photos_byte_for_byte(tmp_path):
    source, _ = turned(tmp_path / "p", 1)

    run(["ws-cat", source, "--exif", "apply", "-o", tmp_path / "out"])

    assert data(tmp_path / "out") == tree(source)


# -- foreign data sets -----------------------------------------------------------------------

XML = """<annotation><size><width>32</width><height>24</height><depth>3</depth></size>
<object><name>cat</name><bndbox><xmin>4</xmin><ymin>3</ymin><xmax>14</xmax><ymax>12</ymax></bndbox>
</object><object><name>dog</name><bndbox><xmin>17</xmin><ymin>15</ymin><xmax>24</xmax>
<ymax>22</ymax></bndbox></object></annotation>"""


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """VOCdevkit/VOC2012 with three photos, two of them with masks, objects and boxes."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "SegmentationObject", "Annotations",
                 "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for i in range(3):
        key = f"2007_00000{i}"
        Image.fromarray(make_record(i, "image").get("image")).save(root / f"JPEGImages/{key}.jpg")
        if i == 2:
            continue
        label = make_label(0)
        for folder, ids in (("SegmentationObject", label),
                            ("SegmentationClass", np.array([0, 8, 12] + [255] * 253)[label])):
            picture = Image.fromarray(ids.astype(np.uint8), "P")
            picture.putpalette(voc_palette().tobytes())
            picture.save(root / folder / f"{key}.png")
        (root / f"Annotations/{key}.xml").write_text(XML)
    (root / "ImageSets/Segmentation/train.txt").write_text("2007_000001\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000000\n")
    return tmp_path / "VOCdevkit"


def test_a_voc_tree_becomes_records(devkit, tmp_path):
    run(["ws-cat", "--from", "voc", devkit, "-o", tmp_path / "out"])

    record = read(tmp_path / "out")["2007_000001"]
    assert keys_of(tmp_path / "out") == ["2007_000000", "2007_000001"]
    assert record.kinds() == {"image", "label", "instance", "boxes"}
    assert record.get("label").tolist() == \
        np.array([0, 8, 12] + [255] * 253)[make_label(0)].tolist()
    assert record.get("boxes").xyxy.tolist() == [[3, 2, 14, 12], [16, 14, 24, 22]]
    assert record.get("boxes").classes.tolist() == [8, 12]
    assert [(s.id, s.cls) for s in record.get("instance").segments] == [(1, 8), (2, 12)]
    assert record.read("image")["jpg"] == \
        (devkit / "VOC2012/JPEGImages/2007_000001.jpg").read_bytes()
    assert open_source(str(tmp_path / "out")).header.classes == DATASETS["voc"]


def test_the_labels_of_a_data_set_are_a_persons_work(devkit, tmp_path):
    run(["ws-cat", "--from", "voc", devkit, "-o", tmp_path / "out"])
    run(["ws-cat", "--from", "voc", devkit, "--only", "boxes", "-o", tmp_path / "boxes"])

    assert info(tmp_path / "out")["supervision"] == {"boxes": [2, 4, 4], "masks": [2, 4, 4]}
    assert info(tmp_path / "boxes")["supervision"] == {"boxes": [2, 4, 4]}


def test_a_plain_folder_of_masks_may_be_anybodys_work(devkit, tmp_path):
    run(["ws-cat", devkit / "VOC2012/SegmentationClass", "-o", tmp_path / "out"])

    assert info(tmp_path / "out")["supervision"] == {}


def test_a_split_chooses_records_of_a_data_set(devkit, tmp_path):
    run(["ws-cat", "--from", "voc", devkit, "--split", "val", "--only", "label", "-o",
         tmp_path / "out.h5"])

    assert keys_of(tmp_path / "out.h5") == ["2007_000000"]
    assert read(tmp_path / "out.h5")["2007_000000"].kinds() == {"label"}


def test_an_unknown_split_lists_the_known_ones(devkit, tmp_path):
    done = run(["ws-cat", "--from", "voc", devkit, "--split", "trainval", "-o", tmp_path / "o"],
               code=2)

    assert "no split 'trainval'" in complaint(done) and "train, val" in complaint(done)


def test_two_splits_of_a_data_set_follow_one_another(devkit, tmp_path):
    for split in ("train", "val"):
        run(["ws-cat", "--from", "voc", devkit, "--split", split, "-o", tmp_path / split])

    run(["ws-cat", tmp_path / "train", tmp_path / "val", "-o", tmp_path / "both"])

    assert json.loads((tmp_path / "both/__wsseg__/end.json").read_bytes())["records"] == 2


def test_a_foreign_record_does_not_depend_on_the_form_it_goes_to(devkit, tmp_path):
    run(["ws-cat", "--from", "voc", devkit, "-o", tmp_path / "a"])
    run(["ws-cat", "--from", "voc", devkit, "-o", tmp_path / "a.h5"])
    run(["ws-cat", tmp_path / "a.h5", "-o", tmp_path / "b"])

    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.parametrize("words, message", [
    (["--split", "val", "."], "--split belongs to --from"),
    (["--from", "voc"], "needs the data set's path"),
    (["--from", "voc", "."], "no VOC data found"),
    (["--from", "pascal", "."], "'pascal'"),
    (["--classes", "vok", "."], "no class names 'vok'")])
def test_what_cannot_be_read_is_a_usage_error(words, message, place, tmp_path, monkeypatch):
    place("p", "label")
    monkeypatch.chdir(tmp_path / "p")

    assert message in complaint(run(["ws-cat", *words, "-o", tmp_path / "o"], code=2))
