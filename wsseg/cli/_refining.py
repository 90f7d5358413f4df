"""What ws-crf was asked for, and what it does to a record."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from wsseg.cli._differ import turned
from wsseg.errors import RecordError, UsageError
from wsseg.io import jsons
from wsseg.io.codec import check_classes
from wsseg.io.kinds import background_id
from wsseg.io.record import Record
from wsseg.io.supervision import load_supervision
from wsseg.io.values import ScoreMap

MAPS = ("score", "cam", "label")
#: method -> option -> field of what the method takes.
PARAMETERS = {
    "dense": {"iterations": "iterations", "gauss_weight": "gauss_weight",
              "gauss_sigma": "gauss_sigma", "rgb_weight": "rgb_weight",
              "xy_sigma": "rgb_sigma_xy", "rgb_sigma": "rgb_sigma"},
    "potts": {"weight": "weight", "edge": "edge", "tolerance": "tolerance",
              "iterations": "max_iterations"},
}
#: Parameters that grow with the photo; lambda does because regions grow by the square, borders not.
LENGTHS = ("gauss_sigma", "xy_sigma", "weight")
DEFAULT_PRESET = {"dense": "deeplab", "potts": "scribbles-potts"}
#: What every method has: how labels and cams become probabilities.
_START = {"confidence": 0.7, "background_power": 1.0}
_POTTS = {"tolerance": 1e-3, "iterations": 1000}
#: Parameters that may be 0; the others must be above it.
_MAY_BE_0 = {"gauss_weight", "rgb_weight", "weight", "edge"}


@dataclass(frozen=True)
class Settings:
    """What ws-crf was asked for; parameters: by option, of the method; relative: longer side of
    the photos that the lengths were meant for; order: kinds to start from, the preferred first;
    the rest as in the options of the same name."""

    method: str
    parameters: dict[str, float]
    relative: float | None = None
    order: tuple[str, ...] = MAPS
    all_classes: bool = False
    min_prob: float = 0.05
    write: str = "both"
    engine: str = "auto"
    threads: int = 1
    device: str | None = None

    def __post_init__(self) -> None:
        for name in ("relative", "min_prob"):
            if math.isnan(value := getattr(self, name) or 0) or math.isinf(value):
                raise UsageError(f"--{name.replace('_', '-')} {value:g}: must be finite")

    @property
    def writes(self) -> tuple[str, ...]:
        return {"both": ("score", "label"), "score": ("score",), "label": ("label",)}[self.write]


@dataclass(frozen=True)
class Preset:
    """Parameters by name, or fitted. spent: labels that the fit used."""

    method: str
    parameters: dict[str, float]
    spent: dict[str, tuple[int, ...]] = field(default_factory=dict)


def presets() -> dict[str, Preset]:
    """Return the built-in presets; their sources are in refine/densecrf.py and refine/potts.py."""
    from wsseg.refine import densecrf, potts

    dense = {name: Preset("dense", {option: getattr(value, f) for option, f
                                    in PARAMETERS["dense"].items()} | _START)
             for name, value in densecrf.PRESETS.items()}
    return dense | {name: Preset("potts", {**_POTTS, **value, **_START})
                    for name, value in potts.PRESETS.items()}


def load_preset(name: str) -> Preset:
    """Return a built-in preset, or one that ws-fit wrote. Raises UsageError."""
    built_in = presets()
    if name in built_in:
        return built_in[name]
    try:
        with open(name, "rb") as file:
            value = jsons.parse(file.read(1 << 20))
        preset = Preset(value["method"], {k: float(v) for k, v in value["parameters"].items()},
                        load_supervision(value["supervision"]))
    except OSError as error:
        raise UsageError(f"no preset {name!r} (there are {', '.join(built_in)}), and no such file "
                         f"({error.strerror})") from None
    except (RecordError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{name} is no preset that ws-fit wrote ({error})") from None
    if (value.get("tool") != "ws-crf" or preset.method not in PARAMETERS
            or set(preset.parameters) != names(preset.method)):
        raise UsageError(f"{name} is a preset for something else than this ws-crf")
    check(preset.method, preset.parameters, f"{name}: ")
    return preset


def names(method: str) -> set[str]:
    """Return the names of a method's parameters."""
    return {*PARAMETERS[method], *_START}


def check(method: str, parameters: Mapping[str, float], where: str = "--") -> None:
    """Raise UsageError for a value that a parameter cannot have."""
    for name, value in parameters.items():
        text = f"{where}{name.replace('_', '-')} {value:g}:"
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{text} must be finite and not negative")
        if value == 0 and name not in _MAY_BE_0 and (method, name) != ("dense", "iterations"):
            raise UsageError(f"{text} must be above 0")
        if name == "iterations" and value != int(value):
            raise UsageError(f"{text} must be a whole number")
        if name == "confidence" and value > 1:
            raise UsageError(f"{text} must be at most 1")


def resolve(method: str | None, preset: str | None, given: Mapping[str, float | None]
            ) -> tuple[str, dict[str, float], dict[str, tuple[int, ...]]]:
    """Return method, all its parameters, and the labels that a fitted preset has spent.

    Raises UsageError for parameters that the method does not have.
    """
    chosen = load_preset(preset or DEFAULT_PRESET[method or "dense"])
    if method is not None and chosen.method != method:
        raise UsageError(f"preset {preset} is for --method {chosen.method}")
    parameters = dict(chosen.parameters)
    for name, value in given.items():
        if value is None:
            continue
        if name not in names(chosen.method):
            raise UsageError(f"--{name.replace('_', '-')} is no parameter of --method "
                             f"{chosen.method}")
        parameters[name] = value
    check(chosen.method, parameters)
    parameters["iterations"] = int(parameters["iterations"])
    return chosen.method, parameters, chosen.spent


def resolve_engine(settings: Settings) -> tuple[Settings, str | None]:
    """Return settings with the engine that will run, and what is to be said about it.

    Raises UsageError when there is none, or none such.
    """
    from wsseg.refine import potts

    name, wants_gpu = settings.engine, settings.device not in (None, "cpu")
    if wants_gpu and not re.fullmatch(r"cuda(:\d+)?", settings.device):
        raise UsageError(f"--device {settings.device} is not cpu, cuda or cuda:N")
    if wants_gpu and name not in ("auto", "torch"):
        raise UsageError(f"--engine {name} cannot use --device {settings.device}: torch can")
    if name == "pydensecrf" and settings.method == "potts":
        raise UsageError("pydensecrf is an engine of --method dense")
    if wants_gpu:
        name = "torch"
    name = potts.resolve_engine(name) if settings.method == "potts" else _dense_engine(name)
    slow = settings.engine == "auto" and name != "native" and not wants_gpu
    note = f"the native kernels are not built here: {name} does it, slower" if slow else None
    return replace(settings, engine=name), note


def _dense_engine(name: str) -> str:
    from importlib.util import find_spec

    from wsseg.refine.densecrf import resolve_engine
    from wsseg.refine.lattice import native

    if name == "auto":
        return resolve_engine()
    if name == "native" and native() is None:
        raise UsageError("the native kernels are not built here (they need a C++ compiler "
                         "when wsseg is installed): use --engine torch or numpy")
    if name == "torch" and find_spec("torch") is None:
        raise UsageError("the torch engine needs PyTorch: pip install 'wsseg[nets]'")
    if name == "pydensecrf" and find_spec("pydensecrf") is None:
        raise UsageError("--engine pydensecrf needs a package: pip install pydensecrf2")
    return name


# -- one record ----------------------------------------------------------------------------


def step(record: Record, *, settings: Settings) -> Record:
    """Refine the map of one record."""
    classes, result = refine(record, settings)
    if "label" in settings.writes:
        ids = classes.astype(np.uint8 if classes.max() < 255 else np.uint16)
        record.set("label", ids[result.argmax(axis=0)])
    if "score" in settings.writes:
        record.set("score", ScoreMap(result.astype(np.float16), classes, result.shape[1:]))
    return record


def refine(record: Record, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return class ids (K,) and refined probabilities, float32 (K, H, W). Raises RecordError."""
    image = record.get("image")
    if image.shape[0] * image.shape[1] == 0:
        raise RecordError("the photo has no pixel")
    classes, prob = start(record, image.shape[:2], settings)
    return classes, regularise(prob, image, settings)


def start(record: Record, size: tuple[int, int], settings: Settings
          ) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes that may occur and their probabilities at full size. RecordError."""
    from wsseg.refine import fuse, unary

    kind = next((k for k in settings.order if k in record), None)
    if kind is None:
        raise RecordError(f"has no {' or '.join(settings.order)} (it holds "
                          f"{', '.join(sorted(record.kinds())) or 'nothing'})")
    value = record.get(kind)
    have = value.shape if kind == "label" else tuple(value.size)
    if tuple(have) != tuple(size):
        raise RecordError(f"{kind} is for a {have[0]}x{have[1]} image, but the photo is "
                          f"{size[0]}x{size[1]}{turned(have, size)}")
    allowed = None if settings.all_classes else _allowed(record)
    try:
        if kind == "label":
            return _start_from_labels(value, record, allowed, settings)
        if kind == "score":
            fuse.check_probabilities(value.data)
        data, classes = value.data, value.classes
        if record.names is not None and len(classes) and classes.max() >= len(record.names):
            raise RecordError(f"class {classes.max()}, but there are {len(record.names)} classes")
        if kind == "cam":
            data, classes = _with_background(value, record.names, settings)
        if not len(classes):
            raise RecordError("has no class")
        kept = np.ones(len(classes), bool) if settings.all_classes else unary.possible(
            data, classes, allowed=allowed, least=settings.min_prob)
        if not kept.any():
            raise RecordError("holds no class that the record's tags permit "
                              f"({', '.join(map(str, sorted(allowed))) or 'none'})")
        _check_memory(int(kept.sum()), size, settings)
        data = fuse.resample(data[kept], size)
        return classes[kept], unary.normalised(data)
    except (ValueError, RecordError) as error:
        raise RecordError(f"{kind}: {error}") from None


def _start_from_labels(label: np.ndarray, record: Record, allowed: set[int] | None,
                       settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    from wsseg.refine import unary
    from wsseg.refine.fuse import IGNORE

    check_classes(label, record.names)
    present = set(np.unique(label).tolist()) - {IGNORE}
    if allowed is not None:  # what the tags exclude says nothing
        label = np.where(np.isin(label, list(allowed)), label, IGNORE)
        present = allowed
    elif settings.all_classes and record.names is not None:
        present |= set(range(len(record.names))) - {IGNORE}
    classes = np.array(sorted(present), np.int64)
    if not len(classes):
        raise RecordError("no pixel and no tag names a class: nothing is known")
    _check_memory(len(classes), label.shape, settings)
    return classes, unary.from_labels(label, classes, settings.parameters["confidence"])


def _with_background(cams: ScoreMap, names: tuple[str, ...] | None, settings: Settings
                     ) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (K + 1, h, w) and their ascending classes."""
    from wsseg.refine import unary

    background = background_id(names)
    if background is None:
        raise RecordError(f"the classes have no background (the first is {names[0]}), which "
                          "activation maps need: make score maps of them")
    if background in cams.classes:
        raise RecordError(f"has a map of the background (class {background})")
    data = unary.from_activations(cams.data.astype(np.float32),
                                  settings.parameters["background_power"])
    return data, np.concatenate([[background], cams.classes])


def _check_memory(classes: int, size: tuple[int, int], settings: Settings) -> None:
    """Raise RecordError before maps are made that cannot be held and refined."""
    from wsseg.refine.densecrf import free_memory

    maps = 4.0 * classes * size[0] * size[1]
    need = 3 * maps
    if settings.method == "potts":
        from wsseg.refine.potts import workspace_bytes

        need = maps + workspace_bytes(classes, *size)
    free = free_memory()
    if need > free:
        raise RecordError(f"{classes} classes at {size[0]}x{size[1]} need at least "
                          f"{need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; shrink the "
                          "photo or keep fewer classes")


def _allowed(record: Record) -> set[int] | None:
    """Return the classes that the record's tags permit, with the background, if it has any."""
    if "tags" not in record:
        return None
    background = background_id(record.names)
    return {*record.get("tags"), *(() if background is None else (background,))}


def regularise(prob: np.ndarray, image: np.ndarray, settings: Settings) -> np.ndarray:
    """Return regularised probabilities, float32 (K, H, W). Raises RecordError."""
    parameters = dict(settings.parameters)
    if settings.relative is not None:
        scale = max(image.shape[:2]) / settings.relative
        for name in LENGTHS:
            if name in parameters:
                parameters[name] *= scale
    values = {f: parameters[option] for option, f in PARAMETERS[settings.method].items()}
    if settings.method == "dense":
        from wsseg.refine.densecrf import DenseCrf, dense_crf

        values["iterations"] = int(values["iterations"])
        return dense_crf(prob, image, DenseCrf(**values), engine=settings.engine,
                         threads=settings.threads, device=settings.device)
    from wsseg.refine.potts import potts

    values["max_iterations"] = int(values["max_iterations"])
    return potts(prob, image, probabilities=True, engine=settings.engine,
                 threads=settings.threads, device=settings.device or "cpu", **values).mask


def option_values(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Split options into those of Settings and those that are parameters of a method."""
    known = {f.name for f in fields(Settings)}
    return ({k: v for k, v in options.items() if k in known},
            {k: v for k, v in options.items() if k not in known})
