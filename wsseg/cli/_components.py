"""Connected components as instances, where a data set has none."""

from __future__ import annotations

import numpy as np

from wsseg.annotate.objects import connected_objects
from wsseg.data.rle import mask_of_runs
from wsseg.errors import RecordError
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Segment

MIN_AREA = 16  #: pixels of the least component that is an object
_MOST = 65535
_IGNORE = 255


def components(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return ids uint16 (H,W) of the objects of a record's label map, 0 = none, and the classes
    of the ids 1..N. Raises RecordError for more objects than there are ids."""
    ids, classes = connected_objects(record.get("label"), background=background_id(record.names),
                                     min_area=MIN_AREA)
    if len(classes) > _MOST:
        raise RecordError(f"{len(classes)} components, more than the {_MOST} ids of an instance "
                          "map")
    return ids.astype(np.uint16), classes


def add_instances(record: Record) -> None:
    """Give a record the components of its label map as instances, in place of any it has."""
    ids, classes = components(record)
    record.set("instance", InstanceMap(ids, tuple(
        Segment(n, cls) for n, cls in enumerate(classes.tolist(), 1))))


def add_labels(record: Record) -> None:
    """Give a record the label map that its masks, or else its instances, draw, in place of any.

    Crowds are painted first, then objects from the largest to the smallest. The rest is
    background, or unknown where the classes have none. Raises RecordError.
    """
    if not {"masks", "instance"} & record.kinds():
        raise RecordError("has no masks or instances to make a label map of (it holds "
                          f"{', '.join(sorted(record.kinds())) or 'nothing'})")
    parts: list[tuple[bool, int, int, np.ndarray]] = []
    if "masks" in record:
        value = record.get("masks")
        size, crowd = value.size, value.crowd
        for i, (runs, cls) in enumerate(zip(value.runs, value.classes.tolist())):
            mask = mask_of_runs(runs, size)
            parts.append((crowd is None or not crowd[i], -int(mask.sum()), cls, mask))
    else:
        value = record.get("instance")
        size = value.ids.shape
        parts = [(True, 0, s.cls, value.ids == s.id) for s in value.segments]
    background = background_id(record.names)
    label = np.full(size, _IGNORE if background is None else background, np.uint8)
    for _, _, cls, mask in sorted(parts, key=lambda part: part[:2]):
        if cls >= _IGNORE:
            raise RecordError(f"class {cls} does not fit into a label map: its values go up to 254")
        label[mask] = cls
    record.set("label", label)
