"""A writer that is killed leaves nothing bad, and a resumed run ends as an uninterrupted one."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.helpers import (FORMS, Child, Faults, assert_sound, contents, count_calls,
                                  make_header, make_packs, real, start_tool, stream_bytes, times,
                                  tool, write)
from wsseg.errors import WssegError
from wsseg.io.disk import recover
from wsseg.io.places import open_source

KINDS = ("boxes",)
HEADER = make_header(*KINDS)
CALLS = ("open", "write", "replace", "unlink", "mkdir", "fsync", "ftruncate", "close", "rmdir")


@pytest.fixture(scope="module")
def packs():
    return make_packs(40, *KINDS)


@pytest.fixture(scope="module")
def source(packs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.tar"
    path.write_bytes(stream_bytes(packs, HEADER))
    return path


def uninterrupted(folder: Path, form: str, packs) -> tuple[dict[str, bytes], float]:
    """What a whole run leaves, and how long it takes in a forked child."""
    folder.mkdir()
    start = time.monotonic()
    done = Child(lambda: write(folder / form, packs, HEADER)).wait()
    assert done.code == 0, done.err
    return contents(folder / form), time.monotonic() - start


def salvaged(place: Path) -> int:
    """How many records a resumed run can take over from a file that was cut."""
    path = place.with_name(place.name + ".part.old")
    path = path if path.exists() else place.with_name(place.name + ".part")
    recover(path)
    count = 0
    try:
        for record in open_source(str(path)):
            record.pack()
            count += 1
    except WssegError:
        pass
    return count


def killed(place: Path, packs, mode: str, rng: random.Random, seconds: float) -> tuple[bool, int]:
    """Kill a writer a moment after some record; say whether it came in time, and how many
    records it had told of."""
    read, wrote = os.pipe()
    child = Child(lambda: write(place, packs, HEADER, mode,
                                lambda n: os.write(wrote, b".") and None))
    os.close(wrote)
    told, due = 0, rng.randrange(len(packs))
    while told < due and (more := len(os.read(read, due - told))):
        told += more
    time.sleep(rng.uniform(0, 2 * seconds / len(packs)))
    child.kill()
    cut = child.wait().code == -9
    told += len(os.read(read, 1000))
    os.close(read)
    return cut, told


@pytest.mark.parametrize("form", FORMS)
def test_a_writer_killed_at_any_moment_leaves_nothing_bad_and_can_be_resumed(form, packs,
                                                                              tmp_path):
    whole, seconds = uninterrupted(tmp_path / "whole", form, packs)
    rng, cut, again = random.Random(form), 0, 0
    for n in range(times(100)):
        place = tmp_path / str(n) / form
        place.parent.mkdir()
        cut += killed(place, packs, "new", rng, seconds)[0]
        assert_sound(place, whole)
        if n % 3 == 0:
            again += killed(place, packs, "resume", rng, seconds)[0]
            assert_sound(place, whole)
        done = Child(lambda: write(place, packs, HEADER, "resume")).wait()
        assert done.code == 0, done.err
        assert contents(place) == whole
        shutil.rmtree(place.parent)
    assert cut > times(100) // 2 and again > 0  # most kills came in time


@pytest.mark.parametrize("form", FORMS)
def test_ws_cat_killed_at_any_moment_can_be_resumed(form, packs, source, tmp_path):
    """The same through the command itself, reader and all."""
    whole, seconds = tmp_path / "whole" / form, time.monotonic()
    assert tool("ws-cat", source, "-j1", "-o", whole).code == 0
    seconds, rng, cut = time.monotonic() - seconds, random.Random(form), 0
    for n in range(times(12)):
        place = tmp_path / str(n) / form
        place.parent.mkdir()
        child = start_tool("ws-cat", source, "-j1", "-o", place)
        time.sleep(rng.uniform(0.2, 1) * seconds)
        child.kill()
        cut += child.wait().code == -9
        assert_sound(place, contents(whole))
        done = tool("ws-cat", source, "-j1", "-o", place, "--resume")
        assert (done.code, done.err) == (0, "")
        assert contents(place) == contents(whole)
    assert cut  # how many, the load of the machine decides


@pytest.mark.parametrize("form", FORMS)
def test_a_writer_killed_in_any_system_call_leaves_nothing_bad_and_can_be_resumed(form, packs,
                                                                                   tmp_path):
    """Every call that changes the disk, one after the other: no window is left untried."""
    few = packs[:3]
    whole, _ = uninterrupted(tmp_path / "whole", form, few)
    count = count_calls(lambda: write(tmp_path / "whole" / f"2{form}", few, HEADER), CALLS)
    assert count > 8
    for n in range(1, count + 1):
        place = tmp_path / str(n) / form
        place.parent.mkdir()

        def cut() -> None:
            Faults(CALLS, n, "kill")
            write(place, few, HEADER)

        assert Child(cut).wait().code == -9
        assert_sound(place, whole)
        done = Child(lambda: write(place, few, HEADER, "resume")).wait()
        assert done.code == 0, (n, done.err)
        assert contents(place) == whole, n


@pytest.mark.parametrize("form", FORMS)
def test_a_resumed_run_killed_in_any_system_call_can_be_resumed_again(form, packs, tmp_path):
    few = packs[:3]
    whole, _ = uninterrupted(tmp_path / "whole", form, few)
    first = tmp_path / "first" / form
    first.parent.mkdir()

    def stop(n: int) -> None:
        if n == 2:
            os.kill(os.getpid(), 9)

    assert Child(lambda: write(first, few, HEADER, wrote=stop)).wait().code == -9

    def copy(name: str) -> Path:
        shutil.copytree(first.parent, tmp_path / name)
        return tmp_path / name / form

    place = copy("count")
    count = count_calls(lambda: write(place, few, HEADER, "resume"), CALLS)
    for n in range(1, count + 1):
        place = copy(str(n))

        def cut() -> None:
            Faults(CALLS, n, "kill")
            write(place, few, HEADER, "resume")

        assert Child(cut).wait().code == -9
        assert_sound(place, whole)
        done = Child(lambda: write(place, few, HEADER, "resume")).wait()
        assert done.code == 0, (n, done.err)
        assert contents(place) == whole, n


@pytest.mark.parametrize("form", FORMS)
def test_an_overwriting_run_killed_in_any_system_call_never_says_complete_too_early(form, packs,
                                                                                     tmp_path):
    """The old result or none or the new one, but never a mixture that looks complete."""
    few, more = packs[:2], packs[2:4]
    old, _ = uninterrupted(tmp_path / "old", form, few)
    new, _ = uninterrupted(tmp_path / "new", form, more)
    place = tmp_path / "count" / form
    shutil.copytree(tmp_path / "old", place.parent)
    count = count_calls(lambda: write(place, more, HEADER, "overwrite"), CALLS)
    for n in range(1, count + 1):
        place = tmp_path / str(n) / form
        shutil.copytree(tmp_path / "old", place.parent)

        def cut() -> None:
            Faults(CALLS, n, "kill")
            write(place, more, HEADER, "overwrite")

        assert Child(cut).wait().code == -9
        found = contents(place)
        if place.suffix:
            assert found[form] in (old[form], new[form])
        elif "out/__wsseg__/end.json" in found:
            assert {k: v for k, v in found.items() if k != "out/__wsseg__/tmp/"} in (old, new)
        done = Child(lambda: write(place, more, HEADER, "overwrite")).wait()
        assert done.code == 0, (n, done.err)
        assert contents(place) == new, n


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_file_killed_while_it_is_written_loses_at_most_the_record_in_flight(form, packs,
                                                                               tmp_path):
    place, ours, rng = tmp_path / form, [], random.Random(form)
    _, seconds = uninterrupted(tmp_path / "whole", form, packs)
    for _ in range(times(25)):
        _, told = killed(place, packs, "overwrite", rng, seconds)
        if place.with_name(f"{form}.part").exists():
            ours.append((told, salvaged(place)))
    assert len(ours) > 3
    assert [pair for pair in ours if pair[1] < pair[0]] == []


@pytest.mark.parametrize("form", FORMS[1:])
def test_what_an_overwritten_run_left_is_never_taken_over(form, packs, tmp_path):
    """Killed, resumed, killed: .part and .part.old. Then the input changes and --overwrite is
    killed as well: a resumed run must not take the records of the former input."""
    old, new = packs[:6], [(p.__class__(o.key, p.members, p.supervision), None)
                           for (o, _), (p, _) in zip(packs[:6], packs[6:12])]
    new = [(p, p.digest) for p, _ in new]
    place = tmp_path / form

    def stop(n: int) -> None:
        if n == 4:
            os.kill(os.getpid(), 9)

    for what, mode in ((old, "new"), (old, "resume"), (new, "overwrite")):
        assert Child(lambda: write(place, what, HEADER, mode, stop)).wait().code == -9
    done = Child(lambda: write(place, new, HEADER, "resume")).wait()
    assert done.code == 0, done.err
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / form, new, HEADER)
    assert contents(place) == contents(tmp_path / "whole" / form)


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_record_of_an_earlier_run_is_made_again(form, packs, source, tmp_path):
    """--resume trusts digests: a bit that flipped in what lies there is not taken over."""
    whole = tmp_path / "whole" / form
    assert tool("ws-cat", source, "-j1", "-o", whole).code == 0
    place = tmp_path / form

    def stop(n: int) -> None:
        if n == 20:
            os.kill(os.getpid(), 9)

    assert Child(lambda: write(place, packs, HEADER, wrote=stop)).wait().code == -9
    victim = place / "img002.png" if form == "out" else place.with_name(f"{form}.part")
    data = bytearray(victim.read_bytes())
    at = data.index(b"IDAT") + 20 if form != "out.h5" else data.index(b"x\x01", 3000) + 30
    data[at] ^= 4
    victim.write_bytes(data)
    done = tool("ws-cat", source, "-j1", "-o", place, "--resume")
    assert (done.code, done.err) == (0, "")
    assert contents(place) == contents(whole)


@pytest.mark.parametrize("form", FORMS)
def test_ws_cat_with_workers_killed_leaves_no_orphans_and_can_be_resumed(form, packs, source,
                                                                         tmp_path):
    """kill -9 of the real command in the middle: its input is fed through a pipe."""
    whole, place = tmp_path / "whole" / form, tmp_path / form
    assert tool("ws-cat", source, "-j1", "-o", whole).code == 0
    data = source.read_bytes()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(real("ws-cat", "-j2", "-o", place), stdin=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, env=env, bufsize=0)
    process.stdin.write(data[:len(data) // 2])
    workers = wait_for(lambda: children(process.pid) if len(children(process.pid)) > 1 else None)
    victim = place / "img005.png" if form == "out" else place.with_name(f"{form}.part")
    wait_for(lambda: victim.exists() and victim.stat().st_size > 0)
    process.kill()
    process.wait()
    wait_for(lambda: not any(alive(pid) for pid in workers), seconds=5)
    process.stdin.close()
    assert_sound(place, contents(whole))
    done = subprocess.run(real("ws-cat", source, "-j2", "-o", place, "--resume"), env=env,
                          capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert contents(place) == contents(whole)


def children(pid: int) -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for(what, seconds: float = 20):
    until = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < until, "it does not happen"
        time.sleep(0.01)
    return result
