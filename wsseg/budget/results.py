"""What is read for a curve: results as JSON, costs as JSON, and tables of measured points."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsseg.budget.costs import DAY, Statistics
from wsseg.budget.curve import Part, Run, expected_parts
from wsseg.budget.prices import KINDS, Prices, near
from wsseg.budget.report import ROW_NAMES
from wsseg.errors import UsageError

_UNITS = {"s": 1.0, "h": 3600.0, "d": DAY, "": DAY}
_TIME = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:e([+-]?\d+))?\s*([shd]?)", re.IGNORECASE)
_STEM = re.compile(r"(?:(.+)[-_])?(\d+)-(\d+)|(\d+)")
#: Columns of a table that hold a cost, and their seconds.
_COSTS = {"seconds": 1.0, "hours": 3600.0, "days": DAY}
_COLUMNS = ("method", "size", "run", "score", "percent", "low", "high", *_COSTS, *KINDS)


def parse_time(text: str) -> float | None:
    """Return the seconds of ``0.55``, ``0.55d`` (days of 24 hours), ``8h`` or ``47940s``; None
    for what is no time."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        return None
    number = float(found[1] + (f"e{found[2]}" if found[2] else ""))
    value = number * _UNITS[found[3].lower()]
    return value if math.isfinite(value) else None


def parse_score(text: str) -> float:
    """Return a score from a share, or from a percentage: what is above 1 or ends in %.

    Raises UsageError for what is neither.
    """
    percent = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = math.nan
    value = value / 100 if percent or value > 1 else value
    if not 0 <= value <= 1:
        raise UsageError(f"{text!r} is not a score: a share up to 1 or a percentage up to 100")
    return value


def names_of(stem: str) -> tuple[str, str]:
    """Return (method, size) that a file's name tells, '' for what it does not: ``100-3`` is run 3
    of size 100, ``g-100-3`` one of method g, ``100`` the only one, anything else a method."""
    found = _STEM.fullmatch(stem)
    return (found[1] or "", found[2] or found[4]) if found else (stem, "")


@dataclass(frozen=True)
class Result:
    """One result of ws-eval. score: the name of its score; interval: (low, high) over images, if
    it has one; item: all of it."""

    prediction: str
    score: str
    value: float
    interval: tuple[float, float] | None
    item: Mapping[str, Any]


def results_of(value: Any, score: str | None, where: str) -> list[Result]:
    """Return the results in the JSON of ``ws-eval``: one, or several under ``results``.

    score: which of its scores; None for the one it is about. The interval is [low, high] under
    ``interval``, of the score it is about, or in an object of such by score. Raises UsageError.
    """
    found = value.get("results", value) if isinstance(value, dict) else value
    if isinstance(found, dict):
        found = [found]
    rows = []
    for item in found if isinstance(found, list) else ():
        if not isinstance(item, dict):
            break
        main = str(item.get("metric", "miou"))
        name = score or main
        if name not in item:
            raise UsageError(f"{where}: no score is called {name!r}{near(name, _scores(item))}")
        if item[name] is None:
            raise UsageError(f"{where}: its {name} is undefined (null)")
        interval = item.get("interval")
        if isinstance(interval, dict):
            interval = interval.get(name)
        elif name != main:
            interval = None
        rows.append(Result(str(item.get("prediction", "")), name, _share(item[name], name, where),
                           _pair(interval, where), item))
    if not rows:
        raise UsageError(f"{where}: neither results of ws-eval --json nor of ws-budget curve")
    return rows


def _scores(item: Mapping[str, Any]) -> list[str]:
    return [k for k, v in item.items() if type(v) is float and 0 <= v <= 1] or ["miou"]


def _share(value: Any, what: str, where: str) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise UsageError(f"{where}: {what} is {value!r}, not a share from 0 to 1")
    return float(value)


def _pair(value: Any, where: str) -> tuple[float, float] | None:
    if value is None or value == [None, None]:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise UsageError(f"{where}: interval is {value!r}, not [low, high]")
    low, high = (_share(v, "interval", where) for v in value)
    if low > high:
        raise UsageError(f"{where}: interval is {value!r}, not [low, high]")
    return low, high


def cost_of(value: Any, where: str) -> tuple[float, dict[str, Part], int | None]:
    """Return (seconds, kind -> labels, classes asked for) from ``ws-budget cost --json``.

    Rows of one kind add up. Raises UsageError for other JSON and for the price list of a data
    set, whose rows are alternatives and no sum.
    """
    try:
        rows = [(str(r["name"]), str(r["supervision"]),
                 [_finite(r[k]) for k in ("images", "classes", "objects", "seconds")],
                 r.get("n_classes")) for r in value["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{where}: not what ws-budget cost --json writes ({error!r})") from None
    if len(rows) > 1 and {name for name, *_ in rows} <= set(ROW_NAMES):
        raise UsageError(f"{where}: a list of alternatives, not one budget: use --mix")
    parts: dict[str, list[float]] = {}
    for _, kind, numbers, _ in rows:
        kind = "counts" if kind == "tags+counts" else kind
        if kind != "none":
            parts[kind] = [a + b for a, b in zip(numbers, parts.get(kind, [0.0] * 4))]
    asked = {n for *_, n in rows}
    n_classes = asked.pop() if len(asked) == 1 else None
    return (math.fsum(numbers[3] for _, _, numbers, _ in rows),
            {kind: Part(*numbers) for kind, numbers in parts.items()},
            n_classes if type(n_classes) is int else None)


def _finite(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def table_runs(text: str, where: str, prices: Prices,
               statistics: Statistics | None) -> list[Run]:
    """Return the runs of a table: CSV, or TSV where its first line has a tab.

    Its first line names the columns: method, score (0 to 1) or percent, and a cost as seconds,
    hours or days, or numbers of images as masks, boxes, tags, ...; where they like also low,
    high, size and run. Raises UsageError that names the line.
    """
    lines = [line for line in text.lstrip("\ufeff").splitlines()
             if line.strip() and not line.startswith("#")]
    try:
        rows = list(csv.reader(io.StringIO("\n".join(lines)),
                               delimiter="\t" if lines and "\t" in lines[0] else ","))
    except csv.Error as error:
        raise UsageError(f"{where}: {error}") from None
    head = [cell.strip() for cell in rows[0]] if rows else []
    for name in head:
        if name not in _COLUMNS:
            raise UsageError(f"{where}: no column is called {name!r}{near(name, _COLUMNS)}")
    if len(set(head)) != len(head):
        raise UsageError(f"{where}: two columns have the same name")
    costs, kinds = [c for c in _COSTS if c in head], [k for k in KINDS if k in head]
    if len({"score", "percent"} & set(head)) != 1 or len(costs) > 1 or not costs + kinds:
        raise UsageError(f"{where}: a table has a first line with the columns method, score or "
                         f"percent, and seconds, hours, days or numbers of {', '.join(KINDS)}")
    if kinds and not costs and statistics is None:
        raise UsageError(f"{where}: numbers of images are priced by --dataset or --statistics")
    runs = []
    for number, cells in enumerate(rows[1:], 2):
        at = f"{where}, line {number} of the table"
        if len(cells) != len(head):
            raise UsageError(f"{at}: {len(cells)} cells under {len(head)} columns")
        cell = {name: text.strip() for name, text in zip(head, cells)}
        runs.append(_table_run(cell, at, costs, kinds, prices, statistics))
    return runs


def _table_run(cell: Mapping[str, str], at: str, costs: list[str], kinds: list[str],
               prices: Prices, statistics: Statistics | None) -> Run:
    def number(name: str, scale: float = 1.0, top: float = math.inf) -> float:
        try:
            value = float(cell[name]) * scale
        except ValueError:
            value = math.nan
        if not 0 <= value <= top or math.isinf(value):
            raise UsageError(f"{at}: {name} is {cell[name]!r}")
        return value

    unit = 1.0 if "score" in cell else 0.01
    interval = None
    if cell.get("low") and cell.get("high"):
        interval = number("low", unit, 1.0), number("high", unit, 1.0)
        if interval[0] > interval[1]:
            raise UsageError(f"{at}: low {cell['low']} is above high {cell['high']}")
    images = {kind: number(kind) for kind in kinds if cell[kind] not in ("", "0")}
    n_classes = None if statistics is None else statistics.n_classes
    if not costs:
        parts = expected_parts(images, statistics, prices)
        seconds = math.fsum(part.seconds for part in parts.values())
    else:
        seconds = number(costs[0], _COSTS[costs[0]])
        if len(images) > 1:
            raise UsageError(f"{at}: one {costs[0]} for {' and '.join(images)}: leave out that "
                             "column, and price them by --dataset or --statistics")
        parts = {kind: Part(n, math.nan, math.nan, seconds) for kind, n in images.items()}
    return Run(cell.get("method") or "result", seconds,
               number("score" if "score" in cell else "percent", unit, 1.0), interval,
               cell.get("size", ""), parts, n_classes, at)
