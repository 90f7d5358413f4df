"""ws-train --task detect: boxes into a Faster R-CNN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np

from wsseg.cli._tasks import given
from wsseg.cli._train_places import Data, read
from wsseg.cli._training import Task
from wsseg.cli._validation import groups
from wsseg.errors import UsageError
from wsseg.io.values import Boxes
from wsseg.metrics.average_precision import COCO, average_precision, match, mean_precision
from wsseg.metrics.overlaps import Overlaps
from wsseg.nets.detector import DetectorSpec, build, detect
from wsseg.nets.running import evaluating
from wsseg.nets.weights import load_init
from wsseg.train.detect import DetectObjective


class Detect(Task):
    """A detector."""

    best = "val_ap50"

    def read(self) -> Data:
        return read(self.flow, self.options, first=("boxes",), weak=("boxes",), val=("boxes",))

    def net(self, data: Data) -> tuple[Any, str]:
        o = self.options
        if o["fpn"] and given(click.get_current_context(), o["task"], "stride"):
            raise UsageError("--stride is not for --fpn, whose levels have strides 4 to 64")
        stride = 32 if o["fpn"] else int(o["stride"])
        more = {} if o["width"] is None else {"width": o["width"]}
        if o["anchors"] is not None:
            more["anchors"] = _sides(o["anchors"])
        net = build(DetectorSpec(o["backbone"], len(data.names), o["fpn"], stride,
                                 frozen_norm=o["frozen_norm"], **more))
        return net, load_init(net, o["init"])

    def objective(self, net: Any, data: Data) -> Any:
        return DetectObjective(net, self.options["rois"])

    def evaluation(self, net: Any, data: Data, device: Any, bf16: bool
                   ) -> Callable[[], dict[str, Any]]:
        samples = data.val.samples

        def score() -> dict[str, Any]:
            images = []
            with evaluating(net):
                for sample, in groups(samples, 1, self.flow.jobs):
                    found, = detect(net, sample.photo[None], device, bf16=bf16)
                    images.append(box_overlaps(Boxes(found[0], found[1], None, found[2]),
                                               sample.boxes))
            return box_scores(images, len(data.names))

        return score


def _sides(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(s) for s in text.split(","))
    except ValueError:
        raise UsageError(f"--anchors {text} is not lengths with commas between, such as "
                         "16,32,64,128,256") from None


def box_overlaps(found: Boxes, truth: Boxes) -> Overlaps:
    """Return which boxes of one class overlap, as the metrics take it."""
    low = np.maximum(found.xyxy[:, None, :2], truth.xyxy[None, :, :2])
    high = np.minimum(found.xyxy[:, None, 2:], truth.xyxy[None, :, 2:])
    meet = (high - low).clip(0).prod(axis=2)
    area = [(b.xyxy[:, 2:] - b.xyxy[:, :2]).prod(axis=1) for b in (found, truth)]
    meet *= found.classes[:, None] == truth.classes
    pairs = np.argwhere(meet > 0)
    iou = meet / (area[0][:, None] + area[1] - meet)
    return Overlaps(found.classes, found.scores, truth.classes,
                    np.zeros(len(truth.classes), bool), pairs, iou[tuple(pairs.T)])


def box_scores(images: Sequence[Overlaps], classes: int) -> dict[str, float]:
    """Return COCO's average precision of boxes, and that at an IoU of .5."""
    table = average_precision(match(images, classes, COCO))
    levels = np.asarray(mean_precision(table))
    return {"val_ap50": _number(levels[0]), "val_ap": _number(levels.mean())}


def _number(value: float) -> float:
    return round(float(np.nan_to_num(value)), 6)
