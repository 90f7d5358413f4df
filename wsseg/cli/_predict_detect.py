"""ws-predict with a detector: photos to boxes with scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsseg.cli._flow import Flow
from wsseg.cli._predicting import Model, photos_source, same, scales_of
from wsseg.errors import ExitStatus, UsageError
from wsseg.io.values import Boxes
from wsseg.nets.detector import detect
from wsseg.train.distributed import use_bf16

#: Options of ws-predict that a detector has no use for.
FOREIGN = ("write", "tags", "branch", "as_classes")

#: What options of ws-predict are where they were not given.
_DEFAULTS = {"write": "both", "tags": False, "scales": "1", "flip": False, "branch": "strong",
             "as_classes": None, "least_score": None, "most": None}


def refuse(options: Mapping[str, Any], foreign: Sequence[str], what: str) -> None:
    """Raise UsageError for an option that was given and means nothing to a kind of net."""
    for name in foreign:
        if options[name] != _DEFAULTS[name]:
            raise UsageError(f"--{name.replace('_', '-')} is not for {what}")


def run(flow: Flow, path: Path, options: Mapping[str, Any]) -> ExitStatus:
    """Detect objects."""
    refuse(options, FOREIGN, f"a detector ({path})")
    model = Model.open(flow, path, options, "detect")
    bf16 = use_bf16(options["precision"], model.device)
    scales = scales_of(options["scales"])
    least = .05 if options["least_score"] is None else options["least_score"]

    def maps(photos, records):
        found = detect(model.net, photos, model.device, least=least,
                       most=options["most"] or 100, scales=scales, flip=options["flip"],
                       bf16=bf16)
        return [{"boxes": Boxes(xyxy, classes, photos.shape[1:3], scores)}
                for xyxy, classes, scores in found]

    source = photos_source(flow)
    return flow.run(same, source, reads=("image", "boxes"), writes=("boxes",),
                    classes=model.names,
                    through=model.predictor(maps, flow.jobs, options["batch"]))
