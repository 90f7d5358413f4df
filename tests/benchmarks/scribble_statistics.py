"""What simulated scribbles are like on VOC, against what is published of ScribbleSup's.

    python tests/benchmarks/scribble_statistics.py FOLDER [--split val] [--limit N] [--seed N]
        [--side PIXELS] [--sloppy SHARE] [--strokes N] [--coverage SHARE] [--sheet PICTURE.png]

FOLDER is a VOC2012 tree. Objects are connected components of 16 pixels and more, as ws-weaken has
them. --side enlarges the masks (nearest pixel) until their longer side is that: ScribbleSup's are
of 500. --sheet also runs ws-weaken and ws-view, for a look at the first 24. Published figures are
those found in the five papers and in the notes on public code; others are marked as not found.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from wsseg.annotate.objects import connected_objects  # noqa: E402
from wsseg.annotate.scribble import NOT_DRAWN, draw_scribbles, plan_scribbles  # noqa: E402
from wsseg.cli._weaken import draw  # noqa: E402

SIZES = ((0, .01), (.01, .05), (.05, .2), (.2, 1.01))  # of an object, as shares of the image


@dataclass
class Tally:
    """What is counted; lists have one entry per image, object, class of an image or stroke."""

    drawn: list[float] = field(default_factory=list)
    of_image: list[float] = field(default_factory=list)
    of_class: list[float] = field(default_factory=list)
    objects: list[tuple[float, int, bool]] = field(default_factory=list)
    grounds: list[int] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    relative: list[float] = field(default_factory=list)
    complete: list[bool] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)
    confusion: np.ndarray = field(default_factory=lambda: np.zeros((21, 21), np.int64))

    def add(self, label: np.ndarray, number: int, pen: dict) -> None:
        ids, classes = connected_objects(label, min_area=16)
        start = time.process_time()
        drawn = draw_scribbles(label, ids, classes, np.random.default_rng([number, 1]), **pen)
        self.ms.append(1e3 * (time.process_time() - start))
        plan = plan_scribbles(label, ids, classes, np.random.default_rng([number, 1]), **pen)
        on = drawn != NOT_DRAWN
        self.drawn.append(on.mean())
        known = on & (label != 255)
        np.add.at(self.confusion, (label[known], drawn[known]), 1)
        present = set(np.unique(label)) - {255}
        self.complete.append(present <= set(np.unique(drawn[on])))
        for cls in present:
            self.of_image.append((drawn == cls).mean())
            self.of_class.append((on & (label == cls)).sum() / (label == cls).sum())
        areas = np.bincount(ids.ravel(), minlength=len(classes) + 1)
        areas[0] = (label == 0).sum()
        counts = np.bincount([s.number for s in plan], minlength=len(areas))
        right = np.bincount(ids[on & (drawn == label)], minlength=len(areas))
        self.objects += [(a / label.size, int(c), bool(r))
                         for a, c, r in zip(areas[1:], counts[1:], right[1:])]
        self.grounds += [int(counts[0])] if areas[0] else []
        self.lengths += [s.length() for s in plan]
        self.relative += [s.length() / areas[s.number] ** .5 for s in plan]

    def accuracy(self) -> tuple[float, float]:
        """Share of drawn pixels that are right, and their mean IoU; void does not count."""
        hits = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hits
        return hits.sum() / self.confusion.sum(), float((hits[union > 0] / union[union > 0]).mean())


def spread(values: list[float], form: str) -> str:
    """The mean, and the 5th, 25th, 50th, 75th and 95th percentile."""
    points = np.quantile(values, [.05, .25, .5, .75, .95])
    return f"{np.mean(values):{form}} ({' '.join(format(p, form) for p in points)})"


def show(tally: Tally, sloppy: float) -> None:
    none = "not found"
    right, iou = tally.accuracy()
    areas, counts, touched = map(np.array, zip(*tally.objects))
    rows = [
        ("pixels drawn", spread(tally.drawn, ".2%"), "about 3 %, 3 px wide (details.md A4: rloss)"),
        ("... per class, of the image", f"{np.mean(tally.of_image):.2%}",
         "1.6 % \"of pixels annotated on average per class\""),
        ("... per class, of its pixels", f"{np.mean(tally.of_class):.2%}",
         "(scribbles-2019 3.2; of which pixels is not said)"),
        ("images with all classes drawn", f"{np.mean(tally.complete):.1%}",
         f"{10489 / 10582:.1%}: 10489 of 10582 (scribbles-2019 2.2)"),
        ("objects touched", f"{touched.mean():.1%} of {len(areas)}", none),
        (f"drawn pixels right (--sloppy {sloppy:g})", f"{right:.1%}", none),
        ("... as mean IoU", f"{100 * iou:.1f}",
         "95.4 original, 100 curated (scribbles-2019 Table 1: mIoU)"),
        ("strokes per object", f"{counts.mean():.2f}", none)]
    for low, high in SIZES:
        part = (areas >= low) & (areas < high)
        if part.any():
            rows.append((f"... of {low:.0%} to {min(high, 1):.0%} of the image",
                         f"{counts[part].mean():.2f} of {part.sum()}", none))
    rows += [("strokes in the background", spread(tally.grounds, ".1f"), none),
             ("length of a stroke, pixels", spread(tally.lengths, ".0f"), none),
             ("... over the root of its area", spread(tally.relative, ".2f"), none),
             ("CPU ms per image", spread(tally.ms, ".1f"), "")]
    print(f"{'mean (5th 25th 50th 75th 95th percentile)':34} {'simulated':48} published")
    for name, ours, theirs in rows:
        print(f"{name:34} {ours:48} {theirs}")


def sheet(root: Path, split: Path, out: str, words: list[str]) -> None:
    """Run the tools, for a look at the first 24."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text("\n".join(split.read_text().split()[:24]))
        run = [sys.executable, "-m"]
        subprocess.run([*run, "wsseg.cli.weaken", root / "SegmentationClass", "--classes", "voc",
                        "--keys", keys, "--scribbles", *words, "-o", f"{folder}/s"],
                       check=True, cwd=ROOT)
        subprocess.run([*run, "wsseg.cli.view", f"{folder}/s", "--images", root / "JPEGImages",
                        "--overwrite", "-o", Path(out).resolve()], check=True, cwd=ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", type=int)
    parser.add_argument("--sloppy", type=float, default=0.)
    parser.add_argument("--strokes", type=int)
    parser.add_argument("--coverage", type=float, default=.03)
    parser.add_argument("--sheet")
    o = parser.parse_args()
    root = o.folder.resolve()
    split = root / "ImageSets" / "Segmentation" / f"{o.split}.txt"
    pen = {"sloppy": o.sloppy, "strokes": o.strokes, "coverage": o.coverage}
    tally = Tally()
    for key in split.read_text().split()[:o.limit]:
        label = np.array(Image.open(root / "SegmentationClass" / f"{key}.png"))
        if o.side:
            scale = o.side / max(label.shape)
            size = tuple(round(n * scale) for n in label.shape[::-1])
            label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
        tally.add(label, draw(o.seed, key), pen)
    show(tally, o.sloppy)
    if o.sheet:
        words = [f"--{k}={v}" for k, v in (*pen.items(), ("seed", o.seed)) if v is not None]
        sheet(root, split, o.sheet, words)


if __name__ == "__main__":
    main()
