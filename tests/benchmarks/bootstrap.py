"""What intervals cost: ws-eval with and without 1,000 resamples, in one process.

    python tests/benchmarks/bootstrap.py MASK_FOLDER [--count 1449] [--resamples 1000]

MASK_FOLDER holds palette masks, for example VOC's SegmentationClass; they are used again until
there are enough. Predictions are the same masks shifted by 3 pixels. Prints CPU time and wall
time of both and their ratio.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from wsseg.cli._env import Env
from wsseg.cli._evaluation import Plan, evaluate
from wsseg.cli._flow import Flow
from wsseg.io.png import decode_labels, encode_labels


def work(predictions: Path, truths: Path, times: int) -> float:
    flow = Flow(Env("ws-eval", -1), "ws-eval", [], {}, (str(predictions), str(truths)))
    flow.classes_spec = "voc"
    found = evaluate(flow, Plan(times=times), [str(predictions)], str(truths))
    return found.results[0].score.miou


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("masks", type=Path)
    parser.add_argument("--count", type=int, default=1449)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        predictions, truths = Path(folder) / "p", Path(folder) / "t"
        predictions.mkdir()
        truths.mkdir()
        paths = islice(cycle(sorted(args.masks.glob("*.png"))), args.count)
        for i, path in enumerate(paths):
            label = decode_labels(path.read_bytes())
            shifted = np.roll(np.where(label == 255, 0, label), 3, 1).astype(np.uint8)
            (truths / f"{i}.png").write_bytes(encode_labels(label))
            (predictions / f"{i}.png").write_bytes(encode_labels(shifted))
        assert work(predictions, truths, 0) == work(predictions, truths, args.resamples)
        spent: dict[int, list[tuple[float, float]]] = {0: [], args.resamples: []}
        for _ in range(args.rounds):
            for times in spent:
                start = time.process_time(), time.perf_counter()
                work(predictions, truths, times)
                spent[times].append((time.process_time() - start[0],
                                     time.perf_counter() - start[1]))
        best = {times: np.median(rows, axis=0) for times, rows in spent.items()}
        print(f"{args.count} masks, one job, medians of {args.rounds}, load "
              f"{os.getloadavg()[0]:.1f}")
        for times, (cpu, wall) in best.items():
            print(f"{times:5} resamples: {1e3 * cpu:7.0f} ms CPU, {1e3 * wall:7.0f} ms")
        print("ratio {:.2f} CPU, {:.2f} wall".format(*(best[args.resamples] / best[0])))


if __name__ == "__main__":
    main()
