"""Class names by data set or from a file. Imports nothing heavy: command lines use it."""

from __future__ import annotations

from wsseg.data import tables
from wsseg.errors import UsageError

#: Data set -> class names, index = class id. ``coco`` and ``coco-panoptic`` number the
#: categories from 1 in the order of COCO's ids. COCO panoptic has no background class: its id 0
#: is reserved, so that 0 is never a thing anywhere, and unlabelled (VOID) pixels are 255.
DATASETS: dict[str, tuple[str, ...]] = {
    "voc": tables.VOC,
    "cityscapes": tables.CITYSCAPES,
    "coco": ("background", *tables.COCO_THINGS),
    "coco-panoptic": ("unlabeled", *tables.COCO_THINGS, *tables.COCO_STUFF),
}

#: Data set -> class ids that are countable things; the others are stuff or background.
THINGS: dict[str, range] = {
    "voc": range(1, 21),
    "cityscapes": range(11, 19),
    "coco": range(1, 81),
    "coco-panoptic": range(1, 81),
}


def load_names(spec: str) -> tuple[str, ...]:
    """Return class names, index = class id, for a data set's name or a text file's path.

    A name of DATASETS wins over a file of that name (``./voc`` is the file). Raises UsageError
    when ``spec`` is neither, and for a file that is no list of names.
    """
    if spec in DATASETS:
        return DATASETS[spec]
    from wsseg.io.jsons import parse_names

    try:
        with open(spec, "rb") as file:
            data = file.read(1 << 24)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"no class names {spec!r}: give one of {', '.join(DATASETS)} or the "
                         f"path of a text file with one name a line ({reason})") from None
    try:
        return parse_names(data.decode("utf-8-sig"), spec)
    except UnicodeDecodeError:
        raise UsageError(f"{spec}: not UTF-8 text; class names are one a line") from None
