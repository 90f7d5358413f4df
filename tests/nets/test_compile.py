"""What --compile compiles is what is called."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import tinynet  # noqa: E402
from wsseg.nets import classifier, detector, instance, rsis, segmenter  # noqa: E402
from wsseg.nets.cam import ActivationMaps  # noqa: E402
from wsseg.nets.inference import Inference  # noqa: E402
from wsseg.nets.spec import NetSpec  # noqa: E402

CPU = torch.device("cpu")
PHOTO = np.zeros((1, 64, 64, 3), np.uint8)
LITE = "efficientnet-lite0"


def ask_detector(net) -> None:
    detector.detect(net, PHOTO, CPU)


CASES = {
    "segmenter": (lambda: segmenter.build(NetSpec("tiny", "fcn", 3, 8)),
                  lambda net: Inference(net, CPU)(PHOTO)),
    "classifier, maps": (lambda: classifier.build(classifier.ClassifierSpec("tiny", 3)),
                         lambda net: ActivationMaps(net, CPU, least=0.)(PHOTO)),
    "classifier, training": (lambda: classifier.build(classifier.ClassifierSpec("tiny", 3)),
                             lambda net: net(torch.zeros(1, 3, 64, 64))),
    "instances": (lambda: instance.build(instance.InstanceSpec(
        NetSpec("tiny", "fcn", 3, 8), (1, 2), 5)),
        lambda net: Inference(net.segmenter, CPU)(PHOTO)),
    "detector": (lambda: detector.build(detector.DetectorSpec(LITE, 3, False, 16, width=8)),
                 ask_detector),
    "detector, pyramid": (lambda: detector.build(detector.DetectorSpec(
        LITE, 3, True, 32, width=8, anchors=(32, 64, 128, 256, 512))), ask_detector),
    "rsis": (lambda: rsis.build(rsis.RSISSpec(LITE, 3, hidden=16, steps=2)),
             lambda net: net(torch.zeros(1, 3, 64, 64)))}


@pytest.mark.parametrize("build, ask", CASES.values(), ids=CASES)
def test_the_part_that_sees_images_is_compiled(build, ask, monkeypatch):
    calls = []

    def compiled(function, *args, **options):
        def counted(*args, **options):
            calls.append(function)
            return function(*args, **options)
        return counted

    tinynet.install(monkeypatch)
    monkeypatch.setattr(torch, "compile", compiled)
    net = build().eval()
    names = set(net.state_dict())
    net.compile()
    with torch.no_grad():
        ask(net)
    assert calls and set(net.state_dict()) == names
