"""The objects of a record, as RSIS learns from them, and how well it finds them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from wsseg.cli._components import components
from wsseg.data.rle import mask_of_runs
from wsseg.errors import RecordError
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.metrics.average_precision import average_precision, match, mean_precision
from wsseg.metrics.overlaps import Overlaps
from wsseg.nets.rsis import Found
from wsseg.nets.rsis_inference import Drawn, choose
from wsseg.nets.running import evaluating
from wsseg.train.augment import Augment
from wsseg.train.rsis import RSISObjective
from wsseg.train.rsis_samples import (ObjectBatch, Objects, ObjectSamples, squashed,
                                      stacked_objects)
from wsseg.train.samples import STRONG
from wsseg.train.sampling import Draw
from wsseg.train.tags import IGNORE


def find(record: Record, use: str) -> Objects:
    """Return the objects that a record's ``use`` shows: its instances (stuff is none), its masks,
    of which one that is there for several classes is one object of the class with the highest
    score, or the connected components of its label map.

    What a label map beside them does not know (255) is not known, nor are components that are too
    small. Raises RecordError.
    """
    if use == "label":
        label, background = record.get("label"), background_id(record.names)
        ids, classes = components(record)
        known = (ids > 0) if background is None else (ids > 0) | (label == background)
        return Objects((ids,), classes, (known & (label != IGNORE)).view(np.uint8))
    valid = None
    if "label" in record:
        valid = (record.get("label") != IGNORE).view(np.uint8)
    if use == "instance":
        value = record.get("instance")
        things = [s for s in value.segments if s.thing]
        table = np.zeros(65536, np.uint16)
        table[[s.id for s in things]] = np.arange(1, len(things) + 1)
        return Objects((table[value.ids],), np.array([s.cls for s in things], np.int64), valid)
    value = record.get("masks")
    crowd = np.zeros(len(value.runs), bool) if value.crowd is None else value.crowd
    best: dict[tuple[int, ...], int] = {}
    for i in np.flatnonzero(~crowd).tolist():
        runs = value.runs[i]
        if runs not in best or value.scores[i] > value.scores[best[runs]]:
            best[runs] = i
    maps = [mask_of_runs(runs, value.size).view(np.uint8) for runs in best]
    if crowd.any():
        many = _any([mask_of_runs(value.runs[i], value.size) for i in np.flatnonzero(crowd)])
        known = ~many if not maps else ~many | _any(maps)
        if valid is not None and valid.shape != known.shape:
            raise RecordError(f"label map is {valid.shape[0]}x{valid.shape[1]}, masks are "
                              f"{known.shape[0]}x{known.shape[1]}")
        valid = (known if valid is None else known & (valid > 0)).view(np.uint8)
    return Objects(tuple(maps), value.classes[list(best.values())].astype(np.int64), valid)


def _any(masks: Sequence[np.ndarray]) -> np.ndarray:
    return np.logical_or.reduce(masks)


class ObjectValidation:
    """Scores a net on objects at the size that it sees them: its loss, and AP at IoU .5.

    W-RSIS is told the true classes. forward: (net, batch) -> Found.
    """

    def __init__(self, objective: RSISObjective, samples: ObjectSamples, background: int | None,
                 device: Any, bf16: bool, batch: int, threads: int) -> None:
        self._objective, self._samples, self._background = objective, samples, background
        self._where, self._batch, self._threads = (device, bf16), batch, threads

    def score(self) -> dict[str, float]:
        """Return val_loss and val_ap50. The net comes back in the mode it was in."""
        objective, images = self._objective, []
        total = np.zeros((2, 3))
        with evaluating(objective):
            for batch in self._batches():
                found, sums, counts = objective.judge(batch, *self._where)
                total[:, :len(sums)] += [sums.tolist(), counts.tolist()]
                images += [self._overlaps(found, batch, i) for i in range(len(batch.keys))]
        means = total[0] / np.maximum(total[1], 1e-9)
        weights = objective.weights
        stop = objective.stages is not None and objective.stages.of(objective.seen)[1]
        loss = float(means @ [weights.mask, weights.cls, weights.stop * stop])
        table = average_precision(match(images, objective.net.spec.classes, (.5,)))
        precision = float(np.nan_to_num(mean_precision(table)[0]))
        return {"val_loss": round(loss, 6), "val_ap50": round(precision, 6)}

    def _overlaps(self, found: Found, batch: ObjectBatch, i: int) -> Overlaps:
        n, spec = int(batch.objects[i]), self._objective.net.spec
        told = None if spec.token is None else batch.tokens[i, :min(n, spec.steps)].cpu().numpy()
        size = tuple(batch.masks.shape[2:])
        drawn = choose(found, i, size, tokens=told, background=self._background)
        valid = None if batch.valid is None else batch.valid[i].cpu().numpy()
        return overlaps_of(drawn, batch.masks[i, :n].cpu().numpy() > 0,
                           batch.classes[i, :n].cpu().numpy(), valid)

    def _batches(self) -> Iterator[ObjectBatch]:
        """All samples in their order, read ahead."""
        spec = self._objective.net.spec
        augment = Augment(spec.size, flip=0, squash=True)

        def load(index: int):
            photo, objects = self._samples.load(index)
            return squashed(self._samples.keys[index], photo, objects, augment, 0)

        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(self._samples), self._batch):
                numbers = range(start, min(start + self._batch, len(self._samples)))
                yield stacked_objects(list(pool.map(load, numbers)),
                                      [Draw(STRONG, i, 0) for i in numbers], steps=spec.steps,
                                      order=spec.order)


def overlaps_of(drawn: Drawn, masks: np.ndarray, classes: np.ndarray,
                valid: np.ndarray | None = None) -> Overlaps:
    """Return how objects overlap the true masks bool (G,H,W) of classes (G,), each taken for an
    object of every class that its score is not 0 of; pixels that are not valid are left out."""
    mine, which = np.nonzero(drawn.scores)
    found = drawn.masks if valid is None else drawn.masks & valid
    pixels = masks.shape[1] * masks.shape[2]
    flat, true = found.reshape(len(found), pixels), masks.reshape(len(masks), pixels)
    meet = flat.astype(np.float32) @ true.astype(np.float32).T
    join = flat.sum(1)[:, None] + true.sum(1) - meet
    iou = (meet / np.maximum(join, 1))[mine]
    pairs = np.argwhere((which[:, None] == classes) & (iou > 0))
    return Overlaps(which, drawn.scores[mine, which].astype(float), classes,
                    np.zeros(len(classes), bool), pairs, iou[tuple(pairs.T)].astype(float))
