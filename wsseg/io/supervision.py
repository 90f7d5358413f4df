"""Labels that people gave, counted once: the one rule of what adds up and what is the same.

A supervision maps labels to (images, classes, objects). Its keys are ``KIND`` or ``KIND@DIGEST``.
DIGEST names the set of records that carry the labels: the sum over their keys of the first 48
bits of the key's SHA-256, modulo 2**48, as 12 hex digits. It does not depend on their order, and
those of shards add up.

Two entries with one KIND@DIGEST are the same labels and count once, wherever they come from: a
net's training, the records at hand, another input. Others are different labels and add up, so
that sets which overlap may be counted too high, but never too low. A plain KIND, of a place that
was written before there were digests, adds up with everything that is spent beside it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

Labels = tuple[int, ...]
_MODULUS = 1 << 48
_NAMED = re.compile(r"[^@]+@[0-9a-f]{12}")


def number_of(key: str) -> int:
    """Return what a record's key adds to a digest."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")


def digest_of(number: int) -> str:
    """Return the digest of a sum of ``number_of``."""
    return f"{number % _MODULUS:012x}"


def named(kind: str, keys: Iterable[str]) -> str:
    """Return KIND@DIGEST of labels that the records of these keys carry."""
    return f"{kind}@{digest_of(sum(map(number_of, keys)))}"


def kind_of_entry(entry: str) -> str:
    """Return the kind of an entry, plain or with a digest."""
    return entry.partition("@")[0]


def is_entry(entry: Any) -> bool:
    """Whether this can be a key of a supervision."""
    return isinstance(entry, str) and ("@" not in entry or _NAMED.fullmatch(entry) is not None)


def is_count(value: Any) -> bool:
    """Whether this is a number that JSON holds exactly and things can be counted by."""
    return type(value) is int and 0 <= value < 1 << 53


def load_supervision(value: dict[str, list[int]], size: int = 3) -> dict[str, tuple[int, ...]]:
    """Parse what JSON holds of a supervision, or with two numbers of a record's: (classes,
    objects). Raises ValueError, TypeError or AttributeError if it is none."""
    for entry, numbers in value.items():
        if len(numbers) != size or not all(map(is_count, numbers)) or not is_entry(entry):
            raise ValueError(f"supervision {entry} {numbers}")
    return {kind: tuple(numbers) for kind, numbers in value.items()}


def union(*parts: Mapping[str, Labels]) -> dict[str, Labels]:
    """Return the labels of inputs that were probably made with the same ones: entries of one name
    are the same labels. Commutative, associative and idempotent. Where their numbers differ, as
    those of two plain entries may, the larger of each counts."""
    result: dict[str, Labels] = {}
    for part in parts:
        for entry, numbers in part.items():
            result[entry] = tuple(map(max, numbers, result.get(entry, numbers)))
    return result


def together(*parts: Mapping[str, Labels]) -> dict[str, Labels]:
    """Return the labels of parts that were spent one beside the other: plain entries add up, those
    with a digest are the same labels if they have one name."""
    result: dict[str, Labels] = {}
    for part in parts:
        for entry, numbers in part.items():
            join = max if "@" in entry else lambda a, b: a + b
            before = result.get(entry)
            result[entry] = tuple(numbers) if before is None else tuple(map(join, before, numbers))
    return result


def by_kind(*parts: Mapping[str, Labels]) -> dict[str, Labels]:
    """Return kind -> (images, classes, objects) over all distinct labels of parts that were spent
    one beside the other: what people see, and what is priced."""
    result: dict[str, Labels] = {}
    for entry, numbers in together(*parts).items():
        kind = kind_of_entry(entry)
        result[kind] = tuple(map(sum, zip(numbers, result.get(kind, (0, 0, 0)))))
    return result


def covered(before: Mapping[str, Labels], wholes: Iterable[Mapping[str, Labels] | None]
            ) -> frozenset[str]:
    """Return the kinds of which records need not count their labels, be they all records or some.

    before: labels that count already; wholes: those of all records of each place that the records
    are from, None for a place that does not know. A kind is covered if ``before`` has the labels
    of that kind of every place that has any.
    """
    entries: set[str] = set()
    for whole in wholes:
        if whole is None:
            return frozenset()
        entries |= whole.keys()
    open_ = {kind_of_entry(e) for e in entries if "@" not in e or e not in before}
    return frozenset(kind_of_entry(e) for e in entries) - open_


def without(own: Mapping[str, Labels], kinds: Iterable[str]) -> dict[str, Labels]:
    """Return the entries that are of other kinds."""
    kinds = set(kinds)
    return {e: n for e, n in own.items() if kind_of_entry(e) not in kinds}
