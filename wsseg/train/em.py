"""The E-steps of wssl-2015: labels that a net's own scores and weak labels give together.

EM-Fixed is Algorithm 1 (Eq. 9, 10); EM-Adapt is the supplementary algorithm as the published
layer computes it, and Bbox-EM-Fixed that layer's per-pixel mode (section 3.3). All work on logits
(B,K,h,w) at the net's own resolution and return labels int64 (B,h,w), without gradient: the
M-step is ``labelled_nll(logits, labels)``.

tags: bool (B,K), the listed classes, channel 0 the background; list it for every image that has
some. An image with no tag at all says nothing, and gets the labels that the net gives it by
itself (argmax of its logits), as the published layer leaves such an image alone. When a crop of
an image is trained on, wssl-2015 still uses the tags of the whole image: EM-Adapt then gives an
object that was cut away its portion of the crop (``tags.tags_of_boxes`` can tell better).

Where tags alone are learnt from, the net must tell classes apart before the first E-step. A new
head on ImageNet's features settles otherwise on one place (a corner, the middle) that is foreground
in every image: labels and net then agree, and nothing moves on. The paper's VGG-16 kept the fully
connected layers of its classifier; here ``--head fcn --init`` takes a classifier of the tags.

Ties go to the lowest class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Generator = np.random.Generator | torch.Generator
Generators = Generator | Sequence[Generator] | None

#: Defaults: the biases and portions of wssl-2015, section 4.3. The number of passes over the
#: classes is not in the paper (the published layer's default is 1).
B_FG, B_BG, BG_PORTION, FG_PORTION, ITERATIONS = 5., 3., .4, .2, 5


@torch.no_grad()
def em_fixed(logits: Tensor, tags: Tensor, b_fg: float = B_FG, b_bg: float = B_BG, *,
             forbid: bool = False) -> Tensor:
    """Return the argmax of the logits plus a bias for the listed classes.

    Absent classes get no bias but are possible, as in the paper; forbid: rule them out.
    """
    tags = _checked(logits, tags, 2)
    bias = tags * _biases(logits.shape[1], b_fg, b_bg, logits.device)
    if forbid:
        bias.masked_fill_(~tags & tags.any(1, keepdim=True), -torch.inf)
    return (_real(logits) + bias[:, :, None, None]).argmax(1)


@torch.no_grad()
def bbox_em_fixed(logits: Tensor, allowed: Tensor, b_fg: float = B_FG, b_bg: float = B_BG, *,
                  forbid: bool = False) -> Tensor:
    """Return the argmax of the logits plus biases that hold inside the boxes only.

    allowed: bool (B,K,h,w), where the boxes of each class are (``tags.box_maps``); channel 0
    is True wherever the background is possible, which is everywhere: it is biased inside boxes
    too. Or integers (B,h,w), one class a pixel with 255 for none, as the published layer takes
    them. forbid: a class is impossible outside its boxes; a pixel where nothing is allowed keeps
    its argmax.
    """
    classes = logits.shape[1]
    if allowed.ndim == 3 and allowed.dtype != torch.bool:
        each = torch.arange(classes, device=allowed.device).view(1, -1, 1, 1)
        allowed = (allowed[:, None] == each) | (each == 0)
    allowed = _checked(logits, allowed, 4)
    bias = allowed * _biases(classes, b_fg, b_bg, logits.device)[:, None, None]
    if forbid:
        bias.masked_fill_(~allowed & allowed.any(1, keepdim=True), -torch.inf)
    return (_real(logits) + bias).argmax(1)


@torch.no_grad()
def em_adapt(logits: Tensor, tags: Tensor, bg_portion: float = BG_PORTION,
             fg_portion: float = FG_PORTION, iterations: int = ITERATIONS,
             suppress_others: bool = True, margin: float = 1e-5,
             generator: Generators = None) -> Tensor:
    """Return the labels of adapted scores (see ``adapt_scores``).

    With suppress_others no pixel takes an absent class, not even where rounding hides the
    margin or an absent class's score equals the lowest of the listed ones.
    """
    if not suppress_others:
        return adapt_scores(logits, tags, bg_portion, fg_portion, iterations, False, margin,
                            generator).argmax(1)
    tags = _checked(logits, tags, 2)
    own = logits.argmax(1)
    listed = _Listed(_real(logits).flatten(2), tags)
    if not listed.slots:
        return own
    listed.adapt(bg_portion, fg_portion, iterations, generator)
    labels = listed.classes.gather(1, listed.scores.argmax(1)).view_as(own)
    return torch.where(tags.any(1)[:, None, None], labels, own)


@torch.no_grad()
def adapt_scores(logits: Tensor, tags: Tensor, bg_portion: float = BG_PORTION,
                 fg_portion: float = FG_PORTION, iterations: int = ITERATIONS,
                 suppress_others: bool = True, margin: float = 1e-5,
                 generator: Generators = None) -> Tensor:
    """Return scores (B,K,h,w) biased so that listed classes win their portions of the image.

    suppress_others: a score of an absent class that lies above the lowest of the listed ones is
    set to ``margin`` below that one. Then ``iterations`` times, for the background first and the
    listed others in an order drawn anew: a class gets the bias with which it reaches the highest
    listed score at floor(portion * N) + 1 of the N pixels, or all of them. Later classes may
    take pixels back, so a portion is certain for the class visited last alone. At the end one
    constant for each image brings the mean of the highest listed score back to where it was.
    Images without tags are returned unchanged. generator: of the orders, one for all images, or
    one for each so that it matters not what else is in the batch; None is ascending order.
    """
    tags = _checked(logits, tags, 2)
    flat = _real(logits).flatten(2).clone()
    listed = _Listed(flat, tags)
    if not listed.slots:
        return flat.view_as(logits)
    tagged = tags.any(1)[:, None, None]
    if suppress_others:
        lowest = flat.masked_fill(~tags[:, :, None], torch.inf).amin(1, keepdim=True)
        above = (flat > lowest) & ~tags[:, :, None] & tagged
        flat = torch.where(above, lowest - margin, flat)
    before = listed.highest().mean(1)
    listed.adapt(bg_portion, fg_portion, iterations, generator)
    shift = before - listed.highest().mean(1)
    for slot in range(listed.slots):
        here = (listed.numbers > slot).nonzero()[:, 0]
        flat[here, listed.classes[here, slot]] = listed.scores[here, slot]
    flat += torch.where(tagged, shift[:, None, None], 0)
    return flat.view_as(logits)


class _Listed:
    """The scores of the listed classes alone, (B,T,N), T the most that any image lists.

    classes: int64 (B,T), ascending; numbers: (B,), how many are listed. Slots past an image's
    number hold -inf.
    """

    def __init__(self, flat: Tensor, tags: Tensor):
        self.tags = tags.cpu().numpy()
        self.slots = int(self.tags.sum(1).max(initial=0))
        order = np.argsort(~self.tags, axis=1, kind="stable")[:, :self.slots]
        device = flat.device
        self.classes = torch.from_numpy(order).to(device)
        self.numbers = torch.from_numpy(self.tags.sum(1)).to(device)
        unused = torch.arange(self.slots, device=device) >= self.numbers[:, None]
        index = self.classes[:, :, None].expand(-1, -1, flat.shape[2])
        self.scores = flat.gather(1, index).masked_fill_(unused[:, :, None], -torch.inf)

    def highest(self) -> Tensor:
        """M(x) of each image: (B,N)."""
        return self.scores.amax(1)

    def adapt(self, bg_portion: float, fg_portion: float, iterations: int,
              generator: Generators) -> None:
        """Bias the scores in place."""
        for portion in (bg_portion, fg_portion):
            if not 0 <= portion <= 1:
                raise ValueError(f"expected portions of 0 to 1, got {portion}")
        pixels, highest = self.scores.shape[2], self.highest()
        background = torch.from_numpy(np.flatnonzero(self.tags[:, 0])).to(self.scores.device)
        each = generator if isinstance(generator, Sequence) else [generator] * len(self.tags)
        for _ in range(iterations):
            self._visit(highest, background, torch.zeros_like(background),
                        _rank(bg_portion, pixels))
            orders = [_shuffled(int(t[1:].sum()), g) + int(t[0]) for t, g in zip(self.tags, each)]
            for turn in range(max(map(len, orders))):
                images = [i for i, order in enumerate(orders) if turn < len(order)]
                slots = [int(orders[i][turn]) for i in images]
                self._visit(highest, torch.tensor(images, device=highest.device),
                            torch.tensor(slots, device=highest.device), _rank(fg_portion, pixels))

    def _visit(self, highest: Tensor, images: Tensor, slots: Tensor, rank: int) -> None:
        if not len(images):
            return
        scores = self.scores[images, slots]
        bias = (highest[images] - scores).kthvalue(rank, dim=1, keepdim=True).values
        scores += bias
        self.scores[images, slots] = scores
        highest[images] = torch.maximum(highest[images], scores)


def _rank(portion: float, pixels: int) -> int:
    """The order statistic, counted from 1; the published layer reads past the end at portion 1."""
    return min(math.floor(portion * pixels), pixels - 1) + 1


def _shuffled(count: int, generator: Generator | None) -> np.ndarray:
    if generator is None:
        return np.arange(count)
    if isinstance(generator, np.random.Generator):
        return generator.permutation(count)
    return torch.randperm(count, generator=generator, device=generator.device).cpu().numpy()


def _biases(classes: int, b_fg: float, b_bg: float, device: torch.device) -> Tensor:
    bias = torch.full((classes,), b_fg, dtype=torch.float32, device=device)
    bias[0] = b_bg
    return bias


def _real(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _checked(logits: Tensor, given: Tensor, ndim: int) -> Tensor:
    if logits.ndim != 4 or given.shape != logits.shape[:ndim]:
        raise ValueError(f"expected logits (B,K,h,w) and tags (B,K) or boxes (B,K,h,w), got "
                         f"{tuple(logits.shape)} and {tuple(given.shape)}")
    return given.to(logits.device, torch.bool)
