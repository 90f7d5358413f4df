"""ws-fit: parameters from a few strong labels."""

from __future__ import annotations

import click

from wsseg.cli import _options
from wsseg.cli._command import tool


@tool("ws-fit")
@click.argument("maps", metavar="INPUT")
@click.argument("truth", metavar="TRUTH")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), metavar="FILE",
              help="The preset file to write.")
@_options.OVERWRITE
@_options.RESUME
@click.option("--vary", multiple=True, metavar="NAME=V,V,...", help="Values of a parameter of "
              "ws-crf or ws-boxfill to try; may be repeated [default: the grid of wssl-2015].")
@click.option("--search", type=click.Choice(["grid", "coordinate"]), default="grid",
              show_default=True, help="All combinations, or one parameter at a time.")
@click.option("--sweeps", type=click.IntRange(1), default=3, show_default=True,
              help="coordinate: times through all parameters, at most.")
@click.option("--method", type=click.Choice(["dense", "potts", "seg"]), help="dense, potts: as "
              "for ws-crf. seg: as for ws-boxfill; INPUT holds boxes.")
@click.option("--preset", metavar="NAME", help="Where the search begins, and the parameters it "
              "leaves alone, as for ws-crf.")
@click.option("--use", type=click.Choice(["score", "cam", "label"]), help="As for ws-crf.")
@click.option("--relative", type=click.FloatRange(0, min_open=True), metavar="PIXELS",
              help="As for ws-crf; the preset file does not hold it.")
@click.option("--min-prob", type=click.FloatRange(0, 1), default=0.05, show_default=True,
              help="As for ws-crf.")
@click.option("--engine", type=click.Choice(["auto", "native", "torch", "numpy", "pydensecrf"]),
              default="auto", show_default=True, help="As for ws-crf.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="Use N strongly labelled "
              "images only, drawn at random; more of them contain fewer.")
@click.option("--subset-seed", type=int, default=0, show_default=True, help="Draw others.")
@_options.JSON
@_options.flow(writes=False, images=True, positional=False)
def main(flow, maps, truth, method, preset, use, relative, min_prob, engine,
         as_json, **options):
    """Find the parameters of ws-crf or ws-boxfill that suit some data, by a few strong labels.

    INPUT holds the maps that ws-crf is to refine, or with --method seg the boxes that ws-boxfill
    is to fill, TRUTH label maps of some of the same images. Each combination of --vary is scored
    by its mIoU on them. The best is written as a preset for ws-crf --preset FILE, or ws-boxfill
    --method seg --preset FILE, which then counts the masks used here as its supervision too.

    Parameters: rgb-weight, xy-sigma, rgb-sigma, gauss-weight, gauss-sigma, iterations (dense,
    seg); alpha (seg); weight, edge, tolerance, iterations (potts); confidence, background-power
    (dense, potts).

    \b
    Examples:
      ws-fit scores.h5 SegmentationClass --images JPEGImages --count 100 -o fitted.json
      ws-fit masks/ truth/ --images JPEGImages --vary confidence=.6,.7,.8,.9
          --vary rgb-sigma=3,5,8,13 --vary xy-sigma=30,50,80 --search coordinate -o fitted.json
      ws-crf scores.h5 --images JPEGImages --preset fitted.json -o refined/
      ws-fit boxes/ SegmentationClass --images JPEGImages --count 100 --method seg
          --search coordinate -o seg.json
      ws-boxfill boxes/ --images JPEGImages --method seg --preset seg.json -o masks/
    """
    from wsseg.cli import _fit_tasks, _fitting

    flow.inputs = (maps, truth)
    source, strong = flow.open(maps), flow.open(truth, as_kind="label")
    photos = flow.join_images()
    task = _fit_tasks.choose(flow, method, preset, use, relative=relative, min_prob=min_prob,
                             engine=engine)
    preset = _fitting.run(flow, source, strong, photos, task, options)
    flow.env.out(_fitting.as_json(preset) if as_json else
                 _fitting.as_table(preset, flow.output))
    return flow.status()


if __name__ == "__main__":
    main()
