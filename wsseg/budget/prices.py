"""Seconds for each thing that an annotator does, and how a person writes them down."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import TextIO

from wsseg.budget.timings import Timing, timings
from wsseg.errors import UsageError

#: The kinds of label that have a price.
KINDS = ("tags", "counts", "points", "scribble", "boxes", "masks")
MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class Prices:
    """Seconds for each thing a person does.

    tag: say whether a class is in the image, 1 s (Bearman et al. 2016). count: count the
    objects of a class that is, 1.48 s more (Gao et al. 2018, "C-WSL", in Bellver et al. 2019).
    box: click the four extreme points of an object, 7 s (Papadopoulos et al. 2017). mask:
    outline an object, 79 s (Bearman et al.; measured on COCO). point: the first click on a
    class, 2.4 s, and click: each further one, 0.9 s (both Bearman et al.). scribble: a
    squiggle for a class, 10.9 s (Bearman et al.). ABOUT says the same in tables.
    """

    tag: float = 1.0
    count: float = 1.48
    box: float = 7.0
    mask: float = 79.0
    point: float = 2.4
    click: float = 0.9
    scribble: float = 10.9

    def changed(self, pairs: Iterable[tuple[str, str]]) -> Prices:
        """Return prices with some (action, seconds) replaced.

        Raises UsageError for an unknown action and for what is no number of seconds.
        """
        return replace(self, **dict(checked(pairs)))


#: Action -> (what it is, source of its price).
ABOUT = {
    "tag": ("say whether a class is in the image", "Bearman et al. 2016, section 4"),
    "count": ("count the objects of a class, on top of its tag",
              "Gao et al. 2018, in Bellver et al. 2019, section 3"),
    "box": ("click the four extreme points of an object", "Papadopoulos et al. 2017"),
    "mask": ("outline an object", "Bearman et al. 2016 (measured on COCO)"),
    "point": ("first click on a class", "Bearman et al. 2016, section 4"),
    "click": ("each further click", "Bearman et al. 2016, section 4"),
    "scribble": ("a squiggle on a class", "Bearman et al. 2016, section 4"),
}


def checked(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, float]]:
    """Return (action, seconds) as numbers. Raises UsageError for an unknown action and for what
    is no number of seconds."""
    actions = [f.name for f in fields(Prices)]
    result = []
    for action, text in pairs:
        if action not in actions:
            raise UsageError(f"no price is called {action!r}{near(action, actions)}")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"price of {action} is {text!r}, not a number of seconds")
        result.append((action, value))
    return result


def near(word: str, known: Sequence[str]) -> str:
    """Return the end of a message about an unknown word: the nearest known one, or all."""
    found = get_close_matches(word, known, 1)
    return f"; did you mean {found[0]}?" if found else f"; there are {', '.join(known)}"


def parse_prices(text: str, where: str) -> list[tuple[str, str]]:
    """Return (action, seconds) pairs from CSV lines.

    Empty lines and lines that begin with ``#`` are passed over. A first line that names columns
    ``action`` and ``seconds`` says where they are; other columns are not read. Without it a line
    is ACTION,SECONDS. Raises UsageError.
    """
    try:
        lines = [[cell.strip() for cell in line] for line in csv.reader(io.StringIO(text))
                 if line and not line[0].startswith("#")]
    except csv.Error as error:
        raise UsageError(f"{where}: {error}") from None
    names, first = ["action", "seconds"], 0
    if lines and {"action", "seconds"} <= set(lines[0]):
        names, first = lines[0], 1
    for line in lines[first:]:
        if len(line) != len(names):
            raise UsageError(f"{where}: {','.join(line)!r} is not {','.join(names).upper()}")
    return [(line[names.index("action")], line[names.index("seconds")]) for line in lines[first:]]


def parse_mix(text: str, option: str = "--mix") -> dict[str, int]:
    """Return kind -> images from ``masks=1464,tags=9118``. Raises UsageError."""
    mix: dict[str, int] = {}
    for item in text.split(","):
        kind, _, number = (part.strip() for part in item.partition("="))
        if kind not in KINDS:
            raise UsageError(f"{option}: no kind is called {kind!r}{near(kind, KINDS)}")
        if not (number.isascii() and number.isdecimal() and len(number) < 16) or kind in mix:
            raise UsageError(f"{option} {text}: it is KIND=IMAGES,KIND=IMAGES, each kind once")
        mix[kind] = int(number)
    return mix


def read_timings(file: TextIO) -> dict[str, Timing]:
    """Return action -> timing from a CSV file as ``parse_prices`` reads it: one line for each
    time that somebody took. Raises UsageError."""
    text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise UsageError(f"{file.name}: more than {MAX_BYTES} bytes")
    return timings(checked(parse_prices(text, file.name)))


def read_prices(changes: Sequence[str] = (), file: TextIO | None = None) -> Prices:
    """Return prices changed by a CSV file and then by ``ACTION=SECONDS`` texts.

    An action that the file names more than once has the median of its lines.
    """
    found = {} if file is None else read_timings(file)
    pairs = []
    for text in changes:
        action, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--price {text}: it is ACTION=SECONDS")
        pairs.append((action.strip(), value.strip()))
    return replace(Prices(), **{a: t.median for a, t in found.items()}).changed(pairs)
