"""The commands of ws-budget besides cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from wsseg.cli import _options
from wsseg.cli._command import Sub
from wsseg.errors import ExitStatus, UsageError


class Amount(click.FloatRange):
    """A number that is not negative, and not beyond all reason."""

    name = "float range"

    def __init__(self) -> None:
        super().__init__(0)

    def convert(self, value: Any, param: click.Parameter | None,
                ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not number < 1e15:  # days are seconds later on
            self.fail(f"{value!r} is not a finite number below 1e15", param, ctx)
        return number


PRICE = click.option("--price", "prices", multiple=True, metavar="ACTION=SECONDS",
                     help="Change a price: tag, count, box, mask, point, click or scribble; may "
                     "be repeated.")
PRICES = click.option("--prices", "price_file",
                      type=click.File(encoding="utf-8-sig", errors="replace"), metavar="FILE",
                      help="Change prices by a CSV file with lines ACTION,SECONDS; the median "
                      "where an action has several (see ws-budget prices).")
DATASET = click.option("--dataset", type=click.Choice(("voc", "coco")),
                       help="Price images by the published statistics of a data set.")
MEAN_CLASSES = click.option("--mean-classes", type=Amount(), metavar="X",
                            help="Classes in an image, in place of measured or published ones.")
MEAN_OBJECTS = click.option("--mean-objects", type=Amount(), metavar="X",
                            help="Objects in an image, in place of measured or published ones.")
MIN_AREA = click.option("--min-area", type=click.IntRange(1), default=16, show_default=True,
                        metavar="PIXELS", help="Smaller parts of a label map are no objects of "
                        "their own, as for ws-weaken.")
N_CLASSES = click.option("--n-classes", type=click.IntRange(1), metavar="N",
                         help="Classes asked for in every image, not counting the background.")
STATISTICS = click.option("--statistics", metavar="PLACE", help="Price images by statistics of "
                          "your own: a place with labels, or FILE.json that ws-budget statistics "
                          "--json wrote.")


def _curves(function: Callable) -> Callable:
    """Give a command what reads measured results."""
    for option in reversed((
            click.argument("inputs", nargs=-1, metavar="[[METHOD=]RESULT]..."),
            click.option("--cost", "costs", multiple=True, metavar="WHAT=COST",
                         help="What labels cost. WHAT: a size, method, METHOD/SIZE or RESULT. "
                         "COST: days of 24 hours, 8h or 900s, a file of ws-budget cost --json, "
                         "or a place. May be repeated."),
            click.option("--score", metavar="NAME", help="Which score of the results to use, such "
                         "as pixel_accuracy. [default: miou, ap or pq, as they have it]"),
            click.option("--full", multiple=True, metavar="[METHOD=]SCORE",
                         help="What full supervision reaches, with the net of METHOD or of all: "
                         "a share, a percentage or a file of ws-eval --json. May be repeated."),
            DATASET, STATISTICS, MEAN_CLASSES, MEAN_OBJECTS, N_CLASSES, PRICE, PRICES,
            _options.JSON)):
        function = option(function)
    return function


def _read(env: Any, inputs: tuple[str, ...], score: str | None, costs: tuple[str, ...],
          full: tuple[str, ...], prices: tuple[str, ...], price_file: Any, dataset: str | None,
          statistics: str | None, mean_classes: float | None, mean_objects: float | None,
          n_classes: int | None):
    """Return points, what full supervision reaches and the name of the score.

    Where statistics or prices are given, all labels are priced anew by them.
    """
    from wsseg.budget.curve import repriced
    from wsseg.budget.prices import read_prices
    from wsseg.cli import _budget_read

    table = read_prices(prices, price_file)
    known = _budget_read.statistics_from(env, dataset, statistics, mean_classes=mean_classes,
                                         mean_objects=mean_objects, n_classes=n_classes)
    reader = _budget_read.Reader(env, score, table, costs, n_classes, known)
    points = reader.points(inputs)
    if known is not None or prices or price_file is not None:
        points = repriced(points, table, known)
    whole = _budget_read.full_scores(reader, full)
    methods = sorted({p.method for p in points})
    for method in whole:
        if method and method not in methods:
            raise UsageError(f"--full {method}=: no point is of that method, but of "
                             f"{', '.join(methods)}")
    return points, {**reader.full, **whole}, reader.name or "score"


@click.command("curve", cls=Sub)
@click.option("--plot", type=click.Path(dir_okay=False), metavar="FILE",
              help="Draw the curves into a .png, .svg or .pdf.")
@_curves
@click.pass_obj
def curve(env, plot, as_json, score, **given):
    """Set accuracy against annotation time, for several methods.

    RESULT is a file of ws-eval --json, a table (CSV or TSV with the columns method, score or
    percent, a cost as days, hours or seconds, or numbers of images as masks, boxes, ..., and low,
    high, size), or what this command writes with --json. Names of files tell what they hold:
    100-3.json is run 3 of size 100 and its folder names the method; g-100-3.json is one of method
    g; boxes.json is the only result of a method. METHOD= in front names it otherwise. Where a file
    holds several results, their predictions' names tell it in the same way.

    The labels of a result cost what --cost says; otherwise what RESULT.cost.json, of ws-budget
    cost --json, says; otherwise the supervision in the result, or recorded in the place that was
    scored, is priced. Files *.cost.json are passed over as inputs.

    Runs of one method and size are one point: mean, deviation, and 95 % interval of the mean by
    Student's t. Where results have an interval over test images (ws-eval --bootstrap), both are
    added as independent errors; a single run has that of its images only. With --full, scores
    are shares of full supervision too, as in figure 3 of Bellver et al. 2019. A star marks the
    points that no other beats in both cost and score.

    \b
    Examples:
      ws-budget curve f/*.json g/*.json --plot curves.svg
      ws-budget curve boxes=a.json masks=b.json --cost boxes=4.67 --cost masks=29.36
      ws-budget curve g/*.json --cost 100=.2774 --cost 200=.5549 --full .8042
      ws-budget paper --json | ws-budget curve - --plot paper.png
    """
    from wsseg.budget.curve_report import curve_json, curve_text
    from wsseg.cli._budget_read import dump

    if plot:
        from wsseg.cli._figure import check_picture

        check_picture(plot)
    points, full, score = _read(env, score=score, **given)
    if plot:
        from wsseg.cli._budget_plot import plot_curves

        plot_curves(points, full, score, plot)
    env.out(dump(curve_json(points, full, score)) if as_json else curve_text(points, full))


@click.command("plan", cls=Sub)
@click.option("--days", type=Amount(), metavar="X",
              help="The budget, in days of 24 hours.")
@click.option("--seconds", type=Amount(), metavar="X", help="The budget, in seconds.")
@click.option("--have", metavar="KIND=N,...", help="Images that are labelled already: they are "
              "not paid for again.")
@click.option("--images", type=click.IntRange(1), metavar="N", help="Images that there are: offer "
              "nothing that needs more, each labelled in one way.")
@click.option("--measured", is_flag=True, help="Offer only what was measured, nothing between.")
@_curves
@click.pass_obj
def plan(env, days, seconds, have, images, measured, as_json, score, **given):
    """Say which labels to buy for a budget, and what to expect.

    It says how many images to label in which way. RESULT and costs are as for ws-budget curve. The
    answer is the best of all purchases that the budget pays: points that were measured, and what
    lies between two neighbours of a method. There, images and price go linearly, and the score
    linearly in the logarithm of the price; intervals go as the score does. Nothing is fitted and
    nothing is promised beyond the dearest point: more money never promises less, and what cannot
    be known is said. How far an inner point lies off the line between its neighbours is told for
    each method.

    Measured prices hold unless prices or statistics are given: then all labels are priced anew,
    for images like those of --dataset or like your own (--statistics). Scores stay those that were
    measured.

    Below the purchase stands the best that each other method offers; then the measured point that
    gains most for a day after it (gains count from zero where nothing can be paid), and the
    measured points that no other beats. The best of several noisy points is a little too good:
    look at its interval.

    \b
    Examples:
      ws-budget plan --days 1.1 f/*.json g/*.json
      ws-budget paper --json | ws-budget plan - --days 1
      ws-budget plan --days 3 curve.json --statistics labels/ --prices timings.csv
      ws-budget plan --seconds 86400 curve.json --have masks=100,tags=500
    """
    from wsseg.budget.curve_report import plan_json, plan_text
    from wsseg.budget.plan import plan as find
    from wsseg.budget.prices import parse_mix
    from wsseg.cli._budget_read import dump

    if (days is None) == (seconds is None):
        raise UsageError("give the budget as --days or --seconds")
    owned = parse_mix(have, "--have") if have else {}
    points, full, score = _read(env, score=score, **given)
    unknown = [p for p in points if p.seconds and not p.parts]
    if (owned or images) and unknown:
        raise UsageError(f"{'--have' if owned else '--images'}: which labels {unknown[0].method} "
                         f"at {unknown[0].days:.4g} days bought is not known")
    found = find(points, days * 86400.0 if seconds is None else seconds, owned, measured=measured,
                 images=images or float("inf"))
    env.out(dump(plan_json(found, points, full)) if as_json else plan_text(found, points, full))


@click.command("subsets", cls=Sub)
@click.argument("places", nargs=-1, metavar="[INPUT]")
@click.option("--number", "-n", "numbers", type=click.IntRange(1), multiple=True, metavar="N",
              help="Size of a subset; may be repeated.")
@click.option("--paper", is_flag=True, help="Sizes 100, 200, 400, 800 and 1464.")
@click.option("--paper-weak", is_flag=True, help="Sizes 912, 2279, 4559, 6838 and 9118.")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, metavar="N",
              help="Subsets of each size.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N",
              help="Of the first subset; the next ones count up.")
@click.option("--independent", is_flag=True, help="Draw each size anew. Otherwise a larger subset "
              "contains the smaller ones of its seed.")
@click.option("--rest", is_flag=True, help="Also list the keys that were not chosen, as "
              "N-SEED.rest.txt: those that get pseudo labels.")
@_options.OUTPUT
@_options.OVERWRITE
@_options.JSON
@_options.flow(writes=False, positional=False)
def subsets(flow, places, numbers, paper, paper_weak, runs, seed, independent, rest, as_json):
    """Choose random subsets of N records as lists of keys.

    Writes N-SEED.txt into the folder -o, one key a line in the order of INPUT; --keys takes such
    a list in every tool. Without INPUT, the keys are those of --keys. What is chosen depends on
    keys, size and seed only, not on order or on other sizes; it is what ws-weaken --count N
    --subset-seed SEED leaves strong (unless --independent).

    --paper has the strong images N of Bellver et al. 2019, --paper-weak their weak images M: 10,
    25, 50, 75 and 100 % of 9118. For 50 % the paper prints 4459; it is 4559.

    \b
    Examples:
      ws-budget subsets --keys train.txt --paper -o subsets/
      ws-budget subsets masks/ -n 50 -n 100 --runs 3 --rest -o subsets/
      for list in subsets/100-?.txt; do ws-cat masks/ --keys $list -o strong-$list; done
    """
    from wsseg.budget.subsets import PAPER, PAPER_WEAK
    from wsseg.cli import _budget_work
    from wsseg.cli._budget_read import dump

    sizes = sorted({*numbers, *(PAPER if paper else ()), *(PAPER_WEAK if paper_weak else ())})
    if not sizes:
        raise UsageError("how many? add --number N or --paper")
    if len(places) > 1:
        raise UsageError("name one INPUT")
    if flow.output == "-":
        raise UsageError("name a folder for the lists with -o")
    flow.inputs = places
    keys = _budget_work.keys_of(flow)
    paths = _budget_work.write_subsets(flow, keys, sizes, range(seed, seed + runs),
                                       nested=not independent, rest=rest)
    flow.env.out(dump({"keys": len(keys), "files": paths}) if as_json else "\n".join(paths))
    return flow.status()


@click.command("statistics", cls=Sub)
@N_CLASSES
@click.option("--by-class", is_flag=True, help="Tell images and objects of each class.")
@MIN_AREA
@PRICE
@PRICES
@_options.JSON
@_options.flow(writes=False)
def statistics(flow, n_classes, by_class, min_area, prices, price_file, as_json):
    """Measure classes and objects in an image, and its price.

    Counted are the segments of instance maps, the 8-connected parts of label maps, or masks,
    boxes, counts or points. Tags and scribbles tell classes only. In a label map, an object that
    is covered in part may have several parts, so that boxes and masks look dearer than they are.
    Means have 95 % intervals over images (Student's t). Points are one for each object.

    \b
    Examples:
      ws-budget statistics labels/ --classes voc
      ws-budget statistics labels/ --json > mine.json && ws-budget cost --statistics mine.json
    """
    from wsseg.budget.prices import read_prices
    from wsseg.cli import _budget_work
    from wsseg.cli._budget_read import dump

    table = read_prices(prices, price_file)
    found, names = _budget_work.measured(flow, n_classes, min_area)
    place = flow.inputs[0] if flow.inputs[0] != "-" else "standard input"
    flow.env.out(dump(found.plain(place, names, table)) if as_json else
                 _budget_work.statistics_text(found, names, place, table, by_class=by_class))
    return flow.status()


@click.command("prices", cls=Sub)
@click.argument("file", required=False, metavar="[FILE]",
                type=click.File(encoding="utf-8-sig", errors="replace"))
@_options.JSON
@click.pass_obj
def prices(env, file, as_json):
    """Show the seconds for each action, and their sources.

    FILE is CSV with a line ACTION,SECONDS for each time that somebody took, or with a first line
    that names these columns among others. An action has the median of its timings, with a 95 %
    interval between two of them that holds for any distribution (from six timings on). Timings
    have long tails, so that many labels together cost nearer their mean, shown too.

    \b
    Examples:
      ws-budget prices
      ws-budget prices timings.csv
      ws-budget cost boxes/ --prices timings.csv
    """
    from dataclasses import replace

    from wsseg.budget.prices import Prices, read_timings
    from wsseg.cli import _budget_work
    from wsseg.cli._budget_read import dump

    found = {} if file is None else read_timings(file)
    table = replace(Prices(), **{action: t.median for action, t in found.items()})
    env.out(dump(_budget_work.prices_json(table, found)) if as_json
            else _budget_work.prices_text(table, found))
    return ExitStatus.OK


@click.command("paper", cls=Sub)
@_options.JSON
@click.pass_obj
def paper(env, as_json):
    """Show the budget paper's tables 1 and 5, computed.

    They stand beside what the paper prints (Bellver et al. 2019, "Budget-aware Semi-Supervised
    Semantic and Instance Segmentation"). Where they differ, the paper slipped. Its days have 24
    hours and are cut off, not rounded: .2774 is printed .27, 2.2194 as 2.21. Zhou et al. (10,582
    images with tags, 20 s each) have 2.43 days for 2.4495. Half of its 9118 weak images is printed
    4459 for 4559. RSIS with N = 400 has 35.7 in figure 7 and 35.5 in table 5; with N = 1464 it has
    31.7 in table 3 and 31.8 in table 4. "RSIS with N = 200 and M = 6838" in the text is W-RSIS,
    and costs 2.31 days, not ~2.2. Strong images are not charged for counts, which can be read off
    their masks.

    With --json the paper's scores come along as points that curve and plan read: figure 7 for
    RSIS, figure 11 and table 5 for W-RSIS, full supervision from table 3. They have no intervals;
    their days are computed.

    \b
    Examples:
      ws-budget paper
      ws-budget paper --json | ws-budget curve -
    """
    from wsseg.budget.paper import as_json as plain, as_text
    from wsseg.cli._budget_read import dump

    env.out(dump(plain()) if as_json else as_text())
    return ExitStatus.OK


COMMANDS = (curve, plan, subsets, statistics, prices, paper)
