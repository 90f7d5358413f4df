"""How ws-train puts places, a net and its losses together, and what it writes."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsseg import __version__
from wsseg.cli._differ import refuse_other_classes
from wsseg.cli._flow import Flow
from wsseg.cli._labelled import Checker, Labelled, catalogue, choose_kind, strong, weak_kinds
from wsseg.cli._supervision import larger
from wsseg.cli._validation import Validation
from wsseg.errors import ExitStatus, UsageError, WssegError
from wsseg.io.header import history_entry
from wsseg.io.source import Catalogue
from wsseg.nets.inference import Inference
from wsseg.nets.model import model_bytes
from wsseg.nets.segmenter import NetSpec, build
from wsseg.nets.weights import load_init
from wsseg.train.augment import Augment
from wsseg.train.distributed import (join_group, leave_group, pick_device, placed, use_bf16,
                                     wrapped)
from wsseg.train.board import board
from wsseg.train.loop import Hooks, Plan, Trainer, seed_torch
from wsseg.train.objective import Objective, Weak
from wsseg.train.optim import L2SP, build_optimizer
from wsseg.train.run_folder import BEST, MODEL, RunFolder
from wsseg.train.samples import Loader
from wsseg.train.sampling import JOINT, Sampler
from wsseg.train.schedule import Schedule

#: Options that say where and how fast, and so may change when a run is resumed.
_FREE = {"device", "compiled", "max_minutes", "save_minutes", "log_every", "tensorboard"}


@dataclass
class Data:
    """What is trained on, the strong place first, and evaluated on."""

    parts: dict[str, Labelled]
    names: tuple[str, ...]
    val: Labelled | None

    @property
    def supervision(self) -> dict[str, tuple[int, ...]]:
        """Labels spent on all parts."""
        total: dict[str, tuple[int, ...]] = {}
        for part in self.parts.values():
            for kind, numbers in part.spent.items():
                total[kind] = tuple(map(sum, zip(total.get(kind, (0, 0, 0)), numbers)))
        return total


def run(flow: Flow, as_json: bool, options: dict[str, Any]) -> ExitStatus:
    """Train, and say what came of it."""
    device = pick_device(options["device"])
    rank, world = join_group(device)
    try:
        if rank:
            flow.env.verbosity = -2
        else:
            RunFolder.claim(flow.output, flow.mode)
        data = read(flow, options)
        training = Training(flow, options, data, device, rank, world)
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


def read(flow: Flow, options: Mapping[str, Any]) -> Data:
    """Open and check all places. Raises UsageError for what cannot be trained on."""
    place, weak, method = flow.inputs[0], options["weak"], options["weak_loss"]
    if place is None and not weak:
        raise UsageError("nothing to train on: name label maps, or --weak PLACE")
    flow.inputs = tuple(p for p in (place, *weak) if p)
    if [*flow.inputs, flow.images, options["val"], options["val_images"]].count("-") > 1:
        raise UsageError("only one input can be standard input")
    sources = [strong(flow, place, options["use"])] if place else []
    sources += [catalogue(flow, w, "label") for w in weak]
    names, rows = _classes(flow, sources, options["join_classes"])
    photos = None if flow.images is None else catalogue(flow, flow.images, "image")
    if photos is None and any("image" not in s.header.kinds for s in sources):
        raise UsageError("ws-train needs the photos: name their folder with --images")
    checker = Checker(flow, photos, len(names))
    parts, taken = {}, set()
    for number, source in enumerate(sources):
        first = place is not None and number == 0
        use = choose_kind(source, ("label", "scribble") if first else weak_kinds(method),
                          options["use"] if first else None)
        keys = flow.selected(source) if number == 0 else [
            k for k in source.keys() if k not in taken]
        taken |= set(keys)
        name = "strong" if first else f"weak{number}" if number > 1 else "weak"
        if not keys:
            raise UsageError(f"{source.where}: no record is left to train on")
        flow.env.say(f"{name}: {len(keys)} images, {use} of {source.where}", 1)
        parts[name] = checker.take(source, use, keys, conf=options["conf"], rows=rows[number],
                                   classes=None if rows[number] is None else len(rows[number]),
                                   truth=first or use == "scribble")
    return Data(parts, names, _validation_part(flow, options, photos, names))


def _validation_part(flow: Flow, options: Mapping[str, Any], photos: Catalogue | None,
                     names: Sequence[str]) -> Labelled | None:
    if options["val"] is None:
        if options["select"] == "best" or options["val_images"]:
            raise UsageError("--select best and --val-images need --val")
        return None
    source = catalogue(flow, options["val"], "label")
    if options["val_images"] is not None:
        photos = catalogue(flow, options["val_images"], "image")
    if photos is None and "image" not in source.header.kinds:
        raise UsageError(f"{source.where} has no photos: name their folder with --val-images")
    theirs = source.header.classes
    if theirs and theirs != tuple(names)[:len(theirs) if options["join_classes"] else None]:
        odd = next((i for i, (a, b) in enumerate(zip(theirs, names)) if a != b), None)
        raise UsageError(f"{source.where} has other classes than are trained: " + (
            f"{len(theirs)}, not {len(names)}" if odd is None else
            f"class {odd} is {theirs[odd]!r} there and {names[odd]!r} here"))
    return Checker(flow, photos, len(names)).take(source, "label", source.keys())


def _classes(flow: Flow, sources: Sequence[Catalogue], join: bool
             ) -> tuple[tuple[str, ...], list[list[int] | None]]:
    """Return the net's class names, and for each place the numbers that its own have there."""
    lists = [s.header.classes or flow.classes for s in sources]
    known = next((names for names in lists if names), None)
    if known is None:
        raise UsageError("how many classes are there? Name them: --classes voc, or a file")
    union = tuple(dict.fromkeys(n for names in lists for n in names or known)) if join else known
    if len(union) > 255:
        raise UsageError(f"{len(union)} classes: 255 means no label, so there can be 255 at most")
    if join:
        return union, [[union.index(n) for n in names or known] for names in lists]
    named = [source for source in sources if source.header.classes]
    for source in named[1:]:
        refuse_other_classes(named[0], source)
    return tuple(known), [None] * len(sources)


class Training:
    """One run: built from its options, trained, written."""

    def __init__(self, flow: Flow, options: Mapping[str, Any], data: Data, device: Any,
                 rank: int, world: int) -> None:
        self.flow, self.options, self.data, self.device, self.rank = (flow, options, data,
                                                                      device, rank)
        o = options
        seed_torch(o["seed"])
        spec = NetSpec(o["backbone"], o["head"], len(data.names), int(o["stride"]), o["dual"],
                       o["shared"], o["msc"], o["frozen_norm"], int(o["fov"]), o["dropout"],
                       o["width"])
        sampler = self._sampler()
        sampler.check_world(world)
        self.iterations = o["iterations"] or self._steps(sampler)
        schedule = Schedule(o["schedule"], self.iterations, o["power"], o["step_every"] or 0,
                            o["gamma"], o["warm_up"])
        augment = Augment(o["crop"], tuple(o["scale"]), o["flip"], o["rotate"], False,
                          o["jitter"], o["jitter"], o["jitter"])
        weak = Weak(o["weak_loss"], *o["em_bias"], *o["em_portions"], o["em_passes"],
                    o["em_forbid"], o["mil_form"])
        bf16 = use_bf16(o["precision"], device)
        net = build(spec)
        self.init = load_init(net, o["init"])
        self.net = placed(net, device)
        rows = {n: p.samples.rows for n, p in data.parts.items() if p.samples.rows is not None}
        objective = Objective(self.net, weak, at=o["loss_at"], rows=rows,
                              class_weight=_class_weight(o["class_weight"], len(data.names)))
        if o["compiled"]:
            for module in (self.net.backbone, *self.net.branches.values()):
                module.compile()
        groups = self.net.parameter_groups()
        self.optimizer = build_optimizer(
            groups, o["optimizer"], lr=o["lr"], momentum=o["momentum"], new_rate=o["new_rate"],
            weight_decay=0. if o["l2sp"] else o["weight_decay"], bias_rate=o["bias_rate"])
        self.l2sp = L2SP(groups, alpha=o["l2sp"][0], beta=o["l2sp"][1]) if o["l2sp"] else None
        self.folder = self._folder(spec) if not rank else None
        plan = Plan(self.iterations, o["lr"], schedule, o["accumulate"], o["seed"], bf16,
                    o["log_every"], self._val_every(), o["save_minutes"], o["max_minutes"] or 0)
        loader = Loader({n: p.samples for n, p in data.parts.items()}, sampler, augment,
                        threads=flow.jobs, rank=rank, world=world)
        self.validation = None if data.val is None else Validation(
            Inference(self.net, device, bf16=bf16), data.val.samples,
            1 if device.type == "cpu" else 16, flow.jobs)
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
        """Steps of so many epochs of the first place."""
        share = sampler.epoch(1)[next(iter(self.data.parts))]
        return max(1, math.ceil(self.options["epochs"] / (share * self.options["accumulate"])
                                - 1e-9))

    def _val_every(self) -> int:
        if self.data.val is None:
            return 0
        return self.options["val_every"] or max(1, self.iterations // 10)

    def _folder(self, spec: NetSpec) -> RunFolder:
        """The run's directory, which knows all that its result depends on."""
        settings = {k: v for k, v in self.options.items() if k not in _FREE | {"weak", "val",
                                                                              "val_images"}}
        settings |= {"net": spec.as_json(), "iterations": self.iterations,
                     "classes": list(self.data.names), "init": self.init,
                     "data": {n: _digest(p) for n, p in self.data.parts.items()}}
        return RunFolder(self.flow.output, settings, self.flow.mode)

    def train(self) -> dict[str, Any]:
        """Train from the start or the last checkpoint; write the model. Returns a summary."""
        start, began = self._resume(), time.monotonic()
        if self.folder is not None and self.folder.finished and start >= self.iterations:
            self.flow.env.say(f"{self.flow.output} is finished already")
            return self._summary(start, 0.)
        self.net.train()
        with self.flow.env.bar(self.iterations, "step") as bar:
            bar.update(start)
            self.hooks.step = lambda step, images: (self.flow.env.stop_if_signalled(),
                                                    bar.update())
            if not self.rank:
                self._attach(bar)
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
                                                                         "val_miou")})
            self.flow.env.say(" ".join(f"{k} {v}" for k, v in entry.items()), 1)
            write(entry)

        self.hooks.log = log
        self.hooks.save = lambda step: self.folder.save(step, {
            "net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(),
            "l2sp": [] if self.l2sp is None else self.l2sp.reference,
            "best": list(self.best or ())})
        if self.validation is not None:
            self.hooks.evaluate = self._evaluate

    def _evaluate(self, step: int) -> dict[str, Any]:
        score = self.validation.score()
        if self.best is None or score["val_miou"] > self.best[1]:
            self.best = step, score["val_miou"]
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
        entry = history_entry(flow.tool, __version__, flow.arguments, flow.parameters,
                              {r: h for r, h in headers.items() if h.history})
        earlier = [e for h in headers.values() for e in h.history]
        supervision = data.supervision
        card = {"task": "segment", "classes": list(data.names), "init": self.init, "step": step,
                "images": {n: len(p.samples) for n, p in data.parts.items()},
                "supervision": {k: list(v) for k, v in supervision.items()},
                "history": [*{e["id"]: e for e in earlier}.values(), entry]}
        if data.val is not None:
            card["validation"] = {k: list(v) for k, v in data.val.spent.items()}
            if self.options["select"] == "best":  # chosen by them, so they were used
                card["supervision"] = {k: list(v) for k, v in larger(
                    supervision, data.val.spent).items()}
        return model_bytes(self.net, card)

    def _summary(self, step: int, minutes: float, done: bool = True) -> dict[str, Any]:
        path = f"{self.flow.output.rstrip('/')}/{MODEL}"
        return {"model": path if done else None, "steps": step, "of": self.iterations,
                "loss": self.last.get("loss"), "val_miou": self.last.get("val_miou"),
                "best": None if self.best is None else
                f"{self.best[1]} at step {self.best[0]}",
                "minutes": round(minutes, 2), "device": str(self.device)}


def _digest(part: Labelled) -> dict[str, Any]:
    text = "\n".join(part.samples.keys)
    return {"images": len(part.samples), "use": part.samples.use,
            "keys": hashlib.sha256(text.encode()).hexdigest()[:12]}


def _class_weight(path: str | None, classes: int) -> list[float] | None:
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as file:
            values = [float(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"--class-weight {path}: {error}") from None
    if len(values) != classes or not all(0 <= v < math.inf for v in values):
        raise UsageError(f"--class-weight {path} must hold {classes} numbers of 0 or more")
    return values
