"""Instances and panoptic maps against the truth: ws-eval --metric ap and pq."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._pairing import Pair, Scope, compare
from wsseg.cli._regions import (Things, confidence, no_regions, predicted_regions, true_regions)
from wsseg.cli._score import check_sizes
from wsseg.errors import RecordError, UsageError
from wsseg.metrics.average_precision import (COCO, RULES, VOLUME, Matches, average_precision,
                                             match, mean_precision, oracle_scores)
from wsseg.metrics.overlaps import Overlaps, overlaps
from wsseg.metrics.panoptic import PanopticScore, mean_of, panoptic_counts, panoptic_score


@dataclass(frozen=True)
class How:
    """How instances are scored. void: what has neither segment nor label is void; most:
    detections that count, for each image and class."""

    rule: str = "coco"
    thresholds: tuple[float, ...] = COCO
    ranking: str = "score"
    void: bool = True
    most: int = 100


def thresholds(text: str | None, rule: str) -> tuple[float, ...]:
    """Return the thresholds of START:STEP:STOP or of a list; those of the rule for None.

    Raises UsageError for anything else.
    """
    if text is None:
        return COCO if rule == "coco" else VOLUME
    try:
        if ":" in text:
            start, step, stop = map(float, text.split(":"))
            count = round((stop - start) / step) + 1
            found = tuple(round(start + i * step, 10) for i in range(count))
        else:
            found = tuple(map(float, text.split(",")))
    except (ValueError, ZeroDivisionError, OverflowError):
        found = ()
    if not 0 < len(found) <= 1000 or not all(0 < t <= 1 for t in found):
        raise UsageError(f"--thresholds {text}: not START:STEP:STOP or a list of numbers above 0 "
                         "and at most 1, such as 0.1:0.1:0.9 or 0.5,0.75")
    return found


@dataclass(eq=False)
class _Taken:
    """What the records' steps found, in their order."""

    found: list[Any] = field(default_factory=list)
    true_things: Things = field(default_factory=dict)
    things: Things = field(default_factory=dict)

    def __call__(self, one: tuple[Any, Things, Things]) -> None:
        self.found.append(one[0])
        self.true_things.update(one[1])
        self.things.update(one[2])

    def flags(self, n_classes: int) -> np.ndarray:
        """Whether classes are things (1) or stuff (0), as the truth says or else the prediction,
        or do not occur (-1); int64 (C,)."""
        both = {**self.things, **self.true_things}
        return np.array([int(both.get(c, -1)) for c in range(n_classes)], np.int64)


def _groups(things: np.ndarray) -> dict[str, np.ndarray | None]:
    """Return which classes the means are over: all, and where there are both, things and
    stuff."""
    if not {0, 1} <= set(things.tolist()):
        return {"": None}
    return {"": None, "_things": things == 1, "_stuff": things == 0}


def _thing(flag: int) -> bool | None:
    return None if flag < 0 else bool(flag)


@dataclass(frozen=True, eq=False)
class PrecisionResult:
    """Average precision. things: as ``_Taken.flags`` has it; images: each record's overlaps."""

    scope: Scope
    how: How
    images: list[Overlaps]
    things: np.ndarray
    main = "ap"

    def matched(self, rows: Sequence[int] | None = None) -> Matches:
        """Match all records, or some."""
        chosen = self.images if rows is None else [self.images[i] for i in rows]
        return match(chosen, len(self.things), self.how.thresholds,
                     choice=RULES[self.how.rule][0], most=self.how.most)

    @cached_property
    def matches(self) -> Matches:
        return self.matched()

    @cached_property
    def table(self) -> np.ndarray:
        """By class and threshold, float64 (C, T)."""
        return average_precision(self.matches, RULES[self.how.rule][1])

    @property
    def of_class(self) -> np.ndarray:
        return self.table.mean(axis=1)

    def _summary(self, table: np.ndarray) -> dict[str, np.ndarray]:
        """Return scores of tables (..., C, T) by name."""
        means = {f"ap{name}": mean_of(mean_precision(table, of))
                 for name, of in _groups(self.things).items()}
        levels = mean_precision(table)
        return means | {f"ap{t * 100:g}": levels[..., i] for i, t in
                        enumerate(self.how.thresholds) if len(self.how.thresholds) > 1}

    def summary(self) -> dict[str, float]:
        return {k: float(v) for k, v in self._summary(self.table).items()}

    def resampled(self, rows: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
        """Return weights of the records in ``rows`` (B, N) -> scores of ``summary`` (M, B)."""
        matches = self.matched(rows)
        return lambda weights: np.stack(list(self._summary(average_precision(
            matches, RULES[self.how.rule][1], weights)).values()))

    def of_images(self) -> dict[str, np.ndarray]:
        """Return scores of each record alone, float64 (N,)."""
        n = len(self.images)
        alone = [self.resampled([i])(np.ones((1, 1)))[0, 0] for i in range(n)]
        return {"ap": np.array(alone), "truths": self.matches.truths.sum(axis=1),
                "detections": np.array([len(one.classes) for one in self.images])}

    def rows(self) -> list[dict[str, Any]]:
        """Return figures by class."""
        truths = self.matches.truths.sum(axis=0)
        found = np.diff(self.matches.starts)
        return [{"ap": self.of_class[c], **{f"ap{t * 100:g}": self.table[c, i] for i, t in
                                            enumerate(self.how.thresholds)},
                 "thing": _thing(self.things[c]), "truths": int(truths[c]),
                 "detections": int(found[c])}
                for c in range(len(self.things))]


@dataclass(frozen=True, eq=False)
class PanopticResult:
    """Panoptic quality. counts: ``panoptic_counts`` of each record, (N, 4, C)."""

    scope: Scope
    counts: np.ndarray
    things: np.ndarray
    main = "pq"

    @cached_property
    def score(self) -> PanopticScore:
        return panoptic_score(self.counts.sum(axis=0))

    @property
    def of_class(self) -> np.ndarray:
        return self.score.pq

    def _summary(self, score: PanopticScore) -> dict[str, np.ndarray]:
        return {f"{what}{name}": value for name, of in _groups(self.things).items()
                for what, value in zip(("pq", "sq", "dq"), score.mean(of))}

    def summary(self) -> dict[str, float]:
        return {k: float(v) for k, v in self._summary(self.score).items()}

    def resampled(self, rows: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
        """Return weights of the records in ``rows`` (B, N) -> scores of ``summary`` (M, B)."""
        flat = self.counts[list(rows)].reshape(len(rows), -1)
        shape = self.counts.shape[1:]
        return lambda weights: np.stack(list(self._summary(panoptic_score(
            (weights @ flat).reshape(-1, *shape))).values()))

    def of_images(self) -> dict[str, np.ndarray]:
        """Return scores of each record alone, float64 (N,)."""
        means = panoptic_score(self.counts).mean()
        total = self.counts.sum(axis=2)[:, 1:].astype(np.int64)
        return dict(zip(("pq", "sq", "dq", "tp", "fp", "fn"), (*means, *total.T)))

    def rows(self) -> list[dict[str, Any]]:
        """Return figures by class."""
        total = self.counts.sum(axis=0)[1:].astype(np.int64).T.tolist()
        return [{"pq": pq, "sq": sq, "dq": dq, "thing": _thing(thing), "tp": tp, "fp": fp, "fn": fn}
                for pq, sq, dq, thing, (tp, fp, fn) in zip(
                    self.score.pq, self.score.sq, self.score.dq, self.things, total)]


def run_ap(flow: Flow, missing: str, how: How) -> PrecisionResult:
    """Measure average precision. Raises UsageError as ``compare`` does."""
    taken = _Taken()
    scope = compare(flow, missing, lambda names: partial(_overlap, names=names, how=how), taken)
    n = len(scope.names) if scope.names else 1 + max(
        (int(c.max()) for one in taken.found for c in (one.classes, one.true_classes) if len(c)),
        default=-1)
    return PrecisionResult(scope, how, taken.found, taken.flags(n))


def run_pq(flow: Flow, missing: str, how: How) -> PanopticResult:
    """Measure panoptic quality. Raises UsageError as ``compare`` does."""
    taken = _Taken()
    scope = compare(flow, missing, lambda names: partial(_count, names=names, how=how), taken)
    n = len(scope.names) if scope.names else max(c.shape[1] for c in taken.found)
    counts = np.zeros((len(taken.found), 4, n))
    for row, found in zip(counts, taken.found):
        row[:, :found.shape[1]] = found
    return PanopticResult(scope, counts, taken.flags(n))


def _both(pair: Pair, names: Sequence[str] | None, how: How):
    """Return the regions and the kinds of classes of truth and prediction."""
    try:
        truth, true_things = true_regions(pair.truth, how.void)
    except RecordError as error:
        raise RecordError(f"truth: {error}") from None
    guess, things = no_regions(truth), {}
    if pair.prediction is not None:
        guess, things = predicted_regions(pair.prediction)
    check_sizes(truth.size, guess.size)
    for what, regions in (("truth", truth), ("prediction", guess)):
        if names and len(regions) and regions.classes.max() >= len(names):
            raise RecordError(f"{what}: a segment is of class {regions.classes.max()}, but there "
                              f"are {len(names)} classes")
    return truth, true_things, guess, things


def _overlap(pair: Pair, *, names: Sequence[str] | None, how: How
             ) -> tuple[str, tuple[Overlaps, Things, Things]]:
    truth, true_things, guess, things = _both(pair, names, how)
    found = overlaps(truth, guess)
    if how.ranking == "score":
        scores = found.scores
    elif how.ranking == "oracle" or pair.prediction is None:
        scores = oracle_scores(found)
    else:
        scores = confidence(pair.prediction, guess)
    if not np.isfinite(scores).all():
        raise RecordError("a detection has a score that is no number")
    return pair.key, (Overlaps(found.classes, scores, found.true_classes, found.crowd,
                               found.pairs, found.iou), true_things, things)


def _count(pair: Pair, *, names: Sequence[str] | None, how: How
           ) -> tuple[str, tuple[np.ndarray, Things, Things]]:
    truth, true_things, guess, things = _both(pair, names, how)
    for what, regions in (("truth", truth), ("prediction", guess)):
        if regions.ids is None:
            raise RecordError(f"{what}: has masks, which may overlap; panoptic quality needs an "
                              "instance map")
    n = len(names) if names else 1 + max((int(r.classes.max()) for r in (truth, guess)
                                          if len(r)), default=-1)
    return pair.key, (panoptic_counts(truth, guess, n), true_things, things)
