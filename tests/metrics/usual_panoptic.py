"""Panoptic quality as the published scripts compute it: one image at a time, from the unique
values of a map of combined ids. An oracle for the tests, and the rival in the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

VOID = 0
_OFFSET = 1 << 24  # ids have three bytes


@dataclass(frozen=True)
class Entry:
    """A segment as the JSON lists it."""

    cls: int
    crowd: bool = False


def count(truth: np.ndarray, entries: Mapping[int, Entry], guess: np.ndarray,
          guessed: Mapping[int, Entry]) -> dict[int, list[float]]:
    """Return class -> [sum of IoU, tp, fp, fn] of one image.

    truth, guess: int64 (H, W) ids, VOID = 0; a true id that is not listed is no segment.
    """
    stats: dict[int, list[float]] = {}

    def add(cls: int, field: int, amount: float = 1) -> None:
        stats.setdefault(cls, [0.0, 0, 0, 0])[field] += amount

    true_area = dict(zip(*(v.tolist() for v in np.unique(truth, return_counts=True))))
    area = dict(zip(*(v.tolist() for v in np.unique(guess, return_counts=True))))
    codes, numbers = np.unique(truth.astype(np.uint64) * _OFFSET + guess.astype(np.uint64),
                               return_counts=True)
    meet = {divmod(int(code), _OFFSET): int(n) for code, n in zip(codes, numbers)}
    true_matched, matched = set(), set()
    for (t, p), n in meet.items():
        if t not in entries or p not in guessed or entries[t].crowd:
            continue
        if entries[t].cls != guessed[p].cls:
            continue
        iou = n / (true_area[t] + area[p] - n - meet.get((VOID, p), 0))
        if iou > 0.5:
            add(entries[t].cls, 0, iou)
            add(entries[t].cls, 1)
            true_matched.add(t)
            matched.add(p)
    crowd_of_class: dict[int, int] = {}
    for t, entry in entries.items():
        if entry.crowd:
            crowd_of_class[entry.cls] = t
        elif t not in true_matched:
            add(entry.cls, 3)
    for p, entry in guessed.items():
        if p in matched:
            continue
        excused = meet.get((VOID, p), 0)
        if entry.cls in crowd_of_class:
            excused += meet.get((crowd_of_class[entry.cls], p), 0)
        if excused / area[p] > 0.5:
            continue
        add(entry.cls, 2)
    return stats


def average(total: Mapping[int, list[float]]) -> tuple[float, float, float]:
    """Return PQ, SQ and DQ over the classes that occur."""
    rows = [(iou / (tp + fp / 2 + fn / 2), iou / tp if tp else 0.0, tp / (tp + fp / 2 + fn / 2))
            for iou, tp, fp, fn in total.values() if tp + fp + fn]
    return tuple(sum(column) / len(rows) for column in zip(*rows))
