"""Outputs that lead elsewhere are refused or replaced, never written through."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.faults.helpers import contents, full_record, make_header, make_packs, stream_bytes, tool
from wsseg.errors import ExitStatus


def test_a_linked_output_directory_is_refused(tmp_path, canary):
    source = stream_bytes(make_packs(2), make_header())
    (tmp_path / "out").symlink_to(canary)
    for mode in ((), ("--overwrite",), ("--resume",)):
        done = tool("ws-cat", "-j1", "-o", tmp_path / "out", *mode, stdin=source)
        assert done.code == ExitStatus.UNSAFE and "symbolic link" in done.line


@pytest.mark.parametrize("name", ["out.tar", "out.tar.part", "out.tar.part.old", "out.h5",
                                  "out.h5.part", "out.h5.part.old"])
@pytest.mark.parametrize("target", ["precious", "missing"])
def test_a_linked_output_file_is_refused(name, target, tmp_path, canary):
    source = stream_bytes(make_packs(2), make_header())
    (tmp_path / name).symlink_to(canary / target)
    for mode in ((), ("--overwrite",), ("--resume",)):
        done = tool("ws-cat", "-j1", "-o", tmp_path / name.split(".part")[0], *mode, stdin=source)
        assert done.code == ExitStatus.UNSAFE and "symbolic link" in done.line


@pytest.mark.parametrize("name", ["out.tar.part", "out.h5.part", "out.tar", "out.h5"])
def test_a_hard_link_at_the_output_is_replaced_and_never_written_through(name, tmp_path, canary):
    source = stream_bytes(make_packs(2), make_header())
    os.link(canary / "precious", tmp_path / name)
    tool("ws-cat", "-j1", "-o", tmp_path / name.split(".part")[0], "--overwrite", stdin=source)
    assert (canary / "precious").read_bytes() == b"precious"


def keyed(key: str) -> bytes:
    record = full_record(0, extra=False)
    record.key = key
    packed = record.pack()
    return stream_bytes([(packed, packed.digest)], make_header())


@pytest.mark.parametrize("mode", [(), ("--overwrite",), ("--resume",)])
@pytest.mark.parametrize("what", ["sub", "__wsseg__", "sub/deep"])
def test_a_linked_folder_in_the_output_is_refused(what, mode, tmp_path, canary):
    out, source = tmp_path / "out", keyed("sub/deep/img000")
    if mode:
        assert tool("ws-cat", "-j1", "-o", out, stdin=keyed("other")).code == 0
    link = out / what
    link.parent.mkdir(parents=True, exist_ok=True)
    if what == "__wsseg__" and mode:
        shutil.rmtree(link)
    link.symlink_to(canary)
    done = tool("ws-cat", "-j1", "-o", out, *mode, stdin=source)
    if not mode and what != "__wsseg__":
        assert done.code == ExitStatus.USAGE  # not ours to write to
    else:
        assert done.code == ExitStatus.UNSAFE, done
    assert done.line


@pytest.mark.parametrize("what", ["img000.png", "__wsseg__/tmp", "__wsseg__/journal.tsv",
                                  "__wsseg__/records.tsv", "__wsseg__/end.json",
                                  "__wsseg__/header.json"])
@pytest.mark.parametrize("mode", ["--overwrite", "--resume"])
def test_a_planted_link_in_the_output_is_replaced_or_refused(what, mode, tmp_path, canary):
    """Never written through, and what it leads to is never removed."""
    out, source = tmp_path / "out", stream_bytes(make_packs(2), make_header())
    assert tool("ws-cat", "-j1", "-o", out, stdin=source).code == 0
    whole = contents(out)
    planted = out / what
    planted.unlink(missing_ok=True)
    planted.symlink_to(canary if what.endswith("tmp") else canary / "img000.png")
    done = tool("ws-cat", "-j1", "-o", out, mode, stdin=source)
    assert done.code in (0, 1, 2, 5), done
    if done.code:
        assert done.line
    else:
        assert contents(out) == whole
        assert not planted.is_symlink()


def test_a_pipe_planted_at_the_output_does_not_hang(tmp_path):
    source = stream_bytes(make_packs(2), make_header())
    for name in ("out.tar", "out.h5"):
        for end in ("", ".part", ".part.old"):
            for mode in ("--overwrite", "--resume"):
                os.mkfifo(tmp_path / f"{name}{end}")
                done = tool("ws-cat", "-j1", "-o", tmp_path / name, mode, stdin=source, seconds=5)
                assert done.code in (0, 1, 2, 5), done
                for path in tmp_path.glob("out*"):
                    path.unlink()


def test_the_part_of_the_output_cannot_be_an_input(tmp_path):
    """ws-cat out.tar.part -o out.tar --overwrite would empty what it reads."""
    source = stream_bytes(make_packs(2), make_header())
    for name in ("out.tar", "out.h5"):
        assert tool("ws-cat", "-j1", "-o", tmp_path / name, stdin=source).code == 0
        part = (tmp_path / name).rename(tmp_path / f"{name}.part")
        before = part.read_bytes()
        done = tool("ws-cat", part, "-j1", "-o", tmp_path / name, "--overwrite")
        assert done.code == ExitStatus.USAGE, done
        assert "also an input" in done.line
        assert part.read_bytes() == before
