"""Places by name: what is written is seen from the name, what is read from the content."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from tests.conftest import keys_of, make_record, tree, write_place
from wsseg.errors import UnsafeError, UsageError, WssegError
from wsseg.io.folder import FolderSource
from wsseg.io.hdf5 import Hdf5Source
from wsseg.io.header import Header, Total, history_entry
from wsseg.io.places import FileSink, is_file_form, open_sink, open_source, refuse_input
from wsseg.io.record import Record
from wsseg.io.stream import StreamSource

HEADER = Header(("label",), history=(history_entry("ws-x", "1", [], {}, {}),))


def records(count: int = 4) -> list[Record]:
    return [make_record(i, "label", "boxes") for i in range(count)]


def write(place, given, mode: str = "new", header: Header = HEADER, stop: int | None = None
          ) -> list[str]:
    """Write as the tools do; return the keys that were made anew. stop: abort after so many."""
    sink, total, made = open_sink(str(place), header, mode=mode), Total(), []
    for number, record in enumerate(given):
        if number == stop:
            sink.abort()
            return made
        packed = sink.take(record.key) if mode == "resume" else None
        if packed is None:
            packed = record.pack()
            made.append(record.key)
        sink.write(packed, packed.digest, taken=False)
        total.add(packed.key, packed.digest, packed.supervision)
    sink.finish(total.end(header))
    return made


@pytest.mark.parametrize("name, file", [
    ("a.h5", True), ("a.HDF5", True), ("a.tar", True), ("a.Tar", True), ("a", False),
    ("a.h5/", False), ("a.tar.gz", False), ("tar", False), ("h5", False), ("a.png", False)])
def test_the_suffix_of_an_output_chooses_its_form(name, file):
    assert is_file_form(name) == file


@pytest.mark.parametrize("name, source", [
    ("d", FolderSource), ("d.xyz", FolderSource), ("x.h5", Hdf5Source), ("x.hdf5", Hdf5Source),
    ("x.tar", StreamSource), ("x.TAR", StreamSource)])
def test_every_form_is_read_again(tmp_path, name, source):
    place = write_place(tmp_path / name, records())
    assert type(open_source(place)) is source
    assert keys_of(place) == [f"img{i:03d}" for i in range(4)]


@pytest.mark.parametrize("name, source", [("x.h5", Hdf5Source), ("x.tar", StreamSource)])
@pytest.mark.parametrize("other", ["y", "y.tar", "y.h5", "y.dat"])
def test_an_input_is_known_by_its_content_not_by_its_name(tmp_path, name, source, other):
    place = Path(write_place(tmp_path / name, records()))
    place = place.rename(tmp_path / f"renamed-{other}")
    assert type(open_source(str(place))) is source
    assert len(keys_of(place)) == 4


@pytest.mark.parametrize("name", ["x.tar.gz", "x.zip", "x.NPZ"])
def test_a_name_that_promises_another_form_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"NAME.h5 or NAME.tar"):
        open_sink(str(tmp_path / name), HEADER)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_may_be_called_like_a_file(tmp_path):
    place = Path(write_place(tmp_path / "d", records())).rename(tmp_path / "d.h5")
    assert type(open_source(str(place))) is FolderSource


def test_a_dash_is_the_descriptor_given(tmp_path):
    data = Path(write_place(tmp_path / "x.tar", records())).read_bytes()
    out, into = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(into, data), os.close(into)))
    writer.start()
    source = open_source("-", stdin=out)
    assert source.where == "standard input" and len(list(source)) == 4
    writer.join()
    os.close(out)


def test_a_stream_is_the_bytes_of_a_tar_file(tmp_path):
    out, into = os.pipe()
    got = []
    reader = threading.Thread(target=lambda: got.append(os.fdopen(out, "rb").read()))
    reader.start()
    sink, total = open_sink("-", HEADER, stdout=into), Total()
    for record in records():
        packed = record.pack()
        sink.write(packed, packed.digest)
        total.add(packed.key, packed.digest, packed.supervision)
    sink.finish(total.end(HEADER))
    os.close(into)
    reader.join()
    write(tmp_path / "x.tar", records())
    assert got[0] == (tmp_path / "x.tar").read_bytes()


def test_a_place_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="none: no such file or directory$"):
        open_source(str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["x.h5", "x.tar"])
def test_a_file_is_called_part_until_it_is_complete(tmp_path, name):
    write(tmp_path / name, records(), stop=2)
    assert [p.name for p in tmp_path.iterdir()] == [f"{name}.part"]
    with pytest.raises(UsageError, match=f"but .*{name}.part: finish it with --resume"):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize("name", ["x.h5", "x.tar"])
def test_of_two_writers_that_begin_at_once_one_is_refused(tmp_path, name):
    first = FileSink(str(tmp_path / name), HEADER, "overwrite")
    (tmp_path / f"{name}.part").unlink()  # by a second, which looked before the first was there
    (tmp_path / f"{name}.part").write_bytes(b"the second's")
    with pytest.raises(WssegError, match="is being written by another process"):
        first.finish(Total().end(HEADER))
    assert (tmp_path / f"{name}.part").read_bytes() == b"the second's"
    assert not (tmp_path / name).exists()


def test_who_finds_a_part_that_another_has_replaced_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "x.tar.part").write_bytes(b"an interrupted run's")
    lock = fcntl.flock

    def late(handle, how):
        monkeypatch.setattr(fcntl, "flock", lock)
        FileSink(str(tmp_path / "x.tar"), HEADER, "overwrite").abort()  # the faster one
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(WssegError, match="is being written by another process"):
        FileSink(str(tmp_path / "x.tar"), HEADER, "overwrite")


@pytest.mark.parametrize("name", ["x.h5", "x.tar"])
def test_a_file_has_one_writer(tmp_path, name):
    sink = FileSink(str(tmp_path / name), HEADER)
    for mode in ("resume", "overwrite"):
        with pytest.raises(WssegError, match="is being written by another process"):
            FileSink(str(tmp_path / name), HEADER, mode)
    sink.abort()


@pytest.mark.parametrize("name", ["x.h5", "x.tar"])
@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_resumed_file_ends_as_an_uninterrupted_one(tmp_path, name, stop):
    write(tmp_path / f"whole-{name}", records())
    write(tmp_path / name, records(), stop=stop)
    made = write(tmp_path / name, records(), "resume")
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"whole-{name}"])
    if name == "x.tar":
        assert made == [f"img{i:03d}" for i in range(stop, 4)]


@pytest.mark.parametrize("name", ["x.h5", "x.tar"])
def test_a_finished_file_is_resumed_without_work(tmp_path, name):
    write(tmp_path / name, records())
    before = tree(tmp_path)
    assert write(tmp_path / name, records(), "resume") == []
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["x.h5", "x.tar"])
def test_an_existing_file_needs_a_word(tmp_path, name):
    for stop in (None, 2):  # finished, or a part
        write(tmp_path / name, records(), "overwrite", stop=stop)
        before = tree(tmp_path)
        with pytest.raises(UsageError, match="exists: add --overwrite or --resume"):
            write(tmp_path / name, records())
        assert tree(tmp_path) == before
    write(tmp_path / name, records(2), "overwrite")
    assert keys_of(tmp_path / name) == ["img000", "img001"]
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["x.h5", "x.tar"])
def test_another_recipe_is_not_resumed(tmp_path, name):
    write(tmp_path / name, records())
    with pytest.raises(UsageError, match="made in another way"):
        write(tmp_path / name, records(), "resume", Header(("label",)))
    assert len(keys_of(tmp_path / name)) == 4


@pytest.mark.parametrize("name", ["x.h5", "x.tar"])
def test_a_failed_overwrite_leaves_the_old_file(tmp_path, name):
    write(tmp_path / name, records())
    before = (tmp_path / name).read_bytes()
    write(tmp_path / name, records(), "overwrite", stop=1)
    assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("output, plain, refused", (
    ("in", False, True), ("in/masks", False, True), ("in/a/b", True, True),
    ("in/x.h5", False, True),
    ("in/x.h5", True, False), ("inside", False, False), (".", False, False), ("-", False, False)))
def test_an_output_is_no_input_nor_part_of_one(tmp_path, monkeypatch, output, plain, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir() if plain else write_place(tmp_path / "in", records())
    if refused:
        with pytest.raises(UsageError, match="write to another place"):
            refuse_input(output, ["in"], ["in"])
    else:
        refuse_input(output, ["in"], ["in"])


def test_standard_output_is_refused_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuse_input("-", ["."], ["."])


def test_standard_output_cannot_be_resumed():
    with pytest.raises(UsageError, match="--resume needs an output that lasts"):
        open_sink("-", HEADER, mode="resume")


@pytest.mark.parametrize("name", ["x.h5", "x.tar", "d"])
def test_an_output_that_is_a_link_is_refused(tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeError, match="symbolic link"):
        write(tmp_path / name, records())
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", ["x.h5", "x.tar", "d"])
def test_a_place_below_a_file_cannot_be_written(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WssegError, match="cannot write"):
        write(tmp_path / "file" / name, records())


def test_a_place_without_records_is_a_place(tmp_path):
    for name in ("d", "x.tar", "x.h5"):
        assert keys_of(write_place(tmp_path / name, [])) == []
