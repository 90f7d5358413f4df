"""ws-train --task rsis and wrsis: objects into a net that draws them one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from wsseg.cli._objects import ObjectValidation, find
from wsseg.cli._train_places import Data, read
from wsseg.cli._training import Task
from wsseg.errors import UsageError
from wsseg.io.kinds import background_id
from wsseg.nets.rsis import RSISSpec, build
from wsseg.nets.weights import load_init
from wsseg.train.augment import Augment
from wsseg.train.rsis import RSISObjective
from wsseg.train.rsis_samples import ObjectLoader, ObjectSamples
from wsseg.train.rsis_stages import Stages
from wsseg.train.sampling import Sampler

KINDS = ("instance", "masks")


class Rsis(Task):
    """RSIS: masks, classes and stops."""

    best = "val_ap50"
    told = False

    def read(self) -> Data:
        kinds = (*KINDS, "label") if self.options["from_components"] else KINDS
        return read(self.flow, self.options, first=kinds, weak=kinds, val=kinds,
                    make=partial(ObjectSamples, find))

    def net(self, data: Data) -> tuple[Any, str]:
        o = self.options
        net = build(RSISSpec(o["backbone"], len(data.names), o["width"] or 128, o["max_objects"],
                             (o["crop"], o["crop"]), o["token_at"] if self.told else None,
                             o["token_order"], o["frozen_norm"]))
        return net, load_init(net, o["init"])

    def augment(self) -> Augment:
        o = self.options
        return Augment(o["crop"], flip=o["flip"], rotate=o["rotate"], squash=True,
                       brightness=o["jitter"], contrast=o["jitter"], saturation=o["jitter"])

    def loader(self, data: Data, sampler: Sampler, rank: int, world: int) -> ObjectLoader:
        o = self.options
        if world > 1 and o["patience"]:
            raise UsageError("--patience is for one process: only the first one evaluates")
        self.stages = None if self.told else self._stages(data, sampler)
        return ObjectLoader({n: p.samples for n, p in data.parts.items()}, sampler,
                            self.augment(), threads=self.flow.jobs, rank=rank, world=world,
                            steps=o["max_objects"], order=o["token_order"])

    def _stages(self, data: Data, sampler: Sampler) -> Stages:
        """The batches from which losses count. Raises UsageError for patience with nothing to
        look at."""
        o, share = self.options, sampler.share
        if o["patience"] and data.val is None:
            raise UsageError("--patience needs --val")
        whole = o["iterations"] * o["accumulate"] if o["iterations"] else o["epochs"] / share
        cls, stop = (whole * usual if given is None else given / share
                     for given, usual in ((o["class_from"], .2), (o["stop_from"], .5)))
        return Stages(math.ceil(cls - 1e-9), None if o["patience"] else math.ceil(stop - 1e-9),
                      o["patience"] or 0)

    def objective(self, net: Any, data: Data) -> RSISObjective:
        self._net = net
        self._objective = RSISObjective(net, masked=self.options["matching"] == "masked",
                                        stages=self.stages)
        self._kept: dict[str, Any] = {}  # the best weights of this stage
        return self._objective

    def evaluation(self, net: Any, data: Data, device: Any, bf16: bool
                   ) -> Callable[[], dict[str, Any]]:
        validation = ObjectValidation(
            self._objective, data.val.samples, background_id(data.names), device, bf16,
            1 if device.type == "cpu" else 16, self.flow.jobs)

        def evaluate() -> dict[str, Any]:
            score = validation.score()
            if self.stages is not None and self.stages.patience:
                score |= self._stage(score["val_loss"])
            return score
        return evaluate

    def _stage(self, loss: float) -> dict[str, Any]:
        """Go on to the stop loss, from the best weights, when patience is over."""
        told = self.stages.look(loss, self._objective.seen)
        if told == "better" and not self.stages.stopping:
            self._kept = {k: v.detach().clone() for k, v in self._net.state_dict().items()}
        if told != "next":
            return {}
        self._net.load_state_dict(self._kept)
        self._kept = {}
        self.flow.env.say("the stop loss sets in, from the best weights so far", 1)
        return {"stage": "stop"}

    def state(self) -> dict[str, Any]:
        if self.stages is None or not self.stages.patience:
            return {}
        return {"stages": self.stages.as_json(), "kept": self._kept}

    def restore(self, state: Mapping[str, Any]) -> None:
        if self.stages is not None and self.stages.patience:
            self.stages.restore(state["stages"])
            self._kept = dict(state["kept"])


class WRsis(Rsis):
    """W-RSIS: told the class of each object, it draws the masks."""

    told = True
