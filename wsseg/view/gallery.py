"""What a run shows of each record: which places, under which headings, in which colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from wsseg.errors import RecordError, UsageError
from wsseg.io.jsons import name_id
from wsseg.view.beside import BESIDE
from wsseg.view.colours import Colour
from wsseg.view.look import Look
from wsseg.view.overlay import HATCH
from wsseg.view.picture import DRAWN, Views, views


@dataclass(frozen=True)
class Gallery:
    """How to draw a record that ``Beside`` gave; made once, used in every worker.

    panels: which of the places are drawn; headings, looks: one for each of these; photo:
    whether there are photos; kinds: what is drawn.
    """

    panels: tuple[int, ...]
    headings: tuple[str, ...]
    looks: tuple[Look, ...]
    photo: bool
    kinds: frozenset[str]

    @staticmethod
    def of(places: Sequence[str], sources: Sequence[Any], *, images: bool = False,
           classes: Sequence[str] | None = None, heat: str | Sequence[str] | None = None,
           ranks: int = 0, kinds: Iterable[str] = ()) -> Gallery:
        """Look at the places. places: their names, as given; sources: each opened.

        images: photos are joined from elsewhere; classes: names where a place has none; heat:
        classes drawn as heat maps, a picture each; ranks: or so many of the strongest classes of
        each record; kinds: what to draw, all if empty. A place of nothing but photos gives the
        photos. Raises UsageError for unknown kinds and classes.
        """
        for kind in kinds:
            if kind not in DRAWN:
                raise UsageError(f"--kind {kind}: choose from {', '.join(DRAWN)}")
        held = [_kinds(s) for s in sources]
        shown = tuple(i for i, k in enumerate(held) if k != {"image"})
        common = classes or next((s.header.classes for s in sources if s.header.classes), None)
        wanted = [heat] if isinstance(heat, str) else list(heat or ())
        panels, headings, looks = [], [], []
        for i, heading in zip(shown, _headings([places[i] for i in shown],
                                               [sources[i] for i in shown])):
            names = sources[i].header.classes or common
            look = Look(None if names is None else tuple(names), sources[i].header.ignore)
            hot = [replace(look, heat=_class_id(name, names)) for name in wanted] or [
                replace(look, rank=rank) for rank in range(ranks)]
            if held[i] and not held[i] & {"score", "cam"}:
                hot = hot[:1]  # no heat maps to draw
            each = [f"{heading}: {h.name(h.heat) if h.rank is None else f'{h.rank + 1}.'}"
                    for h in hot] if len(hot) > 1 else [heading]
            panels += [i] * len(each)
            headings += each
            looks += hot or [look]
        return Gallery(tuple(panels), tuple(headings), tuple(looks),
                       images or any("image" in k for k in held), frozenset(kinds or DRAWN))

    @property
    def columns(self) -> tuple[str, ...]:
        """Headings of a record's pictures, the photo first."""
        return ("photo",) * self.photo + self.headings

    @property
    def heat(self) -> str | None:
        """Names of the classes that heat maps show."""
        names = [k.name(k.heat) if k.rank is None else "activation" for k in self.looks if k.hot]
        return ", ".join(dict.fromkeys(names)) or None

    def notes(self) -> list[str]:
        """Say what a legend cannot explain."""
        mixed = len({look.names for look in self.looks if look.names}) > 1
        return ["the inputs name their classes differently: the legend has the names of "
                "the first"] * mixed

    def views(self, record: Any, box: tuple[int, int] | None) -> Views:
        """Draw a record to fit a box (height, width), None for full size.

        Raises RecordError if it is bad or its parts differ in size.
        """
        places = (record, *record.get(BESIDE))
        photo = next((p.get("image") for p in places if p is not None and "image" in p), None)
        values = []
        for place in (places[i] for i in self.panels):
            values.append(None if place is None else
                          {k: place.get(k) for k in sorted(place.kinds() & self.kinds)})
        return views(record.key, photo, values, self.looks, box)

    def legend(self, seen: Iterable[int]) -> list[tuple[str, Colour]]:
        """Return names and colours of what was seen: classes, then ignored pixels."""
        look = next((k for k in self.looks if k.names), (*self.looks, Look())[0])
        ignore = {k.ignore for k in self.looks}
        classes = [(look.name(c), look.colour(c)) for c in sorted(set(seen) - ignore)]
        return classes + [("ignored", HATCH)] * bool(ignore & set(seen))


def _kinds(source: Any) -> set[str]:
    """Return the kinds that a place holds, of a foreign folder those of its first record."""
    if source.header.kinds or not hasattr(source, "get"):
        return set(source.header.kinds)
    return next((source.get(key).kinds() for key in source.keys()), set())


def _class_id(name: str, names: Sequence[str] | None) -> int:
    if names is not None and name in names:
        return names.index(name)
    if name.isdecimal():
        return int(name)
    if names is None:
        raise UsageError(f"--class {name}: the input has no class names; give them with --classes")
    try:
        return name_id(name, names)
    except RecordError as error:
        raise UsageError(f"--class: {error}") from None


def _headings(places: Sequence[str], sources: Sequence[Any]) -> tuple[str, ...]:
    """Return short names: the last part of a path, or the tool that writes a pipe."""
    short = []
    for place, source in zip(places, sources):
        if place == "-":
            last = (source.header.history or ({},))[-1]
            short.append(str(last.get("tool", "input")) if isinstance(last, dict) else "input")
        else:
            short.append(place.rstrip("/").rpartition("/")[2] or place)
    return tuple(p if short.count(s) > 1 and p != "-" else s for p, s in zip(places, short))
