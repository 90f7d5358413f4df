"""ws-view as its users run it."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import (complaint, keys_of, make_label, make_record, real_data, run, tree,
                            write_place)
from wsseg.errors import ExitStatus
from wsseg.io.record import Record
from wsseg.io.values import ScoreMap
from wsseg.view.colours import class_colour


def read(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_a_directory_holds_one_full_size_overlay_per_record(place, tmp_path):
    labels, photos = place("labels", "label"), place("photos", "image")
    out = tmp_path / "out"
    run(["ws-view", labels, "--images", photos, "-o", out, "--alpha", "0.25"])
    assert sorted(p.name for p in out.glob("*.png")) == [f"img{i:03d}.png" for i in range(6)]
    picture, photo = read(out / "img002.png").astype(float), make_record(2, "image").get("image")
    label = make_label(2)
    assert (picture[label == 0] == photo[label == 0]).all()
    inner = np.zeros(label.shape, bool)
    inner[3:11, 6:13] = True  # the cat without its contour
    mixed = 0.75 * photo[inner] + 0.25 * np.array(class_colour(1))
    assert np.abs(picture[inner] - mixed).max() <= 0.5
    assert (picture[2, 5:14] == class_colour(1)).all()


def test_a_sheet_has_a_row_of_photo_and_places_for_each_record(place, tmp_path):
    run(["ws-view", place("a", "label", "image"), place("b", "boxes"), "-o", tmp_path / "s.png",
         "--width", "64", "--columns", "1", "--limit", "2"])
    sheet = read(tmp_path / "s.png")
    assert sheet.shape[1] == 2 * 20 + 3 * 64 + 2 * 6
    photo_like = np.abs(sheet.astype(int) - (40, 60, 90)).max(2) <= 10
    rows = np.flatnonzero(photo_like[:, 20:84].any(1))
    assert len(rows) == 2 * 48  # two tiles of 64 x 48
    run(["ws-view", place("a2", "label", "image"), "-o", tmp_path / "s.jpg"])
    assert Image.open(tmp_path / "s.jpg").format == "JPEG"


def test_the_records_left_out_are_counted(place, tmp_path):
    source = place("a", "label")
    done = run(["ws-view", source, "-o", tmp_path / "s.html", "--limit", "2"])
    assert "4 more records not shown" in complaint(done)
    assert "4 more records not shown" in (tmp_path / "s.html").read_text()
    stream = run(["ws-cat", source]).stdout
    done = run(["ws-view", "-o", tmp_path / "t.html", "--limit", "2"], stdin=stream)
    assert "4 more records not shown" in complaint(done)
    assert articles(tmp_path / "s.html") == articles(tmp_path / "t.html") == ["img000", "img001"]
    run(["ws-view", source, "-o", tmp_path / "u.html", "--limit", "0"])
    assert len(articles(tmp_path / "u.html")) == 6


def articles(path: Path) -> list[str]:
    return re.findall(r'<a href="#r[0-9a-f]{12}">([^<]*)</a>', path.read_text())


def test_keys_and_limit_work_together(place, tmp_path):
    (tmp_path / "keys").write_text("img001\nimg003\nimg005\n")
    for form in ("a", "a.tar", "a.h5"):
        run(["ws-view", place(form, "label"), "--keys", tmp_path / "keys", "--limit", "2", "-o",
             tmp_path / f"{form}.html"])
        assert articles(tmp_path / f"{form}.html") == ["img001", "img003"]


def test_the_report_tells_how_the_records_were_made(place, tmp_path):
    run(["ws-weaken", place("truth", "label"), "--boxes", "-o", tmp_path / "weak"])
    (tmp_path / "eval.json").write_text(json.dumps(
        {"miou": 0.5, "pixel_accuracy": 0.75, "classes": [{"class": "cat", "iou": 0.25}],
         "records": 6, "failed": 0}))
    (tmp_path / "cost.json").write_text(json.dumps(
        {"rows": [{"name": "boxes", "images": 6, "seconds": 420.0, "days": 0.01}]}))
    run(["ws-view", tmp_path / "weak", "--eval", tmp_path / "eval.json", "--cost",
         tmp_path / "cost.json", "--title", "My boxes", "-o", tmp_path / "r.html"])
    text = (tmp_path / "r.html").read_text()
    assert "<title>My boxes</title>" in text
    assert "<b>ws-weaken</b> --boxes" in text
    assert "50.0&thinsp;%" in text and "width:25.0%" in text
    assert ">420<" in text
    assert "boxes: 1 × cat, 1 × dog" in text
    assert "objects marked" in text


def test_places_are_shown_beside_each_other_even_where_they_lack_a_record(place, tmp_path):
    some = place("some", "label", count=4)
    done = run(["ws-view", place("a", "boxes"), some, "-o", tmp_path / "r.html"])
    assert f"2 of these records are not in {some}" in complaint(done)
    assert (tmp_path / "r.html").read_text().count(">no record<") == 2


def test_places_without_a_common_record_are_a_usage_error(place, tmp_path):
    other = write_place(tmp_path / "other", [Record("elsewhere", {}, names=None)], kinds=())
    done = run(["ws-view", place("a", "label"), other, "-o", tmp_path / "r.html"],
               code=ExitStatus.USAGE)
    assert "no record in common" in complaint(done)


def test_a_pipe_and_a_tar_are_read_side_by_side(place, tmp_path):
    stream = run(["ws-cat", place("a", "label")]).stdout
    run(["ws-view", "-", place("b.tar", "boxes"), "--images", place("p", "image"), "-o",
         tmp_path / "out"], stdin=stream)
    assert read(tmp_path / "out" / "img000.png").shape == (24, 32 + 6 + 32, 3)


def test_nested_keys_make_folders(tmp_path):
    record = make_record(0, "label")
    record.key = "berlin/one.5"
    run(["ws-view", write_place(tmp_path / "a", [record], kinds=["label"]), "-o",
         tmp_path / "out"])
    assert [n for n in tree(tmp_path / "out") if n.endswith("png")] == ["berlin/one.5.png"]


def test_keys_cannot_inject_markup(tmp_path):
    record = make_record(0, "label")
    record.key = '<script>alert("x")<'
    names = ("background", "<img src=x onerror=alert(1)>", "dog")
    run(["ws-view", write_place(tmp_path / "a", [record], kinds=["label"], classes=names), "-o",
         tmp_path / "r.html"])
    text = (tmp_path / "r.html").read_text()
    assert text.count("<script>") == 1 and "onerror=alert(1)>" not in text
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;" in text


@pytest.mark.parametrize("suffix", ["", ".png", ".jpg", ".html"])
def test_an_existing_output_is_left_alone(place, tmp_path, suffix):
    source, out = place("a", "label"), tmp_path / f"out{suffix}"
    run(["ws-view", source, "-o", out])
    before = tree(tmp_path)
    done = run(["ws-view", source, "-o", out, "--alpha", "1"], code=ExitStatus.USAGE)
    assert "--overwrite" in complaint(done)
    assert tree(tmp_path) == before
    run(["ws-view", source, "-o", out, "--overwrite"])
    assert tree(tmp_path) == before


@pytest.mark.parametrize("suffix", ["", ".png", ".jpg", ".html"])
def test_jobs_do_not_change_a_byte(place, tmp_path, suffix):
    source = place("a", "label", "image", "boxes")
    for jobs in (1, 4):
        run(["ws-view", source, f"-j{jobs}", "-o", tmp_path / f"j{jobs}" / f"out{suffix}"])
    assert tree(tmp_path / "j1") == tree(tmp_path / "j4")


def test_what_is_an_input_is_never_written_to(place, tmp_path):
    source, photos = place("a", "label"), place("p", "image")
    for out in (source, photos):
        done = run(["ws-view", source, "--images", photos, "-o", out, "--overwrite"],
                   code=ExitStatus.USAGE)
        assert "also an input" in complaint(done)
    assert keys_of(source) == keys_of(photos)


def test_options_of_another_form_are_refused(place, tmp_path):
    for option, value, out in (("--columns", "2", "x.html"), ("--title", "t", "x.png"),
                               ("--eval", __file__, "x"), ("--cost", __file__, "x.png")):
        done = run(["ws-view", place("a" + option, "label"), option, value, "-o", tmp_path / out],
                   code=ExitStatus.USAGE)
        assert f"{option} needs a ." in complaint(done)


def test_a_bad_record_is_left_out_and_said_in_the_picture(place, tmp_path):
    source = place("a", "label")
    victim = Path(source) / "img002.png"
    victim.write_bytes(victim.read_bytes()[:-20])
    done = run(["ws-view", source, "--keep-going", "-o", tmp_path / "r.html"],
               code=ExitStatus.SOME_FAILED)
    assert b"img002: label:" in done.stderr
    assert "1 record failed" in (tmp_path / "r.html").read_text()
    assert "img002" not in articles(tmp_path / "r.html")


def test_a_cut_input_makes_no_picture(place, tmp_path):
    data = run(["ws-cat", place("a", "label")]).stdout
    for name in ("r.html", "s.png"):
        run(["ws-view", "-o", tmp_path / name], stdin=data[:-1024], code=ExitStatus.INCOMPLETE)
        assert not (tmp_path / name).exists()


def test_photos_of_another_size_are_refused_by_name(place, tmp_path):
    record = make_record(0)
    record.set("image", np.zeros((10, 10, 3), np.uint8))
    photos = write_place(tmp_path / "p", [record], kinds=["image"])
    done = run(["ws-view", place("a", "label", count=1), "--images", photos, "-o",
                tmp_path / "out"], code=ExitStatus.FAILED)
    assert "img000: sizes differ: label 24x32, photo 10x10" in complaint(done)


def test_help_is_there_at_once():
    times = []
    for _ in range(5):
        start = time.perf_counter()
        run("ws-view --help")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.3


def test_help_imports_nothing_heavy():
    import subprocess

    code = ("import sys; import wsseg.cli.view; "
            "print([m for m in ('numpy', 'PIL', 'cv2', 'h5py') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.stdout.strip() == b"[]"


def test_real_photos_make_a_small_report(tmp_path):
    voc = real_data("VOC2012")
    run(["ws-view", voc / "SegmentationClass", "--images", voc / "JPEGImages", "--classes", "voc",
         "--limit", "6", "-o", tmp_path / "r.html"])
    assert (tmp_path / "r.html").stat().st_size < 6 * 120_000
    assert "aeroplane" in (tmp_path / "r.html").read_text()


def test_heat_maps_of_the_strongest_classes_stand_side_by_side(tmp_path):
    records = []
    for i in range(2):
        record = make_record(i, "image")
        data = np.zeros((2, 6, 8), np.float16)
        data[i, 2:4, 2:6] = 1
        record.set("cam", ScoreMap(data, np.array([1, 2]), (24, 32)))
        records.append(record)
    place = write_place(tmp_path / "cams", records, kinds=["cam", "image"])
    run(["ws-view", place, "--heat", "2", "-o", tmp_path / "h.html"])
    page = (tmp_path / "h.html").read_text()
    assert "cams: 1." in page and "cams: 2." in page and "cat from 0.00 to 1.00" in page
    run(["ws-view", place, "--class", "cat", "--class", "dog", "-o", tmp_path / "c.html"])
    page = (tmp_path / "c.html").read_text()
    assert "cams: cat" in page and "cams: dog" in page
    done = run(["ws-view", place, "--class", "cat", "--heat", "1", "-o", tmp_path / "x.html"],
               code=ExitStatus.USAGE)
    assert "--class and --heat exclude each other" in complaint(done)
