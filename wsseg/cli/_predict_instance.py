"""ws-predict with an instance net: photos and boxes to instance maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._options import refuse_given
from wsseg.cli._predicting import Model, check_classes, photos_source, same, scales_of
from wsseg.cli._train_instance import Labeller
from wsseg.errors import ExitStatus, RecordError, UsageError
from wsseg.io.kinds import background_id
from wsseg.io.values import ScoreMap
from wsseg.nets.inference import Inference, shrunk
from wsseg.train.distributed import use_bf16

FOREIGN = ("tags", "counts", "branch", "as_classes", "least_score", "most")
_WRITES = {"both": ("instance", "score"), "instance": ("instance",)}


def run(flow: Flow, path: Path, options: Mapping[str, Any]) -> ExitStatus:
    """Label instances, and tell the probabilities that they come from."""
    refuse_given(FOREIGN, f"is not for an instance net ({path})")
    writes = _WRITES.get(options["write"])
    if writes is None:
        raise UsageError(f"--write {options['write']} is not for an instance net ({path})")
    model = Model.open(flow, path, options, "instance")
    source = photos_source(flow)
    if source.header.kinds and "boxes" not in source.header.kinds:
        raise UsageError(f"an instance net needs boxes besides the photos: {source.where} has "
                         "none (name those of a detector as INPUT, and --images)")
    check_classes(flow, source, model.names, ("image",), writes)  # boxes are used
    inference = Inference(model.net.segmenter, model.device, scales_of(options["scales"]),
                          options["flip"], stride=1, bf16=use_bf16(options["precision"],
                                                                   model.device))
    label = Labeller(model.net, background_id(model.names))

    def maps(photos, records):
        found = []
        for photo, record in zip(photos, records):
            boxes = record.get("boxes")
            if boxes.size is not None and tuple(boxes.size) != photo.shape[:2]:
                raise RecordError("boxes are for a {}x{} image, but the photo is {}x{}".format(
                    *boxes.size, *photo.shape[:2]))
            _, (score,) = inference(photo[None], label=False, score=True)
            try:
                values = {"instance": label(score, photo, boxes)}
            except ValueError as error:
                raise RecordError(str(error)) from None
            if "score" in writes:
                values["score"] = ScoreMap(shrunk(score, options["score_stride"]),
                                           np.arange(len(score)), photo.shape[:2])
            found.append(values)
        return found

    return flow.run(same, source, reads=("image", "boxes"), writes=writes,
                    classes=model.names,
                    through=model.predictor(maps, flow.jobs, options["batch"]))
