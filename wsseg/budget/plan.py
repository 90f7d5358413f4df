"""What to buy for a budget: measured points, and what lies between them.

Nothing is fitted. A purchase is either one that was measured, or lies on the line between two
neighbours of a method: images, and so the price, go linearly from one to the other; the score
goes linearly in the logarithm of the price (in the price where the cheaper one is free). The
answer is the best of all that can be paid, so that more money never promises less and nothing
is promised beyond the dearest point measured. Intervals go linearly as the score does: between
two points one is no surer than at them.

Labels that one has already cost nothing: of each kind only the images that are missing are paid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wsseg.budget.costs import DAY
from wsseg.budget.curve import Part, Point, front

#: A budget that equals a price up to rounding pays it.
SLACK = 1 + 1e-9


@dataclass(frozen=True)
class Offer:
    """Something that can be bought.

    seconds: still to be paid; images: kind -> images in all; buy: kind -> whole images to buy;
    between: sizes or days of the two points it lies between, or None if it was measured.
    """

    method: str
    seconds: float
    score: float
    low: float | None
    high: float | None
    images: Mapping[str, float]
    buy: Mapping[str, int]
    between: tuple[Point, Point] | None
    point: Point | None

    def plain(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {"method": self.method, "seconds": self.seconds, "days": self.seconds / DAY,
                "score": self.score,
                "interval": None if self.low is None else [self.low, self.high],
                "images": {k: n for k, n in self.images.items() if not k.startswith("labels of")},
                "buy": dict(self.buy), "measured": self.between is None,
                "between": None if self.between is None else [p.seconds for p in self.between]}


@dataclass(frozen=True)
class Plan:
    """The answer. best: None where nothing can be paid; methods: the best offer of each method
    that has one; front: measured points that no other beats; step: what to buy after best, and
    rate: its gain in score for a second; left: seconds of the budget that best leaves; cheapest:
    seconds of the cheapest measured point that there are images for, None for none; wider: whether
    a better point was measured that there are too few images for."""

    budget: float
    best: Offer | None
    methods: list[Offer]
    front: list[Point]
    step: Offer | None
    rate: float | None
    left: float
    cheapest: float | None
    wider: bool

    @property
    def beyond(self) -> bool:
        """Whether the budget pays for the best point measured, and more."""
        return self.left > 0 and self.step is None and self.best is not None and not self.wider


def plan(points: Sequence[Point], budget: float, have: Mapping[str, float] | None = None, *,
         measured: bool = False, images: float = math.inf) -> Plan:
    """Return what to buy for ``budget`` seconds.

    have: kind -> images that are labelled already. measured: offer nothing between points.
    images: how many there are to be labelled in all, each with one kind.
    """
    have = have or {}
    offers = {name: offers_of([p for p in points if p.method == name], budget, have, measured,
                              images)
              for name in dict.fromkeys(p.method for p in points)}
    methods = sorted((min(some, key=_rank) for some in offers.values() if some), key=_rank)
    best = methods[0] if methods else None
    there = [p for p in points if _total(p) <= images]
    step, rate = _next(there, best, have)
    wider = any(p.score > (best.score if best else 0.0) for p in points if _total(p) > images)
    return Plan(budget, best, methods, front(there), step, rate,
                budget - (best.seconds if best else 0.0),
                min((_extra(p, p, 0.0, have) for p in there), default=None), wider)


def _rank(offer: Offer) -> tuple:
    return -offer.score, offer.seconds, offer.between is not None, offer.method


def offers_of(points: Sequence[Point], budget: float, have: Mapping[str, float],
              measured: bool = False, images: float = math.inf) -> list[Offer]:
    """Return what of one method can be paid: its points, and the ends of what can be paid of each
    line between neighbours. On a line the score rises or falls all the way, so that its best is
    at such an end."""
    points = sorted(points, key=lambda p: p.seconds)
    found = [_offer(p, p, 0.0, have) for p in points]
    for left, right in zip(points, points[1:]) if not measured else ():
        found += [_offer(left, right, t, have) for t in _ends(left, right, budget, have, images)]
    return [offer for offer in found if offer.seconds <= budget * SLACK
            and sum(offer.images.values()) <= images * SLACK]


def _total(point: Point) -> float:
    return sum(part.images for part in point.parts.values())


def _ends(left: Point, right: Point, budget: float, have: Mapping[str, float],
          images: float) -> list[float]:
    """Return where on a line the price reaches the budget or changes its slope, and where all
    images are used."""
    if right.seconds <= left.seconds:
        return []
    bends = {0.0, 1.0}
    if _total(left) != _total(right) and images < math.inf:
        bends.add((images - _total(left)) / (_total(right) - _total(left)))
    for _, (s0, s1), (u0, u1), _ in _lines(left, right, have):
        slope = (s1 - u1) - (s0 - u0)
        if slope:
            bends.add(-(s0 - u0) / slope)
    ts = sorted(t for t in bends if 0 <= t <= 1)
    ends = [t for t in ts if 0 < t < 1]
    for t0, t1 in zip(ts, ts[1:]):
        c0, c1 = (_extra(left, right, t, have) for t in (t0, t1))
        if (c0 - budget) * (c1 - budget) < 0:
            ends.append(t0 + (t1 - t0) * (budget - c0) / (c1 - c0))
    return ends


def _parts(point: Point) -> Mapping[str, Part]:
    """Labels that are not known are a kind of their own, of which a second is an image."""
    if point.parts or not point.seconds:
        return point.parts
    return {f"labels of {point.method}": Part(point.seconds, 0, 0, point.seconds)}


def _lines(left: Point, right: Point, have: Mapping[str, float]):
    """Yield for each kind (kind, seconds, seconds of what one has, images) at both ends."""
    ours, theirs, none = _parts(left), _parts(right), Part(0, 0, 0, 0)
    for kind in dict.fromkeys((*ours, *theirs)):
        ends = ours.get(kind, none), theirs.get(kind, none)
        unit = [p.seconds / p.images if p.images else None for p in ends]
        unit = [u if u is not None else unit[1 - i] or 0.0 for i, u in enumerate(unit)]
        yield (kind, tuple(p.seconds for p in ends), tuple(u * have.get(kind, 0) for u in unit),
               tuple(p.images for p in ends))


def _extra(left: Point, right: Point, t: float, have: Mapping[str, float]) -> float:
    """Return the seconds still to be paid at ``t`` of the way from left to right."""
    return math.fsum(max(0.0, s0 - u0 + t * ((s1 - u1) - (s0 - u0)))
                     for _, (s0, s1), (u0, u1), _ in _lines(left, right, have))


def _offer(left: Point, right: Point, t: float, have: Mapping[str, float]) -> Offer:
    images = {kind: n0 + t * (n1 - n0) for kind, _, _, (n0, n1) in _lines(left, right, have)}
    w = _weight(left.seconds, right.seconds, t)

    def mix(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a + w * (b - a) if w else a

    whole = {kind: math.floor(n - have.get(kind, 0) + 1e-6) for kind, n in images.items()
             if not kind.startswith("labels of")}
    return Offer(left.method, _extra(left, right, t, have), mix(left.score, right.score),
                 mix(left.low, right.low), mix(left.high, right.high), images,
                 {kind: n for kind, n in whole.items() if n > 0},
                 (left, right) if w else None, None if w else left)


def _weight(low: float, high: float, t: float) -> float:
    """Return how far the score has gone at ``t`` of the way from a price to a higher one."""
    if low <= 0 or not t:
        return t
    return math.log1p(t * (high - low) / low) / math.log(high / low)


def _next(points: Sequence[Point], best: Offer | None,
          have: Mapping[str, float]) -> tuple[Offer | None, float | None]:
    """Return the measured point that gains most for a second after ``best``, and its rate.

    Where nothing can be paid, gains count from zero.
    """
    owned = dict(have)
    for kind, number in (best.images if best else {}).items():
        owned[kind] = max(owned.get(kind, 0.0), number)
    base = best.score if best else 0.0
    found = [_offer(p, p, 0.0, owned) for p in points if p.score > base]
    steps = [(offer.score - base) / offer.seconds for offer in found if offer.seconds > 0]
    found = [offer for offer in found if offer.seconds > 0]
    if not found:
        return None, None
    rate, _, i = max((rate, -offer.seconds, i) for i, (rate, offer) in enumerate(zip(steps, found)))
    return found[i], rate


def left_out_error(points: Sequence[Point]) -> float | None:
    """Return how far the line between its neighbours is from a point, at most over all inner
    points of a method: an honest idea of what interpolation may be off by. None for fewer than
    three points."""
    points = sorted(points, key=lambda p: p.seconds)
    errors = []
    for a, b, c in zip(points, points[1:], points[2:]):
        if a.seconds < c.seconds:
            w = _weight(a.seconds, c.seconds, (b.seconds - a.seconds) / (c.seconds - a.seconds))
            errors.append(abs(a.score + w * (c.score - a.score) - b.score))
    return max(errors, default=None)
