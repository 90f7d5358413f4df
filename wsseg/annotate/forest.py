"""A random forest for each photo: scribbles to soft maps (the local annotator of scribbles-2019).

2.3.1: a forest of 50 trees learns the scribbled pixels of one photo from filter responses, and
says for every other pixel how probable each scribbled class is. It is fitted on all features,
these are ranked by Gini importance, and a forest on the 100 best is kept.

Where the paper is silent: trees grow as scikit-learn grows them by default but for ``min_leaf``;
at most ``most`` scribbled pixels, each class's share of them kept, are learnt from (the boxes of
a photo can cover all of it); a scribbled pixel may be given its class for certain (``clamp``).

scikit-learn fits. Prediction is a kernel of ours that gives the same numbers (``wsseg.native``),
and scikit-learn's where the kernel is not built.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from wsseg.errors import RecordError, UsageError

NOT_DRAWN = 255


@dataclass(frozen=True)
class ForestOptions:
    """How a forest is grown. trees: how many; keep: features that the second fit is given, 0 for
    all and one fit; min_leaf: least training pixels in a leaf; kind: 'random', or 'extra' for
    extremely randomised trees; most: training pixels at most; clamp: scribbled pixels are
    certain; seed: of everything random."""

    trees: int = 50
    keep: int = 100
    min_leaf: int = 1
    kind: str = "random"
    most: int = 10000
    clamp: bool = True
    seed: int = 0


def native() -> ModuleType | None:
    """The compiled kernel, or None where it was not built."""
    try:
        from wsseg.native import _forest
    except ImportError:
        return None
    return _forest


def check_sklearn() -> None:
    """Raise UsageError where scikit-learn is missing; does not import it."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise UsageError("forests need scikit-learn: pip install 'wsseg[forest]'")


def preload() -> None:
    """Import scikit-learn, which takes a second, so that processes forked later have it."""
    import sklearn.ensemble  # noqa: F401


def annotate(features: np.ndarray, scribble: np.ndarray, options: ForestOptions = ForestOptions(),
             *, threads: int = 1, engine: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """Return the classes scribbled, ascending int64 (K,), and their probabilities (K,H,W).

    features: float32 (F,H,W), finite; scribble: integers (H,W), NOT_DRAWN where nothing is drawn.
    The probabilities are float32 and add up to 1. One class alone has probability 1 everywhere.
    threads, engine: of ``predict``. Raises RecordError for arrays that do not fit or where nothing
    is drawn.
    """
    features, scribble = np.asarray(features), np.asarray(scribble)
    if features.ndim != 3 or features.dtype != np.float32 or 0 in features.shape:
        raise RecordError(f"features must be float32 (F,H,W), got {features.dtype} "
                          f"{features.shape}")
    if scribble.shape != features.shape[1:] or scribble.dtype.kind not in "iu":
        raise RecordError(f"the scribble must be integers {features.shape[1:]}, got "
                          f"{scribble.dtype} {scribble.shape}")
    drawn = scribble != NOT_DRAWN
    classes, labels = np.unique(scribble[drawn], return_inverse=True)
    if not len(classes):
        raise RecordError("nothing is scribbled: there is no class to learn")
    if len(classes) == 1:
        return classes.astype(np.int64), np.ones((1, *scribble.shape), np.float32)
    chosen = choose_pixels(labels, options.most, options.seed)
    samples = np.ascontiguousarray(features[:, drawn][:, chosen].T)
    forest, kept = fit(samples, labels[chosen], options)
    planes = features if len(kept) == len(features) else features[kept]
    prob = predict(forest, planes.reshape(len(kept), -1), threads=threads,
                   engine=engine)
    prob = prob.reshape(len(classes), *scribble.shape)
    if options.clamp:
        prob[:, drawn] = labels == np.arange(len(classes))[:, None]
    return classes.astype(np.int64), prob


def choose_pixels(labels: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return which of the labels (N,) to learn from, ascending: all, or ``most`` of them with
    each class's share kept, and one of each at least."""
    if len(labels) <= most:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    picked = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        count = max(1, round(most * len(own) / len(labels)))
        picked.append(rng.choice(own, count, replace=False))
    return np.sort(np.concatenate(picked))


def fit(samples: np.ndarray, labels: np.ndarray, options: ForestOptions
        ) -> tuple[Any, np.ndarray]:
    """Return a fitted scikit-learn forest and the features it wants, ascending int64.

    samples: float32 (N,F); labels: integers (N,). Ties in importance go to the first feature.
    Raises UsageError where scikit-learn is missing.
    """
    check_sklearn()
    from sklearn import ensemble

    make = {"random": ensemble.RandomForestClassifier,
            "extra": ensemble.ExtraTreesClassifier}.get(options.kind)
    if make is None:
        raise UsageError(f"no kind of forest {options.kind!r}; there are random, extra")

    def grow(samples: np.ndarray) -> Any:
        forest = make(options.trees, min_samples_leaf=options.min_leaf,
                      random_state=options.seed % (1 << 32))
        return forest.fit(samples, labels)

    forest, kept = grow(samples), np.arange(samples.shape[1])
    if 0 < options.keep < samples.shape[1]:
        kept = np.sort(np.argsort(-forest.feature_importances_, kind="stable")[:options.keep])
        forest = grow(np.ascontiguousarray(samples[:, kept]))
    return forest, kept


def predict(forest: Any, planes: np.ndarray, *, threads: int = 1,
            engine: str = "auto") -> np.ndarray:
    """Return the probabilities, float32 (K,N), of a fitted forest for float32 features (F,N).

    engine: 'native', 'sklearn', or 'auto' for the first of them that is there. Both agree to
    1e-6; ``threads`` never changes a number. Raises RecordError for features that are not finite.
    """
    kernel = native() if engine != "sklearn" else None
    if engine == "native" and kernel is None:
        raise UsageError("the native forest kernel is not built here (it needs a C++ compiler "
                         "when wsseg is installed)")
    planes = np.ascontiguousarray(planes, np.float32)
    if not np.isfinite(planes).all():
        raise RecordError("a feature is not finite")
    if kernel is None:
        forest.set_params(n_jobs=threads)
        return np.ascontiguousarray(forest.predict_proba(planes.T).T, np.float32)
    return flatten(forest, kernel).predict(planes, threads)


def flatten(forest: Any, kernel: ModuleType) -> Any:
    """The kernel's copy of a fitted scikit-learn forest."""
    trees = [tree.tree_ for tree in forest.estimators_]
    return kernel.Forest([(t.children_left, t.children_right, t.feature, t.threshold, t.value)
                          for t in trees], forest.n_features_in_, len(forest.classes_))


# -- other weak labels as scribbles ---------------------------------------------------------


def points_as_scribble(xy: np.ndarray, classes: np.ndarray, size: tuple[int, int], *,
                       radius: float = 3, background: int | None = 0,
                       frame: int = 3) -> np.ndarray:
    """Return a scribble, uint8 (H,W), of discs around points (N,2); the nearest point wins, the
    first of equals.

    background: the class of the photo's frame, ``frame`` pixels wide and away from all discs,
    where no point has that class: somebody who points at objects rarely points at the rest. None
    draws none. Points outside of the photo raise RecordError.
    """
    height, width = size
    xy, classes = np.asarray(xy, float).reshape(-1, 2), np.asarray(classes)
    _check_classes(classes)
    drawn = np.full(size, NOT_DRAWN, np.uint8)
    nearest = np.full(size, np.inf)
    y, x = np.mgrid[:height, :width]
    for (px, py), cls in zip(xy, classes):
        if not (0 <= px < width and 0 <= py < height):
            raise RecordError(f"a point lies at {px:g}, {py:g}, outside of the {height}x{width} "
                              "photo")
        square = (x - np.floor(px)) ** 2 + (y - np.floor(py)) ** 2
        own = (square <= radius * radius) & (square < nearest)
        drawn[own] = cls
        nearest[own] = square[own]
    if background is not None and len(classes) and background not in classes and frame > 0:
        inner = np.zeros(size, bool)
        inner[frame:height - frame, frame:width - frame] = True
        drawn[~inner & (drawn == NOT_DRAWN)] = background
    return drawn


def boxes_as_scribble(xyxy: np.ndarray, classes: np.ndarray, size: tuple[int, int], *,
                      core: float = 0.4, background: int | None = 0) -> np.ndarray:
    """Return a scribble, uint8 (H,W), of boxes (N,4), half open: the middle of each, ``core`` of
    its width and height, has its class, the smallest box's where they overlap; what no box
    covers is ``background``, unless that is None; the rest is not drawn.

    Corners may come in any order; boxes are cut at the photo's border, and those that keep no
    pixel are left out.
    """
    height, width = size
    xyxy = np.asarray(xyxy, float).reshape(-1, 4)
    classes = np.asarray(classes)
    _check_classes(classes)
    if not np.isfinite(xyxy).all():
        raise RecordError("a box has a corner that is no number")
    low, high = np.minimum(xyxy[:, :2], xyxy[:, 2:]), np.maximum(xyxy[:, :2], xyxy[:, 2:])
    low, high = np.clip(low, 0, [width, height]), np.clip(high, 0, [width, height])
    drawn = np.full(size, NOT_DRAWN if background is None else background, np.uint8)
    inside = []
    for (x0, y0), (x1, y1), cls in zip(low, high, classes):
        x0, y0, x1, y1 = int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1))
        if x1 > x0 and y1 > y0:
            drawn[y0:y1, x0:x1] = NOT_DRAWN
            inside.append(((x1 - x0) * (y1 - y0), x0, y0, x1, y1, cls))
    for _, x0, y0, x1, y1, cls in sorted(inside, key=lambda box: -box[0]):
        dx, dy = int((x1 - x0) * (1 - core) / 2), int((y1 - y0) * (1 - core) / 2)
        drawn[y0 + dy:y1 - dy, x0 + dx:x1 - dx] = cls
    return drawn


def _check_classes(classes: np.ndarray) -> None:
    if len(classes) and not 0 <= classes.min() <= classes.max() < NOT_DRAWN:
        raise RecordError(f"classes {classes.min()}..{classes.max()} do not fit a scribble: its "
                          "values go up to 254")
