"""ws-rfpam: scribbles into soft maps, by a random forest for each photo."""

from __future__ import annotations

from functools import partial

import click

from wsseg.cli import _options
from wsseg.cli._command import tool
from wsseg.errors import UsageError


@tool("ws-rfpam")
@click.option("--features", metavar="NAME", default="auto", show_default=True, help="What pixels "
              "are told apart by: classical, vgg16, alexnet, efficientnet, a FILE of kernels "
              "(.npz, .safetensors, .pt; mean and scale in it normalise the photo), or several "
              "with + between. auto: classical.")
@click.option("--position/--no-position", default=True, show_default=True,
              help="Also where a pixel lies.")
@click.option("--forest", "kind", type=click.Choice(["random", "extra"]), default="extra",
              show_default=True, help="extra: extremely randomised trees. random: as in the paper.")
@click.option("--trees", type=click.IntRange(1), default=50, show_default=True,
              help="Trees of a forest.")
@click.option("--keep-features", type=click.IntRange(0), default=100, show_default=True,
              metavar="N", help="Fit again on the N features of highest Gini importance; 0: fit "
              "once, on all.")
@click.option("--min-leaf", type=click.IntRange(1), default=1, show_default=True,
              help="Least scribbled pixels in a leaf: more make softer maps.")
@click.option("--max-pixels", type=click.IntRange(1), default=10000, show_default=True,
              help="Learn from so many scribbled pixels at most, each class's share kept.")
@click.option("--clamp/--no-clamp", default=True, show_default=True,
              help="A scribbled pixel has its class for certain.")
@click.option("--use", type=click.Choice(["scribble", "points", "boxes"]),
              help="Learn from these [default: the first of them that a record has].")
@click.option("--point-radius", type=click.FloatRange(0, 1000), default=3, show_default=True,
              metavar="PIXELS", help="points: of the disc drawn around each.")
@click.option("--frame", type=click.IntRange(0), default=3, show_default=True, metavar="PIXELS",
              help="points: where none is of the background, draw it along the photo's border.")
@click.option("--box-core", type=click.FloatRange(0, 1, min_open=True), default=0.4,
              show_default=True, help="boxes: share of width and height, in the middle, that is "
              "drawn.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of everything random.")
@click.option("--write", type=click.Choice(["score", "label", "both"]), default="score",
              show_default=True, help="Maps to write.")
@click.option("--engine", type=click.Choice(["auto", "native", "sklearn"]), default="auto",
              show_default=True, help="What predicts; auto: native if it was built.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
              help="Threads that predict one image, where a few large ones are worked on.")
@_options.flow(images=True)
def main(flow, features, **options):
    """Turn scribbles into soft maps, with a random forest for each photo.

    INPUT holds scribbles, points or boxes, and with --images the photos. Every photo has a
    forest of its own, which learns the scribbled pixels and tells how probable the classes
    scribbled in that photo are at every other. It is the local annotator of scribbles-2019.

    Points are drawn as discs, with the photo's border as background. Boxes are drawn as their
    middle, with what no box covers as background. A photo with one class scribbled has that
    class everywhere, and is counted; one with none is an error (see --keep-going).

    The weights of vgg16 and alexnet are torchvision's, fetched when first used. Torchvision's
    AlexNet has 64 kernels in its first layer where the paper's has 96.

    \b
    Examples:
      ws-rfpam scribbles/ --images JPEGImages -o local.h5
      ws-rfpam scribbles/ --images JPEGImages | ws-crf --images JPEGImages --method potts -o pfa/
      ws-weaken masks/ --points | ws-rfpam --images JPEGImages --write label -o masks2/
      ws-rfpam scribbles/ --images JPEGImages --features vgg16+alexnet --forest random -o paper/
    """
    from wsseg.cli import _rfpam
    from wsseg.cli._tally import Tally

    source = flow.open()
    if flow.images is None and source.header.kinds and "image" not in source.header.kinds:
        raise UsageError("ws-rfpam needs the photos: name their folder with --images")
    settings = _rfpam.configure(flow, features, options)
    flow.join_images()
    with Tally.new() as lone:
        status = flow.run(partial(_rfpam.step, settings=settings, lone=lone), source,
                          reads=("scribble", "points", "boxes", "image"), writes=settings.writes)
        _rfpam.report_lone(lone, flow.env)
    return status


if __name__ == "__main__":
    main()
