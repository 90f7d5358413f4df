"""ws-cam: image tags to class activation maps and labels."""

from __future__ import annotations

import click

from wsseg.cli import _options
from wsseg.cli._command import tool

_SHARE = click.FloatRange(0, 1)


@tool("ws-cam")
@click.argument("model", required=False, metavar="[MODEL]")
@click.argument("input", required=False, metavar="[INPUT]")
@click.option("--cams", metavar="PLACE", help="Label these activation maps, made earlier; then "
              "there is no MODEL.")
@click.option("--method", type=click.Choice(["cam", "gradcam", "gradcam++"]), default="cam",
              show_default=True, help="How activations are weighted.")
@click.option("--scales", default="1", show_default=True, metavar="S,S,...",
              help="Average over these scales of the photo.")
@click.option("--flip", is_flag=True, help="And over its mirror image.")
@click.option("--tags", "tag_place", metavar="PLACE", help="The photos' tags, of an INPUT that "
              "has none.")
@click.option("--all-classes", is_flag=True, help="Maps of all classes, whatever the tags.")
@click.option("--min-prob", type=_SHARE, metavar="P", help="Maps of the classes that the model "
              "finds with this mean probability over --scales and --flip, whatever the tags.")
@click.option("--stride", type=click.IntRange(1, 64), default=4, show_default=True,
              help="Maps are means over cells of so many pixels.")
@click.option("--full", is_flag=True, help="Maps of full size, as --stride 1.")
@click.option("--label", is_flag=True, help="Write label maps, at full size, instead of "
              "activation maps; with --keep cam both.")
@click.option("--threshold", default=".15", show_default=True, metavar="SHARE|FILE",
              help="label: share of its maximum from which a class may be there, of all classes "
              "or of each: a number a line in their order, or lines of name and number, the rest "
              ".15.")
@click.option("--overlap", type=click.Choice(["smaller", "stronger"]), default="smaller",
              show_default=True, help="label: of several classes, the one of the smaller area, "
              "or the more active one.")
@click.option("--background", type=_SHARE, metavar="SHARE", help="label: what is left is "
              "background where no class reaches this share of its maximum.")
@click.option("--saliency", metavar="PLACE", help="label: what is left is background where these "
              "conf maps (grey PNG, 255 the most salient) are low.")
@click.option("--salient", type=_SHARE, default=.06, show_default=True, metavar="SHARE",
              help="label: from which share of 255 something is salient.")
@click.option("--batch", type=click.IntRange(1), help="Photos of one size that go through the "
              "net together [default: 16 on a GPU, else 1]. Changes the last bits of maps.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="fp32",
              show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="torch.compile: slow to start.")
@_options.OUTPUT
@_options.OVERWRITE
@_options.RESUME_RECORDS
@_options.KEEP
@_options.flow(writes=False, images=True, positional=False)
def main(flow, model, cams, **options):
    """Show where the classes of image tags are, with a classifier that ws-train made.

    MODEL is the run of ws-train --task classify. Photos are those of --images, or of INPUT,
    which may hold more, such as the tags: only their classes get maps. Each map is scaled to its
    maximum. Classes may be objects or stuff.

    The classifier ends with global average pooling and a linear layer. So all methods are
    computed without a backward pass, and gradcam's maps are cam's, once they are scaled.

    What no class reaches is 255 in a label map, unless --background or --saliency say that it is
    background. ws-crf takes activation maps too, and refines them with the photo.

    \b
    Examples:
      ws-weaken SegmentationClass --classes voc --tags -o tags/
      ws-train --task classify tags/ --images JPEGImages -o run/
      ws-cam run/ tags/ --images JPEGImages --scales .5,1,1.5,2 --flip -o cams.h5
      ws-cam --cams cams.h5 --label --threshold .3 --background .2 -o seeds/
      ws-crf cams.h5 --images JPEGImages --write label -o refined/
      ws-cam run/ --images JPEGImages --min-prob .5 -o - | ws-view - --images JPEGImages -o x.html
    """
    from wsseg.cli import _cam

    return _cam.run(flow, model, cams, options)


if __name__ == "__main__":
    main()
