"""The torch Potts engine against the numpy and native ones."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.refine.test_potts import HERE, problem  # noqa: E402
from wsseg.nets.potts import SingleSolver, potts_batch  # noqa: E402
from wsseg.nets import potts as nets_potts  # noqa: E402
from wsseg.refine.potts import CHECK, RELAX, NumpySolver, edge_stop, potts  # noqa: E402

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("isotropic", (True, False))
@pytest.mark.parametrize("classes", (2, 7))
def test_equal_iterations_give_equal_masks(classes, isotropic, device):
    costs, image = problem(classes, 29, 41)
    stop = edge_stop(image, .01)
    plain, torched = (make(costs, stop, isotropic) for make in (
        NumpySolver, lambda *a: SingleSolver(*a, device=device)))
    for solver in (plain, torched):
        solver.run(60, RELAX)

    assert np.abs(plain.mask() - torched.mask()).max() < 1e-5
    assert np.abs(plain.duals() - torched.duals()).max() < 1e-4
    assert torched.energies() == pytest.approx(plain.energies(), rel=1e-5)


@pytest.mark.parametrize("device", DEVICES)
def test_the_torch_engine_agrees_with_the_first_choice(device):
    costs, image = problem(4, 70, 50)
    seeds = np.full((70, 50), 255)
    seeds[3, :9] = 1
    ours, torched = (potts(costs, image, weight=2, seeds=seeds, tolerance=1e-4, engine=engine,
                           device=device) for engine in (HERE[0], "torch"))
    assert np.abs(ours.mask - torched.mask).max() < 1e-4
    assert ours.primal == pytest.approx(torched.primal, rel=1e-5)
    assert torched.engine == "torch"


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_holds_what_its_images_give_alone(device):
    problems = [problem(3, 20, 31, seed) for seed in range(3)]
    costs = torch.from_numpy(np.stack([c for c, _ in problems])).to(device)
    stop = torch.from_numpy(np.stack([edge_stop(i, .01) for _, i in problems])).to(device)
    costs[0, 0, :4] = torch.inf
    masks, gaps, iterations = potts_batch(costs, stop, weight=1., tolerance=0, max_iterations=100)

    assert iterations == 100 and (gaps < 1e-2).all() and (masks[0, 0, :4] == 0).all()
    for mask, cost, (_, image) in zip(masks, costs, problems):
        alone = potts(cost.cpu().numpy(), image, weight=1., tolerance=0, max_iterations=100,
                      engine="numpy", pyramid=False)
        assert np.abs(alone.mask - mask.cpu().numpy()).max() < 1e-5


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="expected costs"):
        potts_batch(torch.zeros(1, 2, 3, 4), torch.ones(1, 4, 3))
    with pytest.raises(ValueError, match="weight"):
        potts_batch(torch.zeros(1, 2, 3, 4), torch.ones(1, 3, 4), weight=0)


def test_the_constants_of_both_engines_are_the_same():
    assert (nets_potts.RELAX, nets_potts.CHECK) == (RELAX, CHECK)
