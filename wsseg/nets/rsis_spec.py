"""What an RSIS or W-RSIS net is made of, in a form that a model's card holds. Without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsseg.errors import WssegError
from wsseg.nets import spec
from wsseg.nets.spec import MOST_CLASSES, _check_int, _check_name, _near, _short, _wrong

#: Where W-RSIS' one-hot class enters: the first ConvLSTM, all of them, or as FiLM in all of them.
TOKENS = ("first", "all", "film")
#: In which order the classes of an image's objects are given: by class, or the most frequent
#: class first, or drawn (anew at each step of training).
ORDERS = ("class", "count", "random")
_SMALLEST, _LARGEST = 33, 8192  # a side of 32 would end in one value, which has no variance
LONGEST = 200


@dataclass(frozen=True)
class RSISSpec:
    """A backbone of stride 32 with a recurrent decoder; the defaults are those of RSIS.

    hidden: channels of the first ConvLSTM, a multiple of 16; each further one has half as many.
    steps: objects looked for (T). size: (H,W) that every photo is squashed to. token: None for
    RSIS, else where W-RSIS is told each object's class; order: that of the classes. Raises
    WssegError for values that no net can have.
    """

    backbone: str
    classes: int
    hidden: int = 128
    steps: int = 10
    size: tuple[int, int] = (256, 256)
    token: str | None = None
    order: str = "class"
    frozen_norm: bool = False

    def __post_init__(self) -> None:
        _check_name("backbone", self.backbone, spec.BACKBONES)
        if self.token is not None:
            _check_name("token", self.token, TOKENS)
        _check_name("order", self.order, ORDERS)
        _check_int("classes", self.classes, 1, MOST_CLASSES)
        _check_int("steps", self.steps, 1, LONGEST)
        _check_int("hidden", self.hidden, 16, _LARGEST)
        if self.hidden % 16:
            raise _wrong("hidden", self.hidden, "a multiple of 16")
        if not isinstance(self.frozen_norm, bool):
            raise _wrong("frozen_norm", self.frozen_norm, "true or false")
        if not isinstance(self.size, (list, tuple)) or len(self.size) != 2:
            raise _wrong("size", self.size, "height and width")
        for side in self.size:
            _check_int("size", side, _SMALLEST, _LARGEST)
        object.__setattr__(self, "size", tuple(self.size))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the five ConvLSTMs, that of stride 32 first."""
        return tuple(self.hidden >> level for level in range(5))

    def as_json(self) -> dict[str, Any]:
        """Every field, for a card."""
        return {**dataclasses.asdict(self), "size": list(self.size)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RSISSpec:
        """Return the spec of ``as_json``. Raises WssegError for what is missing or wrong."""
        if not isinstance(data, Mapping):
            raise WssegError(f"a net is described by an object, not by {_short(data)}")
        known = {field.name for field in dataclasses.fields(cls)}
        for name in data:
            if name not in known:
                raise WssegError(f"net: no setting {_short(name)}{_near(name, known)}")
        for name in ("backbone", "classes"):
            if name not in data:
                raise WssegError(f"net: {name} is missing")
        return cls(**data)
