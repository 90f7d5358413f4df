"""What a net is trained on: records as arrays, and batches of them as tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from wsseg.errors import RecordError, WssegError
from wsseg.io.record import Record
from wsseg.io.source import Catalogue
from wsseg.io.values import Boxes
from wsseg.train.augment import Augment, Warp
from wsseg.train.sampling import Draw, Sampler
from wsseg.train.tags import IGNORE, check_label, tags_of_boxes, tags_of_label, tags_vector

MAPS = ("label", "scribble")
STRONG = "strong"  #: name of the source whose labels are taken as true; all others are weak
WEAK = ("tags", "boxes")
_Batch = TypeVar("_Batch")


@dataclass(frozen=True, eq=False)
class Sample:
    """One image: photo uint8 (H,W,3); label uint8 or uint16 (H,W), conf uint8 (H,W); tags bool
    (K,); boxes; warp: how it was varied. What it has not is None."""

    key: str
    photo: np.ndarray
    label: np.ndarray | None = None
    conf: np.ndarray | None = None
    tags: np.ndarray | None = None
    boxes: Boxes | None = None
    warp: Warp | None = None


class Samples:
    """The records of a place that have what training needs, with their photos.

    use: label, scribble, tags or boxes; conf: also the weights of pixels. rows: classes of the
    net that this place's ids stand for, None where they are the net's own. background: class 0
    counts as a tag of every image.
    """

    def __init__(self, source: Catalogue, photos: Catalogue | None, keys: Sequence[str],
                 use: str, classes: int, *, conf: bool = False,
                 rows: Sequence[int] | None = None, background: bool = True) -> None:
        self.source, self.photos, self.keys, self.use = source, photos, list(keys), use
        self.classes, self.conf, self.rows, self.background = classes, conf, rows, background

    def __len__(self) -> int:
        return len(self.keys)

    def load(self, index: int) -> Sample:
        """Return one sample. Raises WssegError naming its key."""
        key = self.keys[index]
        try:
            record = self.source.get(key)
            photo = (record if self.photos is None else self.photos.get(key)).get("image")
            return self.read(record, photo)
        except RecordError as error:
            raise WssegError(f"{key}: {error}") from None

    def read(self, record: Record, photo: np.ndarray) -> Sample:
        """Return the sample of a record. Raises RecordError for labels that do not fit."""
        size = photo.shape[:2]
        label = conf = tags = boxes = None
        if self.use in MAPS:
            label = record.get(self.use)
            _same("photo", size, self.use, label.shape)
            check_label(label, self.classes)
            if self.conf and "conf" in record:
                conf = record.get("conf")
                _same("photo", size, "conf", conf.shape)
            tags = tags_of_label(label, self.classes, background=self.background)
        elif self.use == "tags":
            tags = tags_vector(record.get("tags"), self.classes, background=self.background)
        else:
            boxes = record.get("boxes")
            if boxes.size is not None:
                _same("photo", size, "boxes", boxes.size)
            tags = tags_of_boxes(boxes.xyxy, boxes.classes, self.classes,
                                 background=self.background)
        return Sample(record.key, photo, label, conf, tags, boxes)


def _same(what: str, size: Sequence[int], other: str, shape: Sequence[int]) -> None:
    if tuple(size) != tuple(shape):
        raise RecordError(f"the {what} is {size[0]}x{size[1]}, the {other} {shape[0]}x{shape[1]}")


class Moved:
    """Base of batches, dataclasses that hold tensors among other things."""

    def to(self: _Batch, device: torch.device) -> _Batch:
        """Move the tensors; return the batch."""
        if device.type != "cpu":
            for one in fields(self):
                value = getattr(self, one.name)
                if isinstance(value, Tensor):
                    setattr(self, one.name, value.pin_memory().to(device, non_blocking=True))
        return self


@dataclass
class Batch(Moved):
    """Augmented samples of one size, the strong ones first.

    photos: uint8 (B,3,h,w), channels last in memory; labels: uint8 or int32 (B,h,w), 255 where a
    sample has none; conf: uint8 (B,h,w) or None; tags: bool (B,K), K the most classes of a source
    where they differ; boxes: one (N,4), (N,) pair for
    each sample; strong: how many come from the source ``STRONG``; sources: their names; warps:
    how each was varied, empty if they were not.
    """

    keys: list[str]
    photos: Tensor
    labels: Tensor
    conf: Tensor | None
    tags: Tensor
    boxes: list[tuple[np.ndarray, np.ndarray]]
    strong: int
    seeds: list[int]
    sources: list[str] = field(default_factory=list)
    warps: list[Warp] = field(default_factory=list)


_NO_BOXES = np.zeros((0, 4)), np.zeros(0, np.int64)


def augmented(sample: Sample, augment: Augment, seed: int) -> Sample:
    """Return a sample varied as ``augment`` says, in the way ``seed`` says."""
    warp = augment.draw(sample.photo.shape[:2], np.random.default_rng(seed))
    boxes = sample.boxes
    if boxes is not None:
        xyxy, kept = warp.boxes(boxes.xyxy)
        boxes = Boxes(xyxy, boxes.classes[kept], warp.size)
    return Sample(sample.key, warp.photo(sample.photo),
                  None if sample.label is None else warp.label(sample.label),
                  None if sample.conf is None else warp.label(sample.conf, 0), sample.tags, boxes,
                  warp)


def stacked(samples: Sequence[Sample], draws: Sequence[Draw]) -> Batch:
    """Return a batch of samples of one size, those of the source ``STRONG`` in front."""
    order = sorted(range(len(draws)), key=lambda i: draws[i].source != STRONG)
    samples, draws = [samples[i] for i in order], [draws[i] for i in order]
    size = samples[0].photo.shape[:2]
    wide = any(s.label is not None and s.label.dtype != np.uint8 for s in samples)
    labels = np.full((len(samples), *size), IGNORE, np.int32 if wide else np.uint8)
    conf = None
    for i, sample in enumerate(samples):
        if sample.label is not None:
            labels[i] = sample.label
        if sample.conf is not None:
            conf = np.full((len(samples), *size), 255, np.uint8) if conf is None else conf
            conf[i] = sample.conf
    tags = np.zeros((len(samples), max(len(s.tags) for s in samples)), bool)
    for i, sample in enumerate(samples):
        tags[i, :len(sample.tags)] = sample.tags
    photos = torch.from_numpy(np.stack([s.photo for s in samples])).permute(0, 3, 1, 2)
    boxes = [_NO_BOXES if s.boxes is None else (s.boxes.xyxy, s.boxes.classes) for s in samples]
    return Batch([s.key for s in samples], photos, torch.from_numpy(labels),
                 None if conf is None else torch.from_numpy(conf),
                 torch.from_numpy(tags), boxes,
                 sum(d.source == STRONG for d in draws), [d.seed for d in draws],
                 [d.source for d in draws], [s.warp for s in samples if s.warp is not None])


class Loader:
    """Batches of a run in order, read and augmented by threads ahead of their use.

    The batch of a step depends on the sampler alone: neither on the number of threads, nor on
    where a run was resumed.
    """

    def __init__(self, sources: Mapping[str, Samples], sampler: Sampler, augment: Augment, *,
                 threads: int = 2, rank: int = 0, world: int = 1) -> None:
        cv2.setNumThreads(0)  # threads of its own would take turns with those of torch
        self.sources, self.sampler, self.augment = dict(sources), sampler, augment
        self.threads, self.rank, self.world = threads, rank, world

    def batch(self, number: int) -> Batch:
        """Make one batch here and now."""
        draws = self.sampler.rank(number, self.rank, self.world)
        return self.stack([self._sample(d) for d in draws], draws, number)

    def stack(self, samples: Sequence[Sample], draws: Sequence[Draw], number: int) -> Batch:
        """Make a batch of its samples."""
        return stacked(samples, draws)

    def _sample(self, draw: Draw) -> Sample:
        return augmented(self.sources[draw.source].load(draw.index), self.augment, draw.seed)

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of numbers start to stop - 1."""
        numbers = iter(range(start, stop))
        with ThreadPoolExecutor(self.threads) as pool:
            ahead: list[tuple[int, list[Draw], list[Future]]] = []

            def submit(count: int) -> None:
                for number in itertools.islice(numbers, count):
                    draws = self.sampler.rank(number, self.rank, self.world)
                    ahead.append((number, draws,
                                  [pool.submit(self._sample, d) for d in draws]))

            submit(3)
            try:
                while ahead:
                    number, draws, futures = ahead.pop(0)
                    batch = self.stack([f.result() for f in futures], draws, number)
                    submit(1)
                    yield batch
            finally:
                for *_, futures in ahead:
                    for future in futures:
                        future.cancel()
