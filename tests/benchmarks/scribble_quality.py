"""How good labels from scribbles are: ws-rfpam alone, with Potts, with a dense CRF; random walkers.

    python tests/benchmarks/scribble_quality.py VOC_FOLDER [--count 60] [--split val]
        [--features classical ...] [--forest extra random] [--betas 130 1000] [--jobs 2]

Scribbles are simulated from the masks as ws-weaken does it, with seed 0. All methods see the same
ones, on one thread. mIoU is over all pixels that are not void, of the summed confusion matrix;
accuracy is the share of these that is right, and the objects' precision the share that is right of
those labelled as an object. Refinement has the parameters of scribbles-2019 (lambda 10, eta .01;
3, 30, 5, 5, 2). The random walker is scikit-image's with Jacobi-preconditioned conjugate gradients,
its default; beta is 130 by default; 1000 was the best of 10, 30, 130, 1000, 4000, 15000 on 15
photos of the train split. The photos are the first of a fixed random order; a table is printed
after every 25. Tune on --split train only.
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
from wsseg.refine.densecrf import PRESETS as DENSE
from wsseg.refine.densecrf import dense_crf
from wsseg.refine.potts import PRESETS, potts

CLASSES = 21


def confusion(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    known = truth != 255
    return np.bincount(CLASSES * truth[known].astype(int) + found[known],
                       minlength=CLASSES ** 2).reshape(CLASSES, CLASSES)


def scores(matrix: np.ndarray) -> tuple[float, float, float]:
    """mIoU, the share of all known pixels that are right, and of those labelled as objects."""
    both = np.diag(matrix)
    either = matrix.sum(0) + matrix.sum(1) - both
    return (100 * float((both[either > 0] / either[either > 0]).mean()),
            100 * float(both.sum() / matrix.sum()),
            100 * float(both[1:].sum() / max(1, matrix[:, 1:].sum())))


def walker(image: np.ndarray, scribble: np.ndarray, beta: float) -> np.ndarray:
    from skimage.segmentation import random_walker

    classes = np.unique(scribble[scribble != 255])
    if len(classes) == 1:
        return np.full(scribble.shape, classes[0])
    seeds = np.zeros(scribble.shape, int)
    for i, cls in enumerate(classes):
        seeds[scribble == cls] = i + 1
    return classes[random_walker(image, seeds, beta=beta, mode="cg_j", channel_axis=-1) - 1]


def one(key: str, folder: Path, variants: list[tuple], betas: list[float]) -> dict:
    """Confusion matrix and seconds of every method on one photo."""
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    image = np.array(Image.open(folder / "JPEGImages" / f"{key}.jpg").convert("RGB"))
    truth = np.array(Image.open(folder / "SegmentationClass" / f"{key}.png"))
    ids, classes = connected_objects(truth, background=0, min_area=16)
    scribble = draw_scribbles(truth, ids, classes, np.random.default_rng([draw(0, key), 1]))
    result: dict = {"drawn": float((scribble != 255).mean())}
    for name, settings in variants:
        begin = time.perf_counter()
        planes = _rfpam.compute(image, settings)
        found, prob = forest.annotate(planes, scribble, settings.forest)
        alone = time.perf_counter() - begin
        result[name] = confusion(truth, found[prob.argmax(0)]), alone
        for how, refine in (("Potts", potts_map), ("dense CRF", crf_map)):
            begin = time.perf_counter()
            label = found[refine(prob, image).argmax(0)] if len(found) > 1 else \
                np.full(truth.shape, found[0])
            result[f"{name} + {how}"] = (confusion(truth, label),
                                         alone + time.perf_counter() - begin)
    for beta in betas:
        begin = time.perf_counter()
        label = walker(image, scribble, beta)
        result[f"random walker, beta {beta:g}"] = (confusion(truth, label),
                                                   time.perf_counter() - begin)
    return result


def potts_map(prob: np.ndarray, image: np.ndarray) -> np.ndarray:
    return potts(prob, image, probabilities=True, **PRESETS["scribbles-potts"]).mask


def crf_map(prob: np.ndarray, image: np.ndarray) -> np.ndarray:
    return dense_crf(prob, image, DENSE["scribbles-dense"])


def report(found: list[dict], title: str) -> None:
    """Print the table of what has been done so far."""
    print(f"{title}, {100 * np.mean([f['drawn'] for f in found]):.2f} % of the pixels scribbled\n"
          f"{'method':44}  mIoU  accuracy  objects' precision  s a photo (median)")
    for name in [name for name in found[0] if name != "drawn"]:
        mean, right, objects = scores(sum(f[name][0] for f in found))
        print(f"{name:44} {mean:5.1f}  {right:8.1f}  {objects:18.1f}  "
              f"{np.median([f[name][1] for f in found]):.2f}", flush=True)


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
    parser.add_argument("--betas", type=float, nargs="*", default=[130., 1000.],
                        help="of the random walker: its default, and the best of those tried")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    keys = (args.folder / "ImageSets" / "Segmentation" / f"{args.split}.txt").read_text().split()
    keys = np.random.default_rng(0).permutation(keys)[:args.count]
    variants = []
    for text in args.features:
        classical, stems, _ = _rfpam.load_features(text)
        for kind in args.forest:
            options = forest.ForestOptions(args.trees, kind=kind, min_leaf=args.min_leaf)
            variants.append((f"{text}, {kind}", SimpleNamespace(
                classical=classical, stems=stems, position=not args.no_position, forest=options)))
    work = partial(one, folder=args.folder, variants=variants, betas=args.betas)
    found = []
    with ProcessPoolExecutor(args.jobs) as pool:
        for result in pool.map(work, keys):
            found.append(result)
            if len(found) % 25 == 0 or len(found) == len(keys):
                report(found, f"{len(found)} of {len(keys)} photos of {args.split}")


if __name__ == "__main__":
    main()
