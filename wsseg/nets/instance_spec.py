"""What an instance net is made of, in a form that a model's card holds. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wsseg.errors import WssegError
from wsseg.nets.fields import Spec, check_int, wrong
from wsseg.nets.spec import NetSpec


@dataclass(frozen=True)
class InstanceSpec(Spec):
    """A segmentation net, and the dense CRF over detections behind it.

    segment: of the segmentation net; things: ids of the classes that boxes are of; iterations: of
    mean-field; the deviations of the CRF's kernels are in pixels and grey levels. Raises
    WssegError for values that no net can have.
    """

    segment: NetSpec
    things: tuple[int, ...]
    iterations: int = 5
    gauss_sigma: float = 3.
    xy_sigma: float = 67.
    rgb_sigma: float = 3.

    def __post_init__(self) -> None:
        if self.segment.dual or self.segment.msc:
            raise WssegError("net: an instance net is of one branch and one scale")
        if not isinstance(self.things, (list, tuple)):
            raise wrong("things", self.things, "a list of class ids")
        for thing in self.things:
            check_int("things", thing, 0, self.segment.classes - 1)
        check_int("iterations", self.iterations, 1, 100)
        for name in ("gauss_sigma", "xy_sigma", "rgb_sigma"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < math.inf:
                raise wrong(name, value, "above 0")
        object.__setattr__(self, "things", tuple(sorted(set(self.things))))

    @property
    def classes(self) -> int:
        return self.segment.classes

    @property
    def stuff(self) -> tuple[int, ...]:
        """The classes that are no things, a background among them."""
        return tuple(c for c in range(self.classes) if c not in self.things)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InstanceSpec:
        if isinstance(data, Mapping) and "segment" in data:
            data = {**data, "segment": NetSpec.from_json(data["segment"])}
        return super().from_json(data)
