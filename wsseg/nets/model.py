"""A trained net in one file: safetensors with a card, which nothing in it can turn into code.

The card is JSON under the key ``wsseg`` of the format's metadata: what the net is (``net``, a
``NetSpec``), its class names, how it was trained, the supervision spent on it and its history.
Any reader of safetensors can read the weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsseg.errors import WssegError
from wsseg.nets.segmenter import NetSpec, Segmenter, build
from wsseg.nets.tensorfile import read_header, read_tensors

FORMAT = 1
_NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16",
          torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8",
          torch.bool: "BOOL"}


def model_bytes(net: Segmenter, card: Mapping[str, Any]) -> bytes:
    """Return the bytes of a model's file. Equal weights and cards give equal bytes."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in sorted(net.state_dict().items())}
    card = {"wsseg": FORMAT, **card, "net": net.spec.as_json()}
    header: dict[str, Any] = {"__metadata__": {"wsseg": json.dumps(card, sort_keys=True)}}
    at = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *map(_raw, tensors.values())])


def _raw(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


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
    text = read_header(str(path)).get("__metadata__", {}).get("wsseg")
    try:
        card = json.loads(text)
        if card["wsseg"] > FORMAT:
            raise WssegError(f"{path} was written by a later wsseg")
        classes = card["classes"]
        if classes is not None and not (isinstance(classes, list)
                                        and all(isinstance(c, str) for c in classes)):
            raise ValueError("classes")
        if not isinstance(card["net"], dict):
            raise ValueError("net")
    except (TypeError, ValueError, KeyError):
        raise WssegError(f"{path} holds weights but no wsseg model: it has no card") from None
    return card


def load_model(path: str | Path, device: str = "cpu") -> tuple[Segmenter, dict[str, Any]]:
    """Return a net ready for inference, channels last in memory, and its card.

    Raises WssegError for a file that is damaged, no model, or whose weights are not of the net
    that its card describes.
    """
    card = read_card(path)
    spec = NetSpec.from_json(card["net"])
    if card["classes"] is not None and len(card["classes"]) != spec.classes:
        raise WssegError(f"{path}: {len(card['classes'])} class names for {spec.classes} classes")
    tensors = read_tensors(str(path))
    numbers = sum(math.prod(t.shape) for t in tensors.values())
    with torch.device("meta"):
        own = build(spec).state_dict()
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in tensors.items()}:
        odd = sorted(set(own) ^ set(tensors)) or [k for k in own
                                                  if own[k].shape != tensors[k].shape]
        raise WssegError(f"{path}: its {len(tensors)} tensors ({numbers} numbers) are not those "
                         f"of its net, first {odd[0]}")
    net = build(spec)
    net.load_state_dict(tensors)
    return net.eval().to(device, memory_format=torch.channels_last), card
