"""Curves and plans as tables for people and as plain values for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsseg.budget.costs import DAY
from wsseg.budget.curve import CONFIDENCE, Part, Point, front, full_of, plain_point
from wsseg.budget.plan import Offer, Plan, left_out_error
from wsseg.budget.prices import KINDS
from wsseg.budget.text import aligned, number, percent
from wsseg.errors import printable


def curve_text(points: Sequence[Point], full: Mapping[str, float]) -> str:
    """Return one row a point; ``*`` marks those that no other beats."""
    best = set(map(id, front(points)))
    rows = [("method", "labels", "runs", "days", "seconds", "score", "+-", "low", "high",
             *(("of full",) if full else ()), "")]
    for point in points:
        whole = full_of(full, point.method)
        share = (percent(point.score / whole if whole else None),) if full else ()
        rows.append((printable(point.method), _labels(point.parts, point.size), str(point.runs),
                     _days(point.seconds), f"{point.seconds:,.0f}", percent(point.score),
                     percent(point.deviation), percent(point.low), percent(point.high), *share,
                     "*" if id(point) in best else ""))
    notes = [f"* no other point is as cheap and as good. Scores{' and shares' if full else ''} in "
             "percent, days of 24 hours.",
             f"+-: deviation of runs; low, high: {100 * CONFIDENCE:g} % interval of the mean."]
    return "\n".join([*aligned(rows, 2), *notes])


def curve_json(points: Sequence[Point], full: Mapping[str, float], score: str) -> dict[str, Any]:
    """Return points as JSON holds them, which curve and plan read again."""
    best = set(map(id, front(points)))
    return {"score": score, "confidence": CONFIDENCE, "full": dict(full),
            "points": [plain_point(p, full) | {"front": id(p) in best} for p in points]}


def plan_text(found: Plan, points: Sequence[Point], full: Mapping[str, float]) -> str:
    """Return what to buy, the alternatives, the next purchase, and what was measured."""
    lines = [f"budget {_time(found.budget)}"]
    if found.best is None:
        lines.append("buy nothing: " + (
            "all that was measured needs more images than there are" if found.cheapest is None else
            f"nothing that was measured can be paid (the cheapest costs {_time(found.cheapest)}), "
            "and what less reaches was not measured"))
    rows = [_bought("buy" if offer is found.best else "or", offer, full)
            for offer in found.methods]
    if found.step is not None:
        base = found.best.score if found.best else 0.0
        rows.append(_bought("next", found.step, full)[:-1]
                    + (f"{100 * (found.step.score - base):+.2f}, {100 * found.rate * DAY:.2f} a "
                       "day",))
    head = ("", "labels", "method", "days", "seconds", "score", "low", "high",
            *(("of full",) if full else ()), "")
    lines += aligned([head, *rows], 3, last_left=True) if rows else []
    if found.best is not None and found.left > found.budget * 1e-9:
        lines.append(f"{_time(found.left)} are left"
                     + (": nothing better was measured, and what more labels would add is not "
                        "known" if found.beyond else ": what is better needs more images than "
                        "there are" if found.wider and found.step is None else ""))
    rows = [("method", "labels", "days", "score", "low", "high")]
    rows += [(printable(p.method), _labels(p.parts, p.size), _days(p.seconds), percent(p.score),
              percent(p.low), percent(p.high)) for p in found.front]
    return "\n".join([*lines, "", "measured, and beaten by no other point:", *aligned(rows, 2),
                      *_errors(points)])


def _errors(points: Sequence[Point]) -> list[str]:
    lines = []
    for name in dict.fromkeys(p.method for p in points):
        error = left_out_error([p for p in points if p.method == name])
        if error is not None:
            lines.append(f"{printable(name)}: left out, an inner point lies up to "
                         f"{100 * error:.2f} points off the line between its neighbours")
    return lines


def _bought(word: str, offer: Offer, full: Mapping[str, float]) -> tuple[str, ...]:
    whole = full_of(full, offer.method)
    share = (percent(offer.score / whole if whole else None),) if full else ()
    how = "measured" if offer.between is None else \
        f"between {_days(offer.between[0].seconds)} and {_days(offer.between[1].seconds)} days"
    what = " ".join(f"{kind}={n:,}" for kind, n in sorted(offer.buy.items(), key=_dearest))
    return (word, what or ("-" if offer.seconds > 0 else "no more"), printable(offer.method),
            _days(offer.seconds), f"{offer.seconds:,.0f}", percent(offer.score),
            percent(offer.low), percent(offer.high), *share, how)


def _dearest(item: tuple[str, Any]) -> tuple[int, str]:
    """Sort kinds of label as people name them: masks, boxes, ..., tags."""
    return (-KINDS.index(item[0]) if item[0] in KINDS else 1), item[0]


def _labels(parts: Mapping[str, Part], size: str) -> str:
    return " ".join(f"{kind}={number(part.images)}"
                    for kind, part in sorted(parts.items(), key=_dearest)) \
        or printable(size) or "-"


def _days(seconds: float) -> str:
    return f"{seconds / DAY:,.2f}" if seconds >= DAY / 10 or not seconds else \
        f"{seconds / DAY:.2g}"


def _time(seconds: float) -> str:
    return f"{_days(seconds)} days ({seconds:,.0f} s)"


def plan_json(found: Plan, points: Sequence[Point], full: Mapping[str, float]) -> dict[str, Any]:
    """Return a plan as JSON holds it."""
    methods = dict.fromkeys(p.method for p in points)
    return {"budget": found.budget, "days": found.budget / DAY, "left": found.left,
            "beyond_measured": found.beyond,
            "best": found.best and found.best.plain(),
            "methods": [offer.plain() for offer in found.methods],
            "next": found.step and found.step.plain() | {"score_per_day": found.rate * DAY},
            "front": [plain_point(p, full) for p in found.front],
            "interpolation_error": {name: left_out_error([p for p in points if p.method == name])
                                    for name in methods}}
