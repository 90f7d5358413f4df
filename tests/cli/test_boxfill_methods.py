"""ws-boxfill by seg, proposal, agree and best."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.annotate.test_grabcut import scene
from tests.cli.boxfilling import NEW, SIZE, boxed, disc_place, fill, iou, needs_higra
from tests.cli.test_info import info, run
from tests.conftest import complaint, tree, write_place
from wsseg.io.header import Header, Total
from wsseg.io.places import open_sink
from wsseg.io.record import Record
from wsseg.io.values import Boxes, ScoreMap


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setenv("WSSEG_JOBS", "1")


@pytest.fixture(scope="module")
def disc(tmp_path_factory) -> tuple[Path, np.ndarray]:
    return disc_place(tmp_path_factory.mktemp("disc"))


@pytest.mark.parametrize("method", NEW)
def test_workers_change_nothing(method, place, tmp_path):
    source = place("p", "boxes", "image")
    for jobs in ("1", "2"):
        fill(source, tmp_path / jobs, "--method", method, "--instances", "-j", jobs)

    assert tree(tmp_path / "1") == tree(tmp_path / "2")


@pytest.mark.parametrize("method", NEW)
def test_every_method_finds_the_object(method, disc, tmp_path):
    source, mask = disc
    record, = fill(source, tmp_path / "out", "--method", method, "--instances")

    label, value = record.get("label"), record.get("instance")
    known = label != 255
    assert iou((label == 2) & known, mask & known) > 0.8
    np.testing.assert_array_equal(value.ids > 0, label == 2)
    assert (label[:5] == 0).all() and [(s.id, s.cls) for s in value.segments] == [(1, 2)]


@pytest.mark.parametrize("method", ["rect", "grabcut", *NEW])
def test_an_image_without_boxes_is_background_by_every_method(method, tmp_path):
    image, _ = scene(SIZE, (15, 10), 6)
    source = write_place(tmp_path / "p", [boxed([], [], image=image)])

    record, = fill(source, tmp_path / "out", "--method", method)

    assert record.get("label").shape == SIZE and not record.get("label").any()


@pytest.mark.parametrize("method", ["rect", "grabcut", *NEW])
def test_outside_may_be_unknown_by_every_method(method, disc, tmp_path):
    source, mask = disc
    label = fill(source, tmp_path / "out", "--method", method, "--outside",
                 "ignore")[0].get("label")

    assert set(np.unique(label)) == {2, 255} and mask[label == 2].mean() > 0.5


def test_scores_of_boxes_go_to_their_segments(tmp_path):
    record = Record("a")
    record.set("boxes", Boxes(np.array([[1., 1, 5, 5], [8, 8, 12, 12]]), np.array([1, 2]), SIZE,
                              np.array([0.25, 0.75])))
    out, = fill(write_place(tmp_path / "p", [record]), tmp_path / "out", "--method", "rect",
                "--instances")

    assert [(s.id, s.score) for s in out.get("instance").segments] == [(1, .25), (2, .75)]


@pytest.mark.parametrize("method", ["seg", pytest.param("best", marks=needs_higra)])
def test_probabilities_say_what_the_labels_say(method, disc, tmp_path):
    source, _ = disc
    record, = fill(source, tmp_path / "out", "--method", method, "--write", "both")

    score, label = record.get("score"), record.get("label")
    assert score.classes.tolist() == [0, 2] and score.data.shape == (2, *label.shape)
    np.testing.assert_allclose(score.data.astype(float).sum(axis=0), 1, atol=2e-3)
    sure = abs(score.data[1].astype(float) - 0.5) > 1e-3
    np.testing.assert_array_equal((score.data[1] > 0.5)[sure], (label == 2)[sure])


def test_parameters_of_seg_come_from_a_preset(disc, tmp_path):
    source, _ = disc
    scores = [fill(source, tmp_path / name, "--method", "seg", "--preset", name, "--write",
                   "score")[0].get("score").data for name in ("wssl", "dsrg")]

    assert not np.array_equal(*scores)
    assert info(tmp_path / "wssl")["history"][-1]["parameters"]["crf"]["rgb_sigma"] == 5


@needs_higra
@pytest.mark.parametrize("rule, alike", [("inside", 0.95), ("node", 0.95)])
def test_boundary_maps_take_the_place_of_the_gradient(rule, alike, disc, tmp_path):
    source, mask = disc
    eroded = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    (tmp_path / "edges").mkdir()
    Image.fromarray(np.where(mask & ~eroded, 254, 0).astype(np.uint8)).save(
        tmp_path / "edges/a.png")

    record, = fill(source, tmp_path / "out", "--method", "proposal", "--rule", rule,
                   "--boundaries", tmp_path / "edges")

    assert iou(record.get("label") == 2, mask) > 0.9 and record.kinds() == {"label"}


@needs_higra
def test_strict_agreement_labels_no_more_than_the_paper_s(disc, tmp_path):
    source, _ = disc
    strict, paper = (fill(source, tmp_path / c, "--method", "agree", "--consent", c)[0]
                     .get("label") for c in ("strict", "paper"))

    assert ((strict == 2) <= (paper == 2) | (paper == 255)).all()
    assert (strict == 2).sum() <= (paper == 2).sum() + 20


@pytest.mark.parametrize("words, message", [
    (["--write", "score"], "--method grabcut has no probabilities"),
    (["--preset", "wssl"], "--preset is for the dense CRF of --method seg"),
    (["--boundaries", "x"], "--boundaries is for --method"),
    (["--method", "seg", "--preset", "scribbles-potts"], "is for --method potts"),
    (["--method", "seg", "--preset", "nothing"], "no preset 'nothing'")])
def test_options_of_another_method_are_usage_errors(words, message, place, tmp_path):
    done = run(["ws-boxfill", place("p", "boxes", "image"), *words, "-o", tmp_path / "out"],
               code=2)

    assert message in complaint(done)


@pytest.mark.parametrize("method", ["proposal", "agree", "best"])
def test_without_higra_the_extra_is_named(method, monkeypatch):
    from wsseg.cli import _boxfill
    from wsseg.errors import UsageError

    monkeypatch.setattr(_boxfill, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs higra: pip install 'wsseg\[proposals\]'"):
        _boxfill.configure(None, None, None, method=method, write="label")


@needs_higra
def test_what_boundaries_were_learnt_from_is_part_of_the_price(disc, tmp_path):
    source, mask = disc
    record = Record("a")
    record.set("score", ScoreMap(np.zeros((1, *mask.shape), np.float16), np.array([1]),
                                 mask.shape))
    header = Header(kinds=("score",), supervision={"masks": (200, 200, 2000)})
    sink, total = open_sink(str(tmp_path / "edges"), header), Total()
    packed = record.pack()
    sink.write(packed, packed.digest)
    total.add(packed.key, packed.digest, packed.supervision)
    sink.finish(total.end(header))

    fill(source, tmp_path / "out", "--method", "proposal", "--boundaries", tmp_path / "edges")

    assert info(tmp_path / "out")["supervision"] == {"masks": [200, 200, 2000]}


@needs_higra
@pytest.mark.parametrize("words, said", [(["best"], True), (["agree"], True),
                                         (["agree", "--consent", "paper"], False),
                                         (["proposal"], False)])
def test_that_a_slower_engine_does_it_is_said(words, said, disc, monkeypatch, tmp_path):
    from wsseg.refine import densecrf

    monkeypatch.setattr(densecrf, "native", lambda: None)
    monkeypatch.setattr(densecrf, "find_spec", lambda name: None)  # torch: numpy is here sooner
    done = run(["ws-boxfill", disc[0], "--method", *words, "-o", tmp_path / "out"])

    assert ("native kernels are not built here" in done.stderr.decode()) == said


@needs_higra
def test_the_history_does_not_hold_where_boundaries_and_report_lay(disc, tmp_path):
    source, mask = disc
    for name in ("one", "two"):
        (tmp_path / name / "edges").mkdir(parents=True)
        Image.fromarray(np.uint8(mask)).save(tmp_path / name / "edges/a.png")
        fill(source, tmp_path / name / "out", "--method", "proposal", "--boundaries",
             tmp_path / name / "edges", "--report", tmp_path / name / "counts.json")

    assert tree(tmp_path / "one/out") == tree(tmp_path / "two/out")
    entry = info(tmp_path / "one/out")["history"][-1]
    assert entry["arguments"] == ["--method", "proposal", "--boundaries", "edges"]
