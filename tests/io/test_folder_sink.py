"""Directories being written: resumed, overwritten, and never somebody else's."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.conftest import make_record, tree, write_place
from wsseg.errors import UnsafeError, UsageError, WssegError
from wsseg.io.folder import FolderSource
from wsseg.io.folder_sink import FolderSink
from wsseg.io.header import Header, Total, history_entry
from wsseg.io.kinds import END, RECORDS
from wsseg.io.png import encode_labels
from wsseg.io.record import Record

HEADER = Header(("label",), ("background", "cat", "dog"), history=(
    history_entry("ws-x", "1", [], {"a": 1}, {}),))


def records(count: int = 4) -> list[Record]:
    return [make_record(i, "label", "boxes") for i in range(count)]


def write(root, given, *, mode: str = "new", header: Header = HEADER, stop: int | None = None
          ) -> list[str]:
    """Write as the tools do; return the keys that were made anew. stop: abort after so many."""
    sink, total, made = FolderSink(root, header, mode), Total(), []
    for number, record in enumerate(given):
        if number == stop:
            sink.abort()
            return made
        packed = sink.take(record.key) if mode == "resume" else None
        taken = packed is not None
        if not taken:
            packed = record.pack()
            made.append(record.key)
        sink.write(packed, packed.digest, taken=taken)
        total.add(packed.key, packed.digest, packed.supervision)
    sink.finish(total.end(header))
    return made


@pytest.fixture
def expected(tmp_path) -> dict[str, bytes]:
    write(tmp_path / "whole", records())
    return tree(tmp_path / "whole")


def test_a_finished_directory_holds_nothing_but_its_names(expected):
    assert sorted(expected) == sorted(
        [f"__wsseg__/{n}" for n in ("end.json", "header.json", "records.tsv")]
        + [f"img{i:03d}.{s}" for i in range(4) for s in ("png", "boxes.json")])


def test_the_list_of_records_is_sorted_and_holds_digest_and_supervision(tmp_path, expected):
    write(tmp_path / "turned", records()[::-1])
    assert tree(tmp_path / "turned") == expected
    lines = expected[RECORDS].decode().splitlines()
    assert lines == [f"{r.key}\t{r.pack().digest}\t" + '{"boxes":[2,2]}' for r in records()]


def test_the_end_is_written_last(tmp_path):
    root = tmp_path / "d"
    write(root, records())
    newest = max((p for p in root.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    assert newest == root / END


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path, expected, stop):
    root = tmp_path / "d"
    write(root, records(), stop=stop)
    assert not (root / END).exists()
    made = write(root, records(), mode="resume")
    assert made == [f"img{i:03d}" for i in range(stop, 4)]
    assert tree(root) == expected


def test_a_finished_directory_is_resumed_without_work(tmp_path, expected):
    assert write(tmp_path / "whole", records(), mode="resume") == []
    assert tree(tmp_path / "whole") == expected


def test_a_resumed_run_adds_new_records(tmp_path, expected):
    write(tmp_path / "d", records(2))
    assert write(tmp_path / "d", records(), mode="resume") == ["img002", "img003"]
    assert tree(tmp_path / "d") == expected


def test_a_resumed_run_makes_again_what_was_changed_by_hand(tmp_path, expected):
    root = tmp_path / "whole"
    (root / "img001.png").write_bytes(encode_labels(make_record(3, "label").get("label")))
    (root / "img002.boxes.json").unlink()
    assert write(root, records(), mode="resume") == ["img001", "img002"]
    assert tree(root) == expected


def test_a_resumed_run_does_not_trust_files_without_a_journal_line(tmp_path, expected):
    root = tmp_path / "d"
    write(root, records(), stop=2)
    (root / "img002.png").write_bytes(b"half writt")
    assert write(root, records(), mode="resume") == ["img002", "img003"]
    assert tree(root) == expected


def test_a_torn_last_line_of_the_journal_is_forgotten(tmp_path, expected):
    root = tmp_path / "d"
    write(root, records(), stop=3)
    journal = root / "__wsseg__/journal.tsv"
    journal.write_bytes(journal.read_bytes()[:-7])
    assert write(root, records(), mode="resume") == ["img002", "img003"]
    assert tree(root) == expected


def test_records_that_the_resumed_run_does_not_have_are_removed(tmp_path):
    root = tmp_path / "d"
    write(root, records())
    write(root, records()[1:3], mode="resume")
    write(tmp_path / "two", records()[1:3])
    assert tree(root) == tree(tmp_path / "two")


def test_members_that_a_record_no_longer_has_are_removed(tmp_path):
    root = tmp_path / "d"
    write(root, records(), stop=2)
    (root / "img001.png").write_bytes(b"changed")
    (root / "img001.tags.json").write_bytes(b"stray")
    write(root, records(), mode="resume")
    assert not (root / "img001.tags.json").exists()


def test_overwriting_leaves_nothing_of_the_earlier_records(tmp_path, expected):
    write_place(tmp_path / "d", [Record("old/one", {"txt": b"x"}), make_record(1, "label")])
    write(tmp_path / "d", records(), mode="overwrite")
    found = tree(tmp_path / "d")
    assert found == expected


def test_another_recipe_is_not_resumed(tmp_path):
    write(tmp_path / "d", records(), stop=2)
    before = tree(tmp_path / "d")
    other = replace(HEADER, history=(history_entry("ws-x", "1", [], {"a": 2}, {}),))
    for header in (other, replace(HEADER, classes=("background",))):
        with pytest.raises(UsageError, match="made in another way"):
            write(tmp_path / "d", records(), mode="resume", header=header)
    assert tree(tmp_path / "d") == before


def test_an_existing_directory_needs_a_word(tmp_path, expected):
    with pytest.raises(UsageError, match="exists: add --overwrite or --resume"):
        write(tmp_path / "whole", records())
    assert tree(tmp_path / "whole") == expected


@pytest.mark.parametrize("mode", ["new", "overwrite", "resume"])
def test_a_foreign_folder_is_never_written_to(tmp_path, mode):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match="was not written by wsseg: choose another output"):
        write(tmp_path / "photos", records(), mode=mode)
    assert tree(tmp_path / "photos") == {"a.jpg": b"precious"}


@pytest.mark.parametrize("mode", ["new", "overwrite", "resume"])
def test_a_file_is_not_taken_for_a_directory(tmp_path, mode):
    (tmp_path / "f").write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists and is not a directory"):
        write(tmp_path / "f", records(), mode=mode)


def test_an_empty_folder_may_be_used(tmp_path, expected):
    (tmp_path / "d").mkdir()
    write(tmp_path / "d", records())
    assert tree(tmp_path / "d") == expected


def test_folders_above_are_made(tmp_path, expected):
    write(tmp_path / "a/b/c", records())
    assert tree(tmp_path / "a/b/c") == expected


def test_a_directory_has_one_writer(tmp_path):
    sink = FolderSink(tmp_path / "d", HEADER)
    with pytest.raises(WssegError, match="being written by another process"):
        FolderSink(tmp_path / "d", HEADER, "resume")
    sink.abort()
    write(tmp_path / "d", records(), mode="resume")


def test_a_symbolic_link_inside_is_not_followed(tmp_path):
    (tmp_path / "victim").mkdir()
    write_place(tmp_path / "d", [Record("a", {"txt": b"x"})])
    (tmp_path / "d/sub").symlink_to(tmp_path / "victim")
    with pytest.raises(UnsafeError, match="symbolic link"):
        write(tmp_path / "d", [Record("sub/b", {"txt": b"y"})], mode="overwrite")
    assert list((tmp_path / "victim").iterdir()) == []


def test_a_link_in_place_of_a_file_is_replaced_not_followed(tmp_path):
    (tmp_path / "victim.png").write_bytes(b"precious")
    write(tmp_path / "d", records(), stop=1)
    os.symlink(tmp_path / "victim.png", tmp_path / "d/img001.png")
    write(tmp_path / "d", records(), mode="resume")
    assert (tmp_path / "victim.png").read_bytes() == b"precious"
    assert not (tmp_path / "d/img001.png").is_symlink()


def test_files_obey_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write(tmp_path / "d", records(1))
    finally:
        os.umask(old)
    assert (tmp_path / "d/img000.png").stat().st_mode & 0o777 == 0o640


def test_the_records_of_a_finished_directory_are_those_given(expected, tmp_path):
    source = FolderSource(tmp_path / "whole")
    assert [r.stored().digest for r in source] == [r.pack().digest for r in records()]
