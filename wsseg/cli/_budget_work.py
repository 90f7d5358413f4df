"""What ws-budget statistics and subsets do with places."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path

from wsseg.budget.dataset import Mean, Measured
from wsseg.budget.prices import ABOUT, Prices
from wsseg.budget.subsets import subset
from wsseg.budget.text import aligned
from wsseg.budget.timings import Timing
from wsseg.cli._flow import Flow
from wsseg.data.lists import list_entry
from wsseg.errors import IncompleteError, RecordError, UsageError, printable
from wsseg.io.atomic import atomic_write, refuse_link
from wsseg.io.kinds import background_id
from wsseg.io.record import Record

#: Kinds that tell what is in an image, the surest first.
_TELLING = ("instance", "label", "masks", "boxes", "counts", "points", "scribble", "tags")


def measured(flow: Flow, n_classes: int | None,
             min_area: int = 16) -> tuple[Measured, tuple[str, ...] | None]:
    """Count classes and objects in every image of a place; return them and the class names.

    Raises UsageError where there are none, where it is not known how many classes are asked
    for, and for a place of which only some records tell objects.
    """
    source = flow.open()
    names = source.header.classes or flow.classes
    found = list(flow.map(partial(present, min_area=min_area), source, batch=16))
    if flow.cut is not None:
        raise IncompleteError(flow.cut)
    if not found:
        raise UsageError(f"{source.where}: no record to measure")
    images, known = zip(*found)
    if not all(known) and any(known):
        raise UsageError(f"{source.where}: only {sum(known)} of {len(known)} records tell objects: "
                         "measure places of one kind each")
    asked = n_classes or len(names or ()) - (background_id(names) is not None if names else 0)
    if asked < 1:
        raise UsageError(f"{source.where}: it is not known how many classes are asked for: add "
                         "--n-classes N or --classes voc")
    return Measured(images, asked, all(known)), names


def present(record: Record, min_area: int) -> tuple[Counter, bool]:
    """Return class -> objects of a record, and whether objects can be told. min_area: pixels
    below which a part of a label map is none."""
    kind = next((kind for kind in _TELLING if kind in record), None)
    if kind is None:
        raise RecordError("no labels: it holds "
                          f"{', '.join(sorted(record.kinds())) or 'nothing'}")
    value = record.get(kind)
    if kind == "instance":
        return Counter(segment.cls for segment in value.segments), True
    if kind == "label":
        from wsseg.annotate.objects import connected_objects

        _, classes = connected_objects(value, background=background_id(record.names),
                                       min_area=min_area)
        return Counter(classes.tolist()), True
    if kind == "counts":
        return Counter({cls: n for cls, n in value.items() if n}), True
    if kind in ("tags", "scribble"):
        from wsseg.annotate.objects import present_classes

        return Counter({cls: 0 for cls in (value if kind == "tags" else present_classes(value))}
                       ), False
    crowd = getattr(value, "crowd", None)
    return Counter((value.classes if crowd is None else value.classes[~crowd]).tolist()), True


def statistics_text(found: Measured, names: tuple[str, ...] | None, place: str,
                    prices: Prices, *, by_class: bool) -> str:
    """Return what was measured for people."""
    def mean(value: Mean | None) -> str:
        if value is None:
            return "not known: these labels do not tell objects"
        interval = "" if value.low is None else f"  ({value.low:,.2f} to {value.high:,.2f})"
        return f"{value.mean:,.2f}{interval}"

    lines = [printable(place), f"  images             {len(found.images):,}",
             f"  classes asked for  {found.n_classes}",
             f"  classes an image   {mean(found.classes)}",
             f"  objects an image   {mean(found.objects)}", "  seconds an image"]
    lines += [f"    {kind:16} {mean(value)}" for kind, value in found.prices(prices).items()]
    if by_class:
        rows = [("class", "images", "objects")]
        rows += [(printable(names[cls] if names and cls < len(names) else str(cls)),
                  f"{images:,}", "-" if objects is None else f"{objects:,}")
                 for cls, (images, objects) in found.by_class().items()]
        lines += [f"  {line}" for line in aligned(rows, 1)]
    return "\n".join(lines)


def prices_text(prices: Prices, found: dict[str, Timing]) -> str:
    """Return the table of prices with their sources, and what was timed."""
    head = ("action", "seconds", *(("timings", "low", "high", "mean") if found else ()), "what",
            "source")
    rows = [head]
    for action, (what, source) in ABOUT.items():
        own = found.get(action)
        some = () if not found else ("-",) * 4 if own is None else (
            f"{own.number:,}", *("-" if v is None else f"{v:g}" for v in (own.low, own.high)),
            f"{own.mean:.4g}")
        rows.append((action, f"{getattr(prices, action):g}", *some, what,
                     "median of timings" if own else source))
    wide = [max(map(len, column)) for column in zip(*rows)]
    last = len(head) - 2
    return "\n".join("  ".join(cell.ljust(w) if i in (0, last, last + 1) else cell.rjust(w)
                               for i, (cell, w) in enumerate(zip(row, wide))).rstrip()
                     for row in rows)


def prices_json(prices: Prices, found: dict[str, Timing]) -> dict:
    """Return prices, sources and timings as JSON holds them."""
    return {"prices": dict(vars(prices)),
            "about": {a: {"what": what, "source": source} for a, (what, source) in ABOUT.items()},
            "timings": {a: {"number": t.number, "median": t.median, "mean": t.mean,
                            "interval": None if t.low is None else [t.low, t.high]}
                        for a, t in found.items()}}


def keys_of(flow: Flow) -> list[str]:
    """Return the keys to choose from: those of the input, or of --keys alone if no input is
    named."""
    if not flow.inputs:
        if flow.wanted is None:
            raise UsageError("name a place as INPUT, or a list of keys with --keys")
        return [key for key in flow.wanted if flow._chosen(key)]
    source = flow.open()
    keys = flow.selected(source)
    if keys is None:
        keys = [record.key for record in flow.records(source)]
        if flow.cut is not None:
            raise IncompleteError(flow.cut)
    else:
        source.check_complete()
    return list(keys)


def write_subsets(flow: Flow, keys: list[str], numbers: list[int], seeds: range, *, nested: bool,
                  rest: bool) -> list[str]:
    """Write N-SEED.txt for every N and seed, and N-SEED.rest.txt, into the output folder.

    Returns their paths. Raises UsageError for files that exist, before it writes any.
    """
    folder = Path(flow.output)
    texts: dict[Path, list[str]] = {}
    for number in numbers:
        for seed in seeds:
            chosen = subset(keys, number, seed, nested=nested)
            texts[folder / f"{number}-{seed}.txt"] = chosen
            inside = set(chosen)
            if rest and len(inside) < len(keys):  # a list without keys is refused by readers
                texts[folder / f"{number}-{seed}.rest.txt"] = [k for k in keys if k not in inside]
        if number == len(keys) and len(seeds) > 1:
            flow.env.say(f"{number} are all the keys there are: all subsets of that size are equal")
    for path in texts:
        refuse_link(path)
        if path.exists() and flow.mode != "overwrite":
            raise UsageError(f"{path} exists: add --overwrite")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror}") from None
    for path, some in texts.items():
        atomic_write(path, "".join(f"{list_entry(key)}\n" for key in some).encode())
    return [str(path) for path in texts]
