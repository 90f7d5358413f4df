"""ws-train --task instance and ws-predict with its models, as their users run them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import training  # noqa: E402
from tests.conftest import make_record, write_place  # noqa: E402
from wsseg.cli import cat  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.places import open_source  # noqa: E402
from wsseg.io.supervision import by_kind  # noqa: E402
from wsseg.io.values import Boxes, InstanceMap, Segment  # noqa: E402
from wsseg.nets.model import read_card  # noqa: E402

runner = training.runner
QUICK = ("--task", "instance", "--backbone", "tiny", "--head", "largefov", "--width", "8",
         "--init", "none", "--crop", "33", "--batch", "2", "--iterations", "3", "--device", "cpu",
         "--precision", "fp32", "--crf-iterations", "2", "-j2")


@pytest.fixture
def objects(runner):
    """objects/ with photos, instance maps (a cat and a dog) and label maps, and detected/ with
    boxes, one of them far off."""
    truth, found = [], []
    for i in range(4):
        record = make_record(i, "image", "label", "boxes")
        label = record.get("label")
        ids = np.where(label == 255, 0, label).astype(np.uint16)
        record.set("instance", InstanceMap(ids, (Segment(1, 1), Segment(2, 2))))
        record.supervision["masks"] = (2, 2)
        boxes = record.get("boxes")
        record.drop("boxes")
        truth.append(record)
        other = make_record(i)
        other.set("boxes", Boxes(np.concatenate([boxes.xyxy, [[24, 0, 32, 9]]]),
                                 np.append(boxes.classes, 1), (24, 32), np.array([.9, .8, .3])))
        found.append(other)
    write_place(runner.folder / "objects", truth, kinds=["image", "instance", "label"])
    write_place(runner.folder / "detected", found, kinds=["boxes"])
    return runner


def test_segments_and_detections_become_a_net_that_labels_instances(objects):
    told = objects.train("objects", "--detections", "detected", "--val", "objects", "--select",
                         "best", quick=QUICK)
    assert "val_pq" in told.out
    card = read_card(objects.folder / "run/model.safetensors")
    assert card["task"] == "instance" and card["net"]["things"] == [1, 2]
    assert by_kind(card["supervision"])["masks"] == (4, 8, 8)
    assert "detected" not in str(card["history"])

    objects.predict("run", "detected", "--images", "objects", "-o", "out")

    source = open_source(str(objects.folder / "out"))
    assert source.header.kinds == ("instance", "score")
    for key in source.keys():
        value, score = source.get(key).get("instance"), source.get(key).get("score")
        assert score.data.shape == (3, 6, 8) and score.size == (24, 32)
        seen = set(np.unique(value.ids).tolist()) - {0}
        assert seen == {s.id for s in value.segments} <= {1, 2, 3}
        assert {s.cls for s in value.segments} <= {1, 2} and all(s.thing for s in value.segments)
    objects.predict("run", "detected", "--images", "objects", "--write", "instance", "-o", "one")
    assert open_source(str(objects.folder / "one")).header.kinds == ("instance",)
    told = objects.predict("run", "detected", "--images", "objects", "--write", "label", "-o",
                           "two", code=ExitStatus.USAGE)
    assert "--write label is not for an instance net" in told.err


def test_what_ws_fuse_says_of_the_same_scores_is_what_an_untrained_net_says(objects):
    """Its weights are those that the energy starts from, DeepLab's kernels among them."""
    from wsseg.cli import fuse, predict

    objects.train("objects", quick=(*QUICK, "--iterations", "1", "--lr", "1e-12",
                                    "--crf-iterations", "10"))
    objects.predict("run", "detected", "--images", "objects", "-o", "out")
    model = objects.folder / "run/model.safetensors"
    from wsseg.nets.instance import InstanceSpec
    from wsseg.nets.model import load_model, model_bytes

    net, card = load_model(model, task="instance")
    assert isinstance(net.spec, InstanceSpec)
    part = objects.folder / "segment.safetensors"
    part.write_bytes(model_bytes(net.segmenter, {"task": "segment", "classes": card["classes"]}))
    objects(part, "--images", "objects", "--write", "score", "--score-stride", "1", "-o",
            "scores", tool=predict)
    objects("scores", "detected", "--rule", "instance", "--pairwise", "deeplab", "--images",
            "objects", "-o", "fused", tool=fuse)
    one, two = (open_source(str(objects.folder / name)) for name in ("out", "fused"))
    whole = open_source(str(objects.folder / "scores"))
    for key in one.keys():
        a, b = (s.get(key).get("instance") for s in (one, two))
        assert (a.ids == b.ids).mean() > .995
        low = whole.get(key).get("score").data.reshape(3, 6, 4, 8, 4).mean((2, 4))
        np.testing.assert_allclose(one.get(key).get("score").data, low, atol=2e-3)


def test_the_crf_alone_can_be_trained_behind_a_trained_segmenter(objects):
    objects.train("strong", out="first")
    objects.train("objects", "--piecewise", quick=(*QUICK, "--init", "first/model.safetensors"))
    from wsseg.nets.model import load_model

    before, _ = load_model(objects.folder / "first/model.safetensors")
    after, _ = load_model(objects.folder / "run/model.safetensors", task="instance")
    own = after.segmenter.state_dict()
    assert all(torch.equal(v, own[k]) for k, v in before.state_dict().items())
    assert not torch.equal(after.weights, torch.tensor([1., 1, 3, 4]))


def test_a_stopped_run_ends_as_if_it_had_not_been(objects):
    objects.train("objects", "--detections", "detected", quick=QUICK)
    objects.train("objects", "--detections", "detected", "--max-minutes", "1e-9", out="again",
                  quick=QUICK)
    objects.train("objects", "--detections", "detected", "--resume", out="again", quick=QUICK)
    assert objects.model("again") == objects.model()


def test_detections_are_a_part_of_the_settings_and_of_the_history(objects):
    words = ("objects", "--max-minutes", "1e-9", "--resume", "--detections")
    objects("detected", "--truth", "-o", "own", tool=cat)
    objects("own", "-o", "own.h5", tool=cat)
    for place in ("own", "own.h5"):
        objects.train(*words, place, quick=QUICK)
    write_place(objects.folder / "other", [make_record(i, "boxes") for i in range(4)],
                kinds=["boxes"])
    said = objects.train(*words, "other", quick=QUICK, code=ExitStatus.USAGE).err
    assert "is a run with other settings (detections was" in said
    objects.train("objects", "--detections", "own", "--resume", quick=QUICK)
    history = read_card(objects.folder / "run/model.safetensors")["history"]
    header = open_source(str(objects.folder / "own")).header
    assert history[-1]["inputs"] == {"detections": header.digest}
    assert history[0] == header.history[0]


@pytest.mark.parametrize("words, message", [
    (("strong",), "holds image, label, but instance is needed here"),
    (("objects", "--dual"), "--dual is not for --task instance"),
    (("objects", "--things", "car"), "--things: unknown class 'car'"),
    (("objects", "--detections", "strong"), "--detections: "),
])
def test_what_cannot_be_trained_is_refused(objects, words, message):
    assert message in objects.refused(*words, quick=QUICK)


def test_detections_that_are_missing_or_do_not_fit_are_named(objects):
    some = [make_record(i, "boxes") for i in range(3)]
    write_place(objects.folder / "some", some, kinds=["boxes"])
    assert "img003: is not in" in objects.refused("objects", "--detections", "some", quick=QUICK,
                                                  code=ExitStatus.FAILED)
    objects.train("objects", quick=(*QUICK, "--iterations", "1"))
    told = objects.predict("run", "--images", "objects", "-o", "x", code=ExitStatus.USAGE)
    assert "needs boxes besides the photos" in told.err
    told = objects.predict("run", "detected", "--images", "objects", "-o", "x", "--tags",
                           code=ExitStatus.USAGE)
    assert "--tags is not for an instance net" in told.err
