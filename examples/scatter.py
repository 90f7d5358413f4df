"""Set one score against another, as points in a text table and in an SVG.

    python scatter.py rows X.json Y.json [Y.json ...] [--plot FILE.svg]
    python scatter.py photos X.tsv Y.tsv [Y.tsv ...] [--plot FILE.svg]

rows: X and Y are what `ws-eval --json` says of predictions named ROW-SEED.tar; a point is a row,
the mean of its seeds, and the line through them is told: how much X buys one point of Y (figure 2
of scribbles-2019). photos: X and Y are what `ws-eval --per-image` writes; a point is a photo, and
how many lie above the diagonal is told (figure 3).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from statistics import fmean, linear_regression

from check import read

Points = dict[str, tuple[float, float]]


def of_rows(x: str, y: str) -> Points:
    """Return row -> mIoU in percent in both files."""
    ours, theirs = (read(path)[0] for path in (x, y))
    return {row: tuple(100 * fmean(r["miou"] for r in found[row].values())
                       for found in (ours, theirs)) for row in ours if row in theirs}


def of_photos(x: str, y: str) -> Points:
    """Return key -> pixel accuracy in percent in both files."""
    ours, theirs = (_accuracies(path) for path in (x, y))
    return {key: (ours[key], theirs[key]) for key in ours if key in theirs}


def _accuracies(path: str) -> dict[str, float]:
    with open(path, encoding="utf-8", newline="") as file:
        return {row["key"]: 100 * float(row["pixel_accuracy"])
                for row in csv.DictReader(file, delimiter="\t") if row["pixel_accuracy"]}


def told_of_rows(points: Points) -> list[str]:
    lines = [f"{row:24} {x:7.1f} {y:7.1f}" for row, (x, y) in points.items()]
    xs, ys = zip(*points.values()) if points else ((), ())
    if len(set(xs)) > 1:
        slope = linear_regression(xs, ys).slope
        lines.append(f"one point of y for {1 / slope:.1f} points of x" if slope > 0 else
                     f"y does not rise with x (slope {slope:.2f})")
    return lines


def told_of_photos(points: Points) -> list[str]:
    above = sum(y > x for x, y in points.values())
    below = sum(y < x for x, y in points.values())
    return [f"{len(points)} photos: y is higher in {above}, x in {below}"]


def draw(panels: list[tuple[str, str, Points]], path: str) -> None:
    """Write an SVG: a square for each pair, from the least value to 100, with its diagonal."""
    side, gap = 360, 60
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{len(panels) * (side + gap) + gap}" '
             f'height="{side + 2 * gap}" font-family="sans-serif" font-size="12">']
    for number, (x_name, y_name, points) in enumerate(panels):
        left = gap + number * (side + gap)
        low = min((v for p in points.values() for v in p), default=0) // 10 * 10
        scale = side / (100 - low) if low < 100 else 1
        at = [(left + (x - low) * scale, gap + side - (y - low) * scale)
              for x, y in points.values()]
        parts.append(f'<rect x="{left}" y="{gap}" width="{side}" height="{side}" fill="none" '
                     f'stroke="#888"/><path d="M{left} {gap + side}L{left + side} {gap}" '
                     f'stroke="#bbb"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#1f77b4" fill-opacity=".5">'
                  f'<title>{name}</title></circle>' for name, (x, y) in zip(points, at)]
        parts.append(f'<text x="{left}" y="{gap + side + 20}">{low:.0f} to 100: {x_name}</text>'
                     f'<text x="{left}" y="{gap - 10}">{y_name}</text>')
    Path(path).write_text("\n".join([*parts, "</svg>\n"]), encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Print every pair, and draw them."""
    plot = None
    if "--plot" in arguments:
        where = arguments.index("--plot")
        plot = arguments[where + 1]
        arguments = arguments[:where] + arguments[where + 2:]
    if len(arguments) < 3 or arguments[0] not in ("rows", "photos"):
        raise SystemExit(__doc__)
    pairs, told = ((of_rows, told_of_rows) if arguments[0] == "rows" else
                   (of_photos, told_of_photos))
    panels = []
    for path in arguments[2:]:
        points = pairs(arguments[1], path)
        names = [Path(p).name.split(".")[0] for p in (arguments[1], path)]
        print("\n".join(["", f"x: {names[0]}   y: {names[1]}", *told(points)]))
        panels.append((*names, points))
    if plot:
        draw(panels, plot)


if __name__ == "__main__":
    main(sys.argv[1:])
