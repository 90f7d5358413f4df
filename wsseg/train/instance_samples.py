"""Photos with true segments and detections, as the instance net learns from them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsseg.errors import RecordError
from wsseg.io.record import Record
from wsseg.io.source import Catalogue
from wsseg.io.values import Boxes
from wsseg.train.augment import Augment
from wsseg.train.samples import Loader, Moved, Samples
from wsseg.train.sampling import Draw

IGNORE = 255


@dataclass(frozen=True, eq=False)
class SegmentSample:
    """One image: photo uint8 (H,W,3); ids uint16 (H,W), 0 where nothing is known; classes int64
    (M,) of the segments 1..M; detections, whose scores are never None."""

    key: str
    photo: np.ndarray
    ids: np.ndarray
    classes: np.ndarray
    detections: Boxes


def true_segments(record: Record, things: Collection[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return ids uint16 (H,W) and classes int64 (M,) of the segments 1..M of a record.

    Where its instance map has none, a pixel of its label map that is no thing belongs to a segment
    of its class, such as the background of PASCAL VOC. Raises RecordError for maps that differ in
    size.
    """
    value = record.get("instance")
    table = np.zeros(1 + int(value.ids.max(initial=0)), np.uint16)
    for number, segment in enumerate(value.segments, start=1):
        if segment.id < len(table):
            table[segment.id] = number
    ids, classes = table[value.ids], [s.cls for s in value.segments]
    if "label" in record:
        label = record.get("label")
        if label.shape != ids.shape:
            raise RecordError(f"label map is {label.shape[0]}x{label.shape[1]}, instance map is "
                              f"{ids.shape[0]}x{ids.shape[1]}")
        for cls in np.unique(label[ids == 0]).tolist():
            if cls != IGNORE and cls not in things:
                classes.append(cls)
                ids[(ids == 0) & (label == cls)] = len(classes)
    return ids, np.array(classes, np.int64)


def tight_boxes(ids: np.ndarray, classes: np.ndarray, things: Collection[int]) -> Boxes:
    """Return the boxes around the segments that are things, with a score of 1."""
    from scipy.ndimage import find_objects

    found = [(s[1].start, s[0].start, s[1].stop, s[0].stop, cls) for s, cls in zip(
        find_objects(ids.astype(np.int32), len(classes)), classes.tolist())
        if s is not None and cls in things]
    table = np.array(found, float).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].astype(np.int64), ids.shape, np.ones(len(table)))


class SegmentSamples(Samples):
    """The records of a place that have true segments, with their photos.

    things: class ids; detections: a place of boxes, looked up by key; None takes the boxes around
    the true things. The rest is as of ``Samples``.
    """

    def __init__(self, things: Collection[int], detections: Catalogue | None, *args, **more
                 ) -> None:
        super().__init__(*args, **more)
        self.things, self.detections = frozenset(things), detections

    def read(self, record: Record, photo: np.ndarray) -> SegmentSample:
        """Return a sample. Raises RecordError for what does not fit."""
        ids, classes = true_segments(record, self.things)
        size = tuple(photo.shape[:2])
        if ids.shape != size:
            raise RecordError(f"the photo is {size[0]}x{size[1]}, the instance map "
                              f"{ids.shape[0]}x{ids.shape[1]}")
        boxes = tight_boxes(ids, classes, self.things)
        if self.detections is not None:
            try:
                found = self.detections.get(record.key)
            except KeyError:
                raise RecordError(f"is not in {self.detections.where}") from None
            boxes = found.get("boxes")
            if boxes.size is not None and tuple(boxes.size) != size:
                raise RecordError(f"the photo is {size[0]}x{size[1]}, the detections are for "
                                  f"{boxes.size[0]}x{boxes.size[1]}")
        scores = np.ones(len(boxes.classes)) if boxes.scores is None else boxes.scores
        if not ((scores >= 0) & (scores <= 1)).all():
            raise RecordError("a detection has a score outside [0, 1]")
        for what, values in (("segment", classes), ("detection", boxes.classes)):
            if len(values) and values.max() >= self.classes:
                raise RecordError(f"a {what} is of class {values.max()}, but there are "
                                  f"{self.classes} classes")
        return SegmentSample(record.key, photo, ids, classes,
                             Boxes(boxes.xyxy, boxes.classes, size, scores))


def varied(sample: SegmentSample, augment: Augment, seed: int) -> SegmentSample:
    """Return a sample varied as ``augment`` says, in the way ``seed`` says. Segments keep their
    numbers, also those that nothing is left of."""
    warp = augment.draw(sample.photo.shape[:2], np.random.default_rng(seed))
    given = sample.detections
    xyxy, kept = warp.boxes(given.xyxy)
    return SegmentSample(sample.key, warp.photo(sample.photo), warp.label(sample.ids, 0),
                         sample.classes,
                         Boxes(xyxy, given.classes[kept], warp.size, given.scores[kept]))


@dataclass
class InstanceBatch(Moved):
    """Samples of one size. photos: uint8 (B,3,h,w), channels last in memory; ids: int32 (B,h,w);
    classes: one (M,) for each; detections: boxes (N,4), classes (N,), scores (N,) of each."""

    keys: list[str]
    photos: Tensor
    ids: Tensor
    classes: list[np.ndarray]
    detections: list[tuple[np.ndarray, np.ndarray, np.ndarray]]


def stacked_segments(samples: Sequence[SegmentSample]) -> InstanceBatch:
    """Return a batch of samples of one size."""
    photos = torch.from_numpy(np.stack([s.photo for s in samples])).permute(0, 3, 1, 2)
    ids = torch.from_numpy(np.stack([s.ids for s in samples]).astype(np.int32))
    return InstanceBatch([s.key for s in samples], photos, ids, [s.classes for s in samples],
                         [(s.detections.xyxy, s.detections.classes, s.detections.scores)
                          for s in samples])


class SegmentLoader(Loader):
    """Batches of true segments and detections in order."""

    def _sample(self, draw: Draw) -> SegmentSample:
        return varied(self.sources[draw.source].load(draw.index), self.augment, draw.seed)

    def stack(self, samples: Sequence[SegmentSample], draws: Sequence[Draw], number: int
              ) -> InstanceBatch:
        return stacked_segments(samples)
