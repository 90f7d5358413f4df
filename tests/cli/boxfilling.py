"""What the tests of ws-boxfill share: places with boxes, and the tool run on them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.annotate.test_grabcut import scene
from tests.cli.test_info import run
from tests.conftest import write_place
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import Boxes

SIZE = (20, 30)

needs_higra = pytest.mark.skipif(find_spec("higra") is None, reason="higra is not installed")
#: Methods but rect and grabcut.
NEW = ["seg", *(pytest.param(m, marks=needs_higra) for m in ("proposal", "agree", "best"))]


def boxed(xyxy, classes, *, key: str = "a", size=SIZE, image: np.ndarray | None = None) -> Record:
    """A record of boxes, and a photo if one is given."""
    record = Record(key)
    record.set("boxes", Boxes(np.array(xyxy, float).reshape(-1, 4), np.array(classes, int), size))
    if image is not None:
        record.set("image", image)
    return record


def disc_place(folder: Path) -> tuple[Path, np.ndarray]:
    """A place with a photo of a disc and a loose box around it, and its mask."""
    image, mask = scene()
    ys, xs = np.nonzero(mask)
    box = [xs.min() - 3, ys.min() - 4, xs.max() + 4, ys.max() + 3]
    write_place(folder / "p", [boxed([box], [2], size=mask.shape, image=image)])
    return folder / "p", mask


def fill(place, out: Path, *words, **options) -> list[Record]:
    """Run the tool, and return the records that it wrote."""
    run(["ws-boxfill", place, *words, "-o", out], **options)
    return list(open_source(str(out)))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()
