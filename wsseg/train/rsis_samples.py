"""Photos with their objects, as RSIS learns from them: squashed, the largest objects first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from wsseg.errors import RecordError
from wsseg.io.record import Record
from wsseg.train.augment import Augment
from wsseg.train.samples import Loader, Moved, Samples
from wsseg.train.sampling import Draw

MOST = 20  #: objects of an image that are learnt from
_ORDER = 3  # the word of seeds that draw orders


@dataclass(frozen=True, eq=False)
class Objects:
    """What a record knows of its objects. maps: one map of ids, uint16 (H,W), or, where they may
    overlap, a mask uint8 (H,W) for each; classes: int64 (N,) of the ids 1..N or of the masks;
    valid: uint8 (H,W), 0 where nothing is known, or None."""

    maps: tuple[np.ndarray, ...]
    classes: np.ndarray
    valid: np.ndarray | None = None

    def masks(self, size: tuple[int, int]) -> np.ndarray:
        """Return every object's mask, bool (N,H,W)."""
        if len(self.maps) == 1 and self.maps[0].dtype == np.uint16:
            return self.maps[0] == np.arange(1, len(self.classes) + 1)[:, None, None]
        return np.stack(self.maps) > 0 if self.maps else np.zeros((0, *size), bool)


@dataclass(frozen=True, eq=False)
class ObjectSample:
    """One image: photo uint8 (H,W,3), masks bool (N,H,W) of classes int64 (N,), by falling area;
    valid bool (H,W) or None."""

    key: str
    photo: np.ndarray
    masks: np.ndarray
    classes: np.ndarray
    valid: np.ndarray | None = None


class ObjectSamples(Samples):
    """The records of a place, with their photos and what ``find`` makes of a record.

    find: record and kind of label -> Objects; it raises RecordError. The rest is as of
    ``Samples``.
    """

    def __init__(self, find: Callable[[Record, str], Objects], *args, **more) -> None:
        super().__init__(*args, **more)
        self.find = find

    def read(self, record: Record, photo: np.ndarray) -> tuple[np.ndarray, Objects]:
        """Return photo and objects. Raises RecordError for objects that do not fit."""
        found, size = self.find(record, self.use), tuple(photo.shape[:2])
        for one in (*found.maps, *(() if found.valid is None else (found.valid,))):
            if one.shape != size:
                raise RecordError(f"the photo is {size[0]}x{size[1]}, the {self.use} "
                                  f"{one.shape[0]}x{one.shape[1]}")
        if len(found.classes):
            odd = found.classes[(found.classes < 0) | (found.classes >= self.classes)]
            if len(odd):
                raise RecordError(f"an object's class {odd[0]} is none of the {self.classes} "
                                  "classes")
        return photo, found


def squashed(key: str, photo: np.ndarray, objects: Objects, augment: Augment, seed: int,
             most: int = MOST) -> ObjectSample:
    """Return a sample varied as ``augment`` says, in the way ``seed`` says: its ``most`` largest
    objects, without those that nothing is left of."""
    warp = augment.draw(photo.shape[:2], np.random.default_rng(seed))
    moved = Objects(tuple(warp.label(m, 0) for m in objects.maps), objects.classes)
    masks = moved.masks(warp.size)
    valid = None if objects.valid is None else warp.label(objects.valid, 0) > 0
    areas = masks.sum((1, 2))
    order = np.argsort(-areas, kind="stable")[:min(most, int((areas > 0).sum()))]
    return ObjectSample(key, warp.photo(photo), masks[order], objects.classes[order], valid)


def token_order(classes: np.ndarray, order: str, seed: int | Sequence[int] = 0) -> np.ndarray:
    """Return the classes (N,) of objects in the order in which W-RSIS is told them.

    order: ``class`` ascending, ``count`` the class of most objects first, ``random`` drawn with
    ``seed``. It depends on how many there are of each class, not on their own order.
    """
    classes = np.sort(np.asarray(classes, np.int64))
    if order == "random":
        return classes[np.random.default_rng(seed).random(len(classes)).argsort(kind="stable")]
    if order == "count" and len(classes):
        number = np.bincount(classes)[classes]
        return classes[np.lexsort((classes, -number))]
    return classes


@dataclass
class ObjectBatch(Moved):
    """Samples of one size.

    photos: uint8 (B,3,h,w), channels last in memory; masks: uint8 (B,G,h,w), classes: int64
    (B,G), of which the first ``objects``, int64 (B,), are real, G at least 1; valid: bool
    (B,h,w) or None; tokens: int64 (B,S), S at least 1, the classes that W-RSIS is told; number:
    of the batch in its run.
    """

    keys: list[str]
    photos: Tensor
    masks: Tensor
    classes: Tensor
    objects: Tensor
    valid: Tensor | None
    tokens: Tensor
    number: int = 0
    seeds: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


def stacked_objects(samples: Sequence[ObjectSample], draws: Sequence[Draw], *, steps: int,
                    order: str = "class", number: int = 0) -> ObjectBatch:
    """Return a batch. steps, order: of the tokens, the classes of the ``steps`` largest
    objects."""
    size, most = samples[0].photo.shape[:2], max(1, *(len(s.classes) for s in samples), 1)
    masks = np.zeros((len(samples), most, *size), np.uint8)
    classes = np.zeros((len(samples), most), np.int64)
    tokens = np.zeros((len(samples), min(most, steps)), np.int64)
    valid = None
    for i, (sample, draw) in enumerate(zip(samples, draws)):
        n = len(sample.classes)
        masks[i, :n], classes[i, :n] = sample.masks, sample.classes
        told = token_order(sample.classes[:steps], order, (_ORDER, draw.seed))
        tokens[i, :len(told)] = told
        if sample.valid is not None:
            valid = np.ones((len(samples), *size), bool) if valid is None else valid
            valid[i] = sample.valid
    photos = torch.from_numpy(np.stack([s.photo for s in samples])).permute(0, 3, 1, 2)
    return ObjectBatch([s.key for s in samples], photos, torch.from_numpy(masks),
                       torch.from_numpy(classes),
                       torch.tensor([len(s.classes) for s in samples]),
                       None if valid is None else torch.from_numpy(valid),
                       torch.from_numpy(tokens), number, [d.seed for d in draws],
                       [d.source for d in draws])


class ObjectLoader(Loader):
    """Batches of objects in order; steps and order are those of the net."""

    def __init__(self, *args, steps: int, order: str = "class", **more) -> None:
        super().__init__(*args, **more)
        self.steps, self.order = steps, order

    def _sample(self, draw: Draw) -> ObjectSample:
        source = self.sources[draw.source]
        photo, objects = source.load(draw.index)
        return squashed(source.keys[draw.index], photo, objects, self.augment, draw.seed)

    def stack(self, samples: Sequence[ObjectSample], draws: Sequence[Draw], number: int
              ) -> ObjectBatch:
        return stacked_objects(samples, draws, steps=self.steps, order=self.order, number=number)
