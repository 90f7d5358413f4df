"""Average precision by pycocotools and by loops: oracles for the tests and the rival in the
benchmark."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np


def compressed(mask: np.ndarray) -> dict:
    """Return COCO's compressed run-lengths of a mask, bool (H, W)."""
    from pycocotools import mask as coco_mask

    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


def coco_files(images: Sequence[tuple]) -> tuple[dict, list[dict]]:
    """Return the documents of truth and detections.

    images: (true masks, true classes, crowd, masks, classes, scores) of each, a mask being
    compressed run-lengths, and, if given, the areas that the truth says.
    """
    from pycocotools import mask as coco_mask

    truth, found, sizes = [], [], []
    for number, image in enumerate(images):
        true_masks, true_classes, crowd, masks, classes, scores = image[:6]
        areas = image[6] if len(image) > 6 else [coco_mask.area(m) for m in true_masks]
        sizes.append((true_masks or masks or [{"size": (1, 1)}])[0]["size"])
        for mask, cls, many, area in zip(true_masks, true_classes, crowd, areas):
            truth.append({"id": len(truth) + 1, "image_id": number, "category_id": int(cls) + 1,
                          "iscrowd": int(many), "area": float(area),
                          "bbox": [0, 0, 1, 1], "segmentation": mask})
        found += [{"image_id": number, "category_id": int(cls) + 1, "score": float(score),
                   "segmentation": mask} for mask, cls, score in zip(masks, classes, scores)]
    document = {"info": {}, "annotations": truth, "images": [
        {"id": n, "height": int(h), "width": int(w)} for n, (h, w) in enumerate(sizes)]}
    return document, found


def coco_precision(document: dict, found: list[dict], n_classes: int, *,
                   all_areas: bool = True, area: int | slice = 0,
                   ranges: Sequence[tuple[float, float]] | None = None) -> np.ndarray:
    """Return pycocotools' AP by class and threshold .5:.05:.95, NaN where it says -1.

    all_areas: also compute what depends on the size of the objects, as COCOeval does unless it
    is told otherwise; area: which size is returned, 0 for all objects, or a slice of them in a
    first axis; ranges: other sizes than COCO's three.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {**document, "categories": [
            {"id": c + 1, "name": str(c)} for c in range(n_classes)]}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes([dict(one) for one in found]), "segm")
        if ranges is not None:
            evaluation.params.areaRng[1:] = [list(r) for r in ranges]
            evaluation.params.areaRngLbl[1:] = [str(r) for r in ranges]
        if not all_areas:
            evaluation.params.areaRng = evaluation.params.areaRng[:1]
            evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
            evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, area, -1].mean(axis=1).T
    return np.where(precision < 0, np.nan, precision)


def voc_precision(images: Sequence[tuple[np.ndarray, Sequence[float]]], threshold: float,
                  points: int = 0) -> float:
    """Return the AP of one class by VOC's rules, in loops.

    images: IoU of detections and truths (P, T), and scores (P,). points: 11 for the average at
    11 recalls, 0 for the area under the monotone curve.
    """
    ranked = sorted(((-score, i, p) for i, (_, scores) in enumerate(images)
                     for p, score in enumerate(scores)))
    total = sum(iou.shape[1] for iou, _ in images)
    taken, right, curve = set(), 0, []
    for rank, (_, i, p) in enumerate(ranked, 1):
        iou = images[i][0][p]
        best = int(np.argmax(iou)) if len(iou) else -1
        if best >= 0 and iou[best] >= threshold and (i, best) not in taken:
            taken.add((i, best))
            right += 1
        curve.append((right / total, right / rank))
    if points:
        return sum(max((pr for rc, pr in curve if rc >= n / 10), default=0)
                   for n in range(points)) / points
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(curve):
        area += (recall - before) * max(pr for _, pr in curve[place:])
        before = recall
    return area


def cityscapes_precision(images: Sequence[tuple], threshold: float, least: int = 100) -> float:
    """Return the AP of one class as Cityscapes' script has it, in loops over masks.

    images: (true masks, whether each is a group, void mask, masks, scores) of each. NaN where no
    true region counts.
    """
    examples, total = [], 0  # (score, right)
    for truths, group, void, masks, scores in images:
        counts = [not g and t.sum() >= least for t, g in zip(truths, group)]
        total += sum(counts)
        owners: dict[int, list[float]] = {}
        for mask, score in zip(masks, scores):
            if not mask.any():
                continue
            near = [n for n, t in enumerate(truths)
                    if counts[n] and (t & mask).sum() / (t | mask).sum() > threshold]
            if near:
                owners.setdefault(near[0], []).append(score)
                continue
            excused = (void & mask).sum()
            for truth, many in zip(truths, group):  # a small group counts twice
                excused += (truth & mask).sum() * (int(many) + int(truth.sum() < least))
            if excused / mask.sum() <= threshold:
                examples.append((score, False))
        for found in owners.values():
            examples += [(score, n == 0) for n, score in enumerate(sorted(found, reverse=True))]
    if not total:
        return float("nan")
    area, before = 0.0, (0.0, 1.0)
    for level in sorted({score for score, _ in examples}, reverse=True):
        right = [ok for score, ok in examples if score >= level]
        now = sum(right) / total, sum(right) / len(right)
        area += (now[0] - before[0]) * (now[1] + before[1]) / 2
        before = now
    return area
