"""Values of every kind, drawn at random, for the tests of wsseg.io."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import configuration, settings
from hypothesis import strategies as st

from wsseg.io.header import Header, Total
from wsseg.io.places import open_sink
from wsseg.io.values import Boxes, InstanceMap, Masks, Points, ScoreMap, Segment

# nothing is left in the checkout, and a slow machine fails no test
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "wsseg-hypothesis")
settings.register_profile("wsseg", deadline=None, database=None)
settings.load_profile("wsseg")

_PARTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"),
                 min_size=1, max_size=6).filter(lambda p: p not in (".", ".."))
#: Parts that look like escapes, suffixes, hidden files and our own names.
_ODD = st.sampled_from(["%2E", "%25", "%", ".hidden", "a.b.c", "png", "cat.jpg", "über",
                        "日本", " ", "x y", "~", "-o", "*", "__x__", "%2F"])

keys = st.lists(_PARTS | _ODD, min_size=1, max_size=3).map("/".join)
unknown_suffixes = st.sampled_from(["txt", "a.b", "JSON", "PNG", "clé", "x y", "depth.npy", "%",
                                    "%2E", "jpeg", "7"])


def _number(rng: np.random.Generator) -> float:
    return float(rng.choice([rng.integers(0, 50), rng.random() * 50]))


def _score(rng: np.random.Generator, size: tuple[int, int]) -> ScoreMap:
    count = int(rng.integers(0, 4))
    data = rng.random((count, *rng.integers(1, 4, 2))).astype(rng.choice(["f2", "f4"]))
    return ScoreMap(data, np.sort(rng.choice(250, count, replace=False)).astype(np.int64), size)


def _instance(rng: np.random.Generator, size: tuple[int, int]) -> InstanceMap:
    ids = rng.choice([0, 1, 7, 300, 65535], size).astype(np.uint16)
    return InstanceMap(ids, tuple(
        Segment(int(i), int(rng.integers(0, 20)), _number(rng), bool(rng.integers(2)))
        for i in np.unique(ids) if i))


def _masks(rng: np.random.Generator, size: tuple[int, int]) -> Masks:
    cut = rng.integers(0, size[0] * size[1] + 1)
    runs = ((int(cut), int(size[0] * size[1] - cut)),) * int(rng.integers(0, 3))
    crowd = rng.random(len(runs)) < .5
    return Masks(size, runs, rng.integers(0, 200, len(runs)), rng.random(len(runs)),
                 crowd if crowd.any() else None,
                 rng.random(len(runs)) if len(runs) and rng.integers(2) else None)


def make_value(kind: str, rng: np.random.Generator):
    """Return a random value of a kind, of about 5 x 5 pixels."""
    size = tuple(int(n) for n in rng.integers(1, 7, 2))
    stated = size if rng.integers(2) else None
    count = int(rng.integers(0, 4))
    classes = rng.integers(0, 250, count)
    if kind in ("label", "conf", "scribble"):
        deep = kind == "label" and rng.integers(2)
        return rng.integers(0, 65536 if deep else 256, size).astype("u2" if deep else "u1")
    if kind in ("score", "cam"):
        return _score(rng, size)
    if kind == "instance":
        return _instance(rng, size)
    if kind == "masks":
        return _masks(rng, size)
    if kind == "image":
        return rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    if kind == "tags":
        return tuple(sorted(set(classes.tolist())))
    if kind == "counts":
        return {int(c): int(rng.integers(0, 9)) for c in np.unique(classes)}
    if kind == "boxes":
        low = [[_number(rng), _number(rng)] for _ in range(count)]
        xyxy = np.array([[x, y, x + 1 + _number(rng), y + .5] for x, y in low]).reshape(-1, 4)
        return Boxes(xyxy, classes, stated,
                     rng.random(count) if count and rng.integers(2) else None)
    assert kind == "points"
    return Points(np.array([[_number(rng), _number(rng)] for _ in range(count)]).reshape(-1, 2),
                  classes, stated)


def same(a, b) -> bool:
    """Whether two decoded values are equal, to the dtype."""
    if isinstance(a, np.ndarray):
        return (isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape
                and np.array_equal(a, b))
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, f), getattr(b, f))
                                          for f in a.__dataclass_fields__)
    return a == b


def put(place, header: Header, records) -> str:
    """Write records under a given header."""
    sink, total = open_sink(str(place), header), Total()
    for record in records:
        packed = record.pack()
        sink.write(packed, packed.digest)
        total.add(packed.key, packed.digest, packed.supervision)
    sink.finish(total.end(header))
    return str(place)
