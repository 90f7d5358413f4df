"""What ws-budget curve and plan read: results with their costs, and statistics."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wsseg.budget import curve, results
from wsseg.budget.costs import DATASETS, Labels, Statistics
from wsseg.budget.curve import Part, Point, Run
from wsseg.budget.prices import Prices
from wsseg.cli._env import Env
from wsseg.cli._flow import Flow
from wsseg.errors import RecordError, UsageError
from wsseg.io.jsons import parse as parse_json
from wsseg.io.kinds import background_id
from wsseg.io.supervision import by_kind

MAX_BYTES = 1 << 28
#: Beside RESULT.json, the cost of what made it.
COST_SUFFIX = ".cost.json"

#: Seconds, kind -> labels, classes asked for in each image.
Cost = tuple[float, dict[str, Part], int | None]


@dataclass
class Reader:
    """Reads results for curves.

    score: its name in the results, None for the one they are about; name: of the score, once
    something is read; costs: ``WHAT=COST``
    texts; statistics: price what is known as numbers of images only; full: what the curves say
    that full supervision reaches.
    """

    env: Env
    score: str | None
    prices: Prices
    costs: Sequence[str] = ()
    n_classes: int | None = None
    statistics: Statistics | None = None
    full: dict[str, float] = field(default_factory=dict)
    name: str = ""

    def points(self, inputs: Sequence[str]) -> list[Point]:
        """Return the points of all inputs. Raises UsageError for none, and for a --cost that fits
        no result."""
        self._given = dict(map(self._split_cost, self.costs))
        self._used: set[str] = set()
        runs: list[Run] = []
        ready: list[Point] = []
        seen: set[tuple[str, str]] = set()
        for text in inputs or ("-",):
            method, path = self._split(text)
            if (method, os.path.realpath(path)) in seen:  # would be two runs, and a surer mean
                raise UsageError(f"{path} is named twice")
            seen.add((method, os.path.realpath(path)))
            if path.endswith(COST_SUFFIX):
                continue
            for one in self._read(method, path):
                (runs if isinstance(one, Run) else ready).append(one)
        unused = [what for what in self._given if what not in self._used]
        if unused:
            raise UsageError(f"--cost {unused[0]}=...: no result has that path, method or size")
        if not runs and not ready:
            raise UsageError("no results: name files of ws-eval --json, tables or curves")
        return curve.in_order([*ready, *curve.points_of(runs)])

    @staticmethod
    def _split(text: str) -> tuple[str, str]:
        method, equals, path = text.partition("=")
        return ("", text) if not equals or os.path.exists(text) else (method, path)

    @staticmethod
    def _split_cost(text: str) -> tuple[str, str]:
        what, equals, cost = text.rpartition("=")
        if not equals or not what:
            raise UsageError(f"--cost {text}: it is WHAT=COST")
        return what, cost

    def _read(self, method: str, path: str) -> list[Run | Point]:
        data = self._bytes(path)
        where = "standard input" if path == "-" else path
        if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError:
                raise UsageError(f"{where}: neither JSON nor a table in UTF-8") from None
            runs = results.table_runs(text, where, self.prices, self.statistics)
            return [replace(r, method=method) if method else r for r in runs]
        value = _json(data, where)
        if isinstance(value, dict) and isinstance(value.get("points"), list):
            return self._curve(value, method, where)
        stem = os.path.basename(path).removesuffix(".json")
        named, size = results.names_of("" if path == "-" else stem)
        folder = os.path.basename(os.path.dirname(os.path.abspath(path))) if path != "-" else ""
        runs = []
        for one in (found := results.results_of(value, self.score, where)):
            self._called(one.score, where)
            name, of_size = method or named or folder or "result", size
            if len(found) > 1:  # each prediction is named as a file of its own would be
                place = os.path.normpath(one.prediction)
                own, of_size = results.names_of(os.path.basename(place).split(".")[0])
                name = own or os.path.basename(os.path.dirname(place)) or name
            cost = self._cost(path, name, of_size, one)
            runs.append(Run(name, cost[0], one.value, one.interval, of_size, cost[1], cost[2],
                            where))
        return runs

    def _called(self, score: str, where: str) -> None:
        """Refuse to mix scores, unless one was asked for by name."""
        self.name = self.name or score
        if score != self.name and self.score is None:
            raise UsageError(f"{where}: its score is {score}, that of the first result "
                             f"{self.name}: choose one with --score")

    def _curve(self, value: Any, method: str, where: str) -> list[Point]:
        try:
            points = [curve.load_point(v) for v in value["points"]]
            self._called(str(value.get("score", self.name or "score")), where)
            for name, share in value.get("full", {}).items():
                if type(share) not in (int, float) or not 0 < share <= 1:
                    raise ValueError(f"full is {share!r}")
                self.full.setdefault(name, share)
        except (ValueError, AttributeError) as error:
            raise UsageError(f"{where}: {error}") from None
        return [replace(p, method=method) for p in points] if method else points

    def _bytes(self, path: str) -> bytes:
        try:
            if path == "-":
                if 0 in self.env.closed or os.isatty(0):
                    raise UsageError("no input: name files of ws-eval --json, tables or curves")
                data = sys.stdin.buffer.read(MAX_BYTES + 1)
            else:
                with open(path, "rb") as file:
                    data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            raise UsageError(f"{path}: no such file or directory") from None
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from None
        if len(data) > MAX_BYTES:
            raise UsageError(f"{path}: more than {MAX_BYTES} bytes")
        return data

    # -- costs -----------------------------------------------------------------------------

    def _cost(self, path: str, method: str, size: str, result: results.Result) -> Cost:
        """Return what the labels of a result cost, from the first place that tells."""
        fits = [w for w in (path, f"{method}/{size}", size, method) if w and w in self._given]
        self._used.update(fits)
        if fits:
            return self._told(self._given[fits[0]], f"--cost {fits[0]}")
        beside = path.removesuffix(".json") + COST_SUFFIX
        if path != "-" and os.path.isfile(beside):
            return results.cost_of(_json(self._bytes(beside), beside), beside)
        item = result.item
        if isinstance(item.get("supervision"), dict):
            return self._priced(_labels(item["supervision"], path), _asked(item), path)
        if result.prediction and os.path.exists(result.prediction):
            return self._place(result.prediction)
        raise UsageError(f"{path}: it is not known what its labels cost: add --cost "
                         f"{size or method}=DAYS, or write ws-budget cost PLACE --json > {beside}")

    def _told(self, text: str, where: str) -> Cost:
        seconds = results.parse_time(text)
        if seconds is not None:
            return seconds, {}, None
        if not os.path.exists(text):
            raise UsageError(f"{where}={text}: neither a time (0.55d, 8h, 900s) nor a file")
        if os.path.isfile(text) and text.endswith(".json"):
            return results.cost_of(_json(self._bytes(text), text), text)
        return self._place(text)

    def _place(self, place: str) -> Cost:
        """Price what a place records as spent, on its records and on what made them."""
        source = Flow(self.env, "ws-budget", [], {}).open(place)
        if source.end is not None:
            source.check_complete()
        labels = by_kind(source.header.supervision, source.end.given if source.end else {})
        if not labels:
            raise UsageError(f"{source.where}: it records no labels that were given for it: say "
                             "what they cost with --cost WHAT=COST (0 if there were none)")
        names = source.header.classes or ()
        return self._priced(labels, len(names) - (background_id(names) is not None), source.where)

    def _priced(self, labels: dict[str, Labels], asked: int, where: str) -> Cost:
        n_classes = self.n_classes or asked
        if n_classes < 1:
            raise UsageError(f"{where}: it is not known how many classes were asked for: add "
                             "--n-classes N")
        parts = curve.parts_of(labels, n_classes, self.prices)
        return sum(part.seconds for part in parts.values()), parts, n_classes


def _json(data: bytes, where: str) -> Any:
    """Return strict JSON. Raises RecordError that names where it is from."""
    try:
        return parse_json(data)
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from None


def _labels(value: dict[str, Any], where: str) -> dict[str, Labels]:
    for kind, numbers in value.items():
        if not (isinstance(numbers, list) and len(numbers) == 3
                and all(type(n) in (int, float) and 0 <= n < 1 << 53 for n in numbers)):
            raise UsageError(f"{where}: supervision {kind} is {numbers!r}, not [images, classes, "
                             "objects]")
    return by_kind(value)


def _asked(item: Mapping[str, Any]) -> int:
    """Return how many classes a result of ws-eval has, without the background."""
    rows = item.get("classes")
    names = tuple(str(r.get("class")) for r in rows if isinstance(r, dict)) \
        if isinstance(rows, list) else ()
    return len(names) - (background_id(names) is not None) if names else 0


def full_scores(reader: Reader, texts: Sequence[str]) -> dict[str, float]:
    """Return method -> score of full supervision from ``[METHOD=]SCORE`` or ``[METHOD=]FILE``."""
    full = {}
    for text in texts:
        method, _, value = text.rpartition("=")
        if os.path.isfile(value):
            found = results.results_of(_json(reader._bytes(value), value), reader.score, value)
            if len(found) > 1:
                raise UsageError(f"--full {text}: {value} has {len(found)} results")
            score = found[0].value
        else:
            score = results.parse_score(value)
        if score < 1e-9:
            raise UsageError(f"--full {text}: nothing is a share of zero")
        full[method] = score
    return full


def statistics_from(env: Env, dataset: str | None, place: str | None,
                    **changes: float | None) -> Statistics | None:
    """Return the statistics that options name: a published data set, a file of ``ws-budget
    statistics --json``, or a place whose labels are measured; None if none is named."""
    if dataset and place:
        raise UsageError("--dataset and --statistics exclude each other")
    if place and os.path.isfile(place) and place.endswith(".json"):
        from wsseg.budget.dataset import load_statistics

        with open(place, "rb") as file:
            known = load_statistics(_json(file.read(MAX_BYTES), place), place)
    elif place:
        from wsseg.cli._budget_work import measured

        found, names = measured(Flow(env, "ws-budget plan", [], {}, (place,)),
                                changes.get("n_classes"))
        known = Statistics(found.classes.mean, found.objects.mean if found.objects
                           else float("nan"), found.n_classes, place)
    elif dataset:
        known = DATASETS[dataset]
    elif None not in (changes["mean_classes"], changes["mean_objects"], changes["n_classes"]):
        known = Statistics(0, 0, 1)
    elif changes["mean_classes"] is None and changes["mean_objects"] is None:
        return None
    else:
        raise UsageError("--mean-classes and --mean-objects change --dataset or --statistics, or "
                         "go together with --n-classes")
    return known.changed(**changes)


def dump(value: Any) -> str:
    """Return JSON for programs; what is undefined is null."""
    return json.dumps(value, indent=1, allow_nan=False)
