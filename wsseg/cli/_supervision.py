"""How much a person labelled: what a record's supervision is counted from. What of it adds up is
said in ``io.supervision``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from wsseg.errors import WssegError
from wsseg.io.kinds import WEAK, background_id
from wsseg.io.record import Record, Supervision
from wsseg.io.source import Source
from wsseg.io.supervision import Labels, load_supervision

#: Kinds that are masks where they are ground truth, the one that tells objects best first.
STRONG = ("instance", "masks", "label")


def spent(record: Record, *, truth: bool = False) -> Supervision:
    """Return kind -> (classes, objects) for the labels in a record that a person gave.

    Weak kinds count as what they are. Label and instance maps and masks count as ``masks`` only
    where ``truth`` says that they are ground truth: a folder of them may as well be predictions.
    """
    result: Supervision = {}
    for kind in WEAK:
        if kind in record:
            result[kind] = _count(kind, record.get(kind), background_id(record.names))
    if truth and any(kind in record for kind in STRONG):
        result["masks"] = count_masks(record)
    return result


def carried(source: Source) -> dict[str, Labels] | None:
    """Return the labels that the records of a place carry in all, None if that is not known, as
    of a stream. A foreign folder of photos carries none."""
    if source.end is not None:
        return source.end.given
    foreign = not getattr(source, "canonical", True)
    return {} if foreign and not {*source.header.kinds} & {*WEAK} else None


def behind(card: Mapping[str, Any] | None, path: object) -> dict[str, Labels]:
    """Return the labels that a model learnt from, by its card. Raises WssegError where they are
    none that can be."""
    try:
        return load_supervision((card or {}).get("supervision", {}))
    except (TypeError, ValueError, AttributeError) as error:
        raise WssegError(f"{path}: its card is damaged ({error})") from None


def count_masks(record: Record, min_area: int = 16) -> tuple[int, int]:
    """Return (classes, objects) of the first kind of ``STRONG`` that a record has. Crowds are no
    objects, nor are components of a label map below ``min_area`` pixels, as for ws-weaken."""
    from wsseg.annotate.objects import connected_objects

    if "instance" in record:
        things = [s.cls for s in record.get("instance").segments]
        return len(set(things)), len(things)
    if "masks" in record:
        value = record.get("masks")
        own = value.classes if value.crowd is None else value.classes[~value.crowd]
        return len(set(own.tolist())), len(own)
    _, classes = connected_objects(record.get("label"), min_area=min_area,
                                   background=background_id(record.names))
    return len(set(classes.tolist())), len(classes)


def _count(kind: str, value, background: int | None) -> tuple[int, int]:
    """Return (classes, objects). The background is no class that is asked for, but a point in it
    is a click."""
    if kind == "tags":
        return len(value), len(value)
    if kind == "counts":
        return len(value), sum(value.values())
    if kind == "scribble":
        drawn = set(np.unique(value).tolist()) - {background, 255}
        return len(drawn), len(drawn)
    return len(set(value.classes.tolist()) - {background}), len(value.classes)
