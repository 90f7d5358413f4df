"""Dense CRF: a soft map made to follow the photo's edges by mean-field inference.

Source: Kraehenbuehl and Koltun, "Efficient inference in fully connected CRFs with Gaussian edge
potentials" (NIPS 2011), equation 3 and algorithm 1, with Potts compatibility and the symmetric
normalisation of the authors' code (pydensecrf's default): with n_i = (sum_j k(i, j))^-1/2, the
kernel between pixels is n_i k(i, j) n_j, its diagonal included. Filters run on the permutohedral
lattice. Ten iterations are not yet converged: their number is part of the result.
Where we differ: if H W is no multiple of 4, pydensecrf's lattice holds up to three black points at
(0, 0) besides; ours does not, which moves a few marginals near them by some thousandths.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from wsseg.errors import RecordError
from wsseg.refine.lattice import native

ENGINES = ("auto", "native", "torch", "numpy", "pydensecrf")

#: Probabilities below this one count as this one: pydensecrf's default.
CLIP = 1e-5

#: How far a pixel's probabilities may sum away from 1 (float16 maps of many classes do).
TOLERANCE = 0.02


def _each(value: float | tuple[float, ...], count: int) -> tuple[float, ...]:
    return tuple(float(v) for v in value) if np.ndim(value) else (float(value),) * count


@dataclass(frozen=True)
class DenseCrf:
    """Parameters of a dense CRF; a weight of 0 leaves its kernel out.

    Sigmas are standard deviations: ``gauss_sigma`` and ``rgb_sigma_xy`` in pixels (one number, or
    x and y), ``rgb_sigma`` in grey levels of 0 ... 255.
    """

    gauss_sigma: float | tuple[float, float] = 3.0
    gauss_weight: float = 3.0
    rgb_sigma_xy: float | tuple[float, float] = 49.0
    rgb_sigma: float | tuple[float, float, float] = 5.0
    rgb_weight: float = 4.0
    iterations: int = 10

    def __post_init__(self) -> None:
        for name, count in (("gauss_sigma", 2), ("rgb_sigma_xy", 2), ("rgb_sigma", 3)):
            value = getattr(self, name)
            if np.ndim(value) and len(value) != count:
                raise RecordError(f"{name} is one number or {count}, got {value}")
            if not all(0 < v < np.inf for v in _each(value, count)):
                raise RecordError(f"{name} must be above 0, got {value}")
        for name in ("gauss_weight", "rgb_weight"):
            if not 0 <= getattr(self, name) < np.inf:
                raise RecordError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.iterations != int(self.iterations) or self.iterations < 0:
            raise RecordError(f"iterations must be a whole number, got {self.iterations}")

    def scaled(self, factor: float) -> DenseCrf:
        """Return these parameters with the sigmas in pixels multiplied by ``factor``."""
        both = {name: tuple(factor * v for v in _each(getattr(self, name), 2))
                for name in ("gauss_sigma", "rgb_sigma_xy")}
        return replace(self, **both)

    @property
    def gauss_features(self) -> tuple[float, ...]:
        """Standard deviations of the Gaussian kernel's features: x, y."""
        return _each(self.gauss_sigma, 2)

    @property
    def rgb_features(self) -> tuple[float, ...]:
        """Standard deviations of the appearance kernel's features: x, y, red, green, blue."""
        return _each(self.rgb_sigma_xy, 2) + _each(self.rgb_sigma, 3)


#: Parameters by name.
PRESETS = {
    # wssl-2015: the paper only says that they were cross-validated on 100 images; these are
    # those of the authors' released script (deeplab_largeFOV), 10 iterations.
    "wssl": DenseCrf(3.0, 3.0, 49.0, 5.0, 4.0, 10),
    # panoptic-2018 points to DeepLab; these are DeepLab-v2's released VOC parameters. Its paper
    # gives the search range only (sigma_xy 30 ... 100, rgb 3 ... 6, weight 3 ... 6).
    "deeplab": DenseCrf(3.0, 3.0, 67.0, 3.0, 4.0, 10),
    # dualbranch-2020 gives none; those of its generator's released code (DSRG, as SEC's), at full
    # size. In training that code runs at 1/12: DenseCrf.scaled(1 / 12).
    "dsrg": DenseCrf(3.0, 3.0, 80.0, 13.0, 10.0, 10),
    # scribbles-2019, section 5.4: w1, sigma_alpha, sigma_beta, w2, sigma_gamma. The paper gives
    # no number of iterations; 10 is ours.
    "scribbles-dense": DenseCrf(2.0, 5.0, 30.0, 5.0, 3.0, 10),
}


def dense_crf(prob: np.ndarray, image: np.ndarray, parameters: DenseCrf | None = None, *,
              energy: bool = False, clip: float = CLIP, engine: str = "auto", threads: int = 1,
              device: str | None = None, max_bytes: float | None = None,
              **changes: float) -> np.ndarray:
    """Return the mean-field marginals of a dense CRF, float32 (K, H, W).

    prob: (K, H, W) class probabilities p of each pixel; the unary term is -log(p) with p clipped
    to [clip, 1], not normalised again. A pixel may sum to 1 within 0.02: beyond that, and for
    negative or NaN values, RecordError is raised, because such a map is most likely something else.
    With ``energy`` the array holds the unary terms themselves, any finite numbers.
    image: uint8 (H, W, 3), RGB. parameters: default ``DenseCrf()``; ``changes`` are fields of it,
    such as ``iterations=5``.
    engine: "native" (C++), "torch" (``device``: "cpu", "cuda"; default CPU), "numpy" (with scipy),
    "pydensecrf" (that package), or "auto": the first of native, torch and numpy that is there.
    threads: of the native engine; the result does not depend on them. max_bytes: refuse what needs
    more memory than that, the result included; default: what the machine has free.
    Raises RecordError for everything that cannot be done.
    """
    parameters = replace(parameters or DenseCrf(), **changes)
    prob, image = _checked(prob, image, energy)
    classes, height, width = prob.shape
    if engine not in ENGINES:
        raise RecordError(f"no CRF engine is named {engine!r}; there are {', '.join(ENGINES)}")
    if not 0 < clip < 1:
        raise RecordError(f"clip must lie between 0 and 1, got {clip}")
    if engine == "auto":
        engine = resolve_engine()
    if classes == 1:
        return np.ones((1, height, width), np.float32)
    limit = free_memory() if max_bytes is None else max_bytes
    need = least_memory(classes, height, width, engine)
    if need > limit:
        raise RecordError(_too_large(prob.shape, f"needs at least {need / 1e9:.1f} GB", limit))
    try:
        if engine == "native":
            return _native(prob, image, parameters, energy, clip, threads, limit)
        if engine == "torch":
            return _torch(prob, image, parameters, energy, clip, device)
        if engine == "numpy":
            return _numpy(prob, image, parameters, energy, clip)
        return _pydensecrf(prob, image, parameters, energy, clip)
    except MemoryError as error:
        raise RecordError(_too_large(prob.shape, str(error) or "needs more memory than there is",
                                     limit)) from None
    except ValueError as error:
        raise RecordError(str(error)) from None


def resolve_engine() -> str:
    """Return the engine that "auto" stands for here, without importing torch."""
    if native() is not None:
        return "native"
    return "torch" if find_spec("torch") is not None else "numpy"


def present_classes(prob: np.ndarray, eps: float = 0.05) -> np.ndarray:
    """Return the indices of the classes that some pixel gives more than ``eps``: int (k,).

    prob: (K, H, W). There is at least one: that of the largest probability. Running the CRF on
    these alone (``restricted``) is 4 to 8 times as fast for 3 to 7 of 21 classes. With image tags
    the absent classes have probability 0 and the result differs by the clip only. Else, on maps
    of 21 classes, about 0.1 % of the labels differed at eps 0.05 and 0.15 % at 0.1.
    """
    prob = np.asarray(prob)
    top = prob.reshape(len(prob), -1).max(axis=1)
    return np.flatnonzero((top > eps) | (top == top.max()))


def restricted(prob: np.ndarray, image: np.ndarray, classes: np.ndarray,
               parameters: DenseCrf | None = None, **options) -> np.ndarray:
    """Run ``dense_crf`` on some classes of a map only: float32 (K, H, W), 0 in the others.

    classes: indices into the K classes of prob, each once. What a pixel gave to other classes is
    shared out in proportion; a pixel that gave all to them starts from equal parts.
    """
    prob = np.asarray(prob)
    classes = np.asarray(classes, dtype=np.intp)
    if prob.ndim != 3 or not classes.size or len(np.unique(classes)) != classes.size \
            or classes.min() < 0 or classes.max() >= len(prob):
        raise RecordError(f"classes {classes.tolist()} are not different indices of a map "
                          f"(K, H, W), got {prob.shape}")
    kept = np.ascontiguousarray(prob[classes], dtype=np.float32)
    total = kept.sum(axis=0)
    if not np.all(total >= 0):
        raise RecordError("probabilities are negative or not numbers")
    none = total <= 0
    kept[:, none] = 1.0
    kept /= np.where(none, len(classes), total)
    result = np.zeros(prob.shape, np.float32)
    result[classes] = dense_crf(kept, image, parameters, **options)
    return result


def least_memory(classes: int, height: int, width: int, engine: str = "native") -> float:
    """Return the bytes that a CRF needs whatever the photo; a busy photo may need twice that."""
    per_class = {"native": 4, "torch": 40, "numpy": 40, "pydensecrf": 20}[engine]
    per_pixel = {"native": 72, "torch": 400, "numpy": 500, "pydensecrf": 200}[engine]
    return float(height) * width * (per_class * classes + per_pixel)


def free_memory() -> float:
    """Return the bytes that can be had without swapping; infinite where nothing tells."""
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return float(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError, AttributeError):
        return np.inf


def _checked(prob: np.ndarray, image: np.ndarray, energy: bool) -> tuple[np.ndarray, np.ndarray]:
    prob, image = np.asarray(prob), np.asarray(image)
    if prob.ndim != 3 or not prob.size:
        raise RecordError(f"a map must be (K, H, W) and not empty, got {prob.shape}")
    if prob.dtype.kind != "f":
        raise RecordError(f"a map must hold floating-point numbers, got {prob.dtype}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise RecordError(f"the photo must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if image.shape[:2] != prob.shape[1:]:
        raise RecordError(f"the map is {prob.shape[1]}x{prob.shape[2]} but the photo is "
                          f"{image.shape[0]}x{image.shape[1]}")
    prob = np.ascontiguousarray(prob, dtype=np.float32)
    if energy:
        if not (prob.min() > -1e20 and prob.max() < 1e20):
            raise RecordError("unary terms must be finite")
        return prob, np.ascontiguousarray(image)
    total = prob.sum(axis=0)
    if np.isnan(total).any():
        raise RecordError("probabilities are not numbers (NaN)")
    if prob.min() < 0:
        raise RecordError(f"probabilities must not be negative, got {prob.min():.3g}")
    if not (abs(total.min() - 1) <= TOLERANCE and abs(total.max() - 1) <= TOLERANCE):
        raise RecordError(f"the probabilities of a pixel must sum to 1, got {total.min():.3g} to "
                          f"{total.max():.3g}; normalise the map first")
    return prob, np.ascontiguousarray(image)


def _too_large(shape: tuple[int, ...], need: str, limit: float) -> str:
    return (f"a dense CRF of {shape[1]}x{shape[2]} with {shape[0]} classes {need}, and "
            f"{limit / 1e9:.1f} GB are free; shrink the photo or keep fewer classes")


def _native(prob, image, parameters, energy, clip, threads, limit) -> np.ndarray:
    kernels = native()
    if kernels is None:
        raise RecordError("the native kernels are not built here; use engine='torch'")
    return kernels.mean_field(
        prob, image, is_energy=energy, clip=clip, gauss_sigma=parameters.gauss_features,
        gauss_weight=parameters.gauss_weight, rgb_sigma=parameters.rgb_features,
        rgb_weight=parameters.rgb_weight, iterations=int(parameters.iterations),
        threads=max(1, int(threads)), max_bytes=float(limit))


def _torch(prob, image, parameters, energy, clip, device) -> np.ndarray:
    import torch

    from wsseg.nets.crf import mean_field
    unary = prob if energy else -np.log(np.clip(prob, clip, 1.0))
    with torch.no_grad():
        q = mean_field(torch.from_numpy(unary)[None].to(device or "cpu"),
                       torch.from_numpy(image).permute(2, 0, 1)[None].to(device or "cpu"),
                       gauss_sigma=parameters.gauss_features, rgb_sigma=parameters.rgb_features,
                       gauss_weight=parameters.gauss_weight, rgb_weight=parameters.rgb_weight,
                       iterations=int(parameters.iterations))
    return q[0].float().cpu().numpy()


def _numpy(prob, image, parameters, energy, clip) -> np.ndarray:
    from wsseg.refine.meanfield import mean_field

    unary = prob if energy else -np.log(np.clip(prob, clip, 1.0))
    return mean_field(unary, image, gauss_sigma=parameters.gauss_features,
                      gauss_weight=parameters.gauss_weight, rgb_sigma=parameters.rgb_features,
                      rgb_weight=parameters.rgb_weight, iterations=int(parameters.iterations))


def _pydensecrf(prob, image, parameters, energy, clip) -> np.ndarray:
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError:
        raise RecordError("the engine pydensecrf needs the package pydensecrf2: "
                          "pip install pydensecrf2") from None
    classes, height, width = prob.shape
    crf = DenseCRF2D(width, height, classes)
    unary = prob if energy else -np.log(np.clip(prob, clip, 1.0))
    crf.setUnaryEnergy(unary.reshape(classes, -1))
    rgb = parameters.rgb_features
    if parameters.gauss_weight > 0:
        crf.addPairwiseGaussian(sxy=parameters.gauss_features, compat=parameters.gauss_weight)
    if parameters.rgb_weight > 0:
        crf.addPairwiseBilateral(sxy=rgb[:2], srgb=rgb[2:], rgbim=np.array(image),
                                 compat=parameters.rgb_weight)
    q = crf.inference(int(parameters.iterations))
    return np.array(q, dtype=np.float32).reshape(classes, height, width)
