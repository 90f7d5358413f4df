"""Which labels count once and which add up."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsseg.errors import RecordError
from wsseg.io.header import End, Header, Total
from wsseg.io.supervision import (by_kind, covered, digest_of, named, number_of, together, union,
                                  without)

A, B = "masks@00000000000a", "masks@00000000000b"
entries = st.sampled_from(["tags", "masks", A, B, "tags@00000000000a"])
numbers = st.tuples(*[st.integers(0, 9)] * 3)
supervisions = st.dictionaries(entries, numbers)


def total(keys, kind="masks") -> Total:
    result = Total()
    for key in keys:
        result.label(key, {kind: (1, 2)})
    return result


def test_the_digest_is_the_sum_of_the_keys_hashes():
    keys = ["a", "deep/er.x", "Zähne"]
    expected = sum(int.from_bytes(hashlib.sha256(k.encode()).digest(), "big") >> 208
                   for k in keys) % 2**48
    assert named("tags", keys) == f"tags@{expected:012x}"
    assert named("tags", []) == "tags@000000000000"
    assert number_of("a") == int("ca978112ca1b", 16)  # sha256 of "a" is ca978112ca1bbdca...
    assert digest_of((1 << 48) + 5) == "000000000005"


@given(st.lists(st.text(max_size=3), unique=True), st.integers(0, 9), st.randoms())
def test_records_have_one_digest_in_any_order_and_parts(keys, cut, random):
    whole, mixed = total(keys), keys[:]
    random.shuffle(mixed)
    assert total(mixed).given == whole.given
    assert whole.given == ({named("masks", keys): (len(keys), len(keys), 2 * len(keys))}
                           if keys else {})
    parts = [total(part).keys.get("masks", 0) for part in (keys[:cut], keys[cut:])]
    assert digest_of(sum(parts)) == digest_of(whole.keys.get("masks", 0))


@given(supervisions, supervisions, supervisions)
def test_union_is_commutative_associative_and_idempotent(a, b, c):
    assert union(a, b) == union(b, a)
    assert union(union(a, b), c) == union(a, union(b, c)) == union(a, b, c)
    assert union(a, a) == a == union(a) == union(a, {})
    assert union(union(a, b), b) == union(a, b)


@given(supervisions, supervisions, supervisions)
def test_parts_come_together_in_any_order_and_digests_count_once(a, b, c):
    assert together(a, b) == together(b, a)
    assert together(together(a, b), c) == together(a, together(b, c)) == together(a, b, c)
    assert together(a) == a == together(a, {})
    distinct = {k: v for k, v in a.items() if "@" in k}
    assert together(distinct, distinct) == distinct
    assert together(a, distinct) == a
    assert by_kind(together(a, b)) == by_kind(a, b)


@given(supervisions, supervisions)
def test_nothing_is_counted_too_low(a, b):
    """By kind, no sum is below that of a part, nor of the union."""
    whole = by_kind(a, b)
    for part in (a, b, union(a, b)):
        for kind, found in by_kind(part).items():
            assert all(x <= y for x, y in zip(found, whole[kind]))


def test_equal_labels_count_once_and_others_add_up():
    assert by_kind({A: (3, 3, 6)}, {A: (3, 3, 6)}) == {"masks": (3, 3, 6)}
    assert by_kind({A: (3, 3, 6)}, {B: (3, 4, 6)}) == {"masks": (6, 7, 12)}
    assert by_kind({A: (3, 3, 6)}, {A: (3, 4, 5)}) == {"masks": (3, 4, 6)}
    assert by_kind({A: (3, 3, 6)}, {"tags@00000000000a": (3, 3, 3)}) == {
        "masks": (3, 3, 6), "tags": (3, 3, 3)}


def test_plain_kinds_add_up_beside_each_other_and_are_the_larger_of_inputs():
    assert by_kind({"tags": (1, 2, 0)}, {"tags": (3, 4, 0), "boxes": (1, 1, 2)}) == {
        "tags": (4, 6, 0), "boxes": (1, 1, 2)}
    assert by_kind({"masks": (3, 3, 6)}, {A: (3, 3, 6)}) == {"masks": (6, 6, 12)}
    assert union({"tags": (1, 5, 0)}, {"tags": (3, 4, 0)}) == {"tags": (3, 5, 0)}


def test_a_kind_is_covered_if_all_labels_that_records_may_have_are_counted():
    before = {A: (3, 3, 6), "tags": (9, 9, 9)}
    assert covered(before, [{A: (3, 3, 6)}]) == {"masks"}
    assert covered(before, [{A: (3, 3, 6)}, {A: (3, 3, 6), "tags": (1, 1, 1)}]) == {"masks"}
    assert covered(before, [{A: (3, 3, 6)}, {B: (3, 3, 6)}]) == frozenset()
    assert covered(before, [{A: (3, 3, 6)}, None]) == frozenset()
    assert covered(before, [{"tags": (9, 9, 9)}]) == frozenset()  # plain: which they are is open
    assert without({A: (1, 1, 1), "tags": (1, 1, 1)}, {"masks"}) == {"tags": (1, 1, 1)}


def test_a_place_of_before_there_were_digests_is_read_and_verified():
    new = total("ab").end(Header())
    assert new.given == {named("masks", "ab"): (2, 2, 4)}
    old = End.load(new.dump().replace(b"labelled", b"unheard"))
    assert old.labelled == {} and old.given == {"masks": (2, 2, 4)} == new.supervision
    assert old.agrees(new) and new.agrees(new)
    assert not new.agrees(total("ac").end(Header()))  # which labels is part of what was written


@pytest.mark.parametrize("text", ['{"labelled": {"masks": "xyz"}}', '{"labelled": [1]}',
                                  '{"labelled": {"masks": 7}}',
                                  '{"labelled": {"masks": 123456789012}}'])
def test_an_end_with_odd_digests_is_refused(text):
    data = total("ab").end(Header()).dump().replace(b'"labelled"', b'"other"')
    with pytest.raises(RecordError, match="bad wsseg end"):
        End.load(data.rstrip()[:-1] + b"," + text[1:].encode())


@pytest.mark.parametrize("entry, good", [("masks", True), (A, True), ("masks@", False),
                                         ("masks@00000000000A", False), ("@00000000000a", False),
                                         ("masks@00000000000a@00000000000a", False)])
def test_a_header_knows_its_entries(entry, good):
    data = Header(supervision={entry: (1, 2, 3)}).dump()
    if good:
        assert Header.load(data).supervision == {entry: (1, 2, 3)}
    else:
        with pytest.raises(RecordError, match="bad wsseg header"):
            Header.load(data)
