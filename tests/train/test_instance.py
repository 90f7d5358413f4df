"""The matching loss of the instance net, and that training lowers it on real photos."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import tinynet  # noqa: E402
from wsseg.errors import RecordError  # noqa: E402
from wsseg.io.record import Record  # noqa: E402
from wsseg.io.values import Boxes, InstanceMap, Segment  # noqa: E402
from wsseg.nets.instance import InstanceSpec, build  # noqa: E402
from wsseg.nets.segmenter import NetSpec  # noqa: E402
from wsseg.train.augment import Augment  # noqa: E402
from wsseg.train.instance import InstanceObjective, match_segments, matching_loss  # noqa: E402
from wsseg.train.instance_samples import (SegmentSample, stacked_segments,  # noqa: E402
                                          tight_boxes, true_segments, varied)


def objective(monkeypatch, classes=3, things=(1, 2), backbone="plain", **more):
    tinynet.install(monkeypatch)
    torch.manual_seed(0)
    spec = InstanceSpec(NetSpec(backbone, "largefov", classes, 8, width=16, dropout=0.), things,
                        iterations=2)
    return InstanceObjective(build(spec), **more)


def sample(ids, classes, boxes=None, photo=None) -> SegmentSample:
    ids, classes = np.asarray(ids, np.uint16), np.asarray(classes, np.int64)
    photo = np.zeros((*ids.shape, 3), np.uint8) if photo is None else photo
    return SegmentSample("one", photo, ids, classes,
                         tight_boxes(ids, classes, {1, 2}) if boxes is None else boxes)


@pytest.mark.parametrize("number", range(20))
def test_matching_has_the_greatest_sum_of_iou_of_all_permutations(number):
    rng = np.random.default_rng(number)
    labels, segments = rng.integers(1, 5, 2)
    found, truth = rng.integers(0, labels, (5, 6)), rng.integers(0, segments + 1, (5, 6))
    classes, true_classes = rng.integers(0, 2, labels), rng.integers(0, 2, segments)

    def iou(label: int, segment: int) -> float:
        if classes[label] != true_classes[segment]:
            return 0.
        a, b = (found == label) & (truth > 0), truth == segment + 1
        return (a & b).sum() / max(1, (a | b).sum())

    ours = match_segments(found, classes, truth, true_classes)
    matched = [(label, segment) for segment, label in enumerate(ours) if label >= 0]
    assert len({label for label, _ in matched}) == len(matched)
    assert all(iou(*pair) > 0 for pair in matched)
    places = [*range(labels), *[-1] * segments]
    best = max(sum(iou(label, s) for s, label in enumerate(order) if label >= 0)
               for order in set(permutations(places, int(segments))))
    assert sum(iou(*pair) for pair in matched) == pytest.approx(best)


def test_the_loss_does_not_depend_on_how_instances_are_numbered():
    rng = np.random.default_rng(0)
    q = torch.from_numpy(rng.random((4, 6, 7))).softmax(0)
    truth = torch.from_numpy(rng.integers(0, 4, (6, 7)))
    classes, true_classes = torch.tensor([1, 1, 2, 1]), torch.tensor([1, 2, 1])
    loss, count = matching_loss(q, classes, truth, true_classes)
    order, new = torch.tensor([2, 0, 3, 1]), torch.tensor([0, 3, 1, 2])
    again = matching_loss(q[order], classes[order], new[truth], true_classes[[1, 2, 0]])
    assert again[0] == pytest.approx(loss.item()) and again[1] == count


def test_the_loss_by_hand():
    """One row of five pixels; the last is not known, and the second true segment has no
    prediction of its class: four pixels, of which the segment's three count."""
    q = torch.tensor([[[.9, .8, .6, .4, .1]], [[.1, .2, .4, .6, .9]]])
    truth, classes = torch.tensor([[1, 1, 1, 2, 0]]), torch.tensor([1, 2])
    loss, count = matching_loss(q, classes, truth, torch.tensor([1, 1]))
    assert count == 3 and loss.item() == pytest.approx(-np.log([.9, .8, .6]).sum(), rel=1e-5)
    loss, count = matching_loss(q, classes, truth, torch.tensor([1, 2]))
    assert count == 4 and loss.item() == pytest.approx(-np.log([.9, .8, .6, .6]).sum(), rel=1e-5)
    loss, count = matching_loss(q, classes, truth * 0, torch.tensor([1, 2]))
    assert count == 0 and loss == 0


@pytest.mark.parametrize("boxes, classes", [
    ([], []), ([[0, 0, 20, 20]] * 2, [1, 1]), ([[0, 0, 30, 24], [4, 4, 9, 9]], [1, 1]),
    ([[i % 20, i % 11, i % 20 + 9, i % 11 + 8] for i in range(70)], [1 + i % 2 for i in range(70)]),
    ([[0, 0, 5, 5]], [0])])
def test_no_two_equal_covered_and_many_detections_are_learnt_from(boxes, classes, monkeypatch):
    """And one of a class that is no thing, which is left out. All gradients are finite."""
    ids = np.ones((24, 32), np.uint16)
    ids[3:12, 4:14], ids[10:20, 12:30] = 2, 3
    given = Boxes(np.array(boxes, float).reshape(-1, 4), np.array(classes, np.int64), (24, 32),
                  np.linspace(.3, .9, len(boxes)))
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (24, 32, 3), np.uint8)
    made = objective(monkeypatch)
    sums, counts, weights = made(stacked_segments([sample(ids, [0, 1, 2], given, photo)]))
    assert sums.shape == counts.shape == weights.shape == (1,) and counts > 0
    (sums / counts).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_nothing_to_learn_from_is_a_loss_of_0_with_gradients(monkeypatch):
    made = objective(monkeypatch, things=(0, 1, 2))
    sums, counts, _ = made(stacked_segments([sample(np.zeros((16, 16)), [])]))
    assert sums.tolist() == counts.tolist() == [0]
    sums.sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def photos():
    """Three of the quickstart's photos, with the components of their polygons as segments."""
    from scipy.ndimage import label as components

    from tests.nets.test_overfit import photos

    images, labels = photos()
    result = []
    for image, label in zip(images[:3].numpy(), labels[:3].numpy()):
        ids, classes = (label == 0).astype(np.uint16), [0]
        for cls in sorted(set(label.ravel().tolist()) - {0, 255}):
            parts, count = components(label == cls)
            for part in range(1, count + 1):
                classes.append(cls)
                ids[parts == part] = len(classes)
        classes = np.array(classes)
        result.append(SegmentSample("photo", image, ids, classes,
                                    tight_boxes(ids, classes, set(range(1, 20)))))
    return result


@pytest.mark.parametrize("piecewise", (False, True))
def test_training_lowers_the_matching_loss_on_real_photos(piecewise, monkeypatch):
    """End to end, and the four weights alone, which then are all that moves."""
    samples = photos()
    classes = 1 + max(int(s.classes.max()) for s in samples)
    made = objective(monkeypatch, classes, tuple(range(1, classes)), piecewise=piecewise)
    batch = stacked_segments(samples)
    start = {k: v.clone() for k, v in made.net.state_dict().items()}
    trained = [p for p in made.parameters() if p.requires_grad]
    optimiser, losses = torch.optim.Adam(trained, .1 if piecewise else 1e-2), []
    for _ in range(9):
        sums, counts, _ = made.train()(batch)
        loss = (sums / counts).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < (1 if piecewise else .8) * losses[0], losses
    moved = {k for k, v in made.net.state_dict().items() if not torch.equal(v, start[k])}
    assert ("log_weights" in moved) and (moved == {"log_weights"}) == piecewise


def test_true_segments_are_those_of_the_instance_map_and_stuff_of_the_label_map():
    record = Record("one")
    record.set("instance", InstanceMap(np.array([[7, 7, 0, 0, 300]], np.uint16), (
        Segment(7, 2), Segment(300, 1))))
    ids, classes = true_segments(record, {1, 2})
    assert ids.tolist() == [[1, 1, 0, 0, 2]] and classes.tolist() == [2, 1]
    record.set("label", np.array([[2, 2, 0, 255, 1]], np.uint8))
    ids, classes = true_segments(record, {1, 2})
    assert ids.tolist() == [[1, 1, 3, 0, 2]] and classes.tolist() == [2, 1, 0]
    record.set("label", np.array([[2, 2, 2, 255, 1]], np.uint8))  # a group: nothing is known
    assert true_segments(record, {1, 2})[0].tolist() == [[1, 1, 0, 0, 2]]
    record.set("label", np.zeros((2, 5), np.uint8))
    with pytest.raises(RecordError, match="label map is 2x5, instance map is 1x5"):
        true_segments(record, {1, 2})


def test_the_boxes_around_things_are_tight():
    found = tight_boxes(np.array([[0, 1, 1, 2], [0, 0, 1, 3]]), np.array([1, 2, 0]), {1, 2})
    assert found.xyxy.tolist() == [[1, 0, 3, 2], [3, 0, 4, 1]]
    assert found.classes.tolist() == [1, 2] and found.scores.tolist() == [1, 1]


def test_segments_and_boxes_move_together():
    one = sample(np.pad(np.full((4, 6), 1), ((2, 10), (5, 5))), [1])
    moved = varied(one, Augment((20, 24), (1, 1), flip=1.), 3)
    box = tight_boxes(moved.ids, moved.classes, {1}).xyxy
    assert np.array_equal(box, moved.detections.xyxy) and (moved.ids == 1).sum() == 24
