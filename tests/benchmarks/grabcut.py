"""GrabCut on a crop against OpenCV's on the full image, for boxes under 5 % of it.

    python tests/benchmarks/grabcut.py [VOC2012] [--boxes N]

Each box is timed with both, in turn; the ratio is that of the sums. Goal: 5. Then one hierarchy
and its boxes: goals 200 ms for 375x500 and about 1 ms a box. Without VOC2012, scikit-image's
photos and random boxes are taken.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from wsseg.annotate import proposals  # noqa: E402
from wsseg.annotate.grabcut import grabcut_box  # noqa: E402
from wsseg.annotate.objects import connected_objects, tight_boxes  # noqa: E402


def plain(image: np.ndarray, box: tuple[int, ...]) -> None:
    x0, y0, x1, y1 = box
    mask, models = np.zeros(image.shape[:2], np.uint8), (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.grabCut(image, mask, (x0, y0, x1 - x0, y1 - y0), *models, 5, cv2.GC_INIT_WITH_RECT)


def examples(voc: Path | None, count: int) -> list[tuple[np.ndarray, tuple[int, ...]]]:
    """Photos and boxes of less than 5 % of them."""
    if voc is None:
        from skimage import data
        photos = [getattr(data, name)() for name in ("coffee", "chelsea", "astronaut")]
        photos = [cv2.resize(p, (500, 375)) for p in photos]
        rng = np.random.default_rng(0)
        corners = rng.integers(20, 250, (count, 2))
        sides = rng.integers(25, 90, (count, 2))
        return [(photos[i % 3], (*c.tolist(), *(c + s).tolist()))
                for i, (c, s) in enumerate(zip(corners, sides))]
    found = []
    for key in (voc / "ImageSets/Segmentation/val.txt").read_text().split()[::3]:
        label = cv2.imread(str(voc / f"SegmentationClass/{key}.png"), cv2.IMREAD_UNCHANGED)
        if label.ndim == 3:  # OpenCV expands palettes; any colours part objects as well
            label = (label.astype(np.uint16) @ np.array([1, 3, 7], np.uint16))
        image = cv2.imread(str(voc / f"JPEGImages/{key}.jpg"))
        ids, classes = connected_objects(label, min_area=100)
        for box in tight_boxes(ids, np.arange(1, len(classes) + 1)).astype(int).tolist():
            if (box[2] - box[0]) * (box[3] - box[1]) < 0.05 * label.size and len(found) < count:
                found.append((image, tuple(box)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voc", nargs="?", type=Path)
    parser.add_argument("--boxes", type=int, default=40)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    times = []
    for image, box in examples(given.voc, given.boxes):
        start = time.process_time()
        plain(image, box)
        middle = time.process_time()
        grabcut_box(image, box)
        times.append((middle - start, time.process_time() - middle))
    theirs, mine = np.array(times).T
    print(f"{len(times)} boxes under 5 %: OpenCV {1e3 * theirs.mean():.1f} ms, ours "
          f"{1e3 * mine.mean():.1f} ms: {theirs.sum() / mine.sum():.1f} times as fast "
          f"(median of ratios {np.median(theirs / mine):.1f}; goal 5)")
    image = cv2.resize(examples(given.voc, 1)[0][0], (500, 375))
    rounds = []
    for _ in range(5):
        start = time.process_time()
        regions = proposals.build(proposals.gradient(image))
        middle = time.process_time()
        for k in range(50):
            regions.propose((k, k, 200 + k, 200 + k))
        rounds.append((middle - start, (time.process_time() - middle) / 50))
    built, one = 1e3 * np.array(rounds).min(axis=0)
    print(f"hierarchy of 375x500: {built:.0f} ms (goal 200), {one:.2f} ms a box (goal 1)")


if __name__ == "__main__":
    main()
