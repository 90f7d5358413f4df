"""ws-weaken: strong labels to weak ones."""

from __future__ import annotations

from functools import partial

import click

from wsseg.cli import _options
from wsseg.cli._command import tool
from wsseg.errors import UsageError

_SHARE = click.FloatRange(0, 1, min_open=True)
WEAK = ("tags", "counts", "boxes", "points", "scribbles")


@tool("ws-weaken")
@click.option("--tags", is_flag=True, help="Make image tags: the classes that occur.")
@click.option("--counts", is_flag=True, help="Make the number of objects of each class.")
@click.option("--boxes", is_flag=True, help="Make the tight box of each object.")
@click.option("--points", is_flag=True, help="Make one point in each object, deep inside.")
@click.option("--scribbles", is_flag=True, help="Make scribbles in objects and background.")
@click.option("--crops", metavar="ROWSxCOLUMNS", help="Cut each record into a grid of parts, "
              "records of their own that are labelled each; with --images their photos too.")
@click.option("--crop-share", type=(_SHARE, _SHARE), default=(400 / 1024, 500 / 2048),
              metavar="H W", help="Height and width of a part, as shares of the whole "
              "[default: 400/1024 and 500/2048, panoptic-2018's of Cityscapes for 3x5].")
@click.option("--count", type=click.IntRange(0), metavar="N",
              help="Leave N records strong, chosen at random; the rest are weakened. A larger N "
              "contains a smaller one.")
@click.option("--fraction", type=click.FloatRange(0, 1), metavar="F",
              help="Leave each record strong with probability F.")
@click.option("--part", type=click.Choice(["both", "strong", "weak"]), default="both",
              show_default=True, help="Which part of a strong/weak mixture to write.")
@click.option("--subset-seed", type=int, default=0, show_default=True,
              help="Chooses which records stay strong.")
@click.option("--seed", type=int, default=0, show_default=True,
              help="Of scribbles and random points.")
@click.option("--stroke-width", type=click.IntRange(1, 99), default=3, show_default=True,
              metavar="PIXELS", help="Width of a scribble's strokes.")
@click.option("--strokes", type=click.IntRange(1, 50), metavar="N",
              help="Strokes in each object where there is room, twice as many in the background. "
              "[default: by its size, one to three]")
@click.option("--coverage", type=click.FloatRange(0, .25, min_open=True), default=.03,
              show_default=True, metavar="SHARE", help="Share of the labelled pixels to "
              "scribble on. Every object gets a dot at least.")
@click.option("--sloppy", type=click.FloatRange(0, .3), default=0, show_default=True,
              metavar="SHARE", help="Share of scribbled pixels that lie on another class, because "
              "some strokes run on over the border.")
@click.option("--along", metavar="PLACE", help="Scribble where the scribbles of PLACE are, "
              "each pixel with its true class. A record is refused if a class of it is not "
              "scribbled (scribbles-2019 leaves those out: --keep-going).")
@click.option("--random-points", is_flag=True, help="Points anywhere in the object.")
@click.option("--min-area", type=click.IntRange(1), default=16, show_default=True,
              metavar="PIXELS", help="Smaller parts of a label map are no objects of their own.")
@_options.flow(images=True)
def main(flow, tags, counts, boxes, points, scribbles, crops, crop_share, count, fraction, part,
         subset_seed, seed, stroke_width, strokes, coverage, sloppy, along, random_points,
         min_area):
    """Make weak labels from strong ones, as an annotator would have given them.

    INPUT holds label maps or instance maps. Without instance maps, objects are the connected
    components of each class: touching objects of one class count as one. The result's
    supervision is that of the weak labels, so its price is what they would have cost.

    Scribbles are strokes like a hand's, on every object, on the stuff of panoptic maps and on
    the background. Unless --sloppy, none leaves its class. They depend on --seed and key only.

    With --crops tags tell more of where things are, and cost as much for each part as for an
    image. The result is a set of small images: train and evaluate on them as on any.

    With --count or --fraction some records keep their strong labels: a semi-supervised set.

    \b
    Examples:
      ws-weaken SegmentationClass --classes voc --boxes -o boxes/
      ws-weaken masks/ --tags --counts --points -o weak.h5
      ws-weaken masks/ --scribbles --sloppy .015 -o scribbles/
      ws-weaken masks/ --scribbles --along scribblesup/ --keep-going -o curated/
      ws-weaken fine/ --images leftImg8bit --crops 3x5 --tags -o crops.h5
      ws-weaken masks/ --boxes --count 100 --subset-seed 3 -o semi/
      ws-weaken masks/ --boxes | ws-boxfill --images JPEGImages -o filled/
    """
    from wsseg.cli import _weaken

    wanted = [k for k, on in zip(WEAK, (tags, counts, boxes, points, scribbles)) if on]
    source = _weaken.cut(flow, crops, crop_share)
    chosen = _weaken.choose(flow, source, count, fraction, subset_seed)
    _weaken.check(wanted, chosen, part)
    if part != "both":
        flow.only = chosen if part == "strong" else chosen.weak
    if along is not None:
        if "scribbles" not in wanted:
            raise UsageError("--along is for --scribbles")
        flow.join(along, "extra", {"scribble"})
    pen = {"width": stroke_width, "strokes": strokes, "coverage": coverage, "sloppy": sloppy}
    step = partial(_weaken.step, wanted=wanted, strong=chosen, seed=seed, pen=pen,
                   random_points=random_points, min_area=min_area, keep=flow.keep,
                   along=along is not None)
    kinds = ["scribble" if k == "scribbles" else k for k in wanted]
    masks = ("instance", "label")
    strong = () if chosen is None or part == "weak" else \
        [k for k in masks if k in (source.header.kinds or masks)]
    return flow.run(step, source, reads=() if strong else ("label", "instance"),
                    writes=(*kinds, *strong))


if __name__ == "__main__":
    main()
