"""ws-weaken --crops: parts of records against plain slices."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cli.test_info import run
from tests.cli.test_weaken import labelled, segmented
from tests.conftest import complaint, write_place
from wsseg.errors import ExitStatus
from wsseg.io.places import open_source
from wsseg.io.record import Record


@pytest.fixture(autouse=True)
def one_worker(monkeypatch, tmp_path):
    monkeypatch.setenv("WSSEG_JOBS", "1")
    monkeypatch.chdir(tmp_path)


def test_crops_are_records_of_their_own_with_their_own_tags(tmp_path):
    """panoptic-2018's 15 crops of 400x500 in 1024x2048, at a quarter of the size."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, (256 // 16, 512 // 16)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    photo = rng.integers(0, 256, (256, 512, 3)).astype(np.uint8)
    record, image = Record("city"), Record("city")
    record.set("label", label)
    image.set("image", photo)
    place = write_place(tmp_path / "fine", [record], kinds=["label"])
    photos = write_place(tmp_path / "photos", [image], kinds=["image"])
    run(["ws-weaken", place, "--images", photos, "--crops", "3x5", "--tags", "--keep", "label",
         "-o", str(tmp_path / "crops")])
    source = open_source(str(tmp_path / "crops"))
    assert source.header.kinds == ("image", "label", "tags") and source.header.count == 15
    found = {r.key: r for r in source}
    assert set(found) == {f"city@{r}-{c}" for r in range(3) for c in range(5)}
    for r, y in enumerate((0, 78, 156)):
        for c, x in enumerate((0, 97, 194, 290, 387)):
            part = found[f"city@{r}-{c}"]
            expected = label[y:y + 100, x:x + 125]
            assert np.array_equal(part.get("label"), expected)
            assert np.array_equal(part.get("image"), photo[y:y + 100, x:x + 125])
            assert part.get("tags") == tuple(sorted(set(np.unique(expected).tolist()) - {0}))
    spent = sum(len(r.get("tags")) for r in found.values())
    run(["ws-weaken", place, "--crops", "3x5", "--tags", "-o", str(tmp_path / "tags")])
    end = open_source(str(tmp_path / "tags")).end
    assert end.supervision["tags"] == (15, spent, spent)


def test_crops_of_instances_keep_the_segments_that_they_show(tmp_path):
    place = write_place(tmp_path / "in", [segmented(i) for i in range(4)],
                        kinds=["instance", "label"], classes=None)
    (tmp_path / "keys").write_text("r01\nr03\n")
    run(["ws-weaken", place, "--crops", "2x1", "--crop-share", ".5", "1", "--boxes", "--keys",
         str(tmp_path / "keys"), "--keep", "instance", "-o", str(tmp_path / "out.h5")])
    found = {r.key: r for r in open_source(str(tmp_path / "out.h5"))}
    assert set(found) == {f"r0{i}@{r}-0" for i in (1, 3) for r in (0, 1)}
    for number in (1, 3):
        whole = segmented(number).get("instance")
        for row in (0, 1):
            value = found[f"r0{number}@{row}-0"].get("instance")
            ids = whole.ids[20 * row:20 * row + 20]
            assert np.array_equal(value.ids, ids)
            assert {s.id for s in value.segments} == set(np.unique(ids).tolist()) - {0}


@pytest.mark.parametrize("words, said, code", [
    (["--crops", "3"], "--crops 3 is not ROWSxCOLUMNS", ExitStatus.USAGE),
    (["--crops", "0x2"], "--crops 0x2 is not ROWSxCOLUMNS", ExitStatus.USAGE),
    (["--images", "fine"], "--images is for --crops", ExitStatus.USAGE),
    (["--crops", "2x2", "--images", "none"], "r00@0-0: no counterpart in", ExitStatus.FAILED),
])
def test_crops_that_cannot_be_are_one_line(tmp_path, words, said, code):
    place = write_place(tmp_path / "fine", [labelled(0)], kinds=["label"])
    write_place(tmp_path / "none", [], kinds=["image"])
    done = run(["ws-weaken", place, "--tags", "-o", "out", *words], code=code)
    assert said in complaint(done)
