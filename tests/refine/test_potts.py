"""The Potts relaxation: minima known by enumeration, bounds, engines, and what is refused."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsseg.errors import RecordError, UsageError
from wsseg.refine.potts import (FORBIDDEN, PRESETS, RELAX, NumpySolver, edge_stop, labelling_energy,
                                potts, prepare_costs, project_simplex, resolve_engine)

HERE = [name for name in ("native", "numpy") if name == "numpy" or resolve_engine("auto") == name]
native = pytest.mark.skipif("native" not in HERE, reason="the native kernel is not built")


def problem(classes: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random costs, and a photo of random patches."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (height // 3 + 1, width // 4 + 1, 3), dtype=np.uint8)
    image = patches.repeat(3, 0).repeat(4, 1)[:height, :width]
    return rng.exponential(1.5, (classes, height, width)).astype(np.float32), image


def enumerate_energies(costs, stop, **options) -> np.ndarray:
    classes, *size = costs.shape
    return np.array([labelling_energy(np.reshape(labels, size), costs, stop, **options)
                     for labels in itertools.product(range(classes), repeat=size[0] * size[1])])


@pytest.mark.parametrize("engine", HERE)
@pytest.mark.parametrize("seed", range(3))
def test_any_threshold_of_two_anisotropic_classes_is_an_exact_minimum(engine, seed):
    costs, image = problem(2, 3, 4, seed)
    best = enumerate_energies(costs, edge_stop(image, .01), weight=.4, isotropic=False).min()
    found = potts(costs, image, weight=.4, isotropic=False, tolerance=1e-6, max_iterations=20000,
                  engine=engine)
    assert found.energy == pytest.approx(best, rel=1e-4)
    assert found.dual == pytest.approx(best, rel=1e-4)
    for threshold in (.02, .3, .7, .98):
        labels = (found.mask[1] > threshold).astype(int)
        assert labelling_energy(labels, costs, edge_stop(image, .01), weight=.4,
                                isotropic=False) == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize("isotropic", (True, False))
def test_the_dual_energy_bounds_every_labelling_of_three_classes(isotropic):
    costs, image = problem(3, 2, 4)
    energies = enumerate_energies(costs, edge_stop(image, .01), weight=.3, isotropic=isotropic)
    found = potts(costs, image, weight=.3, isotropic=isotropic, tolerance=1e-6,
                  max_iterations=20000, engine="numpy")
    assert found.dual <= energies.min() + 1e-4
    assert found.energy >= energies.min() - 1e-4
    if not isotropic:  # the isotropic relaxation is loose on labellings of so few pixels
        assert found.energy <= energies.min() * 1.001


def test_the_energy_of_a_labelling_counts_its_boundary_for_both_classes():
    labels = np.array([[0, 1], [2, 1]])
    # Isotropic: at (0,0) class 0 ends on two sides, sqrt 2, and 1 and 2 begin on one each; at
    # (0,1) nothing changes; at (1,0) the boundary between 2 and 1 is across only.
    expected = (2 ** .5 + 2) + 0 + 2
    costs, stop = np.zeros((3, 2, 2), np.float32), np.ones((2, 2), np.float32)

    assert labelling_energy(labels, costs, stop) == pytest.approx(expected)
    assert labelling_energy(labels, costs, stop, isotropic=False, weight=5) == 5 * 6


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 9), st.integers(1, 20), st.integers(0, 999),
       st.sampled_from((.05, 1., 10.)), st.booleans(), st.sampled_from((0., .01, 1.)))
def test_bounds_hold_at_any_time_and_the_gap_closes(classes, height, width, seed, weight,
                                                    isotropic, edge):
    costs, image = problem(classes, height, width, seed)
    for iterations, limit in ((1, np.inf), (7, np.inf), (4000, 2e-3)):
        found = potts(costs, image, weight=weight, edge=edge, isotropic=isotropic,
                      tolerance=1e-3, max_iterations=iterations, engine=HERE[0])
        slack = 1e-5 * (1 + abs(found.primal))
        assert found.dual <= found.primal + slack
        assert found.dual <= found.energy + slack
        assert found.gap <= limit
        assert found.mask.min() >= 0
        np.testing.assert_allclose(found.mask.sum(0), 1, atol=1e-5)


@native
@pytest.mark.parametrize("isotropic", (True, False))
@pytest.mark.parametrize("classes", (2, 3, 4, 5, 21))
def test_the_native_engine_does_what_numpy_does(classes, isotropic):
    from wsseg.native._potts import Solver

    costs, image = problem(classes, 37, 50)
    stop = edge_stop(image, .01)
    plain, fast = NumpySolver(costs, stop, isotropic), Solver(costs, stop, isotropic, 1)
    fast.start(plain.mask(), plain.duals())
    for solver in (plain, fast):
        solver.run(60, RELAX)

    assert np.abs(plain.mask() - fast.mask()).max() < 1e-5
    assert fast.energies() == pytest.approx(plain.energies(), rel=1e-5)


@native
@pytest.mark.parametrize("size", ((1, 33), (9, 1), (16, 16), (61, 47), (40, 64)))
def test_the_number_of_threads_changes_no_bit(size):
    costs, image = problem(5, *size)
    one, two, many = (potts(costs, image, weight=2, tolerance=1e-4, engine="native", threads=n)
                      for n in (1, 2, 7))
    assert one.mask.tobytes() == two.mask.tobytes() == many.mask.tobytes()
    assert one.primal == two.primal == many.primal and one.dual == two.dual == many.dual


@native
def test_without_avx2_the_native_engine_gives_the_same_bits():
    code = ("import sys, numpy as np; from tests.refine.test_potts import problem; from "
            "wsseg.refine.potts import potts; r = potts(*problem(4, 33, 45), weight=2, "
            "engine='native'); sys.stdout.buffer.write(r.mask.tobytes() + repr(r.dual).encode())")
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True,
                           env={"PATH": "", **extra}).stdout
            for extra in ({}, {"WSSEG_NO_AVX2": "1"})]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("engine", HERE)
def test_the_pyramid_leads_to_the_same_minimum(engine):
    costs, image = problem(3, 67, 45)
    cold, warm = (potts(costs, image, weight=1, tolerance=1e-5, max_iterations=4000, engine=engine,
                        pyramid=pyramid) for pyramid in (False, True))
    assert warm.primal == pytest.approx(cold.primal, rel=3e-5)


@pytest.mark.parametrize("engine", HERE)
def test_seeds_hold_exactly_against_the_costs(engine):
    costs, image = problem(3, 40, 50)
    seeds = np.full((40, 50), 255, np.uint8)
    seeds[5], seeds[30, 10:20] = 2, 0
    costs[:, 5], costs[2, 5] = 0, 50
    found = potts(costs, image, weight=5, seeds=seeds, engine=engine)
    held = seeds != 255
    assert np.array_equal(found.labels[held], seeds[held])
    assert (found.mask.max(0)[held] == 1).all()


@pytest.mark.parametrize("engine", HERE)
def test_a_forbidden_class_stays_away(engine):
    costs, image = problem(3, 12, 40)
    costs[1, :, 20:] = np.inf
    costs[0, :, 20:] = 9
    found = potts(costs, image, weight=3, engine=engine)
    assert (found.mask[1, :, 20:] == 0).all()
    assert np.isfinite([found.primal, found.dual, found.energy]).all()


@pytest.mark.parametrize("engine", HERE)
def test_energy_is_within_two_thousandths_of_alpha_expansion(engine):
    pytest.importorskip("gco")
    data = pytest.importorskip("skimage.data")
    image = np.ascontiguousarray(data.coffee()[::5, ::5])
    rng = np.random.default_rng(0)
    colours = image.reshape(-1, 3)[rng.choice(image.size // 3, 4, replace=False)].astype(float)
    distance = ((image[None].astype(float) - colours[:, None, None]) ** 2).sum(-1) / 5000
    costs = (distance + rng.normal(0, .5, distance.shape)).astype(np.float32)
    costs -= costs.min(0)
    stop = edge_stop(image, .01)
    found = potts(costs, image, weight=1, isotropic=False, tolerance=1e-4, max_iterations=2000,
                  engine=engine)
    # In a process of its own, as it aborts when it dislikes its costs.
    code = ("import gco, io, numpy as np, sys; d = np.load(io.BytesIO(sys.stdin.buffer.read()));"
            "g = d['g'];"
            "f = (1000 * d['f']).astype(np.int32).transpose(1, 2, 0).copy();"
            "w = (2000 * g).astype(np.int32); s = (1 - np.eye(f.shape[2])).astype(np.int32);"
            "x = gco.cut_grid_graph(f, s, w[:-1].copy(), w[:, :-1].copy());"
            "sys.stdout.buffer.write(np.asarray(x, np.int32).tobytes())")
    buffer = io.BytesIO()
    np.savez(buffer, f=costs, g=stop)
    done = subprocess.run([sys.executable, "-c", code], input=buffer.getvalue(),
                          capture_output=True)
    if done.returncode < 0:
        pytest.skip("gco aborted")
    labels = np.frombuffer(done.stdout, np.int32).reshape(stop.shape).astype(int)
    other = labelling_energy(labels, costs, stop, isotropic=False)
    assert found.energy <= 1.002 * other
    assert found.dual <= other


@pytest.mark.parametrize("shape", ((1, 6, 7), (4, 1, 1), (1, 1, 1)))
def test_one_class_or_one_pixel_needs_no_work(shape):
    costs, image = problem(*shape)
    found = potts(costs, image)
    assert np.array_equal(found.labels, costs.argmin(0))
    assert found.energy == found.dual == pytest.approx(costs.min(0).sum(), rel=1e-5)


@pytest.mark.parametrize("engine", HERE)
@pytest.mark.parametrize("size", ((1, 9), (9, 1), (2, 2)))
def test_images_one_pixel_wide_are_solved(size, engine):
    costs, image = problem(3, *size)
    found = potts(costs, image, weight=1, tolerance=1e-4, max_iterations=5000, engine=engine)
    assert found.gap <= 1e-4


def test_without_weight_each_pixel_takes_its_cheapest_class():
    costs, image = problem(3, 6, 7)
    found = potts(costs, image, weight=0)
    assert np.array_equal(found.labels, costs.argmin(0))


def test_an_image_of_equal_costs_is_at_its_minimum():
    found = potts(np.ones((3, 8, 8), np.float32), None)
    assert found.gap == 0 and found.energy == pytest.approx(64)


def test_probabilities_are_normalised_and_clipped():
    values = np.array([3, 1, 0], np.float32).reshape(3, 1, 1)
    costs = prepare_costs(values, probabilities=True, floor=.01)
    np.testing.assert_allclose(costs.ravel(), -np.log([.75, .25, .01]), rtol=1e-6)
    assert np.isposinf(prepare_costs(values, probabilities=True, floor=0)[2]).all()
    nothing = prepare_costs(np.zeros((4, 1, 1)), probabilities=True)
    np.testing.assert_allclose(nothing.ravel(), np.log(4), rtol=1e-6)


def test_the_edge_stop_of_a_grey_step_is_that_of_its_grey_values():
    image = np.zeros((2, 3, 3), np.uint8)
    image[:, 2] = 100
    expected = np.ones((2, 3))
    expected[:, 1] = np.exp(-1)
    np.testing.assert_allclose(edge_stop(image, .01), expected, rtol=1e-6)


def test_projection_lands_on_the_nearest_point_of_the_simplex():
    v = np.random.default_rng(0).normal(0, 2, (6, 500)).astype(np.float32)
    v[:3, :50] = 1
    u = project_simplex(v)
    np.testing.assert_allclose(u.sum(0), 1, atol=1e-5)
    # Optimality: v - u is one number on the support and not larger elsewhere.
    theta = np.where(u > 0, v - u, -np.inf).max(0)
    assert (np.where(u > 0, np.abs(v - u - theta), 0) < 1e-5).all()
    assert (np.where(u == 0, v, -np.inf) <= theta + 1e-5).all()


def test_costs_beyond_reach_count_as_forbidden():
    costs = np.zeros((2, 4, 4), np.float32)
    costs[0] = 3e38
    found = potts(costs, None, weight=1e-3)
    assert (found.labels == 1).all() and np.isfinite(found.energy) and FORBIDDEN < 1e31


def test_presets_are_parameters_of_potts():
    costs, image = problem(2, 5, 6)
    assert {name: p["weight"] for name, p in PRESETS.items()} == {
        "scribbles-potts": 10, "scribbles-potts-global": 50}
    for preset in PRESETS.values():
        potts(costs, image, **preset)


GOOD = np.ones((2, 4, 5), np.float32)
NAN = np.where(np.arange(40).reshape(2, 4, 5) == 7, np.nan, 1)
PHOTO = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize("unary, image, options, message", (
    (NAN, PHOTO, {}, "1 pixels of the map hold NaN"),
    (GOOD[0], PHOTO, {}, "got float32 \\(4, 5\\)"),
    (GOOD[:, :0], PHOTO, {}, "\\(K,H,W\\)"),
    (GOOD.astype(complex), PHOTO, {}, "real map"),
    (GOOD, PHOTO[:, :4], {}, "image is 4x4, the map 4x5"),
    (GOOD, PHOTO.astype(float), {}, "uint8"),
    (GOOD, PHOTO[..., 0], {}, "uint8 image"),
    (-GOOD, PHOTO, {"probabilities": True}, "not negative"),
    (np.inf * GOOD, PHOTO, {}, "no class of finite cost"),
    (-np.inf * GOOD, PHOTO, {}, "no class of finite cost"),
    (GOOD, PHOTO, {"seeds": np.full((4, 5), 2)}, "no class of 0..1"),
    (GOOD, PHOTO, {"seeds": np.zeros((5, 4), int)}, "seeds must be"),
))
def test_bad_data_is_refused_with_what_was_found(unary, image, options, message):
    with pytest.raises(RecordError, match=message):
        potts(unary, image, **options)


@pytest.mark.parametrize("options", ({"weight": -1}, {"edge": np.nan}, {"tolerance": -1},
                                     {"max_iterations": 0}, {"threads": 0}, {"engine": "gpu"},
                                     {"floor": 2, "probabilities": True}))
def test_bad_parameters_are_usage_errors(options):
    with pytest.raises(UsageError):
        potts(GOOD, PHOTO, **options)
