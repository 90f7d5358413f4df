"""Our panoptic quality against the usual way, in one process, one thread.

    python tests/benchmarks/panoptic_quality.py COCO_PANOPTIC [--images 100] [--rounds 5]

COCO_PANOPTIC: a folder with panoptic_SPLIT.json and its PNGs. Predictions are the same segments
shifted by 5 pixels, a few of them lost and a few of another class. The usual way reads both as
RGB PNGs with Pillow and takes the unique values of combined ids. Ours is what ``ws-eval --metric
pq`` does for each record of places of instance and label maps. Prints the CPU time of both, with
and without reading, and of ours from two directories and two HDF5 files (the usual way has its
bytes in memory), after checking that PQ, SQ and DQ are equal to 1e-9.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.conftest import write_place
from tests.metrics.usual_panoptic import Entry, average, count
from wsseg.cli._instances import How, _count
from wsseg.cli._pairing import Pair
from wsseg.cli._regions import predicted_regions, true_regions
from wsseg.data import open_dataset
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Segment
from wsseg.metrics.panoptic import panoptic_counts, panoptic_score

CROWD = 1 << 16


def png(ids: np.ndarray) -> bytes:
    out = io.BytesIO()
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    Image.fromarray(rgb).save(out, "PNG")
    return out.getvalue()


def decoded(data: bytes) -> np.ndarray:
    rgb = np.asarray(Image.open(io.BytesIO(data)), np.uint32)
    return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]


class Scene:
    """One image in both forms."""

    def __init__(self, record: Record, rng: np.random.Generator) -> None:
        value, label = record.get("instance"), record.get("label")
        ids = value.ids.astype(np.int64)
        self.entries = {s.id: Entry(s.cls) for s in value.segments}
        for cls in np.unique(label[(ids == 0) & (label != 255)]).tolist():
            self.entries[CROWD + cls] = Entry(cls, True)
            ids[(ids == 0) & (label == cls)] = CROWD + cls
        guess = np.roll(value.ids, 5, 1)
        classes = [s.cls for s in value.segments]
        kept = []
        for s in value.segments:
            if rng.random() < 0.1:
                guess[guess == s.id] = 0
            elif (guess == s.id).any():
                cls = s.cls if rng.random() < 0.9 else int(rng.choice(classes))
                kept.append(Segment(s.id, cls, 1.0, s.thing))
        self.guessed = {s.id: Entry(s.cls) for s in kept}
        self.pngs = png(ids), png(guess.astype(np.int64))
        self.ids = ids.astype(np.uint32), guess.astype(np.uint32)
        self.members = [dict(self._packed(record.key, v, m)) for v, m in (
            (value, label), (InstanceMap(guess, tuple(kept)), None))]
        self.names, self.key = record.names, record.key

    @staticmethod
    def _packed(key: str, value: InstanceMap, label: np.ndarray | None):
        record = Record(key)
        record.set("instance", value)
        if label is not None:
            record.set("label", label)
        return record.pack().members

    def pair(self) -> Pair:
        truth, guess = (Record("x", dict(m), self.names) for m in self.members)
        return Pair("x", guess, truth)


class Stored:
    """The scenes in two places of one form."""

    def __init__(self, scenes: list[Scene], folder: str, ending: str) -> None:
        self.names = scenes[0].names
        self.places: list[str] = []
        for side, part in enumerate(("truth", "guess")):
            place = write_place(os.path.join(folder, part + ending), [
                Record(s.key, dict(s.members[side]), s.names) for s in scenes],
                classes=self.names)
            self.places.append(place)

    def score(self) -> tuple[float, float, float]:
        truth, guess = map(open_source, map(str, self.places))
        total = sum(_count(Pair(k, guess.get(k), truth.get(k)), names=self.names, how=How())[1][0]
                    for k in truth.keys())
        return tuple(map(float, panoptic_score(total).mean()))


def usual(scenes: list[Scene], read: bool) -> tuple[float, float, float]:
    total: dict[int, list[float]] = {}
    for scene in scenes:
        truth, guess = map(decoded, scene.pngs) if read else scene.ids
        for cls, row in count(truth, scene.entries, guess, scene.guessed).items():
            total[cls] = [a + b for a, b in zip(total.get(cls, [0] * 4), row)]
    return average(total)


def ours(scenes: list[Scene], names: tuple[str, ...]) -> tuple[float, float, float]:
    total = sum(_count(s.pair(), names=names, how=How())[1][0] for s in scenes)
    return tuple(map(float, panoptic_score(total).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--split", default="train2017")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    source, rng = open_dataset("coco-panoptic", args.root, split=args.split), \
        np.random.default_rng(0)
    keys = source.keys()[:args.images]
    scenes = [Scene(source.get(key), rng) for key in keys]
    names = source.header.classes
    regions = []
    for scene in scenes:
        pair = scene.pair()
        regions.append((true_regions(pair.truth, True)[0], predicted_regions(pair.prediction)[0]))
    works = {"usual, with reading": lambda: usual(scenes, True),
             "wsseg, with reading": lambda: ours(scenes, names),
             "usual, ids given": lambda: usual(scenes, False),
             "wsseg, ids given": lambda: tuple(map(float, panoptic_score(sum(
                 panoptic_counts(*r, len(names)) for r in regions)).mean()))}
    with tempfile.TemporaryDirectory() as folder:
        works |= {f"wsseg, {name}": Stored(scenes, folder, ending).score
                  for name, ending in (("directories", ""), ("HDF5", ".h5"))}
        measure(works, args.rounds, len(keys))


def measure(works: dict[str, Callable], rounds: int, images: int) -> None:
    found = {name: work() for name, work in works.items()}
    for values in found.values():
        np.testing.assert_allclose(values, found["usual, with reading"], atol=1e-9)
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(1e3 * (time.process_time() - start) / images)
    print(f"{images} images, PQ {100 * found['usual, with reading'][0]:.2f} in all; CPU time of "
          f"an image, medians of {rounds}, load {os.getloadavg()[0]:.1f}")
    best = {name: float(np.median(t)) for name, t in times.items()}
    for name, value in best.items():
        peer = best.get(name.replace("wsseg", "usual"), best["usual, with reading"])
        print(f"{name:22} {value:7.3f} ms" + ("" if name.startswith("usual") else
              f"   {peer / value:.1f}x"))


if __name__ == "__main__":
    main()
