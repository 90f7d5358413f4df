"""The torch CRF: gradients, batches, and what the module trains."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsseg.nets.crf import DenseCrf, Lattice, gauss_kernel, mean_field, rgb_kernel  # noqa: E402


def unaries(*shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 2


def images(batch: int, height: int, width: int, dtype=torch.float64) -> torch.Tensor:
    noise = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
    return (noise * 60 + torch.arange(width) * 10).to(dtype)


def test_gradients_are_those_of_finite_differences():
    """Unaries, both weights and the compatibility, through two steps, in double precision."""
    image = images(1, 3, 4)
    kernels = gauss_kernel((3, 4), (2.0, 2.0), like=image), rgb_kernel(image, (4, 4, 30, 30, 30))
    inputs = [unaries(1, 3, 3, 4), torch.tensor(1.5), torch.tensor([2.0, 1.0, 0.5]),
              -torch.eye(3) + 0.1 * unaries(3, 3)]
    inputs = [x.double().requires_grad_() for x in inputs]

    def steps(unary, gauss, rgb, compatibility):
        return mean_field(unary, kernels=kernels, gauss_weight=gauss, rgb_weight=rgb,
                          compatibility=compatibility, iterations=2)
    assert torch.autograd.gradcheck(steps, inputs)


@pytest.mark.parametrize("d", (1, 2, 5))
def test_the_transposed_filter_is_the_adjoint(d):
    lattice = Lattice(unaries(1, 80, d))
    a, b = unaries(2, 80, 3)
    assert torch.allclose((lattice.filter(a, False) * b).sum(),
                          (a * lattice.filter(b, True)).sum(), rtol=1e-12)


def test_a_batch_is_filtered_image_by_image():
    unary, image = unaries(3, 4, 11, 13), images(3, 11, 13)
    together = mean_field(unary, image)
    apart = torch.cat([mean_field(unary[i:i + 1], image[i:i + 1]) for i in range(3)])
    assert torch.allclose(together, apart, atol=1e-12)


def test_a_potts_compatibility_changes_nothing():
    """Minus the identity, or one off the diagonal: costs that differ by a constant."""
    unary, image = unaries(1, 4, 9, 9), images(1, 9, 9)
    default = mean_field(unary, image)
    for potts in (-torch.eye(4), 1 - torch.eye(4)):
        assert torch.allclose(mean_field(unary, image, compatibility=potts.double()), default)


def test_the_kernel_of_an_image_is_almost_symmetric():
    """Not wholly: axes are blurred in turn, and lattice points without data lose what they get."""
    kernel = gauss_kernel((10, 12), (3.0, 3.0), like=unaries(1))
    matrix = kernel(torch.eye(120, dtype=torch.float64)[None])[0]
    assert (matrix - matrix.T).abs().mean() < 0.1 * matrix.mean()
    assert (matrix >= 0).all() and 0.8 < matrix.sum(dim=0).mean() < 1.2


def test_single_and_double_precision_agree():
    unary, image = unaries(2, 5, 20, 23), images(2, 20, 23).round()
    single = mean_field(unary.float(), image.float())
    assert (single - mean_field(unary, image)).abs().max() < 1e-4


def test_training_moves_weights_and_lowers_the_loss():
    crf = DenseCrf(3, iterations=2)
    unary, image = unaries(1, 3, 12, 12).float(), images(1, 12, 12).float()
    truth = torch.from_numpy(np.arange(144).reshape(1, 12, 12) % 3)
    optimiser, losses = torch.optim.Adam(crf.parameters(), lr=0.1), []
    for _ in range(5):
        loss = torch.nn.functional.nll_loss(crf(unary, image).clamp_min(1e-9).log(), truth)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad.abs().sum() > 0 for p in crf.parameters())
        optimiser.step()
    assert losses[-1] < losses[0]


def test_without_classes_any_number_of_labels_will_do():
    crf, image = DenseCrf(iterations=1), images(1, 8, 8).float()
    assert {crf(unaries(1, k, 8, 8).float(), image).shape[1] for k in (2, 7)} == {2, 7}
    assert sum(p.numel() for p in crf.parameters()) == 2


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"need images \(1, 3, 8, 8\), got \(1, 3, 8, 9\)"):
        mean_field(unaries(1, 2, 8, 8), images(1, 8, 9))
    with pytest.raises(ValueError, match="do not fit"):
        Lattice(unaries(1, 5, 2))(unaries(1, 6, 2))
