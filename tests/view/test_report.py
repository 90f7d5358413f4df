"""The report is one safe file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from wsseg.errors import UsageError
from wsseg.io.header import End, Header
from wsseg.view import tables
from wsseg.view.look import Look
from wsseg.view.overlay import HATCH
from wsseg.view.picture import views
from wsseg.view.report import Page, article, legend

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
VOID = {"meta", "img", "input", "br", "link"}


class Outline(HTMLParser):
    """Collects elements and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag):
        return [a for t, a in self.elements if t == tag]


def some_views(key="2007_000001", names=("background", "cat"), photo=True):
    labels = np.zeros((30, 40), np.uint8)
    labels[5:20, 5:20] = 1
    pixels = np.full((30, 40, 3), 120, np.uint8) if photo else None
    return views(key, pixels, [{"label": labels}, None], [Look(names)] * 2, None)


def page(articles=(), **parts):
    source = SimpleNamespace(header=Header(history=parts.pop("history", ())),
                             end=parts.pop("end", None))
    result = Page(parts.pop("title", "Masks"), {parts.pop("name", "masks"): source},
                  **{k: parts.pop(k) for k in ("measured", "priced", "alpha") if k in parts})
    for one in articles:
        result.add(one)
    return result.encode(**parts).decode()


def test_the_file_refers_to_nothing_outside():
    text = page([article(some_views(), ["masks", "truth"])],
                classes=[("cat", (64, 0, 0)), ("ignored", HATCH)], heat="cat")
    assert "http://" not in text and "https://" not in text
    for tag, attributes in Outline(text).elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert attributes.get(name, "#").startswith(("data:image/", "#")), (tag, name)
    assert all(u.startswith("data:") for u in re.findall(r"url\(([^)]*)", text))
    assert "@import" not in text


def test_only_its_own_script_may_run():
    text = page()
    policy, = (a["content"] for a in Outline(text).all("meta")
               if a.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", text, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_text_from_outside_is_escaped_everywhere():
    end = End(1, 0, "", "", {EVIL: (1, 2, 3)})
    history = ({"tool": EVIL, "arguments": ["--x", EVIL]}, "not an entry", {"arguments": 7})
    views_of = some_views(EVIL, ("background", EVIL))
    text = page([article(views_of, [EVIL, EVIL])], title=EVIL, name=EVIL, history=history,
                end=end, classes=[(EVIL, (1, 2, 3))], heat=EVIL, notes=[EVIL],
                measured={"miou": EVIL, "classes": [{"class": EVIL, "iou": EVIL}]},
                priced={"rows": [{EVIL: EVIL}]})
    outline = Outline(text)
    assert len(outline.all("script")) == 1
    assert not any(name.startswith("on") for _, a in outline.elements for name in a)
    assert all(a["src"].startswith("data:") for a in outline.all("img"))
    assert "".join(outline.text).count("<script>alert(1)") >= 10


def test_a_photo_is_stored_once_whatever_the_number_of_places():
    text = article(some_views(), ["masks", "truth"])
    assert text.count("data:image/jpeg") == 1
    assert text.count("data:image/png") == 2  # fill and ink of one place; the other lacks it
    assert "no record" in text


def test_pictures_have_alternative_texts():
    outline = Outline(article(some_views("some/key"), ["masks", "truth"]))
    fill, ink = outline.all("img")
    assert fill["alt"] == "masks of some/key: cat 19%"
    assert ink["alt"] == ""  # says the same as the fill below it
    assert {"photo of some/key"} == {a["aria-label"] for a in outline.all("div")
                                     if "aria-label" in a}


def test_the_images_inside_are_the_layers():
    drawn = some_views()
    text = article(drawn, ["masks"])
    uri = re.search(r'class="fill".*?base64,([^"]+)', text)[1]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("RGBA"))
    assert (image == drawn.layers[0].fill).all()


def test_a_record_without_photo_says_so():
    text = article(some_views(photo=False), ["masks"])
    assert "--photo" not in text and "no photo of" in text
    assert "aria-label" not in article(some_views(), ["masks"], photo=False)


def test_it_is_readable_without_script():
    outline = Outline(page(alpha=0.25))
    slider, = outline.all("label")
    assert "hidden" in slider  # shown by the script that makes it work
    assert outline.all("html")[0]["style"] == "--alpha:0.25"


def test_history_and_labels_are_shown():
    text = page(history=({"tool": "ws-weaken", "arguments": ["--boxes", "--n", "a b"]},),
                end=End(14, 0, "", "", {"boxes": (14, 20, 31)}))
    words = " ".join("".join(Outline(text).text).split())
    assert "ws-weaken --boxes --n 'a b'" in words
    assert "boxes masks 14 20 31" in re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text))


def test_no_empty_section_is_shown():
    assert "<section" not in page()


def test_scores_show_means_and_a_bar_per_class():
    text = tables.scores({"miou": 0.7125, "pixel_accuracy": 0.9, "records": 1449, "failed": 0,
                          "classes": [{"class": "cat", "iou": 0.5}, {"class": "dog", "iou": None},
                                      {"class": "odd", "iou": 7}]})
    assert "71.2&thinsp;%" in text or "71.3&thinsp;%" in text
    assert "1,449" in text
    assert re.findall(r"width:([\d.]+)%", text) == ["50.0", "0.0", "100.0"]
    assert "–" in text


def test_a_table_has_whatever_columns_the_rows_have():
    text = tables.table([{"name": "boxes", "seconds": 12345.6, "days": 0.4287},
                         {"name": "masks", "extra_key": True, "days": None}])
    heads = re.findall(r"<th scope=\"col\"[^>]*>([^<]*)", text)
    assert heads == ["name", "seconds", "days", "extra key"]
    cells = re.findall(r"<t(?:d|h scope=.row.)[^>]*>([^<]*)", text)
    assert cells == ["boxes", "12,346", "0.429", "–", "masks", "–", "–", "yes"]
    Outline(text)


def test_files_of_other_tools_are_checked(tmp_path):
    file = tmp_path / "x.json"
    assert tables.load(None, "rows") is None
    file.write_text(json.dumps({"rows": [{"a": 1}]}))
    assert tables.load(str(file), "rows") == {"rows": [{"a": 1}]}
    for bad in ("{", "[]", '{"rows": 3}', '{"rows": [3]}', '{"classes": []}', '{"rows": NaN}'):
        file.write_text(bad)
        with pytest.raises(UsageError, match="x.json"):
            tables.load(str(file), "rows")
    with pytest.raises(UsageError, match="none.json: No such file"):
        tables.load(str(tmp_path / "none.json"), "rows")


def test_the_legend_explains_colours_hatch_and_scale():
    text = legend([("cat", (64, 0, 0)), ("ignored", HATCH)], heat="cat")
    assert "rgb(64, 0, 0)" in text and 'class="hatch"' in text and "linear-gradient" in text
    assert legend([]) == ""


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on PATH")
def test_a_browser_shows_it_and_runs_its_script(tmp_path):
    (tmp_path / "r.html").write_text(page([article(some_views(), ["masks", "truth"])],
                                          classes=[("cat", (0, 200, 0))]), "utf-8")
    common = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
              "--no-first-run", "--disable-background-networking", "--disable-component-update",
              "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}"]
    address = (tmp_path / "r.html").as_uri()
    done = subprocess.run([*common, "--dump-dom", address], capture_output=True, timeout=120)
    assert done.returncode == 0
    slider = re.search(r"<label[^>]*>", done.stdout.decode())[0]
    assert "hidden" not in slider  # the page's own script passed its policy
    shot = tmp_path / "shot.png"
    subprocess.run([*common, f"--screenshot={shot}", "--window-size=900,700", address],
                   capture_output=True, timeout=120, check=True)
    pixels = np.asarray(Image.open(shot).convert("RGB"))
    assert pixels.shape == (700, 900, 3)
    mixed = np.rint((np.array([120, 120, 120]) + [128, 0, 0]) / 2)  # photo under class 1
    assert (np.abs(pixels - mixed).max(2) <= 3).sum() > 500
    assert (pixels == (0, 200, 0)).all(2).sum() > 50  # the legend
