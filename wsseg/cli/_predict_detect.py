"""ws-predict with a detector: photos to boxes with scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsseg.cli._flow import Flow
from wsseg.cli._options import refuse_given
from wsseg.cli._predicting import Model, check_classes, photos_source, same, scales_of
from wsseg.errors import ExitStatus
from wsseg.io.values import Boxes
from wsseg.nets.detector import detect
from wsseg.train.distributed import use_bf16

#: Options of ws-predict that a detector has no use for.
FOREIGN = ("write", "tags", "counts", "branch", "score_stride", "as_classes")
_READS, _WRITES = ("image", "boxes"), ("boxes",)


def run(flow: Flow, path: Path, options: Mapping[str, Any]) -> ExitStatus:
    """Detect objects."""
    refuse_given(FOREIGN, f"is not for a detector ({path})")
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
    check_classes(flow, source, model.names, _READS, _WRITES)
    return flow.run(same, source, reads=_READS, writes=_WRITES, classes=model.names,
                    through=model.predictor(maps, flow.jobs, options["batch"]))
