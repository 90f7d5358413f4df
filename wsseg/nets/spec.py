"""What a segmentation net is made of, in a form that a checkpoint's header holds.

This module does not import torch, so that a command line can be checked without it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsseg.errors import WssegError

BACKBONES = ("vgg16", "resnet50", "resnet101", "xception65", "efficientnet-lite0",
             "efficientnet-lite1", "efficientnet-lite2")
HEADS = ("largefov", "aspp", "deeplabv3", "deeplabv3plus", "pspnet", "conv6")
STRIDES = (8, 16, 32)
#: The nominal field of view of fc6 in pixels, as DeepLab counts it.
FOVS = (128, 224)
MOST_CLASSES = 65_535
_WIDEST = 8192
_DEEPEST = 8


@dataclass(frozen=True)
class NetSpec:
    """A backbone with a head; the defaults are those of the papers where they state one.

    ``stride`` is the backbone's. ``dual`` adds a weak branch beside the strong one; ``shared`` of
    the ``neck`` convolutions are then common to both (dualbranch-2020, n). ``neck`` None means 3
    with ``dual`` or the head ``conv6``, else 0. ``msc`` runs the net at scales 1, 0.75 and 0.5.
    ``frozen_norm`` freezes the backbone's batch norms. ``fov`` is for ``largefov`` and the neck.
    ``dropout``, ``width``, ``separable`` None mean the head's own. Raises WssegError for values
    that no net can have.
    """

    backbone: str
    head: str
    classes: int
    stride: int = 16
    dual: bool = False
    shared: int = 3
    msc: bool = False
    frozen_norm: bool = False
    fov: int = 224
    dropout: float | None = None
    width: int | None = None
    neck: int | None = None
    separable: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (("backbone", self.backbone), ("head", self.head)):
            _check_name(name, value, {"backbone": BACKBONES, "head": HEADS}[name])
        for name in ("dual", "msc", "frozen_norm"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(name, getattr(self, name), "true or false")
        if self.separable is not None and not isinstance(self.separable, bool):
            raise _wrong("separable", self.separable, "true, false or null")
        _check_int("classes", self.classes, 1, MOST_CLASSES)
        for name, known in (("stride", STRIDES), ("fov", FOVS)):
            value = getattr(self, name)
            if not _is_int(value) or value not in known:
                raise _wrong(name, value, " or ".join(map(str, known)))
        if self.width is not None:
            _check_int("width", self.width, 1, _WIDEST)
        if self.neck is not None:
            _check_int("neck", self.neck, 0, _DEEPEST)
        _check_int("shared", self.shared, 0, _DEEPEST)
        if self.dual and self.shared > self.convs:
            raise _wrong("shared", self.shared, f"at most {self.convs}, the neck's convolutions")
        rate = self.dropout
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float))
                                 or not 0 <= rate < 1):
            raise _wrong("dropout", rate, "from 0 to below 1")

    @property
    def convs(self) -> int:
        """How many convolutions lie between the backbone and a head, shared or not."""
        return self.neck if self.neck is not None else 3 * (self.dual or self.head == "conv6")

    def as_json(self) -> dict[str, Any]:
        """Every field, for a header."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "NetSpec":
        """Return the spec of ``as_json``. Raises WssegError for what is missing or wrong."""
        if not isinstance(data, Mapping):
            raise WssegError(f"a net is described by an object, not by {_short(data)}")
        known = {field.name for field in dataclasses.fields(cls)}
        for name in data:
            if name not in known:
                raise WssegError(f"net: no setting {_short(name)}{_near(name, known)}")
        for name in ("backbone", "head", "classes"):
            if name not in data:
                raise WssegError(f"net: {name} is missing")
        return cls(**data)


def _check_name(what: str, value: Any, known: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in known:
        hint = _near(value, known) or f": one of {', '.join(known)}"
        raise WssegError(f"net: no {what} {_short(value)}{hint}")


def _near(value: Any, known: Any) -> str:
    near = difflib.get_close_matches(str(value)[:99].lower(), sorted(known), 1, 0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _check_int(name: str, value: Any, low: int, high: int) -> None:
    if not _is_int(value) or not low <= value <= high:
        raise _wrong(name, value, f"an integer from {low} to {high}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _wrong(name: str, value: Any, want: str) -> WssegError:
    return WssegError(f"net: {name} is {_short(value)}, it must be {want}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
