"""ws-eval: predictions against truth."""

from __future__ import annotations

import click

from wsseg.cli import _options
from wsseg.cli._command import tool


@tool("ws-eval")
@click.argument("prediction", metavar="PREDICTION")
@click.argument("truth", metavar="TRUTH")
@_options.JSON
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE",
              help="Draw the confusion matrix into a .png, .svg or .pdf.")
@click.option("--missing", type=click.Choice(["error", "skip", "wrong"]), default="error",
              show_default=True, help="When a true record has no prediction: refuse, leave it "
              "out, or count all its pixels as wrong.")
@click.option("--sort", type=click.Choice(["class", "iou"]), default="class", show_default=True,
              help="Order of the table.")
@_options.flow(writes=False, positional=False)
def main(flow, prediction, truth, as_json, plot, missing, sort):
    """Score label maps against the truth: mIoU, pixel accuracy and a table of classes.

    PREDICTION and TRUTH are places of label maps; one of them may be -. All figures come from
    one confusion matrix over all records. Pixels whose truth is 255 are left out; a prediction
    of 255 is a wrong one. A class that neither truth nor prediction has is left out of the
    means, which say how many classes they are over.

    \b
    Examples:
      ws-eval masks/ SegmentationClass --classes voc --keys val.txt
      ws-boxfill boxes/ --images JPEGImages | ws-eval - SegmentationClass --classes voc
      ws-eval a.h5 truth.tar --json | jq .miou
      ws-eval masks/ truth/ --plot confusion.png
    """
    from wsseg.cli import _score

    flow.inputs = (prediction, truth)
    score = _score.run(flow, missing)
    status = flow.status()
    if plot:
        _score.plot_confusion(score, plot)
    flow.env.out(_score.as_json(score) if as_json else _score.as_table(score, sort))
    return status


if __name__ == "__main__":
    main()
