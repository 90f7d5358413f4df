"""The permutohedral lattice: both implementations, and the exact sum it approximates."""

from __future__ import annotations

import numpy as np
import pytest

from wsseg.errors import RecordError
from wsseg.refine import lattice

ENGINES = ("native", "torch")
needs_native = pytest.mark.skipif(lattice.native() is None, reason="native kernels not built")


def points(d: int, count: int = 300, spread: float = 2.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, d)).astype(np.float32) * spread


@needs_native
@pytest.mark.parametrize("d", (1, 2, 3, 5, 8))
def test_both_engines_filter_alike(d):
    values = np.random.default_rng(1).normal(size=(300, 11)).astype(np.float32)
    native = lattice.filter(points(d), values, engine="native")
    torch = lattice.filter(points(d), values, engine="torch")
    assert np.abs(native - torch).max() < 1e-5 * np.abs(native).max()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("d", (2, 5))
def test_a_normalised_filter_is_near_the_exact_one(engine, d):
    """On dense points: 5 % of the range, the lattice's own error (Adams et al., section 4)."""
    if engine == "native" and lattice.native() is None:
        pytest.skip("native kernels not built")
    features = points(d, count=1500, spread=1.0)
    values = np.stack([features[:, 0], np.ones(len(features))], axis=1).astype(np.float32)
    exact = np.exp(-((features[:, None] - features) ** 2).sum(axis=2) / 2) @ values
    ours = lattice.filter(features, values, engine=engine)
    difference = np.abs(exact[:, 0] / exact[:, 1] - ours[:, 0] / ours[:, 1])

    assert difference.mean() < 0.05 * np.ptp(features[:, 0])


@pytest.mark.parametrize("engine", ENGINES)
def test_one_point_on_a_line_keeps_five_sixths(engine):
    """Its simplex has two corners, of weights 1 and 0. The first blur leaves 1 and 1/2, the second
    1 + 1/4 in the first corner; the constant factor is 1 / (1 + 1/2)."""
    if engine == "native" and lattice.native() is None:
        pytest.skip("native kernels not built")
    filtered = lattice.filter(np.zeros((1, 1)), np.array([[3.0, -1.0]]), engine=engine)
    np.testing.assert_allclose(filtered, [[3.0 * 5 / 6, -5 / 6]], rtol=1e-6)


@needs_native
def test_the_filter_is_linear():
    values = np.random.default_rng(2).normal(size=(2, 300, 3)).astype(np.float32)
    first, second = (lattice.filter(points(5), v) for v in values)
    both = lattice.filter(points(5), 2 * values[0] - values[1])
    np.testing.assert_allclose(both, 2 * first - second, atol=1e-5)


@pytest.mark.parametrize("features, values, words", (
    (np.zeros((3, 2)), np.zeros((4, 1)), "got (3, 2) and (4, 1)"),
    (np.zeros((0, 2)), np.zeros((0, 1)), "got (0, 2) and (0, 1)"),
    (np.full((3, 2), np.nan), np.zeros((3, 1)), "not finite"),
    (np.zeros((3, 17)), np.zeros((3, 1)), "17 dimensions"),
    (np.array([[0, 0], [1e9, 1]]), np.zeros((2, 1)), "standard deviation is too small"),
))
@pytest.mark.parametrize("engine", ENGINES)
def test_what_cannot_be_filtered_is_refused(features, values, words, engine):
    if engine == "native" and lattice.native() is None:
        pytest.skip("native kernels not built")
    with pytest.raises(RecordError) as error:
        lattice.filter(features, values, engine=engine)
    assert words in str(error.value)


def test_an_unknown_engine_is_named():
    with pytest.raises(RecordError, match="'cuda'"):
        lattice.filter(np.zeros((1, 1)), np.zeros((1, 1)), engine="cuda")
