"""Class activation maps of whole photos: CAM, Grad-CAM and Grad-CAM++, several scales, mirrored.

A classifier's logits are S_c = b_c + sum_k w_ck mean(A_k), linear in the features A_k (h,w), so
the gradients that the methods are made of need no backward pass, and all classes come at once:

    cam        sum_k w_ck A_k                     (Zhou et al. 2016)
    gradcam    sum_k mean(dS_c/dA_k) A_k, and dS_c/dA_k = w_ck / (h w) everywhere: cam / (h w)
               (Selvaraju et al. 2017)
    gradcam++  sum_k v_ck A_k with Y = exp(S_c): v = sum_ij alpha relu(dY/dA) and alpha =
               Y'' / (2 Y'' + sum(A) Y''') = 1 / (2 + w_ck mean(A_k)): up to a factor of the class
               v = relu(w_ck) / (2 + w_ck mean(A_k)), 0 where that is divided by 0
               (Chattopadhay et al. 2018, eq. 19; 1e-6 added below the line, as some programs have
               it, is far more than Y'' and so another method)

The methods end with a ReLU. Scaled to their maximum, cam and gradcam are the same maps. That holds
for sums over several scales too, as gradcam's 1 / (h w), which there would weigh the scales, is
left out of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.nets.classifier import Classifier
from wsseg.nets.inference import pooled, views
from wsseg.nets.layers import resize
from wsseg.nets.running import memory_checked

METHODS = ("cam", "gradcam", "gradcam++")


def activations(net: Classifier, features: Tensor, rows: Sequence[int], method: str = "cam"
                ) -> Tensor:
    """Return maps float (B,len(rows),h,w), 0 or more, of the classes ``rows``.

    features: (B,C,h,w) as ``net.features`` gives them.
    """
    weight = net.head.weight[list(rows), :, 0, 0].to(features.dtype)
    if method == "gradcam++":
        weight = weight[None]
        below = 2 + weight * features.mean((2, 3))[:, None]
        each = torch.where(below != 0, weight.clamp_min(0) / below, 0)
        return torch.einsum("brc,bchw->brhw", each, features).relu_()
    if method not in METHODS:
        raise ValueError(f"no method {method!r}")
    maps = torch.einsum("rc,bchw->brhw", weight, features).relu_()
    return maps if method == "cam" else maps.div_(features.shape[2] * features.shape[3])


@dataclass(frozen=True)
class Found:
    """Maps of one photo. classes: ascending ids (K,); full: float32 (K,H,W), each scaled to its
    maximum, 0 throughout where nothing is active; low: float16 (K,h,w), means over cells of
    ``stride`` pixels, scaled again."""

    classes: np.ndarray
    full: np.ndarray | None
    low: np.ndarray


@dataclass(frozen=True)
class ActivationMaps:
    """A classifier with all that decides what its maps are, from arrays to arrays.

    scales: the photo is seen at each, and what the method gives is averaged; flip: and its mirror
    image. stride: resolution of the maps. least: with no classes given, those whose mean
    probability over all of these views is at least this.
    """

    net: Classifier
    device: torch.device
    method: str = "cam"
    scales: tuple[float, ...] = (1.,)
    flip: bool = False
    stride: int = 4
    least: float = .5
    bf16: bool = False

    def __call__(self, photos: np.ndarray, wanted: np.ndarray | None = None, *,
                 full: bool = False, background: int | None = None) -> list[Found]:
        """Return the maps of photos of one size.

        photos: uint8 (B,H,W,3); wanted: bool (B,K), classes of which maps are made; full: give
        those of full size too; background: a class that is never looked for. Raises WssegError
        when memory runs out.
        """
        height, width = photos.shape[1:3]
        with memory_checked(f"out of memory with {len(photos)} photos of {height}x{width}: lower "
                            "--batch or --scales"):
            return self._maps(photos, wanted, full, background)

    @torch.no_grad()
    def _maps(self, photos: np.ndarray, wanted: np.ndarray | None, full: bool,
              background: int | None) -> list[Found]:
        net = self.net
        images = net.normalise(torch.from_numpy(photos).to(self.device).permute(0, 3, 1, 2))
        size = (images.shape[2], images.shape[3])
        method = "cam" if self.method == "gradcam" else self.method  # see the module
        totals: list[Tensor | None] = [None] * len(photos)
        seen = ((self._features(view), view.shape[2:], mirrored)
                for view, mirrored in views(images, self.scales, self.flip))
        if wanted is None:
            seen = list(seen)
            mean = sum(net.pooled(features).sigmoid().double() for features, *_ in seen) / len(seen)
            wanted = (mean >= self.least).cpu().numpy()
        if background is not None:
            wanted = wanted.copy()
            wanted[:, background] = False
        rows = np.flatnonzero(wanted.any(0))
        for features, near, mirrored in seen:
            maps = activations(net, features, rows.tolist(), method)
            for i, own in enumerate(wanted[:, rows]):
                part = self._at(maps[i:i + 1, np.flatnonzero(own).tolist()], near, size, mirrored)
                totals[i] = part if totals[i] is None else totals[i].add_(part)
        return [self._found(np.flatnonzero(w), total, full) for w, total in zip(wanted, totals)]

    def _features(self, images: Tensor) -> Tensor:
        """Of one batch, padded so that position i lies on pixel stride * i up to the border."""
        stride = self.net.stride
        below, right = (-(n - 1) % stride for n in images.shape[2:])
        padded = F.pad(images, (0, right, 0, below)) if below or right else images
        padded = padded.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.net.features(padded)
        return features.float()

    def _at(self, maps: Tensor, near: Sequence[int], size: tuple[int, int], mirrored: bool
            ) -> Tensor:
        """Maps (1,K,h,w) of an image of the size ``near`` at every pixel of the photo."""
        if not maps.shape[1]:
            return maps.new_zeros((1, 0, *size))
        stride = self.net.stride
        full = resize(maps, ((maps.shape[2] - 1) * stride + 1, (maps.shape[3] - 1) * stride + 1))
        full = full[:, :, :near[0], :near[1]]
        if mirrored:
            full = full.flip(3)
        if full.shape[2:] != torch.Size(size):
            full = F.interpolate(full, size, mode="bilinear", align_corners=False)
        return full

    def _found(self, classes: np.ndarray, maps: Tensor, full: bool) -> Found:
        whole = scaled(maps)
        low = scaled(pooled(whole, self.stride)) if len(classes) else maps[:, :, ::self.stride,
                                                                           ::self.stride]
        return Found(classes, whole[0].cpu().numpy() if full else None,
                     low[0].half().cpu().numpy())


def scaled(maps: Tensor) -> Tensor:
    """Divide each map (B,K,H,W) by its maximum, unless that is 0."""
    if not maps.numel():
        return maps
    top = maps.amax((2, 3), keepdim=True)
    return maps / torch.where(top > 0, top, 1)
