"""What ws-train reads: places of labels with their photos, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from wsseg.cli._flow import Flow
from wsseg.cli._held import catalogue
from wsseg.cli._supervision import carried, spent as labelled
from wsseg.errors import RecordError, UsageError
from wsseg.io.header import Header, Total
from wsseg.io.photo import exif_orientation, photo_size
from wsseg.io.source import Catalogue
from wsseg.io.supervision import Labels, covered, kind_of_entry, together, without
from wsseg.train.objective import METHODS
from wsseg.train.samples import MAPS, Samples


_PNG = b"\x89PNG"  # would be decoded to the end in search of EXIF data


@dataclass
class Labelled:
    """One place to train on. own: the labels that the records used carry, KIND@DIGEST ->
    (images, classes, objects); every: those of all records of the place, None if not known."""

    samples: Samples
    header: Header
    own: dict[str, Labels]
    every: dict[str, Labels] | None


def spent(parts: Iterable[Labelled], *more: Mapping[str, Labels]) -> dict[str, Labels]:
    """Return the labels that are behind places: their records', those behind the records, and
    more that was spent beside them."""
    parts = list(parts)
    before = together(*(part.header.supervision for part in parts), *more)
    return together(before, *(without(part.own, covered(before, [part.every])) for part in parts))


def choose_kind(source: Catalogue, wanted: Sequence[str], given: str | None) -> str:
    """Return the kind of label to use. Raises UsageError where the place has none of them."""
    kinds = source.header.kinds
    if given:
        if kinds and given not in kinds:
            raise UsageError(f"{source.where} has no {given} (it holds {', '.join(kinds)})")
        return given
    for kind in wanted:
        if kind in kinds:
            return kind
    raise UsageError(f"{source.where} holds {', '.join(kinds) or 'nothing'}, but "
                     f"{' or '.join(wanted)} is needed here")


def strong(flow: Flow, place: str, use: str | None) -> Catalogue:
    """Open a place of label maps or scribbles."""
    return catalogue(flow, place, use if use in MAPS else "label")


def weak_kinds(method: str) -> tuple[str, ...]:
    return METHODS[method]


class Checker:
    """Opens places, looks at every label and at the size of every photo once."""

    def __init__(self, flow: Flow, photos: Catalogue | None, classes: int,
                 make: Callable[..., Samples] = Samples) -> None:
        self._flow, self._photos, self._classes, self._make = flow, photos, classes, make

    def take(self, source: Catalogue, use: str, keys: Sequence[str], *, conf: bool = False,
             rows: Sequence[int] | None = None, classes: int | None = None,
             truth: bool = True) -> Labelled:
        """Return the samples of a place.

        truth: label maps of unknown origin count as a person's. Raises UsageError when photos
        are missing, RecordError for the first bad record, unless ``--keep-going`` leaves such
        out.
        """
        samples = self._make(source, self._photos, keys, use, classes or self._classes,
                             conf=conf, rows=rows)
        if self._photos is not None:
            there = set(self._photos.keys())
            self._drop(samples, [k for k in samples.keys if k not in there],
                       f"without a photo in {self._photos.where}")
        total = Total()
        bad: dict[str, str] = {}
        with self._flow.env.bar(len(samples)) as bar, ThreadPoolExecutor(self._flow.jobs) as pool:
            def look(key: str):
                try:
                    return self._look(samples, key, truth)
                except RecordError as error:
                    return str(error)

            for key, found in zip(samples.keys, pool.map(look, samples.keys)):
                bar.update()
                if isinstance(found, str):
                    if not self._flow.keep_going:
                        raise RecordError(f"{key}: {found}")
                    bad[key] = found
                    continue
                total.label(key, found)
        for key, message in bad.items():
            self._flow.env.say(f"{key}: {message}")
        self._flow.failed += len(bad)
        samples.keys = [k for k in samples.keys if k not in bad]
        if not len(samples):
            raise UsageError(f"{source.where}: nothing to train on")
        return Labelled(samples, source.header, total.given, carried(source))

    def _drop(self, samples: Samples, lacking: Sequence[str], what: str) -> None:
        if not lacking:
            return
        text = (f"{len(lacking)} records are {what}: {', '.join(lacking[:5])}"
                f"{' ...' if len(lacking) > 5 else ''}")
        if not self._flow.keep_going:
            raise UsageError(f"{text} (--keep-going leaves them out)")
        self._flow.env.say(text)
        self._flow.failed += len(lacking)
        gone = set(lacking)
        samples.keys = [k for k in samples.keys if k not in gone]

    def _look(self, samples: Samples, key: str, truth: bool) -> dict[str, tuple[int, int]]:
        """Check one record against its photo's size; return the labels spent on it."""
        record = samples.source.get(key)
        photo = record if self._photos is None else self._photos.get(key)
        data = next(iter(photo.read("image").values()))
        if (b"eXIf" in data or not data.startswith(_PNG)) and exif_orientation(data) != 1:
            raise RecordError("photo has an EXIF rotation, so its pixel grid is ambiguous: pass it "
                              "through ws-cat --exif apply (or ignore) first")
        samples.read(record, _Shape(photo_size(data)))
        if record.canonical and (record.supervision or samples.use in MAPS):
            return record.supervision
        drawn, before = samples.use in ("instance", "masks"), samples.source.header.supervision
        kept = "masks" if drawn or samples.use == "label" else samples.use
        if record.canonical and (before if drawn else kept in map(kind_of_entry, before)):
            return {}  # counted there, or made by what learnt from that
        counted = labelled(record, truth=truth and (drawn or samples.use in MAPS))
        return {kept: counted[kept]} if kept in counted else {}


class _Shape:
    """A photo's size, where its pixels are not needed."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.shape = (*size, 3)
