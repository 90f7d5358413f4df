"""Directories: ours, and anybody's folder of photos or masks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CLASSES, keys_of, make_label, make_record, tree, write_place
from wsseg.errors import IncompleteError, RecordError, UnsafeError, UsageError, WssegError
from wsseg.io.codec import encode
from wsseg.io.folder import FolderSource, journal_line, read_journal
from wsseg.io.kinds import END, HEADER
from wsseg.io.png import encode_labels
from wsseg.io.record import Record

LABEL = make_label(0)
PHOTO = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)


def photo(form: str = "JPEG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(PHOTO).save(out, form)
    return out.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Make a foreign folder from name -> bytes."""
    def make(files: dict[str, bytes | str]) -> Path:
        for name, data in files.items():
            path = tmp_path / "foreign" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return tmp_path / "foreign"
    return make


def contents(source: FolderSource) -> dict[str, set[str]]:
    return {record.key: record.kinds() for record in source}


def test_jpgs_are_photos_and_pngs_label_maps(folder):
    source = FolderSource(folder({"a.jpg": photo(), "a.png": encode_labels(LABEL),
                                  "b.jpeg": photo(), "sub/c.png": encode_labels(LABEL)}))
    assert contents(source) == {"a": {"image", "label"}, "b": {"image"}, "sub/c": {"label"}}
    assert source.header.kinds == ("image", "label") and source.header.classes is None
    np.testing.assert_array_equal(source.get("a").get("label"), LABEL)
    assert source.end is None
    source.check_complete()


def test_as_image_takes_every_picture_for_a_photo(folder):
    root = folder({"a.jpg": photo(), "b.png": photo("PNG"), "c.bmp": photo("BMP"),
                   "d.TIFF": photo("TIFF"), "e.webp": photo("WEBP"), "f.ppm": photo("PPM")})
    source = FolderSource(root, as_kind="image")
    assert contents(source) == {k: {"image"} for k in "abcdef"}
    for key in "bcdf":
        np.testing.assert_array_equal(source.get(key).get("image"), PHOTO)
    assert source.get("c").members["image.png"].startswith(b"\x89PNG")


def test_as_label_takes_a_jpeg_for_a_damaged_label_map(folder):
    source = FolderSource(folder({"a.jpg": photo()}), as_kind="label")
    with pytest.raises(RecordError, match="labels in a JPEG are damaged"):
        source.get("a").get("label")


@pytest.mark.parametrize("kind", ["scribble", "conf"])
def test_pngs_may_be_scribbles_or_conf_maps(folder, kind):
    source = FolderSource(folder({"a.png": encode_labels(LABEL, palette=False), "a.jpg": photo()}),
                          as_kind=kind)
    assert contents(source) == {"a": {kind, "image"}}
    np.testing.assert_array_equal(source.get("a").get(kind), LABEL)


def test_weak_labels_under_our_names_are_read(folder):
    source = FolderSource(folder({
        "a.tags.json": '{"classes": [1]}', "a.boxes.json": '{"boxes": []}',
        "a.scribble.png": encode_labels(LABEL), "a.score.npz": b"x", "a.conf.png": b"x",
        "a.inst.png": b"x", "a.inst.json": b"x", "b.image.png": photo("PNG")}))
    assert contents(source) == {"a": {"tags", "boxes", "scribble", "score", "conf", "instance"},
                                "b": {"image"}}


def test_dots_in_foreign_names_belong_to_the_key(folder):
    source = FolderSource(folder({"a.b.png": encode_labels(LABEL), "v1.2/x.y.z.jpg": photo(),
                                  "100%2E.png": encode_labels(LABEL)}))
    assert source.keys() == ["100%2E", "a.b", "v1.2/x.y.z"]
    np.testing.assert_array_equal(source.get("a.b").get("label"), LABEL)


def test_extensions_may_be_upper_case(folder):
    source = FolderSource(folder({"A.PNG": encode_labels(LABEL), "B.JPG": photo(),
                                  "C.Jpeg": photo()}))
    assert contents(source) == {"A": {"label"}, "B": {"image"}, "C": {"image"}}


def test_hidden_and_strange_files_are_passed_over(folder):
    source = FolderSource(folder({
        "a.png": encode_labels(LABEL), ".DS_Store": b"x", "._a.png": b"x", ".git/b.png": b"x",
        "Thumbs.db": b"x", "readme.txt": b"x", "noextension": b"x", "notes.md": b"x"}))
    assert source.keys() == ["a"]


def test_classes_txt_names_the_classes(folder):
    root = folder({"classes.txt": "background\ncat\n", "a.png": encode_labels(LABEL),
                   "a.tags.json": '{"classes": ["cat"]}'})
    source = FolderSource(root)
    assert source.header.classes == ("background", "cat")
    assert source.get("a").get("tags") == (1,)
    assert FolderSource(root, classes=("x", "y")).header.classes == ("x", "y")


@pytest.mark.parametrize("text", [b"a\n\nb\n", b"a\na\n", b"caf\xe9\n", b"\xff\xfea\0\n\0"])
def test_a_bad_classes_txt_is_a_fault_that_names_it(folder, text):
    root = folder({"classes.txt": text, "a.png": encode_labels(LABEL)})
    with pytest.raises(WssegError, match="classes.txt"):
        FolderSource(root)


def test_two_files_for_one_thing_are_refused_by_name(folder):
    root = folder({"a.jpg": photo(), "a.JPEG": photo()})
    with pytest.raises(UsageError, match="are both the image of a; remove one") as caught:
        FolderSource(root)
    assert "a.jpg" in str(caught.value) and "a.JPEG" in str(caught.value)


def test_two_photos_of_one_key_in_different_forms_are_refused(folder):
    source = FolderSource(folder({"a.jpg": photo(), "a.bmp": photo("BMP")}), as_kind="image")
    with pytest.raises(RecordError, match="two members for one image"):
        source.get("a").get("image")


def test_a_folder_without_anything_to_read_is_a_usage_error(folder):
    root = folder({"readme.txt": "x"})
    with pytest.raises(UsageError, match="no photos, masks or labels found"):
        FolderSource(root)
    with pytest.raises(UsageError, match="no photos found"):
        FolderSource(root, as_kind="image")


def test_a_name_that_cannot_be_a_key_is_unsafe(folder):
    with pytest.raises(UnsafeError, match="unsafe name"):
        FolderSource(folder({"a\\b.png": encode_labels(LABEL)}))


def test_a_foreign_record_is_written_canonically(folder, tmp_path):
    root = folder({"a.b.PNG": encode_labels(LABEL, palette=False), "a.b.jpg": photo()})
    write_place(tmp_path / "out", FolderSource(root), classes=None)
    assert tree(tmp_path / "out")["a%2Eb.png"] == encode_labels(LABEL)
    assert tree(tmp_path / "out")["a%2Eb.jpg"] == photo()


def test_a_keys_order_is_that_of_its_characters(folder):
    source = FolderSource(folder({f"{k}.png": b"x" for k in ("b", "a/z", "a", "B", "é", "a-1")}))
    assert source.keys() == sorted(source.keys()) == ["B", "a", "a-1", "a/z", "b", "é"]


# -- directories of ours ---------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path) -> Path:
    return Path(write_place(tmp_path / "ours", [make_record(i, "label", "boxes")
                                                for i in range(3)], kinds=["boxes", "label"]))


def test_a_directory_is_read_by_ascending_key(tmp_path):
    records = [Record(k, {"txt": b"x"}) for k in ("b", "a/c", "a", "Z")]
    assert keys_of(write_place(tmp_path / "d", records)) == ["Z", "a", "a/c", "b"]


def test_a_directory_tells_header_end_and_supervision(ours):
    source = FolderSource(ours)
    assert source.canonical and source.header.classes == CLASSES
    assert source.end.records == 3 and source.end.supervision == {"boxes": (3, 6, 6)}
    record = source.get("img001")
    assert record.supervision == {"boxes": (2, 2)}
    assert record.expected == record.stored().digest
    assert source.files("img001") == {"png": "img001.png", "boxes.json": "img001.boxes.json"}
    with pytest.raises(KeyError):
        source.get("none")


def test_a_key_may_hold_our_folders_name_further_down(tmp_path):
    """It is legal everywhere else, so a directory must not lose it."""
    record = Record("a/__wsseg__/b", {"txt": b"x"})
    assert keys_of(write_place(tmp_path / "x.tar", [record])) == ["a/__wsseg__/b"]
    assert keys_of(write_place(tmp_path / "x", [record])) == ["a/__wsseg__/b"]


def test_an_edited_file_is_no_longer_what_was_recorded(ours):
    (ours / "img001.png").write_bytes(encode_labels(make_label(2)))
    record = FolderSource(ours).get("img001")
    assert record.stored().digest != record.expected


def test_a_directory_without_its_end_is_incomplete_after_the_last_record(ours):
    (ours / END).unlink()
    keys = []
    with pytest.raises(IncompleteError, match="no __wsseg__/end.json yet.*--resume"):
        for record in FolderSource(ours):
            keys.append(record.key)
    assert keys == ["img000", "img001", "img002"]


def test_a_directory_that_lost_a_record_is_incomplete(ours):
    for path in ours.glob("img001.*"):
        path.unlink()
    with pytest.raises(IncompleteError, match="it holds 2 of 3 records"):
        list(FolderSource(ours))


def test_a_directory_of_a_later_format_is_refused(ours):
    text = (ours / HEADER).read_text()
    (ours / HEADER).write_text(text.replace('"wsseg": 1', '"wsseg": 3'))
    with pytest.raises(WssegError, match="ours: written by a later wsseg"):
        FolderSource(ours)


def test_names_in_our_directories_are_unescaped(tmp_path):
    write_place(tmp_path / "d", [Record("a.b/c%", encode("tags", (1,)))])
    assert "a%2Eb/c%25.tags.json" in tree(tmp_path / "d")
    assert FolderSource(tmp_path / "d").keys() == ["a.b/c%"]


def test_one_key_under_two_spellings_is_refused(ours):
    (ours / "a%2Eb.png").write_bytes(b"x")
    (ours / "a%2eb.png").write_bytes(b"x")
    with pytest.raises(UsageError, match="both the label of a.b"):
        FolderSource(ours)


def test_a_journal_is_believed_up_to_its_first_damaged_line(tmp_path):
    lines = [journal_line(k, c * 64, {"tags": (1, n)}) for n, (k, c) in
             enumerate(zip("abc", "012"))]
    path = tmp_path / "journal"
    path.write_bytes(b"".join(lines))
    assert read_journal(path) == {k: (c * 64, {"tags": (1, n)})
                                  for n, (k, c) in enumerate(zip("abc", "012"))}
    path.write_bytes(lines[0] + lines[1] + lines[2][:-1])
    assert list(read_journal(path)) == ["a", "b"]
    path.write_bytes(lines[0] + b"garbage\n" + lines[2])
    assert list(read_journal(path)) == ["a"]
    assert read_journal(tmp_path / "none") == {}


@pytest.mark.parametrize("as_kind, passed", [(None, ["b.TIF", "c.gif"]), ("image", ["c.gif"])])
def test_pictures_that_are_not_read_are_listed(tmp_path, as_kind, passed):
    for name in ("a.png", "b.TIF", "c.gif", "d.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert sorted(FolderSource(tmp_path, as_kind=as_kind).passed) == passed
