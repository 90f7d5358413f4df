"""Probabilities of whole photos: any size, several scales, mirrored or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wsseg.nets.layers import resize
from wsseg.nets.running import memory_checked
from wsseg.nets.segmenter import Segmenter


def views(images: Tensor, scales: Sequence[float], flip: bool) -> Iterator[tuple[Tensor, bool]]:
    """Yield images (B,C,H,W) at each scale, then with ``flip`` their mirror images, and whether
    they are those."""
    for scale in scales:
        near = images if scale == 1 else F.interpolate(
            images, [max(1, round(n * scale)) for n in images.shape[2:]], mode="bilinear",
            align_corners=False, antialias=scale < 1)
        yield near, False
        if flip:
            yield near.flip(3), True


@torch.no_grad()
def predict_probabilities(net: Segmenter, photos: Tensor, *, scales: Sequence[float] = (1.,),
                          flip: bool = False, branch: str = "strong",
                          classes: Tensor | None = None, bf16: bool = False) -> Tensor:
    """Return float32 probabilities (B,K,H,W) of photos of one size.

    photos: RGB of 0..255, uint8 or float (B,3,H,W), or (B,H,W,3) unless H is 3, on the net's
    device. scales: the photo is seen at each and the probabilities are averaged, as DeepLab
    does. flip: its mirror image too. classes: bool (B,K), True where an image may hold a class
    (the background included); the softmax is over those. bf16: run the net under autocast. The
    net is used as it is: call ``eval()`` first.

    A photo is padded with the mean colour below and right to stride * k + 1 pixels, so that the
    logits lie on its pixels exactly.
    """
    images = net.normalise(photos)
    size = (images.shape[2], images.shape[3])
    forbidden = None if classes is None else ~classes[:, :, None, None]
    total = None
    for view, mirrored in views(images, scales, flip):
        logits = _logits(net, view, branch, bf16)
        if mirrored:
            logits = logits.flip(3)
        if logits.shape[2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=False)
        if forbidden is not None:
            logits = logits.masked_fill(forbidden, -torch.inf)
        part = logits.softmax(1)
        total = part if total is None else total.add_(part)
    return total if len(scales) * (1 + flip) == 1 else total.div_(len(scales) * (1 + flip))


def _logits(net: Segmenter, images: Tensor, branch: str, bf16: bool) -> Tensor:
    """Logits at every pixel of one batch."""
    height, width = images.shape[2:]
    stride = net.stride
    below, right = (-(n - 1) % stride for n in (height, width))
    padded = F.pad(images, (0, right, 0, below)) if below or right else images
    padded = padded.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        logits = net(padded, branch)
    full = resize(logits.float(), (height + below, width + right))
    return full[:, :, :height, :width]


def pooled(probabilities: Tensor, stride: int) -> Tensor:
    """Average (B,K,H,W) over cells of about ``stride`` pixels: (B,K,ceil(H/stride),ceil(W/stride)).

    The cells are of equal size, as ``resample`` takes them to be: of exactly ``stride`` pixels with
    a narrower last one, the map would come back up to three pixels away from where it was.
    """
    if stride == 1:
        return probabilities
    height, width = probabilities.shape[2:]
    return F.adaptive_avg_pool2d(probabilities, (-(-height // stride), -(-width // stride)))


def shrunk(score: np.ndarray, stride: int) -> np.ndarray:
    """``pooled`` of one photo's scores: float16 (K,H,W) -> float16 (K,h,w)."""
    return pooled(torch.from_numpy(score[None]).float(), stride)[0].half().numpy()


@dataclass(frozen=True)
class Inference:
    """A net with all that decides what it says, from arrays to arrays.

    rows: the net's classes among which is chosen, in the order of the result; None for all.
    stride: scores are means over cells of so many pixels. The rest: ``predict_probabilities``.
    """

    net: Segmenter
    device: torch.device
    scales: tuple[float, ...] = (1.,)
    flip: bool = False
    branch: str = "strong"
    rows: tuple[int, ...] | None = None
    stride: int = 4
    bf16: bool = False

    def __call__(self, photos: np.ndarray, allowed: np.ndarray | None = None, *,
                 label: bool = True, score: bool = False
                 ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return labels int64 (B,H,W) and scores float16 (B,K,h,w), None where not asked for.

        photos: uint8 (B,H,W,3); allowed: bool (B,K), classes that each may hold. Raises
        WssegError when memory runs out.
        """
        height, width = photos.shape[1:3]
        with memory_checked(f"out of memory with {len(photos)} photos of {height}x{width}: lower "
                            "--batch or --scales"):
            found = predict_probabilities(
                self.net, torch.from_numpy(photos).to(self.device).permute(0, 3, 1, 2),
                scales=self.scales, flip=self.flip, branch=self.branch,
                classes=self._classes(len(photos), allowed), bf16=self.bf16)
            if self.rows is not None:
                found = found[:, list(self.rows)]
            return (found.argmax(1).cpu().numpy() if label else None,
                    pooled(found, self.stride).half().cpu().numpy() if score else None)

    def _classes(self, count: int, allowed: np.ndarray | None) -> Tensor | None:
        """The net's classes that each photo may hold: bool (B, all of them), None for all."""
        if allowed is None and self.rows is None:
            return None
        rows = list(range(self.net.spec.classes) if self.rows is None else self.rows)
        result = np.zeros((count, self.net.spec.classes), bool)
        result[:, rows] = True if allowed is None else allowed
        return torch.from_numpy(result).to(self.device)
