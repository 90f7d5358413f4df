"""The dense CRF against pydensecrf, against the exact sum, and against itself."""

from __future__ import annotations

import threading
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsseg.errors import RecordError
from wsseg.refine import densecrf
from wsseg.refine.densecrf import PRESETS, DenseCrf, dense_crf, present_classes, restricted
from wsseg.refine.lattice import native

needs_native = pytest.mark.skipif(native() is None, reason="native kernels not built")
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not here")
ENGINES = [pytest.param("native", marks=needs_native), pytest.param("torch", marks=needs_torch),
           "numpy"]


def soft_map(classes: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random probabilities."""
    rng = np.random.default_rng(seed)
    z = np.kron(rng.normal(size=(classes, height // 8 + 1, width // 8 + 1)), np.ones((8, 8)))
    z = 3 * z[:, :height, :width] + 0.3 * rng.normal(size=(classes, height, width))
    e = np.exp(z - z.max(axis=0))
    return (e / e.sum(axis=0)).astype(np.float32)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Two smooth regions with some noise."""
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(seed)
    base = np.stack([60 + x, 200 - y, 90 + (x > y) * 80], axis=2)
    return np.clip(base + rng.normal(scale=3, size=base.shape), 0, 255).astype(np.uint8)


def real_photo(height: int, width: int) -> np.ndarray:
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[100:100 + height, 100:100 + width])


def exact(prob: np.ndarray, image: np.ndarray, crf: DenseCrf) -> np.ndarray:
    """Mean-field with sums over all pairs of pixels."""
    classes, height, width = prob.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1)
    unary = -np.log(np.clip(prob.reshape(classes, -1), 1e-5, 1)).astype(float)
    rgb = np.concatenate([np.stack([x, y]), image.reshape(-1, 3).T])
    kernels = []
    for weight, features, sigma in ((crf.gauss_weight, rgb[:2], crf.gauss_features),
                                    (crf.rgb_weight, rgb, crf.rgb_features)):
        f = features / np.array(sigma)[:, None]
        kernel = np.exp(-((f[:, :, None] - f[:, None]) ** 2).sum(axis=0) / 2)
        norm = kernel.sum(axis=1) ** -0.5
        kernels.append(weight * kernel * norm * norm[:, None])
    energy = -unary
    for _ in range(crf.iterations + 1):
        q = np.exp(energy - energy.max(axis=0))
        q /= q.sum(axis=0)
        energy = -unary + sum(q @ kernel for kernel in kernels)
    return q.reshape(prob.shape)


@pytest.mark.parametrize("engine", ENGINES)
def test_marginals_are_near_those_of_the_exact_sum(engine):
    """Within the lattice's approximation: 0.03 in the mean, the same label on 97 % of pixels."""
    prob, image, crf = soft_map(4, 30, 40), photo(30, 40), DenseCrf(2, 2, 15, 20, 3)
    truth, ours = exact(prob, image, crf), dense_crf(prob, image, crf, engine=engine)

    assert np.abs(truth - ours).mean() < 0.03
    assert (truth.argmax(axis=0) == ours.argmax(axis=0)).mean() > 0.97
    assert np.abs(truth - prob).mean() > 3 * np.abs(truth - ours).mean()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("classes", (2, 3, 7, 21, 33))
@needs_native
def test_native_equals_pydensecrf_on_a_real_photo(preset, classes):
    """Sizes are multiples of 4: else pydensecrf pads with black points that join its lattice."""
    pytest.importorskip("pydensecrf")
    prob, image = soft_map(classes, 102, 94), real_photo(102, 94)
    theirs = dense_crf(prob, image, PRESETS[preset], engine="pydensecrf")
    ours = dense_crf(prob, image, PRESETS[preset], engine="native")

    top = np.sort(theirs, axis=0)
    tie = top[-1] - top[-2] < 1e-4
    assert np.abs(theirs - ours).max() < 1e-4
    assert (theirs.argmax(axis=0) == ours.argmax(axis=0))[~tie].all()
    assert tie.mean() < 1e-3


@needs_native
@pytest.mark.parametrize("classes", (2, 5, 13))
@pytest.mark.parametrize("crf", (DenseCrf(), DenseCrf((2, 4), 2, (20, 9), (8, 9, 30), 5),
                                 DenseCrf(gauss_weight=0), DenseCrf(rgb_weight=0),
                                 DenseCrf(gauss_weight=0, rgb_weight=0), DenseCrf(iterations=0)))
def test_native_and_torch_agree(classes, crf):
    prob, image = soft_map(classes, 37, 45), photo(37, 45)
    first, second = (dense_crf(prob, image, crf, engine=e) for e in ("native", "torch"))
    assert np.abs(first - second).max() < 1e-4


@needs_native
@pytest.mark.parametrize("classes", (3, 21))
def test_the_number_of_threads_does_not_change_a_bit(classes):
    prob, image = soft_map(classes, 500, 413), photo(500, 413)  # large enough for two strips
    one, two, many = (dense_crf(prob, image, iterations=2, threads=n) for n in (1, 2, 5))
    assert one.tobytes() == two.tobytes() == many.tobytes()
    assert np.abs(one.sum(axis=0) - 1).max() < 1e-5


@needs_native
def test_two_python_threads_give_what_one_gives():
    prob, images = soft_map(3, 60, 50), [photo(60, 50, seed) for seed in range(4)]
    alone = [dense_crf(prob, image) for image in images]
    found = [None] * 4

    def work(i):
        found[i] = dense_crf(prob, images[i])
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(alone, found))


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=15, deadline=None)
@given(classes=st.integers(2, 9), height=st.integers(1, 19), width=st.integers(1, 19),
       seed=st.integers(0, 9))
def test_marginals_sum_to_one_and_follow_the_order_of_classes(engine, classes, height, width, seed):
    prob, image = soft_map(classes, height, width, seed), photo(height, width, seed)
    order = np.random.default_rng(seed).permutation(classes)
    q = dense_crf(prob, image, engine=engine)

    assert q.shape == prob.shape and q.dtype == np.float32
    assert np.abs(q.sum(axis=0) - 1).max() < 1e-5
    np.testing.assert_allclose(dense_crf(prob[order], image, engine=engine), q[order], atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_iterations_the_map_comes_back(engine):
    prob = soft_map(5, 12, 14)
    np.testing.assert_allclose(dense_crf(prob, photo(12, 14), iterations=0, engine=engine),
                               prob, atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_energies_are_taken_as_they_are(engine):
    prob, image = soft_map(3, 15, 20), photo(15, 20)
    energy = -np.log(np.clip(prob, 1e-5, 1)) + 7
    np.testing.assert_allclose(dense_crf(energy, image, energy=True, engine=engine),
                               dense_crf(prob, image, engine=engine), atol=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("size", ((1, 1), (1, 9), (17, 1)))
def test_slivers_of_images_work(engine, size):
    q = dense_crf(soft_map(2, *size), photo(*size), engine=engine)
    np.testing.assert_allclose(q.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
def test_two_hundred_classes_work(engine):
    prob, image = soft_map(200, 24, 17), photo(24, 17)
    q = dense_crf(prob, image, iterations=3, engine=engine)
    assert np.abs(q.sum(axis=0) - 1).max() < 1e-5
    few = dense_crf(np.concatenate([prob[:2], prob[2:].sum(axis=0, keepdims=True)]), image,
                    iterations=3, engine=engine)
    assert (q[:2].sum(axis=0) >= few[:2].sum(axis=0) - 1e-4).all()  # split mass attracts less


def test_one_class_is_certain():
    assert (dense_crf(np.ones((1, 3, 4), np.float32), photo(3, 4)) == 1).all()


@pytest.mark.parametrize("prob, size, words", (
    (soft_map(2, 4, 4) * np.nan, (4, 4), "not numbers"),
    (soft_map(2, 4, 4) - 0.6, (4, 4), "negative"),
    (soft_map(2, 4, 4) * 2, (4, 4), "sum to 1, got 2 to 2"),
    (np.full((1, 2, 2), np.inf), (2, 2), "sum to 1"),
    (soft_map(2, 4, 5), (4, 4), "map is 4x5 but the photo is 4x4"),
    (soft_map(2, 4, 4)[0], (4, 4), "(K, H, W)"),
    (np.zeros((2, 0, 4)), (0, 4), "not empty"),
    (np.zeros((2, 4, 4), np.uint8), (4, 4), "floating-point"),
))
def test_bad_maps_are_refused(prob, size, words):
    with pytest.raises(RecordError) as error:
        dense_crf(prob, np.zeros((*size, 3), np.uint8))
    assert words in str(error.value)


@pytest.mark.parametrize("options, words", (
    (dict(rgb_sigma=0.0), "rgb_sigma must be above 0"),
    (dict(gauss_weight=-1.0), "gauss_weight must not be negative"),
    (dict(gauss_sigma=(1, 2, 3)), "one number or 2"),
    (dict(iterations=1.5), "whole number"),
    (dict(engine="gpu"), "no CRF engine is named 'gpu'"),
    (dict(clip=0), "clip"),
    (dict(gauss_sigma=1e-9), "standard deviation is too small"),
    (dict(max_bytes=1000), "0.0 GB are free"),
    (dict(energy=True, engine="gpu"), "gpu"),
))
def test_bad_parameters_are_refused(options, words):
    with pytest.raises(RecordError) as error:
        dense_crf(soft_map(2, 4, 4), photo(4, 4), **options)
    assert words in str(error.value)


def test_a_photo_too_large_for_memory_is_refused_at_once():
    vast = np.broadcast_to(np.float32(1 / 150), (150, 1, 1))
    need = densecrf.least_memory(150, 5000, 6000)
    assert 15e9 < need < 40e9
    with pytest.raises(RecordError, match="shrink the photo"):
        dense_crf(np.ascontiguousarray(vast), photo(1, 1), max_bytes=100)


@needs_native
def test_memory_that_only_the_photo_tells_is_refused_too():
    prob, image = soft_map(2, 60, 60), np.random.default_rng(0).integers(
        0, 256, (60, 60, 3)).astype(np.uint8)
    limit = densecrf.least_memory(2, 60, 60) + 1000
    with pytest.raises(RecordError, match="needs about 0.0 GB"):
        dense_crf(prob, image, DenseCrf(rgb_sigma=1.0), engine="native", max_bytes=limit)


def test_scaled_parameters_change_distances_only():
    small = PRESETS["dsrg"].scaled(1 / 12)
    assert small.rgb_features == pytest.approx((80 / 12, 80 / 12, 13, 13, 13))
    assert small.gauss_features == pytest.approx((0.25, 0.25))


def test_present_classes_are_those_above_eps_and_at_least_one():
    prob = np.array([[[0.5, 0.96]], [[0.46, 0.0]], [[0.04, 0.04]]], np.float32)
    assert present_classes(prob, 0.05).tolist() == [0, 1]
    assert present_classes(prob, 0.99).tolist() == [0]


@pytest.mark.parametrize("engine", ENGINES)
def test_leaving_out_impossible_classes_changes_little(engine):
    prob = np.zeros((6, 33, 40), np.float32)
    prob[[0, 2, 5]] = soft_map(3, 33, 40)
    kept = restricted(prob, photo(33, 40), present_classes(prob), engine=engine)
    full = dense_crf(prob, photo(33, 40), engine=engine)

    assert (kept[[1, 3, 4]] == 0).all()
    assert np.abs(kept - full).max() < 1e-2
    assert np.abs(kept.sum(axis=0) - 1).max() < 1e-5


@pytest.mark.parametrize("classes", ([], [0, 0], [7], [-1]))
def test_a_bad_choice_of_classes_is_refused(classes):
    with pytest.raises(RecordError, match="different indices"):
        restricted(soft_map(3, 4, 4), photo(4, 4), classes)
