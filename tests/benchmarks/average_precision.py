"""Our average precision of masks against pycocotools, in one process, one thread.

    python tests/benchmarks/average_precision.py [--images 300] [--rounds 5] [--classes 80]

Draws ellipses as objects and shifted and random ones as detections (5 objects and 30 detections
an image unless told otherwise), with some crowds. Both begin with decoded run-lengths: ours with
what a masks kind holds, pycocotools with its own compressed ones. Prints the CPU time of both
and their ratio, after checking that all values are equal to 1e-9. COCOeval's default computes
four ranges of object size and three numbers of detections; ours does the ranges too; ``one
range`` is all objects and 100 detections in both.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from tests.metrics.usual_precision import coco_files, coco_precision, compressed
from wsseg.metrics.average_precision import AREAS, COCO, average_precision, match
from wsseg.metrics.overlaps import overlaps, run_regions

SIZE = (480, 640)


def ellipse(rng: np.random.Generator) -> tuple[float, ...]:
    """Centre and half axes."""
    return (*(rng.uniform(0, n) for n in SIZE), *rng.uniform(8, 110, 2))


def drawn(shape: tuple[float, ...]) -> np.ndarray:
    y, x, b, a = shape
    v, u = np.ogrid[:SIZE[0], :SIZE[1]]
    return ((v - y) / b) ** 2 + ((u - x) / a) ** 2 <= 1


def runs_of(mask: np.ndarray) -> tuple[int, ...]:
    flat = mask.T.ravel()
    change = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return tuple(np.diff(np.concatenate([[0] * (1 + int(flat[0])), change, [flat.size]])).tolist())


def scenes(rng: np.random.Generator, args: argparse.Namespace) -> list[tuple]:
    """True masks, classes and crowds, and masks, classes and scores of each image."""
    result = []
    for _ in range(args.images):
        true = [ellipse(rng) for _ in range(args.objects)]
        classes = rng.integers(0, args.classes, len(true))
        found, found_classes = [], []
        for n in range(args.detections):
            i = n % max(1, 2 * len(true))
            near = i < len(true)
            shape = np.array(true[i] if near else ellipse(rng))
            found.append(tuple(shape + rng.normal(0, 6, 4) * near))
            found_classes.append(classes[i] if near else rng.integers(0, args.classes))
        result.append(([drawn(s) for s in true], classes, rng.random(len(true)) < .05,
                       [drawn(s) for s in found], np.array(found_classes),
                       np.round(rng.random(len(found)), 3)))
    return result


def ours(images: list[tuple], n_classes: int, sizes: bool = False) -> np.ndarray:
    found = [overlaps(run_regions(SIZE, t, tc, crowd=k), run_regions(SIZE, p, pc, s))
             for t, tc, k, p, pc, s in images]
    for within in AREAS.values() if sizes else ():
        average_precision(match(found, n_classes, COCO, within=within))
    return average_precision(match(found, n_classes, COCO))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--detections", type=int, default=30)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    drawn_scenes = scenes(np.random.default_rng(0), args)
    runs = [([runs_of(m) for m in t], tc, k, [runs_of(m) for m in p], pc, s)
            for t, tc, k, p, pc, s in drawn_scenes]
    files = coco_files([([compressed(m) for m in t], tc, k, [compressed(m) for m in p], pc, s)
                        for t, tc, k, p, pc, s in drawn_scenes])
    del drawn_scenes
    rivals = {"pycocotools": lambda: coco_precision(*files, args.classes),
              "pycocotools, one range": lambda: coco_precision(*files, args.classes,
                                                               all_areas=False),
              "wsseg": lambda: ours(runs, args.classes, True),
              "wsseg, one range": lambda: ours(runs, args.classes)}
    expected, found = rivals["pycocotools"](), rivals["wsseg"]()
    np.testing.assert_allclose(found, expected, atol=1e-9)
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(args.rounds):
        for name, work in rivals.items():
            start = time.process_time()
            work()
            times[name].append(1e3 * (time.process_time() - start))
    print(f"{args.images} images, {args.objects} objects and {args.detections} detections each, "
          f"{args.classes} classes, mean AP {100 * np.nanmean(found):.2f} in both; CPU time, "
          f"medians of {args.rounds}, load {os.getloadavg()[0]:.1f}")
    best = {name: float(np.median(t)) for name, t in times.items()}
    for name, value in best.items():
        like = "wsseg, one range" if name.endswith("one range") else "wsseg"
        print(f"{name:24} {value:8.1f} ms   {value / best[like]:5.1f}x")


if __name__ == "__main__":
    main()
