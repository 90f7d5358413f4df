"""How good masks made of boxes are, and what they cost: every method of ws-boxfill and its peers.

    python tests/benchmarks/box_quality.py VOC2012 [--split val] [--count N] [--methods A,B]
        [--preset FILE] [-j N]

VOC2012 holds JPEGImages, SegmentationClass and ImageSets. Boxes are those that ws-weaken makes of
the masks: of connected components of 16 pixels or more. mIoU is over all pixels, a pixel of 255
counting as wrong; precision is that of the pixels labelled as an object; covered is the share of
the objects' pixels that have their class; seconds are processor time of one thread for one image,
reading left out. --preset adds seg with the parameters that ws-fit --method seg found. Peers:
filled boxes (rect), OpenCV's GrabCut as its tutorial has it, on the full image for each box, and
Bbox-Seg through pydensecrf written plainly. The table is printed every 50 images.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from wsseg.annotate.objects import connected_objects, tight_boxes  # noqa: E402
from wsseg.annotate.rect import paint_boxes  # noqa: E402
from wsseg.cli._boxfill import Settings, fill  # noqa: E402
from wsseg.cli._boxseg import load  # noqa: E402
from wsseg.cli._refining import Settings as Crf  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.io.values import Boxes  # noqa: E402
from wsseg.metrics.iou import confusion_matrix, segmentation_score  # noqa: E402

CLASSES = 21


def ours(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray, **changes) -> np.ndarray:
    """What ws-boxfill's step does to a record."""
    record = Record("a")
    record.set("boxes", Boxes(boxes.astype(float), classes, image.shape[:2]))
    record.set("image", image)
    given = {"min_fill": 0.3 if changes["method"] == "best" else 0.1, **changes}
    if changes["method"] == "seg":
        values = load(given.pop("preset", None)).parameters
        given["alpha"] = values.pop("alpha")
        given["crf"] = Crf("dense", values, engine="native")
    return fill(record, settings=Settings(**given)).get("label")


def plain_grabcut(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """OpenCV's GrabCut as its tutorial calls it, for each box, on the whole image."""
    def one(box):
        x0, y0, x1, y1 = box
        mask = np.zeros(image.shape[:2], np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        try:
            cv2.grabCut(image[..., ::-1].copy(), mask, (x0, y0, x1 - x0, y1 - y0), *models, 5,
                        cv2.GC_INIT_WITH_RECT)
        except cv2.error:  # nothing around the box
            mask[:] = 1
        found = mask[y0:y1, x0:x1] & 1 > 0
        return found if found.any() else ~found

    return paint_boxes(boxes, classes, image.shape[:2], one)[0]


def naive_seg(image: np.ndarray, boxes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Bbox-Seg as one would write it with pydensecrf: the middle of the smallest box .75."""
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    height, width = image.shape[:2]
    prob = np.zeros((CLASSES, height, width), np.float32)
    prob[0] = 1
    for i in np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable"):
        x0, y0, x1, y1 = boxes[i]
        dx, dy = (round((n - n * .2 ** .5) / 2) for n in (x1 - x0, y1 - y0))
        prob[:, y0:y1, x0:x1] = 0
        prob[[0, classes[i]], y0:y1, x0:x1] = .5
        prob[0, y0 + dy:y1 - dy, x0 + dx:x1 - dx] = .25
        prob[classes[i], y0 + dy:y1 - dy, x0 + dx:x1 - dx] = .75
    crf = DenseCRF2D(width, height, CLASSES)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(prob, clip=1e-5)))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=49, srgb=5, rgbim=image.copy(), compat=4)
    return np.array(crf.inference(10)).reshape(prob.shape).argmax(axis=0).astype(np.uint8)


METHODS = {
    "peer: rect": partial(ours, method="rect"),
    "peer: OpenCV GrabCut": plain_grabcut,
    "peer: Bbox-Seg, pydensecrf": naive_seg,
    "seg": partial(ours, method="seg"),
    "grabcut": partial(ours, method="grabcut"),
    "proposal, node": partial(ours, method="proposal", rule="node"),
    "proposal": partial(ours, method="proposal"),
    "paper: agree": partial(ours, method="agree", consent="paper"),
    "agree": partial(ours, method="agree"),
    "best": partial(ours, method="best"),
}


def measure(key: str, *, voc: Path, names: list[str], preset: str | None) -> dict[str, tuple]:
    """Confusion matrix, right and all object pixels, share unknown, and seconds by method."""
    cv2.setNumThreads(1)
    methods = METHODS | {"seg, fitted": partial(ours, method="seg", preset=preset)}
    truth = np.asarray(Image.open(voc / f"SegmentationClass/{key}.png"))
    image = np.asarray(Image.open(voc / f"JPEGImages/{key}.jpg").convert("RGB"))
    ids, classes = connected_objects(truth, min_area=16)
    boxes = tight_boxes(ids, np.arange(1, len(classes) + 1)).astype(int)
    result, known = {}, truth != 255
    for name in names:
        start = time.process_time()
        label = methods[name](image, boxes, classes)
        seconds = time.process_time() - start
        found = (label > 0) & (label < 255) & known
        result[name] = (confusion_matrix(truth, label, CLASSES),
                        int((label == truth)[found].sum()), int(found.sum()),
                        float((label[known] == 255).mean()), seconds,
                        int((known & (truth > 0)).sum()))
    return result


def show(rows: list[dict[str, tuple]], names: list[str], split: str) -> None:
    """Print the table of the images so far."""
    print(f"{len(rows)} images of {split}")
    print(f"{'method':28} {'mIoU':>6} {'precision':>9} {'covered':>8} {'ignored':>8} "
          f"{'s/image':>8}")
    for name in names:
        matrix, right, found, unknown, seconds, objects = (
            sum(column) for column in zip(*(row[name] for row in rows)))
        miou = 100 * segmentation_score(matrix).miou
        print(f"{name:28} {miou:6.2f} {100 * right / max(found, 1):9.1f} "
              f"{100 * right / objects:7.1f}% {100 * unknown / len(rows):7.1f}% "
              f"{seconds / len(rows):8.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("voc", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--count", type=int, help="only so many images, spread over the split")
    parser.add_argument("--methods", help="only those whose names hold one of these words")
    parser.add_argument("--preset", help="a file of ws-fit --method seg")
    parser.add_argument("-j", type=int, default=1)
    given = parser.parse_args()
    keys = (given.voc / f"ImageSets/Segmentation/{given.split}.txt").read_text().split()
    if given.count:
        keys = keys[::max(1, len(keys) // given.count)][:given.count]
    words = given.methods.split(",") if given.methods else [""]
    every = [*METHODS, *(["seg, fitted"] if given.preset else [])]
    names = [n for n in every if any(w == n or w in ("", n.split(":")[0]) for w in words)]
    work, rows = partial(measure, voc=given.voc, names=names, preset=given.preset), []
    with ProcessPoolExecutor(given.j) as pool:
        for row in pool.map(work, keys):
            rows.append(row)
            if len(rows) % 50 == 0 and len(rows) < len(keys):
                show(rows, names, given.split)
    show(rows, names, given.split)


if __name__ == "__main__":
    main()
