"""How ws-fit scores parameters on strongly labelled images, remembers and reports it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from wsseg import __version__
from wsseg.cli import _boxseg, _refining
from wsseg.cli._fit_tasks import Task, parse_axes
from wsseg.cli._flow import Flow
from wsseg.cli._supervision import count_masks
from wsseg.cli._weaken import draw
from wsseg.errors import IncompleteError, RecordError, UsageError, WssegError
from wsseg.io import jsons
from wsseg.io.atomic import atomic_write, refuse_link
from wsseg.io.places import refuse_input
from wsseg.io.record import Record
from wsseg.io.source import Source
from wsseg.io.supervision import by_kind, named
from wsseg.metrics.iou import confusion_matrix, segmentation_score
from wsseg.refine import fit
from wsseg.refine.fit import Point

_PASS = 8  # points that are scored in one pass over the images


@dataclass(frozen=True)
class Pair:
    """One image's map (with its photo) and its truth."""

    key: str
    record: Record
    truth: Record


@dataclass(frozen=True)
class Plan:
    """What is searched, and how: ``axes`` are the values of each parameter that varies."""

    search: str
    sweeps: int
    axes: dict[str, list[float]]
    start: Point

    def begin(self) -> fit.Search:
        """Start the search."""
        if self.search == "grid":
            return fit.grid_search(self.start, self.axes)
        return fit.coordinate_search(self.start, self.axes, sweeps=self.sweeps)

    def write(self, point: Point, miou: float) -> str:
        """Return a scored point as a line of text."""
        return " ".join([repr(miou), *(f"{name}={float(point[name])!r}" for name in self.axes)])

    def read(self, line: str) -> tuple[Point, float]:
        """Return the point and its score that ``write`` made a line of."""
        miou, *values = line.split()
        pairs = (value.split("=") for value in values)
        return {**self.start, **{name: float(value) for name, value in pairs}}, float(miou)


class Fit:
    """One search: its images, its log, and what it found.

    The log beside the output holds what the search is made of (a digest), then the keys that
    could be scored and the labels they cost, then a line for each point. The finished preset
    holds the same.
    """

    def __init__(self, flow: Flow, source: Source, truth: Source, photos: Source | None,
                 task: Task, plan: Plan) -> None:
        self._flow, self._source, self._truth, self._photos = flow, source, truth, photos
        self._task, self.plan = task, plan
        self.output, self._log = Path(flow.output), Path(f"{flow.output}.part")
        self.known: dict[tuple, float] = {}
        self.spent: dict[str, tuple[int, ...]] = {}
        self.keys: list[str] = []
        self._tried = False  # which records can be scored is known
        self._names = truth.header.classes or source.header.classes
        if self._names is None:
            raise UsageError("the class names are unknown: give them with --classes")

    # -- images ----------------------------------------------------------------------------

    def choose(self, count: int | None, seed: int) -> None:
        """Take the records that both places hold, or ``count`` of them. Raises UsageError."""
        self._flow.lenient = True  # a list of keys may go beyond what is labelled
        self._flow.only = set(self._truth.keys()).__contains__
        keys = self._flow.selected(self._source)
        self._flow.wanted = None  # said once is enough
        if count is not None:
            if count > len(keys):
                raise UsageError(f"--count {count}: there are only {len(keys)} records")
            keys = sorted(sorted(keys, key=lambda key: draw(seed, key))[:count])
        if not keys:
            raise UsageError(f"{self._source.where} and {self._truth.where} hold no key in common")
        self._keep(keys)
        self._setup = self._digest()
        self._flow.wrap = lambda record: Pair(record.key, record, self._truth.get(record.key))

    def _keep(self, keys: list[str]) -> None:
        self.keys = keys
        self._flow.only = set(keys).__contains__

    def _settle(self, keys: list[str], failed: int) -> None:
        """Fix the records that are scored: what fails with later points only ends the run, for
        scores on different images cannot be compared."""
        self._keep(keys)
        self._flow.failed, self._flow.keep_going, self._tried = failed, False, True

    def _digest(self) -> str:
        """Return what must be equal for a search to go on where it stopped."""
        places = [(s.header.digest, s.end and s.end.digest)
                  for s in (self._source, self._truth, self._photos) if s is not None]
        parts = [__version__, self._task.essence(), repr(self.plan), self._names, places, self.keys]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    # -- memory ----------------------------------------------------------------------------

    def open(self, mode: str) -> dict[str, Any] | None:
        """Claim the output, and recall what an interrupted search found. Returns the preset if
        it was finished. Raises UsageError."""
        if self._flow.output == "-":
            raise UsageError("-o names the preset file; standard output gets the table")
        places = (*self._flow.inputs, *filter(None, [self._flow.images]))
        refuse_input(str(self.output), places)
        for path in (self.output, self._log):
            refuse_link(path)
            if mode == "new" and path.exists():
                raise UsageError(f"{path} exists: add --overwrite or --resume")
        if mode == "resume" and self._log.exists():
            self._recall(self._log.read_text("utf-8", "replace").split("\n")[:-1])
        elif mode == "resume" and self.output.exists():
            return self._finished()
        atomic_write(self._log, "".join(f"{line}\n" for line in self._lines()).encode())
        return None

    def _lines(self) -> list[str]:
        if not self._tried:
            return [self._setup]
        facts = {"keys": self.keys, "failed": self._flow.failed, "spent": self.spent}
        return [self._setup, json.dumps(facts), *self._points()]

    def _points(self) -> list[str]:
        return [self.plan.write(dict(k), v) for k, v in self.known.items()]

    def _recall(self, lines: list[str]) -> None:
        if lines and lines[0] != self._setup:
            raise UsageError(f"{self._log} belongs to another search: add --overwrite or choose "
                             "another output")
        if len(lines) < 2:
            return
        try:
            facts = json.loads(lines[1])
            self._settle(facts["keys"], facts["failed"])
            self.spent = {k: tuple(v) for k, v in facts["spent"].items()}
            points = map(self.plan.read, lines[2:])
            self.known = {fit.key_of(point): miou for point, miou in points}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{self._log} is damaged: add --overwrite") from None

    def _finished(self) -> dict[str, Any]:
        if self._task.method == "seg":
            _boxseg.load(str(self.output))
        else:
            _refining.load_preset(str(self.output))
        value = jsons.parse(self.output.read_bytes())
        if not isinstance(value.get("fit"), dict) or value["fit"].get("setup") != self._setup:
            raise UsageError(f"{self.output} is of another search: add --overwrite or choose "
                             "another output")
        self._flow.failed = value["fit"]["failed"]
        return value

    # -- working ---------------------------------------------------------------------------

    def evaluate(self, points: list[Point]) -> list[float]:
        """Return the mIoU of every point, in passes over the images; logs each pass."""
        scores: list[float] = []
        rest = iter(points)
        while part := list(islice(rest, _PASS)):
            first = not self._tried
            found = self._one_pass(part)
            scores += found
            lines = [*(self._lines()[1:2] if first else ()), *map(self.plan.write, part, found)]
            try:
                with open(self._log, "a", encoding="utf-8") as file:
                    file.write("".join(f"{line}\n" for line in lines))
            except OSError as error:
                raise WssegError(f"cannot write {self._log}: {error.strerror}") from None
            self._flow.env.say(f"{len(scores)} of {len(points)} points, best of these "
                               f"{100 * max(found):.2f}", 1)
        return scores

    def _one_pass(self, points: list[Point]) -> list[float]:
        n = len(self._names)
        total = np.zeros((len(points), n, n + 1), np.int64)
        step = partial(score_points, points=points, task=self._task, names=self._names)
        scored, masks = [], np.zeros(2, np.int64)
        for key, matrices, used in self._flow.map(step, self._source):
            total += matrices
            scored.append(key)
            masks += used
        if self._flow.cut is not None:
            raise IncompleteError(self._flow.cut)
        if not scored:
            raise WssegError("no record could be scored")
        if not self._tried:
            self._settle(scored, self._flow.failed)
            self.spent = {named("masks", scored): (len(scored), *masks.tolist())}
        if not total[0].any():
            raise WssegError(f"the label maps of {self._truth.where} are all 255: nothing can be "
                             "scored")
        return [segmentation_score(matrix).miou for matrix in total]

    def finish(self, best: Point) -> dict[str, Any]:
        """Write the preset, remove the log, and return what was written."""
        keys = hashlib.sha256("\n".join(self.keys).encode()).hexdigest()[:12]
        value = {"tool": self._task.tool, "version": __version__, "method": self._task.method,
                 "parameters": best, "supervision": {k: list(v) for k, v in self.spent.items()},
                 "fit": {"miou": round(self.known[fit.key_of(best)], 6), "records": len(self.keys),
                         "failed": self._flow.failed, "keys": keys, "setup": self._setup,
                         "search": self.plan.search, "vary": self.plan.axes,
                         "points": self._points()}}
        atomic_write(self.output, jsons.dump(value, indent=1))
        os.unlink(self._log)
        return value


def score_points(pair: Pair, *, points: list[Point], task: Task, names: Sequence[str]
                 ) -> tuple[str, np.ndarray, tuple[int, int]]:
    """Return an image's key, confusion matrices (points, C, C + 1), and the classes and objects
    that a person outlined in it."""
    truth = pair.truth.get("label")
    matrices = []
    for point in points:
        try:
            matrices.append(confusion_matrix(truth, task.label(pair.record, point), len(names)))
        except ValueError as error:
            raise RecordError(str(error)) from None
    return pair.key, np.stack(matrices), count_masks(pair.truth)


def run(flow: Flow, source: Source, truth: Source, photos: Source | None, task: Task,
        options: dict[str, Any]) -> dict[str, Any]:
    """Search, write the preset, and return it."""
    axes = parse_axes(options["vary"], task.method)
    for name in ("get", "keys"):
        if not (hasattr(source, name) and hasattr(truth, name)):
            raise UsageError("ws-fit goes over its inputs many times: directories or HDF5 files, "
                             "no streams")
    plan = Plan(options["search"], options["sweeps"], axes, task.start)
    work = Fit(flow, source, truth, photos, task, plan)
    work.choose(options["count"], options["subset_seed"])
    done = work.open(flow.mode)
    if done is None:
        done = work.finish(fit.run(plan.begin(), work.evaluate, work.known))
    return done


def _points(preset: dict[str, Any]) -> list[tuple[float, Point]]:
    """Return all points of a preset with their mIoU, in the order they were tried."""
    lines = (line.split() for line in preset["fit"]["points"])
    return [(float(miou), {name: float(v) for name, v in (pair.split("=") for pair in pairs)})
            for miou, *pairs in lines]


def as_table(preset: dict[str, Any], output: str) -> str:
    """Return all points tried, the best first."""
    rows = sorted(_points(preset), key=lambda row: -row[0])
    names, best = list(rows[0][1]), preset["parameters"]
    lines = ["   " + " ".join(f"{n:>16}" for n in names) + f" {'mIoU':>8}"]
    for miou, point in rows:
        mark = "* " if all(best[n] == v for n, v in point.items()) else "  "
        lines.append(f"{mark} " + " ".join(f"{point[n]:>16g}" for n in names)
                     + f" {100 * miou:>8.2f}")
    lines.append(f"{len(rows)} points on {preset['fit']['records']} records; best written to "
                 f"{output}")
    return "\n".join(lines)


def as_json(preset: dict[str, Any]) -> str:
    """Return the same as JSON."""
    fitted = preset["fit"]
    return json.dumps({"best": preset["parameters"], "supervision": by_kind(preset["supervision"]),
                       **{name: fitted[name] for name in ("miou", "records", "failed", "vary")},
                       "points": [{"miou": v, **point} for v, point in _points(preset)]},
                      indent=1, sort_keys=True)
