"""A report in one HTML file that any browser opens: no network, nothing beside it.

Every text from outside (keys, class names, arguments, figures) passes ``html.escape``, and the
page forbids by its own policy all scripts but the one below.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from string import Template
from typing import Any

from wsseg import __version__
from wsseg.io.supervision import by_kind
from wsseg.view import tables
from wsseg.view.colours import Colour
from wsseg.view.heat import heat_table
from wsseg.view.overlay import HATCH, jpeg, png
from wsseg.view.picture import Views

_SCRIPT = """
(function () {
  var range = document.getElementById("alpha"), said = document.getElementById("said");
  function apply() {
    document.documentElement.style.setProperty("--alpha", range.value / 100);
    said.textContent = range.value + "\\u2009%";
  }
  range.addEventListener("input", apply);
  apply();
  document.getElementById("slider").hidden = false;
})();
"""


def data_uri(data: bytes, kind: str) -> str:
    """Return bytes of an image type (``png``, ``jpeg``) as a URI that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def article(views: Views, headings: Sequence[str], *, photo: bool = True) -> str:
    """Return the figures of one record.

    headings: one per place; photo: show the photo alone as well. The photo is stored once,
    as a CSS variable, and lies under every overlay.
    """
    height, width = views.size
    key, anchor = escape(views.key), hashlib.sha256(views.key.encode()).hexdigest()[:12]
    style = f"--ratio:{max(width / height, 1):.4f}"  # a tall picture in a square
    if views.photo:
        style += f";--photo:url({data_uri(jpeg(views.ground), 'jpeg')})"
    figures = []
    if photo:
        said = "photo" if views.photo else "no photo"
        figures.append(f'<figure><div class="panel" role="img" aria-label="{said} of {key}">'
                       f"</div><figcaption><b>{said}</b></figcaption></figure>")
    for heading, layers in zip(map(escape, headings), views.layers):
        if layers is None:
            figures.append('<figure><div class="panel missing">no record</div>'
                           f"<figcaption><b>{heading}</b></figcaption></figure>")
            continue
        note = escape(layers.note or "nothing to draw")
        figures.append(
            f'<figure><div class="panel">'
            f'<img class="fill" alt="{heading} of {key}: {note}" loading="lazy" '
            f'src="{data_uri(png(layers.fill), "png")}">'
            f'<img class="ink" alt="" src="{data_uri(png(layers.ink), "png")}"></div>'
            f"<figcaption><b>{heading}</b> {note}</figcaption></figure>")
    return (f'<article class="record" id="r{anchor}" style="{style}"><h2><a href="#r{anchor}">'
            f"{key}</a><small>{width} × {height}</small></h2>"
            f'<div class="tiles">{"".join(figures)}</div></article>\n')


def legend(classes: Iterable[tuple[str, Colour]], *, heat: str | None = None) -> str:
    """Return swatches with names. heat: class of the heat maps, which need a scale."""
    items = [f'<li><i{_swatch(colour)}></i>{escape(name)}</li>' for name, colour in classes]
    if heat is not None:
        stops = ",".join(f"rgb{tuple(c)}" for c in heat_table(9).tolist())
        items.append(f'<li>{escape(heat)} 0<i class="scale" style="background:'
                     f'linear-gradient(90deg,{stops})"></i>1</li>')
    return f'<ul class="legend" aria-label="Classes">{"".join(items)}</ul>' if items else ""


def _swatch(colour: Colour) -> str:
    return ' class="hatch"' if colour == HATCH else f' style="background:rgb{colour}"'


@dataclass
class Page:
    """A report, to which articles are added one by one.

    title: of the page; places: name -> source, read to its end when ``encode`` is called;
    tiles: figures of a record; alpha: opacity that the overlays start with; measured, priced:
    what ws-eval and ws-budget wrote.
    """

    title: str
    places: Mapping[str, Any]
    tiles: int = 2
    alpha: float = 0.5
    measured: Mapping[str, Any] | None = None
    priced: Mapping[str, Any] | None = None
    _articles: list[str] = field(default_factory=list)

    def add(self, record: str) -> None:
        """Add what ``article`` returned."""
        self._articles.append(record)

    def _sections(self) -> str:
        steps = {name: s.header.history for name, s in self.places.items()}
        spent = {name: by_kind(s.header.supervision, s.end.given if s.end else {})
                 for name, s in self.places.items()}
        cards = (tables.card("Scores", tables.scores(self.measured), wide=True)
                 if self.measured is not None else "",
                 tables.card("How it was made", tables.history(steps)),
                 tables.card("Labels that people gave", tables.supervision(spent)),
                 tables.card("Cost", tables.table(self.priced["rows"]))
                 if self.priced is not None else "")
        return f'<div class="cards">{"".join(cards)}</div>' if any(cards) else ""

    def encode(self, classes: Iterable[tuple[str, Colour]] = (), *, heat: str | None = None,
               notes: Sequence[str] = ()) -> bytes:
        """Return the whole file. classes, heat: see ``legend``; notes: what a reader must know
        before looking."""
        folder = resources.files("wsseg.view")
        digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
        count = len(self._articles)
        return Template((folder / "report.html").read_text("utf-8")).substitute(
            title=escape(self.title), version=escape(__version__),
            lead=f"{count:,} record{'s' * (count != 1)}",
            notes="".join(f'<p class="note" role="note">{escape(n)}</p>' for n in notes),
            sections=self._sections(), legend=legend(classes, heat=heat), tiles=self.tiles,
            alpha=f"{self.alpha:.2f}", percent=round(100 * self.alpha),
            records="".join(self._articles), style=(folder / "report.css").read_text("utf-8"),
            script=_SCRIPT, script_hash=f"sha256-{digest}").encode()
