"""The Potts kernel against numpy and against alpha-expansion, in one process and one run.

    python tests/benchmarks/potts.py [PHOTO_FOLDER] [--rounds 5] [--weights 1 10]

Prints, for 375x500 photos with 4 and 21 classes: the time of one primal-dual iteration in native
code with one and two threads, in torch and in numpy, taken in turns, and their ratios; then the
energies and times of solved problems beside gco-wrapper's alpha-expansion (not a dependency: pip
install gco-wrapper), scored by the same anisotropic energy. Photos are scikit-image's, or the
first three of a folder. Class maps are made from a photo's own colours: the speeds are real, the
quality of the segmentation is not measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from wsseg.refine.potts import (RELAX, NumpySolver, _cold_start, edge_stop, labelling_energy, potts,
                                resolve_engine)

SIZE = (375, 500)


def photos(folder: Path | None) -> dict[str, np.ndarray]:
    if folder:
        paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))[:3]
        found = {p.stem: cv2.imread(str(p))[..., ::-1] for p in paths}
    else:
        from skimage import data
        found = {name: getattr(data, name)() for name in ("coffee", "chelsea", "astronaut")}
    return {name: np.ascontiguousarray(cv2.resize(photo, SIZE[::-1],
                                                  interpolation=cv2.INTER_AREA))
            for name, photo in found.items()}


def noisy_costs(image: np.ndarray, classes: int) -> np.ndarray:
    """-log of noisy posteriors of the photo's main colours."""
    pixels = image.reshape(-1, 3).astype(np.float32)
    cv2.setRNGSeed(0)
    _, _, centres = cv2.kmeans(pixels[::7], classes, None, (1, 20, 1.), 1, cv2.KMEANS_PP_CENTERS)
    logit = -((pixels[:, None] - centres) ** 2).sum(-1) / (2 * 25 ** 2)
    logit += np.random.default_rng(0).normal(0, 1, logit.shape)
    p = np.exp(logit - logit.max(1, keepdims=True))
    p = .9 * p / p.sum(1, keepdims=True) + .1 / classes
    return np.ascontiguousarray(-np.log(p).T.reshape(classes, *SIZE), np.float32)


def per_iteration(costs: np.ndarray, stop: np.ndarray, weight: float, rounds: int,
                  isotropic: bool) -> dict[str, float]:
    """Milliseconds of one iteration by engine: the median over rounds, engines in turns."""
    costs = (costs - costs.min(0)) / np.float32(weight)
    solvers = {"numpy": (NumpySolver(costs, stop, isotropic), 2)}
    if resolve_engine("auto") == "native":
        from wsseg.native._potts import Solver
        for threads in (1, 2):
            solvers[f"native {threads}T"] = Solver(costs, stop, isotropic, threads), 10
    if importlib.util.find_spec("torch"):
        from wsseg.nets.potts import SingleSolver
        solvers["torch"] = SingleSolver(costs, stop, isotropic), 2
    times: dict[str, list[float]] = {name: [] for name in solvers}
    for solver, _ in solvers.values():
        solver.start(*_cold_start(costs))
        solver.run(20, RELAX)
    for _ in range(rounds):
        for name, (solver, iterations) in solvers.items():
            begin = time.perf_counter()
            solver.run(iterations, RELAX)
            times[name].append((time.perf_counter() - begin) / iterations * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


def alpha_expansion(costs: np.ndarray, stop: np.ndarray, weight: float) -> tuple[np.ndarray, float]:
    """Labels and seconds; costs in thousandths, as gco counts in integers."""
    import gco
    unary = np.ascontiguousarray((1e3 * (costs - costs.min(0))).transpose(1, 2, 0)).astype(np.int32)
    edges = (2e3 * weight * stop).astype(np.int32)
    differ = (1 - np.eye(len(costs))).astype(np.int32)
    begin = time.perf_counter()
    labels = gco.cut_grid_graph(unary, differ, edges[:-1].copy(), edges[:, :-1].copy())
    return np.reshape(labels, stop.shape).astype(np.int64), time.perf_counter() - begin


def timed(work: Callable):
    begin = time.perf_counter()
    return work(), time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=float, nargs="*", default=[1., 10.])
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--classes", type=int, nargs="*", default=[4, 21])
    args = parser.parse_args()
    folder = args.photos
    if folder and not any(folder.glob("*.jp*g")):
        folder = None  # make bench hands every script a folder of masks
    for name, image in photos(folder).items():
        stop = edge_stop(image, .01)
        for classes in args.classes:
            costs = noisy_costs(image, classes)
            for isotropic in (True, False):
                times = per_iteration(costs, stop, 10, args.rounds, isotropic)
                print(f"{name:10} K={classes:<2} {'iso  ' if isotropic else 'aniso'} "
                      + ", ".join(f"{k} {v:.2f} ms ({times['numpy'] / v:.1f}x)"
                                  for k, v in times.items()), flush=True)
            for weight in args.weights:
                compare(costs, image, stop, weight, args.tolerance)


def compare(costs: np.ndarray, image: np.ndarray, stop: np.ndarray, weight: float,
            tolerance: float) -> None:
    """Print the energies of labellings, relative to the best lower bound, and the times."""
    for isotropic, limit in ((False, tolerance), (True, tolerance), (True, 1e-3)):
        for pyramid in (True, False):
            found, seconds = timed(lambda: potts(
                costs, image, weight=weight, isotropic=isotropic, tolerance=limit,
                max_iterations=3000, pyramid=pyramid))
            energy = labelling_energy(found.labels, costs, stop, weight=weight, isotropic=False)
            print(f"  weight {weight:<3g} {'iso  ' if isotropic else 'aniso'} gap {limit:g} "
                  f"{'pyramid' if pyramid else 'cold   '}: {found.iterations:4} iterations "
                  f"{seconds:6.2f} s, anisotropic energy {energy:.0f}", flush=True)
    if importlib.util.find_spec("gco") is None:
        return
    # In a process of its own: it aborts the process when it dislikes its costs.
    with ProcessPoolExecutor(1) as worker:
        try:
            labels, seconds = worker.submit(alpha_expansion, costs, stop, weight).result()
        except Exception as fault:
            print(f"  alpha-expansion failed: {type(fault).__name__}")
            return
    energy = labelling_energy(labels, costs, stop, weight=weight, isotropic=False)
    print(f"  weight {weight:<3g} alpha-expansion: {seconds:6.2f} s, anisotropic energy "
          f"{energy:.0f}", flush=True)


if __name__ == "__main__":
    main()
