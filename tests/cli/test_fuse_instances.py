"""ws-fuse --rule instance: scores and boxes to instance maps, as its users run it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.fuse_cases import STREET, fused, put, scores
from tests.conftest import complaint, run, write_place
from wsseg.io.places import open_source
from wsseg.io.record import Record
from wsseg.io.values import Boxes, Segment

ROAD, SKY, CAR, PERSON = range(4)
THINGS = ("--things", "car,person")


def boxes(*rows: tuple, size=(1, 8)) -> Boxes:
    """Boxes of (class, score, x0, x1) that are as high as the image."""
    table = np.array(rows, float).reshape(-1, 4)
    xyxy = np.stack([table[:, 2], 0 * table[:, 2], table[:, 3], 0 * table[:, 3] + size[0]], 1)
    return Boxes(xyxy, table[:, 0].astype(int), size, table[:, 1])


@pytest.fixture
def street(tmp_path):
    """Two cars side by side, a person in front of the second, sky and road."""
    value = scores({ROAD: [.1, .1, .1, .1, .1, .1, .1, .7], SKY: [.8, .1, .1, .1, .1, .1, .1, .1],
                    CAR: [.1, .7, .7, .7, .2, .7, .5, .1], PERSON: [0, .1, .1, .1, .6, .1, .3, .1]})
    found = boxes((CAR, .9, 1, 4), (CAR, .8, 3, 7), (PERSON, .9, 4, 5), (PERSON, .6, 0, 1))
    return (put(tmp_path / "scores", "score", value, STREET),
            put(tmp_path / "boxes", "boxes", found, STREET))


def test_a_pixel_goes_to_the_detection_or_stuff_with_most_evidence(street, tmp_path):
    """At x=3 both cars claim it: .7 (1 + .9) beats .7 (1 + .8). The detected person at x=0 is a
    false positive that the scores do not support."""
    value = fused(*street, "--rule", "instance", *THINGS, kind="instance", folder=tmp_path)
    assert value.ids.tolist() == [[6, 1, 1, 1, 3, 2, 2, 5]]
    assert value.segments == (Segment(1, CAR, .9), Segment(2, CAR, .8), Segment(3, PERSON, .9),
                              Segment(5, ROAD, 1., False), Segment(6, SKY, 1., False))


def test_boxes_may_be_named_as_an_input_before_or_behind_or_as_weak_labels(street, tmp_path):
    score, box = street
    first = fused(score, box, "--rule", "instance", *THINGS, kind="instance", folder=tmp_path)
    for words in ((box, score), (score, "--weak", box)):
        again = fused(*words, "--rule", "instance", *THINGS, kind="instance", folder=tmp_path)
        assert np.array_equal(again.ids, first.ids) and again.segments == first.segments
    assert open_source(str(tmp_path / "fused")).get("one").kinds() == {"instance"}


def test_boxes_and_scores_may_come_through_one_pipe(street, tmp_path):
    score, box = street
    stream = run(["ws-cat", box, "-o", "-"]).stdout
    run(["ws-fuse", score, "-", "--rule", "instance", *THINGS, "-o", tmp_path / "out"],
        stdin=stream)
    assert open_source(str(tmp_path / "out")).get("one").get("instance").ids[0, 3] == 1


def test_the_background_is_in_no_segment_and_the_weights_count(tmp_path):
    """The cat's box is wrong by a pixel: the global term finds it, unless it has no weight."""
    score = put(tmp_path / "s", "score", scores({0: [.6, .3, .2, .2], 1: [.4, .7, .8, .8]}))
    box = put(tmp_path / "b", "boxes", boxes((1, .5, 1, 3), size=(1, 4)))
    line = (score, box, "--rule", "instance")
    value = fused(*line, kind="instance", folder=tmp_path)
    assert value.ids.tolist() == [[0, 1, 1, 1]] and value.segments == (Segment(1, 1, .5),)
    value = fused(*line, "--global-weight", "0", kind="instance", folder=tmp_path)
    assert value.ids.tolist() == [[0, 1, 1, 0]]


def test_several_scores_are_averaged_and_no_detection_is_no_thing(tmp_path):
    one = put(tmp_path / "s1", "score", scores({0: [.4, .9], 1: [.6, .1]}))
    two = put(tmp_path / "s2", "score", scores({0: [.8, .2], 1: [.2, .8]}))
    box = put(tmp_path / "b", "boxes", boxes(size=(1, 2)))
    value = fused(one, two, box, "--rule", "instance", kind="instance", folder=tmp_path)
    assert value.ids.tolist() == [[0, 0]] and value.segments == ()


def test_the_pairwise_term_follows_the_photo(tmp_path):
    """Noise in the scores that no edge of the photo supports goes away."""
    size = (12, 20)
    rng = np.random.default_rng(0)
    truth = np.zeros(size, bool)
    truth[3:9, 4:16] = True
    thing = np.clip(np.where(truth, .62, .38) + rng.normal(0, .15, size), .02, .98)
    score = put(tmp_path / "s", "score", scores({0: 1 - thing, 1: thing}))
    box = put(tmp_path / "b", "boxes", Boxes(np.array([[4., 3, 16, 9]]), np.array([1]), size,
                                             np.array([.95])))
    photo = Record("one")
    photo.set("image", np.where(truth[..., None], [200, 80, 40], [40, 80, 90]).astype(np.uint8))
    write_place(tmp_path / "photos", [photo], kinds=["image"])
    line = (score, box, "--rule", "instance")
    alone = fused(*line, kind="instance", folder=tmp_path).ids == 1
    smooth = fused(*line, "--pairwise", "dsrg", "--images", str(tmp_path / "photos"),
                   kind="instance", folder=tmp_path).ids == 1
    assert (alone == truth).mean() < (smooth == truth).mean() == 1
    assert open_source(str(tmp_path / "fused")).get("one").kinds() == {"instance"}


@pytest.mark.parametrize("words, message", [
    (("--rule", "mean", "--box-weight", "2"), "--box-weight has no meaning for --rule mean"),
    (("--rule", "instance", "--write", "label"), "--write has no meaning for --rule instance"),
    (("--rule", "instance", "--min-score", ".5"), "--min-score has no meaning"),
    (("--rule", "instance", "--box-weight", "nan"), "--box-weight is nan, no weight"),
    (("--rule", "instance", "--global-weight", "inf"), "--global-weight is inf, no weight"),
    (("--rule", "instance", "--absent", "ignore"), "it takes --absent zero only"),
    (("--rule", "instance", "--images", "{0}"), "--images is for --pairwise"),
    (("--rule", "instance", "--pairwise", "scribbles-potts"), "is a preset for --method potts"),
    (("--rule", "instance", "--pairwise", "none-such"), "no preset 'none-such'"),
])
def test_options_that_contradict_are_refused(words, message, street, tmp_path):
    done = run(["ws-fuse", *street, *THINGS, *(w.format(street[0]) for w in words), "-o",
                tmp_path / "out"], code=2)
    assert message in complaint(done)


def test_what_is_missing_or_does_not_fit_is_named(street, tmp_path):
    score, box = street

    def refused(*words, code: int) -> str:
        return complaint(run(["ws-fuse", *words, "--rule", "instance", *THINGS, "-o",
                              tmp_path / "out", "--overwrite"], code=code))

    assert "no boxes in any input" in refused(score, code=2)
    assert "needs scores besides the boxes" in refused(box, code=2)
    assert "one: has no photo" in refused(score, box, "--pairwise", "deeplab", code=1)
    wide = put(tmp_path / "wide", "boxes", boxes((CAR, .9, 1, 4), size=(1, 9)), STREET)
    assert "boxes are for a 1x9 image" in refused(score, wide, code=1)
    sure = put(tmp_path / "sure", "boxes", boxes((CAR, 9., 1, 4)), STREET)
    assert "box 0 has a score of 9" in refused(score, sure, code=1)
    photo = Record("one")
    photo.set("image", np.zeros((2, 8, 3), np.uint8))
    write_place(tmp_path / "photos", [photo], kinds=["image"])
    assert "the photo is 2x8" in refused(score, box, "--pairwise", "deeplab", "--images",
                                         tmp_path / "photos", code=1)
    many = put(tmp_path / "many", "boxes", boxes(*[(CAR, .5, 0, 8)] * 65534), STREET)
    assert "65534 boxes and 2 stuff classes are more than ids" in refused(score, many, code=1)
