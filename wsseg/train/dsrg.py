"""Deep seeded region growing (DSRG) and its elder relative SEC: nets from a few cues of classes.

Sources: Huang et al., "Weakly-supervised semantic segmentation network with deep seeded region
growing" (CVPR 2018), which dualbranch-2020 (section 4.1) has as its generator of weak labels, and
Kolesnikov and Lampert, "Seed, expand and constrain" (ECCV 2016), with what their released code
does where the papers say less. At each step the net's probabilities are refined by a dense CRF
at the logits' own resolution. Then

  dsrg  the cues grow over confident pixels (``grow``), always from the given cues anew; the loss is
        the balanced seed loss of what has grown plus the boundary loss
  sec   the loss is the seed loss of the cues, plus the expansion loss of the image's classes, plus
        the boundary loss

Both are means over the images. Where we differ from the released code:
- It lets gradients of the boundary loss also flow into the refined map q, where its CRF layer
  passes (1 - q) times the gradient on, which is not the CRF's derivative. Here q is a constant.
- In training its CRF takes -p as the unary term; here it is -log p, as in the papers (and in that
  code when it predicts).
- It squashes photos to 321x321 and divides the CRF's lengths by 12, about the pixels between two of
  41x41 logits on a VOC photo. Here they are divided by that number of each crop, of a photo whose
  longer side has 500 pixels, so that they are the same share of every photo.
- Ranks of the expansion loss decay by image share: per pixel q at 41x41 and faster on less logits.
- A logit's colour is the mean over half its cell across, there that of one pixel.
- Crops count where the photo is. A class without a cue in the crop is not expanded.
- Where the classes have no background (``background`` is False) class 0 is one like the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsseg.nets.crf import Kernel, Lattice, mean_field
from wsseg.train.augment import Warp
from wsseg.train.cues import cues_at, inside_at, pixels_of
from wsseg.train.tags import IGNORE

#: Probabilities above which a pixel may join a region of foreground, of background.
FG_LEAST, BG_LEAST = .85, .99
#: The least probability, of the net and of the CRF.
MIN_PROB = 1e-4
#: Bounds of q / p in the boundary loss.
RATIO = .05, 20.
#: Decay of the ranks of foreground and background in SEC's pool, for 41x41 logits.
DECAY_FG, DECAY_BG, DECAY_SIZE = .996, .999, 41 * 41
#: The CRF: weight and standard deviations, in pixels of the photo (``cues.LONGER``) and in grey
#: levels; iterations.
GAUSS, RGB, ITERATIONS = (3., 3.), (10., 80., 13.), 10
METHODS = "dsrg", "sec"


def seeded_loss(method: str, logits: Tensor, photos: Tensor, labels: Tensor, tags: Tensor,
                warps: Sequence[Warp] = (), *, fg_least: float = FG_LEAST,
                bg_least: float = BG_LEAST, background: bool = True) -> tuple[Tensor, Tensor]:
    """Return the sum over images of the loss of ``dsrg`` or ``sec``, and their number.

    logits: float (B,K,h,w); photos: (B,3,H,W), 0 ... 255; labels: integers (B,H,W), the cues, 255
    elsewhere; tags: bool (B,K), the classes that may be there; warps: how each photo came into
    its crop, () if each is whole; background: class 0 is the background. Both results are
    scalars, to be divided as those of ``labelled_nll``. Raises ValueError for another method.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: one of {', '.join(METHODS)}")
    size = (logits.shape[2], logits.shape[3])
    warps = warps or [Warp(np.eye(2, 3), tuple(photos.shape[2:]), tuple(photos.shape[2:]))
                      ] * len(photos)
    with torch.autocast(logits.device.type, enabled=False):
        probs = probabilities(logits)
        inside = torch.from_numpy(inside_at(warps, size)).to(logits.device)
        cues = cues_at(labels, size, logits.shape[1]).masked_fill_(~inside, IGNORE)
        refined = refine(probs, photos, inside, pixels_of(warps, size))
        if method == "dsrg":
            least = fg_least, bg_least if background else fg_least
            grown = grow(refined, cues, tags, inside, *least)
            loss = seed_loss(probs, grown, balanced=background)
        else:
            loss = seed_loss(probs, cues) + expansion_loss(probs, tags, cues, inside, background)
        loss = loss + boundary_loss(probs, refined, inside)
    return loss.sum(), loss.new_tensor(float(len(loss)))


def probabilities(logits: Tensor) -> Tensor:
    """Return the softmax (B,K,h,w), each class given ``MIN_PROB`` and divided by their sum."""
    p = (logits if logits.dtype == torch.float64 else logits.float()).softmax(1) + MIN_PROB
    return p / p.sum(1, keepdim=True)


# -- the CRF -----------------------------------------------------------------------------------


class _Inside(Kernel):
    """A kernel of the points where ``inside``, bool (B,N), holds: nothing comes from others."""

    @torch.no_grad()
    def __init__(self, features: Tensor, inside: Tensor) -> None:
        there = inside[:, :, None]
        self.lattice = Lattice(features)
        total = self.lattice(there.to(features.dtype)) + 1e-20
        self.norm = torch.where(there, total.rsqrt(), 0)  # outside it may be below 0, by rounding


@torch.no_grad()
def refine(probs: Tensor, photos: Tensor, inside: Tensor, pixels: np.ndarray) -> Tensor:
    """Return the dense CRF's marginals (B,K,h,w) of probabilities, at least ``MIN_PROB``.

    photos: (B,3,H,W), 0 ... 255; inside: bool (B,h,w); pixels: (B,), as of ``pixels_of``.
    Without gradient.
    """
    size = probs.shape[2:]
    wide = [(length - 1) // max(1, n - 1) // 4 for length, n in zip(photos.shape[2:], size)]
    colours = F.avg_pool2d(photos.to(probs.dtype), [2 * n + 1 for n in wide], 1, wide,
                           count_include_pad=False)
    colours = F.interpolate(colours, size, mode="bilinear", align_corners=True)
    colours = colours.flatten(2).transpose(1, 2)
    y, x = (torch.arange(n, dtype=probs.dtype, device=probs.device) for n in size)
    place = torch.stack([x.expand(size), y[:, None].expand(size)], 2).reshape(1, -1, 2)
    place = place * torch.from_numpy(pixels).to(place)[:, None, None]
    there = inside.flatten(1)
    kernels = (_Inside(place / GAUSS[1], there),
               _Inside(torch.cat([place / RGB[1], colours / RGB[2]], 2), there))
    q = mean_field(-probs.log(), gauss_weight=GAUSS[0], rgb_weight=RGB[0], iterations=ITERATIONS,
                   kernels=kernels).clamp_min_(MIN_PROB)
    return q.div_(q.sum(1, keepdim=True))


# -- growing -----------------------------------------------------------------------------------


@torch.no_grad()
def grow(refined: Tensor, cues: Tensor, tags: Tensor, inside: Tensor | None = None,
         fg_least: float = FG_LEAST, bg_least: float = BG_LEAST) -> Tensor:
    """Return the grown cues, int64 (B,h,w), 255 elsewhere.

    refined: (B,K,h,w); cues: int64 (B,h,w); tags: bool (B,K), the background is channel 0. A
    pixel is of its most likely class among the tags, if the probability is above that class's
    least. Of each class the 8-connected components that hold a cue of it join the cues, but for
    pixels that are another class's cues.
    """
    listed = tags.cpu().numpy().astype(bool)[:, :, None, None]
    probs = np.where(listed, refined.cpu().numpy(), -1)
    likely = probs.argmax(1)
    sure = probs.max(1) > np.where(likely == 0, bg_least, fg_least)
    if inside is not None:
        sure &= inside.cpu().numpy()
    likely[~sure] = IGNORE
    result = cues.cpu().numpy().copy()
    for found, cue in zip(likely, result):
        given = cue.copy()
        for cls in np.unique(given[given != IGNORE]).tolist():
            region = found == cls
            number, parts = cv2.connectedComponents(region.view(np.uint8), connectivity=8)
            joins = np.zeros(number, bool)
            joins[parts[region & (given == cls)]] = True
            cue[joins[parts] & (given == IGNORE)] = cls
    return torch.from_numpy(result).to(cues.device)


# -- losses, one value an image ----------------------------------------------------------------


def seed_loss(probs: Tensor, cues: Tensor, *, balanced: bool = False) -> Tensor:
    """Return the mean of -log p over the cues of each image: (B,), 0 where there are none.

    probs: (B,K,h,w); cues: int64 (B,h,w), 255 for none. balanced: the mean over the foreground
    plus that over the background.
    """
    known = cues != IGNORE
    each = -probs.gather(1, cues.masked_fill(~known, 0)[:, None])[:, 0].log()
    parts = (known & (cues == 0), known & (cues != 0)) if balanced else (known,)
    return sum(_mean(each, part) for part in parts)


def boundary_loss(probs: Tensor, refined: Tensor, inside: Tensor | None = None) -> Tensor:
    """Return the mean over the pixels inside of sum_c q log(q / p): (B,), q the refined
    probabilities and q / p held between the bounds of ``RATIO``."""
    each = (refined * (refined / probs).clamp(*RATIO).log()).sum(1)
    return _mean(each, torch.ones_like(each, dtype=torch.bool) if inside is None else inside)


def expansion_loss(probs: Tensor, tags: Tensor, cues: Tensor, inside: Tensor | None = None,
                   background: bool = True) -> Tensor:
    """Return SEC's expansion loss (B,), the sum of three means.

    Of -log of the pooled probability over the foreground classes that have a cue; of -log(1 - its
    maximum) over the classes that are no tag; and -log of the background's, where it is a tag.
    background: class 0 is that.
    """
    if inside is None:
        inside = torch.ones_like(cues, dtype=torch.bool)
    tags = tags.to(probs.device, torch.bool)
    each = torch.arange(probs.shape[1], device=cues.device)
    cued = (cues.flatten(1)[:, None] == each[:, None]).any(2) & tags
    first = int(background)
    foreground = each >= first
    flat, some = probs.flatten(2), inside.flatten(1).any(1)
    pooled = torch.cat([rank_pool(flat[:, :first], inside.flatten(1), DECAY_BG),
                        rank_pool(flat[:, first:], inside.flatten(1), DECAY_FG)], 1)
    highest = flat.masked_fill(~inside.flatten(1)[:, None], 0).amax(2)
    loss = (_mean(-pooled.clamp_min(1e-9).log(), cued & foreground)
            + _mean(-(1 - highest).log(), ~tags & foreground)
            + _mean(-pooled.clamp_min(1e-9).log(), tags & ~foreground))
    return torch.where(some, loss, 0)


def rank_pool(probs: Tensor, inside: Tensor, decay: float) -> Tensor:
    """Return the global weighted rank pooling (B,K) of (B,K,N): the mean of the values inside,
    bool (B,N), the greatest of weight 1 and each next one of ``decay`` times that, if there are
    41x41 of them; if there are fewer the weights fall as much over all of them."""
    number = inside.sum(1, keepdim=True)
    rank = torch.arange(probs.shape[2], device=probs.device)
    weight = torch.exp(rank * (np.log(decay) * DECAY_SIZE / number.clamp_min(1)))
    weight = (weight * (rank < number)).to(probs.dtype)
    ranked = probs.masked_fill(~inside[:, None], 0).sort(2, descending=True).values
    return (ranked * weight[:, None]).sum(2) / weight.sum(1, keepdim=True).clamp_min(1e-9)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """The mean of each image's values in a part, 0 for an empty one: (B,)."""
    chosen = torch.where(where, values, 0).flatten(1).sum(1)
    return chosen / where.flatten(1).sum(1).clamp_min(1)
