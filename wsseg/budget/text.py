"""Tables and numbers for people."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int, *, last_left: bool = False) -> list[str]:
    """Return rows as lines with aligned columns: the first ``left`` columns, and the last one if
    asked for, to the left, all others to the right."""
    wide = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(w) if i < left or last_left and i == len(wide) - 1
                      else cell.rjust(w)
                      for i, (cell, w) in enumerate(zip(row, wide))).rstrip() for row in rows]


def percent(share: float | None) -> str:
    """Return a share in percent, two digits; - for None."""
    return "-" if share is None else f"{100 * share:.2f}"


def number(value: float) -> str:
    """Return a number of images or objects: whole from 100 up, else with one digit."""
    return f"{value:,.{0 if value >= 100 else 1}f}".removesuffix(".0")
