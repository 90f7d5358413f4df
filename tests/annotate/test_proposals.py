"""Regions of a hierarchy: against what their rules say, decided node by node."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("higra")

from tests.annotate.test_grabcut import BOX, DISC, IMAGE, inside, iou  # noqa: E402
from wsseg.annotate.proposals import SMALLEST, Hierarchy, build, gradient  # noqa: E402


@pytest.fixture(scope="module")
def regions() -> Hierarchy:
    return build(gradient(IMAGE))


@pytest.fixture(scope="module")
def nodes(regions) -> list[np.ndarray]:
    """The pixels of every node."""
    return [(regions.numbers >= a) & (regions.numbers < b)
            for a, b in zip(regions.first, regions.last)]


def test_boxes_and_areas_are_those_of_the_pixels(regions, nodes):
    for mask, box, area in zip(nodes, regions.boxes, regions.areas):
        ys, xs = np.nonzero(mask)
        assert [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] == box.tolist()
        assert mask.sum() == area >= SMALLEST


def test_every_node_lies_in_its_parent_and_the_last_is_the_image(regions, nodes):
    assert nodes[-1].all() and regions.parents[-1] == len(nodes) - 1
    for i, parent in enumerate(regions.parents[:-1]):
        assert parent > i and not (nodes[i] & ~nodes[parent]).any()


@pytest.mark.parametrize("box", [BOX, (0, 0, 100, 80), (10, 5, 60, 40), (40, 30, 44, 33)])
@pytest.mark.parametrize("tolerance, least", [(2, .02), (0, 0), (5, .2)])
def test_inside_is_the_union_of_all_nodes_that_lie_in_the_box(box, tolerance, least, regions,
                                                              nodes):
    x0, y0, x1, y1 = box
    fits = [bool(b[0] >= x0 - tolerance and b[1] >= y0 - tolerance and b[2] <= x1 + tolerance
                 and b[3] <= y1 + tolerance) for b in regions.boxes]
    expected = np.zeros(DISC.shape, bool)
    for i, mask in enumerate(nodes):
        above = regions.parents[i]
        if fits[i] and (above == i or not fits[above]) \
                and mask.sum() >= least * (x1 - x0) * (y1 - y0):
            expected |= mask
    found = regions.propose(box, tolerance=tolerance, least=least)
    if found is None:
        assert not inside(expected, box).any()
    else:
        np.testing.assert_array_equal(found, inside(expected, box))


def test_node_is_the_one_whose_box_fits_best(regions, nodes):
    for box in (BOX, (10, 5, 60, 40), (0, 0, 100, 80)):
        ious = []
        for a in regions.boxes.astype(int):
            w = max(0, min(a[2], box[2]) - max(a[0], box[0]))
            h = max(0, min(a[3], box[3]) - max(a[1], box[1]))
            union = (a[2] - a[0]) * (a[3] - a[1]) + (box[2] - box[0]) * (box[3] - box[1]) - w * h
            ious.append(w * h / union)
        largest = max(i for i, v in enumerate(ious) if v == max(ious))
        np.testing.assert_array_equal(regions.propose(box, rule="node"),
                                      inside(nodes[largest], box))


@pytest.mark.parametrize("rule", ["inside", "node"])
def test_a_disc_is_found_in_its_box(rule, regions):
    assert iou(regions.propose(BOX, rule=rule), inside(DISC)) > 0.85


def test_a_box_of_nothing_is_taken_whole():
    halves = np.zeros((20, 20))
    halves[:, 10] = 1
    regions = build(halves)
    assert regions.propose((3, 3, 5, 5)) is None
    assert regions.propose_or_whole((3, 3, 5, 5)).tolist() == [[True, True], [True, True]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 2), (1, 30), (3, 5)])
def test_tiny_images_have_a_hierarchy(shape):
    regions = build(np.random.default_rng(0).random(shape))
    whole = (0, 0, shape[1], shape[0])
    assert regions.propose(whole).all() and regions.propose(whole).shape == shape


@pytest.mark.parametrize("edges", [np.zeros((0, 3)), np.zeros(4), np.full((3, 3), np.nan)])
def test_what_is_no_boundary_map_is_refused(edges):
    with pytest.raises(ValueError, match="boundary map"):
        build(edges)


def test_a_flat_image_has_one_region():
    regions = build(gradient(np.full((30, 30, 3), 90, np.uint8)))
    assert regions.propose((0, 0, 30, 30)).all()


def test_twice_gives_the_same(regions):
    again = build(gradient(IMAGE))
    np.testing.assert_array_equal(again.numbers, regions.numbers)
    np.testing.assert_array_equal(again.boxes, regions.boxes)


@pytest.mark.parametrize("seed", range(3))
def test_the_regions_are_those_of_higra_s_own_graph_of_basins(seed):
    import cv2
    import higra

    noise = np.random.default_rng(seed).random((30, 40))
    edges = cv2.GaussianBlur(noise, (0, 0), 2)
    graph = higra.get_4_adjacency_graph(edges.shape)
    weights = higra.weight_graph(graph, edges, higra.WeightFunction.mean)
    basins = higra.labelisation_watershed(graph, weights)
    touching = higra.make_region_adjacency_graph_from_labelisation(graph, basins)
    passes = higra.rag_accumulate_on_edges(touching, higra.Accumulators.min, weights)
    tree, _ = higra.watershed_hierarchy_by_area(
        touching, passes, vertex_area=np.bincount(basins.ravel())[1:].astype(float))
    pixels = [set() for _ in range(tree.num_vertices())]
    for i, basin in enumerate((basins - 1).ravel().tolist()):
        pixels[basin].add(i)
    for node in range(tree.num_vertices() - 1):
        pixels[tree.parent(node)] |= pixels[node]

    regions = build(edges)

    numbers = regions.numbers.ravel()
    found = {frozenset(np.flatnonzero((numbers >= a) & (numbers < b)).tolist())
             for a, b in zip(regions.first, regions.last)}
    assert len(found) > 10 and found == {frozenset(p) for p in pixels if len(p) >= SMALLEST}


def test_basins_that_touch_are_joined_at_their_lowest_pass():
    from wsseg.annotate.proposals import _neighbours

    rng = np.random.default_rng(0)
    basins, edges = rng.integers(0, 5, (7, 9)), rng.random((7, 9))
    lowest = {}
    for y in range(7):
        for x in range(9):
            for v, u in ((y + 1, x), (y, x + 1)):
                if v < 7 and u < 9 and basins[y, x] != basins[v, u]:
                    pair = tuple(sorted((basins[y, x], basins[v, u])))
                    height = (edges[y, x] + edges[v, u]) / 2
                    lowest[pair] = min(height, lowest.get(pair, height))
    (one, other), passes = _neighbours(basins, edges)
    assert dict(zip(zip(one.tolist(), other.tolist()), passes.tolist())) == lowest
