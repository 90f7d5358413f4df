"""A trained net in one file: safetensors with a card, which nothing in it can turn into code.

The card is JSON under the key ``wsseg`` of the format's metadata: what the net is for (``task``)
and is (``net``, the task's spec), its class names, how it was trained, the supervision spent on it
(as in ``io.supervision``) and its history. Any reader of safetensors can read the weights.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from wsseg.errors import UsageError, WssegError
from wsseg.nets.layers import freeze_norms
from wsseg.nets.still import settle
from wsseg.nets.tensorfile import read_header, read_tensors

FORMAT = 1
#: Task -> module, its spec (with ``from_json`` and ``classes``) and what builds a net of that.
NETS = {"segment": ("segmenter", "NetSpec", "build"),
        "classify": ("classifier", "ClassifierSpec", "build"),
        "detect": ("detector", "DetectorSpec", "build"),
        "instance": ("instance", "InstanceSpec", "build"),
        "rsis": ("rsis", "RSISSpec", "build"), "wrsis": ("rsis", "RSISSpec", "build")}
_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16",
          torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8",
          torch.bool: "BOOL"}


def model_bytes(net: nn.Module, card: Mapping[str, Any]) -> bytes:
    """Return the bytes of a model's file. Equal weights and cards give equal bytes.

    net: has a ``spec`` with ``as_json()``; the card's ``task`` says what can build it again.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in sorted(net.state_dict().items())}
    parts = [_raw(tensor) for tensor in tensors.values()]
    card = {"wsseg": FORMAT, **card, "net": net.spec.as_json(), "sha256": _digest(parts)}
    header: dict[str, Any] = {"__metadata__": {"wsseg": json.dumps(card, sort_keys=True)}}
    at = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _raw(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def _digest(parts: Iterable[bytes]) -> str:
    """Of all numbers in their order, which safetensors has no checksum of."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def find_model(place: str) -> Path:
    """Return the model file that ``place`` means: a file, or ``model.safetensors`` in a run's
    directory. Raises WssegError if there is none."""
    path = Path(place)
    if path.is_dir():
        inside = path / "model.safetensors"
        if not inside.is_file():
            raise WssegError(f"{place} holds no model.safetensors: is its training finished? "
                             "(ws-train --resume goes on)")
        return inside
    if not path.is_file():
        raise WssegError(f"{place}: no such model")
    return path


def read_card(path: str | Path) -> dict[str, Any]:
    """Return a model's card. Raises WssegError for a file that is no model of ours."""
    if not str(path).endswith(".safetensors"):
        raise WssegError(f"{path} is no model of wsseg (model.safetensors, as ws-train writes "
                         "it); weights alone are for ws-train --init")
    metadata = read_header(str(path)).get("__metadata__")
    text = metadata.get("wsseg") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise WssegError(f"{path} holds weights but no wsseg model: it has no card")
    try:
        card = json.loads(text)
        if card["wsseg"] > FORMAT:
            raise WssegError(f"{path} was written by a later wsseg")
        classes, history = card["classes"], card.setdefault("history", [])
        task = card.setdefault("task", "segment")
        spent = card.setdefault("supervision", {})
        sound = {"classes": classes is None or _all(classes, list, str),
                 "task": isinstance(task, str), "history": _all(history, list, dict) and all(
                     isinstance(entry.get("id"), str) for entry in history),
                 "net": isinstance(card["net"], dict),
                 "supervision": isinstance(spent, dict) and all(
                     _all(n, list, int) and len(n) == 3 and min(n) >= 0 for n in spent.values())}
        wrong = [name for name, good in sound.items() if not good]
        if wrong:
            raise ValueError(wrong[0])
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise WssegError(f"{path}: its card is damaged ({error})") from None
    return card


def find_card(init: str) -> dict[str, Any] | None:
    """Return the card of what a net starts from, None where that is no model of wsseg."""
    if not init.endswith(".safetensors"):
        return None
    metadata = read_header(init).get("__metadata__")
    return read_card(init) if isinstance(metadata, dict) and "wsseg" in metadata else None


def _all(values: Any, kind: type, each: type) -> bool:
    return type(values) is kind and all(type(value) is each for value in values)


class _Undrawn(TorchFunctionMode):
    """Nets are built without drawing weights that a file then replaces; on the device 'meta'
    drawing would import all of torch's compiler."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None
                           ) -> Any:
        kwargs = kwargs or {}
        if getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def load_model(path: str | Path, device: str = "cpu", task: str = "segment"
               ) -> tuple[nn.Module, dict[str, Any]]:
    """Return a net ready for inference, channels last in memory, and its card.

    Raises UsageError for a model of another task; WssegError for a file that is damaged, no
    model, or whose weights are not of the net that its card describes.
    """
    card = read_card(path)
    if card["task"] != task:
        raise UsageError(f"{path} is a model of ws-train --task {card['task']}; one of --task "
                         f"{task} is needed")
    module, kind, make = NETS[task]
    found = importlib.import_module(f"wsseg.nets.{module}")
    spec, build = getattr(found, kind).from_json(card["net"]), getattr(found, make)
    if card["classes"] is not None and len(card["classes"]) != spec.classes:
        raise WssegError(f"{path}: {len(card['classes'])} class names for {spec.classes} classes")
    tensors = read_tensors(str(path))
    numbers = sum(math.prod(t.shape) for t in tensors.values())
    with torch.device("meta"), _Undrawn():
        own = build(spec).state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in tensors.items()}:
        odd = sorted(set(own) ^ set(tensors)) or [k for k in own
                                                  if own[k].shape != tensors[k].shape]
        raise WssegError(f"{path}: its {len(tensors)} tensors ({numbers} numbers) are not those "
                         f"of its net, first {odd[0]}")
    if card.get("sha256") not in (None, _digest(_raw(tensors[name]) for name in sorted(own))):
        raise WssegError(f"{path} is damaged: its weights are not those that were saved")
    with _Undrawn():
        net = build(spec)
    net.load_state_dict(tensors)
    freeze_norms(net)  # so that they become part of the convolutions
    return settle(net.eval()).to(device, memory_format=torch.channels_last), card
