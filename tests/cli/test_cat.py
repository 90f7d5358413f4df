"""ws-cat: any form in, any form out, and what it may change on the way."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests import conftest
from tests.cli.test_budget import trained
from tests.cli.test_info import info, run
from tests.conftest import CLASSES, complaint, keys_of, make_label, make_record, tree, write_place
from wsseg.data.names import DATASETS
from wsseg.io.places import open_source
from wsseg.io.png import voc_palette
from wsseg.io.record import Record
from wsseg.io.values import Boxes, InstanceMap, Masks, Points, ScoreMap, Segment

FORMS = ("p", "p.tar", "p.h5")


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


def rich(number: int) -> Record:
    """A record of every kind, with a member that wsseg knows nothing of."""
    record = make_record(number, "label", "boxes", "tags", "image")
    rng, label = np.random.default_rng(number), make_label(number)
    ids = np.where(label == 255, 0, label).astype(np.uint16)
    record.set("instance", InstanceMap(ids, (Segment(1, 1, 0.5), Segment(2, 2, thing=False))))
    record.set("score", ScoreMap(rng.random((2, 6, 8)).astype(np.float16), np.array([0, 2]),
                                 label.shape))
    record.set("cam", ScoreMap(rng.random((1, 6, 8)).astype(np.float32), np.array([1]),
                               label.shape))
    record.set("masks", Masks(label.shape, ((100, 68, 600),), np.array([1]), np.array([0.25])))
    record.set("conf", rng.integers(0, 256, label.shape).astype(np.uint8))
    record.set("counts", {1: number, 2: 1})
    record.set("points", Points(np.array([[5, 6.5]]), np.array([1]), label.shape))
    record.set("scribble", np.where(label == 2, 2, 255).astype(np.uint8))
    record.members["depth.bin"] = bytes(range(number, 256))
    record.supervision = {"boxes": (2, 2), "tags": (2, 2)}
    return record


def read(place: Path | str) -> dict[str, Record]:
    return {record.key: record for record in open_source(str(place))}


def names(folder: Path) -> Path:
    """A file of the class names."""
    (folder / "names.txt").write_text("\n".join(CLASSES))
    return folder / "names.txt"


def data(place: Path | str) -> dict[str, bytes]:
    """The files of a directory without what it says about itself."""
    return {n: b for n, b in tree(place).items() if not n.startswith("__wsseg__")}


def lone(place: Path, **values) -> str:
    record = Record("a")
    for kind, value in values.items():
        record.set(kind, value)
    return write_place(place, [record], kinds=values)


# -- forms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("old", FORMS)
@pytest.mark.parametrize("new", FORMS)
def test_every_form_becomes_every_form_byte_for_byte(old, new, tmp_path):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    source = write_place(tmp_path / "a" / old, map(rich, range(3)), kinds=["boxes", "label"])
    write_place(tmp_path / "b" / new, map(rich, range(3)), kinds=["boxes", "label"])

    run(["ws-cat", source, "-o", tmp_path / "c" / new])

    assert tree(tmp_path / "c") == tree(tmp_path / "b")


def test_a_pipe_carries_what_a_tar_file_holds(tmp_path):
    source = write_place(tmp_path / "p", map(rich, range(3)), kinds=["label"])
    run(["ws-cat", source, "-o", tmp_path / "p.tar"])

    stream = conftest.run(["ws-cat", source]).stdout
    conftest.run(["ws-cat", "-o", tmp_path / "q"], stdin=stream)

    assert stream == (tmp_path / "p.tar").read_bytes()
    assert tree(tmp_path / "q") == tree(source)


def test_a_foreign_folder_gets_the_class_names_that_are_given(place, tmp_path):
    (tmp_path / "plain").mkdir()
    for name, content in data(place("p", "label")).items():
        (tmp_path / "plain" / name).write_bytes(content)

    for spec, expected in ((names(tmp_path), CLASSES), ("voc", DATASETS["voc"])):
        out = tmp_path / f"out{len(expected)}"
        run(["ws-cat", tmp_path / "plain", "--classes", spec, "-o", out])
        assert open_source(str(out)).header.classes == expected
        assert data(out) == data(tmp_path / "p")


def test_pictures_of_a_foreign_folder_are_what_as_says(place, tmp_path):
    (tmp_path / "plain").mkdir()
    for name, content in data(place("p", "label", count=2)).items():
        (tmp_path / "plain" / name).write_bytes(content)

    for kind in ("label", "scribble", "image"):
        run(["ws-cat", tmp_path / "plain", "--as", kind, "-o", tmp_path / kind])
        assert read(tmp_path / kind)["img001"].kinds() == {kind}
    np.testing.assert_array_equal(read(tmp_path / "scribble")["img001"].get("scribble"),
                                  make_label(1))


def test_a_jpeg_is_refused_as_a_label_map(tmp_path):
    (tmp_path / "plain").mkdir()
    Image.fromarray(make_label(0)).save(tmp_path / "plain" / "a.jpg")

    done = run(["ws-cat", tmp_path / "plain", "--as", "label", "-o", tmp_path / "out"], code=1)

    assert "a: label: labels in a JPEG are damaged" in complaint(done)


# -- choosing --------------------------------------------------------------------------------


def test_only_leaves_the_kinds_that_are_named(tmp_path):
    source = write_place(tmp_path / "p", map(rich, range(2)))

    run(["ws-cat", source, "--only", "tags", "--only", "conf", "-o", tmp_path / "out"])

    assert {n.split(".", 1)[1] for n in data(tmp_path / "out")} == \
        {"tags.json", "conf.png", "depth.bin"}
    assert open_source(str(tmp_path / "out")).header.kinds == ("conf", "tags")


def test_a_record_without_the_kind_that_only_names_is_an_error(place, tmp_path):
    done = run(["ws-cat", place("p", "tags"), "--only", "boxes", "-o", tmp_path / "o"], code=1)

    assert "img000: has no boxes (it holds tags)" in complaint(done)


def test_a_misspelt_kind_is_a_usage_error(place, tmp_path):
    done = run(["ws-cat", place("p", "label"), "--only", "lable", "-o", tmp_path / "o"], code=2)

    assert "lable" in complaint(done)


def test_labels_that_only_leaves_out_cost_nothing(tmp_path):
    source = write_place(tmp_path / "p", map(rich, range(4)))
    assert info(source)["supervision"] == {"boxes": [4, 8, 8], "tags": [4, 8, 8]}

    run(["ws-cat", source, "--only", "tags", "-o", tmp_path / "out"])

    assert info(tmp_path / "out")["supervision"] == {"tags": [4, 8, 8]}


def test_a_list_of_keys_may_be_that_of_another_program(place, tmp_path):
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbf/JPEGImages/img004.jpg /Masks/img004.png\r\n"
                                    b"# the rest\r\n\r\nimg001  \r\n")
    for form in FORMS:
        run(["ws-cat", place(form, "label"), "--keys", tmp_path / "list", "-o",
             tmp_path / f"out-{form}"])
        assert sorted(keys_of(tmp_path / f"out-{form}")) == ["img001", "img004"]


def test_shards_of_any_form_add_up_to_the_whole(place, tmp_path):
    source = place("p", "label", "tags", count=12)
    parts = [tmp_path / name for name in ("one", "two.tar", "three.h5", "four")]
    for i, part in enumerate(parts, 1):
        run(["ws-cat", source, "--shard", f"{i}/4", "-o", part])

    run(["ws-cat", *parts, "-o", tmp_path / "all"])

    assert [len(keys_of(p)) for p in parts].count(12) == 0
    assert sum(len(keys_of(p)) for p in parts) == 12
    # in the order of the parts: sorted, the lists of records are the same, too
    assert data(tmp_path / "all") == data(source)
    lines, expected = (sorted((Path(p) / "__wsseg__/records.tsv").read_bytes().splitlines())
                       for p in (tmp_path / "all", source))
    assert lines == expected


def test_the_shard_of_a_key_does_not_depend_on_the_others(place, tmp_path):
    for count in (4, 12):
        run(["ws-cat", place(f"p{count}", "tags", count=count), "--shard", "2/3", "-o",
             tmp_path / f"out{count}"])

    few, many = (set(keys_of(tmp_path / f"out{count}")) for count in (4, 12))
    assert few == {k for k in many if k < "img004"} and few < many


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/2"])
def test_a_shard_that_cannot_be_is_a_usage_error(shard, place, tmp_path):
    done = run(["ws-cat", place("p", "tags"), f"--shard={shard}", "-o", tmp_path / "o"], code=2)

    assert "is not I/N" in complaint(done)


# -- several inputs --------------------------------------------------------------------------


def some(place: Path, numbers, *kinds: str, **options) -> str:
    return write_place(place, [make_record(i, *kinds) for i in numbers], kinds=kinds, **options)


def test_several_inputs_follow_one_another(tmp_path):
    parts = [some(tmp_path / "b.tar", [4, 2], "label"), some(tmp_path / "a", [3], "label"),
             some(tmp_path / "c.h5", [0, 1], "tags")]

    run(["ws-cat", *parts, "-o", tmp_path / "all.tar"])

    assert keys_of(tmp_path / "all.tar") == [f"img00{i}" for i in (4, 2, 3, 0, 1)]
    assert open_source(str(tmp_path / "all.tar")).header.kinds == ("label", "tags")


def test_a_pipe_can_be_one_of_several_inputs(tmp_path):
    first, last = some(tmp_path / "a", [5], "label"), some(tmp_path / "b.tar", [1, 2], "label")

    conftest.run(["ws-cat", first, "-", "-o", tmp_path / "all.tar"],
                 stdin=Path(last).read_bytes())

    assert keys_of(tmp_path / "all.tar") == ["img005", "img001", "img002"]


@pytest.mark.parametrize("places", [("a", "b"), ("a.tar", "b.tar"), ("a.h5", "b.tar")])
def test_a_record_in_two_inputs_is_named(places, tmp_path):
    parts = [some(tmp_path / n, numbers, "label") for n, numbers in zip(places, ([0, 1], [1, 2]))]

    done = run(["ws-cat", *parts, "-o", tmp_path / "all"], code=2)

    assert "img001 is in two of the inputs" in complaint(done)
    assert not (tmp_path / "all/__wsseg__/end.json").exists()


def test_inputs_of_other_classes_do_not_follow(tmp_path):
    parts = [some(tmp_path / "a", [0], "label"),
             some(tmp_path / "b", [1], "label", classes=("background", "dog", "cat"))]

    done = run(["ws-cat", *parts, "-o", tmp_path / "all"], code=2)

    assert "b has other classes than" in complaint(done)


def test_a_cut_input_among_several_is_incomplete(tmp_path):
    whole, cut = some(tmp_path / "a", [0], "label"), some(tmp_path / "b", [1, 2], "label")
    (Path(cut) / "__wsseg__/end.json").unlink()

    done = run(["ws-cat", whole, cut, "-o", tmp_path / "all"], code=4)

    assert "b is incomplete" in complaint(done)
    assert not (tmp_path / "all/__wsseg__/end.json").exists()


# -- adding ----------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", ["e", "e.h5", "e.tar"])
def test_with_adds_the_kinds_of_the_same_key(extra, place, tmp_path):
    run(["ws-cat", place("p", "tags", count=3), "--with", place(extra, "label", count=3), "-o",
         tmp_path / "out"])

    for number, record in enumerate(read(tmp_path / "out").values()):
        assert record.kinds() == {"tags", "label"} and record.get("tags") == (1, 2)
        np.testing.assert_array_equal(record.get("label"), make_label(number))


def test_with_never_replaces_what_is_there(place, tmp_path):
    other = lone(tmp_path / "e", tags=(2,), counts={2: 5})
    mine = lone(tmp_path / "p", tags=(1,))

    run(["ws-cat", mine, "--with", other, "-o", tmp_path / "out"])

    record = read(tmp_path / "out")["a"]
    assert record.get("tags") == (1,) and record.get("counts") == {2: 5}


def test_with_leaves_a_record_without_counterpart_as_it_is(place, tmp_path):
    run(["ws-cat", place("p", "tags", count=4), "--with", place("e", "label", count=2), "-o",
         tmp_path / "out"])

    assert [len(r.kinds()) for r in read(tmp_path / "out").values()] == [2, 2, 1, 1]


def test_a_tar_file_with_another_order_cannot_be_added(tmp_path):
    other = some(tmp_path / "e.tar", [1, 0], "tags")

    done = run(["ws-cat", some(tmp_path / "p", [0, 1], "label"), "--with", other, "-o",
                tmp_path / "out"], code=2)

    assert "is not in the order of the input" in complaint(done)


def test_with_adds_up_what_the_labels_cost(place, tmp_path):
    source, counted = place("p", "boxes", count=3), []
    for i in range(3):
        counted.append(make_record(i, "tags"))
        counted[-1].supervision = {"tags": (2, 2)}
    other = write_place(tmp_path / "e", counted, kinds=["tags"])

    run(["ws-cat", source, "--with", other, "-o", tmp_path / "out"])

    assert info(tmp_path / "out")["supervision"] == {"boxes": [3, 6, 6], "tags": [3, 6, 6]}


@pytest.mark.parametrize("plain", ["p", "e"])
def test_with_adds_up_the_cost_of_labels_from_a_plain_folder(plain, place, tmp_path):
    source, other = place("p", "boxes", count=2), place("e", "tags", count=2)
    if plain == "p":
        counted = [make_record(i, "tags") for i in range(2)]
        for record in counted:
            record.supervision = {"tags": (2, 2)}
        other = write_place(tmp_path / "counted", counted)
    folder = Path(source if plain == "p" else other)
    (folder / "__wsseg__").rename(tmp_path / "gone")  # now it is any folder of .json files

    run(["ws-cat", source, "--with", other, "-o", tmp_path / "out", "--classes",
         names(tmp_path)])

    assert info(tmp_path / "out")["supervision"] == {"boxes": [2, 4, 4], "tags": [2, 4, 4]}


@pytest.mark.parametrize("words", [[], ["--with"]])
def test_labels_spent_on_any_of_the_inputs_are_not_forgotten(words, tmp_path):
    first = some(tmp_path / "a", [0] if words else [1], "tags")
    second = trained(tmp_path / "b", {"masks": (10, 15, 28)})

    run(["ws-cat", first, *words, second, "-o", tmp_path / "out"])

    assert info(tmp_path / "out")["supervision"]["masks"] == [10, 15, 28]


def test_images_are_added_as_the_files_they_are(place, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(2):
        Image.fromarray(make_record(i, "image").get("image")).save(
            tmp_path / f"photos/img00{i}.jpg")

    run(["ws-cat", place("p", "label", count=2), "--images", tmp_path / "photos", "-o",
         tmp_path / "out"])

    assert {n: d for n, d in data(tmp_path / "out").items() if n.endswith("jpg")} == \
        tree(tmp_path / "photos")


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
