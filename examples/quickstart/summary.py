"""Put scores, seconds and prices of the quickstart side by side.

Usage: ``python summary.py BUILD KIND... [boxes=METHOD]`` reads BUILD/KIND/scores.json (of
ws-eval), BUILD/KIND/seconds.txt and BUILD/cost.json (of ws-budget), writes BUILD/summary.json,
which ws-view shows in a report, and prints the table. Needs the standard library only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HOW = {"points": "ws-rfpam | ws-crf --method potts",
       "scribbles": "ws-rfpam | ws-crf --method potts",
       "boxes": "ws-boxfill --method {} | ws-crf"}


def rows(build: Path, kinds: list[str], boxes: str) -> list[dict[str, Any]]:
    """One row for each kind of weak label, cheapest first, and one for masks drawn by hand."""
    priced = json.loads((build / "cost.json").read_text("utf-8"))["rows"]
    made = []
    for kind, price in zip(kinds, priced):
        score = json.loads((build / kind / "scores.json").read_text("utf-8"))
        seconds = float((build / kind / "seconds.txt").read_text("utf-8"))
        made.append({"weak labels": kind, "how": HOW[kind].format(boxes),
                     "mIoU": round(100 * score["miou"], 1),
                     "computing, s an image": round(seconds / score["records"], 2),
                     "annotating, s an image": round(price["seconds_per_image"], 1)})
    made.sort(key=lambda row: row["annotating, s an image"])
    made.append({"weak labels": "(none)", "how": "masks drawn by hand", "mIoU": None,
                 "computing, s an image": None,
                 "annotating, s an image": round(priced[len(kinds)]["seconds_per_image"], 1)})
    return made


def table(found: list[dict[str, Any]]) -> str:
    """The rows as text: names to the left, numbers to the right."""
    head = list(found[0])
    cells = [head, *([("" if row[name] is None else str(row[name])) for name in head]
                     for row in found)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths))).rstrip()
                     for line in cells)


def main(arguments: list[str]) -> int:
    """Write the summary; 2 on wrong usage."""
    words = [a for a in arguments if "=" not in a]
    options = dict(a.split("=", 1) for a in arguments if "=" in a)
    if len(words) < 2 or not set(words[1:]) <= set(HOW) or set(options) - {"boxes"}:
        print("usage: python summary.py BUILD KIND... [boxes=METHOD]", file=sys.stderr)
        return 2
    build = Path(words[0])
    found = rows(build, words[1:], options.get("boxes", "grabcut"))
    bars = [{"class": row["weak labels"], "iou": row["mIoU"] / 100}
            for row in found if row["mIoU"] is not None]
    (build / "summary.json").write_text(json.dumps({"classes": bars, "rows": found}, indent=1),
                                        "utf-8")
    print(table(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
