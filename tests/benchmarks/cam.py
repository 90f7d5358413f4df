"""Activation maps of a folder of photos: ours against pytorch-grad-cam and torchcam.

Usage: ``python -m tests.benchmarks.cam [FOLDER [COUNT [BATCH [CORES]]]]``: seconds of CPU time per
photo on one thread, or with CORES seconds on the clock where all may use so many (ours as ws-cam
does, a photo on each; the others have torch's own threads). All have the same classifier
(EfficientNet-Lite0 at stride 16, random weights), two classes per photo, maps of full size, reading
included; the least of two rounds, taken in turns so that other work on the machine meets all alike.
The others are used as their pages say: a forward pass, and a backward pass for each class
(torchcam's CAM needs none). WSSEG_CAM_PACKAGES names a folder that they are installed in. Without
FOLDER photos of 240x320 noise are drawn.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import starmap
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from wsseg.cli._predictor import Predictor
from wsseg.nets.cam import ActivationMaps
from wsseg.nets.classifier import ClassifierSpec, build
from wsseg.nets.layers import freeze_norms
from wsseg.nets.still import settle

CLASSES = 21
sys.path += [os.environ["WSSEG_CAM_PACKAGES"]] if "WSSEG_CAM_PACKAGES" in os.environ else []


class Plain(torch.nn.Module):
    """The classifier as the others take it."""

    def __init__(self, net) -> None:
        super().__init__()
        self.net, self.last, self.fc = net, torch.nn.Identity(), net.head

    def forward(self, images):
        return self.fc(self.last(self.net.features(images)).mean((2, 3), keepdim=True)).flatten(1)


def tags_of(number: int) -> list[int]:
    return [1 + number % 20, 1 + (number + 7) % 20]


def read(paths: list[Path]) -> Iterator[np.ndarray]:
    for path in paths:
        yield np.asarray(Image.open(path).convert("RGB"))


def ours(net, paths: list[Path], batch: int) -> None:
    maker = ActivationMaps(net, torch.device("cpu"))
    waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}

    def work(group: list[tuple[int, np.ndarray]]) -> None:
        wanted = np.zeros((len(group), CLASSES), bool)
        for row, (number, _) in zip(wanted, group):
            row[tags_of(number)] = True
        maker(np.stack([p for _, p in group]), wanted, full=True)

    for number, photo in enumerate(read(paths)):
        group = waiting.setdefault(photo.shape, [])
        group.append((number, photo))
        if len(group) == batch:
            work(waiting.pop(photo.shape))
    for group in waiting.values():
        work(group)


class Photo:
    """A record, as ws-cam has it."""

    def __init__(self, number: int, path: Path) -> None:
        self.number, self.key, self.path = number, path.stem, path

    def get(self, kind: str) -> np.ndarray:
        return next(read([self.path]))


def ours_on(net, paths: list[Path], batch: int, cores: int) -> None:
    maker = ActivationMaps(net, torch.device("cpu"))

    def maps(photos: np.ndarray, records: list[Photo]) -> list[dict]:
        wanted = np.zeros((len(records), CLASSES), bool)
        for row, record in zip(wanted, records):
            row[tags_of(record.number)] = True
        maker(photos, wanted, full=True)
        return [{} for _ in records]

    deque(Predictor(maps, cores, batch, cores)(lambda r: r, starmap(Photo, enumerate(paths))), 0)


def grad_cam(model: Plain, paths: list[Path]) -> None:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model, [model.last]) as extractor:
        for number, photo in enumerate(read(paths)):
            image = model.net.normalise(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None])
            for cls in tags_of(number):
                extractor(image, [ClassifierOutputTarget(cls)])


def torch_cam(model: Plain, paths: list[Path], name: str) -> None:
    from torchcam import methods

    more = {"fc_layer": "net.head"} if name == "CAM" else {}
    with getattr(methods, name)(model, "last", **more) as extractor:
        for number, photo in enumerate(read(paths)):
            image = model.net.normalise(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None])
            scores, tags = model(image), tags_of(number)
            for cls in tags:
                keep = {} if name == "CAM" else {"retain_graph": cls != tags[-1]}
                maps, = extractor(cls, scores, **keep)
                F.interpolate(maps.reshape(1, 1, *maps.shape[-2:]), photo.shape[:2],
                              mode="bilinear")


def rounds(jobs: dict[str, Callable[[], None]], clock: Callable[[], float], repeats: int = 2
           ) -> dict[str, float]:
    """The least time of each job over some rounds, after one to warm up."""
    least = dict.fromkeys(jobs, float("inf"))
    for number in range(repeats + 1):
        for name, job in jobs.items():
            start = clock()
            job()
            if number:
                least[name] = min(least[name], clock() - start)
    return least


def main(folder: str = "", count: str = "12", batch: str = "1", cores: str = "1") -> None:
    torch.set_num_threads(int(cores))
    torch.manual_seed(0)
    net = build(ClassifierSpec("efficientnet-lite0", CLASSES)).eval()
    net.to(memory_format=torch.channels_last)
    model = Plain(net).eval()
    still = settle(freeze_norms(copy.deepcopy(net)).eval())  # as load_model gives it
    with tempfile.TemporaryDirectory() as made:
        if not folder:
            folder, rng = made, np.random.default_rng(0)
            for number in range(int(count)):
                photo = rng.integers(0, 256, (240, 320, 3)).astype(np.uint8)
                Image.fromarray(photo).save(Path(made) / f"{number}.jpg")
        paths = sorted(Path(folder).glob("*.jpg"))[:int(count)]
        jobs = {"ours": (lambda: ours(still, paths, int(batch))) if cores == "1" else (
            lambda: ours_on(still, paths, int(batch), int(cores)))}
        try:
            import pytorch_grad_cam  # noqa: F401

            jobs["pytorch-grad-cam GradCAM"] = lambda: grad_cam(model, paths)
        except ImportError as error:
            print(f"pytorch-grad-cam is not here ({error})")
        try:
            import torchcam.methods  # noqa: F401

            jobs["torchcam GradCAM"] = lambda: torch_cam(model, paths, "GradCAM")
            jobs["torchcam CAM"] = lambda: torch_cam(model, paths, "CAM")
        except ImportError as error:
            print(f"torchcam is not here ({error})")
        least = rounds(jobs, time.process_time if cores == "1" else time.perf_counter)
    for name, seconds in least.items():
        print(f"{name:26} {seconds / len(paths) * 1e3:8.1f} ms per photo   "
              f"{seconds / least['ours']:5.2f} of ours")


if __name__ == "__main__":
    main(*sys.argv[1:])
