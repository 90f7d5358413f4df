"""How messages tell what two things disagree in."""

from __future__ import annotations

from collections.abc import Sequence

from wsseg.errors import UsageError
from wsseg.io.source import Source


def turned(one: Sequence[int], other: Sequence[int]) -> str:
    """Return a hint, to be appended, where one (height, width) is the other on its side."""
    return " (transposed: an EXIF rotation?)" if tuple(one) == tuple(other)[::-1] else ""


def refuse_other_classes(one: Source, other: Source) -> None:
    """Raise UsageError if both places have class names and they are not the same."""
    ours, theirs = one.header.classes, other.header.classes
    if ours is None or theirs is None or ours == theirs:
        return
    first = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), None)
    what = (f"{len(ours)} classes against {len(theirs)}" if first is None else
            f"class {first} is {ours[first]!r} in one and {theirs[first]!r} in the other")
    raise UsageError(f"{one.where} and {other.where} have different classes: {what}")
