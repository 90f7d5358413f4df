"""ws-eval from two PNG folders against Pillow plus bincount, per image, in one process.

    python tests/benchmarks/eval_folders.py MASK_FOLDER [--jobs 2] [--rounds 5]

MASK_FOLDER holds palette masks, for example VOC's SegmentationClass. Predictions are the same
masks shifted by 3 pixels. Prints the time per image of both and their ratio, after checking
that the confusion matrices are identical. ``ours`` is what ``ws-eval`` runs once its modules are
loaded: it scans both folders, starts its workers, reads, decodes, counts and adds up.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from wsseg.cli._env import Env
from wsseg.cli._flow import Flow
from wsseg.cli._score import run
from wsseg.data.names import load_names
from wsseg.io.png import decode_labels, encode_labels

CLASSES = 21


def usual(predictions: Path, truths: Path, names: list[str]) -> np.ndarray:
    """The loop that published evaluation scripts run."""
    total = np.zeros((CLASSES, CLASSES), np.int64)
    for name in names:
        prediction = np.asarray(Image.open(predictions / name))
        truth = np.asarray(Image.open(truths / name))
        valid = truth != 255
        pairs = truth[valid].astype(np.int64) * CLASSES + prediction[valid]
        total += np.bincount(pairs, minlength=CLASSES ** 2).reshape(CLASSES, CLASSES)
    return total


def ours(predictions: Path, truths: Path, jobs: int) -> np.ndarray:
    flow = Flow(Env("ws-eval", -1), "ws-eval", [], {}, (str(predictions), str(truths)), jobs=jobs)
    flow.classes_spec = "voc"
    return run(flow, "error").matrix[:, :CLASSES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("masks", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--long-side", type=int, default=0, help="resize masks (nearest) first")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        predictions, truths = Path(folder) / "p", Path(folder) / "t"
        predictions.mkdir()
        truths.mkdir()
        names = sorted(p.name for p in args.masks.glob("*.png"))
        pixels = 0
        for name in names:
            label = decode_labels((args.masks / name).read_bytes())
            if args.long_side:
                scale = args.long_side / max(label.shape)
                size = [round(n * scale) for n in label.shape[::-1]]
                label = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
            pixels += label.size
            shifted = np.roll(np.where(label == 255, 0, label), 3, 1).astype(np.uint8)
            (truths / name).write_bytes(encode_labels(label))
            (predictions / name).write_bytes(encode_labels(shifted))
        assert len(load_names("voc")) == CLASSES
        assert np.array_equal(usual(predictions, truths, names), ours(predictions, truths, 1))
        times: dict[str, list[float]] = {"Pillow + bincount": [], "ws-eval": []}
        for _ in range(args.rounds):
            for name, work in (("Pillow + bincount", lambda: usual(predictions, truths, names)),
                               ("ws-eval", lambda: ours(predictions, truths, args.jobs))):
                start = time.perf_counter()
                work()
                times[name].append((time.perf_counter() - start) / len(names) * 1e3)
        best = {name: float(np.median(t)) for name, t in times.items()}
        print(f"{len(names)} masks of {pixels / len(names) / 1e3:.0f} kpx, {args.jobs} of "
              f"{os.cpu_count()} cores, medians of {args.rounds}")
        for name, value in best.items():
            print(f"{name:18} {value:.3f} ms an image")
        print(f"ratio {best['Pillow + bincount'] / best['ws-eval']:.2f}")


if __name__ == "__main__":
    main()
