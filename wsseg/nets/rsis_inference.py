"""Objects of photos from RSIS and W-RSIS, by the rules of their papers.

RSIS runs all its steps. A step whose stop score is below .5 has no object, wherever it comes; a
pixel is the object's above .5; an object below .1 % of the image is dropped. Each that is left
is one of every class, with the score p(class) * stop (RSIS' evaluation). What image labels and
counts add (budget-2019, table 4a): classes not listed are masked in the softmax (+ IL), and the
first n objects are kept (+ C).

W-RSIS gives no score. Here an object's is the mean probability of its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.nets.rsis import RSIS, Found
from wsseg.nets.running import memory_checked

STOP, MASK, AREA = .5, .5, .001


@dataclass(frozen=True, eq=False)
class Drawn:
    """Objects of one photo in the order of their steps.

    masks: bool (N,H,W), which may overlap; scores: float32 (N,K) of every class, 0 where it is
    ruled out; probabilities: float32 (N,H,W), or None.
    """

    masks: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray | None = None

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each object's class of highest score, int64 (N,), and that score (N,)."""
        if not len(self.scores):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        cls = self.scores.argmax(1)
        return cls, np.take_along_axis(self.scores, cls[:, None], 1)[:, 0]


def choose(found: Found, image: int, size: tuple[int, int], *, tokens: np.ndarray | None = None,
           background: int | None = 0, allowed: np.ndarray | None = None, count: int | None = None,
           stop: float = STOP, area: float = AREA) -> Drawn:
    """Return the objects of one image of a batch at its own size (H,W).

    tokens: the classes (N,) W-RSIS was told, of which so many steps count. background: the
    class that is no object, None for none. allowed: bool (K,), image labels (+ IL); count: how
    many objects there are (+ C).
    """
    logits = found.masks[image].float()
    if tokens is None:
        scores = class_scores(found.classes[image], found.stops[image], background, allowed)
        there = (found.stops[image].float().sigmoid() >= stop).cpu().numpy()
        there &= scores.any(1)
    else:
        logits, there = logits[:len(tokens)], np.ones(len(tokens), bool)
    steps = np.flatnonzero(there)
    probabilities = upsampled(logits[torch.from_numpy(steps).to(logits.device)], size)
    masks = probabilities > MASK
    large = masks.sum((1, 2)) >= max(1, area * size[0] * size[1])
    kept = np.flatnonzero(large)[:count]
    masks, probabilities, steps = masks[kept], probabilities[kept], steps[kept]
    if tokens is None:
        return Drawn(masks, scores[steps], probabilities)
    mean = (probabilities * masks).sum((1, 2)) / masks.sum((1, 2)).clip(1)
    told = np.zeros((len(steps), int(tokens.max(initial=0)) + 1), np.float32)
    told[np.arange(len(steps)), tokens[steps]] = mean
    return Drawn(masks, told, probabilities)


def class_scores(classes: Tensor, stops: Tensor, background: int | None,
                 allowed: np.ndarray | None) -> np.ndarray:
    """Return p(class) * stop of each step, float32 (T,K); the softmax is over all classes, or
    those of ``allowed``, and the background's share is no object's."""
    probabilities = classes.float().softmax(1).cpu().numpy()
    if allowed is not None:
        probabilities = np.where(allowed, probabilities, 0)
        if background is not None:
            probabilities[:, background] = 0
        total = probabilities.sum(1, keepdims=True)
        probabilities = probabilities / np.where(total > 0, total, 1)
    elif background is not None:
        probabilities[:, background] = 0
    return (probabilities * stops.float().sigmoid().cpu().numpy()[:, None]).astype(np.float32)


def upsampled(logits: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Return the probabilities of logits (N,h,w) at a photo's own size, float32 (N,H,W).

    The photo was squashed with pixels' centres at .5, so this goes back the same way.
    """
    if not len(logits):
        return np.zeros((0, *size), np.float32)
    if tuple(logits.shape[1:]) != tuple(size):
        logits = F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]
    return logits.sigmoid().cpu().numpy()


def without_overlap(drawn: Drawn) -> np.ndarray:
    """Return a map of ids 1..N, uint16 (H,W), 0 for none: where masks overlap a pixel goes to
    the most probable one, the first of equals."""
    ids = np.zeros(drawn.masks.shape[1:], np.uint16)
    if len(drawn.masks):
        inside = np.where(drawn.masks, drawn.probabilities, -1.)
        ids[:] = np.where(drawn.masks.any(0), inside.argmax(0) + 1, 0)
    return ids


@torch.no_grad()
def run_steps(net: RSIS, photos: np.ndarray, tokens: np.ndarray | None, device: torch.device,
              bf16: bool = False) -> Found:
    """Return what a net says of photos uint8 (B,h,w,3), squashed to its size; W-RSIS is told
    tokens int64 (B,S). Raises WssegError when memory runs out."""
    with memory_checked(f"out of memory with {len(photos)} photos: lower --batch"):
        images = net.normalise(torch.from_numpy(photos).to(device).permute(0, 3, 1, 2))
        told = None if tokens is None else torch.from_numpy(tokens).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return net(images.contiguous(memory_format=torch.channels_last), tokens=told)
