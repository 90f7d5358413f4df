"""What runs on a GPU, on machines that have none: the tools' own tests on a pretended one."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from tests.conftest import ROOT  # noqa: E402
from tests.pretended_gpu import GPU, Mixed, OnGpu, gpu  # noqa: E402, F401

TESTS = (
    "test_train.py::test_every_way_to_train_trains",
    "test_train_cues.py::test_it_trains_alone_and_beside_strong_labels",
    "test_train_classify.py::test_a_run_leaves_a_classifier_that_tells_what_it_cost",
    "test_train_detect.py::test_boxes_become_a_detector_whose_boxes_can_be_used",
    "test_train_instance.py::test_segments_and_detections_become_a_net_that_labels_instances",
    "test_train_rsis.py::test_a_run_leaves_a_model_that_draws_objects",
    "test_train_rsis.py::test_w_rsis_draws_what_is_counted",
    "test_cam.py::test_both_maps_and_labels_are_written_with_keep")


def test_every_task_trains_and_predicts_on_a_pretended_gpu():
    words = ("-m", "pytest", "-q", "-p", "tests.pretended_gpu", "-p", "no:cacheprovider")
    done = subprocess.run([sys.executable, *words, *(f"tests/cli/{name}" for name in TESTS)],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_pretence_refuses_what_a_gpu_does():
    here, there = torch.arange(4.), OnGpu(torch.arange(4.))
    for mix in (lambda: here + there, lambda: there[here > 1].add_(here[:2]),
                lambda: torch.stack([here, there]), lambda: here[there.long()],
                lambda: there.index_put_((torch.tensor([1]),), torch.ones(1))):
        with pytest.raises(Mixed):
            mix()
    for copy in (there.numpy, lambda: there.__array__()):
        with pytest.raises(TypeError):
            copy()
    made = torch.zeros(4, device=GPU) + there * torch.tensor(2.) + there[here > -1]
    assert made.device == GPU and made.tolist() == [0, 3, 6, 9]
    assert not isinstance(made.cpu(), OnGpu) and isinstance(here.to(GPU), OnGpu)


@pytest.mark.parametrize("engine", ["dense_crf", "potts"])
def test_the_crfs_give_there_what_they_give_here(engine):
    import numpy as np

    from wsseg.refine import densecrf, potts
    solve = getattr({"dense_crf": densecrf, "potts": potts}[engine], engine)
    rng = np.random.default_rng(0)
    prob = rng.dirichlet(np.ones(4), (20, 24)).transpose(2, 0, 1).astype(np.float32)
    image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
    here = solve(prob, image, engine="torch")
    there = solve(prob, image, engine="torch", device="cuda:0")
    if engine == "potts":
        here, there = here.mask, there.mask
    np.testing.assert_allclose(there, here, atol=1e-5)
