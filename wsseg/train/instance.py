"""The loss of the instance net: true instances are matched to predicted ones first.

panoptic-2018 says only that the truth is "matched" to the prediction before the cross-entropy, as
in Arnab and Torr (CVPR 2017), since labels of instances can be permuted. This is a reconstruction:
true segments and predicted ones (the pixels of which a label is the likeliest) of the same class
are paired so that the sum of their IoU is the greatest (the Hungarian algorithm); a true segment
that overlaps no prediction of its class, or for which there is none left, is ignored; then the
cross-entropy is taken over the pixels of the others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from wsseg.nets.inference import pooled
from wsseg.nets.instance import InstanceNet, Labels, with_stuff
from wsseg.nets.layers import resize
from wsseg.train.instance_samples import InstanceBatch
from wsseg.train.matching import match


def match_segments(found: np.ndarray, classes: np.ndarray, truth: np.ndarray,
                   true_classes: np.ndarray) -> np.ndarray:
    """Return the label of each true segment, int64 (M,), -1 for one that is ignored.

    found: the label 0..D-1 of each pixel, (h,w); classes: (D,). truth: 0 where nothing is known,
    else the number 1..M of a segment, (h,w); true_classes: (M,). Pixels of 0 do not count.
    """
    labels, segments = len(classes), len(true_classes)
    known = truth > 0
    pairs = np.bincount((found[known].astype(np.int64) * segments + truth[known] - 1),
                        minlength=labels * segments).reshape(labels, segments)
    iou = pairs / np.maximum(pairs.sum(1)[:, None] + pairs.sum(0) - pairs, 1)
    here = np.flatnonzero(pairs.any(axis=1))  # a label without pixels overlaps nothing
    result = np.full(segments, -1, np.int64)
    if not len(here) or not segments:
        return result
    chosen = match(1 - iou[None, here], np.array([len(here)]), np.array([segments]),
                   classes[None, here], true_classes[None])[0]
    for label, segment in zip(here.tolist(), chosen.tolist()):
        if segment >= 0 and iou[label, segment] > 0:
            result[segment] = label
    return result


def matching_loss(q: Tensor, classes: Tensor, truth: Tensor, true_classes: Tensor
                  ) -> tuple[Tensor, Tensor]:
    """Return the sum of -log q at the pixels of matched segments, and how many there are.

    q: marginals (D,h,w) of labels of ``classes`` (D,); truth, true_classes: as of
    ``match_segments``, int64 tensors on q's device.
    """
    labels = match_segments(q.detach().argmax(0).cpu().numpy(), classes.cpu().numpy(),
                            truth.cpu().numpy(), true_classes.cpu().numpy())
    table = torch.from_numpy(np.concatenate([[-1], labels])).to(q.device)
    target = table[truth]
    used = target >= 0
    picked = q.gather(0, target.clamp_min(0)[None])[0]
    return -(picked.clamp_min(1e-9).log() * used).sum(), used.sum().to(q.dtype)


class InstanceObjective(nn.Module):
    """An instance net and its loss, one module so that it can be wrapped for several processes.

    stride: the CRF works on means over cells of so many pixels. piecewise: the segmentation net
    is as it is, and the four weights of the CRF alone are trained.
    """

    def __init__(self, net: InstanceNet, *, stride: int = 4, piecewise: bool = False) -> None:
        super().__init__()
        self.net, self.stride, self.piecewise = net, stride, piecewise
        if piecewise:
            net.segmenter.requires_grad_(False)

    def forward(self, batch: InstanceBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return sums (1,), counts (1,) and weights (1,), see ``Objective``."""
        net, size = self.net, (batch.photos.shape[2], batch.photos.shape[3])
        if self.piecewise:
            net.segmenter.eval()
        images = net.normalise(batch.photos).contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.piecewise):
            logits = net.segmenter(images)
        total, count = net.log_weights.sum() * 0, net.log_weights.new_zeros(())
        with torch.autocast(images.device.type, enabled=False):
            prob = pooled(resize(logits.float(), size).softmax(1), self.stride)
            photos = pooled(batch.photos.float(), self.stride)
            truth = self._cells(batch.ids)
            for i, (boxes, classes, scores) in enumerate(batch.detections):
                labels = self._labels(boxes, classes, scores, size, prob)
                if not len(labels) or not len(batch.classes[i]):
                    continue
                q = net(prob[i], labels, photos[i], size)
                parts = matching_loss(q, labels.classes, truth[i],
                                      torch.from_numpy(batch.classes[i]))
                total, count = total + parts[0], count + parts[1]
        total = total + prob.sum() * 0  # a gradient for every weight, whatever was matched
        return total[None], count[None], total.new_ones(1)

    def _labels(self, boxes: np.ndarray, classes: np.ndarray, scores: np.ndarray,
                size: tuple[int, int], like: Tensor) -> Labels:
        kept = np.isin(classes, self.net.spec.things)
        return with_stuff(*(torch.from_numpy(a[kept]).to(like.device, kind) for a, kind in (
            (boxes, torch.float32), (classes, torch.int64), (scores, torch.float32))),
            self.net.spec.stuff, size)

    def _cells(self, ids: Tensor) -> Tensor:
        """The segment at the middle of each of the cells of ``pooled``, int64 (B,h,w)."""
        for axis in (1, 2):
            length = ids.shape[axis]
            count = -(-length // self.stride)
            at = (2 * torch.arange(count, device=ids.device) + 1) * length // (2 * count)
            ids = ids.index_select(axis, at)
        return ids.long()
