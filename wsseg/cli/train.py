"""ws-train: labels into a segmentation net."""

from __future__ import annotations

import click

from wsseg.cli import _options
from wsseg.cli._command import tool
from wsseg.cli._recipe import RECIPE
from wsseg.cli._tasks import TASK

_POSITIVE = click.FloatRange(0, min_open=True)
_NUMBER = click.FloatRange(0)
_COUNT = click.IntRange(1)
_SHARE = click.FloatRange(0, 1)

_DATA = (
    click.option("--weak", "weak", multiple=True, metavar="PLACE", help="More images with weak "
                 "labels; those of INPUT among them are left out. May be repeated."),
    click.option("--weak-loss", type=click.Choice(["labels", "em-fixed", "em-adapt", "bbox-em",
                                                   "mil-max", "mil-lse", "dsrg", "sec"]),
                 default="labels",
                 show_default=True, help="How weak images are learnt from."),
    click.option("--use", type=click.Choice(["label", "scribble", "tags", "boxes"]),
                 help="Kind of INPUT's labels [default: label, or scribble if it has no labels; "
                 "classify: tags, boxes, label, scribble]."),
    click.option("--conf", is_flag=True, help="Weight pixels by the records' conf maps."),
    click.option("--join-classes", is_flag=True, help="Places may have different classes; those "
                 "of one name share their weights (Cross-Joint)."),
    click.option("--val", metavar="PLACE", help="Label maps to evaluate on while training."),
    click.option("--val-images", metavar="PLACE", help="Their photos [default: --images]."),
    click.option("--val-every", type=_COUNT, metavar="STEPS", help="[default: a tenth of the "
                 "run]"),
    click.option("--select", type=click.Choice(["last", "best"]), default="last",
                 show_default=True, help="Which net becomes model.safetensors; best uses --val."),
)
_NET = (
    click.option("--backbone", default="resnet101", show_default=True, help="vgg16, resnet50, "
                 "resnet101, xception65, efficientnet-lite0, -lite1 or -lite2."),
    click.option("--head", default="aspp", show_default=True, help="largefov, aspp, deeplabv3, "
                 "deeplabv3plus, pspnet, conv6 or fcn."),
    click.option("--stride", type=click.Choice(["8", "16", "32"]), default="8",
                 show_default=True, help="Output stride of the backbone; not for rsis, wrsis "
                 "and --fpn."),
    click.option("--width", type=_COUNT, help="Channels of the head [default: the paper's]."),
    click.option("--fov", type=click.Choice(["128", "224"]), default="224", show_default=True,
                 help="largefov: field of view."),
    click.option("--msc", is_flag=True, help="Three scales, the greatest score of each pixel."),
    click.option("--dropout", type=click.FloatRange(0, 1, max_open=True)),
    click.option("--frozen-norm", is_flag=True, help="Hold the backbone's batch norms still."),
    click.option("--dual", is_flag=True, help="Two branches, for strong and for weak labels."),
    click.option("--shared", type=click.IntRange(0, 8), default=3, show_default=True,
                 help="dual: convolutions that both share (n)."),
    click.option("--init", default="imagenet", show_default=True, metavar="imagenet|none|FILE",
                 help="Weights to start from; the labels behind a model of wsseg count as used. "
                 "With --head fcn also a classifier of these classes (--task classify), all of "
                 "it."),
)
_WEAK = (
    click.option("--em-bias", type=(_NUMBER, _NUMBER), default=(5., 3.), show_default=True,
                 metavar="FG BG", help="em-fixed, bbox-em: what listed classes are given."),
    click.option("--em-portions", type=(_SHARE, _SHARE), default=(.2, .4), show_default=True,
                 metavar="FG BG", help="em-adapt: share of the image of each listed class."),
    click.option("--em-passes", type=_COUNT, default=5, show_default=True,
                 help="em-adapt: times through the classes."),
    click.option("--em-forbid", is_flag=True, help="em-fixed, bbox-em: rule out classes that "
                 "are not listed."),
    click.option("--mil-form", type=click.Choice(["pixel", "image", "sigmoid"]),
                 default="pixel", show_default=True),
    click.option("--dsrg-thresholds", type=(_SHARE, _SHARE), default=(.85, .99),
                 show_default=True, metavar="FG BG", help="dsrg: probabilities above which "
                 "regions grow."),
)
_OBJECTS = (
    click.option("--from-components", is_flag=True, help="rsis, wrsis: objects are the connected "
                 "components of label maps, where a place has no instances."),
    click.option("--max-objects", type=click.IntRange(1, 200), default=10, show_default=True,
                 help="rsis, wrsis: steps of the decoder."),
    click.option("--class-from", type=_NUMBER, metavar="EPOCHS", help="rsis: when the loss of "
                 "classes sets in [default: after a fifth of the run]."),
    click.option("--stop-from", type=_NUMBER, metavar="EPOCHS", help="rsis: when that of stops "
                 "does [default: half way]."),
    click.option("--patience", type=_COUNT, metavar="N", help="rsis: the loss of stops sets in "
                 "when that on --val has not fallen N times, from the best weights."),
    click.option("--token-at", type=click.Choice(["first", "all", "film"]), default="first",
                 show_default=True, help="wrsis: ConvLSTMs that are told an object's class."),
    click.option("--token-order", type=click.Choice(["class", "count", "random"]),
                 default="class", show_default=True, help="wrsis: order of the classes told."),
    click.option("--matching", type=click.Choice(["masked", "plain"]), default="masked",
                 show_default=True, help="wrsis: masks are paired with objects of their class, "
                 "or any."),
)
_DETECT = (
    click.option("--fpn", is_flag=True, help="detect: a feature pyramid over strides 4 to 64, "
                 "instead of one level of --stride."),
    click.option("--anchors", metavar="S,S,...", help="detect: sides of the anchors in pixels; "
                 "five with --fpn [default: 16,32,64,128,256]."),
    click.option("--rois", type=_COUNT, default=512, show_default=True, help="detect: proposals "
                 "of an image that its box head learns from; fewer are faster on a CPU."),
    click.option("--detections", metavar="PLACE", help="instance: boxes with scores for the "
                 "images [default: those around the true things]."),
    click.option("--things", metavar="CLASSES", help="instance: which classes are things, as for "
                 "ws-fuse."),
    click.option("--crf-iterations", type=_COUNT, default=5, show_default=True,
                 help="instance: of mean-field."),
    click.option("--crf-stride", type=click.IntRange(1, 32), default=4, show_default=True,
                 help="instance: the CRF is trained on cells of so many pixels."),
    click.option("--piecewise", is_flag=True, help="instance: train the CRF's weights alone, not "
                 "the segmentation net of --init."),
)
_RUN = (
    click.option("--epochs", type=_POSITIVE, default=20, show_default=True,
                 help="Times through INPUT (without it, through --weak); through both, and the "
                 "repeats, with --oversample."),
    click.option("--iterations", type=_COUNT, help="Steps, instead of --epochs."),
    click.option("--batch", type=_COUNT, default=10, show_default=True, help="Images of a "
                 "batch, over all processes."),
    click.option("--accumulate", type=_COUNT, default=1, show_default=True,
                 help="Batches of a step (Caffe's iter_size)."),
    click.option("--ratio", metavar="S:W", help="Strong and weak images of a batch [default: "
                 "as many as there are of each; 1:1 with --dual]."),
    click.option("--oversample", type=_COUNT, default=1, show_default=True,
                 help="Without --ratio: draw strong images so many times as often."),
    click.option("--lr", type=_POSITIVE, default=2.5e-4, show_default=True,
                 help="Learning rate of the backbone."),
    click.option("--new-rate", type=_POSITIVE, default=10, show_default=True,
                 help="New layers learn so many times as fast."),
    click.option("--bias-rate", type=_NUMBER, default=20, show_default=True,
                 help="And their biases."),
    click.option("--optimizer", type=click.Choice(["sgd", "adam", "adamw"]), default="sgd",
                 show_default=True),
    click.option("--momentum", type=_SHARE, default=.9, show_default=True),
    click.option("--weight-decay", type=_NUMBER, default=5e-4, show_default=True),
    click.option("--l2sp", type=(_NUMBER, _NUMBER), metavar="ALPHA BETA",
                 help="L2-SP instead of weight decay."),
    click.option("--schedule", type=click.Choice(["poly", "step", "constant"]), default="poly",
                 show_default=True),
    click.option("--power", type=_NUMBER, default=.9, show_default=True, help="poly"),
    click.option("--step-every", type=_POSITIVE, help="step: steps, or below 1 a share of the run "
                 "[default: a third]."),
    click.option("--gamma", type=_SHARE, default=.1, show_default=True, help="step"),
    click.option("--warm-up", type=click.IntRange(0), default=0, show_default=True,
                 metavar="STEPS"),
    click.option("--loss-at", type=click.Choice(["labels", "logits"]), default="labels",
                 show_default=True, help="Resolution of the loss; logits as in wssl-2015."),
    click.option("--class-weight", metavar="FILE", help="One weight a line, for each class."),
)
_AUGMENT = (
    click.option("--crop", type=_COUNT, default=321, show_default=True),
    click.option("--scale", type=(_POSITIVE, _POSITIVE), default=(.5, 1.5), show_default=True,
                 metavar="LOW HIGH"),
    click.option("--flip", type=_SHARE, default=.5, show_default=True),
    click.option("--rotate", type=click.FloatRange(0, 180), default=0, show_default=True,
                 metavar="DEGREES"),
    click.option("--jitter", type=_SHARE, default=0, show_default=True,
                 help="Brightness, contrast and saturation vary so much."),
)
_MACHINE = (
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or "
                 "cuda:N."),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto",
                 show_default=True),
    click.option("--compile", "compiled", is_flag=True, help="torch.compile: slow to start."),
    click.option("--max-minutes", type=_POSITIVE, help="Stop then; --resume goes on."),
    click.option("--save-minutes", type=_NUMBER, default=5, show_default=True,
                 help="Between two checkpoints."),
    click.option("--log-every", type=_COUNT, default=20, show_default=True, metavar="STEPS"),
    click.option("--tensorboard", type=click.Path(file_okay=False), metavar="FOLDER",
                 help="Also log for TensorBoard."),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
)


def _all(function):
    for option in reversed((TASK, *_DATA, *_NET, *_OBJECTS, *_DETECT, *_WEAK, *_RUN,
                            *_AUGMENT, *_MACHINE, RECIPE)):
        function = option(function)
    return function


@tool("ws-train")
@click.argument("input", required=False, metavar="[INPUT]")
@click.option("-o", "--output", required=True, type=click.Path(), metavar="FOLDER",
              help="Where the run goes: settings, log, checkpoints and model.safetensors.")
@_options.OVERWRITE
@_options.RESUME
@_all
@_options.JSON
@_options.flow(writes=False, images=True, positional=False)
def main(flow, as_json, **options):
    """Train a net on strong labels, weak labels, or both.

    \b
    What is trained (--task; each has defaults of its own, see --task NAME --help):
      segment      a segmentation net; what follows is about it
      classify     a classifier of image tags, for ws-cam; INPUT holds tags, boxes or masks
      detect       a detector, from boxes
      instance     a net of instances and stuff, from instance maps (panoptic-2018)
      rsis, wrsis  a recurrent net that draws one object after the other, from instance maps or
                   masks; wrsis is told the class of each (budget-2019)

    INPUT holds label maps (255 and what is not drawn teach nothing) or scribbles, --images the
    photos. --weak adds places of tags, boxes, or of label maps that another tool made.

    \b
    How weak images are learnt from (--weak-loss):
      labels    their label maps or scribbles are taken as they are
      em-fixed  tags: labels are re-estimated at each step, listed classes favoured (wssl-2015)
      em-adapt  tags: so that each listed class gets its share of the image (wssl-2015)
      bbox-em   boxes: em-fixed, the bias inside the boxes only (wssl-2015)
      mil-max, mil-lse  tags: the best pixel, or all of them smoothly, must show the class
      dsrg      cues: label maps or scribbles, 255 where nothing is known; at each step they grow
                over what the net and a dense CRF are sure of (dualbranch-2020's generator)
      sec       cues: seed, expand and constrain; nothing grows
    em-* from tags alone wants a net that knows the classes: --head fcn --init with what
    --task classify made of the tags. A new head ends with one place that is always foreground.
    em-* and bbox-em are for classes with a background; where there is none (Cityscapes), class 0
    is like any other for the rest.

    INPUT may be left out where --weak is given: then all images are weak. --dual is the
    strong-weak dual branch (dualbranch-2020): weak labels teach a branch of their own, and
    ws-predict uses the strong one.

    A run goes on with --resume where it was stopped, and on a CPU it ends bit for bit as if it
    had not been. Under torchrun each process takes its part of every batch.

    \b
    Examples:
      ws-train SegmentationClass --images JPEGImages --keys train.txt --classes voc -o run/
      ws-train few/ --weak tags.tar --weak-loss em-fixed --images JPEGImages -o semi/
      ws-train --weak tags/ --weak-loss em-adapt --head fcn --init c.safetensors --images jpg -o em/
      ws-train --weak cues/ --weak-loss dsrg --images JPEGImages -o grown/
      ws-train few/ --weak boxed/ --dual --images JPEGImages --val val/ -o dual/
      ws-train --task classify tags/ --images JPEGImages --val val/ -o classifier/
      ws-train --task detect boxes/ --images JPEGImages -o detector/
      ws-train --task instance truth/ --detections boxes/ --init run/model.safetensors -o net/
      ws-train --task rsis labels/ --from-components --images JPEGImages -o objects/
      ws-train labels/ --images JPEGImages --recipe deeplabv2.json --lr 1e-3 -o run2/
      torchrun --nproc-per-node 8 -m wsseg.cli.train labels/ --images JPEGImages -o run3/
    """
    from wsseg.cli import _training

    return _training.run(flow, as_json, options)


if __name__ == "__main__":
    main()
