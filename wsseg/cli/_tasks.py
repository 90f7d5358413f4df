"""What ws-train can train: one line a task, whose modules are imported on use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click
from click.core import ParameterSource

from wsseg.errors import UsageError, WssegError


@dataclass(frozen=True)
class Entry:
    """train: module:class of a ``_training.Task``; predict: module:function that ws-predict calls
    for its models, ``(flow, path, options)``, '' if another tool takes them, which ``taker``
    names; defaults: options whose defaults are the task's own."""

    train: str
    predict: str = ""
    taker: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)


_RSIS = {"optimizer": "adam", "lr": 1e-6, "new_rate": 1000, "bias_rate": 1000,
         "weight_decay": 1e-6, "schedule": "constant", "batch": 28, "crop": 256, "flip": 0}

TASKS: dict[str, Entry] = {
    "segment": Entry("_train_segment:Segment", "_predicting:segment"),
    "classify": Entry("_train_classify:Classify", taker="ws-cam", defaults={
        "stride": "16", "optimizer": "adamw", "lr": 2e-4, "weight_decay": .01, "batch": 16,
        "epochs": 10}),
    "detect": Entry("_train_detect:Detect", "_predict_detect:run", defaults={
        "stride": "16", "optimizer": "adamw", "lr": 1e-4, "new_rate": 5, "bias_rate": 5,
        "weight_decay": 1e-4, "batch": 4, "scale": (.75, 1.25)}),
    "instance": Entry("_train_instance:Instance", "_predict_instance:run", defaults={"batch": 1}),
    "rsis": Entry("_train_rsis:Rsis", "_predict_rsis:rsis", defaults=_RSIS),
    "wrsis": Entry("_train_rsis:WRsis", "_predict_rsis:wrsis", defaults=_RSIS),
}

#: Options that not all tasks have -> those that do.
ONLY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("weak_loss", "conf", "join_classes", "head", "width", "fov", "msc", "dropout",
                     "dual", "shared", "em_bias", "em_portions", "em_passes", "em_forbid",
                     "mil_form", "dsrg_thresholds", "loss_at"), ("segment",)),
    "width": ("segment", "detect", "instance", "rsis", "wrsis"),
    **dict.fromkeys(("from_components", "max_objects"), ("rsis", "wrsis")),
    **dict.fromkeys(("class_from", "stop_from", "patience"), ("rsis",)),
    **dict.fromkeys(("token_at", "token_order", "matching"), ("wrsis",)),
    **dict.fromkeys(("stride", "scale"), ("segment", "classify", "detect", "instance")),
    **dict.fromkeys(("fpn", "anchors", "rois"), ("detect",)),
    **dict.fromkeys(("head", "fov"), ("segment", "instance")),
    **dict.fromkeys(("detections", "things", "crf_iterations", "crf_stride", "piecewise"),
                    ("instance",)),
    "class_weight": ("segment", "classify"),
    "dropout": ("segment", "classify", "instance"),
}


def resolve(name: str) -> Any:
    """Import what ``module:name`` of wsseg.cli means."""
    module, _, inside = name.partition(":")
    return getattr(importlib.import_module(f"wsseg.cli.{module}"), inside)


def foreign(task: str) -> set[str]:
    """The options that a task does not have."""
    return {name for name, tasks in ONLY.items() if task not in tasks}


def given(context: click.Context, task: str, name: str) -> bool:
    """Whether an option was given, or is in a recipe with another value than the task's own."""
    source, defaults = context.get_parameter_source(name), TASKS[task].defaults
    own = source is ParameterSource.DEFAULT_MAP and name in defaults and (
        context.default_map[name] == defaults[name])
    return not own and source not in (ParameterSource.DEFAULT, None)


def refuse_foreign(context: click.Context, task: str) -> None:
    """Raise UsageError for an option that was given, or is in a recipe, and is another task's."""
    names = foreign(task)
    for param in context.command.params:
        if param.name in names and given(context, task, param.name):
            raise UsageError(f"{param.opts[0]} is not for --task {task}, only for "
                             f"{', '.join(ONLY[param.name])}")


def predictor(task: str, path: str) -> Any:
    """What ws-predict calls for a model of a task. Raises WssegError if there is none."""
    entry = TASKS.get(task)
    if entry is None:
        raise WssegError(f"{path} is a model for {task!r}, which this wsseg does not know")
    if not entry.predict:
        raise UsageError(f"{path} is a model of ws-train --task {task}: {entry.taker} takes it")
    return resolve(entry.predict)


def _choose(context: click.Context, _: click.Parameter, task: str) -> str:
    """Make the task's defaults those of this command; a recipe's come before them."""
    if task in TASKS:
        context.default_map = {**TASKS[task].defaults, **(context.default_map or {})}
    return task


TASK = click.option("--task", type=click.Choice(list(TASKS)), default="segment", is_eager=True,
                    show_default=True, callback=_choose, help="What to train; other options' "
                    "defaults vary: --task NAME --help.")
