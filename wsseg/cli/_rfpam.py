"""What ws-rfpam was asked for, and what it does to a record."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsseg.annotate.forest import NOT_DRAWN, ForestOptions, check_sklearn, native, preload
from wsseg.cli._differ import turned
from wsseg.cli._env import Env
from wsseg.cli._flow import Flow
from wsseg.cli._tally import Tally
from wsseg.errors import RecordError, UsageError
from wsseg.io.codec import check_classes
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.values import ScoreMap
from wsseg.nets.stems import NAMES, Stem, load_stem

KINDS = ("scribble", "points", "boxes")
CLASSICAL_PLANES = 90  # at least as many as the bank makes


@dataclass(frozen=True, eq=False)
class Settings:
    """forest: how it is grown; stems: networks' kernels; the rest as in the options."""

    forest: ForestOptions
    classical: bool
    stems: tuple[Stem, ...]
    position: bool
    order: tuple[str, ...]
    point_radius: float
    frame: int
    box_core: float
    write: str
    engine: str
    threads: int

    @property
    def writes(self) -> tuple[str, ...]:
        return ("score", "label") if self.write == "both" else (self.write,)


def configure(flow: Flow, features: str, options: dict[str, Any]) -> Settings:
    """Return the Settings of a run; say and record what they come from. Raises UsageError."""
    check_sklearn()
    use, engine = options["use"], options["engine"]
    built = native() is not None
    if engine == "native" and not built:
        raise UsageError("the native forest kernel is not built here (it needs a C++ compiler "
                         "when wsseg is installed): use --engine sklearn")
    if engine == "auto" and not built:
        flow.env.say("the native kernels are not built here: scikit-learn predicts, slower")
    if features == "auto":
        flow.env.say("features: classical filters, which need no weights (--features chooses "
                     "others)")
        features = "classical"
    classical, stems, named = load_features(features)
    flow.parameters["features"] = named
    flow.arguments = [named if a == features else a for a in flow.arguments]
    if flow.jobs > 1:  # loaded once, before there are workers, rather than by each of them
        preload()
    forest = ForestOptions(options["trees"], options["keep_features"], options["min_leaf"],
                           options["kind"], options["max_pixels"], options["clamp"],
                           options["seed"])
    return Settings(forest, classical, stems, options["position"], (use,) if use else KINDS,
                    options["point_radius"], options["frame"], options["box_core"],
                    options["write"], "native" if built and engine != "sklearn" else "sklearn",
                    options["threads"])


def load_features(text: str) -> tuple[bool, tuple[Stem, ...], str]:
    """Return whether the classical filters are wanted, the networks' kernels, and the text with
    files by their base name and digest: where a file lies is no part of how a result was made."""
    names = [text] if os.path.exists(text) else text.split("+")
    stems, said = [], []
    for name in names:
        if name == "classical":
            said.append(name)
            continue
        stems.append(load_stem(name))
        if name not in NAMES:
            digest = hashlib.sha256(stems[-1].kernels.tobytes()).hexdigest()[:12]
            name = f"{os.path.basename(name)}@{digest}"
        said.append(name)
    return "classical" in said, tuple(stems), "+".join(said)


def report_lone(lone: Tally, env: Env) -> None:
    """Say how many records have one class alone. lone: their keys."""
    keys = sorted(lone.total())
    if keys:
        some = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
        env.say(f"{len(keys)} of the images have one class scribbled, which is all that "
                f"their maps hold ({some})")


def step(record: Record, *, settings: Settings, lone: Tally) -> Record:
    """Annotate one record; count its key if it has one class alone."""
    from wsseg.annotate.forest import annotate

    image = record.get("image")
    scribble = drawn(record, image.shape[:2], settings)
    found = np.unique(scribble)
    count = int((found != NOT_DRAWN).sum())
    if not count:
        raise RecordError("nothing is scribbled: there is no class to learn")
    check_memory(image.shape[:2], len(found), settings)
    if count > 1:
        planes = compute(image, settings)
    else:  # which needs no features
        planes = np.zeros((1, *image.shape[:2]), np.float32)
        lone.add({record.key: 1})
    classes, prob = annotate(planes, scribble, settings.forest, threads=settings.threads,
                             engine=settings.engine)
    if "label" in settings.writes:
        record.set("label", classes.astype(np.uint8)[prob.argmax(axis=0)])
    if "score" in settings.writes:
        record.set("score", ScoreMap(prob.astype(np.float16), classes, image.shape[:2]))
    return record


def drawn(record: Record, size: tuple[int, int], settings: Settings) -> np.ndarray:
    """Return the scribble, uint8 (H, W), that a record's weak labels make. Raises RecordError."""
    from wsseg.annotate import forest

    kind = next((k for k in settings.order if k in record), None)
    if kind is None:
        raise RecordError(f"has no {' or '.join(settings.order)} (it holds "
                          f"{', '.join(sorted(record.kinds())) or 'nothing'})")
    value = record.get(kind)
    have = value.shape if kind == "scribble" else value.size
    if have is not None and tuple(have) != tuple(size):
        raise RecordError(f"{kind} is for a {have[0]}x{have[1]} image, but the photo is "
                          f"{size[0]}x{size[1]}{turned(have, size)}")
    background = background_id(record.names)
    try:
        if kind == "points":
            value = forest.points_as_scribble(
                value.xy, value.classes, size, radius=settings.point_radius,
                background=background, frame=settings.frame)
        elif kind == "boxes":
            value = forest.boxes_as_scribble(value.xyxy, value.classes, size,
                                             core=settings.box_core, background=background)
        check_classes(value, record.names)
    except RecordError as error:
        raise RecordError(f"{kind}: {error}") from None
    return value


def compute(image: np.ndarray, settings: Settings) -> np.ndarray:
    """Return the features, float32 (F, H, W), of a photo."""
    from wsseg.annotate import filters

    groups = [g for g in filters.GROUPS if (settings.position if g == "position"
                                            else settings.classical)]
    parts = [filters.classical(image, groups=groups)] if groups else []
    parts += [filters.responses(image, s.kernels, mean=s.mean, scale=s.scale)
              for s in settings.stems]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def check_memory(size: tuple[int, int], classes: int, settings: Settings) -> None:
    """Raise RecordError before features are made that cannot be held."""
    from wsseg.refine.densecrf import free_memory

    planes = (CLASSICAL_PLANES if settings.classical else 8) \
        + sum(len(s.kernels) for s in settings.stems)
    need = 4.0 * size[0] * size[1] * (2 * planes + 2 * classes)
    if need > (free := free_memory()):
        raise RecordError(f"{planes} features at {size[0]}x{size[1]} need about {need / 1e9:.1f} "
                          f"GB, and {free / 1e9:.1f} GB are free; shrink the photo")
