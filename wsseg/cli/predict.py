"""ws-predict: a trained net on photos."""

from __future__ import annotations

import click

from wsseg.cli import _options
from wsseg.cli._command import tool


@tool("ws-predict")
@click.argument("model", metavar="MODEL")
@click.argument("input", required=False, metavar="[INPUT]")
@click.option("--write", type=click.Choice(["both", "label", "score", "masks", "instance"]),
              default="both", show_default=True, help="Maps to write; of an instance "
              "net instance and score, or instance; of RSIS and W-RSIS masks, or instance, where "
              "they do not overlap.")
@click.option("--tags", is_flag=True, help="Only classes of a record's tags, and the background.")
@click.option("--counts", is_flag=True, help="RSIS: only classes of a record's counts, and the "
              "first so many objects. W-RSIS always goes by them, or else by --tags.")
@click.option("--scales", default="1", show_default=True, metavar="S,S,...",
              help="Average over these scales of the photo; a detector joins what it finds at "
              "each.")
@click.option("--flip", is_flag=True, help="And over its mirror image.")
@click.option("--branch", type=click.Choice(["strong", "weak"]), default="strong",
              show_default=True, help="Of a net with two.")
@click.option("--score-stride", type=click.IntRange(1, 64), default=4, show_default=True,
              help="Scores are means over cells of so many pixels; 1 for full size.")
@click.option("--as-classes", metavar="NAMES", help="Choose among these classes of the model, "
              "numbered as they are listed: voc, cityscapes, coco or a file.")
@click.option("--least-score", type=click.FloatRange(0, 1), metavar="P", help="Of a detector: "
              "leave out boxes of a lower score [default: 0.05].")
@click.option("--most", type=click.IntRange(1), help="Of a detector: boxes of a photo [default: "
              "100].")
@click.option("--batch", type=click.IntRange(1), help="Photos of one size that go through the "
              "net together [default: 16 on a GPU, else 1]. Changes the last bits of scores.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="fp32",
              show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="torch.compile: slow to start.")
@_options.OUTPUT
@_options.OVERWRITE
@_options.RESUME_RECORDS
@_options.KEEP
@_options.flow(writes=False, images=True, positional=False)
def main(flow, model, **options):
    """Predict label maps and probabilities of photos with a net that ws-train made.

    MODEL is model.safetensors or the directory of its run. Photos are those of --images, or of
    INPUT, which may hold more: its records go on, with the maps added.

    Score maps hold all classes at a lower resolution; ws-crf and ws-fuse bring them to the
    photo's size. Label maps are computed at full size.

    A detector gives boxes with scores. A model of --task instance needs boxes, which INPUT holds,
    and gives instance maps of things and stuff, and the score maps behind them.

    A model of --task rsis gives masks: each object once for every class, with its score, as
    ws-eval --metric ap has it; --write instance gives each object once, without overlap. One of
    --task wrsis draws the objects that a record's counts say.

    \b
    Examples:
      ws-predict run/ --images JPEGImages -o predicted/
      ws-predict run/ --images JPEGImages --keys val.txt --write label -o - |
          ws-eval - SegmentationClass --keys val.txt
      ws-predict run/ --images JPEGImages --scales .5,.75,1,1.25,1.5 --flip -o - |
          ws-crf --images JPEGImages --write label -o refined/
      ws-predict run/ tags.tar --images JPEGImages --tags --write label -o pseudo/
      ws-predict dual/ --images JPEGImages --branch weak -o weak.h5
      ws-predict detector/ --images JPEGImages | ws-predict net/ - --images JPEGImages -o objects/
      ws-predict wrsis/ counts.tar --images JPEGImages --write instance -o pseudo/
    """
    from wsseg.cli import _predicting

    return _predicting.run(flow, model, options)


if __name__ == "__main__":
    main()
