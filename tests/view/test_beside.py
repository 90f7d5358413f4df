"""Places are shown side by side by key, and outputs are taken with care."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import make_record, write_place
from wsseg.errors import RecordError, UnsafeError, UsageError
from wsseg.io.places import open_source
from wsseg.view.beside import BESIDE, Beside, Limit, check_common
from wsseg.view.gallery import Gallery
from wsseg.view.output import OneFile, PictureFolder, check_output


def place(tmp_path, name, *kinds, numbers=range(4), **more):
    return open_source(write_place(tmp_path / name, (make_record(i, *kinds) for i in numbers),
                                   kinds=kinds, **more))


def test_other_places_are_looked_up_or_read_along(tmp_path):
    others = [place(tmp_path, "boxes", "boxes"), place(tmp_path, "labels.tar", "label"),
              place(tmp_path, "some.h5", "tags", numbers=[1, 3])]
    beside = Beside(others)
    first = place(tmp_path, "photos", "image")
    found = [beside(record) for record in first]
    for record in found:
        boxes, label, tags = record.get(BESIDE)
        assert boxes.key == label.key == record.key
        assert "boxes" in boxes and "label" in label
    assert [r.get(BESIDE)[2] is None for r in found] == [True, False, True, False]
    assert beside.notes() == [f"2 of these records are not in {others[2].where}"]


def test_a_stream_in_another_order_is_refused(tmp_path):
    beside = Beside([place(tmp_path, "labels.tar", "label", numbers=[2, 1, 0])])
    beside(make_record(1))
    with pytest.raises(UsageError, match="no img002.*order"):
        beside(make_record(2))


def test_a_limit_counts_what_it_leaves_out():
    known = Limit(2, ["a", "b", "c"])
    assert [known(k) for k in "abc"] == [True, True, False] == [known(k) for k in "abc"]
    assert known.notes() == ["1 more record not shown (--limit 0 shows all)"]
    stream = Limit(2, None)
    assert [stream(k) for k in "abcd"] == [True, True, False, False]
    assert stream.notes()[0].startswith("2 more")
    for none in (Limit(None, ["a"]), Limit(None, None)):
        assert none("a") and none.notes() == []


def test_places_with_nothing_in_common_are_an_error():
    other = SimpleNamespace(where="b", keys=lambda: ["x"], get=None)
    with pytest.raises(UsageError, match="b and a have no record in common.*begins with y"):
        check_common("a", ["y"], [other])
    check_common("a", ["x", "y"], [other])
    check_common("a", None, [other])


def test_a_place_of_photos_gives_the_photos(tmp_path):
    sources = [place(tmp_path, "photos", "image"), place(tmp_path, "labels", "label")]
    gallery = Gallery.of(["photos", "x/labels/"], sources)
    assert gallery.columns == ("photo", "labels") and gallery.panels == (1,)
    record = Beside(sources[1:])(sources[0].get("img001"))
    views = gallery.views(record, None)
    assert (views.ground == sources[0].get("img001").get("image")).all()
    assert views.layers[0].note.startswith("cat")


def test_headings_tell_places_apart(tmp_path):
    source = place(tmp_path, "a", "label")
    piped = SimpleNamespace(header=SimpleNamespace(kinds=("label",), classes=None, ignore=255,
                                                   history=({"tool": "ws-crf"},)))
    assert Gallery.of(["x/a", "b", "-"], [source, source, piped]).headings == ("a", "b", "ws-crf")
    assert Gallery.of(["x/a", "y/a"], [source, source]).headings == ("x/a", "y/a")


def test_kinds_may_be_chosen(tmp_path):
    sources = [place(tmp_path, "a", "label", "boxes")]
    record = Beside([])(sources[0].get("img000"))
    views = Gallery.of(["a"], sources, kinds=["boxes"]).views(record, None)
    assert not views.layers[0].fill.any()
    assert views.layers[0].note == "boxes: 1 × cat, 1 × dog"
    with pytest.raises(UsageError, match="--kind lable"):
        Gallery.of(["a"], sources, kinds=["lable"])


def test_each_heat_class_has_a_picture(tmp_path):
    names = ("background", "cat", "dog")
    cams, masks = place(tmp_path, "cams", "cam", classes=names), \
        place(tmp_path, "masks", "label", classes=names)
    gallery = Gallery.of(["cams", "masks"], [cams, masks], heat=["dog", "cat"])
    assert gallery.columns == ("cams: dog", "cams: cat", "masks") and gallery.panels == (0, 0, 1)
    assert [k.heat for k in gallery.looks] == [2, 1, 2] and gallery.heat == "dog, cat"
    gallery = Gallery.of(["cams", "masks"], [cams, masks], ranks=2)
    assert gallery.columns == ("cams: 1.", "cams: 2.", "masks") and gallery.heat == "activation"
    assert Gallery.of(["cams"], [cams], ranks=1).columns == ("cams",)


def test_the_heat_class_is_a_name_or_a_number(tmp_path):
    named, bare = (place(tmp_path, n, "label", classes=c)
                   for n, c in (("a", ("background", "cat")), ("b", None)))
    assert Gallery.of(["a"], [named], heat="cat").looks[0].heat == 1
    assert Gallery.of(["b"], [bare], heat="7").heat == "class 7"
    with pytest.raises(UsageError, match="did you mean 'cat'"):
        Gallery.of(["a"], [named], heat="cta")
    with pytest.raises(UsageError, match="--classes"):
        Gallery.of(["b"], [bare], heat="cat")


def test_places_that_disagree_about_names_are_told_of(tmp_path):
    sources = [place(tmp_path, n, "label", classes=c)
               for n, c in (("a", ("background", "cat")), ("b", ("background", "dog")))]
    assert "differently" in Gallery.of(["a", "b"], sources).notes()[0]
    assert Gallery.of(["a"], sources[:1]).notes() == []
    assert Gallery.of(["a", "b"], sources).legend([1, 255]) == [
        ("cat", (128, 0, 0)), ("ignored", (235, 235, 235))]


def test_parts_of_other_sizes_name_their_inputs(tmp_path):
    sources = [place(tmp_path, "a", "label"), place(tmp_path, "b", "label")]
    record, other = make_record(0, "label"), make_record(0)
    other.set("label", np.zeros((5, 5), np.uint8))
    record.set(BESIDE, (other,))
    with pytest.raises(RecordError, match="label of input 1 24x32, label of input 2 5x5"):
        Gallery.of(["a", "b"], sources).views(record, None)


def test_output_names_that_promise_something_else_are_refused():
    for name in ("-", "x.pdf", "x.H5", "out.tar"):
        with pytest.raises(UsageError):
            check_output(name, [])
    with pytest.raises(UsageError, match="also an input"):
        check_output("masks/", ["-", "./masks"])


def test_one_file_needs_leave_to_replace(tmp_path):
    out = tmp_path / "new" / "x.png"
    OneFile(out, False).write(b"1")
    with pytest.raises(UsageError, match="--overwrite"):
        OneFile(out, False)
    OneFile(out, True).write(b"2")
    assert out.read_bytes() == b"2"
    with pytest.raises(UsageError, match="is a directory"):
        OneFile(tmp_path, True)


def test_a_link_at_the_output_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_bytes(b"old")
    (tmp_path / "x.png").symlink_to(tmp_path / "precious")
    OneFile(tmp_path / "x.png", True).write(b"new")
    assert (tmp_path / "precious").read_bytes() == b"old"
    assert not (tmp_path / "x.png").is_symlink()


def test_a_picture_folder_is_only_ever_its_own(tmp_path):
    root = tmp_path / "out"
    folder = PictureFolder(root, False)
    for key in ("a/b", "v1.5", "c"):
        folder.write(key, b"1")
    assert sorted(p.name for p in root.rglob("*.png")) == ["b.png", "c.png", "v1.5.png"]
    (root / "mine.png").write_bytes(b"precious")
    with pytest.raises(UsageError, match="add --overwrite"):
        PictureFolder(root, False)
    PictureFolder(root, True).write("c", b"2")
    assert {p.name for p in root.rglob("*.png")} == {"c.png", "mine.png"}  # no stale pictures
    foreign = tmp_path / "masks"
    foreign.mkdir()
    (foreign / "x.png").write_bytes(b"precious")
    with pytest.raises(UsageError, match="not written by ws-view"):
        PictureFolder(foreign, True)


def test_links_inside_a_picture_folder_lead_nowhere(tmp_path):
    (tmp_path / "victim").mkdir()
    root = tmp_path / "out"
    folder = PictureFolder(root, False)
    folder.write("a", b"1")
    os.symlink(tmp_path / "victim", root / "sub")
    with pytest.raises(UnsafeError, match="symbolic link"):
        folder.write("sub/x", b"1")
    assert list((tmp_path / "victim").iterdir()) == []
    with pytest.raises(UnsafeError):
        PictureFolder(root / "sub", True)


def test_a_tampered_list_cannot_remove_other_files(tmp_path):
    (tmp_path / "precious.png").write_bytes(b"1")
    root = tmp_path / "out"
    PictureFolder(root, False).write("a", b"1")
    (root / PictureFolder.LIST).write_text("../precious.png\n")
    with pytest.raises(UnsafeError):
        PictureFolder(root, True).write("a", b"2")
    assert (tmp_path / "precious.png").exists()
