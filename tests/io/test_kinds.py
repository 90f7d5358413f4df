"""Names of members: a bijection between (key, suffix) and names, and nothing unsafe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.io.conftest import keys, unknown_suffixes
from wsseg.errors import UnsafeError
from wsseg.io.kinds import (KIND_OF_SUFFIX, KINDS, WEAK, background_id, check_key, kind_of,
                            member_name, split_name, suffixes_of)

suffixes = st.sampled_from(sorted(KIND_OF_SUFFIX)) | unknown_suffixes


@given(keys, suffixes)
def test_splitting_a_name_gives_back_what_it_was_joined_from(key, suffix):
    assert split_name(member_name(key, suffix)) == (key, suffix)


@given(st.lists(st.tuples(keys, suffixes), min_size=2, max_size=6, unique=True))
def test_different_members_have_different_names(pairs):
    assert len({member_name(*pair) for pair in pairs}) == len(pairs)


@given(keys, suffixes)
def test_a_name_splits_at_the_first_dot_of_its_base_name(key, suffix):
    name = member_name(key, suffix)
    head, _, base = name.rpartition("/")
    assert "." not in head
    assert base.partition(".")[2] == suffix


@given(st.text("ab%25E.Ff/2", max_size=12))
def test_what_splits_joins_again_to_a_name_of_the_same_key(name):
    try:
        key, suffix = split_name(name)
    except UnsafeError:
        return
    assert split_name(member_name(key, suffix)) == (key, suffix)


def test_a_dot_and_a_percent_sign_in_a_key_are_escaped():
    assert member_name("a.b/100%", "png") == "a%2Eb/100%25.png"
    assert split_name("a%2eb/100%25.score.npz") == ("a.b/100%", "score.npz")


def test_no_other_escape_is_understood():
    assert split_name("a%2Fb%41%5c.png") == ("a%2Fb%41%5c", "png")
    assert split_name("a%252E.png") == ("a%2E", "png")


def test_a_name_without_a_dot_has_no_suffix():
    assert split_name("a/b") == ("a/b", "")


@pytest.mark.parametrize("key", [
    "", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b", "a\\b", "a\0", "a\nb", "a\x7f",
    "a\udc80", "__wsseg__", "__wsseg__/a"])
def test_an_unsafe_key_is_refused(key):
    with pytest.raises(UnsafeError, match="unsafe name"):
        check_key(key)
    with pytest.raises(UnsafeError, match="unsafe name"):
        member_name(key, "png")


@pytest.mark.parametrize("name", [
    ".png", "a.b/c.png", "../c.png", "%2E%2E/c.png", "%2E.png", "/etc/passwd.png", "a.p..g",
    "a.png\n", "a\n.png", "__wsseg__/header.json", "", "a/.png"])
def test_an_unsafe_name_is_refused(name):
    with pytest.raises(UnsafeError, match="unsafe name"):
        split_name(name)


def test_a_refusal_shows_no_control_character():
    with pytest.raises(UnsafeError) as caught:
        check_key("a\x1b[31m\n")
    assert str(caught.value).isprintable()


def test_only_the_first_part_is_reserved():
    assert check_key("a/__wsseg__") == "a/__wsseg__"
    assert check_key("__wsseg__x") == "__wsseg__x"


def test_every_suffix_belongs_to_one_kind():
    every = [s for kind in KINDS.values() for s in kind.suffixes]
    assert len(every) == len(set(every))
    assert all(kind_of(s) == kind.name for kind in KINDS.values() for s in kind.suffixes)
    assert all(name == kind.name for name, kind in KINDS.items())


def test_an_unknown_suffix_is_a_kind_of_its_own():
    assert kind_of("txt") == ".txt" and suffixes_of(".txt") == ("txt",)
    assert kind_of("score") == ".score", "KEY.score is not the kind score"


def test_the_weak_kinds_are_those_that_a_person_gives():
    assert WEAK == ("tags", "counts", "boxes", "points", "scribble")


@pytest.mark.parametrize("names, expected", [
    (None, 0), ((), 0), (("background", "cat"), 0), (("Background",), 0), (("unlabeled", "a"), 0),
    (("void",), 0), (("road", "sidewalk"), None), (("cat", "background"), None)])
def test_class_0_is_the_background_unless_it_is_called_otherwise(names, expected):
    assert background_id(names) == expected
