"""The instance net of panoptic-2018 (section 3.5): a dense CRF over detections as a network.

Equations 2 to 4, of which ``wsseg.refine.instance`` is the same in numpy: a pixel's label is a
detection, or a stuff class, which is a detection of score 1 that covers the image. Mean-field is
the recurrent net of ``wsseg.nets.crf``, so that gradients flow to the class probabilities, to w1
and w2, and to the weights of both kernels; boxes and scores are given and not trained, as there.
The paper does not say what the weights start from: w1 and w2 from 1, the kernels' from DeepLab's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsseg.nets.crf import mean_field
from wsseg.nets.instance_spec import InstanceSpec
from wsseg.nets.segmenter import Segmenter

__all__ = ["InstanceNet", "InstanceSpec", "Labels", "build", "evidence"]

EPS = 1e-6
#: What w1, w2 and the weights of the Gaussian and of the appearance kernel start from.
START = (1., 1., 3., 4.)


@dataclass(frozen=True)
class Labels:
    """What the pixels of one image can belong to: boxes float (D,4) in pixels, half-open; classes
    int64 (D,); scores float (D,)."""

    boxes: Tensor
    classes: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.classes)


def with_stuff(boxes: Tensor, classes: Tensor, scores: Tensor, stuff: tuple[int, ...],
               size: tuple[int, int]) -> Labels:
    """Return detections, and behind them the dummy detections of stuff in an image of (H,W)."""
    whole = boxes.new_tensor([0, 0, size[1], size[0]]).expand(len(stuff), 4)
    return Labels(torch.cat([boxes, whole]), torch.cat([classes, classes.new_tensor(stuff)]),
                  torch.cat([scores, scores.new_ones(len(stuff))]))


def evidence(prob: Tensor, labels: Labels, size: tuple[int, int], box_weight: Tensor | float,
             global_weight: Tensor | float) -> Tensor:
    """Return w1 psi_box + w2 psi_global (D,h,w) of probabilities (K,h,w) of all classes.

    size: (H,W) of the image, of which the maps may be a smaller version; a cell is in a box when
    its centre is.
    """
    inside = []
    for axis, (cells, length) in enumerate(zip(prob.shape[:0:-1], size[::-1])):
        at = (torch.arange(cells, device=prob.device, dtype=labels.boxes.dtype) + .5)
        at = at * (length / cells)
        inside.append((labels.boxes[:, axis, None] <= at) & (at < labels.boxes[:, axis + 2, None]))
    covered = (inside[1][:, :, None] & inside[0][:, None]).to(prob.dtype)
    scores = labels.scores.to(prob.dtype)[:, None, None]
    return prob[labels.classes] * (box_weight * scores * covered + global_weight)


class InstanceNet(nn.Module):
    """A segmentation net with the CRF behind it. Its four weights stay above 0: their logarithms
    are trained."""

    def __init__(self, spec: InstanceSpec) -> None:
        super().__init__()
        self.spec = spec
        self.segmenter = Segmenter(spec.segment)
        self.log_weights = nn.Parameter(torch.tensor(START).log())

    @property
    def weights(self) -> Tensor:
        """w1, w2 and the weights of the Gaussian and of the appearance kernel, (4,)."""
        return self.log_weights.exp()

    def normalise(self, images: Tensor) -> Tensor:
        return self.segmenter.normalise(images)

    def forward(self, prob: Tensor, labels: Labels, photo: Tensor, size: tuple[int, int]
                ) -> Tensor:
        """Return the marginals (D,h,w) of one image's labels, D at least 1.

        prob: (K,h,w); photo: (3,h,w) of 0 ... 255; size: (H,W) of the image at full size, in
        which boxes and deviations are given.
        """
        spec, (box, everywhere, gauss, rgb) = self.spec, self.weights
        unary = -(evidence(prob, labels, size, box, everywhere) + EPS).log()
        scale = [n / full for n, full in zip(prob.shape[:0:-1], size[::-1])]
        return mean_field(
            unary[None], photo[None], gauss_weight=gauss, rgb_weight=rgb,
            gauss_sigma=[spec.gauss_sigma * s for s in scale],
            rgb_sigma=[*(spec.xy_sigma * s for s in scale), *[spec.rgb_sigma] * 3],
            iterations=spec.iterations)[0]

    def compile(self, *args: object, **options: object) -> None:
        """``torch.compile`` the segmentation net: the CRF has other shapes for each image."""
        self.segmenter.compile(*args, **options)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """As of ``Segmenter``; the four weights are with the new biases, which do not decay."""
        groups = self.segmenter.parameter_groups()
        groups["new_bias"].append(self.log_weights)
        return groups

    def classifiers(self) -> list[nn.Conv2d]:
        return self.segmenter.classifiers()


def build(spec: InstanceSpec) -> InstanceNet:
    """Return the net of a spec with random weights, in training mode."""
    return InstanceNet(spec)
