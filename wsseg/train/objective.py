"""A net with its losses: strong labels, weak labels, and the two side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from wsseg.errors import UsageError
from wsseg.nets.segmenter import Segmenter
from wsseg.train import dsrg, em
from wsseg.train.losses import labelled_nll
from wsseg.train.mil import mil_loss
from wsseg.train.samples import Batch
from wsseg.train.tags import box_maps

#: Name of a way to learn from weak labels -> kinds of label that it takes.
METHODS = {"labels": ("label", "scribble"), "em-fixed": ("tags", "boxes", "label"),
           "em-adapt": ("tags", "boxes", "label"), "bbox-em": ("boxes",),
           "mil-max": ("tags", "boxes", "label"), "mil-lse": ("tags", "boxes", "label"),
           "dsrg": ("label", "scribble"), "sec": ("label", "scribble")}


@dataclass(frozen=True)
class Weak:
    """How weak labels are learnt from; the numbers are wssl-2015's (see ``em``), those of regions
    DSRG's (see ``dsrg``)."""

    method: str = "labels"
    b_fg: float = em.B_FG
    b_bg: float = em.B_BG
    fg_portion: float = em.FG_PORTION
    bg_portion: float = em.BG_PORTION
    passes: int = em.ITERATIONS
    forbid: bool = False
    mil_form: str = "pixel"
    fg_least: float = dsrg.FG_LEAST
    bg_least: float = dsrg.BG_LEAST

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"no weak loss {self.method!r}: one of {', '.join(METHODS)}")


class Objective(nn.Module):
    """A net and its loss, one module so that it can be wrapped for several processes.

    at: where the loss is taken, ``labels`` or ``logits`` (see ``labelled_nll``). rows: each source
    -> the net's classes that its labels 0..k-1 stand for (cross-joint training of wssl-2015,
    section 4.5): its softmax is over those. background: class 0 is it; em-* and bbox-em need one.

    With two branches the loss is that of the strong images plus that of the weak ones
    (dualbranch-2020, Eq. 3). With one, weak label maps count as strong ones do, pixel by pixel,
    and a loss of another kind by its share of the batch's images, which is the mean over all
    pixels where all are labelled.
    """

    def __init__(self, net: Segmenter, weak: Weak = Weak(), *, at: str = "labels",
                 class_weight: Sequence[float] | None = None,
                 rows: Mapping[str, Sequence[int]] | None = None, background: bool = True) -> None:
        super().__init__()
        self.net, self.weak, self.at, self.background = net, weak, at, background
        self.rows = {name: torch.tensor(r) for name, r in (rows or {}).items()}
        self.class_weight = None if class_weight is None else torch.tensor(class_weight)
        if rows and (net.spec.dual or weak.method != "labels"):
            raise UsageError("data sets of different classes are trained on with one branch and "
                             "label maps")
        if not background and "em" in weak.method.split("-"):
            raise UsageError(f"--weak-loss {weak.method} gives the background a bias or share of "
                             "its own, but these classes have no background")

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums (T,), counts (T,) and weights (T,) of the batch's losses: each is
        weight * sum / count, the count that of all processes and the weight their mean. T is the
        same for every batch, whatever it holds, since processes add theirs up."""
        net, images = self.net, self.net.normalise(batch.photos)
        images = images.contiguous(memory_format=torch.channels_last)
        strong, size = batch.strong, len(images)
        halves = ((slice(0, strong), self._labels), (slice(strong, size), self._weak))
        if net.spec.dual:
            terms = [(*self._some(loss, [logits], batch, which), 1.) for logits, (which, loss)
                     in zip(net.forward_pair(images, strong), halves)]
        else:
            maps = net.forward_scales(images)
            if self.rows:
                terms = self._by_source(maps, batch)
            elif self.weak.method == "labels":
                terms = [(*self._labels(maps, batch, slice(0, size)), 1.)]
            else:
                terms = [(*self._some(loss, [m[which] for m in maps], batch, which),
                          (which.stop - which.start) / size) for which, loss in halves]
        sums, counts, weights = zip(*terms)
        return torch.stack(sums), torch.stack(counts), images.new_tensor(weights)

    @staticmethod
    def _some(loss: Callable[..., tuple[Tensor, Tensor]], maps: list[Tensor], batch: Batch,
              which: slice) -> tuple[Tensor, Tensor]:
        """The loss of some images, 0 of 0 if there are none."""
        if len(maps[0]):
            return loss(maps, batch, which)
        zero = maps[0].new_zeros((), dtype=torch.float32)
        return zero, zero

    def _labels(self, maps: list[Tensor], batch: Batch, which: slice) -> tuple[Tensor, Tensor]:
        conf = None if batch.conf is None else batch.conf[which]
        return self._nll(maps, batch.labels[which], conf, self.class_weight)

    def _nll(self, maps: list[Tensor], labels: Tensor, conf: Tensor | None,
             class_weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Each map has its loss; the count is that of one."""
        results = [labelled_nll(m, labels, conf, at=self.at, class_weight=class_weight)
                   for m in maps]
        return sum(r[0] for r in results), results[-1][1]

    def _by_source(self, maps: list[Tensor], batch: Batch) -> list[tuple[Tensor, Tensor, float]]:
        """One term a source, over its own classes, by its share of the images."""
        terms = []
        for name, rows in self.rows.items():
            here = [i for i, source in enumerate(batch.sources) if source == name]
            part = [m[here][:, rows.to(m.device)] for m in maps]
            conf = None if batch.conf is None else batch.conf[here]
            each = None if self.class_weight is None else self.class_weight[rows]
            terms.append((*self._nll(part, batch.labels[here], conf, each),
                          len(here) / len(batch.sources)))
        return terms

    def _weak(self, maps: list[Tensor], batch: Batch, which: slice) -> tuple[Tensor, Tensor]:
        method = self.weak.method
        if method == "labels":
            return self._labels(maps, batch, which)
        tags = batch.tags[which]
        if method.startswith("mil"):
            parts = [mil_loss(m, tags, method.removeprefix("mil-"), self.weak.mil_form,
                              background=self.background) for m in maps]
            return sum(p[0] for p in parts), parts[-1][1]
        if method in dsrg.METHODS:
            parts = [dsrg.seeded_loss(
                method, m, batch.photos[which], batch.labels[which], tags, batch.warps[which],
                fg_least=self.weak.fg_least, bg_least=self.weak.bg_least,
                background=self.background) for m in maps]
            return sum(p[0] for p in parts), parts[-1][1]
        targets = self._step(maps[-1], tags, batch, which)
        results = [labelled_nll(m, targets, at="labels" if m is maps[-1] else "logits")
                   for m in maps]
        return sum(r[0] for r in results), results[-1][1]

    def _step(self, logits: Tensor, tags: Tensor, batch: Batch, which: slice) -> Tensor:
        """The E-step: labels (B,h,w) from the net's own logits."""
        weak = self.weak
        steps: dict[str, Callable[[], Tensor]] = {
            "em-fixed": lambda: em.em_fixed(logits, tags, weak.b_fg, weak.b_bg,
                                            forbid=weak.forbid),
            "bbox-em": lambda: em.bbox_em_fixed(
                logits, self._allowed(logits, batch, which), weak.b_fg, weak.b_bg,
                forbid=weak.forbid),
            "em-adapt": lambda: em.em_adapt(
                logits, tags, weak.bg_portion, weak.fg_portion, weak.passes,
                generator=[np.random.default_rng((s, 1)) for s in batch.seeds[which]])}
        return steps[weak.method]()

    @staticmethod
    def _allowed(logits: Tensor, batch: Batch, which: slice) -> Tensor:
        classes, size = logits.shape[1], tuple(logits.shape[2:])
        image = tuple(batch.photos.shape[2:])
        maps = [box_maps(xyxy, ids, classes, image=image, size=size)
                for xyxy, ids in batch.boxes[which]]
        return torch.from_numpy(np.stack(maps)).to(logits.device)
