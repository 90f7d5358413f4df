"""Multiple-instance losses of image tags, the rivals of wssl-2015 (its section 3.2, Table 2).

Scores of all pixels are pooled into one for each class and that one is trained as a classifier's.
The pool is the maximum (MIL-FCN: Pathak, Shelhamer, Long, Darrell, "Fully convolutional
multi-class multiple instance learning", 2014) or the log-sum-exp of Pinheiro and Collobert,
"From image-level to pixel-level labeling with convolutional networks", CVPR 2015, with r = 5:
log(mean(exp(r s))) / r, between mean and maximum.

What a class is trained towards:
  pixel    -log P(l), P(l) the pooled probability of a softmax at each pixel, for the listed
           classes only (MIL-FCN; absent classes lose through the softmax alone)
  image    -log softmax of the pooled scores, for the listed classes (Pinheiro and Collobert,
           whose images have one class; the mean over several is ours)
  sigmoid  binary cross-entropy of the pooled scores, listed or not (a multi-label classifier)
In ``pixel`` and ``image`` the background is a class like any other, listed for every image with
tags (channel 0). In ``sigmoid`` it is left out: listed always, it would be pushed up everywhere
and never down. Where the classes have no background, no channel is listed for that or left out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

POOLS = ("max", "lse")
FORMS = ("pixel", "image", "sigmoid")
SHARPNESS = 5.  # r


def pool_scores(scores: Tensor, pool: str = "max", sharpness: float = SHARPNESS) -> Tensor:
    """Return (B,K) from (B,K,h,w): the maximum, or the log-sum-exp (its limit as r grows)."""
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}: one of {', '.join(POOLS)}")
    flat = scores.flatten(2)
    if pool == "max":
        return flat.amax(2)
    return (torch.logsumexp(flat * sharpness, 2) - math.log(flat.shape[2])) / sharpness


def mil_loss(logits: Tensor, tags: Tensor, pool: str = "max", form: str = "pixel",
             sharpness: float = SHARPNESS, background: bool = True) -> tuple[Tensor, Tensor]:
    """Return the sum over the images with tags of each one's mean loss, and their number.

    logits: float (B,K,h,w); tags: bool (B,K); background: channel 0 is it. An image with no
    tag says nothing and is not counted; one that lists the background alone has no object. Both
    results are float32 scalars, to be divided as those of ``labelled_nll``. Max-pooling passes
    the gradient to all pixels that share the maximum.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form {form!r}: one of {', '.join(FORMS)}")
    if logits.ndim != 4 or tags.shape != logits.shape[:2]:
        raise ValueError("expected logits (B,K,h,w) and tags (B,K), got "
                         f"{tuple(logits.shape)} and {tuple(tags.shape)}")
    tags = tags.to(logits.device, torch.bool)
    with torch.autocast(logits.device.type, enabled=False):
        logits = logits.float()
        if form == "sigmoid":
            first = int(background)
            pooled = pool_scores(logits[:, first:], pool, sharpness)
            target = tags[:, first:].float()
            each, counted = F.binary_cross_entropy_with_logits(
                pooled, target, reduction="none"), torch.ones_like(target)
        else:
            scores = logits.log_softmax(1) if form == "pixel" else logits
            pooled = pool_scores(scores, pool, sharpness)
            each = -(pooled if form == "pixel" else pooled.log_softmax(1))
            counted = tags.float()
        known = tags.any(1)
        # where, not a product: an infinite loss of a class that is not counted must not show
        loss = torch.where(counted > 0, each, 0).sum(1) / counted.sum(1).clamp_min(1)
        return torch.where(known, loss, 0).sum(), known.sum().float()
