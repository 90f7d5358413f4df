"""Boxes of which an answer says little, and boxes that no method could fill: counted and told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._tally import Tally
from wsseg.errors import RecordError
from wsseg.io import jsons
from wsseg.io.atomic import atomic_write
from wsseg.io.record import Record
from wsseg.io.values import Boxes

#: What is counted, in the order in which it is told: name in JSON -> what is said of N boxes.
TEXTS = {
    "empty": "are empty or turned, left out",
    "outside": "are outside their image, left out",
    "cut_off": "are partly outside their image, cut off at its border",
    "duplicate": "are the same as another one, of which the last has the pixels",
    "whole_image": "are as large as the image, with no surroundings",
    "not_found": "are taken whole, for next to nothing was found in them",
    "not_agreed": "are unknown as a whole, for a method found next to nothing in them",
}


@dataclass(frozen=True)
class Census:
    """Counts what is odd about boxes as records pass on their way to the step.

    drop: leave out boxes that are empty, turned or outside their image, which are errors else.
    """

    tally: Tally
    drop: bool = False

    def __call__(self, record: Record) -> Record:
        """Count the record's boxes; with ``drop`` leave some out. Raises RecordError."""
        seen = {"empty": _leave_out_empty(record) if self.drop and "boxes" in record else 0}
        boxes = record.get("boxes")
        seen["boxes"] = len(boxes.xyxy)
        size = boxes.size
        if size is None and "image" in record:
            size = record.get("image").shape[:2]
        if size is not None and len(boxes.xyxy):
            self._compare(record, boxes, size, seen)
        self.tally.add(seen)
        return record

    def _compare(self, record: Record, boxes: Boxes, size: tuple[int, int],
                 seen: dict[str, int]) -> None:
        limit = np.array([size[1], size[0]])
        low, high = boxes.xyxy[:, :2], boxes.xyxy[:, 2:]
        gone = ((low >= limit) | (high <= 0)).any(axis=1)
        if self.drop and gone.any():
            seen["outside"] = int(gone.sum())
            kept = ~gone
            boxes = Boxes(boxes.xyxy[kept], boxes.classes[kept], boxes.size,
                          None if boxes.scores is None else boxes.scores[kept])
            record.set("boxes", boxes)
            low, high, gone = low[kept], high[kept], gone[kept]
        rows = np.concatenate([low, high, boxes.classes[:, None]], axis=1)
        seen["duplicate"] = len(rows) - len(np.unique(rows, axis=0))
        seen["whole_image"] = int(((low <= 0) & (high >= limit)).all(axis=1).sum())
        # a side may lie between the pixels: what rounds to the border does not leave the image
        seen["cut_off"] = int((((low < -0.5) | (high >= limit + 0.5)).any(axis=1) & ~gone).sum())

    def report(self, flow: Flow, path: str | None = None) -> None:
        """Say what was counted, and write it to a JSON file if one is named."""
        found = self.tally.total()
        for name, text in TEXTS.items():
            if found[name]:
                many = found[name] > 1
                flow.env.say(f"{found[name]} boxes {text}" if many else f"1 box {_one(text)}")
        flow.env.say(f"{found['boxes']} boxes seen", 1)
        if path is not None:
            counts = {name: found[name] for name in ("boxes", *TEXTS)}
            atomic_write(Path(path), jsons.dump(counts, indent=1))


def _one(text: str) -> str:
    """What is said of one box."""
    return text.replace("are ", "is ", 1).replace("in them", "in it").replace("their", "its")


def _leave_out_empty(record: Record) -> int:
    """Leave out the boxes that have no area, which no reader of boxes takes; return how many."""
    (data,) = record.read("boxes").values()
    try:
        value = jsons.parse(data)
        items = value["boxes"]
        kept = [item for item in items if not _empty(item["box"])]
    except (RecordError, KeyError, TypeError):
        return 0  # which the reader says better
    if len(kept) < len(items):
        record.set("boxes", jsons.read_boxes({**value, "boxes": kept}, record.names))
    return len(items) - len(kept)


def _empty(box: object) -> bool:
    """Whether a box has numbers for sides, but no area."""
    return (isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) for v in box)
            and (box[2] <= box[0] or box[3] <= box[1]))
