"""COCO's run-lengths: decoded and checked without a library that trusts its input.

A mask is read column by column; its runs alternate, background first. In between, a mask is
held as its *changes*: the ascending positions where background and mask change places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from wsseg.errors import RecordError
from wsseg.io.png import check_pixels

_MAX_DIGITS = 7  # of 5 bits each: more than any image needs


def runs_of_changes(changes: np.ndarray, size: tuple[int, int]) -> tuple[int, ...]:
    """Return runs that sum to H * W from changes, int64 (N,) ascending in 0..H*W-1."""
    ends = np.concatenate([[0], changes, [size[0] * size[1]]])
    return tuple(np.diff(ends).tolist())


def changes_of(positions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the changes that positions, in any order, come down to.

    Two changes at one place cancel, and one at the end of the image changes nothing.
    """
    places, counts = np.unique(positions, return_counts=True)
    return places[(counts % 2 == 1) & (places < size[0] * size[1])]


def union(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Return the changes of the union of masks given by their changes."""
    parts = list(parts)
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.zeros(0, np.int64)
    steps = np.concatenate([1 - 2 * (np.arange(len(p)) % 2) for p in parts])
    places, which = np.unique(np.concatenate(parts), return_inverse=True)
    inside = np.cumsum(np.bincount(which, steps, len(places))) > 0.5
    return places[inside != np.concatenate([[False], inside[:-1]])]


def read_counts(counts: Any, size: tuple[int, int]) -> tuple[int, ...]:
    """Return the runs of an annotation's ``counts``, in their shortest form.

    counts: a list of integers, or COCO's compressed text. size: (H, W) of the image. Raises
    RecordError unless the runs are not negative and cover the image exactly, UnsafeError for
    an image too large to decode.
    """
    check_pixels(size[1], size[0])
    total = size[0] * size[1]
    if isinstance(counts, str) and len(counts) <= _MAX_DIGITS * (total + 1):
        runs = _uncompress(counts)
    elif isinstance(counts, list) and all(type(n) is int and n.bit_length() < 32 for n in counts):
        runs = np.array(counts, np.int64)
    else:
        raise RecordError("RLE counts are neither a list of run lengths nor a text of them "
                          f"for {total} pixels")
    odd = runs[(runs < 0) | (runs > total)]  # looked for first: their sum could overflow
    if len(odd):
        raise RecordError(f"RLE has a run of {odd[0]} pixels in an image of {total}")
    if runs.sum() != total:
        raise RecordError(f"RLE covers {runs.sum()} pixels of an image of "
                          f"{size[0]}x{size[1]} = {total}")
    return runs_of_changes(changes_of(np.cumsum(runs)[:-1], size), size)


def _uncompress(text: str) -> np.ndarray:
    """Undo COCO's compression: numbers of 5-bit digits, the lowest first, each but the last
    marked by bit 5, in characters from '0'; from the fourth number on, each is the difference
    from the number two before it."""
    try:
        codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise RecordError("RLE text is not ASCII") from None
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise RecordError("RLE text is empty, cut off, or has characters that RLE does not use")
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _MAX_DIGITS:
        raise RecordError(f"RLE text has a number of {lengths.max()} digits")
    digit = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 31) << (5 * digit), starts)
    values -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)  # two's complement
    for first in (1, 2):
        values[first::2] = np.cumsum(values[first::2])
    return values


def mask_of_runs(runs: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Return bool (H, W) from runs that cover it exactly."""
    value = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(value, runs).reshape(size[::-1]).T)


def runs_of_mask(mask: np.ndarray) -> tuple[int, ...]:
    """Return the runs of a mask, bool (H, W)."""
    flat = np.ascontiguousarray(mask.astype(bool).T).ravel()
    before = np.concatenate([[False], flat[:-1]])
    return runs_of_changes(np.flatnonzero(flat != before), mask.shape)
