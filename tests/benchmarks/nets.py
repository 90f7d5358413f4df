"""What a training step of the small net costs on this CPU, by part.

Usage: ``python -m tests.benchmarks.nets [BATCH [SIZE]]``: milliseconds of CPU time on one thread
(the least of three), EfficientNet-Lite0 at stride 16 with each head, bfloat16, channels_last; and
a dilated depthwise convolution with its gradients, ours against torch's. CPU time is less upset
by other work on the machine than wall time, but not free of it: compare within one run.
"""

from __future__ import annotations

import sys
import time

import torch

from wsseg.nets.depthwise import Depthwise
from wsseg.nets.layers import resize
from wsseg.nets.segmenter import NetSpec, build
from wsseg.nets.spec import HEADS

CLASSES, WIDTH = 21, 128


def least(function, repeats: int = 3) -> float:
    """Milliseconds of CPU time of the fastest of some calls, after one to warm up."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times) * 1e3


def half():
    return torch.autocast("cpu", torch.bfloat16)


def parts(head: str, batch: int, size: int) -> dict[str, float]:
    """Milliseconds of each part of a step, and of the whole."""
    net = build(NetSpec("efficientnet-lite0", head, CLASSES, width=WIDTH))
    net.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    photos = torch.randint(0, 256, (batch, size, size, 3), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (batch, size, size))
    images, branch = net.normalise(photos), net.branches["strong"]
    with half(), torch.no_grad():
        made = net.backbone(images)
        logits = branch(*made).requires_grad_()
    made = [maps.detach().requires_grad_() for maps in made]

    def backbone():
        with half():
            found = net.backbone(images)
        sum(maps.float().mean() for maps in found).backward()

    def only_head():
        with half():
            found = branch(made[0], net.neck(made[1]))
        found.float().mean().backward()

    def loss(found=None):
        found = logits if found is None else found
        torch.nn.functional.cross_entropy(resize(found.float(), (size, size)), labels).backward()

    def step():
        optimiser.zero_grad()
        with half():
            found = net(net.normalise(photos))
        loss(found)
        optimiser.step()

    return {"normalise": least(lambda: net.normalise(photos)), "backbone": least(backbone),
            "head": least(only_head), "loss": least(loss), "optimiser": least(optimiser.step),
            "step": least(step)}


def lattice(kernel: int, channels: int, dilation: int) -> str:
    """One depthwise layer forwards and backwards: ours, torch's, and torch's undilated 3x3."""
    x = torch.randn(4, channels, 17, 17).to(memory_format=torch.channels_last).bfloat16()
    x.requires_grad_()
    layer = Depthwise(channels, kernel, 1, dilation).bfloat16()
    plain = Depthwise(channels, 3, 1, 1).bfloat16()
    times = [least(lambda: call(x).sum().backward()) for call in
             (layer, lambda x: torch.nn.Conv2d.forward(layer, x), plain)]
    return (f"depthwise {kernel}x{kernel} dilated by {dilation}, {channels} channels: ours "
            f"{times[0]:.0f} ms, torch {times[1]:.0f}, undilated 3x3 {times[2]:.0f}")


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batch, size = [int(a) for a in arguments] + [4, 257][len(arguments):]
    for case in ((5, 1152, 2), (5, 672, 1), (3, 1152, 2), (3, 320, 6)):
        print(lattice(*case), flush=True)
    for head in HEADS:
        found = parts(head, batch, size)
        print(f"{head:14}", "  ".join(f"{k} {v:.0f}" for k, v in found.items()),
              f"= {batch * 1e3 / found['step']:.1f} images/s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
