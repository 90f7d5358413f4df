"""What an RSIS or W-RSIS net is made of, in a form that a model's card holds. Without torch."""

from __future__ import annotations

from dataclasses import dataclass

from wsseg.nets import spec
from wsseg.nets.fields import Spec, check_int, check_name, wrong
from wsseg.nets.spec import MOST_CLASSES

#: Where W-RSIS' one-hot class enters: the first ConvLSTM, all of them, or as FiLM in all of them.
TOKENS = ("first", "all", "film")
#: In which order the classes of an image's objects are given: by class, or the most frequent
#: class first, or drawn (anew at each step of training).
ORDERS = ("class", "count", "random")
_SMALLEST, _LARGEST = 33, 8192  # a side of 32 would end in one value, which has no variance
LONGEST = 200


@dataclass(frozen=True)
class RSISSpec(Spec):
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
        check_name("backbone", self.backbone, spec.BACKBONES)
        if self.token is not None:
            check_name("token", self.token, TOKENS)
        check_name("order", self.order, ORDERS)
        check_int("classes", self.classes, 1, MOST_CLASSES)
        check_int("steps", self.steps, 1, LONGEST)
        check_int("hidden", self.hidden, 16, _LARGEST)
        if self.hidden % 16:
            raise wrong("hidden", self.hidden, "a multiple of 16")
        if not isinstance(self.frozen_norm, bool):
            raise wrong("frozen_norm", self.frozen_norm, "true or false")
        if not isinstance(self.size, (list, tuple)) or len(self.size) != 2:
            raise wrong("size", self.size, "height and width")
        for side in self.size:
            check_int("size", side, _SMALLEST, _LARGEST)
        object.__setattr__(self, "size", tuple(self.size))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the five ConvLSTMs, that of stride 32 first."""
        return tuple(self.hidden >> level for level in range(5))
