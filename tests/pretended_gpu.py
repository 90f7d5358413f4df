"""A pretended GPU: tensors that say they lie on cuda:0 and compute on the CPU.

As a plugin of pytest (``-p tests.pretended_gpu``) every net is trained and asked there, and what
mixes its tensors with the CPU's, or asks for their memory, fails as it would on a GPU. torch's C++
below does take them for the CPU's: what it makes itself in a backward pass, or in an optimiser, is
let through. Not pretended are bfloat16, memory, several GPUs, and time.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

GPU = torch.device("cuda", 0)
aten = torch.ops.aten
_MOVES = {aten._to_copy.default, aten.copy_.default}
_INDEXES = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default,
            aten._index_put_impl_.default}


class Mixed(RuntimeError):
    """An operation on tensors of both devices."""


class OnGpu(torch.Tensor):
    """A tensor of the pretended GPU; ``inner`` holds its numbers."""

    inner: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnGpu:
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device="cpu", requires_grad=False)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})

    def __tensor_flatten__(self):  # modules that are moved swap such tensors
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, _, size, stride):
        return OnGpu(inner["inner"])

    def to(self, *args, **kwargs):
        if args and isinstance(args[0], torch.Tensor):
            args = args[0].device, args[0].dtype
        copy = kwargs.pop("copy", False)
        device, dtype, _, form = torch._C._nn._parse_to(*args, **kwargs)
        stays = device is None or device.type == "cuda"
        if stays and not copy and dtype in (None, self.dtype) and (
                form is None or self.is_contiguous(memory_format=form)):
            return self
        return aten._to_copy.default(self, dtype=dtype or self.dtype, memory_format=form,
                                     **({} if stays else {"device": device}))

    def cpu(self):
        return self.to("cpu")

    def float(self):
        return self.to(torch.float32)

    def tolist(self):
        return self.inner.tolist()

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def new_tensor(self, data, dtype=None, device=GPU, **_):
        return torch.tensor(data, dtype=dtype or self.dtype, device=device)

    def __deepcopy__(self, memo):
        memo[id(self)] = made = OnGpu(self.inner.clone()).requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            made._is_param = True
        return made

    def __reduce_ex__(self, protocol):  # in a checkpoint
        return self.inner.__reduce_ex__(protocol)

    def __repr__(self):
        return f"OnGpu({self.inner!r})"


class Pretence(TorchDispatchMode):
    """Lets new tensors of ``device="cuda"`` be ``OnGpu``, in one thread."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


def compute(operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Do one operation on the device that its arguments name, or lie on."""
    if operation is aten._pin_memory.default:
        return args[0].clone()
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    ours = [t for t in tensors if isinstance(t, OnGpu)]
    if ours and operation not in _MOVES and not _made_below():
        _refuse_mixture(operation, args, tensors)
    device = kwargs.get("device")
    on_gpu = bool(ours) if device is None else torch.device(device).type == "cuda"
    if operation is aten.copy_.default:
        on_gpu = isinstance(args[0], OnGpu)
    if on_gpu and getattr(kwargs.get("generator"), "device", GPU).type != "cuda":
        raise Mixed(f"{operation}: a generator of the CPU for the GPU")
    bare, named = tree_map(lambda x: x.inner if isinstance(x, OnGpu) else x, (args, kwargs))
    if device is not None:
        named["device"] = "cpu"
    made = operation(*bare, **named)
    if not on_gpu:
        return made
    made = tree_map(lambda x: OnGpu(x) if isinstance(x, torch.Tensor) else x, made)
    aliases = any(r.alias_info is not None for r in operation._schema.returns)
    return return_and_correct_aliasing(operation, args, kwargs, made) if aliases else made


def _refuse_mixture(operation: Any, args: tuple, tensors: list[torch.Tensor]) -> None:
    if operation in _INDEXES:  # indices may lie on the CPU, the rest may not
        tensors = [t for t in (args[0], *args[2:]) if isinstance(t, torch.Tensor)]
    others = [tuple(t.shape) for t in tensors if not isinstance(t, OnGpu) and t.dim()]
    if others:
        raise Mixed(f"{operation} on the GPU, and on the CPU of {others}")


def _made_below() -> bool:
    """Whether torch's own backward pass or an optimiser is at work."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if frame.f_code.co_name == "_engine_run_backward" or "/torch/optim/" in name:
            return True
        if "/torch/" not in name and name != __file__:
            return False
        frame = frame.f_back
    return False


def _moved(make: Callable) -> Callable:
    """torch.tensor and torch.as_tensor, which go past any mode."""
    def made(data, *args, device=None, **kwargs):
        if isinstance(data, OnGpu):
            data, device = data.inner, device or GPU
        tensor = make(data, *args, **kwargs)
        return tensor if device is None else tensor.to(device)
    return made


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, *args, **kwargs) -> None:
        super().__init__("cpu", *args, **kwargs)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """All that picks a device gets the GPU."""
    from wsseg.cli import _predicting, _training

    torch._C._ensureCUDADeviceGuardSet()
    to, run = torch.Tensor.to, threading.Thread.run

    def like(self, *args, **kwargs):
        if args and isinstance(args[0], OnGpu):
            args = (GPU, args[0].dtype, *args[1:])
        return to(self, *args, **kwargs)

    def pretending(self):
        with Pretence():
            run(self)
    for module in (_predicting, _training):
        monkeypatch.setattr(module, "pick_device", lambda name: GPU)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    monkeypatch.setattr(torch, "autocast", _Autocast)
    monkeypatch.setattr(torch, "tensor", _moved(torch.tensor))
    monkeypatch.setattr(torch, "as_tensor", _moved(torch.as_tensor))
    monkeypatch.setattr(torch.Tensor, "to", like)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(threading.Thread, "run", pretending)
    with Pretence():
        yield
