"""The training loss and E-steps, and the augmentation of a sample, on one core.

    python tests/benchmarks/loss.py [--rounds 7] [--images 4]

Prints processor milliseconds (least of the rounds, forms taken in turns) of a forward and backward
pass of ``labelled_nll`` in each of its forms beside ``F.interpolate`` and ``F.cross_entropy``, for
sizes and labelled shares that occur; then of EM-Fixed and EM-Adapt; then of one warp of photo and
labels beside ``cv2.resize`` of the whole image and a crop. Processor time is counted so that other
work on the machine distorts less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from wsseg.train.augment import Augment
from wsseg.train.em import em_adapt, em_fixed
from wsseg.train.losses import labelled_nll

SHAPES = ((21, 41, 321), (21, 16, 256), (3, 20, 320))  # classes, side of logits, of labels
SHARES = (1., .2, .1, .03)


def least(forms: dict[str, Callable[[], object]], rounds: int) -> str:
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            start = time.process_time()
            form()
            times[name].append(time.process_time() - start)
    return "  ".join(f"{name} {1e3 * min(t):.2f}" for name, t in times.items())


def by_torch(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    large = F.interpolate(logits, labels.shape[1:], mode="bilinear", align_corners=True)
    return F.cross_entropy(large, labels.long(), ignore_index=255, reduction="sum")


def losses(images: int, rounds: int) -> None:
    for classes, small, large in SHAPES:
        logits = torch.randn(images, classes, small, small, requires_grad=True)
        for share in SHARES:
            labels = torch.randint(0, classes, (images, large, large), dtype=torch.uint8)
            labels[torch.rand(labels.shape) >= share] = 255
            print(f"{images}x{classes}x{small}x{small} to {large}, {share:.0%} labelled:", least({
                "torch": lambda: by_torch(logits, labels).backward(),
                "dense": lambda: labelled_nll(logits, labels, sparse=False)[0].backward(),
                "sparse": lambda: labelled_nll(logits, labels, sparse=True)[0].backward(),
                "chosen": lambda: labelled_nll(logits, labels)[0].backward(),
                "at logits": lambda: labelled_nll(logits, labels, at="logits")[0].backward(),
            }, rounds), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    losses(given.images, given.rounds)
    logits, tags = torch.randn(20, 21, 41, 41), torch.rand(20, 21) < .08
    tags[:, 0] = tags[:, 5] = True
    rng = np.random.default_rng(0)
    print("20x21x41x41, 1-4 tags:", least({
        "em_fixed": lambda: em_fixed(logits, tags),
        "em_adapt": lambda: em_adapt(logits, tags, generator=rng)}, given.rounds))
    photo = rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)
    label = rng.integers(0, 21, (375, 500), dtype=np.uint8)

    def warp(spec: Augment) -> None:
        drawn = spec.draw(label.shape, rng)
        drawn.photo(photo)
        drawn.label(label)

    def resize() -> None:
        factor = rng.uniform(.5, 2)
        for array, how in ((photo, cv2.INTER_LINEAR), (label, cv2.INTER_NEAREST)):
            cv2.resize(array, None, fx=factor, fy=factor, interpolation=how)[:321, :321].copy()

    upright, turned = Augment(321), Augment(321, rotate=10)
    coloured = Augment(321, brightness=.2, contrast=.2, saturation=.2, hue=.1)
    plain = Augment(321, scale=(1, 1))
    print("375x500 to 321x321:", least({
        "cv2.resize and crop": lambda: [resize() for _ in range(20)],
        "scale, flip, crop": lambda: [warp(upright) for _ in range(20)],
        "and turn": lambda: [warp(turned) for _ in range(20)],
        "and colour": lambda: [warp(coloured) for _ in range(20)],
        "flip, crop": lambda: [warp(plain) for _ in range(20)]}, given.rounds), "for 20")


if __name__ == "__main__":
    main()
