"""The interchange rule: directory, tar and HDF5 hold the same, byte for byte."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import make_record, real_data, run, tree
from tests.io.conftest import keys, make_value, put, unknown_suffixes
from wsseg.cli._command import run as invoke
from wsseg.cli.cat import main as ws_cat
from wsseg.io.header import Header, history_entry
from wsseg.io.kinds import KINDS
from wsseg.io.record import Record


@pytest.fixture(autouse=True)
def signals():
    """A tool run in this process takes over two signals; give them back."""
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def cat(source, target) -> None:
    """ws-cat, in this process."""
    assert invoke(ws_cat, [str(source), "-j1", "-o", str(target)]) == 0


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
amounts = st.tuples(st.integers(0, 99), st.integers(0, 99))
spent = st.dictionaries(st.sampled_from(["tags", "boxes", "masks"]), amounts)
entries = st.builds(history_entry, st.sampled_from(["ws-a", "ws-b"]), st.just("1"),
                    st.lists(names, max_size=2),
                    st.dictionaries(names, st.none() | st.booleans() | st.integers() | names
                                    | st.floats(allow_nan=False, allow_infinity=False)),
                    st.just({}))
headers = st.builds(
    Header, st.lists(st.sampled_from(sorted(KINDS)), unique=True).map(sorted).map(tuple),
    st.none() | st.lists(names, min_size=1, max_size=4).map(tuple), st.sampled_from([255, 0]),
    st.none(), st.lists(entries, max_size=2).map(tuple),
    st.dictionaries(st.sampled_from(["tags", "masks"]), st.tuples(*[st.integers(0, 99)] * 3)))


@st.composite
def records(draw) -> list[Record]:
    result = []
    for key in draw(st.lists(keys, min_size=1, max_size=6, unique=True)):
        record = Record(key, supervision=draw(spent))
        kinds = draw(st.lists(st.sampled_from(sorted(KINDS)), max_size=4, unique=True))
        rng = np.random.default_rng(draw(st.integers(0, 1 << 30)))
        for kind in kinds:
            if kind == "image" and rng.integers(2):
                record.members["jpg"] = rng.bytes(int(rng.integers(0, 40)))
            else:
                record.set(kind, make_value(kind, rng))
        for suffix in draw(st.lists(unknown_suffixes, min_size=not kinds, max_size=2,
                                    unique=True)):
            record.members[suffix] = draw(st.binary(max_size=20))
        result.append(record)
    return result


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(headers, records())
def test_any_place_survives_every_form_byte_for_byte(header, given_records):
    folder = Path(tempfile.mkdtemp())
    try:
        put(folder / "made", header, given_records)
        cat(folder / "made", folder / "d1")
        cat(folder / "d1", folder / "t1.tar")
        cat(folder / "t1.tar", folder / "h1.h5")
        cat(folder / "h1.h5", folder / "t2.tar")
        cat(folder / "t2.tar", folder / "d2")
        assert tree(folder / "d2") == tree(folder / "d1")
        assert (folder / "t2.tar").read_bytes() == (folder / "t1.tar").read_bytes()
        cat(folder / "d2", folder / "h2.h5")
        assert (folder / "h2.h5").read_bytes() == (folder / "h1.h5").read_bytes()
        made = {n: d for n, d in tree(folder / "made").items() if n != "__wsseg__/header.json"}
        assert {n: d for n, d in tree(folder / "d1").items()
                if n != "__wsseg__/header.json"} == made  # header: the count is known now
    finally:
        shutil.rmtree(folder)


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(headers, records())
def test_writing_straight_into_a_form_is_the_same_as_converting(header, given_records):
    folder = Path(tempfile.mkdtemp())
    try:
        given_records.sort(key=lambda r: r.key)
        put(folder / "d", header, given_records)
        for form in ("tar", "h5"):
            put(folder / f"x.{form}", header, given_records)
            cat(folder / f"x.{form}", folder / form)
        found = [{n: d for n, d in tree(folder / p).items() if n != "__wsseg__/header.json"}
                 for p in ("d", "tar", "h5")]
        assert found[0] == found[1] == found[2]
    finally:
        shutil.rmtree(folder)


def test_pipes_carry_every_kind_unchanged(tmp_path):
    record = Record("all.of/them%", {"note": b"x", "jpg": b"photo"},
                    supervision={"tags": (1, 2)})
    rng = np.random.default_rng(5)
    for kind in sorted(set(KINDS) - {"image"}):
        record.set(kind, make_value(kind, rng))
    put(tmp_path / "d", Header(count=2), [record, make_record(1, "label")])
    first = run(["ws-cat", tmp_path / "d"]).stdout
    run(["ws-cat", "-", "-o", tmp_path / "x.h5"], stdin=first)
    second = run(["ws-cat", tmp_path / "x.h5"]).stdout
    assert run(["ws-cat"], stdin=second).stdout == second == first
    run(["ws-cat", "-o", tmp_path / "again"], stdin=second)
    assert tree(tmp_path / "again") == tree(tmp_path / "d")


def test_real_masks_survive_every_form_byte_for_byte(tmp_path):
    voc = real_data("VOC2012") / "SegmentationClass"
    chosen = sorted(p.stem for p in voc.iterdir())[:100]
    (tmp_path / "keys.txt").write_text("\n".join(chosen))
    d1, d2 = tmp_path / "d1", tmp_path / "d2"
    run(["ws-cat", voc, "--classes", "voc", "--keys", tmp_path / "keys.txt", "-o", d1])
    stream = run(["ws-cat", d1]).stdout
    run(["ws-cat", "-o", tmp_path / "x.h5"], stdin=stream)
    again = run(["ws-cat", tmp_path / "x.h5"]).stdout
    assert again == stream
    run(["ws-cat", "-", "-o", d2], stdin=again)
    assert tree(d2) == tree(d1)
    assert len([n for n in tree(d1) if n.endswith(".png")]) == 100
    from PIL import Image

    for key in chosen[::10]:
        np.testing.assert_array_equal(np.asarray(Image.open(d2 / f"{key}.png")),
                                      np.asarray(Image.open(voc / f"{key}.png")))
