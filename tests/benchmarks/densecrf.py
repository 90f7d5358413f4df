"""The dense CRF against pydensecrf2: the same work in the same process, turn by turn.

    python tests/benchmarks/densecrf.py [FOLDER] [--rounds N]
                                        [--only pixels|folder|restricted|large]

FOLDER holds photos (*.jpg); without it, three of scikit-image's are taken. All are resized to
375x500. Ratios above 1 mean that ours is faster: of the least wall-clock times, of the medians,
and, on one thread, of the least CPU times, which other jobs on the machine disturb less. Score
maps are synthetic: smooth noise, softmax. Large images run in processes of their own, for memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from wsseg.refine.densecrf import PRESETS, dense_crf, present_classes, restricted  # noqa: E402

SIZE = (375, 500)
LARGE = (1024, 2048)
NAMES = ("wssl", "scribbles-dense")
GOALS = {(21, 1): 3, (21, 2): 5, (3, 1): 4, (3, 2): 6}


def photos(folder: str | None, size: tuple[int, int], count: int = 3) -> dict[str, np.ndarray]:
    """Some RGB photos of one size by name."""
    if folder is None:
        from skimage import data
        found = {name: getattr(data, name)() for name in ("coffee", "chelsea", "astronaut")}
    else:
        paths = sorted(Path(folder).glob("*.jpg"))
        paths = paths[::max(1, len(paths) // count)][:count]
        found = {p.stem: cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in paths}
    kind = cv2.INTER_AREA if size == SIZE else cv2.INTER_CUBIC
    return {name: np.ascontiguousarray(cv2.resize(image, size[::-1], interpolation=kind))
            for name, image in list(found.items())[:count]}


def soft_map(classes: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Class probabilities like an activation map's: 41x41 noise, smoothed and enlarged."""
    rng = np.random.default_rng(seed)
    z = np.empty((classes, *size), np.float32)
    for k in range(classes):
        small = cv2.GaussianBlur(rng.normal(size=(41, 41)).astype(np.float32), (0, 0), 2)
        z[k] = 12 * cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.exp(z - z.max(axis=0), out=z)
    z /= z.sum(axis=0)
    return z


def peer(prob: np.ndarray, image: np.ndarray, name: str) -> np.ndarray:
    """What a user of pydensecrf writes."""
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax
    crf, (classes, height, width) = PRESETS[name], prob.shape
    field = DenseCRF2D(width, height, classes)
    field.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(prob, clip=1e-5)))
    field.addPairwiseGaussian(sxy=crf.gauss_sigma, compat=crf.gauss_weight)
    field.addPairwiseBilateral(sxy=crf.rgb_sigma_xy, srgb=crf.rgb_sigma, rgbim=image,
                               compat=crf.rgb_weight)
    return np.array(field.inference(crf.iterations), np.float32).reshape(prob.shape)


def timed(calls: list, rounds: int) -> tuple[np.ndarray, np.ndarray, list]:
    """Wall-clock and CPU seconds, (rounds, calls), of calls that take turns; their last results."""
    for call in calls[1:]:
        call()
    wall, cpu = np.empty((2, rounds, len(calls)))
    for i in range(rounds):
        results = []
        for j, call in enumerate(calls):
            start = time.perf_counter(), time.process_time()
            results.append(call())
            wall[i, j] = time.perf_counter() - start[0]
            cpu[i, j] = time.process_time() - start[1]
    return wall, cpu, results


def ratios(times: np.ndarray) -> str:
    """The first column over the second: of the least and of the medians."""
    least, middle = times.min(axis=0), np.median(times, axis=0)
    return f"{least[0] / least[1]:5.2f} {middle[0] / middle[1]:6.2f}"


def pixels(folder: str | None, rounds: int) -> None:
    print("one image        labels preset          peer ms | 1 thread: ms  least median   CPU |"
          " 2 threads: ms  least median | max|dQ| labels differ (ties)")
    for classes in (21, 3):
        prob = soft_map(classes, SIZE)
        for title, image in photos(folder, SIZE).items():
            for name in NAMES:
                crf = PRESETS[name]
                wall, cpu, (theirs, one, two) = timed(
                    [lambda: peer(prob, image, name), lambda: dense_crf(prob, image, crf),
                     lambda: dense_crf(prob, image, crf, threads=2)], rounds)
                assert one.tobytes() == two.tobytes()
                differ = theirs.argmax(axis=0) != one.argmax(axis=0)
                top = np.sort(theirs, axis=0)
                ties = differ & (top[-1] - top[-2] < 1e-4)
                ms = 1000 * wall.min(axis=0)
                print(f"{title:16} {classes:6} {name:15} {ms[0]:7.0f} | {ms[1]:11.0f} "
                      f"{ratios(wall[:, :2])} {cpu[:, 0].min() / cpu[:, 1].min():6.2f} | "
                      f"{ms[2]:13.0f} {ratios(wall[:, ::2])} | {np.abs(theirs - one).max():.0e} "
                      f"{differ.sum()} ({ties.sum()})", flush=True)
        print(f"  goals with {classes} labels: {GOALS[classes, 1]}, {GOALS[classes, 2]}")


def together(folder: str | None, rounds: int) -> None:
    """Two worker processes of pydensecrf against two threads of ours, on 12 images."""
    images = list(photos(folder, SIZE).values()) * 4
    print("12 images        labels preset      2 processes | 2 threads: s  least median")
    with ProcessPoolExecutor(2) as processes, ThreadPoolExecutor(2) as threads:
        for classes in (21, 3):
            prob = soft_map(classes, SIZE)
            for name in NAMES:
                many = [prob] * len(images), images, [name] * len(images)
                list(processes.map(peer_labels, *many))
                wall, _, _ = timed(
                    [lambda: list(processes.map(peer_labels, *many)),
                     lambda: list(threads.map(our_labels, *many))], rounds)
                s = wall.min(axis=0)
                print(f"{'':16} {classes:6} {name:15} {s[0]:7.2f} | {s[1]:12.2f} {ratios(wall)}"
                      f"   goal {3 if classes == 21 else 4}", flush=True)


def peer_labels(prob: np.ndarray, image: np.ndarray, name: str) -> np.ndarray:
    return peer(prob, image, name).argmax(axis=0).astype(np.uint8)


def our_labels(prob: np.ndarray, image: np.ndarray, name: str) -> np.ndarray:
    return dense_crf(prob, image, PRESETS[name]).argmax(axis=0).astype(np.uint8)


def present(folder: str | None, rounds: int) -> None:
    """A map of 21 classes of which 3 are present: the peer on all, ours on those 3."""
    prob = np.full((21, *SIZE), 0.01 / 18, np.float32)
    prob[[0, 5, 20]] = 0.99 * soft_map(3, SIZE)
    print("3 of 21 present  preset          peer ms | 1 thread: ms  least median   CPU | agreement")
    for title, image in photos(folder, SIZE).items():
        for name in NAMES:
            wall, cpu, (theirs, ours) = timed(
                [lambda: peer(prob, image, name),
                 lambda: restricted(prob, image, present_classes(prob), PRESETS[name])], rounds)
            ms = 1000 * wall.min(axis=0)
            same = (theirs.argmax(axis=0) == ours.argmax(axis=0)).mean()
            print(f"{title:16} {name:15} {ms[0]:7.0f} | {ms[1]:11.0f} {ratios(wall)} "
                  f"{cpu[:, 0].min() / cpu[:, 1].min():6.2f} | {100 * same:.3f} %   goal 8",
                  flush=True)


def resident(field: str) -> float:
    """A memory figure of this process in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def alone(engine: str, name: str, folder: str | None) -> None:
    """Run one engine on one large image and print its figures as JSON."""
    image, prob = next(iter(photos(folder, LARGE).values())), soft_map(21, LARGE)
    small = prob[:, :8, :8].copy(), image[:8, :8].copy()
    run = (lambda p, i: peer(p, i, name)) if engine == "pydensecrf" else \
        (lambda p, i: dense_crf(p, i, PRESETS[name]))
    run(*small)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of making the input
    before, start = resident("VmRSS"), (time.perf_counter(), time.process_time())
    run(prob, image)
    print(json.dumps({"wall": time.perf_counter() - start[0], "mb": resident("VmHWM") - before,
                      "cpu": time.process_time() - start[1]}))


def large(folder: str | None) -> None:
    print("1024x2048x21     preset           peer s, MB | ours s, MB     | wall   CPU | memory")
    for name in NAMES:
        found = []
        for engine in ("pydensecrf", "native"):
            line = [sys.executable, __file__, "--alone", engine, name]
            done = subprocess.run(line + ([folder] if folder else []), check=True,
                                  capture_output=True, text=True)
            found.append(json.loads(done.stdout))
        theirs, ours = found
        print(f"{'':16} {name:15} {theirs['wall']:6.1f} {theirs['mb']:6.0f} | {ours['wall']:6.1f} "
              f"{ours['mb']:7.0f} | {theirs['wall'] / ours['wall']:4.2f} "
              f"{theirs['cpu'] / ours['cpu']:6.2f} | {ours['mb'] / theirs['mb']:.2f}"
              "   goal 2.5, 0.67", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--only", choices=("pixels", "folder", "restricted", "large"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        return alone(*given.alone, given.folder)
    for name, run in (("pixels", pixels), ("restricted", present), ("folder", together)):
        if given.only in (None, name):
            run(given.folder, given.rounds)
    if given.only in (None, "large"):
        large(given.folder)


if __name__ == "__main__":
    main()
