"""ws-train --task classify: image tags into a classifier, which ws-cam takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from wsseg.cli._train_places import Data, class_weight, read
from wsseg.cli._training import Task
from wsseg.cli._validation import groups
from wsseg.errors import UsageError
from wsseg.io.kinds import background_id
from wsseg.metrics.tagging import tag_score
from wsseg.nets.classifier import ClassifierSpec, build
from wsseg.nets.running import evaluating
from wsseg.nets.weights import load_init
from wsseg.train.classify import TagObjective, tag_probabilities
from wsseg.train.samples import Samples

_KINDS = ("tags", "boxes", "label", "scribble")  # all of them tell the classes of an image


class Classify(Task):
    """A multi-label classifier."""

    best = "val_map"

    def read(self) -> Data:
        data = read(self.flow, self.options, first=_KINDS, weak=_KINDS, val=_KINDS,
                    make=partial(Samples, background=False))
        rows = self._rows(data)
        if not rows:
            raise UsageError("there is no class to learn but the background")
        if data.val is not None and not any(data.val.samples.load(i).tags[rows].any()
                                            for i in range(len(data.val.samples))):
            raise UsageError(f"--val {data.val.samples.source.where}: no image has a tag to be "
                             "found")
        return data

    @staticmethod
    def _rows(data: Data) -> list[int]:
        """The classes but the background."""
        background = background_id(data.names)
        return [i for i in range(len(data.names)) if i != background]

    def net(self, data: Data) -> tuple[Any, str]:
        o = self.options
        net = build(ClassifierSpec(o["backbone"], len(data.names), int(o["stride"]),
                                   o["frozen_norm"], o["dropout"] or 0.))
        return net, load_init(net, o["init"])

    def objective(self, net: Any, data: Data) -> Any:
        weight = class_weight(self.options["class_weight"], len(data.names))
        if weight is not None and not any(weight[i] for i in self._rows(data)):
            raise UsageError(f"--class-weight {self.options['class_weight']}: no class but the "
                             "background has a weight above 0")
        return TagObjective(net, background_id(data.names), class_weight=weight)

    def evaluation(self, net: Any, data: Data, device: Any, bf16: bool
                   ) -> Callable[[], dict[str, Any]]:
        rows = self._rows(data)

        def score() -> dict[str, Any]:
            """Mean average precision over the classes that occur. The net comes back in the mode
            it was in."""
            found, truth = [], []
            with evaluating(net):
                for group in groups(data.val.samples, 1 if device.type == "cpu" else 16,
                                    self.flow.jobs):
                    found.append(tag_probabilities(net, np.stack([s.photo for s in group]),
                                                   bf16=bf16))
                    truth += [s.tags for s in group]
            scores = np.concatenate(found)[:, rows]
            return {"val_map": round(tag_score(scores, np.stack(truth)[:, rows]).mean, 6)}
        return score
