"""ws-train --task instance: true segments and detections into the instance net."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from wsseg.cli._fusion import _things
from wsseg.cli._labelled import catalogue
from wsseg.cli._panoptic import instances
from wsseg.cli._supervision import carried
from wsseg.cli._train_places import Data, read
from wsseg.cli._training import Task
from wsseg.cli._validation import groups
from wsseg.errors import UsageError
from wsseg.io.kinds import background_id
from wsseg.io.source import Catalogue
from wsseg.io.supervision import Labels, union
from wsseg.io.values import InstanceMap, ScoreMap
from wsseg.metrics.overlaps import Regions, map_regions
from wsseg.metrics.panoptic import panoptic_counts, panoptic_score
from wsseg.nets.inference import Inference
from wsseg.nets.instance import InstanceSpec, build
from wsseg.nets.running import evaluating
from wsseg.nets.segmenter import NetSpec
from wsseg.nets.weights import load_init
from wsseg.refine.densecrf import DenseCrf
from wsseg.train.instance import InstanceObjective
from wsseg.train.instance_samples import SegmentLoader, SegmentSamples


class Instance(Task):
    """A segmentation net with a dense CRF over detections, end to end or piecewise."""

    best = "val_pq"

    def read(self) -> Data:
        place, flow = self.options["detections"], self.flow
        found = None if place is None else catalogue(flow, place)
        if found is not None and "boxes" not in found.header.kinds:
            raise UsageError(f"--detections: {found.where} holds no boxes")
        self._make, self._found = partial(SegmentSamples, (), found), found
        if place is not None:  # where it lies is no part of how a result was made
            flow.parameters.pop("detections", None)
            flow.arguments = [a for a in flow.arguments if a not in ("--detections", place)]
        data = read(flow, self.options, first=("instance",), weak=("instance",),
                    val=("instance",), make=self._samples)
        if found is not None and found.header.classes not in (None, data.names):
            raise UsageError(f"--detections: the classes of {found.where} are not those that are "
                             "trained")
        return data

    def _samples(self, source: Any, *args: Any, **more: Any) -> SegmentSamples:
        """Samples that know which classes of their place are things."""
        made = self._make(source, *args, **more)
        made.things = self._things(source.header.classes or self.flow.classes)
        return made

    def _things(self, names: tuple[str, ...] | None) -> frozenset[int]:
        found, background = _things(self.options["things"], names), background_id(names)
        if found is None and background is None:
            raise UsageError("say which classes are things: --things")
        return frozenset(range(len(names))) - {background} if found is None else found

    def beside(self) -> dict[str, Catalogue]:
        return {} if self._found is None else {"detections": self._found}

    def net(self, data: Data) -> tuple[Any, str]:
        o = self.options
        segment = NetSpec(o["backbone"], o["head"], len(data.names), int(o["stride"]), fov=int(
            o["fov"]), dropout=o["dropout"], width=o["width"], frozen_norm=o["frozen_norm"])
        net = build(InstanceSpec(segment, tuple(self._things(data.names)), o["crf_iterations"]))
        return net, load_init(net.segmenter, o["init"])

    def spent(self, data: Data, *more: Mapping[str, Labels]) -> dict[str, Labels]:
        found = super().spent(data, *more)
        if self._found is None:
            return found
        return union(found, self._found.header.supervision, carried(self._found) or {})

    def objective(self, net: Any, data: Data) -> Any:
        return InstanceObjective(net, stride=self.options["crf_stride"],
                                 piecewise=self.options["piecewise"])

    def loader(self, data: Data, sampler: Any, rank: int, world: int) -> SegmentLoader:
        return SegmentLoader({n: p.samples for n, p in data.parts.items()}, sampler,
                             self.augment(), threads=self.flow.jobs, rank=rank, world=world)

    def evaluation(self, net: Any, data: Data, device: Any, bf16: bool
                   ) -> Callable[[], dict[str, Any]]:
        samples, names = data.val.samples, data.names
        inference = Inference(net.segmenter, device, stride=1, bf16=bf16)

        def score() -> dict[str, Any]:
            total = np.zeros((4, len(names)))
            with evaluating(net):
                label = Labeller(net, background_id(names))
                for sample, in groups(samples, 1, self.flow.jobs):
                    _, (found,) = inference(sample.photo[None], label=False, score=True)
                    found = label(found, sample.photo, sample.detections)
                    total += panoptic_counts(
                        _regions(sample.ids, sample.classes, background_id(names)),
                        _found(found), len(names))
            return {"val_pq": round(float(np.nan_to_num(panoptic_score(total).mean()[0])), 6)}

        return score


class Labeller:
    """What an instance net makes of a photo and its detections, with the weights it has now."""

    def __init__(self, net: Any, background: int | None) -> None:
        spec, (box, everywhere, gauss, rgb) = net.spec, net.weights.tolist()
        self.things, self.background = frozenset(spec.things), background
        self.weights = box, everywhere
        self.crf = DenseCrf(spec.gauss_sigma, gauss, spec.xy_sigma, spec.rgb_sigma, rgb,
                            spec.iterations)

    def __call__(self, score: np.ndarray, photo: np.ndarray, boxes: Any) -> InstanceMap:
        """score: (K,H,W), what the segmentation net says of every pixel."""
        classes = np.arange(len(score))
        return instances(ScoreMap(score, classes, photo.shape[:2]), boxes, self.things,
                         self.background, self.weights, photo, self.crf)


def _regions(ids: np.ndarray, classes: np.ndarray, background: int | None) -> Regions:
    """The true segments but for the background, whose pixels belong to none and are not void."""
    own = np.flatnonzero(classes != background)
    return map_regions(ids, own + 1, classes[own])


def _found(value: InstanceMap) -> Regions:
    return map_regions(value.ids, [s.id for s in value.segments], [s.cls for s in value.segments])
