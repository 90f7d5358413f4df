"""The statistics of a data set that prices need, measured on its labels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsseg.budget.costs import Statistics, seconds
from wsseg.budget.curve import t_quantile
from wsseg.budget.prices import Prices
from wsseg.errors import UsageError

#: What is priced: (kind, whether its price needs objects).
_PRICED = (("tags", False), ("counts", False), ("scribble", False), ("points", True),
           ("boxes", True), ("masks", True))


@dataclass(frozen=True)
class Mean:
    """A mean over images and its interval (Student's t); None for a single image."""

    mean: float
    low: float | None
    high: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Mean:
        """Return the mean of one value at least."""
        n = len(values)
        mean = math.fsum(values) / n
        if n < 2:
            return Mean(mean, None, None)
        error = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
        half = t_quantile(n - 1) * error
        return Mean(mean, max(0.0, mean - half), mean + half)

    def plain(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {"mean": self.mean, "interval": None if self.low is None else [self.low, self.high]}


@dataclass(frozen=True)
class Measured:
    """images: class -> objects of it, for each image (0 objects: present, their number not
    known); n_classes: classes asked for; objects_known: whether objects can be told."""

    images: Sequence[Counter]
    n_classes: int
    objects_known: bool = True

    @property
    def classes(self) -> Mean:
        """Classes present in an image."""
        return Mean.of([len(image) for image in self.images])

    @property
    def objects(self) -> Mean | None:
        """Objects in an image, if they can be told."""
        return Mean.of([image.total() for image in self.images]) if self.objects_known else None

    def by_class(self) -> dict[int, tuple[int, int | None]]:
        """Return class -> (images with it, objects), ascending."""
        there = Counter(cls for image in self.images for cls in image)
        objects: Counter = sum(self.images, Counter())
        return {cls: (there[cls], objects[cls] if self.objects_known else None)
                for cls in sorted(there)}

    def prices(self, prices: Prices) -> dict[str, Mean]:
        """Return kind -> seconds for an image of this data set, with their interval over
        images; points are one for each object. Raises as ``costs.seconds`` does."""
        return {kind: Mean.of([seconds(kind, (1, len(image), image.total()), self.n_classes,
                                       prices) for image in self.images])
                for kind, needs_objects in _PRICED if self.objects_known or not needs_objects}

    def plain(self, place: str, names: Sequence[str] | None, prices: Prices) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {"place": place, "images": len(self.images), "n_classes": self.n_classes,
                "classes_per_image": self.classes.plain(),
                "objects_per_image": self.objects.plain() if self.objects else None,
                "seconds_per_image": {k: m.plain() for k, m in self.prices(prices).items()},
                "classes": [{"class": names[cls] if names and cls < len(names) else str(cls),
                             "id": cls, "images": images, "objects": objects}
                            for cls, (images, objects) in self.by_class().items()]}


def load_statistics(value: Any, where: str) -> Statistics:
    """Return the statistics that ``ws-budget statistics --json`` wrote. Raises UsageError."""
    try:
        objects = value["objects_per_image"]
        numbers = [value["classes_per_image"]["mean"],
                   math.nan if objects is None else objects["mean"], value["n_classes"]]
        if any(type(n) not in (int, float) or n < 0 or math.isinf(n) for n in numbers) \
                or numbers[2] < 1:
            raise TypeError("a number of another kind")
    except (KeyError, TypeError) as error:
        raise UsageError(f"{where}: not what ws-budget statistics --json writes "
                         f"({error!r})") from None
    return Statistics(float(numbers[0]), float(numbers[1]), int(numbers[2]), where)
