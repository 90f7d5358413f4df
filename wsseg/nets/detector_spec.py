"""What a detector is made of, in a form that a model's card holds. Without torch."""

from __future__ import annotations

from dataclasses import dataclass

from wsseg.nets import spec
from wsseg.nets.fields import Spec, check_int, check_name, wrong
from wsseg.nets.spec import MOST_CLASSES, STRIDES

_WIDEST = 2048
_LARGEST = 8192
_MOST_SIZES = 16


@dataclass(frozen=True)
class DetectorSpec(Spec):
    """A backbone with Faster R-CNN behind it.

    fpn: a feature pyramid over strides 4 to 64, of a backbone of stride 32, or else the backbone's
    last features alone. anchors: sides of the anchors in pixels; with ``fpn`` five, one for each
    level. width: channels of the features, a quarter of those of the box head. Photos keep their
    own size, so that the sides are smaller than those usual where photos are enlarged to 800
    pixels. Raises WssegError for values that no net can have.
    """

    backbone: str
    classes: int
    fpn: bool = False
    stride: int = 16
    anchors: tuple[float, ...] = (16., 32., 64., 128., 256.)
    width: int = 256
    frozen_norm: bool = False

    def __post_init__(self) -> None:
        check_name("backbone", self.backbone, spec.BACKBONES)
        check_int("classes", self.classes, 1, MOST_CLASSES)
        check_int("width", self.width, 8, _WIDEST)
        for name in ("fpn", "frozen_norm"):
            if not isinstance(getattr(self, name), bool):
                raise wrong(name, getattr(self, name), "true or false")
        if self.stride not in STRIDES or isinstance(self.stride, bool):
            raise wrong("stride", self.stride, " or ".join(map(str, STRIDES)))
        if self.fpn and self.stride != 32:
            raise wrong("stride", self.stride, "32 for a feature pyramid")
        sides = self.anchors
        if not isinstance(sides, (list, tuple)) or not 1 <= len(sides) <= _MOST_SIZES or not all(
                type(s) in (int, float) and 1 <= s <= _LARGEST for s in sides):
            raise wrong("anchors", sides, f"1 to {_MOST_SIZES} lengths of 1 to {_LARGEST} pixels")
        if self.fpn and len(sides) != 5:
            raise wrong("anchors", sides, "five lengths for the five levels of a pyramid")
        object.__setattr__(self, "anchors", tuple(float(s) for s in sides))
