"""ws-boxfill: boxes to masks."""

from __future__ import annotations

from functools import partial

import click

from wsseg.cli import _options
from wsseg.cli._command import tool
from wsseg.errors import UsageError

METHODS = ("rect", "seg", "grabcut", "proposal", "agree", "best")


@tool("ws-boxfill")
@click.option("--method", type=click.Choice(METHODS), default="grabcut", show_default=True,
              help="How a box becomes a mask; see below.")
@click.option("--iterations", type=click.IntRange(1), default=5, show_default=True,
              help="Most iterations of grabcut; it stops when the mask stays the same.")
@click.option("--margin", type=click.FloatRange(0), default=0.5, show_default=True,
              help="grabcut, agree: surroundings that the background is learnt from, as a share "
              "of the box's longer side.")
@click.option("--min-fill", type=click.FloatRange(0, 1), show_default="0.1; best: 0.3",
              help="If grabcut finds less of the box than this, the whole box is taken; with "
              "agree, none of it.")
@click.option("--alpha", type=click.FloatRange(0, 1), show_default="0.2, or the preset's",
              help="seg: share of the box that its core has.")
@click.option("--preset", metavar="NAME", show_default="wssl", help="seg: alpha and parameters "
              "of the dense CRF, a name that ws-crf knows or a file that ws-fit wrote.")
@click.option("--rule", type=click.Choice(["inside", "node"]), default="inside",
              show_default=True, help="proposal, agree: all largest regions inside the box, or "
              "the one whose box fits best (panoptic-2018).")
@click.option("--boundaries", metavar="PLACE", help="proposal, agree, best: boundary maps (score "
              "or cam maps of one class, or grey PNG), instead of the photo's gradient.")
@click.option("--consent", type=click.Choice(["strict", "paper"]), default="strict",
              show_default=True, help="agree: paper as panoptic-2018, which leaves the rest of a "
              "box unknown; strict labels less of objects, more precisely.")
@click.option("--outside", type=click.Choice(["background", "ignore"]),
              help="What lies outside all boxes [default: background, or ignore where the "
              "classes have no background].")
@click.option("--instances", is_flag=True, help="Also write instance maps, one id for each box.")
@click.option("--write", type=click.Choice(["label", "score", "both"]), default="label",
              show_default=True, help="seg, best: labels, probabilities, or both.")
@click.option("--drop-bad", is_flag=True, help="Leave out, and count, boxes that are empty, turned "
              "or outside their image, which are an error otherwise.")
@click.option("--report", metavar="FILE", type=click.Path(dir_okay=False),
              help="Write the counts of odd boxes as JSON.")
@_options.flow(images=True)
def main(flow, preset, boundaries, drop_bad, report, **options):
    """Turn boxes into masks.

    INPUT holds boxes, and with --images the photos. Every box is filled by itself, then all
    are painted from the largest to the smallest, so the smallest box wins where they overlap.
    GrabCut falls back to the whole box where it finds nothing, where it finds less than
    --min-fill of it, or where a box leaves no surroundings to learn the background from.
    Of equal boxes the last one wins; what leaves the image is cut off at its border; a box that
    is empty, turned or outside the image is an error, or left out with --drop-bad. Odd boxes,
    and those in which nothing was found, are counted and told at the end.

    \b
    Methods:
      rect      the whole box
      seg       Bbox-Seg: core, and a dense CRF                wssl-2015, 3.3
      grabcut   colours of box and surroundings, cut with a graph
      proposal  regions of a hierarchy that fit the box        (needs wsseg[proposals])
      agree     where GrabCut and proposal agree, else 255     panoptic-2018, 3.2
      best      GrabCuts and proposal vote, a soft cut settles (needs wsseg[proposals])

    \b
    Examples:
      ws-boxfill boxes/ --images JPEGImages -o masks/
      ws-boxfill boxes/ --images JPEGImages --method best -o masks/
      ws-boxfill boxes/ --images JPEGImages --method seg --preset fitted.json -o masks/
      ws-weaken masks/ --boxes | ws-boxfill --images JPEGImages | ws-eval - masks/
    """
    from wsseg.cli import _boxfill
    from wsseg.cli._boxcensus import Census
    from wsseg.cli._tally import Tally

    _boxfill.forget_places(flow, boundaries, report)
    settings = _boxfill.configure(flow, preset, boundaries, **options)
    source = flow.open()
    if settings.method != "rect" and flow.images is None and source.header.kinds and \
            "image" not in source.header.kinds:
        raise UsageError(f"--method {settings.method} needs the photos: name their folder with "
                         "--images")
    flow.join_images()
    _boxfill.join_boundaries(flow, boundaries)
    with Tally.new() as tally:
        flow.wrap = census = Census(tally, drop_bad)  # before anything looks at the boxes
        flow.portable = True
        status = flow.run(partial(_boxfill.fill, settings=settings, tally=tally), source,
                          reads=("boxes", "image", *(_boxfill.BOUNDARIES if boundaries else ())),
                          writes=settings.writes)
        census.report(flow, report)
    return status


if __name__ == "__main__":
    main()
