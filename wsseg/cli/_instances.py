"""Instances and panoptic maps against the truth: ws-eval --metric ap and pq."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from wsseg.cli._flow import Flow
from wsseg.cli._pairing import Pair, Scope, compare
from wsseg.cli._regions import (Things, confidence, counts_at_once, no_regions,
                                predicted_regions, true_regions)
from wsseg.cli._score import check_sizes
from wsseg.errors import RecordError, UsageError
from wsseg.metrics.average_precision import (AREAS, CITYSCAPES, COCO, RULES, VOLUME, Matches, Rule,
                                             average_precision, match, mean_precision,
                                             oracle_scores)
from wsseg.metrics.overlaps import Overlaps, overlaps, without_void
from wsseg.metrics.panoptic import PanopticScore, mean_of, panoptic_counts, panoptic_score


@dataclass(frozen=True)
class How:
    """How instances are scored. void: what has neither segment nor label is void."""

    rule: str = "coco"
    thresholds: tuple[float, ...] = COCO
    ranking: str = "score"
    void: bool = True


def thresholds(text: str | None, rule: str) -> tuple[float, ...]:
    """Return the thresholds of START:STEP:STOP or of a list; those of the rule for None.

    Raises UsageError for anything else, and below 0.5, where a detection may have several
    counterparts, for Cityscapes' rule.
    """
    if text is None:
        return {"coco": COCO, "cityscapes": CITYSCAPES}.get(rule, VOLUME)
    try:
        if ":" in text:
            start, step, stop = map(float, text.split(":"))
            count = math.floor((stop - start) / step + 1e-9) + 1
            found = tuple(round(start + i * step, 10) for i in range(count))
        else:
            found = tuple(map(float, text.split(",")))
    except (ValueError, ZeroDivisionError, OverflowError):
        found = ()
    if not 0 < len(found) <= 1000 or not all(0 < t <= 1 for t in found):
        raise UsageError(f"--thresholds {text}: not START:STEP:STOP or a list of numbers above 0 "
                         "and at most 1, such as 0.1:0.1:0.9 or 0.5,0.75")
    if rule == "cityscapes" and min(found) < 0.5:
        raise UsageError(f"--thresholds {text}: the rules of cityscapes begin at 0.5")
    return found


@dataclass(eq=False)
class Taken:
    """What the records' steps found, in their order, and what truth and prediction say of
    classes: things if a record says so."""

    found: list[Any] = field(default_factory=list)
    true_things: Things = field(default_factory=dict)
    things: Things = field(default_factory=dict)

    def __call__(self, one: tuple[Any, Things, Things]) -> None:
        self.found.append(one[0])
        self.hear(*one[1:])

    def hear(self, true_things: Things, things: Things) -> None:
        for known, new in ((self.true_things, true_things), (self.things, things)):
            for cls, thing in new.items():
                known[cls] = known.get(cls, False) or thing

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
    """Average precision. taken: each record's overlaps; n_classes: how many there are."""

    scope: Scope
    how: How
    taken: Taken
    n_classes: int
    main = "ap"

    @property
    def images(self) -> list[Overlaps]:
        return self.taken.found

    @cached_property
    def things(self) -> np.ndarray:
        return self.taken.flags(self.n_classes)

    @property
    def rule(self) -> Rule:
        return RULES[self.how.rule]

    @property
    def sizes(self) -> dict[str, tuple[float, float]]:
        """The sizes of objects that have scores of their own."""
        return AREAS if self.how.rule == "coco" else {}

    def _match(self, images: Sequence[Overlaps], within: tuple[float, float] | None = None
               ) -> Matches:
        return match(images, len(self.things), self.how.thresholds, choice=self.rule.choice,
                     most=self.rule.most, least=self.rule.least, within=within)

    @cached_property
    def matches(self) -> Matches:
        return self._match(self.images)

    @cached_property
    def tables(self) -> list[np.ndarray]:
        """By class and threshold, float64 (C, T): of all objects and of each size."""
        return self._tables(self.images)(None)

    def _tables(self, images: Sequence[Overlaps]) -> Callable[[Any], list[np.ndarray]]:
        """Return weights of the images -> ``tables``."""
        matches = [self.matches if images is self.images else self._match(images),
                   *(self._match(images, within) for within in self.sizes.values())]
        return lambda weights: [average_precision(m, self.rule.interpolation, weights)
                                for m in matches]

    @property
    def of_class(self) -> np.ndarray:
        return self.tables[0].mean(axis=1)

    def _summary(self, tables: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Return scores of ``tables``, each (..., C, T), by name."""
        table, *of_sizes = tables
        means = {f"ap{name}": mean_of(mean_precision(table, of))
                 for name, of in _groups(self.things).items()}
        means |= {f"ap_{size}": mean_of(mean_precision(one))
                  for size, one in zip(self.sizes, of_sizes)}
        levels = mean_precision(table)
        return means | {f"ap{t * 100:g}": levels[..., i] for i, t in
                        enumerate(self.how.thresholds) if len(self.how.thresholds) > 1}

    def summary(self) -> dict[str, float]:
        return {k: float(v) for k, v in self._summary(self.tables).items()}

    def resampled(self, rows: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
        """Return weights of the records in ``rows`` (B, N) -> scores of ``summary`` (M, B)."""
        tables = self._tables([self.images[i] for i in rows])
        return lambda weights: np.stack(list(self._summary(tables(weights)).values()))

    def of_images(self) -> dict[str, np.ndarray]:
        """Return scores of each record alone, float64 (N,)."""
        alone = [mean_of(mean_precision(average_precision(
            self._match([one]), self.rule.interpolation))) for one in self.images]
        return {"ap": np.array(alone), "truths": self.matches.truths.sum(axis=1),
                "detections": np.array([len(one.classes) for one in self.images])}

    def rows(self) -> list[dict[str, Any]]:
        """Return figures by class."""
        truths = self.matches.truths.sum(axis=0)
        found = np.diff(self.matches.starts)
        table, *of_sizes = self.tables
        return [{"ap": self.of_class[c],
                 **{f"ap{t * 100:g}": table[c, i] for i, t in enumerate(self.how.thresholds)},
                 **{f"ap_{s}": one[c].mean() for s, one in zip(self.sizes, of_sizes)},
                 "thing": _thing(self.things[c]), "truths": int(truths[c]),
                 "detections": int(found[c])}
                for c in range(len(self.things))]


@dataclass(frozen=True, eq=False)
class PanopticResult:
    """Panoptic quality. taken: ``panoptic_counts`` of each record, of classes up to the last
    that it has; n_classes: how many there are."""

    scope: Scope
    how: How
    taken: Taken
    n_classes: int
    main = "pq"

    @cached_property
    def counts(self) -> np.ndarray:
        """Of each record and all classes, (N, 4, C)."""
        counts = np.zeros((len(self.taken.found), 4, self.n_classes))
        for row, found in zip(counts, self.taken.found):
            row[:, :found.shape[1]] = found
        return counts

    @cached_property
    def things(self) -> np.ndarray:
        return self.taken.flags(self.n_classes)

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
    taken = Taken()
    scope = compare(flow, missing, lambda names: partial(_overlap, names=names, how=how), taken)
    return precision_of(scope, how, taken)


def precision_of(scope: Scope, how: How, taken: Taken) -> PrecisionResult:
    """Return what each record's overlaps come to."""
    scope, taken.found = scope.ordered(taken.found)
    n = len(scope.names) if scope.names else 1 + max(
        (int(c.max()) for one in taken.found for c in (one.classes, one.true_classes) if len(c)),
        default=-1)
    return PrecisionResult(scope, how, taken, n)


def run_pq(flow: Flow, missing: str, how: How) -> PanopticResult:
    """Measure panoptic quality. Raises UsageError as ``compare`` does."""
    taken = Taken()
    scope = compare(flow, missing, lambda names: partial(_count, names=names, how=how), taken)
    return quality_of(scope, how, taken)


def quality_of(scope: Scope, how: How, taken: Taken) -> PanopticResult:
    """Return what each record's counts come to."""
    scope, taken.found = scope.ordered(taken.found)
    n = len(scope.names) if scope.names else max((c.shape[1] for c in taken.found), default=0)
    return PanopticResult(scope, how, taken, n)


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
    found = overlaps(truth, guess, void=True)
    kept = np.ones(len(guess), bool)
    if not RULES[how.rule].least and found.void.any():  # Cityscapes' rule has its own for void
        found, kept = without_void(found)
    if how.ranking == "score":
        scores = found.scores
    elif how.ranking == "oracle" or pair.prediction is None:
        scores = oracle_scores(found)
    else:
        scores = confidence(pair.prediction, guess)[kept]
    if not np.isfinite(scores).all():
        raise RecordError("a detection has a score that is no number")
    return pair.key, (replace(found, scores=scores), true_things, things)


def _count(pair: Pair, *, names: Sequence[str] | None, how: How
           ) -> tuple[str, tuple[np.ndarray, Things, Things]]:
    found = counts_at_once(pair, names, how.void)
    if found is not None:
        return pair.key, found
    truth, true_things, guess, things = _both(pair, names, how)
    for what, regions in (("truth", truth), ("prediction", guess)):
        if regions.ids is None:
            raise RecordError(f"{what}: has masks, which may overlap; panoptic quality needs an "
                              "instance map")
    n = len(names) if names else 1 + max((int(r.classes.max()) for r in (truth, guess)
                                          if len(r)), default=-1)
    return pair.key, (panoptic_counts(truth, guess, n), true_things, things)
