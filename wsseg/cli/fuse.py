"""ws-fuse: several maps to one."""

from __future__ import annotations

from functools import partial

import click

from wsseg.cli import _options
from wsseg.cli._command import tool

SOFT = ("mean", "weighted", "product", "max")
HARD = ("agree", "priority", "smaller-area", "vote")
_NUMBER = click.FloatRange(0)


@tool("ws-fuse")
@click.option("--rule", type=click.Choice((*SOFT, *HARD, "instance")), default="mean",
              show_default=True, help="How the inputs become one; see above.")
@click.option("--weights", metavar="W,...", help="One weight for each input, for weighted and "
              "product.")
@click.option("--use", type=click.Choice(["score", "cam", "label", "instance"]),
              help="Take this kind of every input [default: score first for mean, weighted, "
              "product, max and with --min-score, cam first for smaller-area, else label first].")
@click.option("--confidence", metavar="P,...", help="Probability that a label map gives to its "
              "class; its other classes share the rest. One for all or one for each input "
              "[default: 1].")
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True,
              help="Where a class of a cam begins for the label rules, as a share of its maximum.")
@click.option("--opinions", metavar="WHICH,...", help="What each input is heard on, for the label "
              "rules: all, things or stuff (which includes the background).")
@click.option("--things", metavar="CLASSES", help="Which classes are things: names or ids, or voc, "
              "cityscapes, coco, coco-panoptic [default: known, or all but the background].")
@click.option("--weak", multiple=True, metavar="PLACE",
              help="Where tags and boxes lie, if the inputs do not carry them; may be repeated.")
@click.option("--parts-of", metavar="PLACE", help="INPUT's label maps are of parts that ws-weaken "
              "--crops cut of PLACE's records: place them there, and fuse those of each record.")
@click.option("--min-score", type=click.FloatRange(0, 1), metavar="P",
              help="Pixels whose probability is below P become ignore.")
@click.option("--absent", type=click.Choice(["ignore", "zero"]),
              help="Classes that the record's tags (or counts) lack: their pixels become ignore, "
              "or their probability zero and the others grow.")
@click.option("--outside", type=click.Choice(["ignore", "background", "zero"]),
              help="Things outside the boxes of their class: ignore, background, or probability "
              "zero.")
@click.option("--fill-below", type=click.FloatRange(0, 1), metavar="F",
              help="Fill a thing's box where its class covers less than this share of it.")
@click.option("--instances", is_flag=True, help="Also write instance maps: the pixels of a "
              "thing's class in its box, but for those in two boxes of that class.")
@click.option("--box-weight", type=_NUMBER, help="instance: w1, of being in the box [default: "
              "1].")
@click.option("--global-weight", type=_NUMBER, help="instance: w2, of the class alone [default: "
              "1].")
@click.option("--pairwise", metavar="PRESET", help="instance: also a dense CRF with these "
              "parameters of ws-crf, which needs the photos [default: none].")
@click.option("--reasons", is_flag=True, help="Also write why each pixel is as it is, as conf.")
@click.option("--write", type=click.Choice(["both", "label", "score"]),
              help="Maps to write [default: both for the soft rules, label for the others].")
@_options.flow(many=True, images=True)
def main(flow, rule, weak, parts_of, **options):
    """Fuse several maps of each image into one.

    Each INPUT holds scores, cams, labels or instances of the same images: places are looked up
    by key, streams are read in step, and one input may be -. The records are those of the
    first stream, or else of the first INPUT. One INPUT alone may be cleaned by the options.

    Soft rules make scores, and labels of the largest: mean, weighted (by --weights), product
    (geometric mean) and max are per pixel; product and max are scaled to add up to 1. A class
    that a score map leaves out has probability 0. Scores are brought to the image's size
    bilinearly. cams can be fused with cams only, and make cams.

    Label rules make labels: agree keeps what all inputs say, priority takes the first opinion,
    vote the class with most votes (none where they are equal), and smaller-area the class with
    the smallest region where regions overlap.

    --rule instance takes the mean of scores, and boxes with scores from --weak or another INPUT.
    Each pixel goes to a box (an instance) or to a stuff class by the energy of panoptic-2018,
    eq. 2 to 4, which makes instance maps of things and stuff; the background is in none.

    255, and a score of 0 for all classes, is no opinion: that input does not count there.

    Parts that ws-weaken --crops cut are put together with --parts-of. Where --weak names a
    directory or .h5 file of them, the tags of each part count in that part.

    What happens, in this order: --min-score and --absent (to each input of a label rule, to the
    result of a soft one), the rule, --outside, --fill-below, --instances.

    The examples are P_comb of scribbles-2019, twice; the two networks of dualbranch-2020 with
    lambda .4; from panoptic-2018 the agreement of GrabCut and proposals, the label map of tags,
    things of boxes over stuff of tags, and the six steps of its iterative ground truth, which
    are those above (for PASCAL VOC with --outside background).

    \b
    Codes of --reasons:
      0  as the rule decided            5  below --min-score
      1  no input has an opinion        6  a class that the tags lack
      2  the inputs disagree            7  a thing outside its boxes
      3  equal votes                    8  filled with the class of a box
      4  left out by --opinions         9  in two boxes of its class, so in no instance

    \b
    Examples:
      ws-fuse local.h5 global.h5 --rule mean -o comb.h5
      ws-predict global.pt --images JPEGImages | ws-fuse local.h5 - | ws-crf - --images JPEGImages
      ws-fuse weaknet/ strongnet/ --rule weighted --weights .4,.6 -o twonets/
      ws-fuse grabcut/ proposals/ --rule agree -o agreed/
      ws-fuse cams/ --rule smaller-area --threshold .5 -o tagged/
      ws-fuse crops/ --rule smaller-area --parts-of leftImg8bit -o stuff/
      ws-fuse boxed/ tagged/ --rule priority --opinions things,stuff -o gt0/
      ws-fuse boxed/ predicted/ --rule priority --opinions things,stuff --min-score .99
          --absent ignore --outside ignore --fill-below .5 --instances --weak weak/ -o gt1/
      ws-fuse scores/ detected/ --rule instance --pairwise deeplab --images JPEGImages -o panoptic/
    """
    from wsseg.cli import _fusing, _fusion

    source, plan = _fusion.prepare(flow, rule, weak, options, parts_of)
    return flow.run(partial(_fusing.step, plan=plan), source, reads=plan.reads,
                    writes=plan.writes)


if __name__ == "__main__":
    main()
