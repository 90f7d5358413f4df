"""How ws-train puts places, a net and its losses together, and what it writes."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from wsseg import __version__
from wsseg.cli._flow import Flow
from wsseg.cli._labelled import Labelled, spent
from wsseg.cli._supervision import behind
from wsseg.cli._tasks import TASKS, foreign, refuse_foreign, resolve
from wsseg.cli._train_places import Data, class_weight
from wsseg.errors import ExitStatus, UsageError, WssegError
from wsseg.io.header import Header, history_entry
from wsseg.io.source import Catalogue
from wsseg.io.supervision import Labels, union
from wsseg.nets.model import find_card, model_bytes
from wsseg.train.augment import Augment
from wsseg.train.distributed import (join_group, leave_group, pick_device, placed,
                                     same_everywhere, use_bf16, wrapped)
from wsseg.train.board import board
from wsseg.train.loop import Hooks, Plan, Trainer, seed_torch
from wsseg.train.optim import L2SP, build_optimizer
from wsseg.train.run_folder import BEST, MODEL, RunFolder
from wsseg.train.samples import Loader
from wsseg.train.sampling import JOINT, Sampler
from wsseg.train.schedule import Schedule

#: Options that say where and how fast, and so may change when a run is resumed.
_FREE = {"device", "compiled", "max_minutes", "save_minutes", "log_every", "tensorboard"}


class Task:
    """One kind of training: what is read, which net learns it, from which loss, and how well it
    does. Schedules, checkpoints, processes, the log and the model's file are ``Training``'s.
    """

    best = ""  #: entry of an evaluation by which --select best chooses, the greater the better

    def __init__(self, flow: Flow, options: Mapping[str, Any]) -> None:
        self.flow, self.options = flow, options

    def read(self) -> Data:
        """Open and check all places (``_train_places.read``)."""
        raise NotImplementedError

    def beside(self) -> dict[str, Catalogue]:
        """Return places that are read beside the data, by the names of their options."""
        return {}

    def net(self, data: Data) -> tuple[Any, str]:
        """Return a net, on the CPU, and what its weights are. The net has ``spec`` with
        ``as_json()`` and ``parameter_groups()``; ``nets.model`` knows how to build it again."""
        raise NotImplementedError

    def objective(self, net: Any, data: Data) -> Any:
        """Return the module that gives a batch's loss as ``train.objective.Objective`` does: sums,
        counts and weights (T,)."""
        raise NotImplementedError

    def augment(self) -> Augment:
        o = self.options
        return Augment(o["crop"], tuple(o["scale"]), o["flip"], o["rotate"], False, o["jitter"],
                       o["jitter"], o["jitter"])

    def loader(self, data: Data, sampler: Sampler, rank: int, world: int) -> Loader:
        """Return batches: a function of the sampler's draws alone."""
        return Loader({n: p.samples for n, p in data.parts.items()}, sampler, self.augment(),
                      threads=self.flow.jobs, rank=rank, world=world)

    def evaluation(self, net: Any, data: Data, device: Any, bf16: bool
                   ) -> Callable[[], dict[str, Any]]:
        """Return what gives an entry for the log; asked for where there is ``data.val``."""
        raise NotImplementedError

    def spent(self, data: Data, *more: Mapping[str, Labels]) -> dict[str, Labels]:
        """Return the labels spent on all that is trained on, and more beside it."""
        return data.spent(*more)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs of the task, plain numbers, lists and tensors."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state`` gave."""


def run(flow: Flow, as_json: bool, options: dict[str, Any]) -> ExitStatus:
    """Train, and say what came of it."""
    name = options["task"]
    refuse_foreign(click.get_current_context(), name)
    for other in foreign(name):
        flow.parameters.pop(other, None)
    device = pick_device(options["device"])
    task = resolve(TASKS[name].train)(flow, options)
    rank, world = join_group(device)
    try:
        if rank:
            flow.env.verbosity = -2
        else:
            RunFolder.claim(flow.output, flow.mode)
        data = task.read()
        training = Training(flow, options, task, data, device, rank, world)
        try:
            result = training.train()
        finally:
            if training.folder is not None:
                training.folder.close()
    finally:
        leave_group()
    if not rank:
        flow.env.out(json.dumps(result, indent=1) if as_json else "\n".join(
            f"{name:12} {value}" for name, value in result.items() if value is not None))
    return flow.status()


class Training:
    """One run: built from its options, trained, written."""

    def __init__(self, flow: Flow, options: Mapping[str, Any], task: Task, data: Data,
                 device: Any, rank: int, world: int) -> None:
        self.flow, self.options, self.task, self.data = flow, options, task, data
        self.device, self.rank = device, rank
        o = options
        seed_torch(o["seed"])
        sampler = self._sampler()
        sampler.check_world(world)
        self.iterations = o["iterations"] or self._steps(sampler)
        schedule = Schedule(o["schedule"], self.iterations, o["power"], o["step_every"] or 0,
                            o["gamma"], o["warm_up"])
        loader = task.loader(data, sampler, rank, world)
        bf16 = use_bf16(o["precision"], device)
        net, self.init = task.net(data)
        self.origin = find_card(o["init"])
        self.behind = behind(self.origin, o["init"])
        self.net = placed(net, device)
        objective = task.objective(self.net, data).to(device)
        if o["compiled"]:
            self.net.compile()
        groups = self.net.parameter_groups()
        self.optimizer = build_optimizer(
            groups, o["optimizer"], lr=o["lr"], momentum=o["momentum"], new_rate=o["new_rate"],
            weight_decay=0. if o["l2sp"] else o["weight_decay"], bias_rate=o["bias_rate"])
        self.l2sp = L2SP(groups, alpha=o["l2sp"][0], beta=o["l2sp"][1]) if o["l2sp"] else None
        self.folder = self._folder() if not rank else None
        plan = Plan(self.iterations, o["lr"], schedule, o["accumulate"], o["seed"], bf16,
                    o["log_every"], self._val_every(), o["save_minutes"], o["max_minutes"] or 0)
        self.evaluation = None if data.val is None else task.evaluation(self.net, data, device,
                                                                        bf16)
        self.best: tuple[int, float] | None = None
        self.last: dict[str, Any] = {}
        self.hooks = Hooks()
        self.trainer = Trainer(wrapped(objective, device), self.optimizer, loader, plan, device,
                               self.hooks, self.l2sp)

    def _sampler(self) -> Sampler:
        o, sizes = self.options, {n: len(p.samples) for n, p in self.data.parts.items()}
        ratio: Any = JOINT
        if o["ratio"]:
            try:
                ratio = [int(n) for n in o["ratio"].split(":")]
            except ValueError:
                raise UsageError(f"--ratio {o['ratio']} is not S:W, such as 1:3") from None
        elif o["dual"] and len(sizes) > 1:
            ratio = [1] * len(sizes)
        if o["dual"] and len(sizes) != 2:
            raise UsageError("--dual needs INPUT and one --weak")
        return Sampler(sizes, o["batch"], ratio, o["oversample"], o["seed"])

    def _steps(self, sampler: Sampler) -> int:
        o = self.options
        return max(1, math.ceil(o["epochs"] / (sampler.share * o["accumulate"]) - 1e-9))

    def _val_every(self) -> int:
        if self.data.val is None:
            return 0
        return self.options["val_every"] or max(1, self.iterations // 10)

    def _folder(self) -> RunFolder:
        """The run's directory, which knows all that its result depends on."""
        name = self.options["task"]
        apart = _FREE | foreign(name) | {"weak", "val", "val_images", "task"}
        settings = {k: v for k, v in self.options.items() if k not in apart}
        if name != "segment":  # runs of before there were tasks can still be resumed
            settings["task"] = name
        settings |= {"net": self.net.spec.as_json(), "iterations": self.iterations,
                     "classes": list(self.data.names), "init": self.init,
                     "data": {n: _digest(p) for n, p in self.data.parts.items()},
                     **{n: _content(place) for n, place in self.task.beside().items()}}
        if settings.get("class_weight") is not None:
            settings["class_weight"] = class_weight(settings["class_weight"], len(self.data.names))
        return RunFolder(self.flow.output, settings, self.flow.mode)

    def train(self) -> dict[str, Any]:
        """Train from the start or the last checkpoint; write the model. Returns a summary."""
        start, began = same_everywhere(self._resume(), self.device), time.monotonic()
        if self.folder is not None and self.folder.finished and start >= self.iterations:
            self.flow.env.say(f"{self.flow.output} is finished already")
            self.folder.renew()
            return self._summary(start, 0.)
        self.net.train()
        with self.flow.env.bar(self.iterations, "step") as bar:
            bar.update(start)
            self.hooks.step = lambda step, images: bar.update()
            self.hooks.stop = lambda: self.flow.env.signalled is not None
            if not self.rank:
                self._attach(bar)
            with self.flow.env.held():
                done = self.trainer.run(start)
        minutes = (time.monotonic() - began) / 60
        if not done:
            self.flow.env.say(f"stopped after {minutes:.1f} minutes: --resume goes on")
        elif self.folder is not None:
            chosen = self.folder.path / BEST
            if self.options["select"] == "best" and chosen.is_file():
                self.folder.write(MODEL, chosen.read_bytes())
            else:
                self.folder.write(MODEL, self._model(self.iterations))
        return self._summary(self.last.get("step", start), minutes, done)

    def _attach(self, bar: Any) -> None:
        write = board(self.options["tensorboard"])

        def log(entry: dict[str, Any]) -> None:
            self.folder.log(entry)
            self.last |= entry
            bar.set_postfix({k: v for k, v in self.last.items() if k in ("loss", "img/s",
                                                                         self.task.best)})
            self.flow.env.say(" ".join(f"{k} {v}" for k, v in entry.items()), 1)
            write(entry)

        self.hooks.log, self.hooks.warn = log, self.flow.env.say
        self.hooks.save = lambda step: self.folder.save(step, {
            "net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(),
            "l2sp": [] if self.l2sp is None else self.l2sp.reference,
            "best": list(self.best or ()), "task": self.task.state()})
        if self.evaluation is not None:
            self.hooks.evaluate = self._evaluate

    def _evaluate(self, step: int) -> dict[str, Any]:
        score = self.evaluation()
        value = score[self.task.best]
        if self.best is None or value > self.best[1]:
            self.best = step, value
            self.folder.write(BEST, self._model(step))
        return score

    def _resume(self) -> int:
        """Load the last checkpoint, if there is one; return the step it was made after."""
        if self.flow.mode != "resume":
            return 0
        folder = self.folder or RunFolder.look(self.flow.output)
        state, note = folder.load()
        if note:
            self.flow.env.say(note)
        if state is None:
            if self.folder is not None:
                self.folder.rewind(0)
            return 0
        try:
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.l2sp is not None:
                self.l2sp.reference = [t.to(self.device) for t in state["l2sp"]]  # not today's
            self.best = tuple(state["best"]) or None
            self.task.restore(state.get("task", {}))
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            raise WssegError(f"the checkpoint in {self.flow.output} is of another net: start anew "
                             "with --overwrite") from None
        if self.folder is not None:
            self.folder.rewind(state["step"])
        self.flow.env.say(f"going on after step {state['step']}", 1)
        return state["step"]

    def _model(self, step: int) -> bytes:
        """The net with its card, as bytes."""
        flow, data = self.flow, self.data
        headers = {name: part.header for name, part in data.parts.items()}
        headers |= {name: place.header for name, place in self.task.beside().items()}
        headers["init"] = Header(history=tuple((self.origin or {"history": ()})["history"]))
        entry = history_entry(flow.tool, __version__, flow.arguments, flow.parameters,
                              {r: h for r, h in headers.items() if h.history})
        earlier = [e for h in headers.values() for e in h.history]
        supervision = self.task.spent(data, self.behind)
        if data.val is not None and self.options["select"] == "best":
            supervision = union(supervision, spent([data.val]))  # it was chosen by them
        card = {"task": self.options["task"], "classes": list(data.names), "init": self.init,
                "step": step,
                "images": {n: len(p.samples) for n, p in data.parts.items()},
                "supervision": {k: list(v) for k, v in supervision.items()},
                "history": [*{e["id"]: e for e in earlier}.values(), entry]}
        if data.val is not None:
            card["validation"] = {k: list(v) for k, v in spent([data.val]).items()}
        return model_bytes(self.net, card)

    def _summary(self, step: int, minutes: float, done: bool = True) -> dict[str, Any]:
        path, best = f"{self.flow.output.rstrip('/')}/{MODEL}", self.task.best
        return {"model": path if done else None, "steps": step, "of": self.iterations,
                "loss": self.last.get("loss"), **({best: self.last.get(best)} if best else {}),
                "best": None if self.best is None else
                f"{self.best[1]} at step {self.best[0]}",
                "minutes": round(minutes, 2), "device": str(self.device)}


def _digest(part: Labelled) -> dict[str, Any]:
    text = "\n".join(part.samples.keys)
    return {"images": len(part.samples), "use": part.samples.use,
            "keys": hashlib.sha256(text.encode()).hexdigest()[:12],
            "content": _content(part.samples.source)}


def _content(place: Catalogue) -> str:
    """What a place holds; of a foreign folder no more is known than its kinds and classes."""
    return place.header.digest if place.end is None else place.end.digest
