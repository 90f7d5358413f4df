"""Records as regions: instance maps with void, background and crowds told apart, and masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from wsseg.cli._pairing import Pair
from wsseg.errors import RecordError, WssegError
from wsseg.io.codec import check_instance
from wsseg.io.jsons import parse_segments
from wsseg.io.kinds import background_id
from wsseg.io.png import decode_labels
from wsseg.io.record import Record
from wsseg.io.values import InstanceMap
from wsseg.metrics.maps import filled, labels_without_id, values_of
from wsseg.metrics.overlaps import Regions, map_regions, mean_confidence, run_regions
from wsseg.metrics.panoptic import has_kernel, labelled_counts

#: Class -> whether it is one of things.
Things = dict[int, bool]


def predicted_regions(record: Record) -> tuple[Regions, Things]:
    """Return the regions of a prediction. Raises RecordError if it holds neither an instance
    map nor masks."""
    if "instance" not in record:
        return _masks(record)
    value = _instance(record)
    return _mapped(value.ids, value), _things(value)


def true_regions(record: Record, void: bool) -> tuple[Regions, Things]:
    """Return the true regions of a record.

    Where an instance map has no segment, the record's label map tells: 255 is void, background
    is nothing, and any other class is a crowd of it. Without a label map all of that is void
    or, unless ``void``, background. Raises RecordError as ``predicted_regions`` does, and for
    maps of different size.
    """
    if "instance" not in record:
        return _masks(record)
    value = _instance(record)
    ids = value.ids
    free = _free_ids(value)
    if "label" not in record:
        if not void:
            ids = filled(ids, np.zeros(ids.shape, np.uint8), {0: next(free)})
        return _mapped(ids, value), _things(value)
    label = record.get("label")
    if label.shape != ids.shape:
        raise RecordError(f"label map is {label.shape[0]}x{label.shape[1]}, instance map is "
                          f"{ids.shape[0]}x{ids.shape[1]}")
    codes = {cls: next(free) for cls in labels_without_id(ids, label).tolist() if cls != 255}
    background = background_id(record.names)
    crowds = {code: cls for cls, code in codes.items() if cls != background}
    if codes:
        ids = filled(ids, label, codes)
    return _mapped(ids, value, crowds), _things(value)


def counts_at_once(pair: Pair, names: Sequence[str] | None, void: bool
                   ) -> tuple[np.ndarray, Things, Things] | None:
    """Return ``panoptic_counts`` of a pair of instance maps, and the kinds of classes of truth
    and prediction, by one call of a kernel.

    That is as ``true_regions`` and ``predicted_regions`` have it. None without kernel, class
    names or prediction, and for whatever is not as it should be: they say what it is.
    """
    if not has_kernel() or not names or pair.prediction is None:
        return None
    if not all("instance" in record for record in (pair.truth, pair.prediction)):
        return None
    try:
        truth, guess = _unchecked(pair.truth), _unchecked(pair.prediction)
        label = pair.truth.get("label") if "label" in pair.truth else None
        background = background_id(pair.truth.names)
    except WssegError:
        return None
    if label is None:
        label, background = np.full(truth.ids.shape, 255 if void else 0, np.uint8), 0
    counts = labelled_counts(_mapped(truth.ids, truth), label, _mapped(guess.ids, guess),
                             len(names), 255, background)
    return None if counts is None else (counts, _things(truth), _things(guess))


def no_regions(like: Regions) -> Regions:
    """Return a prediction of nothing, for an image with these true regions."""
    if like.ids is None:
        return run_regions(like.size, [], [])
    return map_regions(np.zeros(like.size, np.uint16), [], [])


def confidence(record: Record, regions: Regions) -> np.ndarray:
    """Return the mean probability of each region. Raises RecordError without a score map of
    the regions' size."""
    score = record.get("score")
    if tuple(score.size) != tuple(regions.size):
        raise RecordError(f"score map is of a {score.size[0]}x{score.size[1]} image, the regions "
                          f"of a {regions.size[0]}x{regions.size[1]} one")
    return mean_confidence(regions, score.data, score.classes)


def _instance(record: Record) -> InstanceMap:
    """Decode an instance map; that map and list agree is seen from runs, which is faster than
    sorting pixels."""
    value = _unchecked(record)
    try:
        if set(values_of(value.ids).tolist()) - {0} != {s.id for s in value.segments}:
            check_instance(value)
    except RecordError as error:
        raise RecordError(f"instance: {error}") from None
    return value


def _unchecked(record: Record) -> InstanceMap:
    """Decode an instance map whose ids are left in 8 bits where they are stored so."""
    held = record.held("instance")
    if held is not None:
        return held
    if not {"inst.png", "inst.json"} <= record.members.keys():  # decoded already, or not whole
        return record.get("instance")
    parts = record.read("instance")
    try:
        return InstanceMap(decode_labels(parts["inst.png"]),
                           parse_segments(parts["inst.json"], record.names))
    except RecordError as error:
        raise RecordError(f"instance: {error}") from None


def _masks(record: Record) -> tuple[Regions, Things]:
    if "masks" not in record:
        record.read("instance")  # says what the record holds instead
    masks = record.get("masks")
    return (run_regions(masks.size, masks.runs, masks.classes, masks.scores, masks.crowd,
                        masks.areas),
            dict.fromkeys(np.unique(masks.classes).tolist(), True))


def _things(value: InstanceMap) -> Things:
    return {s.cls: s.thing for s in value.segments}


def _mapped(ids: np.ndarray, value: InstanceMap, crowds: dict[int, int] | None = None) -> Regions:
    crowds = crowds or {}
    return map_regions(ids, [*(s.id for s in value.segments), *crowds],
                       [*(s.cls for s in value.segments), *crowds.values()],
                       [*(s.score for s in value.segments), *[1.0] * len(crowds)],
                       [*[False] * len(value.segments), *[True] * len(crowds)])


def _free_ids(value: InstanceMap) -> Iterator[int]:
    """Yield ids that no segment has, first those of 8 bits. Raises RecordError when they run
    out."""
    used = {s.id for s in value.segments}
    yield from (i for i in chain(range(255, 0, -1), range(256, 65536)) if i not in used)
    raise RecordError("instance map has 65535 segments: no id is left for its background")
