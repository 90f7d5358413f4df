"""One process for each GPU (or CPU), as ``torchrun`` starts them."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from wsseg.errors import UsageError, WssegError
from wsseg.nets.layers import FrozenNorm

_PATIENCE = timedelta(hours=3)  # the others wait while the first evaluates


def join_group(device: torch.device) -> tuple[int, int]:
    """Join the processes that torchrun started; return (rank, world), (0, 1) without it."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return 0, 1
    if int(os.environ["WORLD_SIZE"]) > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def leave_group() -> None:
    """Leave them again."""
    if dist.is_initialized():
        dist.destroy_process_group()


def same_everywhere(step: int, device: torch.device) -> int:
    """Return the step that all processes go on after. Raises WssegError where they differ."""
    if dist.is_initialized():
        both = torch.tensor([step, -step], device=device)
        dist.all_reduce(both, dist.ReduceOp.MAX)
        most, least = int(both[0]), -int(both[1])
        if most != least:
            raise WssegError(f"one process would go on after step {least}, another after {most}: "
                             "the run's folder must be one that all of them see")
    return step


def placed(net: nn.Module, device: torch.device) -> nn.Module:
    """Move a net to a device, its weights channels last as its images will be."""
    return net.to(device, memory_format=torch.channels_last)


def wrapped(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model so that its gradients are averaged over all processes.

    On GPUs batch norms take their statistics over all of them too; on CPUs they cannot, so
    only frozen ones give what one process with the joined batch would.
    """
    if not dist.is_initialized():
        return model
    if device.type == "cuda":
        share_norms(model)
    return nn.parallel.DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=True)


def share_norms(module: nn.Module) -> None:
    """Let every batch norm below ``module`` take its statistics over all processes, but for
    frozen ones, which torch's own conversion would thaw."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            if not isinstance(child, FrozenNorm):
                setattr(module, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
        else:
            share_norms(child)


def pick_device(name: str | None) -> torch.device:
    """Return the device of a name, ``auto`` or None: a GPU if there is one. Raises UsageError."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    if name in (None, "auto"):
        name = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or number and not number.isdecimal() or name == "cpu:":
        raise UsageError(f"--device {name} is not auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(f"--device {name}: PyTorch sees no GPU here")
    index = int(number) if number else local
    if index >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are {torch.cuda.device_count()} GPUs")
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16; ``auto`` where the processor has it.

    ``torch.cuda.is_bf16_supported`` also says yes where it is emulated, which is slow.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()
