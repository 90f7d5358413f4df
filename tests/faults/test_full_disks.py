"""A disk that fills up, or a write that fails: one line, status 1, nothing lost, and --resume."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.helpers import (FORMS, Child, Done, Faults, assert_no_temps, assert_sound,
                                  contents, count_calls, make_header, make_packs, real,
                                  stream_bytes, times, tool, write)
from wsseg.errors import ExitStatus, WssegError
from wsseg.io.disk import recover
from wsseg.io.places import open_source

HEADER = make_header("boxes")


@pytest.fixture(scope="module")
def packs():
    return make_packs(24, "boxes")


@pytest.fixture(scope="module")
def source(packs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.tar"
    path.write_bytes(stream_bytes(packs, HEADER))
    return path


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Form -> what an uninterrupted run leaves."""
    folder = tmp_path_factory.mktemp("whole")
    for form in FORMS:
        assert tool("ws-cat", source, "-j1", "-o", folder / form).code == 0
    return {form: contents(folder / form) for form in FORMS}


def taken(place: Path) -> list[str]:
    """Keys that a resumed run can take over."""
    part = place.with_name(place.name + ".part") if place.suffix else place
    if place.suffix:
        recover(part)
    keys: list[str] = []
    try:
        for record in open_source(str(part)):
            record.pack()
            keys.append(record.key)
    except WssegError:
        pass
    return keys


def check_refused(done: Done, place: Path, what: str) -> None:
    assert done.code == ExitStatus.FAILED, done
    assert what in done.line
    assert str(place.parent) in done.line
    assert_no_temps(place)


def check_resumed(source: Path, place: Path, whole: dict[str, bytes]) -> None:
    done = tool("ws-cat", source, "-j1", "-o", place, "--resume")
    assert (done.code, done.err) == (0, "")
    assert contents(place) == whole


@pytest.mark.parametrize("form", FORMS)
def test_a_file_size_limit_is_reported_and_can_be_resumed(form, source, whole, tmp_path):
    size = max(map(len, whole[form].values()))
    tops = {"out": (100, 300, 1000, size - 1), "out.tar": (100, 5000, 20480, size - 700),
            "out.h5": (10, 2000, 20000, size // 2, size - 30)}[form]
    for top in tops:
        place = tmp_path / str(top) / form
        place.parent.mkdir()
        done = tool("ws-cat", source, "-j1", "-o", place, limits={resource.RLIMIT_FSIZE: top})
        check_refused(done, place, "File too large")
        assert_sound(place, whole[form])
        check_resumed(source, place, whole[form])


@pytest.fixture
def small_disk(tmp_path) -> Path:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() or shutil.which("mount") is None or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder],
            capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path, whole: dict[str, bytes]) -> None:
    """Leave room for about half of a place."""
    pages = sum(-(-len(data) // 4096) for data in whole.values()) // 2
    (disk / "ballast").write_bytes(bytes((62 - pages) * 4096))


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_is_reported_and_can_be_resumed(form, source, whole, small_disk):
    place = small_disk / form
    fill(small_disk, whole[form])
    done = tool("ws-cat", source, "-j1", "-o", place)
    check_refused(done, place, "No space left")
    assert_sound(place, whole[form])
    assert len(taken(place)) >= 5, "what was written before the disk was full is lost"
    done = tool("ws-cat", source, "-j1", "-o", place, "--resume")
    check_refused(done, place, "No space left")
    assert_sound(place, whole[form])
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    check_resumed(source, place, whole[form])


@pytest.mark.parametrize("form", FORMS)
def test_the_real_command_survives_a_full_disk(form, source, whole, small_disk):
    """Interpreter's end and all: the HDF5 library likes to crash there."""
    place = small_disk / form
    fill(small_disk, whole[form])
    done = subprocess.run(real("ws-cat", source, "-j2", "-o", place), capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    check_refused(Done(done.returncode, done.stdout, done.stderr.decode()), place,
                  "No space left")
    assert_sound(place, whole[form])


CALLS = ("open", "write", "replace", "mkdir", "fsync", "ftruncate", "unlink")


@pytest.mark.parametrize("how", ["once", "ever", "short"])
@pytest.mark.parametrize("form", FORMS)
def test_any_call_that_fails_is_reported_and_can_be_resumed(form, how, packs, tmp_path):
    """The n-th write, rename, fsync ... fails once, or from then on, for every n."""
    calls = ("write",) if how == "short" else CALLS
    few = packs[:3]
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / form, few, HEADER)
    whole = contents(tmp_path / "whole" / form)
    count = count_calls(lambda: write(tmp_path / "whole" / f"2{form}", few, HEADER), calls)
    step = max(1, count // times(16 if form == "out.h5" else 60))
    for n in range(1, count + 1, step):
        place = tmp_path / str(n) / form
        place.parent.mkdir()

        def fail() -> None:
            Faults(calls, n, how)
            write(place, few, HEADER)

        done = Child(fail).wait()
        if done.code == 0:  # the call was of no consequence
            found = contents(place)
            found.pop("out/__wsseg__/tmp/", None)
            assert found == whole, n
            continue
        assert done.code == ExitStatus.FAILED, (n, done.code, done.err)
        assert "No space left" in done.line and str(place.parent) in done.line
        assert_sound(place, whole)
        if how == "once":
            assert_no_temps(place)
        done = Child(lambda: write(place, few, HEADER, "resume")).wait()
        assert (done.code, done.err) == (0, ""), n
        assert contents(place) == whole, n


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_write_that_fails_loses_no_finished_record(form, packs, tmp_path):
    """Five records are written, then the disk is full: all five can be taken over."""
    few = packs[:6]
    count = count_calls(lambda: write(tmp_path / form, few[:5], HEADER), ("write",))
    for n in range(count // 2, count, max(1, count // times(16))):
        place = tmp_path / str(n) / form
        place.parent.mkdir()
        read, told = os.pipe()

        def fail() -> None:
            Faults(("write",), n, "ever")
            write(place, few, HEADER, wrote=lambda n: os.writev(told, [b"."]) and None)

        assert Child(fail).wait().code == ExitStatus.FAILED
        os.close(told)
        assert len(taken(place)) >= len(os.read(read, 100)), n
        os.close(read)


def test_an_interrupt_right_after_a_rename_is_still_an_interrupt(tmp_path):
    """The signal may arrive when the temporary is gone already."""
    from wsseg.io.atomic import atomic_write

    def interrupted() -> int:
        call = os.replace

        def replace(*names) -> None:
            call(*names)
            raise KeyboardInterrupt

        os.replace = replace
        try:
            atomic_write(tmp_path / "file", b"data")
        except KeyboardInterrupt:
            return 130
        return 0

    assert Child(interrupted).wait().code == 130


@pytest.mark.parametrize("code", ["EIO", "EDQUOT", "EROFS"])
def test_other_errors_of_the_disk_are_named(code, packs, tmp_path):
    number = getattr(errno, code)
    for form in FORMS:
        def fail() -> None:
            Faults(("write",), 3, "ever", number)
            write(tmp_path / code / form, packs[:3], HEADER)

        done = Child(fail).wait()
        assert done.code == ExitStatus.FAILED
        assert os.strerror(number) in done.line


STRACE = ["strace", "-f", "-qqq", "-o", "/dev/null"]


@pytest.fixture(scope="module")
def strace() -> list[str]:
    """strace, where it is and may trace."""
    if shutil.which("strace") is None or subprocess.run(
            [*STRACE, "true"], capture_output=True).returncode:
        pytest.skip("strace is not here or may not trace")
    return STRACE


@pytest.mark.parametrize("form,call,error,when", [
    ("out", "rename", "ENOSPC", 2), ("out", "rename", "EIO", 9), ("out", "fsync", "EIO", 1),
    ("out", "write", "ENOSPC", 5), ("out.tar", "write", "ENOSPC", 4),
    ("out.tar", "fsync", "EIO", 1), ("out.tar", "rename", "EIO", 1),
    ("out.h5", "write", "ENOSPC", 30), ("out.h5", "fsync", "EIO", 1),
    ("out.h5", "rename", "ENOSPC", 1), ("out.h5", "write", "EIO", 1)])
def test_the_real_command_survives_a_system_call_that_fails(form, call, error, when, strace,
                                                            source, whole, tmp_path):
    place = tmp_path / form
    line = [*strace, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}",
            *real("ws-cat", source, "-j1", "-o", place)]
    done = subprocess.run(line, capture_output=True, timeout=60, env={
        **os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})
    check_refused(Done(done.returncode, done.stdout, done.stderr.decode()), place,
                  os.strerror(getattr(errno, error)))
    assert_sound(place, whole[form])
    check_resumed(source, place, whole[form])
