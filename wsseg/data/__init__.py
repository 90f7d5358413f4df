"""Foreign data sets read as records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wsseg.errors import UsageError

if TYPE_CHECKING:
    from wsseg.data.base import Dataset

#: Format -> where its open function is; all have the signature of ``open_dataset``.
FORMATS = {
    "voc": "wsseg.data.voc:open_voc",
    "sbd": "wsseg.data.sbd:open_sbd",
    "cityscapes": "wsseg.data.cityscapes:open_cityscapes",
    "coco": "wsseg.data.coco:open_coco",
    "coco-panoptic": "wsseg.data.coco_panoptic:open_coco_panoptic",
    "scribblesup": "wsseg.data.scribblesup:open_scribblesup",
    "labelme": "wsseg.data.labelme:open_labelme",
    "tags": "wsseg.data.tags:open_tags",
}


def open_dataset(format: str, root: str, *, split: str | None = None,
                 classes: tuple[str, ...] | None = None) -> Dataset:
    """Open a foreign data set.

    format: a key of FORMATS. root: its folder or file. split: the name of one of its splits,
    or the path of a list of keys. classes: class names to use in place of its own. Raises
    UsageError or another WssegError when it cannot be read as a whole; a bad record raises
    RecordError when it is asked for.
    """
    import os
    from importlib import import_module

    if format not in FORMATS:
        raise UsageError(f"unknown data set format {format!r}: one of {', '.join(FORMATS)}")
    root = os.fspath(root)
    if not os.path.exists(root):
        raise UsageError(f"{root}: no such file or folder")
    module, _, function = FORMATS[format].partition(":")
    return getattr(import_module(module), function)(root, split=split, classes=classes)
