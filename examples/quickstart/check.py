"""Check the hand-drawn annotations of the quickstart against each other.

Usage: ``python check.py`` exits 0 if all is well, or 1 after one line per problem.
Needs numpy and Pillow; the photos themselves are not read.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
BOX_TOLERANCE = 3
STROKE_WIDTH = 3


def flat(points: list[list[float]]) -> list[tuple[float, float]]:
    """Points as Pillow takes them."""
    return [(x, y) for x, y in points]


def outside(shape: dict[str, Any], size: tuple[int, int]) -> bool:
    """Whether a point of the shape is not in the picture."""
    return any(not (0 <= x < size[0] and 0 <= y < size[1]) for x, y in shape["points"])


def check(key: str, classes: list[str]) -> list[str]:
    """The problems of one photo's annotations."""
    weak, reference = (
        json.loads((HERE / folder / f"{key}.json").read_text("utf-8"))
        for folder in ("weak", "reference")
    )
    problems: list[str] = []
    size = (reference["imageWidth"], reference["imageHeight"])
    if size != (weak["imageWidth"], weak["imageHeight"]):
        problems.append("weak and reference differ in image size")
    values = {"background": 0, **{name: i for i, name in enumerate(classes)}, "ignore": 255}
    labels, groups = Image.new("L", size), Image.new("L", size)
    for shape in reference["shapes"]:
        ImageDraw.Draw(labels).polygon(flat(shape["points"]), fill=values[shape["label"]])
        ImageDraw.Draw(groups).polygon(flat(shape["points"]), fill=shape["group_id"] or 0)
    truth, instance = np.asarray(labels), np.asarray(groups)
    objects = {s["group_id"]: s["label"] for s in reference["shapes"] if s["label"] in classes[1:]}
    wanted = {name: name in objects.values() for name in classes[1:]}
    if weak["flags"] != wanted:
        problems.append(f"image tags {weak['flags']} are not {wanted}")
    boxes: list[tuple[str, np.ndarray]] = []
    for number, shape in enumerate([*weak["shapes"], *reference["shapes"]]):
        if outside(shape, size):
            problems.append(f"shape {number} ({shape['label']}) leaves the picture")
        if shape["shape_type"] == "rectangle":
            boxes.append((shape["label"], np.sort(np.array(shape["points"]), axis=0).ravel()))
        if shape["shape_type"] == "point" and not outside(shape, size):
            x, y = (int(v) for v in shape["points"][0])
            if truth[y, x] != values[shape["label"]]:
                problems.append(f"point {number} is not on its {shape['label']}")
        if shape["shape_type"] == "linestrip":
            stroke = Image.new("1", size)
            ImageDraw.Draw(stroke).line(flat(shape["points"]), fill=1, width=STROKE_WIDTH)
            if np.any(truth[np.asarray(stroke)] != values[shape["label"]]):
                problems.append(f"stroke {number} leaves its {shape['label']} region")
    for group, name in objects.items():
        ys, xs = np.nonzero((instance == group) & (truth == values[name]))
        tight = np.array([xs.min(), ys.min(), xs.max(), ys.max()])
        if not any(n == name and abs(b - tight).max() <= BOX_TOLERANCE for n, b in boxes):
            problems.append(f"no {name} box within {BOX_TOLERANCE} px of {tight.tolist()}")
    if len(boxes) != len(objects):
        problems.append(f"{len(boxes)} boxes for {len(objects)} objects")
    return [f"{key}: {problem}" for problem in problems]


if __name__ == "__main__":
    names = (HERE / "classes.txt").read_text("utf-8").split()
    found = [p for path in sorted(HERE.glob("weak/*.json")) for p in check(path.stem, names)]
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(1 if found else 0)
