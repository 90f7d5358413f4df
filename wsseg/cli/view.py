"""ws-view: pictures for people."""

from __future__ import annotations

import os
from functools import partial

import click

from wsseg.cli import _options
from wsseg.cli._command import tool
from wsseg.errors import UsageError

_FORMS = {".png": "sheet", ".jpg": "sheet", ".jpeg": "sheet", ".html": "page", ".htm": "page"}
_WIDTH = {"sheet": 300, "page": 480}
_LIMIT = {"sheet": 100, "page": 100}


@tool("ws-view")
@click.option("-o", "--output", required=True, metavar="PLACE",
              help="A .png or .jpg file for a contact sheet, a .html file for a report, or a "
                   "directory for one picture per record.")
@_options.OVERWRITE
@click.option("--alpha", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Opacity of the maps over the photo.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND",
              help="Draw only this kind of map or label; may be repeated.")
@click.option("--class", "heat", multiple=True, metavar="NAME",
              help="Draw scores and activations as a heat map of this class; may be repeated.")
@click.option("--heat", "ranks", type=click.IntRange(1, 20), metavar="N",
              help="Draw heat maps of the N strongest classes of each record.")
@click.option("--width", type=click.IntRange(32, 4096), metavar="PIXELS",
              help="Width of each picture.  [default: 300 in a sheet, 480 in a report, full size "
                   "in a directory]")
@click.option("--columns", type=click.IntRange(1, 100), metavar="N",
              help="Records side by side in a sheet.  [default: as many as make 4 pictures]")
@click.option("--limit", type=click.IntRange(0), metavar="N",
              help="Show the first N records, 0 for all.  [default: 100 in a sheet or report]")
@click.option("--title", help="Title of a report.")
@click.option("--eval", "scores", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
              help="Show what ws-eval --json measured, in a report.")
@click.option("--cost", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
              help="Show what ws-budget cost --json computed, in a report.")
@_options.flow(many=True, writes=False, images=True)
def main(flow, alpha, kinds, heat, ranks, width, columns, limit, title, scores, cost):
    """Draw records for people to look at.

    The first INPUT (default: standard input) says which records are shown; other INPUTs show
    the same records beside it. The suffix of the output decides the form: a contact sheet, a
    report that any browser opens, or a directory of overlays.

    \b
    Examples:
      ws-view SegmentationClass --images JPEGImages --classes voc -o masks.html
      ws-boxfill boxes/ --images JPEGImages |
          ws-view - SegmentationClass --images JPEGImages --limit 24 -o compare.png
      ws-view cams.h5 --class dog --images JPEGImages -o dogs/
      ws-view cams.h5 --heat 2 --images JPEGImages -o strongest.html
    """
    form = _FORMS.get(os.path.splitext(flow.output)[1].lower(), "folder")
    if heat and ranks:
        raise UsageError("--class and --heat exclude each other")
    _check_form(form, sheet={"--columns": columns},
                page={"--title": title, "--eval": scores, "--cost": cost})
    from wsseg.view.beside import Beside, Limit, check_common
    from wsseg.view.gallery import Gallery
    from wsseg.view.output import OneFile, PictureFolder, check_output
    from wsseg.view.tables import load

    photos = () if flow.images is None else (flow.images,)
    path = check_output(flow.output, (*flow.inputs, *photos))
    out = (PictureFolder if form == "folder" else OneFile)(path, flow.mode == "overwrite")
    measured, priced = load(scores, "classes"), load(cost, "rows")
    sources = [flow.open(place) for place in flow.inputs]
    gallery = Gallery.of(flow.inputs, sources, images=bool(photos), classes=flow.classes,
                         heat=heat, ranks=ranks or 0, kinds=kinds)
    others = sources[1:] + [flow.open(place, as_kind="image") for place in photos]
    keys = flow.selected(sources[0])
    check_common(flow.inputs[0], keys, others)
    flow.only = Limit((_LIMIT.get(form) if limit is None else limit) or None, keys)
    flow.wrap = Beside(others)
    width = width or _WIDTH.get(form)
    results = flow.map(partial(_draw, form, gallery, width, alpha), sources[0])
    picture = None
    if form == "sheet":
        picture = _sheet(gallery, width, columns, path.suffix)
    elif form == "page":
        picture = _page(gallery, sources, title, alpha, measured, priced)
    seen = set()
    for key, drawn, found in results:
        out.write(key, drawn) if picture is None else picture.add(drawn)
        seen |= found
    status = flow.status()  # an input that was cut makes no picture
    notes = gallery.notes() + flow.wrap.notes() + flow.only.notes()
    for note in notes:
        flow.env.say(note)
    if picture is not None:
        if flow.failed:
            notes.append(f"{flow.failed} record{'s' * (flow.failed > 1)} failed and left out")
        out.write(picture.encode(gallery.legend(seen), heat=gallery.heat, notes=notes))
    return status


def _check_form(form, **options):
    """Refuse options that are for another form of output."""
    for needs, given in options.items():
        for name, value in given.items():
            if value is not None and form != needs:
                suffix = ".html" if needs == "page" else ".png or .jpg"
                raise UsageError(f"{name} needs a {suffix} output")


def _sheet(gallery, width, columns, suffix):
    from wsseg.view.sheet import Sheet

    return Sheet(gallery.columns, width, columns, suffix.lower() != ".png")


def _page(gallery, sources, title, alpha, measured, priced):
    from wsseg.view.report import Page

    names = gallery.headings
    return Page(title or ", ".join(names) or "photos",
                {n: sources[i] for n, i in zip(names, gallery.panels)},
                len(gallery.columns), alpha, measured, priced)


def _draw(form, gallery, width, alpha, record):
    """Draw one record, in a worker. Returns its key, its part of the output, and what it shows."""
    from wsseg.view.overlay import png
    from wsseg.view.report import article
    from wsseg.view.sheet import cell, strip

    box = None if width is None else (width * 3 // 4 if form == "sheet" else width, width)
    views = gallery.views(record, box)
    if form == "page":
        drawn = article(views, gallery.headings, photo=gallery.photo)
    elif form == "sheet":
        drawn = cell([views.ground] * gallery.photo + views.tiles(alpha), width, views.key)
    else:
        drawn = png(strip(views.tiles(alpha), views.ground))
    return views.key, drawn, views.seen


if __name__ == "__main__":
    main()
