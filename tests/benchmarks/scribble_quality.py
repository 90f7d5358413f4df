"""How good labels from scribbles are: ws-rfpam, with and without Potts, and a random walker.

    python tests/benchmarks/scribble_quality.py VOC_FOLDER [--count 60] [--split val]
        [--features classical ...] [--forest extra random] [--jobs 2] [--no-position]

Scribbles are simulated from the masks as ws-weaken does it. All methods see the same scribbles;
mIoU is over all pixels that are not void, of the summed confusion matrix. The random walker is
scikit-image's with its defaults (beta 130, Jacobi-preconditioned conjugate gradients). Tune on
--split train only.
"""

from __future__ import annotations

import argparse
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
from PIL import Image

from wsseg.annotate import forest
from wsseg.annotate.objects import connected_objects
from wsseg.annotate.scribble import draw_scribbles
from wsseg.cli import _rfpam
from wsseg.cli._weaken import draw
from wsseg.refine.potts import PRESETS, potts

CLASSES = 21


def confusion(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    known = truth != 255
    return np.bincount(CLASSES * truth[known].astype(int) + found[known],
                       minlength=CLASSES ** 2).reshape(CLASSES, CLASSES)


def miou(matrix: np.ndarray) -> float:
    both = np.diag(matrix)
    either = matrix.sum(0) + matrix.sum(1) - both
    return 100 * float((both[either > 0] / either[either > 0]).mean())


def walker(image: np.ndarray, scribble: np.ndarray) -> np.ndarray:
    from skimage.segmentation import random_walker

    classes = np.unique(scribble[scribble != 255])
    if len(classes) == 1:
        return np.full(scribble.shape, classes[0])
    seeds = np.zeros(scribble.shape, int)
    for i, cls in enumerate(classes):
        seeds[scribble == cls] = i + 1
    return classes[random_walker(image, seeds, channel_axis=-1) - 1]


def one(key: str, folder: Path, variants: list[tuple], with_walker: bool) -> dict:
    """Confusion matrix and seconds of every method on one photo."""
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    image = np.array(Image.open(folder / "JPEGImages" / f"{key}.jpg").convert("RGB"))
    truth = np.array(Image.open(folder / "SegmentationClass" / f"{key}.png"))
    ids, classes = connected_objects(truth, background=0, min_area=16)
    scribble = draw_scribbles(truth, ids, classes, np.random.default_rng([draw(0, key), 1]))
    result = {"drawn": float((scribble != 255).mean())}
    for name, settings in variants:
        begin = time.perf_counter()
        planes = _rfpam.compute(image, settings)
        found, prob = forest.annotate(planes, scribble, settings.forest)
        middle = time.perf_counter()
        mask = potts(prob, image, probabilities=True, **PRESETS["scribbles-potts"]).mask
        end = time.perf_counter()
        result[name] = confusion(truth, found[prob.argmax(0)]), middle - begin
        result[f"{name} + potts"] = confusion(truth, found[mask.argmax(0)]), end - begin
    if with_walker:
        begin = time.perf_counter()
        label = walker(image, scribble)
        result["random walker"] = confusion(truth, label), time.perf_counter() - begin
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--split", default="val")
    parser.add_argument("--features", nargs="*", default=["classical"])
    parser.add_argument("--forest", nargs="*", default=["extra", "random"])
    parser.add_argument("--min-leaf", type=int, default=1)
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--no-position", action="store_true")
    parser.add_argument("--no-walker", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    keys = (args.folder / "ImageSets" / "Segmentation" / f"{args.split}.txt").read_text().split()
    keys = keys[::max(1, len(keys) // args.count)][:args.count]
    variants = []
    for text in args.features:
        classical, stems, _ = _rfpam.load_features(text)
        for kind in args.forest:
            options = forest.ForestOptions(args.trees, kind=kind, min_leaf=args.min_leaf)
            variants.append((f"{text}, {kind}", SimpleNamespace(
                classical=classical, stems=stems, position=not args.no_position, forest=options)))
    work = partial(one, folder=args.folder, variants=variants, with_walker=not args.no_walker)
    with ProcessPoolExecutor(args.jobs) as pool:
        found = list(pool.map(work, keys))
    print(f"{len(keys)} photos of {args.split}, {100 * np.mean([f['drawn'] for f in found]):.2f} % "
          "of the pixels scribbled")
    for name in [name for name in found[0] if name != "drawn"]:
        print(f"{name:30} mIoU {miou(sum(f[name][0] for f in found)):.1f}   median "
              f"{np.median([f[name][1] for f in found]):.2f} s a photo")


if __name__ == "__main__":
    main()
