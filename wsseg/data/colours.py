"""The colours in which data sets publish their masks."""

from __future__ import annotations

import numpy as np

from wsseg.errors import UsageError
from wsseg.io.png import voc_palette

#: Cityscapes' colour of each train id, as its label table gives them.
_CITYSCAPES = ("804080 f423e8 464646 66669c be9999 999999 faaa1e dcdc00 6b8e23 98fb98 4682b4 "
               "dc143c ff0000 00008e 000046 003c64 005064 0000e6 770b20")


def palette(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return colours uint8 (N, 3) and the class id of each, int64 (N,); void is 255.

    Raises UsageError for a data set whose colours are not known.
    """
    if name == "voc":
        ids = np.append(np.arange(21), 255)
        return voc_palette()[ids], ids
    if name == "cityscapes":
        colours = [bytes.fromhex(c) for c in (*_CITYSCAPES.split(), "000000")]
        return (np.frombuffer(b"".join(colours), np.uint8).reshape(-1, 3),
                np.append(np.arange(19), 255))
    raise UsageError(f"no colours known for {name!r}: voc or cityscapes")
