"""ws-predict for models of RSIS and W-RSIS: photos into objects."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._options import refuse_given
from wsseg.cli._predicting import Model, check_classes, check_tags, photos_source, same
from wsseg.data.rle import runs_of_mask
from wsseg.errors import ExitStatus, RecordError, UsageError
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.source import Source
from wsseg.io.values import InstanceMap, Masks, Segment
from wsseg.nets.rsis_inference import Drawn, choose, run_steps, without_overlap
from wsseg.nets.rsis_spec import LONGEST
from wsseg.train.augment import Augment
from wsseg.train.distributed import use_bf16
from wsseg.train.rsis_samples import token_order
from wsseg.train.tags import tags_vector

#: Options of ws-predict that a recurrent net has no use for.
FOREIGN = ("scales", "flip", "branch", "score_stride", "as_classes", "least_score", "most")
_READS = ("image", "label", "instance", "masks")
_WRITES = {"both": ("masks",), "masks": ("masks",), "instance": ("instance",)}


def run(flow: Flow, path: Path, options: Mapping[str, Any], task: str) -> ExitStatus:
    """Objects from a recurrent net. Raises UsageError for options of other nets."""
    writes = _WRITES.get(options["write"])
    if writes is None:
        raise UsageError(f"--write {options['write']}: a model of ws-train --task {task} gives "
                         "masks or instance")
    refuse_given(FOREIGN, f"is not for models of ws-train --task {task}")
    model = Model.open(flow, path, options, task)
    if model.names and flow.classes and flow.classes != model.names:
        raise UsageError("the model's classes are not those of --classes")
    source = photos_source(flow)
    if options["tags"]:
        check_tags(source)
    counts = options["counts"] or task == "wrsis" and not options["tags"]
    if counts:
        _check_counts(source)
    check_classes(flow, source, model.names, _READS, writes)
    maps = Objects(model.net, model.device, use_bf16(options["precision"], model.device),
                   options["tags"], counts, writes, background_id(model.names))
    return flow.run(same, source, reads=_READS, writes=writes, classes=model.names,
                    through=model.predictor(maps, flow.jobs, options["batch"]))


rsis = partial(run, task="rsis")
wrsis = partial(run, task="wrsis")


def _check_counts(source: Source) -> None:
    """Raise UsageError unless a place has counts."""
    kinds = source.header.kinds
    if kinds and "counts" not in kinds:
        raise UsageError(f"{source.where} has no counts of objects (it holds {', '.join(kinds)}): "
                         "ws-weaken --counts makes them")


@dataclass
class Objects:
    """What a net says of photos of one size.

    tags: only classes that a record's tags list; counts: those of its counts, and so many
    objects. W-RSIS draws what counts say, or, of tags, one object of each class.
    """

    net: Any
    device: Any
    bf16: bool
    tags: bool
    counts: bool
    writes: tuple[str, ...]
    background: int | None

    def __call__(self, photos: np.ndarray, records: Sequence[Record]) -> list[dict[str, Any]]:
        spec = self.net.spec
        told = [self._told(record) for record in records]
        augment = Augment(spec.size, flip=0, squash=True)
        warp = augment.draw(photos.shape[1:3], np.random.default_rng(0))
        small = np.stack([warp.photo(photo) for photo in photos])
        tokens, sequences = None, [None] * len(told)
        if spec.token is not None:
            sequences = [self._tokens(record, counts) for record, counts in zip(records, told)]
            tokens = np.zeros((len(told), max(1, *map(len, sequences), 1)), np.int64)
            for row, sequence in zip(tokens, sequences):
                row[:len(sequence)] = sequence
        found = run_steps(self.net, small, tokens, self.device, self.bf16)
        result = []
        for i, counts in enumerate(told):
            allowed = None if counts is None else tags_vector(counts, spec.classes,
                                                              background=False)
            drawn = choose(found, i, photos.shape[1:3], tokens=sequences[i],
                           background=self.background, allowed=allowed,
                           count=sum(counts.values()) if self.counts else None)
            result.append({kind: _VALUES[kind](drawn)
                           for kind in self.writes})
        return result

    def _told(self, record: Record) -> dict[int, int] | None:
        """What is known of a record's objects, class -> how many."""
        if self.counts:
            counts = {c: n for c, n in record.get("counts").items() if n > 0}
        elif self.tags:
            counts = dict.fromkeys(record.get("tags"), 1)
        else:
            return None
        tags_vector(counts, self.net.spec.classes)
        counts.pop(self.background, None)
        if sum(counts.values()) > LONGEST:
            raise RecordError(f"{sum(counts.values())} objects, more than the {LONGEST} that can "
                              "be drawn")
        return counts

    def _tokens(self, record: Record, counts: Mapping[int, int]) -> np.ndarray:
        classes = np.repeat(list(counts), list(counts.values())).astype(np.int64)
        seed = int(hashlib.sha256(record.key.encode()).hexdigest()[:15], 16)
        return token_order(classes, self.net.spec.order, seed)


def _masks(drawn: Drawn) -> Masks:
    """Every object once for each class it may be of."""
    which, cls = np.nonzero(drawn.scores)
    runs = [runs_of_mask(mask) for mask in drawn.masks]
    return Masks(drawn.masks.shape[1:], tuple(runs[i] for i in which), cls.astype(np.int64),
                 drawn.scores[which, cls].astype(float))


def _instance(drawn: Drawn) -> InstanceMap:
    """Every object once, as what it is most likely, less what lies in a more probable one."""
    ids, (classes, scores) = without_overlap(drawn), drawn.best()
    left = [i for i in range(len(classes)) if (ids == i + 1).any()]
    number = np.zeros(len(classes) + 1, np.uint16)
    number[[i + 1 for i in left]] = np.arange(1, len(left) + 1)
    return InstanceMap(number[ids], tuple(Segment(n, int(classes[i]), float(scores[i]))
                                          for n, i in enumerate(left, 1)))


_VALUES = {"masks": _masks, "instance": _instance}
