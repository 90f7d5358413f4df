"""Header and end: what a place says about itself."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.errors import IncompleteError, RecordError, WssegError
from wsseg.io.header import End, Header, Total, history_entry

FULL = Header(("boxes", "label"), ("background", "Zähne"), 255, 7,
              (history_entry("ws-x", "1", ["--a"], {"a": True}, {}),), {"masks": (3, 4, 5)})
digests = st.integers(0, (1 << 256) - 1).map("{:064x}".format)


def test_a_header_survives():
    for header in (Header(), FULL, Header(classes=())):
        assert Header.load(header.dump()) == header


def test_a_header_is_json_that_people_can_read():
    value = json.loads(FULL.dump())
    assert value["wsseg"] == 1
    assert value["classes"] == ["background", "Zähne"] and value["kinds"] == ["boxes", "label"]
    assert value["count"] == 7 and value["supervision"] == {"masks": [3, 4, 5]}
    assert "Zähne".encode() in FULL.dump()


def test_what_is_unknown_is_left_out():
    assert set(json.loads(Header().dump())) == {"wsseg", "kinds", "ignore", "history"}


def test_a_later_format_is_refused_with_its_number():
    data = FULL.dump().replace(b'"wsseg": 1', b'"wsseg": 2')
    with pytest.raises(RecordError, match=r"later wsseg \(format 2; this one reads up to 1\)"):
        Header.load(data)


@pytest.mark.parametrize("data", [b"[]", b"{}", b'{"wsseg": "1"}', b"null"])
def test_what_is_no_header_is_refused(data):
    with pytest.raises(RecordError, match="not a wsseg header"):
        Header.load(data)


@pytest.mark.parametrize("missing", ["kinds", "ignore", "history"])
def test_a_header_without_a_field_is_refused(missing):
    value = json.loads(FULL.dump())
    del value[missing]
    with pytest.raises(RecordError, match=f"bad wsseg header .*{missing}"):
        Header.load(json.dumps(value).encode())


def test_the_digest_does_not_depend_on_the_count():
    assert replace(FULL, count=None).digest == FULL.digest == replace(FULL, count=99).digest
    assert FULL.digest == \
        "sha256:" + hashlib.sha256(replace(FULL, count=None).dump()).hexdigest()


@pytest.mark.parametrize("change", [
    {"kinds": ("label",)}, {"classes": ("background",)}, {"ignore": 0}, {"history": ()},
    {"supervision": {}}])
def test_the_digest_depends_on_everything_else(change):
    assert replace(FULL, **change).digest != FULL.digest


def test_the_recipe_is_how_records_are_made_not_of_which():
    entry = FULL.history[0]
    other = {**entry, "inputs": {"input": "sha256:0"}, "previous": ["x"], "id": "y"}
    assert replace(FULL, history=(other,), count=3, kinds=()).recipe() == FULL.recipe()
    assert replace(FULL, history=({**entry, "parameters": {}},)).recipe() != FULL.recipe()
    assert replace(FULL, history=({**entry, "version": "2"},)).recipe() != FULL.recipe()
    assert replace(FULL, classes=None).recipe() != FULL.recipe()


def test_equal_runs_have_equal_history_and_name_their_inputs():
    def entry(**change):
        given = {"tool": "ws-y", "version": "1", "arguments": [], "parameters": {},
                 "inputs": {"input": FULL}, **change}
        return history_entry(*given.values())

    assert entry() == entry()
    assert entry()["inputs"] == {"input": FULL.digest}
    assert entry()["previous"] == [FULL.history[-1]["id"]]
    assert len({entry()["id"], entry(arguments=["-a"])["id"], entry(parameters={"a": 1})["id"],
                entry(version="2")["id"], entry(inputs={})["id"]}) == 5


@given(st.lists(st.tuples(st.text(max_size=3), digests, st.dictionaries(st.sampled_from(
    "abc"), st.tuples(st.integers(0, 9), st.integers(0, 9)))), max_size=8,
    unique_by=lambda record: record[0]), st.integers(0, 8), st.randoms())
def test_totals_do_not_depend_on_order_and_shards_add_up(records, cut, random):
    def total(items):
        result = Total()
        for item in items:
            result.add(*item)
        return result

    whole = total(records)
    mixed = records[:]
    random.shuffle(mixed)
    assert total(mixed).end(FULL) == whole.end(FULL)
    a, b = total(records[:cut]), total(records[cut:])
    assert (a.sum + b.sum) % (1 << 256) == whole.sum and a.records + b.records == whole.records
    assert whole.sum == sum(int(d, 16) for _, d, _ in records) % (1 << 256)
    for kind in "abc":
        spent = [s[kind] for _, _, s in records if kind in s]
        expected = (len(spent), *map(sum, zip(*spent))) if spent else None
        assert whole.supervision.get(kind) == expected
        labels = [int(one.end(FULL).labelled.get(kind, "0"), 16) for one in (a, b)]
        keys = [k for k, _, s in records if kind in s]
        assert whole.end(FULL).labelled.get(kind) == (f"{sum(labels) % 2**48:012x}" if keys
                                                      else None)
        assert sum(labels) % 2**48 == sum(
            int(hashlib.sha256(k.encode()).hexdigest()[:12], 16) for k in keys) % 2**48


def test_an_end_survives():
    for end in (End(3, 1, "sha256sum:00", "sha256:11", {"tags": (3, 4, 4)}), End(0, 0, "", ""),
                End(0, 0, "", "", error="disk full")):
        assert End.load(end.dump()) == end


@pytest.mark.parametrize("data", [b"{}", b"[]", b'{"records": "many"}',
                                  b'{"records":1,"failed":0,"digest":"","header":"",'
                                  b'"supervision":[]}'])
def test_what_is_no_end_is_refused(data):
    with pytest.raises(RecordError, match="bad wsseg end"):
        End.load(data)


def test_an_end_notices_every_difference():
    total = Total()
    total.add("k", "ab", {"tags": (1, 2)})
    end = total.end(FULL)
    end.check(total, FULL, "x")
    cases = [(replace(end, records=2), FULL, "x is incomplete: it holds 1 of 2 records"),
             (replace(end, digest="sha256sum:00"), FULL, "x is damaged"),
             (replace(end, supervision={}), FULL, "x is damaged"),
             (end, replace(FULL, ignore=0), "x is damaged"),
             (replace(end, error="disk full"), FULL, "x is incomplete: disk full")]
    for odd, header, message in cases:
        with pytest.raises(WssegError, match=message) as caught:
            odd.check(total, header, "x")
        assert isinstance(caught.value, IncompleteError) == ("incomplete" in message)
    end.check(total, replace(FULL, count=1), "x")
