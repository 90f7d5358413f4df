"""Forest prediction and ws-rfpam's work against scikit-learn, in turns in one process.

    python tests/benchmarks/forest.py [VOC_FOLDER] [--rounds 5] [--size 375 500]

Prints, each as least wall-clock time of some rounds (other work on the machine only adds to that)
and least processor time, and as ratios of both: predict_proba of scikit-learn with one thread and
our kernel with one and two, on forests of 50 trees and 100 features, small trees and large ones (of
which a third of the training pixels have a wrong class); the largest difference of their numbers;
and one photo's whole way from pixels to the soft map by ``annotate`` and by a plain scikit-learn
script (the same features; RandomForestClassifier, the 100 best features, a second fit,
predict_proba), with the same forests and with the extremely randomised trees of ws-rfpam.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from sklearn.ensemble import RandomForestClassifier

from wsseg.annotate import filters, forest


def photo(folder: Path | None, size: tuple[int, int]) -> np.ndarray:
    paths = sorted((folder / "JPEGImages").glob("*.jpg")) if folder else []
    if paths:
        found = cv2.imread(str(paths[0]))[..., ::-1]
    else:
        from skimage import data
        found = data.chelsea()
    return np.ascontiguousarray(cv2.resize(found, size[::-1], interpolation=cv2.INTER_AREA))


def scene(image: np.ndarray, classes: int = 3) -> np.ndarray:
    """Strokes of pseudo-classes (the photo's main colours), on 2.4 % of its pixels."""
    pixels = cv2.GaussianBlur(image, (0, 0), 5).reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(0)
    _, labels, _ = cv2.kmeans(pixels, classes, None, (1, 10, 1.), 1, cv2.KMEANS_PP_CENTERS)
    labels = labels.reshape(image.shape[:2]).astype(np.uint8)
    strokes = np.zeros(labels.shape, np.uint8)
    rng = np.random.default_rng(0)
    while (strokes > 0).mean() < .024:
        x, y = rng.integers(0, labels.shape[::-1])
        cv2.line(strokes, (int(x), int(y)), (int(x) + 60, int(y) + int(rng.integers(-40, 40))),
                 1, 3)
    return np.where(strokes > 0, labels, forest.NOT_DRAWN).astype(np.uint8)


def in_turns(work: dict[str, Callable[[], object]], rounds: int
             ) -> dict[str, tuple[float, float]]:
    """The least milliseconds of each, by the clock on the wall and of the processor."""
    least = dict.fromkeys(work, (np.inf, np.inf))
    for i in range(rounds + 1):  # the first is a warm-up
        for name, go in work.items():
            wall, used = time.perf_counter(), time.process_time()
            go()
            if i:
                least[name] = (min(least[name][0], (time.perf_counter() - wall) * 1e3),
                               min(least[name][1], (time.process_time() - used) * 1e3))
    return least


def report(title: str, times: dict[str, tuple[float, float]]) -> None:
    base = next(iter(times.values()))
    print(title)
    for name, (wall, used) in times.items():
        print(f"  {name:22} {wall:6.0f} ms ({base[0] / wall:.2f}x), processor {used:6.0f} ms "
              f"({base[1] / used:.2f}x)", flush=True)


def plain_script(image: np.ndarray, scribble: np.ndarray) -> np.ndarray:
    """What one would write with scikit-learn: pixels x features, two fits, predict_proba."""
    features = filters.classical(image)
    table = features.reshape(len(features), -1).T.copy()
    drawn = scribble.ravel() != forest.NOT_DRAWN
    grown = RandomForestClassifier(50, random_state=0).fit(table[drawn], scribble.ravel()[drawn])
    best = np.argsort(grown.feature_importances_)[::-1][:100]
    grown = RandomForestClassifier(50, random_state=0).fit(table[drawn][:, best],
                                                           scribble.ravel()[drawn])
    return grown.predict_proba(table[:, best]).T.reshape(-1, *scribble.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=[375, 500])
    args = parser.parse_args()
    cv2.setNumThreads(1)
    image = photo(args.folder, tuple(args.size))
    scribble = scene(image)
    planes = filters.classical(image)
    extra = np.random.default_rng(1).normal(size=(100 - len(planes), 3, 7, 7))
    planes = np.concatenate([planes, filters.responses(image, extra.astype(np.float32))])
    drawn = scribble != forest.NOT_DRAWN
    samples, labels = np.ascontiguousarray(planes[:, drawn].T), scribble[drawn]
    flat = planes.reshape(len(planes), -1)
    table = np.ascontiguousarray(flat.T)
    rng = np.random.default_rng(2)
    wrong = np.where(rng.random(len(labels)) < 1 / 3, rng.permutation(labels), labels)
    for kind, given in (("random", labels), ("extra", labels), ("random", wrong),
                        ("extra", wrong)):
        grown, _ = forest.fit(samples, given, forest.ForestOptions(kind=kind, keep=0))
        grown.set_params(n_jobs=1)
        nodes = sum(tree.tree_.node_count for tree in grown.estimators_) // 50
        report(f"predict, {kind}, {nodes} nodes a tree", in_turns({
            "scikit-learn 1T": lambda: grown.predict_proba(table),
            "native 1T": lambda: forest.predict(grown, flat, engine="native"),
            "native 2T": lambda: forest.predict(grown, flat, threads=2, engine="native")},
            args.rounds))
        worst = abs(forest.predict(grown, flat, engine="native")
                    - grown.predict_proba(table).T).max()
        print(f"  largest difference {worst:.1e}", flush=True)

    def ours(kind: str) -> Callable[[], object]:
        options = forest.ForestOptions(kind=kind)
        return lambda: forest.annotate(filters.classical(image), scribble, options)

    report("pixels to soft map, one thread", in_turns({
        "plain scikit-learn": lambda: plain_script(image, scribble),
        "annotate, same forest": ours("random"), "annotate, default": ours("extra")},
        args.rounds))
    report("features alone", in_turns({"classical": lambda: filters.classical(image)},
                                      args.rounds))


if __name__ == "__main__":
    main()
