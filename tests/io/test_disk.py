"""Whatever moment a commit is stopped at, recovery leaves the state before it or after it."""

from __future__ import annotations

import os
import random

import pytest

from wsseg.io import disk
from wsseg.io.disk import Disk, recover


def random_writes(disk_file: Disk, truth: bytearray, rng: random.Random) -> None:
    """Write here and there, also in a copy in memory."""
    for _ in range(rng.randrange(1, 8)):
        at = rng.randrange(len(truth) + 40)
        data = rng.randbytes(rng.randrange(1, 60))
        truth.extend(bytes(max(0, at + len(data) - len(truth))))
        truth[at:at + len(data)] = data
        disk_file.seek(at)
        assert disk_file.write(data) == len(data)


def test_what_is_read_is_what_was_written_committed_or_not(tmp_path):
    handle = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    file, truth, rng = Disk(handle), bytearray(), random.Random(1)
    for _ in range(200):
        random_writes(file, truth, rng)
        at = rng.randrange(len(truth))
        buffer = bytearray(rng.randrange(1, 90))
        file.seek(at)
        file.readinto(buffer)
        expected = truth[at:at + len(buffer)]
        assert buffer[:len(expected)] == expected
        if rng.random() < 0.3:
            file.commit()
            assert (tmp_path / "f").read_bytes() == truth
    os.close(handle)


@pytest.mark.parametrize("seed", range(20))
def test_a_commit_stopped_at_any_write_counts_wholly_or_not_at_all(tmp_path, monkeypatch, seed):
    class Stopped(BaseException):
        pass

    def run(stop_at: int) -> tuple[bytes, bytes, bool]:
        """Return the states before and after the commit, and whether it was stopped."""
        path = tmp_path / str(stop_at)
        handle = os.open(path, os.O_RDWR | os.O_CREAT)
        file, truth, rng = Disk(handle), bytearray(), random.Random(seed)
        random_writes(file, truth, rng)
        file.commit()
        before, calls = bytes(truth), 0
        random_writes(file, truth, rng)

        def count(call):
            def wrapped(*args):
                nonlocal calls
                calls += 1
                if calls == stop_at:
                    if call is os_write:
                        call(args[0], memoryview(args[1])[:len(args[1]) // 2])
                    raise Stopped
                return call(*args)
            return wrapped

        os_write = os.write
        with monkeypatch.context() as patch:
            patch.setattr(disk.os, "write", count(os.write))
            patch.setattr(disk.os, "ftruncate", count(os.ftruncate))
            try:
                file.commit()
                stopped = False
            except Stopped:
                stopped = True
        os.close(handle)
        return before, bytes(truth), stopped

    for stop_at in range(1, 60):
        before, after, stopped = run(stop_at)
        path = tmp_path / str(stop_at)
        recover(path)
        found = path.read_bytes()
        assert found[:len(after)] == after or found[:len(before)] == before
        once = path.read_bytes()
        recover(path)
        assert path.read_bytes() == once
        if not stopped:
            assert found == after
            return
    raise AssertionError("the commit never ends")


def test_a_write_that_fails_is_told_by_the_commit_and_changes_nothing_committed(tmp_path):
    handle = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    file = Disk(handle)
    file.write(b"one")
    file.commit()
    file.handle = os.open(tmp_path / "f", os.O_RDONLY)
    file.seek(0)
    file.write(b"two and more")
    with pytest.raises(OSError):
        file.commit()
    with pytest.raises(OSError):
        file.commit()
    assert (tmp_path / "f").read_bytes() == b"one"


def test_what_only_looks_like_a_log_is_left_alone(tmp_path):
    for data in (b"", b"short", bytes(20), b"x" * 40 + disk._TRAILER.pack(30, 1, b"wsseglog"),
                 disk._TRAILER.pack(1 << 40, 0, b"wsseglog")):
        (tmp_path / "f").write_bytes(data)
        recover(tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == data
