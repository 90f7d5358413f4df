"""What ws-weaken does to a record, and which records it leaves strong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsseg.annotate.objects import (connected_objects, count_objects, inner_points,
                                    present_classes, tight_boxes)
from wsseg.budget.subsets import draw
from wsseg.cli._crops import Crops, parse_grid
from wsseg.cli._flow import Flow
from wsseg.cli._held import catalogue
from wsseg.cli._supervision import count_masks, spent
from wsseg.errors import RecordError, UsageError
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.source import Source
from wsseg.io.values import Boxes, Points


def check(wanted: Sequence[str], chosen: Chosen | None, part: str) -> None:
    """Raise UsageError for a choice of options that would make nothing."""
    if not wanted and part != "strong":
        raise UsageError("choose at least one of --tags --counts --boxes --points --scribbles")
    if part != "both" and chosen is None:
        raise UsageError(f"--part {part} needs --count or --fraction")


def cut(flow: Flow, crops: str | None, share: tuple[float, float]) -> Source:
    """Open the input, or its parts where --crops are asked for."""
    if crops is None:
        flow.parameters.pop("crop_share", None)
        if flow.images is not None:
            raise UsageError("--images is for --crops, which cuts the photos too")
        return flow.open()
    grid = parse_grid(crops)
    source = catalogue(flow, flow.inputs[0])
    photos = None if flow.images is None else catalogue(flow, flow.images, "image")
    whole = flow.selected(source, sharded=False)
    flow.key_file = None  # its keys are chosen
    flow.__dict__.pop("wanted", None)
    return Crops(source, photos, whole, grid, share)


@dataclass(frozen=True)
class Chosen:
    """The records that stay strong: those whose draw is at most ``limit``."""

    seed: int
    limit: int

    def __call__(self, key: str) -> bool:
        return draw(self.seed, key) <= self.limit

    def weak(self, key: str) -> bool:
        return not self(key)


def choose(flow: Flow, source: Source, count: int | None, fraction: float | None,
           seed: int) -> Chosen | None:
    """Return which records stay strong, or None when all are weakened.

    Records are ranked by a hash of seed and key, so that a larger subset contains a smaller
    one. Raises UsageError for both or for a count that cannot be reached or known.
    """
    if count is not None and fraction is not None:
        raise UsageError("--count and --fraction exclude each other")
    if fraction is not None:
        return Chosen(seed, int(fraction * (1 << 60)) - 1)
    if count is None:
        return None
    keys = flow.selected(source, sharded=False)
    if keys is None:
        raise UsageError("--count needs to know all keys: use --fraction on a stream, or a "
                         "directory or HDF5 file as INPUT")
    if count > len(keys):
        raise UsageError(f"--count {count}: there are only {len(keys)} records")
    return Chosen(seed, sorted(draw(seed, k) for k in keys)[count - 1] if count else -1)


def step(record: Record, *, wanted: Sequence[str], strong: Chosen | None, seed: int,
         random_points: bool, min_area: int, pen: Mapping[str, Any],
         keep: Sequence[str] = (), along: bool = False) -> Record:
    """Weaken one record, or count what its strong label cost and leave it.

    pen: what ``draw_scribbles`` is told about width, number and accuracy of strokes; along: take
    the record's scribbles, with the true class of each pixel.
    """
    if strong is not None and strong(record.key):
        record.supervision = {"masks": count_masks(record, min_area)}
        return record
    ids, classes, tags = _objects(record, min_area)
    numbers = np.arange(1, len(classes) + 1)
    rng = np.random.default_rng(draw(seed, record.key))
    size = ids.shape
    if "tags" in wanted:
        record.set("tags", tags)
    if "counts" in wanted:
        record.set("counts", count_objects(classes))
    if "boxes" in wanted:
        record.set("boxes", Boxes(tight_boxes(ids, numbers), classes, size))
    if "points" in wanted:
        points = inner_points(ids, numbers, rng if random_points else None)
        record.set("points", Points(points, classes, size))
    if "scribbles" in wanted:
        record.set("scribble", _corrected(record, tags) if along else
                   _scribble(record, ids, classes, draw(seed, record.key), pen))
    kept = record.kinds() & {"label", "instance"} & set(keep)
    masks = {"masks": count_masks(record, min_area)} if kept else {}
    for kind in {"label", "instance"} - kept:
        record.drop(kind)
    record.supervision = {**spent(record), **masks}
    return record


def _corrected(record: Record, tags: Sequence[int]) -> np.ndarray:
    """Return a record's scribbles with the label of each pixel. Raises RecordError where there
    are none, or one of its classes or its background is not scribbled."""
    if "scribble" not in record or "label" not in record:
        raise RecordError(f"has no {'label' if 'scribble' in record else 'scribble'}")
    label, drawn = record.get("label"), record.get("scribble")
    if label.shape != drawn.shape:
        raise RecordError(f"scribble of {drawn.shape} for a label map of {label.shape}")
    found = np.where(drawn == 255, 255, label).astype(np.uint8)
    background = background_id(record.names)
    wanted = {*tags, *([background] if background is not None and (label == background).any()
                       else [])}
    missing = sorted(wanted - set(np.unique(found).tolist()))
    if missing:
        raise RecordError(f"class {missing[0]} is not scribbled")
    return found


def _scribble(record: Record, ids: np.ndarray, classes: np.ndarray, number: int,
              pen: Mapping[str, Any]) -> np.ndarray:
    """Return strokes on all objects and stuff, and on the background where there is one.

    number: chooses them; what else is made of the record does not matter.
    """
    from wsseg.annotate.scribble import draw_scribbles

    background = background_id(record.names)
    label = record.get("label") if "label" in record else _ground(record)
    if "instance" in record:
        ids, classes = _with_stuff(record, ids, classes, label, background)
    if len(classes) and classes.max() >= 255:
        raise RecordError(f"class {classes.max()} does not fit into a scribble map: its "
                          "values go up to 254")
    # the second word keeps strokes apart from random points of the same record
    return draw_scribbles(label, ids, classes, np.random.default_rng([number, 1]),
                          background=background, **pen)


def _with_stuff(record: Record, ids: np.ndarray, classes: np.ndarray, label: np.ndarray,
                background: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Add every segment of stuff, and every class that the label map alone has, to the things."""
    value = record.get("instance")
    ids, classes = ids.copy(), classes.tolist()
    for segment in value.segments:
        if not segment.thing and (part := value.ids == segment.id).any():
            classes.append(segment.cls)
            ids[part] = len(classes)
    more = np.where(value.ids == 0, label, 255)
    named = {s.cls for s in value.segments}
    for cls in present_classes(more, background=background) if "label" in record else ():
        if cls not in named:
            classes.append(cls)
            ids[more == cls] = len(classes)
    return ids, np.array(classes, np.int64)


def _ground(record: Record) -> np.ndarray:
    """Return 0 on the background of an instance map, 255 elsewhere. What no segment covers is
    unknown, not background, where there is stuff or the classes have no background."""
    value = record.get("instance")
    plain = background_id(record.names) == 0 and all(s.thing for s in value.segments)
    return np.where((value.ids == 0) & plain, 0, 255).astype(np.uint8)


def _objects(record: Record, min_area: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Return ids int32 (H, W) with things numbered 1..N, the class of each, and all tags."""
    if "instance" in record:
        value = record.get("instance")
        things = [s for s in value.segments if s.thing]
        table = np.zeros(65536, np.int32)
        table[[s.id for s in things]] = np.arange(1, len(things) + 1)
        tags = tuple(sorted({s.cls for s in value.segments}))
        return table[value.ids], np.array([s.cls for s in things], np.int64), tags
    if "label" not in record:
        raise RecordError("has no label or instance map to weaken (it holds "
                          f"{', '.join(sorted(record.kinds())) or 'nothing'})")
    label = record.get("label")
    background = background_id(record.names)
    return (*connected_objects(label, background=background, min_area=min_area),
            present_classes(label, background=background))
