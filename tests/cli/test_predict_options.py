"""What ws-predict refuses of the models of each task: options without effect, other classes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from tests import tinylevels, training  # noqa: E402
from tests.conftest import make_record, write_place  # noqa: E402
from wsseg.errors import ExitStatus  # noqa: E402
from wsseg.io.values import InstanceMap, Segment  # noqa: E402
from wsseg.nets.model import model_bytes  # noqa: E402
from wsseg.nets.segmenter import NetSpec, build  # noqa: E402

runner = training.runner
QUICK = ("--init", "none", "--iterations", "1", "--batch", "2", "--device", "cpu", "--precision",
         "fp32", "-j2")
SCORES = (("--most", "100"), ("--least-score", ".05"))
#: task -> what messages call its models, options that they have no use for.
FOREIGN = {
    "detect": ("a detector", (("--counts",), ("--score-stride", "4"), ("--tags",),
                              ("--branch", "strong"), ("--write", "both"))),
    "instance": ("an instance net", (("--counts",), ("--tags",), ("--branch", "strong"), *SCORES)),
    "rsis": ("models of ws-train --task rsis", (("--score-stride", "4"), ("--scales", "1"),
                                                *SCORES)),
}


@pytest.mark.parametrize("task", FOREIGN)
def test_options_without_effect_are_refused_even_as_their_defaults(runner, task):
    net = build(NetSpec("tiny", "largefov", 3, width=8))
    (runner.folder / "m.safetensors").write_bytes(model_bytes(net, {"task": task,
                                                                    "classes": None}))
    what, options = FOREIGN[task]
    for words in options:
        told = runner.predict("m.safetensors", "weak", *words, "-o", "x", code=ExitStatus.USAGE)
        assert f"{words[0]} is not for {what}" in told.err and told.err.count("\n") == 1


@pytest.mark.parametrize("task, more, kind", [
    ("detect", ("--backbone", "tiny", "--width", "8", "--crop", "33", "--anchors", "8,16"),
     "tags"),
    ("instance", ("--backbone", "tiny", "--head", "largefov", "--width", "8", "--crop", "33",
                  "--crf-iterations", "1"), "boxes"),
    ("rsis", ("--backbone", tinylevels.NAME, "--width", "16", "--crop", "48"), "boxes"),
])
def test_labels_of_other_classes_neither_go_on_nor_are_used(runner, monkeypatch, task, more, kind):
    if task == "rsis":
        tinylevels.install(monkeypatch)
    records = []
    for i in range(2):
        records.append(make_record(i, "image", "label", "boxes"))
        label = records[-1].get("label")
        ids = np.where(label == 255, 0, label).astype(np.uint16)
        records[-1].set("instance", InstanceMap(ids, (Segment(1, 1), Segment(2, 2))))
    kinds = ["boxes", "image", "instance", "label"]
    write_place(runner.folder / "truth", records, kinds=kinds)
    if task == "detect":
        runner.train("weak", "--task", task, *more, quick=QUICK)
    else:
        runner.train("truth", "--task", task, *more, *(("--detections", "truth")
                     if task == "instance" else ()), quick=QUICK)
    write_place(runner.folder / "turned", [make_record(0, "image", kind)], kinds=["image", kind],
                classes=("background", "dog", "cat"))
    told = runner.predict("run", "turned", "-o", "x", code=ExitStatus.USAGE).err
    assert "turned numbers its classes in another way than the model (ws-cat" in told
    assert f"changes its {kind}" in told
