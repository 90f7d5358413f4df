"""Faster R-CNN on any backbone: photos to boxes with classes and scores.

Ren et al., Faster R-CNN (2015), with Lin et al.'s feature pyramid (2017) if asked for. Proposals,
box head and losses are torchvision's, which is why it is imported here; photos, backbone, padding
and the way boxes are counted are ours. panoptic-2018 uses one (ResNet-101) whose boxes enter its
instance net and which is not trained with it.

torchvision takes 0 for what is no object, so class c is its label c + 1, also where c is a
background that never has a box.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsseg.errors import WssegError
from wsseg.nets.base import Net
from wsseg.nets.detector_spec import DetectorSpec
from wsseg.nets.inference import views
from wsseg.nets.levels import stages
from wsseg.nets.running import memory_checked

__all__ = ["Detector", "DetectorSpec", "LOSSES", "Target", "build"]

#: The losses of a training step, in the order of ``Detector.losses``.
LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
#: Boxes float (N,4) in pixels, half-open, and classes int64 (N,).
Target = tuple[Tensor, Tensor]
#: Boxes float (N,4), classes int64 (N,) and scores (N,), the best first.
Found = tuple[Tensor, Tensor, Tensor]
_RATIOS = (0.5, 1.0, 2.0)
_SAME = 0.5  #: overlap above which two boxes of a class are one object's


class Detector(Net):
    """Normalised images float (B,3,H,W) -> boxes, or losses."""

    def __init__(self, spec: DetectorSpec) -> None:
        parts = _torchvision()
        super().__init__(spec, spec.stride)
        if spec.fpn:
            channels = stages(self.backbone)[1][1:]
            self.pyramid = parts["pyramid"](list(channels), spec.width,
                                            extra_blocks=parts["pool"]())
            sizes = tuple((side,) for side in spec.anchors)
        else:
            self.pyramid = nn.Conv2d(self.backbone.channels[1], spec.width, 1)
            sizes = (spec.anchors,)
        #: images are padded to this, so that each level's stride is what its size says
        self.multiple = 64 if spec.fpn else 32
        anchors = parts["anchors"](sizes, (_RATIOS,) * len(sizes))
        head = parts["rpn_head"](spec.width, anchors.num_anchors_per_location()[0])
        self.rpn = parts["rpn"](anchors, head, 0.7, 0.3, 256, 0.5,
                                {"training": 2000, "testing": 1000},
                                {"training": 2000, "testing": 1000}, 0.7)
        names = [str(i) for i in range(4 if spec.fpn else 1)]
        pool = parts["roi_pool"](names, 7, 2)
        self.roi_heads = parts["roi_heads"](
            pool, parts["box_head"](spec.width * 49, 4 * spec.width),
            parts["box_predictor"](4 * spec.width, spec.classes + 1), 0.5, 0.5, 512, 0.25, None,
            0.05, _SAME, 100)
        self._list = parts["list"]

    def classifiers(self) -> list[nn.Linear]:
        """The layers whose rows are classes."""
        return [self.roi_heads.box_predictor.cls_score, self.roi_heads.box_predictor.bbox_pred]

    def compile(self, *args: object, **options: object) -> None:
        """``torch.compile`` the features: the rest has other shapes at every step."""
        self.features = torch.compile(self.features, *args, **options)

    def features(self, images: Tensor) -> "OrderedDict[str, Tensor]":
        """The levels that anchors lie on, that of least stride first."""
        if not self.spec.fpn:
            return OrderedDict([("0", self.pyramid(self.backbone(images)[1]))])
        found, x = OrderedDict(), images
        for number, stage in enumerate(stages(self.backbone)[0]):
            x = stage(x)
            if number:
                found[str(number - 1)] = x
        return self.pyramid(found)

    def losses(self, images: Tensor, targets: Sequence[Target]) -> Tensor:
        """Return the means over a batch of the four ``LOSSES``, float (4,). For training mode."""
        given = [{"boxes": boxes.to(images.dtype), "labels": classes + 1}
                 for boxes, classes in targets]
        _, _, losses = self._run(images, given)
        return torch.stack([losses[name].float() for name in LOSSES])

    def forward(self, images: Tensor) -> list[Found]:
        """Return boxes inside the image, classes and scores of each. For evaluation mode."""
        height, width = images.shape[2:]
        found, proposals, _ = self._run(images, None)
        results = []
        for one in found:
            boxes = one["boxes"].clamp(min=0)
            boxes = torch.stack([boxes[:, 0::2].clamp(max=width), boxes[:, 1::2].clamp(max=height)],
                                2).flatten(1)
            kept = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)  # not in the padding alone
            results.append((boxes[kept], one["labels"][kept] - 1, one["scores"][kept]))
        return results

    def _run(self, images: Tensor, targets: list[dict[str, Tensor]] | None):
        below, right = (-n % self.multiple for n in images.shape[2:])
        padded = F.pad(images, (0, right, 0, below)) if below or right else images
        features = self.features(padded.contiguous(memory_format=torch.channels_last))
        # torchvision's samplers and non-maximum suppression want single precision
        with torch.autocast(images.device.type, enabled=False):
            features = OrderedDict((k, v.float()) for k, v in features.items())
            sizes = [(padded.shape[2], padded.shape[3])] * len(images)
            proposals, first = self.rpn(self._list(padded, sizes), features, targets)
            found, second = self.roi_heads(features, proposals, sizes, targets)
        return found, proposals, {**first, **second}


def build(spec: DetectorSpec) -> Detector:
    """Return the net of a spec with random weights, in training mode."""
    return Detector(spec)


@torch.no_grad()
def detect(net: Detector, photos: np.ndarray, device: torch.device, *, least: float = 0.05,
           most: int = 100, scales: Sequence[float] = (1.,), flip: bool = False,
           bf16: bool = False) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return boxes float64 (N,4), classes int64 (N,) and scores float64 (N,) of each photo.

    photos: uint8 (B,H,W,3); least: scores below it are left out; most: boxes of a photo; scales,
    flip: the photo is seen at each scale, and mirrored, and of boxes of a class that overlap by
    more than half, in whatever view, the best stays. Raises WssegError when memory runs out.
    """
    heads = net.roi_heads
    heads.score_thresh, heads.detections_per_img = least, most
    with memory_checked(f"out of memory with {len(photos)} photos of {photos.shape[1]}x"
                        f"{photos.shape[2]}: lower --batch or --scales"):
        images = net.normalise(torch.from_numpy(photos).to(device).permute(0, 3, 1, 2))
        found: list[list[Found]] = [[] for _ in photos]
        for view, mirrored in views(images, scales, flip):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                for own, one in zip(found, net(view)):
                    own.append(_in_photo(one, view.shape[2:], images.shape[2:], mirrored))
        return [tuple(part.cpu().numpy().astype(kind) for part, kind in zip(
            _best(own, most), (np.float64, np.int64, np.float64))) for own in found]


def _in_photo(found: Found, view: Sequence[int], photo: Sequence[int], mirrored: bool) -> Found:
    """Boxes of a view, in pixels of the photo; those that are less than one are left out."""
    boxes, classes, scores = found
    if mirrored:
        boxes = torch.stack([view[1] - boxes[:, 2], boxes[:, 1], view[1] - boxes[:, 0],
                             boxes[:, 3]], 1)
    if tuple(view) != tuple(photo):
        boxes = boxes * boxes.new_tensor([photo[1] / view[1], photo[0] / view[0]] * 2)
    kept = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1)
    return boxes[kept], classes[kept], scores[kept]


def _best(found: Sequence[Found], most: int) -> Found:
    """The best boxes of all views of a photo."""
    if len(found) == 1:
        return found[0]
    boxes, classes, scores = (torch.cat(parts) for parts in zip(*found))
    kept = _torchvision()["suppressed"](boxes, scores, classes, _SAME)[:most]
    return boxes[kept], classes[kept], scores[kept]


def _torchvision() -> dict:
    """The parts of torchvision that a detector is made of. Raises WssegError without it."""
    try:
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.models.detection.image_list import ImageList
        from torchvision.models.detection.roi_heads import RoIHeads
        from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
        from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, batched_nms
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
    except ImportError as error:
        raise WssegError("a detector needs torchvision, which is not here: pip install "
                         f"'wsseg[nets]' ({error})") from None
    return {"anchors": AnchorGenerator, "box_head": TwoMLPHead, "box_predictor": FastRCNNPredictor,
            "list": ImageList, "roi_heads": RoIHeads, "rpn": RegionProposalNetwork,
            "rpn_head": RPNHead, "pyramid": FeaturePyramidNetwork, "pool": LastLevelMaxPool,
            "roi_pool": MultiScaleRoIAlign, "suppressed": batched_nms}
