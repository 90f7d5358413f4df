"""ws-train --task segment: label maps, scribbles and weak labels into a segmentation net."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsseg.cli._labelled import weak_kinds
from wsseg.cli._train_places import Data, class_weight, read
from wsseg.cli._training import Task
from wsseg.cli._validation import Validation
from wsseg.errors import UsageError
from wsseg.io.kinds import background_id
from wsseg.nets.inference import Inference
from wsseg.nets.segmenter import NetSpec, build
from wsseg.nets.weights import load_init
from wsseg.train.cues import Cues
from wsseg.train.dsrg import METHODS
from wsseg.train.objective import Objective, Weak
from wsseg.train.samples import STRONG, Samples


class Segment(Task):
    """A segmentation net, of one branch or two."""

    best = "val_miou"

    def read(self) -> Data:
        seeded = self.options["weak_loss"] in METHODS
        data = read(self.flow, self.options, first=("label", "scribble"),
                    weak=weak_kinds(self.options["weak_loss"]), val=("label",),
                    make=Cues if seeded else Samples)
        for name, part in data.parts.items():
            part.samples.background = background_id(data.names) is not None
            if seeded and name != STRONG:
                self._drop_blind(part.samples)
        return data

    def _drop_blind(self, samples: Cues) -> None:
        """Leave out images without a cue, with --keep-going. Raises UsageError."""
        blind = samples.blind
        if not blind:
            return
        text = (f"{len(blind)} records of {samples.source.where} have no cue, only 255: "
                f"{', '.join(sorted(blind)[:5])}{' ...' if len(blind) > 5 else ''}")
        samples.keys = [k for k in samples.keys if k not in blind]
        if not self.flow.keep_going or not len(samples):
            raise UsageError(text + ("" if self.flow.keep_going else
                                     " (--keep-going leaves them out)"))
        self.flow.env.say(text)
        self.flow.failed += len(blind)

    def net(self, data: Data) -> tuple[Any, str]:
        o = self.options
        if o["frozen_norm"] and o["backbone"].startswith("efficientnet"):
            self.flow.env.say("note: EfficientNet-Lite hardly learns while its norms are held "
                              "still; leave out --frozen-norm")
        net = build(NetSpec(o["backbone"], o["head"], len(data.names), int(o["stride"]), o["dual"],
                            o["shared"], o["msc"], o["frozen_norm"], int(o["fov"]), o["dropout"],
                            o["width"]))
        return net, load_init(net, o["init"])

    def objective(self, net: Any, data: Data) -> Any:
        o = self.options
        weak = Weak(o["weak_loss"], *o["em_bias"], *o["em_portions"], o["em_passes"],
                    o["em_forbid"], o["mil_form"], *o["dsrg_thresholds"])
        rows = {n: p.samples.rows for n, p in data.parts.items() if p.samples.rows is not None}
        return Objective(net, weak, at=o["loss_at"], rows=rows,
                         background=background_id(data.names) is not None,
                         class_weight=class_weight(o["class_weight"], len(data.names)))

    def evaluation(self, net: Any, data: Data, device: Any, bf16: bool
                   ) -> Callable[[], dict[str, Any]]:
        return Validation(Inference(net, device, bf16=bf16), data.val.samples,
                          1 if device.type == "cpu" else 16, self.flow.jobs).score
