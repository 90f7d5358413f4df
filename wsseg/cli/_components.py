"""Connected components as instances, where a data set has none."""

from __future__ import annotations

import numpy as np

from wsseg.annotate.objects import connected_objects
from wsseg.errors import RecordError
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap, Segment

MIN_AREA = 16  #: pixels of the least component that is an object
_MOST = 65535


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
