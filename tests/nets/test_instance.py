"""The instance net: equations 2 to 4 as in numpy, and gradients through mean-field."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests import tinynet  # noqa: E402
from tests.refine.test_instance import ROWS, case, slow  # noqa: E402
from wsseg.errors import WssegError  # noqa: E402
from wsseg.nets import instance  # noqa: E402
from wsseg.nets.instance import (EPS, InstanceNet, InstanceSpec, Labels, build,  # noqa: E402
                                 evidence, with_stuff)
from wsseg.nets.model import load_model, model_bytes  # noqa: E402
from wsseg.nets.segmenter import NetSpec  # noqa: E402
from wsseg.refine.densecrf import DenseCrf, dense_crf  # noqa: E402


def net(monkeypatch, classes: int = 8, things=(7,), **more) -> InstanceNet:
    tinynet.install(monkeypatch)
    torch.manual_seed(0)
    return build(InstanceSpec(NetSpec("tiny", "largefov", classes, 8, width=8), things, **more))


def labels_of(found, dtype=torch.float32) -> Labels:
    return Labels(torch.from_numpy(found.boxes).to(dtype), torch.from_numpy(found.classes),
                  torch.from_numpy(found.scores).to(dtype))


def spread(prob: np.ndarray, classes: int = 10) -> torch.Tensor:
    """Probabilities of all classes, of those of ``ROWS``."""
    whole = np.zeros((classes, *prob.shape[1:]), np.float32)
    whole[ROWS] = prob
    return torch.from_numpy(whole)


@pytest.mark.parametrize("number", range(3))
def test_the_terms_are_those_of_numpy_and_the_paper(number):
    prob, found = case(number)
    ours = evidence(spread(prob), labels_of(found), prob.shape[1:], 1.3, .4)
    assert np.allclose(ours.numpy(), slow(prob, ROWS, found, 1.3, .4), atol=1e-6)


def test_on_smaller_maps_a_cell_is_in_a_box_when_its_centre_is():
    labels = Labels(torch.tensor([[4., 0, 13, 8]]), torch.tensor([0]), torch.tensor([.5]))
    ours = evidence(torch.ones(1, 2, 4), labels, (8, 16), 1., 0.)
    assert ours[0].tolist() == [[0, .5, .5, 0]] * 2  # centres 2, 6, 10 and 14


def test_stuff_is_a_detection_of_the_whole_image():
    labels = with_stuff(torch.tensor([[1., 1, 2, 2]]), torch.tensor([3]), torch.tensor([.4]),
                        (0, 2), (5, 9))
    assert labels.classes.tolist() == [3, 0, 2]
    assert labels.boxes[1:].tolist() == [[0, 0, 9, 5]] * 2
    assert labels.scores.tolist() == pytest.approx([.4, 1, 1])


def test_marginals_are_those_of_the_engine_that_predicts(monkeypatch):
    """The weights that were trained in torch go into the native dense CRF."""
    size = (14, 19)
    prob, found = case(1, size)
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*size, 3), np.uint8)
    made = net(monkeypatch, 10, iterations=4, xy_sigma=9., rgb_sigma=30.)
    with torch.no_grad():
        made.log_weights.copy_(torch.tensor([.7, 1.2, 1.5, 2.5]).log())
        ours = made(spread(prob), labels_of(found), torch.from_numpy(photo).permute(2, 0, 1)
                    .float(), size).numpy()
    unary = -np.log(slow(prob, ROWS, found, .7, 1.2) + EPS).astype(np.float32)
    crf = DenseCrf(3., 1.5, 9., 30., 2.5, 4)
    assert np.abs(ours - dense_crf(unary, photo, crf, energy=True)).max() < 1e-3


def test_gradients_through_mean_field_are_those_of_finite_differences(monkeypatch):
    """To the probabilities and to all four weights, in double precision."""
    made = net(monkeypatch, 3, (1, 2), iterations=2, xy_sigma=4., rgb_sigma=30.).double()
    generator = torch.Generator().manual_seed(0)
    photo = (torch.rand(3, 2, 4, generator=generator) * 255).double()
    labels = with_stuff(torch.tensor([[0., 0, 2, 2], [1, 0, 4, 2], [1, 1, 4, 2]]).double(),
                        torch.tensor([1, 1, 2]), torch.tensor([.9, .6, .8]).double(), (0,), (2, 4))
    logits = torch.randn(3, 2, 4, generator=generator).double().requires_grad_()
    weights = made.log_weights.detach().clone().requires_grad_()

    def marginals(logits, weights):
        found = torch.func.functional_call(made, {"log_weights": weights},
                                           (logits.softmax(0), labels, photo, (2, 4)))
        return found

    assert torch.autograd.gradcheck(marginals, (logits, weights))


def test_deviations_are_in_pixels_of_the_image_whatever_the_maps(monkeypatch):
    """A constant photo at half the size: marginals of a box that both show alike."""
    made = net(monkeypatch, 2, (1,), iterations=3, gauss_sigma=4., xy_sigma=12.)
    labels = with_stuff(torch.tensor([[8., 8, 24, 24]]), torch.tensor([1]), torch.tensor([1.]),
                        (0,), (32, 32))
    full = torch.full((2, 32, 32), .45)
    full[1] += .1
    with torch.no_grad():
        a = made(full, labels, torch.full((3, 32, 32), 90.), (32, 32))
        b = made(full[:, ::2, ::2], labels, torch.full((3, 16, 16), 90.), (32, 32))
    assert (a[0, 1::2, 1::2] - b[0]).abs().mean() < .06
    assert ((a[0, 1::2, 1::2] > .5) == (b[0] > .5)).float().mean() > .9


def test_every_parameter_is_trained_and_the_four_weights_do_not_decay(monkeypatch):
    made = net(monkeypatch)
    groups = made.parameter_groups()
    assert sum(len(g) for g in groups.values()) == len(list(made.parameters()))
    assert any(p is made.log_weights for p in groups["new_bias"])


def test_a_model_file_holds_it_whole(monkeypatch, tmp_path):
    made, path = net(monkeypatch, 3, (1, 2)), tmp_path / "model.safetensors"
    with torch.no_grad():
        made.log_weights.fill_(.25)
    path.write_bytes(model_bytes(made, {"task": "instance", "classes": ["a", "b", "c"]}))
    again, _ = load_model(path, task="instance")
    assert again.spec == made.spec and torch.equal(again.log_weights, made.log_weights)


@pytest.mark.parametrize("change, message", [
    ({"things": (8,)}, "things is 8"), ({"things": 3}, "a list of class ids"),
    ({"iterations": 0}, "iterations is 0"), ({"xy_sigma": float("nan")}, "xy_sigma is nan"),
    ({"rgb_sigma": -1.}, "rgb_sigma is -1.0")])
def test_a_spec_that_no_net_can_have_is_refused(change, message):
    segment = NetSpec("resnet50", "aspp", 8)
    with pytest.raises(WssegError, match=message):
        InstanceSpec(**{"segment": segment, "things": (7,), **change})
    with pytest.raises(WssegError, match="one branch and one scale"):
        InstanceSpec(NetSpec("resnet50", "aspp", 8, msc=True), (7,))
    assert instance.START[:2] == (1., 1.)
