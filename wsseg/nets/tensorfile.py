"""Files of named tensors (.pth, .pt, .safetensors), read without running anything in them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wsseg.errors import UnsafeError, WssegError

SUFFIXES = (".pth", ".pt", ".safetensors")
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16,
           "BF16": torch.bfloat16, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16,
           "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
_LONGEST_HEADER = 100 << 20
#: Names under which training scripts put the weights beside other things.
_INSIDE = ("state_dict", "model", "model_state_dict", "net")


def read_tensors(path: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name, on the CPU, in the file's order.

    Of a .pth or .pt that holds a ``state_dict`` among other things, those of the state dict; the
    ``module.`` that DataParallel adds is taken off. Raises WssegError for what cannot be read, and
    UnsafeError for a file that would run code.
    """
    if not path.endswith(SUFFIXES):
        raise WssegError(f"{path} is no file of weights: its name must end in "
                         f"{', '.join(SUFFIXES)}")
    try:
        state = _safetensors(path) if path.endswith(".safetensors") else _torch(path)
    except OSError as error:
        raise WssegError(f"cannot read {path}: {error.strerror or error}") from None
    tensors = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            continue
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            raise WssegError(f"{path}: {name} is not a plain dense tensor")
        tensors[name.removeprefix("module.")] = value.detach()
    if not tensors:
        raise WssegError(f"{path} holds no named tensors")
    return tensors


def sha256(path: str) -> str:
    """The hexadecimal digest of a file. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(file.read()).hexdigest()


def _torch(path: str) -> Mapping[Any, Any]:
    with open(path, "rb"):
        pass  # what cannot be opened is no damaged file
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if re.search("nsupported (global|class)|Trying to", str(error)):
            raise UnsafeError(f"{path} holds Python objects that could run code, not only "
                              "tensors: refused") from None
        raise WssegError(f"{path} is damaged, or no file of weights") from None
    except Exception as error:  # a cut or changed archive raises almost anything
        raise WssegError(f"{path} is damaged, or no file of weights "
                         f"({type(error).__name__})") from None
    for _ in range(2):
        if isinstance(state, Mapping):
            state = next((state[name] for name in _INSIDE
                          if isinstance(state.get(name), Mapping)), state)
    if not isinstance(state, Mapping):
        raise WssegError(f"{path} holds no named tensors")
    return state


def read_header(path: str) -> dict[str, Any]:
    """Return the JSON header of a .safetensors file. Raises WssegError."""
    try:
        with open(path, "rb") as file:
            return _header(file, path)[0]
    except OSError as error:
        raise WssegError(f"cannot read {path}: {error.strerror or error}") from None


def _header(file: Any, path: str) -> tuple[dict[str, Any], int, int]:
    """The header, where the numbers start, and the size of the file."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
        raise WssegError(f"{path} is damaged: its header is cut short")
    try:
        header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
    except (ValueError, RecursionError) as error:
        text = " ".join(str(error).split())[:80]
        raise WssegError(f"{path} is damaged: {type(error).__name__} {text}") from None
    return header, 8 + length, size


def _safetensors(path: str) -> dict[str, Tensor]:
    """The format of huggingface.co/docs/safetensors: length, JSON header, numbers."""
    with open(path, "rb") as file:
        header, start, size = _header(file, path)
        try:
            return {name: _tensor(file, entry, start, size) for name, entry
                    in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            text = " ".join(str(error).split())[:80]
            raise WssegError(f"{path} is damaged: {type(error).__name__} {text}") from None


def _tensor(file: Any, entry: Mapping[str, Any], start: int, size: int) -> Tensor:
    dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
    begin, end = entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
        raise ValueError("a shape or an offset is no number")
    count = math.prod(shape)
    if end - begin != count * dtype.itemsize or start + end > size:
        raise ValueError("a tensor lies outside the file, or has another size than its shape")
    file.seek(start + begin)
    data = bytearray(file.read(end - begin))
    return torch.frombuffer(data, dtype=dtype).reshape(shape) if count \
        else torch.empty(shape, dtype=dtype)
