"""panoptic-2018's Makefile on two frames, from boxes and tags of crops to tables."""

from __future__ import annotations

import json
import re

import pytest

from tests.test_examples import MAKE, data, planned, quick, voc  # noqa: F401
from tests.test_examples import EXAMPLES, check_module
from wsseg.io.places import open_source
from wsseg.io.supervision import by_kind

pytestmark = pytest.mark.skipif(MAKE is None, reason="no make")
TINY = "--backbone tiny --init none --crop 33 --batch 2 --iterations 1"
NETS = (f"TAGGER={TINY}", f"DETECTOR={TINY} --stride 8 --width 8 --anchors 8,16",
        "ARCH=--backbone tiny --head deeplabv3 --stride 8 --width 8", "STEPS=1",
        "PANOPTIC=--crop 33 --batch 2 --iterations 1 --crf-iterations 2",
        "BOXFILL=--method rect --outside ignore")


def test_weak_frames_become_ground_truth_nets_and_tables(quick, voc, tmp_path):  # noqa: F811
    words = *data("panoptic-2018", voc), f"OUT={tmp_path / 'out'}", "ITERATIONS=1", *NETS

    told = quick("panoptic-2018", "table5", *words)

    assert re.search(r"Table 5: things.*\nrow", told) and re.search(r"weak +40\.5 +\d", told)
    assert re.search(r"weak / full +85\.6 .* all", told)
    assert re.search(r"(holds|does not hold|cannot tell) +masks beat boxes and tags", told)
    assert planned("panoptic-2018", "table5", *words) == []
    found = json.loads((tmp_path / "out" / "table5-ap-stuff.json").read_text())
    assert found["results"][0]["ranking"] == "confidence"
    first = open_source(str(tmp_path / "out" / "gt" / "iteration-0-0.tar"))
    for record in first:  # the car fills its box, in which alone it may be
        label = record.get("label")
        assert (label[16:48, 30:60] == 13).all() and not (label[:, 90:] == 13).any()
    for made in ("gt/iteration-1-0.tar", "after-1/panoptic/weak-0.tar"):
        source = open_source(str(tmp_path / "out" / made))
        assert list(source) and "masks" not in by_kind(source.header.supervision,
                                                       source.end.given), made


def test_shares_and_further_scores_stand_beside_the_papers(tmp_path):
    """FS% of table 4: weak divided by full, of all and of things; a class without truth counts
    not."""
    expected = json.loads((EXAMPLES / "panoptic-2018" / "expected.json").read_text())["table4"]
    rows = {"weak": (.5, .3, .6), "full": (.6, .4, None)}
    (tmp_path / "scores.json").write_text(json.dumps({"results": [
        {"prediction": f"o/{row}-0.tar", "miou": miou, "interval": {"miou": [0, 1]}, "extra": .25,
         "classes": [{"class": "car", "iou": car}, {"class": "bus", "iou": bus},
                     {"class": "road", "iou": .9}]} for row, (miou, car, bus) in rows.items()]}))
    expected["at"] = {"extra": {"weak": 1.0}}
    expected["orderings"] = []
    lines = [line.split() for line in check_module().report("T", expected, str(
        tmp_path / "scores.json"))]
    assert ["weak", "68.2", "45.0", "things"] in lines
    assert ["full", "70.4", "40.0", "things"] in lines
    assert ["full", "72.4", "90.0", "stuff"] in lines
    assert ["weak", "1.0", "25.0", "extra"] in lines
    assert ["weak", "/", "full", "88.8", "83.3", "%", "all"] in lines
    assert ["weak", "/", "full", "96.9", "112.5", "%", "things"] in lines
