"""ws-cat: any form in, any form out, chosen, joined and added to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import conftest
from tests.cli.cat_cases import data, lone, read
from tests.cli.test_budget import trained
from tests.cli.test_info import info, run
from tests.conftest import CLASSES, complaint, keys_of, make_label, make_record, tree, write_place
from wsseg.data.names import DATASETS
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Masks, Points, ScoreMap, Segment

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


def names(folder: Path) -> Path:
    """A file of the class names."""
    (folder / "names.txt").write_text("\n".join(CLASSES))
    return folder / "names.txt"


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


@pytest.mark.parametrize("output", ("p/copy", "p/copy.tar", "photos/copy"))
def test_an_output_within_an_input_is_refused_before_it_spoils_it(output, place, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / "photos" / "a.png")
    ours, before = place("p", "label"), tree(tmp_path)
    words = [ours] if output.startswith("p/") else [tmp_path / "photos", "--as", "image"]
    told = run(["ws-cat", *words, "-o", tmp_path / output], code=2)
    assert "write to another place" in complaint(told)
    assert tree(tmp_path) == before


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
