"""ws-crf: maps that follow the photo's edges."""

from __future__ import annotations

import os
from functools import partial

import click

from wsseg.cli import _options
from wsseg.cli._command import tool
from wsseg.errors import UsageError

_POSITIVE = click.FloatRange(0, min_open=True)
_WEIGHT = click.FloatRange(0)


@tool("ws-crf")
@click.option("--method", type=click.Choice(["dense", "potts"]), help="dense: fully connected "
              "CRF, mean field. potts: total variation over the simplex [default: the preset's].")
@click.option("--preset", metavar="NAME", help="Parameters of a paper (below) or a file that "
              "ws-fit wrote [default: deeplab, or scribbles-potts].")
@click.option("--iterations", type=click.IntRange(0), help="Mean-field iterations; for potts, "
              "the most that are made.")
@click.option("--gauss-weight", type=_WEIGHT, help="dense: weight of the smoothness kernel.")
@click.option("--gauss-sigma", type=_POSITIVE, help="dense: its deviation in pixels.")
@click.option("--rgb-weight", type=_WEIGHT, help="dense: weight of the appearance kernel.")
@click.option("--xy-sigma", type=_POSITIVE, help="dense: its deviation in pixels.")
@click.option("--rgb-sigma", type=_POSITIVE, help="dense: its deviation in grey levels.")
@click.option("--weight", type=_WEIGHT, help="potts: lambda, nats for a pixel of boundary and "
              "class.")
@click.option("--edge", type=_WEIGHT, help="potts: eta, how much an edge of the photo lowers it.")
@click.option("--tolerance", type=_POSITIVE, help="potts: relative duality gap to stop at.")
@click.option("--relative", type=_POSITIVE, metavar="PIXELS", help="The lengths are for photos "
              "whose longer side is PIXELS (VOC: 500): scale them, and lambda, with each photo.")
@click.option("--use", type=click.Choice(["score", "cam", "label"]),
              help="Start from this kind [default: the first of these that a record has].")
@click.option("--confidence", type=click.FloatRange(0, 1, min_open=True), show_default="0.7",
              help="labels: probability of the pixel's own class.")
@click.option("--background-power", type=_POSITIVE, show_default="1",
              help="cams: background = (1 - largest activation) to this power.")
@click.option("--min-prob", type=click.FloatRange(0, 1), default=0.05, show_default=True,
              help="Without tags, leave out classes that nowhere reach this probability.")
@click.option("--all-classes", is_flag=True, help="Leave out no class: slower, nearly the same.")
@click.option("--write", type=click.Choice(["both", "label", "score"]), default="both",
              show_default=True, help="Maps to write.")
@click.option("--engine", type=click.Choice(["auto", "native", "torch", "numpy", "pydensecrf"]),
              default="auto", show_default=True, help="What computes it; auto: the first that "
              "is here of native, torch and numpy.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
              help="Threads for one image, where a few large ones are refined.")
@click.option("--device", metavar="DEVICE", help="torch: cpu, cuda or cuda:N.")
@_options.flow(images=True)
def main(flow, method, preset, use, **options):
    """Regularise score, cam or label maps with the photo.

    INPUT holds the maps, and with --images the photos. Scores of a lower resolution are brought
    to the photo's size bilinearly. A pixel of 255 in a label map says nothing, and is filled.

    Only the classes that can occur enter: those of the record's tags and the background, or
    without tags those that reach --min-prob somewhere. It is several times faster.

    \b
    Presets (smoothness: deviation, weight; -v prints all parameters):
      wssl             dense  xy 49, rgb 5, weight 4; smoothness 3, 3   script of wssl-2015
      deeplab          dense  xy 67, rgb 3, weight 4; smoothness 3, 3   DeepLab v2 for VOC
      dsrg             dense  xy 80, rgb 13, weight 10; smoothness 3, 3 code of DSRG
      scribbles-dense  dense  xy 30, rgb 5, weight 3; smoothness 2, 5   scribbles-2019, 5.4
      scribbles-potts         potts  lambda 10, eta .01   scribbles-2019, supplement 5.3
      scribbles-potts-global  potts  lambda 50, eta .01   the same, global annotator alone

    Ten mean-field iterations are not converged: their number is part of the result.

    \b
    Examples:
      ws-crf scores.h5 --images JPEGImages -o refined/
      ws-crf scores.h5 --images JPEGImages --method potts --write label -o pfa/
      ws-boxfill boxes/ --images JPEGImages | ws-crf --images JPEGImages --write label -o masks/
      ws-crf masks/ --images JPEGImages --preset fitted.json --rgb-sigma 7 -o masks2/
    """
    from wsseg.cli import _refining

    source = flow.open()
    if flow.images is None and source.header.kinds and "image" not in source.header.kinds:
        raise UsageError("ws-crf needs the photos: name their folder with --images")
    flow.join_images()
    settings = configure(flow, method, preset, use, options)
    return flow.run(partial(_refining.step, settings=settings), source,
                    reads=("score", "cam", "label", "conf", "image"), writes=settings.writes)


def configure(flow, method, preset, use, options):
    """Return the Settings of a run; say, record and price what they come from."""
    from wsseg.cli import _refining

    rest, given = _refining.option_values(options)
    method, parameters, flow.spent = _refining.resolve(method, preset, given)
    settings, note = _refining.resolve_engine(_refining.Settings(
        method, parameters, order=(use,) if use else _refining.MAPS, **rest))
    if note:
        flow.env.say(note)
    flow.env.say(f"{method} ({settings.engine}): " + ", ".join(
        f"{k} {v:g}" for k, v in parameters.items()), 1)
    flow.parameters.update(method=method, parameters=parameters)
    if preset:  # where a file lies is no part of how a result was made
        flow.parameters["preset"] = os.path.basename(preset)
        flow.arguments = [os.path.basename(a) if a == preset else a for a in flow.arguments]
    if settings.engine == "torch" and settings.device not in (None, "cpu"):
        flow.jobs = 1  # one process feeds the GPU
    return settings


if __name__ == "__main__":
    main()
