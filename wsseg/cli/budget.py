"""ws-budget: what annotation costs, in seconds and days, and what it buys."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from wsseg.cli import _budget_commands, _options
from wsseg.cli._command import Group, tool
from wsseg.errors import IncompleteError, RecordError, UsageError

_KINDS = ("tags", "counts", "points", "scribble", "boxes", "masks")


@tool("ws-budget", Group)
def main() -> None:
    """Say what annotation costs: the time that people need to give labels, and what it buys.

    \b
    Examples:
      ws-budget cost weak/             # what the labels in weak/ cost
      ws-budget cost --dataset voc     # what an image of PASCAL VOC costs
      ws-budget curve f/*.json g/*.json --plot curves.png
      ws-budget plan --days 2 f/*.json g/*.json
    """


@main.command("cost")
@click.option("--as", "as_kind", type=click.Choice(_KINDS), help="Price the objects in instance "
              "maps, label maps or boxes as if a person had marked each of them like this.")
@click.option("--dataset", type=click.Choice(("voc", "coco")),
              help="Price a data set by its published statistics; needs no INPUT.")
@_budget_commands.STATISTICS
@click.option("--number", type=click.IntRange(0), metavar="N", show_default="1",
              help="With --dataset or --statistics: number of images.")
@click.option("--mix", metavar="KIND=N,...", help="With --dataset or --statistics: one budget for "
              "N images with labels of each KIND.")
@click.option("--mean-classes", type=_budget_commands.Amount(), metavar="X",
              help="With --dataset or --statistics: classes in an image.")
@click.option("--mean-objects", type=_budget_commands.Amount(), metavar="X",
              help="With --dataset or --statistics: objects in an image.")
@_budget_commands.MIN_AREA
@_budget_commands.N_CLASSES
@_budget_commands.PRICE
@_budget_commands.PRICES
@_options.JSON
@_options.flow(many=True, writes=False)
def cost(flow, as_kind: str | None, prices: tuple[str, ...], price_file: Any, as_json: bool,
         statistics: str | None, min_area: int, **given: Any) -> Any:
    """Say what the labels of each INPUT cost.

    Priced is the supervision recorded in a place: labels given for its records and labels
    spent on the models that made them. The same labels count once, whatever ways they come by.
    Where none is recorded, it is the tags, counts, points, scribbles and boxes that the place
    holds.

    For every image someone is asked for each of C classes whether it is there (1 s), and marks
    those that are. On PASCAL VOC an image costs 20 s with tags, 22.22 s with counts, 38.1 s
    with boxes and 239.7 s with masks (Bellver et al. 2019). Images without labels are free,
    and strong images are not charged for counts. Counts include the tags. Labels of several
    kinds are otherwise added up. A background scribble is free. 1Point is one point for each
    class, AllPoints one for each object.

    Days have 24 hours of work, as the paper's have: its 2.21 days for 800 images with masks
    are 191,760 s (2.2194 days, cut off). Working days have 8.

    \b
    Examples:
      ws-budget cost boxes/ scribbles/ --classes voc
      ws-budget cost truth/ --as masks --n-classes 20 --json
      ws-budget cost --dataset voc --number 10582
      ws-budget cost --dataset voc --mix masks=1464,tags=9118 --price box=4
    """
    import json

    from wsseg.budget.prices import read_prices
    from wsseg.budget.report import as_json as plain, as_text, priced_dataset

    if statistics is not None:
        if given["dataset"]:
            raise UsageError("--dataset and --statistics exclude each other")
        from wsseg.cli._budget_read import statistics_from

        given["dataset"] = statistics_from(flow.env, None, statistics)
    _check(flow, as_kind, **given)
    table = read_prices(prices, price_file)
    if given["dataset"]:
        rows = priced_dataset(table, **given)
    else:
        rows = [row for place in flow.inputs
                for row in _place(flow, place, as_kind, given["n_classes"], min_area, table)]
    flow.env.out(json.dumps(plain(rows, table), indent=1) if as_json
                 else as_text(rows, add=not given["dataset"] or bool(given["mix"])))
    return flow.status()


def _check(flow, as_kind: str | None, *, dataset: Any, number: int | None,
           mix: str | None, n_classes: int | None, **means: float | None) -> None:
    """Refuse options that contradict each other."""
    if dataset is None and {number, mix, *means.values()} != {None}:
        raise UsageError("--number, --mix and --mean-... go with --dataset or --statistics")
    if dataset is not None and (flow.inputs != ("-",) or as_kind is not None):
        raise UsageError("--dataset and --statistics need no input: leave out INPUT and --as")
    if mix is not None and number is not None:
        raise UsageError("--mix has its own numbers of images: leave out --number")


def _place(flow, place: str, as_kind: str | None, n_classes: int | None,
           min_area: int, table) -> list:
    """Return the rows of one place: what it records or, failing that, what it holds."""
    from wsseg.budget import report
    from wsseg.io.header import Total
    from wsseg.io.kinds import background_id
    from wsseg.io.supervision import by_kind, covered, without

    source = flow.open(place)
    before = {} if as_kind else source.header.supervision
    names = source.header.classes or flow.classes or ()
    n_classes = n_classes or len(names) - (background_id(names) is not None)
    if n_classes < 1:
        raise UsageError(f"{source.where}: it is not known how many classes were asked for: add "
                         "--n-classes N or --classes voc")
    every = source.end.given if source.end is not None else None
    if every is not None and not (as_kind or flow.shard or flow.key_file):
        source.check_complete()
        if labels := by_kind(before, every):
            return report.place_rows(source.where, labels, n_classes, table)
    given, held = Total(), Total()
    for key, recorded, found in flow.map(partial(_marked, as_kind, min_area), source, batch=16):
        given.label(key, recorded)
        held.label(key, found)
    if flow.cut is not None:
        raise IncompleteError(flow.cut)
    own = without(given.given, covered(before, [every]))
    return report.place_rows(source.where, by_kind(before, own) or held.supervision, n_classes,
                             table)


def _marked(as_kind: str | None, min_area: int, record):
    """Return a record's key, what it says was given, and what it holds: kind -> (classes,
    objects)."""
    from wsseg.cli._supervision import STRONG, count_masks, spent

    if as_kind is None:
        return record.key, record.supervision, {} if record.supervision else spent(record)
    if any(kind in record for kind in STRONG):
        return record.key, {}, {as_kind: count_masks(record, min_area)}
    if "boxes" in record:
        classes = record.get("boxes").classes.tolist()
        return record.key, {}, {as_kind: (len(set(classes)), len(classes))}
    raise RecordError(f"--as {as_kind} needs objects: instance, label, masks or boxes (it holds "
                      f"{', '.join(sorted(record.kinds()))})")


for command in _budget_commands.COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()
