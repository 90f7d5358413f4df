"""The training loop.

A step depends on its number, the seed and the weights alone: the batch comes from the sampler,
dropout and the E-step's orders from seeds made of the step. So a run that was killed goes on from
its last checkpoint as if nothing had happened, bit by bit on a CPU.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from wsseg.errors import WssegError
from wsseg.nets.running import memory_checked
from wsseg.train.optim import L2SP, set_lr
from wsseg.train.samples import Batch, Loader
from wsseg.train.schedule import Schedule

_CHECK = 20  # steps on a GPU between two looks at the loss, which make it wait


@dataclass(frozen=True)
class Plan:
    """Numbers of a run. accumulate: batches added up before a step, whose losses are averaged
    (Caffe's iter_size). save_minutes, max_minutes: 0 is never. log_every, val_every: steps."""

    iterations: int
    lr: float
    schedule: Schedule
    accumulate: int = 1
    seed: int = 0
    bf16: bool = False
    log_every: int = 20
    val_every: int = 0
    save_minutes: float = 5.
    max_minutes: float = 0.


class LossError(WssegError):
    """The loss is no longer a number."""


@dataclass
class Hooks:
    """What a run tells: each step, each entry of the log, checkpoints, evaluations (which return
    an entry for the log), what looks wrong; and asks: whether to stop after this step."""

    step: Callable[[int, int], None] = lambda step, images: None
    log: Callable[[dict[str, Any]], None] = lambda entry: None
    save: Callable[[int], None] = lambda step: None
    evaluate: Callable[[int], dict[str, Any]] | None = None
    stop: Callable[[], bool] = lambda: False
    warn: Callable[[str], None] = lambda text: None


class Trainer:
    """An objective, its optimiser and its batches. model: the objective, or that wrapped for
    several processes; device: where it lies."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, loader: Loader, plan: Plan,
                 device: torch.device, hooks: Hooks, l2sp: L2SP | None = None) -> None:
        self.model, self.optimizer, self.loader, self.plan = model, optimizer, loader, plan
        self.device, self.hooks, self.l2sp = device, hooks, l2sp
        self.waited = 0.
        self._recent: list[tuple[int, list[str], Tensor]] = []
        self._taught, self._told = torch.zeros((), device=device), False

    def run(self, start: int = 0) -> bool:
        """Train from a step on. Returns False where ``max_minutes`` or ``stop`` ended it.

        Raises LossError, naming the images, when the loss is not finite: the last checkpoint is
        from before; WssegError when memory runs out.
        """
        plan, began = self.plan, time.monotonic()
        saved = logged = began
        seen, losses = 0, []
        batches = self._timed(self.loader.batches(start * plan.accumulate,
                                                  plan.iterations * plan.accumulate))
        with memory_checked(self._too_large()):
            for step in range(start, plan.iterations):
                loss, images = self._step(step, batches)
                losses.append(loss)
                seen += images
                self.hooks.step(step + 1, images)
                done = step + 1
                last = done == plan.iterations
                if done % plan.log_every == 0 or last:
                    self._check(last)
                    self._check_taught(done)
                    now = time.monotonic()
                    self.hooks.log({"step": done, "loss": round(float(torch.stack(losses).mean()),
                                                                6),
                                    "lr": plan.lr * plan.schedule.factor(step),
                                    "img/s": round(seen * self.loader.world
                                                   / max(now - logged, 1e-9), 2),
                                    "waiting": round(self.waited / max(now - logged, 1e-9), 4)})
                    logged, seen, losses, self.waited = now, 0, [], 0.
                if plan.val_every and (done % plan.val_every == 0 or last) and self.hooks.evaluate:
                    self._check(True)
                    self.hooks.log({"step": done, **self.hooks.evaluate(done)})
                    logged, seen, self.waited = time.monotonic(), 0, 0.
                late = self._ends(done, began)
                if last or late or (plan.save_minutes
                                    and time.monotonic() - saved > 60 * plan.save_minutes):
                    self._check(True)
                    self._check_weights(done)
                    self.hooks.save(done)
                    saved = time.monotonic()
                if late and not last:
                    return False
        return True

    def _timed(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The same batches; the time spent waiting for them is added up."""
        batches = iter(batches)
        while True:
            before = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - before
            if batch is None:
                return
            yield batch

    def _step(self, step: int, batches: Iterable[Batch]) -> tuple[Tensor, int]:
        """One step of the optimiser; returns its loss and how many images it saw."""
        plan, rank = self.plan, self.loader.rank
        seed_torch(plan.seed, step, rank)
        set_lr(self.optimizer, plan.lr * plan.schedule.factor(step))
        self.optimizer.zero_grad(set_to_none=True)
        total, keys = torch.zeros((), device=self.device), []
        for part in range(plan.accumulate):
            batch = next(batches).to(self.device)
            keys += batch.keys
            hold = part + 1 < plan.accumulate and hasattr(self.model, "no_sync")
            with self.model.no_sync() if hold else nullcontext():
                with torch.autocast(self.device.type, torch.bfloat16, enabled=plan.bf16):
                    sums, counts, weights = self.model(batch)
                self._taught += counts.detach().sum()
                loss, shown = joint_loss(sums, counts, weights)
                (loss / plan.accumulate).backward()
            total += shown / plan.accumulate
        self._recent.append((step, keys, total))
        self._check(self.device.type == "cpu" or len(self._recent) >= _CHECK)
        if self.l2sp is not None:
            self.l2sp.add_gradients()
        self.optimizer.step()
        return total, len(keys)

    def _check(self, now: bool) -> None:
        """Raise LossError if a loss since the last look was not finite."""
        if not now:
            return
        recent, self._recent = self._recent, []
        for step, keys, loss in recent:
            if not math.isfinite(loss.item()):
                raise LossError(f"the loss of step {step + 1} is {loss.item()}: its images are "
                                f"{', '.join(keys[:16])}{' ...' if len(keys) > 16 else ''} "
                                "(a smaller --lr, or --precision fp32, may help; the last "
                                "checkpoint is from before)")

    def _check_taught(self, done: int) -> None:
        """Warn, once, where no image since the last look taught anything."""
        if dist.is_initialized():
            dist.all_reduce(self._taught)
        if not self._taught.item() and not self._told:
            self._told = True
            self.hooks.warn(f"what was seen in the last steps up to step {done} has no label to "
                            "learn from: are they all 255?")
        self._taught.zero_()

    def _check_weights(self, done: int) -> None:
        """Raise LossError if a weight is not finite: a loss can be while its gradient is not."""
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise LossError(f"weights are not finite after step {done} (a smaller --lr, or "
                            "--precision fp32, may help; the last checkpoint is from before)")

    def _ends(self, done: int, began: float) -> bool:
        """Whether a process was asked to stop, or has trained for ``max_minutes``: all of them
        agree, or the others would wait for one that has stopped."""
        several, limit = dist.is_initialized(), self.plan.max_minutes
        if several and self.device.type != "cpu" and done % _CHECK:
            return False
        mine = self.hooks.stop() or bool(limit) and time.monotonic() - began > 60 * limit
        if not several:
            return mine
        flag = torch.tensor(float(mine), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())

    def _too_large(self) -> str:
        crop = "x".join(map(str, self.loader.augment.crop))
        return (f"out of memory with batches of {self.loader.sampler.size} crops of {crop}: "
                "lower --batch (--accumulate keeps the sum) or --crop")


def seed_torch(*numbers: int) -> None:
    """Set torch's random numbers from a few numbers."""
    state = np.random.SeedSequence((2, *numbers)).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(state >> np.uint64(1)))


def joint_loss(sums: Tensor, counts: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss to differentiate and the one to show, of (T,) terms.

    Over several processes each term is divided by the count of all of them and has their mean
    weight, and the loss is multiplied by their number, since their gradients are averaged.
    """
    world = dist.get_world_size() if dist.is_initialized() else 1
    if world == 1:
        loss = (weights * sums / counts.clamp_min(1e-9)).sum()
        return loss, loss.detach()
    joint = torch.stack([sums.detach(), counts, weights])
    dist.all_reduce(joint)
    factors = joint[2] / world / joint[1].clamp_min(1e-9)
    return (factors * sums).sum() * world, (factors * joint[0]).sum()
