"""Print a paper's figures beside ours, and whether the orderings that it reports hold.

    python check.py expected.json TABLE SCORES.json [TABLE SCORES.json ...]

SCORES.json is what `ws-eval --bootstrap --json` says of predictions named ROW-SEED.tar, by any of
its metrics; - for the paper's figures alone, where scores come from a server.
expected.json: {TABLE: {"title": text, "rows": {ROW: score in percent, or null where the paper has
none}, "orderings": [[better, worse, what that says], ...]}}, and what a table may have besides:
"others": {NAME: score}, figures of others that the paper prints; "gap": [full, baseline], rows
that the remaining gap and its reduction are computed from, or {ROW: [full, baseline]}; "classes":
{ROW: {CLASS: score}}; "at": {NAME: {ROW: score}}, what else a result says by that name; "parts":
{NAME: {"classes": [CLASS], "rows": {ROW: score}}}, means over some classes; "share": [row, full],
of which the one is so many percent of the other.

An ordering holds where the 95 % interval of the paired difference lies above 0 for every seed
(resampled images), or that of the mean over seeds does (images and seeds); and does not hold where
either lies below 0. Else nobody can tell yet.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

Rows = dict[str, dict[str, dict[str, Any]]]
Differences = dict[tuple[str, str], tuple[float, float, float]]


def named(path: str) -> tuple[str, str]:
    """build/mini/em-fixed-0.tar -> em-fixed, 0."""
    match = re.fullmatch(r"(.+)-([^-]+)\.tar", Path(path).name)
    if match is None:
        raise SystemExit(f"{path} is not named ROW-SEED.tar")
    return match[1], match[2]


def read(path: str) -> tuple[Rows, Differences]:
    """Return row -> seed -> scores, and (path, path) -> difference and its interval."""
    if path == "-":
        return {}, {}
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} is no result of ws-eval --json ({error}): delete it, and make it "
                         "again") from None
    rows: Rows = defaultdict(dict)
    for result in found.get("results", [found]):
        row, seed = named(result["prediction"])
        rows[row][seed] = result
    differences: Differences = {}
    main = found.get("results", [found])[0].get("metric", "miou")
    for entry in found.get("differences", []):
        if entry.get("score", main) != main:
            continue
        low, high = entry["interval"]
        differences[entry["one"], entry["other"]] = entry["difference"], low, high
        differences[entry["other"], entry["one"]] = -entry["difference"], -high, -low
    return rows, differences


def score(result: dict[str, Any]) -> float:
    """The score that a result is about, in percent."""
    return 100 * result[result.get("metric", "miou")]


def together(seeds: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The mean of several seeds' differences, each with its interval, and its own interval.

    All seeds are judged by the same images, so that their intervals' widths are averaged and do not
    shrink. What seeds differ by is added in squares, each with its own quantile: this covers the
    truth at least as often as it says, where joint degrees of freedom (Satterthwaite) do not for
    two or three seeds.
    """
    if len(seeds) == 1:
        return seeds[0]
    mean = fmean(d for d, _, _ in seeds)
    of_seeds = stdev(d for d, _, _ in seeds) * student(len(seeds) - 1) / math.sqrt(len(seeds))
    below, above = (math.hypot(of_seeds, fmean(s[side] - s[0] for s in seeds)) for side in (1, 2))
    return mean, mean - below, mean + above


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; of more than 9 degrees of freedom that of 9."""
    return (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)[min(freedom, 9) - 1]


def verdict(seeds: list[tuple[float, float, float]]) -> str:
    """Of the differences of all seeds, better minus worse, each with its interval."""
    if not seeds:
        return "not run"
    _, low, high = together(seeds)
    low, high = max(low, min(s[1] for s in seeds)), min(high, max(s[2] for s in seeds))
    return "holds" if low > 0 else "does not hold" if high < 0 else "cannot tell"


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def interval(difference: tuple[float, float, float]) -> str:
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * value for value in difference))


def gap(full: float | None, baseline: float | None, value: float | None) -> str:
    """The gap to full that remains, and how much less it is than the baseline's if there is one."""
    if full is None or baseline is None or value is None or full == baseline:
        return "-"
    whole = full - baseline
    less = "no gap" if whole < 0 else f"{100 * (value - baseline) / whole:+.0f} %"
    return f"{full - value:.1f} ({less})"


def report(title: str, expected: dict[str, Any], path: str) -> list[str]:
    """Return the lines of one table."""
    rows, differences = read(path)
    paper, ends = expected["rows"], expected.get("gap", {})
    means = {row: fmean(map(score, seeds.values())) for row, seeds in rows.items()}
    if isinstance(ends, list):
        ends = {row: ends for row in (*paper, *rows) if row not in ends}
    counts = sorted({r["records"] for seeds in rows.values() for r in seeds.values()
                     if "records" in r})
    lines = ["", title, f"{'row':24} {'paper':>7} {'ours':>7}   interval"
             + (f" ({' or '.join(f'{n:,}' for n in counts)} images)" if counts else "")]
    for row in [*(r for r in paper if r in rows or paper[r] is not None),
                *(r for r in rows if r not in paper)]:
        line = f"{row:24} {shown(paper.get(row)):>7} {shown(means.get(row)):>7}"
        if row in rows:
            results = rows[row].values()
            low, high = (100 * fmean(r["interval"][r.get("metric", "miou")][i] for r in results)
                         for i in (0, 1))
            line += f"   {low:.1f} to {high:.1f}"
            if len(results) > 1:
                line += (f"   deviation {stdev(map(score, results)):.2f} of {len(results)} seeds")
        if row in ends:
            theirs, ours = (gap(*(m.get(r) for r in (*ends[row], row))) for m in (paper, means))
            line += f"   gap {theirs}, ours {ours}"
        lines.append(line)
    lines += [f"{name:24} {value:7.1f}       -   of others"
              for name, value in expected.get("others", {}).items()]
    lines += part_lines(expected, rows, means)
    for row, classes in expected.get("classes", {}).items():
        lines += by_class(row, classes, rows.get(row, {}))
    for better, worse, says in expected["orderings"]:
        if rows and not {better, worse} <= set(rows):
            continue  # of a size that was not tried
        both = sorted(set(rows.get(better, ())) & set(rows.get(worse, ())),
                      key=lambda seed: (len(seed), seed))
        seeds = [differences[rows[better][s]["prediction"], rows[worse][s]["prediction"]]
                 for s in both]
        told = ", ".join(map(interval, seeds))
        if both and len(both) < max(len(rows.get(row, ())) for row in (better, worse)):
            told += f" (of seed {', '.join(both)} alone)"
        mean = f"; mean {interval(together(seeds))}" if len(seeds) > 1 else ""
        lines.append(f"{verdict(seeds):14} {says}: {better} - {worse} {told}{mean}".rstrip())
    return lines


def by_class(row: str, classes: dict[str, float], seeds: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each class of one row: the paper's score and ours, over all seeds."""
    ours: dict[str, list[float]] = defaultdict(list)
    for result in seeds.values():
        for entry in result["classes"]:
            if entry.get("iou") is not None:
                ours[entry["class"]].append(100 * entry["iou"])
    means = {name: fmean(values) for name, values in ours.items()}
    return [f"{row:24} {value:7.1f} {shown(means.get(name)):>7}   {name}"
            for name, value in classes.items()]


def part_lines(expected: dict[str, Any], rows: Rows, means: dict[str, float]) -> list[str]:
    """Return a line for each row and further score, and what share of full a row reaches."""
    lines, tables = [], {"all": (expected["rows"], means)}
    for name, paper in expected.get("at", {}).items():
        found = {row: [r[name] for r in seeds.values() if r.get(name) is not None]
                 for row, seeds in rows.items()}
        tables[name] = paper, {row: 100 * fmean(values) for row, values in found.items() if values}
    for name, part in expected.get("parts", {}).items():
        ours: dict[str, float] = {}
        for row, seeds in rows.items():
            found = [entry.get(result.get("metric", "iou")) for result in seeds.values()
                     for entry in result["classes"] if entry["class"] in part["classes"]]
            if any(value is not None for value in found):
                ours[row] = 100 * fmean(value for value in found if value is not None)
        tables[name] = part["rows"], ours
    lines += [f"{row:24} {shown(paper.get(row)):>7} {shown(ours.get(row)):>7}   {name}"
              for name, (paper, ours) in tables.items() if name != "all"
              for row in (*paper, *(row for row in ours if row not in paper))
              if row in ours or paper[row] is not None]
    if share := expected.get("share"):
        for name, (paper, ours) in tables.items():
            theirs, mine = (100 * m[share[0]] / m[share[1]] if all(map(m.get, share)) else None
                            for m in (paper, ours))
            lines.append(f"{' / '.join(share):24} {shown(theirs):>7} {shown(mine):>7}   % {name}")
    return lines


def main(arguments: list[str]) -> None:
    """Print every table named."""
    if len(arguments) < 3 or len(arguments) % 2 == 0:
        raise SystemExit(__doc__)
    expected = json.loads(Path(arguments[0]).read_text())
    for table, path in zip(arguments[1::2], arguments[2::2]):
        print("\n".join(report(expected[table]["title"], expected[table], path)))


if __name__ == "__main__":
    main(sys.argv[1:])
