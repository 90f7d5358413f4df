"""Print a paper's figures beside ours, and whether the orderings that it reports hold.

    python check.py expected.json TABLE SCORES.json [TABLE SCORES.json ...]

SCORES.json is what `ws-eval --bootstrap --json` says of predictions named ROW-SEED.tar.
expected.json: {TABLE: {"title": text, "rows": {ROW: mIoU in percent, or null where the paper has
none}, "orderings": [[better, worse, what that says], ...]}}.

An ordering holds where the 95 % interval of the paired difference (resampled images) lies above 0
for every seed, and does not hold where it lies below 0 for every seed; else nobody can tell yet.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

Differences = dict[tuple[str, str], tuple[float, float, float]]


def named(path: str) -> tuple[str, str]:
    """build/mini/em-fixed-0.tar -> em-fixed, 0."""
    match = re.fullmatch(r"(.+)-([^-]+)\.tar", Path(path).name)
    if match is None:
        raise SystemExit(f"{path} is not named ROW-SEED.tar")
    return match[1], match[2]


def read(path: str) -> tuple[dict[str, dict[str, dict[str, Any]]], Differences]:
    """Return row -> seed -> scores, and (path, path) -> difference and its interval."""
    found = json.loads(Path(path).read_text())
    rows: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for result in found.get("results", [found]):
        row, seed = named(result["prediction"])
        rows[row][seed] = result
    differences: Differences = {}
    for entry in found.get("differences", []):
        low, high = entry["interval"]
        differences[entry["one"], entry["other"]] = entry["difference"], low, high
        differences[entry["other"], entry["one"]] = -entry["difference"], -high, -low
    return rows, differences


def verdict(seeds: list[tuple[float, float, float]]) -> str:
    """Of the differences of all seeds, better minus worse, each with its interval."""
    if not seeds:
        return "not run"
    if all(low > 0 for _, low, _ in seeds):
        return "holds"
    return "does not hold" if all(high < 0 for _, _, high in seeds) else "cannot tell"


def report(title: str, expected: dict[str, Any], path: str) -> list[str]:
    """Return the lines of one table."""
    rows, differences = read(path)
    lines = ["", title, f"{'row':24} {'paper':>7} {'ours':>7}   interval"]
    paper = expected["rows"]
    for row in [*(r for r in paper if r in rows), *(r for r in rows if r not in paper)]:
        scores = [100 * result["miou"] for result in rows[row].values()]
        low, high = (100 * fmean(r["interval"]["miou"][i] for r in rows[row].values())
                     for i in (0, 1))
        theirs = "-" if paper.get(row) is None else f"{paper[row]:.1f}"
        line = f"{row:24} {theirs:>7} {fmean(scores):7.1f}   {low:.1f} to {high:.1f}"
        if len(scores) > 1:
            line += f"   deviation {stdev(scores):.2f} of {len(scores)} seeds"
        lines.append(line)
    for better, worse, says in expected["orderings"]:
        both = sorted(set(rows[better]) & set(rows[worse])) if {better, worse} <= set(rows) else []
        seeds = [differences[rows[better][s]["prediction"], rows[worse][s]["prediction"]]
                 for s in both]
        shown = ", ".join(f"{100 * d:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
                          for d, low, high in seeds)
        lines.append(f"{verdict(seeds):14} {says}: {better} - {worse} {shown}".rstrip())
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
