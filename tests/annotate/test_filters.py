"""Filters against their formulae, summed pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsseg.annotate import filters
from wsseg.errors import RecordError, UsageError


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plane(seed: int = 0, size: tuple[int, int] = (17, 23)) -> np.ndarray:
    return np.random.default_rng(seed).normal(40, 20, size).astype(np.float32)


def mirrored(index: int, count: int) -> int:
    """Reflection that does not repeat the edge."""
    period = max(2 * count - 2, 1)
    index = abs(index) % period
    return min(index, period - index)


def correlate(values: np.ndarray, kernel: np.ndarray, y: int, x: int) -> float:
    """The sum of a kernel, centred on one pixel, times what lies under it."""
    reach_y, reach_x = kernel.shape[0] // 2, kernel.shape[1] // 2
    height, width = values.shape
    return sum(float(kernel[i, j]) * float(values[mirrored(y + i - reach_y, height),
                                                  mirrored(x + j - reach_x, width)])
               for i in range(kernel.shape[0]) for j in range(kernel.shape[1]))


def gaussian(sigma: float) -> np.ndarray:
    reach = int(3 * sigma + .5)
    row = np.exp(-np.arange(-reach, reach + 1) ** 2 / (2 * sigma * sigma))
    return np.outer(row, row) / row.sum() ** 2


SOME = [(0, 0), (8, 11), (16, 22), (3, 20)]


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_smoothing_and_spread_are_those_of_a_gaussian_window(sigma):
    values, kernel = plane(), gaussian(sigma)
    smooth, spread = filters.smooth(values, sigma), filters.spread(values, sigma)
    for y, x in SOME:
        mean = correlate(values, kernel, y, x)
        square = correlate(values.astype(float) ** 2, kernel, y, x)
        assert smooth[y, x] == pytest.approx(mean, abs=1e-3)
        assert spread[y, x] == pytest.approx((square - mean * mean) ** .5, abs=1e-2)


def test_derivatives_of_a_parabola_are_its_own():
    y, x = np.mgrid[:41, :41].astype(np.float32) - 20
    slope, large, small, tensor, _ = filters.derivatives(3 * x * x + y * y, 2.0)
    assert large[20, 20] == pytest.approx(4 * 6, rel=1e-3)  # sigma^2 times d2/dx2
    assert small[20, 20] == pytest.approx(4 * 2, rel=1e-3)
    assert slope[20, 23] == pytest.approx(2 * 18, rel=1e-3)
    assert slope[20, 20] == pytest.approx(0, abs=1e-3)
    assert (tensor >= 0).all()


def test_eigenvalues_are_those_of_the_matrices():
    xx, xy, yy = (plane(i, (3, 4)) for i in range(3))
    large, small = filters.eigenvalues(xx, xy, yy)
    for i in range(3):
        for j in range(4):
            found = np.linalg.eigvalsh([[xx[i, j], xy[i, j]], [xy[i, j], yy[i, j]]])
            assert [small[i, j], large[i, j]] == pytest.approx(found.tolist(), rel=1e-3, abs=1e-2)


def test_gabor_energy_is_the_smoothed_amplitude_of_the_pair():
    values, wavelength = plane(size=(15, 13)), 4.0
    energies = filters.gabor_energies(values, wavelength)
    for i in range(4):
        pair = [k[::-1, ::-1] for k in filters.gabor_kernel(wavelength, np.pi * i / 4)]
        amplitude = np.array([[np.hypot(*(correlate(values, k, y, x) for k in pair))
                               for x in range(13)] for y in range(15)])
        for y, x in [(7, 6), (0, 12)]:
            assert energies[i][y, x] == pytest.approx(
                correlate(amplitude, gaussian(wavelength / 2), y, x), rel=1e-3)


def test_a_gabor_pair_hears_its_own_wave_and_no_constant():
    for angle in (0.0, np.pi / 4):
        even, odd = filters.gabor_kernel(8.0, angle)
        assert abs(even.sum()) < 1e-5 and abs(odd.sum()) < 1e-5
    y, x = np.mgrid[:64, :64]
    across = filters.gabor_energies(np.cos(2 * np.pi * x / 8).astype(np.float32), 8.0)
    assert np.argmax([e[32, 32] for e in across[:4]]) == 0
    assert across[0][32, 32] == pytest.approx(.5, abs=.05)


def test_reduction_takes_the_means_of_blocks_and_enlarging_keeps_a_slope():
    values = plane(size=(12, 20))
    np.testing.assert_allclose(filters.reduced(values, 4),
                               values.reshape(3, 4, 5, 4).mean(axis=(1, 3)), rtol=1e-5)
    assert filters.reduced(values, 1) is values and filters.enlarged(values, (12, 20)) is values
    assert filters.reduced(values[:9, :9], 4).shape == (3, 3)
    y, x = np.mgrid[:12, :20].astype(np.float32)
    slope = filters.enlarged(filters.reduced(3 * x + y, 4), (12, 20))
    np.testing.assert_allclose(slope[2:-2, 2:-2], (3 * x + y)[2:-2, 2:-2], atol=1e-4)


def test_regions_are_flat_inside_edges_where_smoothing_is_not():
    rng = np.random.default_rng(0)
    photo = np.where(np.arange(96)[None, :, None] < 48, 60, 180) + rng.normal(0, 6, (80, 96, 3))
    photo = photo.clip(0, 255).astype(np.uint8)
    light = filters.lab(photo)[0]
    for found in filters.regions(photo)[::3]:
        for half in (np.s_[:, :40], np.s_[:, 56:]):
            assert found[half].std() < light[half].std() / 3
            assert found[half].mean() == pytest.approx(light[half].mean(), abs=1)
        # it steps from one to the other within a few pixels, a Gaussian as flat does not
        assert found[40, 52] - found[40, 43] > .8 * (light[:, 56:].mean() - light[:, :40].mean())


def test_long_waves_are_heard_at_reduced_sizes():
    y, x = np.mgrid[:96, :96]
    heard = []
    for wavelength in (4, 8, 16):
        grey = (128 + 60 * np.cos(2 * np.pi * x / wavelength)).astype(np.uint8)
        found = filters.classical(np.repeat(grey[..., None], 3, 2), groups=["gabor"])
        heard.append([found[5 * i, 48, 48] for i in range(3)])  # along x, at each wavelength
    assert np.argmax(heard, axis=1).tolist() == [0, 1, 2]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 7), st.integers(1, 7))
def test_responses_are_convolutions_with_zeros_outside(height, width, rows, columns):
    image = noise(height, width, 1)
    kernels = np.random.default_rng(2).normal(size=(3, 3, rows, columns)).astype(np.float32)
    mean, scale = (.4, .5, .6), (.2, .3, .4)
    found = filters.responses(image, kernels, mean=mean, scale=scale)
    assert found.shape == (3, height, width) and found.dtype == np.float32
    value = (image / 255 - mean) / scale
    top, left = (rows - 1) // 2, (columns - 1) // 2
    padded = np.zeros((height + rows, width + columns, 3))
    padded[top:top + height, left:left + width] = value
    for y, x in {(0, 0), (height - 1, width - 1), (height // 2, width // 2)}:
        window = padded[y:y + rows, x:x + columns].transpose(2, 0, 1)
        for f in range(3):
            assert found[f, y, x] == pytest.approx((window * kernels[f]).sum(), abs=1e-3)


def test_the_bank_is_its_groups_in_order():
    image = noise(40, 50)
    whole = filters.classical(image)
    parts = [filters.classical(image, groups=[g]) for g in filters.GROUPS]
    assert whole.dtype == np.float32 and whole.shape[1:] == (40, 50)
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(whole, filters.classical(image))
    without = filters.classical(image, groups=filters.GROUPS[:-1])
    np.testing.assert_array_equal(without, np.concatenate(parts[:-1]))


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (8, 1), (2, 3), (5, 400)])
def test_any_size_of_photo_has_finite_features(size):
    found = filters.classical(noise(*size))
    assert found.shape[1:] == size and np.isfinite(found).all()


def test_positions_run_along_their_direction():
    right, slant, down, _ = filters.positions(20, 40)
    assert right[5, 39] - right[5, 0] == pytest.approx(39 / 40)
    assert down[19, 7] - down[0, 7] == pytest.approx(19 / 40)
    assert slant[10, 10] == pytest.approx(slant[0, 20], abs=1e-6)


def test_what_is_no_photo_or_no_bank_is_refused():
    for bad in (np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3)), np.zeros((0, 5, 3), np.uint8)):
        with pytest.raises(RecordError, match="uint8 image"):
            filters.classical(bad)
    with pytest.raises(RecordError, match="kernels must be"):
        filters.responses(noise(4, 5), np.zeros((2, 1, 3, 3)))
    with pytest.raises(UsageError, match="no group of filters 'colours'"):
        filters.classical(noise(4, 5), groups=["colours"])
