"""Shards of ws-eval: what one counted for each record, in its JSON, and all of them together.

Everything is put in the order of the keys before it is added, so that the merged figures are
those of a run without shards to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from wsseg.cli import _score
from wsseg.cli._instances import (How, PanopticResult, PrecisionResult, Taken, precision_of,
                                  quality_of)
from wsseg.cli._pairing import Scope
from wsseg.errors import UsageError, WssegError
from wsseg.metrics.average_precision import RULES
from wsseg.metrics.overlaps import Overlaps

Result = _score.Result | PrecisionResult | PanopticResult
#: Field -> type of the arrays of an ``Overlaps``.
_ARRAYS = {"classes": np.int64, "scores": np.float64, "true_classes": np.int64, "crowd": bool,
           "pairs": np.int64, "iou": np.float64, "areas": np.float64, "true_areas": np.float64,
           "meet": np.int64, "void": np.int64}


def part_of(result: Result, shard: tuple[int, int]) -> dict[str, Any]:
    """Return what a shard counted, as JSON holds it."""
    part: dict[str, Any] = {"shard": list(shard), "metric": result.main,
                            "names": result.scope.names, "keys": result.scope.keys}
    if isinstance(result, _score.Result):
        return part | {"counts": [rows.ravel().tolist() for rows in result.counts],
                       "bands": {str(width): _rows(matrix).ravel().tolist()
                                 for width, matrix in result.bands.items()}}
    part |= {"how": asdict(result.how), "true_things": _flags(result.taken.true_things),
             "things": _flags(result.taken.things)}
    if isinstance(result, PanopticResult):
        return part | {"counts": [_sparse(counts) for counts in result.taken.found]}
    return part | {"overlaps": [
        {name: value.tolist() for name in _ARRAYS if (value := getattr(one, name)) is not None}
        for one in result.taken.found]}


def _flags(things: dict[int, bool]) -> dict[str, bool]:
    return {str(cls): bool(thing) for cls, thing in sorted(things.items())}


def _rows(matrix: np.ndarray) -> np.ndarray:
    """Return a confusion matrix as rows of ``pair_counts``."""
    true, guess = np.nonzero(matrix)
    return np.stack([true, np.where(guess == len(matrix), 255, guess), matrix[true, guess]], 1)


def _sparse(counts: np.ndarray) -> dict[str, list[float]]:
    """Return class -> counts of ``panoptic_counts``, and the last class by its presence."""
    seen = counts.any(axis=0)
    seen[-1:] = True
    return {str(c): counts[:, c].tolist() for c in np.flatnonzero(seen).tolist()}


def merged(paths: Sequence[str]) -> list[Result]:
    """Return the results of all shards together, one for each prediction.

    Raises UsageError for shards that are missing, given twice or not of one evaluation, and
    WssegError for a file that is no result of a shard.
    """
    files = [_read(path) for path in paths]
    _check_shards(paths, [results[0]["part"] for results in files])
    if len({len(results) for results in files}) > 1:
        raise UsageError("the shards are not of one evaluation: they have different numbers of "
                         "predictions")
    return [_together(paths, results) for results in zip(*files)]


def _read(path: str) -> list[dict[str, Any]]:
    """Return the results of one file, each with its part."""
    try:
        with open(path, "rb") as file:
            value = json.loads(file.read())
        results = value.get("results", [value])
        for one in results:
            part = one["part"]
            index, count = part["shard"]
            if not (1 <= index <= count and part["metric"] in ("miou", "ap", "pq")
                    and all(isinstance(key, str) for key in part["keys"])):
                raise ValueError
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        results = None
    if not results:
        raise WssegError(f"{path}: no result of ws-eval --shard I/N --json")
    return results


def _check_shards(paths: Sequence[str], parts: list[dict[str, Any]]) -> None:
    found: dict[tuple[int, int], str] = {}
    for path, part in zip(paths, parts):
        shard = tuple(part["shard"])
        if shard in found:
            raise UsageError(f"{found[shard]} and {path} are both of shard {shard[0]}/{shard[1]}")
        found[shard] = path
    counts = {count for _, count in found}
    if len(counts) > 1:
        raise UsageError(f"the shards are not of one evaluation: {' and '.join(paths[:2])} are "
                         f"of {' and '.join(map(str, sorted(counts)))} parts")
    count, = counts
    lacking = [str(i) for i in range(1, min(count, 10 ** 6) + 1) if (i, count) not in found]
    if lacking:
        raise UsageError(f"shard{'s' * (len(lacking) > 1)} {', '.join(lacking[:9])}"
                         f"{' ...' * (len(lacking) > 9)} of {count} not given: the figures would "
                         "be of some records only")


def _together(paths: Sequence[str], results: Sequence[dict[str, Any]]) -> Result:
    """Add up what the shards say of one prediction."""
    parts = [one["part"] for one in results]
    for name in ("metric", "names", "how"):
        if any(part.get(name) != parts[0].get(name) for part in parts):
            raise UsageError("the shards are not of one evaluation: they differ in "
                             + {"names": "the names of classes", "how": "rule, thresholds, "
                                "ranking or --unlabelled"}.get(name, name))
    owner: dict[str, str] = {}
    for path, part in zip(paths, parts):
        for key in part["keys"]:
            if key in owner:
                raise UsageError(f"{owner[key]} and {path} have both scored {key}")
            owner[key] = path
    try:
        scope = _scope(results, tuple(owner))
        return {"miou": _labels, "ap": _precision, "pq": _quality}[parts[0]["metric"]](
            scope, parts)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError):
        raise WssegError(f"{', '.join(paths)}: what the shards counted is damaged") from None


def _scope(results: Sequence[dict[str, Any]], keys: tuple[str, ...]) -> Scope:
    def place(role: str) -> str:
        return " + ".join(dict.fromkeys(str(one[role]) for one in results))

    def total(name: str) -> int | None:
        values = [one[name] for one in results]
        return None if None in values else sum(map(int, values))

    names = results[0]["part"]["names"]
    if names is not None and not (isinstance(names, list)
                                  and all(isinstance(name, str) for name in names)):
        raise ValueError
    return Scope(place("prediction"), place("truth"), tuple(names) if names else None, keys,
                 total("unscored"), total("untrue"), total("failed"))


def _counts(values: list[int]) -> np.ndarray:
    rows = np.array(values, np.int64).reshape(-1, 3)
    if len(rows) and not (0 <= rows.min() and rows[:, :2].max() < 1 << 16):
        raise ValueError
    return rows


def _labels(scope: Scope, parts: list[dict[str, Any]]) -> Result:
    counts = _joined(scope, parts, "counts", _counts)
    widths = [list(part["bands"]) for part in parts]
    if widths.count(widths[0]) != len(widths):
        raise UsageError("the shards are not of one evaluation: they differ in --trimap")
    bands = {int(width): np.concatenate([_counts(part["bands"][width]) for part in parts])
             for width in widths[0]}
    return _score.result_of(scope, counts, bands)


def _joined(scope: Scope, parts: list[dict[str, Any]], name: str,
            read: Callable[[Any], Any]) -> list[Any]:
    """Return what ``read`` makes of every record's ``name``. Raises ValueError for a wrong
    number."""
    found = [read(value) for value in chain.from_iterable(part[name] for part in parts)]
    if len(found) != len(scope.keys):
        raise ValueError
    return found


def _taken(parts: list[dict[str, Any]], found: list[Any]) -> tuple[How, Taken]:
    how = parts[0]["how"]
    if how["rule"] not in RULES:
        raise ValueError
    taken = Taken(found)
    for part in parts:
        taken.hear(*({int(cls): bool(thing) for cls, thing in part[name].items()}
                     for name in ("true_things", "things")))
    return How(**{**how, "thresholds": tuple(map(float, how["thresholds"]))}), taken


def _precision(scope: Scope, parts: list[dict[str, Any]]) -> Result:
    how, taken = _taken(parts, _joined(scope, parts, "overlaps", _overlaps))
    return precision_of(scope, how, taken)


def _overlaps(value: dict[str, list]) -> Overlaps:
    arrays = {name: np.array(value[name], kind).reshape((-1, 2) if name == "pairs" else -1)
              for name, kind in _ARRAYS.items() if name in value}
    one = Overlaps(**arrays)
    sizes = len(one.classes), len(one.true_classes)
    if not (len(one.scores) == len(one.areas) == sizes[0] and len(one.crowd) == sizes[1]
            and len(one.true_areas) == sizes[1] and np.isfinite(one.scores).all()
            and len(one.pairs) == len(one.iou) == len(one.meet)
            and (one.void is None or len(one.void) == sizes[0])
            and ((0 <= one.pairs) & (one.pairs < sizes)).all()
            and min(one.classes.min(initial=0), one.true_classes.min(initial=0)) >= 0):
        raise ValueError
    return one


def _quality(scope: Scope, parts: list[dict[str, Any]]) -> Result:
    how, taken = _taken(parts, _joined(scope, parts, "counts", _dense))
    return quality_of(scope, how, taken)


def _dense(value: dict[str, list[float]]) -> np.ndarray:
    rows = {int(cls): row for cls, row in value.items()}
    if any(not 0 <= cls < 1 << 16 for cls in rows):
        raise ValueError
    counts = np.zeros((4, 1 + max(rows, default=-1)))
    for cls, row in rows.items():
        counts[:, cls] = row
    return counts
