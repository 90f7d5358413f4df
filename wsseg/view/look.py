"""How values are drawn and told in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from wsseg.view.colours import Colour, class_colour, class_name, has_background


@dataclass(frozen=True)
class Look:
    """How values are drawn. names: class names; ignore: label of unknown pixels; heat: id of
    the class whose score is drawn as a heat map; rank: the same for the class that is the
    rank-th strongest of its record, from 0."""

    names: tuple[str, ...] | None = None
    ignore: int = 255
    heat: int | None = None
    rank: int | None = None

    @property
    def hot(self) -> bool:
        """Whether scores are drawn as a heat map."""
        return self.heat is not None or self.rank is not None

    @property
    def background(self) -> bool:
        return has_background(self.names)

    def colour(self, cls: int) -> Colour:
        return class_colour(int(cls), self.names)

    def name(self, cls: int) -> str:
        return class_name(int(cls), self.names)


def shares(labels: np.ndarray, look: Look) -> str:
    """Say in words what a label map (H, W) holds, largest part first."""
    ids, counts = np.unique(labels, return_counts=True)
    parts = [(n / labels.size, "ignored" if c == look.ignore else look.name(c))
             for c, n in zip(ids.tolist(), counts.tolist()) if c or not look.background]
    parts.sort(key=lambda p: -p[0])
    said = [f"{name} {percent(part)}" for part, name in parts[:5]]
    return ", ".join(said + [f"{len(parts) - 5} more"] * (len(parts) > 5)) or "background only"


def percent(part: float) -> str:
    """Write a part of one as a percentage."""
    return f"{part:.0%}" if part >= 0.01 else "<1%"


def tally(classes: Iterable[int], look: Look) -> str:
    """Say how many objects of each class there are, the most frequent first."""
    return ", ".join(f"{n} × {look.name(c)}" for c, n in
                     Counter(int(c) for c in classes).most_common())


def scored(name: str, score: float) -> str:
    """Add a score to a name, unless it is certain."""
    return name if score == 1 else f"{name} {score:.2f}"
