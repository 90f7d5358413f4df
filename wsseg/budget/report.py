"""Costs as a table for people and as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from wsseg.budget.costs import (DATASETS, DAY, WORKING_DAY, Labels, Statistics, seconds,
                                spent)
from wsseg.budget.prices import Prices, parse_mix
from wsseg.errors import UsageError, printable

#: What the papers call a row: (name, kind, objects it is charged for).
_ROWS = (("IL", "tags", "objects"), ("IL+C", "counts", "objects"),
         ("1Point", "points", "classes"), ("AllPoints", "points", "objects"),
         ("Squiggle", "scribble", "classes"), ("BB", "boxes", "objects"),
         ("Full", "masks", "objects"))
ROW_NAMES = tuple(name for name, _, _ in _ROWS)
_HEAD = ("", "labels", "images", "classes", "objects", "s/image", "seconds", "hours",
         "days of 8 h", "days of 24 h")


@dataclass(frozen=True)
class Row:
    """Labels of one kind in one place, and what they cost.

    images, classes (present), objects: sums over the images; n_classes: asked of each image.
    """

    name: str
    supervision: str
    images: float
    classes: float
    objects: float
    seconds: float
    n_classes: int

    def plain(self) -> dict[str, Any]:
        """Return what ``--json`` shows; days have 24 hours."""
        return {"name": self.name, "supervision": self.supervision, "images": self.images,
                "classes": self.classes, "objects": self.objects, "seconds": self.seconds,
                "seconds_per_image": self.seconds / self.images if self.images else 0.0,
                "days": self.seconds / DAY, "n_classes": self.n_classes}


def place_rows(name: str, labels: dict[str, Labels], n_classes: int,
               prices: Prices) -> list[Row]:
    """Return one row for each kind of label of a place, or one that says there is none."""
    costs = spent(labels, n_classes, prices)
    return [Row(name, kind, *labels[kind], costs[kind], n_classes) for kind in costs] \
        or [Row(name, "none", 0, 0, 0, 0.0, n_classes)]


def priced_dataset(prices: Prices, *, dataset: str | Statistics, number: int | None = None,
                   mix: str | None = None, **statistics: float | None) -> list[Row]:
    """Return the paper's table 1 and Bearman's rows, or the rows of a mixture.

    dataset: a key of DATASETS, or measured statistics, whose rows lack what needs objects where
    those are NaN; statistics: values to use in place of its own, if not None. number: images in
    each row, 1 by default. mix: see ``parse_mix``; its images are different ones, so counts are
    charged with their tags. Raises UsageError for a mixture that needs objects not known.
    """
    known = dataset if isinstance(dataset, Statistics) else DATASETS[dataset]
    name = known.source if isinstance(dataset, Statistics) else dataset
    known = known.changed(**statistics)
    kinds = _ROWS if mix is None else [(name, kind, "objects") for kind in parse_mix(mix)]
    if math.isnan(known.mean_objects):
        if mix is not None and {"points", "boxes", "masks"} & set(parse_mix(mix)):
            raise UsageError(f"{name}: objects in an image are not known: add --mean-objects X")
        kinds = [(name, kind, "classes") for name, kind, _ in kinds
                 if kind in ("tags", "counts", "scribble") or name == "1Point"]
    numbers = repeat(1 if number is None else number) if mix is None else parse_mix(mix).values()
    rows = []
    for (name, kind, what), images in zip(kinds, numbers):
        labels = _expected(known, images, getattr(known, f"mean_{what}"))
        rows.append(Row(name, "tags+counts" if kind == "counts" else kind, *labels,
                        seconds(kind, labels, known.n_classes, prices), known.n_classes))
    return rows


def _expected(statistics: Statistics, number: int, objects: float) -> Labels:
    # Rounded so that 1.5 * 10582 prints as itself and not as 15872.999...
    return number, round(number * statistics.mean_classes, 6), round(number * objects, 6)


def totals(rows: Sequence[Row]) -> dict[str, float]:
    """Return name -> seconds, in the order of the rows."""
    sums: dict[str, float] = {}
    for row in rows:
        sums[row.name] = sums.get(row.name, 0.0) + row.seconds
    return sums


def as_text(rows: Sequence[Row], *, add: bool) -> str:
    """Return the table. add: rows are parts of a whole, so give sums and comparisons."""
    lines = [_HEAD]
    sums = totals(rows)
    for row in rows:
        lines.append((printable(row.name), row.supervision,
                      *(f"{n:,.{0 if n >= 100 else 1}f}".removesuffix(".0")
                        for n in (row.images, row.classes, row.objects)),
                      f"{row.seconds / row.images:,.2f}" if row.images else "-",
                      *_times(row.seconds)))
        mine = [r for r in rows if r.name == row.name]
        if add and len(mine) > 1 and mine[-1] is row:
            lines.append((printable(row.name), "together", "", "", "", "",
                          *_times(sums[row.name])))
    if add and len(sums) > 1:
        lines.append(("total", "", "", "", "", "", *_times(sum(sums.values()))))
    wide = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    text = ["  ".join(cell.ljust(w) if i < 2 else cell.rjust(w)
                      for i, (cell, w) in enumerate(zip(line, wide))).rstrip() for line in lines]
    return "\n".join(text + (_comparisons(rows, sums) if add else []))


def _times(value: float) -> tuple[str, ...]:
    return (f"{value:,.0f}", f"{value / 3600:,.2f}", f"{value / WORKING_DAY:,.2f}",
            f"{value / DAY:,.2f}")


def _comparisons(rows: Sequence[Row], sums: dict[str, float]) -> list[str]:
    """Say how much less each place cost than the dearest one."""
    dearest = max(sums, key=sums.get, default=None)
    labels = {name: "+".join(r.supervision for r in rows if r.name == name) for name in sums}
    return [f"{labels[n]} ({printable(n)}) cost {sums[dearest] / cost:.1f}x less than "
            f"{labels[dearest]} ({printable(dearest)})"
            for n, cost in sums.items() if 0 < cost < sums[dearest]]


def as_json(rows: Sequence[Row], prices: Prices) -> dict[str, Any]:
    """Return rows, totals and prices as JSON holds them. n_classes: None where rows differ."""
    asked = {row.n_classes for row in rows}
    return {"rows": [row.plain() for row in rows], "prices": dict(vars(prices)),
            "totals": [{"name": n, "seconds": s, "days": s / DAY}
                       for n, s in totals(rows).items()],
            "n_classes": asked.pop() if len(asked) == 1 else None}
