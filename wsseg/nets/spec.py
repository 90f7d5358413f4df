"""What a segmentation net is made of, in a form that a checkpoint's header holds.

This module does not import torch, so that a command line can be checked without it.
"""

from __future__ import annotations

from dataclasses import dataclass

from wsseg.nets.fields import Spec, check_int, check_name, is_int, wrong

BACKBONES = ("vgg16", "resnet50", "resnet101", "xception65", "efficientnet-lite0",
             "efficientnet-lite1", "efficientnet-lite2")
HEADS = ("largefov", "aspp", "deeplabv3", "deeplabv3plus", "pspnet", "conv6", "fcn")
STRIDES = (8, 16, 32)
#: The nominal field of view of fc6 in pixels, as DeepLab counts it.
FOVS = (128, 224)
MOST_CLASSES = 65_535
#: Filters of VGG-16's fully connected layers, and of fc6 and fc7 in DeepLab.
VGG_WIDTH, FC_WIDTH = 4096, 1024
_WIDEST = 8192
_DEEPEST = 8


@dataclass(frozen=True)
class NetSpec(Spec):
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
            check_name(name, value, {"backbone": BACKBONES, "head": HEADS}[name])
        for name in ("dual", "msc", "frozen_norm"):
            if not isinstance(getattr(self, name), bool):
                raise wrong(name, getattr(self, name), "true or false")
        if self.separable is not None and not isinstance(self.separable, bool):
            raise wrong("separable", self.separable, "true, false or null")
        check_int("classes", self.classes, 1, MOST_CLASSES)
        for name, known in (("stride", STRIDES), ("fov", FOVS)):
            value = getattr(self, name)
            if not is_int(value) or value not in known:
                raise wrong(name, value, " or ".join(map(str, known)))
        if self.width is not None:
            check_int("width", self.width, 1, _WIDEST)
        if self.neck is not None:
            check_int("neck", self.neck, 0, _DEEPEST)
        check_int("shared", self.shared, 0, _DEEPEST)
        if self.dual and self.shared > self.convs:
            raise wrong("shared", self.shared, f"at most {self.convs}, the neck's convolutions")
        rate = self.dropout
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, (int, float))
                                 or not 0 <= rate < 1):
            raise wrong("dropout", rate, "from 0 to below 1")

    @property
    def convs(self) -> int:
        """How many convolutions lie between the backbone and a head, shared or not."""
        return self.neck if self.neck is not None else 3 * (self.dual or self.head == "conv6")

    @property
    def pools(self) -> str:
        """What VGG-16 does where a pooling loses its stride (``vgg.POOLS``): before a neck there is
        none (dualbranch-2020, section 3.2.1), elsewhere it stays."""
        return "removed" if self.convs else "3x3"

    @property
    def thinned(self) -> bool:
        """Whether fc6 and fc7 are VGG-16's own, thinned out, and not new layers."""
        return (self.backbone == "vgg16" and self.head in ("largefov", "aspp") and not self.convs
                and VGG_WIDTH % (self.width or FC_WIDTH) == 0)
