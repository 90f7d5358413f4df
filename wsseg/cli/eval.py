"""ws-eval: predictions against truth."""

from __future__ import annotations

import click

from wsseg.cli import _options
from wsseg.cli._command import tool


@tool("ws-eval")
@click.argument("places", nargs=-1, metavar="PREDICTION... TRUTH")
@click.option("--metric", type=click.Choice(["miou", "ap", "pq"]), default="miou",
              show_default=True, help="Mean IoU of label maps, average precision of instances, or "
              "panoptic quality.")
@click.option("--merge", is_flag=True, help="The arguments are files that --shard I/N --json "
              "wrote: add them up, exactly.")
@_options.JSON
@click.option("--tsv", is_flag=True, help="Write tab-separated values, a row for each class.")
@click.option("--sort", type=click.Choice(["class", "iou"]), default="class", show_default=True,
              help="Order of the table: by class or by score.")
@click.option("--missing", type=click.Choice(["error", "skip", "wrong"]), default="error",
              show_default=True, help="When a true record has no prediction: refuse, leave it "
              "out, or count all its pixels and segments as missed.")
@click.option("--bootstrap", type=click.IntRange(1, 1_000_000), metavar="N",
              help="Add 95 % intervals from N resamples of the records, and of several "
              "predictions all differences. 1000 is usual.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of --bootstrap.")
@click.option("--per-image", type=click.Path(dir_okay=False), metavar="FILE",
              help="Write each record's scores as tab-separated values, the worst first.")
@click.option("--worst", type=click.IntRange(1), metavar="N", help="Print only the keys of the N "
              "records of the lowest scores, one a line, for --keys of other tools.")
@click.option("--best", type=click.IntRange(1), metavar="N", help="The same of the highest.")
@click.option("--full", metavar="SCORE", help="What full supervision reaches, as a share, a "
              "percentage or a place of predictions: adds the remaining gap.")
@click.option("--baseline", metavar="SCORE", help="What a weak baseline reaches: adds how much of "
              "its gap to --full is gone.")
@click.option("--trimap", type=click.IntRange(1, 1000), multiple=True, metavar="WIDTH",
              help="miou: score also the pixels within WIDTH of a true boundary. May be repeated.")
@click.option("--quality", is_flag=True, help="miou: judge labels that leave pixels out, by "
              "coverage and by what they say where they say something.")
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE",
              help="Draw into a .png, .svg or .pdf: the confusion matrix of one prediction's label "
              "maps, bars of all else, and a curve of several --trimap.")
@click.option("--rule", type=click.Choice(["coco", "voc", "voc2007", "cityscapes"]),
              help="ap: how detections are matched and precision is averaged.  [default: coco]")
@click.option("--thresholds", metavar="IOU", help="ap: START:STEP:STOP or a list.  [default: "
              "0.5:0.05:0.95, by VOC's rules 0.1:0.1:0.9]")
@click.option("--ranking", type=click.Choice(["score", "confidence", "oracle"]),
              help="ap: rank by the scores given, by the mean probability of the class in the "
              "score map beside them, or by the truth.  [default: score]")
@click.option("--unlabelled", type=click.Choice(["void", "background"]),
              help="ap, pq: what lies outside of all true segments where the truth has no label "
              "map to tell.  [default: background for ap but by Cityscapes' rule, else void]")
@_options.flow(writes=False, positional=False)
def main(flow, places, as_json, tsv, sort, worst, best, **given):
    """Score predictions against the truth: mIoU, AP or PQ, by class and on average.

    PREDICTION and TRUTH are places; one of them may be -. Several predictions are scored in one
    table.

    miou: label maps. All figures come from one confusion matrix over all records. Pixels whose
    truth is 255 are left out; a prediction of 255 is a wrong one. A class that neither truth nor
    prediction has is left out of the means, which say how many classes they are over.

    ap: instance maps or masks. coco: a detection takes the best object not yet taken, 101-point
    average, thresholds .5:.05:.95, and AP of small, medium and large objects; voc: the best
    object, wrong if it is taken, area under the curve, AP^r_vol over .1:.1:.9; voc2007: the same
    with 11 points. Of an image and class, the best 100 count. cityscapes: as its script has it:
    all count, IoU above the threshold, objects below 100 pixels and what is mostly on void left
    out, trapezoids under the curve; its classes are the things.

    pq: instance maps, by the rules of the COCO panoptic API.

    In ap and pq, pixels of the truth without segment are what its label map says: 255 is void,
    background is nothing, another class is a crowd of it. Void counts neither for nor against a
    detection (COCO's and VOC's own scripts know none among objects).

    \b
    Examples:
      ws-eval masks/ SegmentationClass --classes voc --keys val.txt
      ws-boxfill boxes/ --images JPEGImages | ws-eval - SegmentationClass --classes voc
      ws-eval a.h5 truth.tar --json | jq .miou
      ws-eval a/ b/ truth/ --bootstrap 1000
      ws-eval pfa/ truth/ --full 71.5 --baseline 64.3 --trimap 3 --trimap 10
      ws-eval panoptic/ truth/ --metric pq
      ws-eval rsis/ truth/ --metric ap --rule voc --thresholds 0.5
      ws-eval masks/ truth/ --plot confusion.png --per-image images.tsv
      ws-eval masks/ truth/ --worst 12 |
          ws-view masks/ truth/ --images JPEGImages --keys /dev/stdin -o worst.html
      for i in 1 2 3; do ws-eval masks/ truth/ --shard $i/3 --json > part-$i.json; done
      ws-eval --merge part-*.json --bootstrap 1000
    """
    from wsseg.cli._evaluation import evaluate, extremes, plan
    from wsseg.errors import UsageError

    given |= {"worst": worst, "best": best}
    if sum(map(bool, (as_json, tsv, worst, best))) > 1:
        raise UsageError("--json, --tsv, --worst and --best exclude each other")
    short = "--tsv" if tsv else "--worst" if worst else "--best" if best else ""
    for name in ("full", "trimap", "quality"):
        if short and given[name]:
            raise UsageError(f"{short} has no place for what --{name} adds: take --json")
    if given["plot"]:
        from wsseg.cli._figure import check_picture

        check_picture(given["plot"])
    made, predictions, truth = plan(flow, places, **given)
    found = evaluate(flow, made, predictions, truth)
    if given["plot"]:
        from wsseg.cli._eval_plot import plot

        plot(found, given["plot"])
    from wsseg.cli._eval_text import as_text, class_order, scored

    if tsv or worst or best:  # the text has no place for it
        for line in dict.fromkeys(map(scored, found.results)):
            flow.env.say(line)
    if worst or best:
        from wsseg.data.lists import list_entry

        keys = extremes(found.results[0], worst or best)[0 if worst else 1]
        text = "\n".join(list_entry(key, strict=False) for key in keys)
    elif as_json or tsv:
        from wsseg.cli._eval_json import as_json as dump, as_tsv

        text = (dump(found, given["quality"], flow.shard) if as_json
                else as_tsv(found, class_order(sort)))
    else:
        text = as_text(found, sort, given["quality"])
    flow.env.out(text)
    return found.status


if __name__ == "__main__":
    main()
