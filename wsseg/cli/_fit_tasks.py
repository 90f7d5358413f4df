"""What ws-fit can fit: the maps that ws-crf refines, and the boxes that seg of ws-boxfill fills."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from wsseg.cli import _boxseg, _refining
from wsseg.cli._flow import Flow
from wsseg.errors import UsageError
from wsseg.io.record import Record
from wsseg.refine.fit import Point

#: What is searched if nothing else is asked for. dense: the grid of wssl-2015's scripts, to which
#: seg adds the alphas of its section 4.4 (20 ... 80 %).
AXES = {
    "dense": {"rgb_weight": [3, 5, 7, 9, 11], "xy_sigma": [35, 40, 45, 50, 55, 60, 65],
              "rgb_sigma": [5, 10]},
    "potts": {"weight": [1, 2, 5, 10, 20, 50], "edge": [0.005, 0.01, 0.02, 0.05]},
}
AXES["seg"] = {"alpha": [0.2, 0.4, 0.6, 0.8], **AXES["dense"]}


def names(method: str) -> set[str]:
    """Return the names of a method's parameters."""
    return _boxseg.names() if method == "seg" else _refining.names(method)


def parse_axes(vary: Sequence[str], method: str) -> dict[str, list[float]]:
    """Parse ``NAME=V,V,...``. Raises UsageError for unknown names and for no numbers."""
    axes: dict[str, list[float]] = {}
    for text in vary:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in names(method):
            raise UsageError(f"--vary {name}: --method {method} has "
                             f"{', '.join(sorted(names(method)))}")
        if name in axes:
            raise UsageError(f"--vary {name} is there twice: name all its values at once")
        try:
            axes[name] = sorted({float(v) for v in values.split(",")})
        except ValueError:
            raise UsageError(f"--vary {text!r} is not NAME=NUMBER,NUMBER,...") from None
        for value in axes[name]:
            if method == "seg":
                _boxseg.check({name: value}, "--vary ")
            else:
                _refining.check(method, {name: value}, "--vary ")
    return axes or {k: [float(v) for v in values] for k, values in AXES[method].items()}


class Task(Protocol):
    """A tool with parameters. tool, method: as a preset names them; start: all parameters."""

    tool: str

    @property
    def method(self) -> str: ...
    @property
    def start(self) -> Point: ...

    def label(self, record: Record, point: Point) -> np.ndarray:
        """Return the label map (H, W) that the tool makes of a record. Raises RecordError."""

    def essence(self) -> str:
        """Return what must be equal for a search to go on: not what only changes its speed."""


@dataclass(frozen=True)
class Refine:
    """ws-crf on a map."""

    settings: _refining.Settings
    tool = "ws-crf"

    @property
    def method(self) -> str:
        return self.settings.method

    @property
    def start(self) -> Point:
        return dict(self.settings.parameters)

    def label(self, record: Record, point: Point) -> np.ndarray:
        classes, refined = _refining.refine(record, replace(self.settings, parameters=point))
        return classes.astype(np.uint16)[refined.argmax(axis=0)]

    def essence(self) -> str:
        return repr(replace(self.settings, engine="", threads=1, device=None))


@dataclass(frozen=True)
class FillBoxes:
    """ws-boxfill --method seg on boxes. alpha, crf: where the search begins."""

    alpha: float
    crf: _refining.Settings
    tool, method = _boxseg.TOOL, "seg"

    @property
    def start(self) -> Point:
        return {"alpha": self.alpha, **self.crf.parameters}

    def label(self, record: Record, point: Point) -> np.ndarray:
        from wsseg.cli import _boxfill

        crf = replace(self.crf, parameters={k: v for k, v in point.items() if k != "alpha"})
        settings = _boxfill.Settings("seg", alpha=point["alpha"], crf=crf)
        copy = Record(record.key, names=record.names)
        for kind in ("boxes", "image"):
            copy.set(kind, record.get(kind))
        return _boxfill.fill(copy, settings=settings).get("label")

    def essence(self) -> str:
        return repr(replace(self, crf=replace(self.crf, engine="")))


def choose(flow: Flow, method: str | None, preset: str | None, use: str | None, *,
           relative: float | None, min_prob: float, engine: str) -> Task:
    """Return what is to be fitted. Raises UsageError."""
    from wsseg.cli.crf import configure

    if method != "seg":
        return Refine(configure(flow, method, preset, use, {
            "relative": relative, "min_prob": min_prob, "engine": engine}))
    for name, value in (("use", use), ("relative", relative)):
        if value is not None:
            raise UsageError(f"--{name} is for ws-crf: --method seg starts from boxes")
    return FillBoxes(*_boxseg.configure(flow, preset, engine=engine))
