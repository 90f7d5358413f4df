"""Parameters of ws-boxfill --method seg: alpha and its dense CRF, by name or as ws-fit found them.

wssl-2015 cross-validated both on 100 strongly labelled images (section 4.4).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping

from wsseg.cli import _refining
from wsseg.cli._flow import Flow
from wsseg.errors import RecordError, UsageError
from wsseg.io import jsons
from wsseg.io.supervision import load_supervision

#: The tool that a fitted preset names, alpha if nothing else is asked for, and its CRF.
TOOL, ALPHA, DEFAULT_PRESET = "ws-boxfill", 0.2, "wssl"


def names() -> set[str]:
    """Return the names of the parameters of seg."""
    return {"alpha", *_refining.PARAMETERS["dense"]}


def check(parameters: Mapping[str, float], where: str = "--") -> None:
    """Raise UsageError for a value that a parameter cannot have."""
    alpha = parameters.get("alpha", ALPHA)
    if not (math.isfinite(alpha) and 0 <= alpha <= 1):
        raise UsageError(f"{where}alpha {alpha:g}: must lie between 0 and 1")
    _refining.check("dense", {k: v for k, v in parameters.items() if k != "alpha"}, where)


def load(name: str | None) -> _refining.Preset:
    """Return all parameters of seg: of a built-in preset, or of a file that ws-fit wrote.

    A file for ws-crf --method dense serves too, with alpha as if nothing had been said. Raises
    UsageError.
    """
    found = _fitted(name) if name is not None and name not in _refining.presets() else None
    if found is None:
        chosen = _refining.load_preset(name or DEFAULT_PRESET)
        if chosen.method != "dense":
            raise UsageError(f"preset {name} is for --method {chosen.method} of ws-crf: seg has a "
                             "dense CRF")
        found = _refining.Preset("seg", {"alpha": ALPHA, **{
            k: v for k, v in chosen.parameters.items() if k in names()}}, chosen.spent)
    check(found.parameters, f"{name}: ")
    return found


def _fitted(path: str) -> _refining.Preset | None:
    """Return a preset that ws-fit --method seg wrote, None if it is not one."""
    try:
        with open(path, "rb") as file:
            value = jsons.parse(file.read(1 << 20))
        if value["tool"] != TOOL or value["method"] != "seg":
            return None
        preset = _refining.Preset("seg", {k: float(v) for k, v in value["parameters"].items()},
                                  load_supervision(value["supervision"]))
    except (OSError, RecordError, KeyError, TypeError, ValueError, AttributeError):
        return None  # which _refining.load_preset can say better
    if set(preset.parameters) != names():
        raise UsageError(f"{path} is a preset for something else than this ws-boxfill")
    return preset


def configure(flow: Flow, preset: str | None, alpha: float | None = None,
              engine: str = "auto") -> tuple[float, _refining.Settings]:
    """Return alpha and the Settings of the CRF; say, record and price what they come from."""
    chosen = load(preset)
    parameters = {k: v for k, v in chosen.parameters.items() if k != "alpha"}
    if alpha is None:
        alpha = chosen.parameters["alpha"]
    flow.spent = chosen.spent
    parameters["iterations"] = int(parameters["iterations"])
    crf, note = _refining.resolve_engine(_refining.Settings("dense", parameters, engine=engine))
    if note:
        flow.env.say(note)
    flow.env.say(f"seg ({crf.engine}): alpha {alpha:g}, "
                 + ", ".join(f"{k} {v:g}" for k, v in parameters.items()), 1)
    flow.parameters.update(method="seg", alpha=alpha, crf=crf.parameters)
    if preset is not None:  # where a file lies is no part of how a result was made
        flow.parameters["preset"] = os.path.basename(preset)
        flow.arguments = [os.path.basename(a) if a == preset else a for a in flow.arguments]
    return alpha, crf
