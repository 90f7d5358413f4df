"""ws-fuse --rule instance: fused scores and boxes to an instance map."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from wsseg.annotate.rect import pixel_boxes
from wsseg.errors import RecordError, UsageError
from wsseg.io.record import Record
from wsseg.io.values import Boxes, InstanceMap, ScoreMap, Segment
from wsseg.refine.densecrf import DenseCrf
from wsseg.refine.instance import candidates, label_instances

#: Options of other rules that this one has no use for.
FOREIGN = ("weights", "confidence", "opinions", "min_score", "fill_below", "instances", "reasons",
           "write")
OWN = ("box_weight", "global_weight", "pairwise")


def check(rule: str, options: Mapping[str, Any], images: bool) -> None:
    """Raise UsageError for options that contradict; options: those that were given."""
    flags = {name: f"--{name.replace('_', '-')}" for name in (*FOREIGN, *OWN)}
    given = {name for name in flags if options.get(name) not in (None, False)}
    odd = given & ({*FOREIGN} if rule == "instance" else {*OWN})
    if odd:
        raise UsageError(f"{flags[sorted(odd)[0]]} has no meaning for --rule {rule}")
    for name in ("absent", "outside") if rule == "instance" else ():
        if options.get(name) not in (None, "zero"):
            raise UsageError(f"--rule instance labels instances, no classes: it takes --{name} "
                             "zero only")
    for name in ("box_weight", "global_weight"):
        if not 0 <= (options.get(name) or 0) < math.inf:
            raise UsageError(f"{flags[name]} is {options[name]:g}, no weight")
    if images and "pairwise" not in given:
        raise UsageError("--images is for --pairwise, which looks at the photos")


def crf_of(preset: str | None) -> DenseCrf | None:
    """Return the parameters of a preset of ws-crf. Raises UsageError for one of another method."""
    if preset is None:
        return None
    from wsseg.cli._refining import PARAMETERS, load_preset

    found = load_preset(preset)
    if found.method != "dense":
        raise UsageError(f"--pairwise {preset} is a preset for --method {found.method}: this is a "
                         "dense CRF")
    return DenseCrf(**{field: found.parameters[option]
                       for option, field in PARAMETERS["dense"].items()})


def instances(scores: ScoreMap, boxes: Boxes, things: Collection[int], background: int | None,
              weights: tuple[float, float], image: np.ndarray | None = None,
              crf: DenseCrf | None = None) -> InstanceMap:
    """Return the instances of one image: things by the number of their box + 1, then stuff.

    scores: at full size; classes that are no things are stuff, the background is no segment.
    Raises RecordError for what does not fit, ValueError for scores that are no scores.
    """
    if image is not None and image.shape[:2] != scores.size:
        raise RecordError("the photo is {}x{}, but the scores are for a {}x{} image".format(
            *image.shape[:2], *scores.size))
    stuff = [c for c in scores.classes.tolist() if c not in things]
    labels = candidates(pixel_boxes(boxes.xyxy, scores.size), boxes.classes, boxes.scores, stuff,
                        scores.size)
    found = label_instances(scores.data, scores.classes, labels, box_weight=weights[0],
                            global_weight=weights[1], image=image, crf=crf)
    if background is not None:
        found[np.isin(found - 1, np.flatnonzero(~labels.thing & (labels.classes == background)))] \
            = 0
    present = np.unique(found)
    return InstanceMap(found.astype(np.uint16), tuple(
        Segment(i, int(labels.classes[i - 1]), float(labels.scores[i - 1]),
                bool(labels.thing[i - 1])) for i in present[present > 0].tolist()))


def photo(records: Sequence[Record]) -> np.ndarray:
    """Return the photo that one of the inputs carries. Raises RecordError if none does."""
    for record in records:
        if "image" in record:
            return record.get("image")
    raise RecordError("has no photo, which --pairwise looks at: name their folder with --images")
