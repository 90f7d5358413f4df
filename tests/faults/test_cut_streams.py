"""A stream that was cut anywhere is never taken for a complete one."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest

from tests.conftest import run
from tests.faults.helpers import (make_header, make_packs, read_all, read_stream, stream_bytes,
                                  times, tool)
from wsseg.errors import ExitStatus, IncompleteError, WssegError
from wsseg.io.record import Record
from wsseg.io.stream import StreamSource

HEADER = make_header("boxes")


@pytest.fixture(scope="module")
def packs():
    packs = make_packs(16, "boxes")
    noise = Record("with a long name " * 9)  # needs a pax header
    noise.set("label", np.random.default_rng(1).integers(0, 12, (300, 760)).astype(np.uint8))
    noise = noise.pack()
    return [*packs[:8], (noise, noise.digest), *packs[8:]]


@pytest.fixture(scope="module")
def stream(packs) -> bytes:
    data = stream_bytes(packs, HEADER)
    assert len(data) > 420 * 512, len(data)
    return data


def test_no_cut_stream_is_taken_for_a_complete_one(packs, stream):
    """At every block boundary and at odd places; what was read before the cut is sound."""
    rng = random.Random(3)
    cuts = [*range(0, len(stream), 512), *(rng.randrange(len(stream)) for _ in range(times(80))),
            *range(1, 40, 5), *(len(stream) - n for n in range(1, 40, 5))]
    assert len(cuts) > 420 + 80
    assert len(read_stream(stream)) == len(packs)
    digests = [digest for _, digest in packs]
    for cut in cuts:
        seen = []
        with pytest.raises(IncompleteError):
            for record in StreamSource(io.BytesIO(stream[:cut]), "stream"):
                seen.append(record.stored().digest)
        assert seen == digests[:len(seen)], cut
        if cut > len(stream) // 2:
            assert len(seen) > 3, cut


def test_records_before_a_cut_are_handed_on_at_once(packs, stream):
    """A whole record is not held back because the next one is missing."""
    cut = stream.index(b"img005.")
    seen = []
    with pytest.raises(IncompleteError):
        for record in StreamSource(io.BytesIO(stream[:cut]), "stream"):
            seen.append(record.key)
    assert seen == [f"img{i:03d}" for i in range(5)]


@pytest.mark.parametrize("form", ["out", "out.tar", "out.h5", "-"])
def test_ws_cat_tells_a_cut_stream(form, stream, tmp_path):
    for n, cut in enumerate((0, 511, 512, 2048, 100_352, 100_353, len(stream) - 1024,
                             len(stream) - 512, len(stream) - 1)):
        place = "-" if form == "-" else tmp_path / str(n) / form
        done = tool("ws-cat", "-j1", "-o", place, stdin=stream[:cut])
        assert done.code == ExitStatus.INCOMPLETE, cut
        assert "standard input is" in done.line
        if form == "-":
            continue
        assert not (place / "__wsseg__" / "end.json").exists()
        assert not place.is_file()
        again = tool("ws-cat", place, "-o", tmp_path / f"copy{n}")
        assert again.code in (ExitStatus.INCOMPLETE, ExitStatus.USAGE)
        again.line


def test_what_a_cut_stream_made_can_be_resumed_with_the_whole_one(stream, tmp_path):
    for form in ("out", "out.tar", "out.h5"):
        assert tool("ws-cat", "-j1", "-o", tmp_path / form, stdin=stream[:100_353]).code == 4
        assert tool("ws-cat", "-j1", "-o", tmp_path / form, "--resume", stdin=stream).code == 0
        assert sorted(p.digest for p in read_all(tmp_path / form)) == \
            sorted(p.digest for p in read_stream(stream))


def test_a_cut_stream_passed_on_stays_cut(stream):
    """ws-cat | ws-cat: the second one tells why, too."""
    first = tool("ws-cat", "-j1", stdin=stream[:100_353])
    assert first.code == ExitStatus.INCOMPLETE
    second = tool("ws-cat", "-j1", stdin=first.out)
    assert second.code == ExitStatus.INCOMPLETE
    assert "breaks off" in second.line


def test_the_real_command_with_workers_tells_a_cut_stream(stream, tmp_path):
    done = run(["ws-cat", "-j2", "-o", tmp_path / "out"], stdin=stream[:100_353],
               code=ExitStatus.INCOMPLETE)
    assert len(done.stderr.splitlines()) == 1
    assert len(list((tmp_path / "out").glob("img*.png"))) > 3


def test_records_can_be_shuffled_but_not_lost_or_changed(packs, stream):
    """The end's digest does not depend on the order; it does on everything else."""
    from wsseg.io.header import Total
    from wsseg.io.stream import tar_end, tar_member, tar_record

    total = Total()
    for packed, digest in packs:
        total.add(packed.key, digest, packed.supervision)
    head = tar_member("__wsseg__/header.json", HEADER.dump())
    end = tar_end(total.end(HEADER))
    bodies = [tar_record(*pack) for pack in packs]
    assert len(read_stream(head + b"".join(reversed(bodies)) + end)) == len(packs)
    swapped = dict(packs[0][0].members), dict(packs[1][0].members)
    mixed = [packs[0][0].__class__(k, tuple(sorted(m.items())), {"boxes": (2, 2)})
             for k, m in zip(("img000", "img001"), reversed(swapped))]
    mixed = [tar_record(packed, packed.digest) for packed in mixed]
    for bad in (bodies[1:], bodies + bodies[:1], mixed + bodies[2:], bodies[:5] + bodies[6:]):
        with pytest.raises(WssegError):
            read_stream(head + b"".join(bad) + end)
