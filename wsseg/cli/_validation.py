"""mIoU of a net on labelled images while it is being trained."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from wsseg.metrics.iou import confusion_matrix, segmentation_score
from wsseg.nets.inference import Inference
from wsseg.nets.running import evaluating
from wsseg.train.samples import Sample, Samples


class Validation:
    """Scores a net on label maps, at their full size, images of one size together."""

    def __init__(self, inference: Inference, samples: Samples, batch: int, threads: int) -> None:
        self._inference, self._samples = inference, samples
        self._batch, self._threads = batch, threads

    def score(self) -> dict[str, float]:
        """Return val_miou and val_accuracy. The net comes back in the mode it was in."""
        net = self._inference.net
        classes = net.spec.classes
        total = np.zeros((classes, classes + 1), np.int64)
        with evaluating(net):
            for group in groups(self._samples, self._batch, self._threads):
                found, _ = self._inference(np.stack([s.photo for s in group]))
                for sample, labels in zip(group, found):
                    total += confusion_matrix(sample.label, labels.astype(sample.label.dtype),
                                              classes)
        score = segmentation_score(total)
        return {"val_miou": round(score.miou, 6), "val_accuracy": round(score.pixel_accuracy, 6)}


def groups(samples: Samples, batch: int, threads: int) -> Iterator[list[Sample]]:
    """Yield all samples in groups of one size and at most ``batch``, read ahead."""
    waiting: dict[tuple[int, int], list[Sample]] = {}
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(samples), 64):
            numbers = range(start, min(start + 64, len(samples)))
            for sample in pool.map(samples.load, numbers):
                group = waiting.setdefault(sample.photo.shape[:2], [])
                group.append(sample)
                if len(group) == batch:
                    yield waiting.pop(sample.photo.shape[:2])
    yield from waiting.values()
