"""How ws-predict reads photos ahead, groups them by size, and stores what the net says."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._parallel import Failure, Ready, attempt
from wsseg.errors import ExitStatus, RecordError, UsageError
from wsseg.io.header import Header
from wsseg.io.record import Record
from wsseg.io.values import ScoreMap
from wsseg.nets.inference import Inference
from wsseg.nets.model import find_model, load_model
from wsseg.train.distributed import pick_device, use_bf16
from wsseg.train.tags import tags_vector

_WRITES = {"both": ("label", "score"), "label": ("label",), "score": ("score",)}
_AHEAD = 4  # batches that are looked at to find photos of one size


def run(flow: Flow, place: str, write: str, options: Mapping[str, Any]) -> ExitStatus:
    """Open everything, predict, write."""
    device = pick_device(options["device"])
    path = find_model(place)
    net, card = load_model(path, str(device))
    names = None if card["classes"] is None else tuple(card["classes"])
    rows, names = _chosen(flow, options["as_classes"], names)
    if options["branch"] not in net.branches:
        raise UsageError(f"{place} has one branch: --branch weak is for nets of --dual")
    source = _source(flow)
    _check_tags(source, options["tags"], names)
    if options["compiled"]:
        net.compile()
    with open(path, "rb") as file:
        flow.parameters["model"] = hashlib.sha256(file.read()).hexdigest()[:16]
    flow.spent = {k: tuple(v) for k, v in card.get("supervision", {}).items()}
    flow.made_of["model"] = Header(history=tuple(card.get("history", ())))
    inference = Inference(net, device, _scales(options["scales"]), options["flip"],
                          options["branch"], rows, options["score_stride"],
                          use_bf16(options["precision"], device))
    predictor = Predictor(inference, len(rows or range(net.spec.classes)), options["tags"],
                          _WRITES[write], flow.jobs,
                          options["batch"] or (1 if device.type == "cpu" else 16))
    return flow.run(_same, source, reads=("image", "label", "score", "conf"),
                    writes=_WRITES[write], classes=names, through=predictor)


def _same(record: Record) -> Record:
    return record


def _source(flow: Flow):
    """The records to predict: of INPUT with the photos of --images, or of --images alone."""
    place = flow.inputs[0]
    if place is None:
        if flow.images is None:
            raise UsageError("no photos: name their folder with --images")
        flow.inputs, flow.images = (flow.images,), None
        return flow.open(as_kind="image")
    flow.inputs = (place,)
    source = flow.open(as_kind="image" if flow.images is None else None)
    flow.join_images()
    return source


def _chosen(flow: Flow, spec: str | None, names: tuple[str, ...] | None
            ) -> tuple[tuple[int, ...] | None, tuple[str, ...] | None]:
    """The rows of the net that are used, None for all, and the names of the result's classes."""
    if spec is None:
        if names and flow.classes and flow.classes != names:
            raise UsageError("the model's classes are not those of --classes: to choose among "
                             "them, use --as-classes")
        return None, names
    from wsseg.data.names import load_names

    wanted = load_names(spec)
    lacking = [n for n in wanted if n not in (names or ())]
    if lacking:
        raise UsageError(f"the model has no class {', '.join(lacking[:5])}")
    return tuple(names.index(n) for n in wanted), wanted


def _check_tags(source: Any, tags: bool, names: Sequence[str] | None) -> None:
    if not tags:
        return
    kinds, theirs = source.header.kinds, source.header.classes
    if kinds and "tags" not in kinds:
        raise UsageError(f"--tags: {source.where} has no tags (it holds {', '.join(kinds)})")
    if theirs and names and tuple(theirs) != tuple(names):
        odd = next((n for n in theirs if n not in names), theirs[0])
        raise UsageError(f"--tags: the classes of {source.where} are not the model's ({odd})")


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(s) for s in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0.05 <= s <= 8 for s in scales):
        raise UsageError(f"--scales {text} is not numbers from 0.05 to 8 with commas between")
    return scales


@dataclass
class Predictor:
    """Takes records in, gives records with maps back in the same order."""

    inference: Inference
    classes: int
    tags: bool
    writes: tuple[str, ...]
    threads: int
    batch: int

    def __call__(self, step: Callable[[Record], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield ``attempt(step, record)`` for every record once its maps are set."""
        items, window = iter(items), deque()
        with ThreadPoolExecutor(self.threads) as pool:
            def read() -> None:
                while len(window) < self.batch * _AHEAD:
                    item = next(items, None)
                    if item is None:
                        return
                    window.append(_Waiting(item, None if isinstance(item, Ready)
                                           else pool.submit(self._photo, item)))

            read()
            while window:
                first = window.popleft()
                if first.photo is None:
                    yield first.item.value
                    read()
                    continue
                if first.found is None and not first.ready():
                    self._predict([first, *self._alike(first, window)])
                if isinstance(first.found, Failure):
                    yield first.found
                else:
                    yield attempt(step, first.item)
                read()

    def _photo(self, record: Record) -> np.ndarray:
        return record.get("image")

    def _alike(self, first: _Waiting, window: Iterable[_Waiting]) -> Iterator[_Waiting]:
        """Others that can go through the net with the first."""
        room = self.batch - 1
        for other in window:
            if not room:
                return
            if (other.photo is not None and not other.ready()
                    and other.pixels().shape == first.pixels().shape):
                room -= 1
                yield other

    def _predict(self, group: list[_Waiting]) -> None:
        photos = np.stack([w.pixels() for w in group])
        try:
            allowed = np.stack([tags_vector(w.item.get("tags"), self.classes) for w in group]) \
                if self.tags else None
        except RecordError as error:
            if len(group) == 1:
                group[0].found = Failure(group[0].item.key, str(error))
            else:
                for one in group:
                    self._predict([one])
            return
        labels, scores = self.inference(photos, allowed, label="label" in self.writes,
                                        score="score" in self.writes)
        for i, one in enumerate(group):
            self._store(one, None if labels is None else labels[i],
                        None if scores is None else scores[i])

    def _store(self, one: _Waiting, label: np.ndarray | None, score: np.ndarray | None) -> None:
        size = one.pixels().shape[:2]
        if label is not None:
            one.item.set("label", label.astype(np.uint8 if self.classes <= 255 else np.uint16))
        if score is not None:
            present = np.flatnonzero(score.any((1, 2)))
            one.item.set("score", ScoreMap(score[present], present, size))
        one.found = one.item


@dataclass
class _Waiting:
    """A record whose photo is being read. found: the record or a Failure, once that is known."""

    item: Any
    photo: Future | None
    found: Record | Failure | None = None

    def ready(self) -> bool:
        """Whether the result is known; a photo that cannot be read is a Failure."""
        if self.found is None:
            found = attempt(lambda _: self.photo.result(), self.item)
            if isinstance(found, Failure):
                self.found = found
        return self.found is not None

    def pixels(self) -> np.ndarray:
        return self.photo.result()
