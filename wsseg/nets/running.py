"""What running any net needs: threads, a clear word when memory runs out, its mode back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from wsseg.errors import WssegError
from wsseg.nets.still import settle, settled, stir


@contextmanager
def memory_checked(text: str) -> Iterator[None]:
    """Raise WssegError with this text when memory runs out inside, on a GPU or a CPU."""
    try:
        yield
        return
    except (torch.cuda.OutOfMemoryError, MemoryError):
        pass
    except RuntimeError as error:  # the CPU's allocator has no error of its own
        if "allocate" not in str(error):
            raise
    raise WssegError(text)  # out of the handler, which would keep what filled the memory


@contextmanager
def torch_threads(count: int | None) -> Iterator[Callable[[], None]]:
    """Let each operation of torch have so many threads of a CPU inside, None for as many as before.
    Gives what every thread that computes must call at its start."""
    before = torch.get_num_threads()

    def start() -> None:
        torch.set_num_threads(count or before)

    start()
    try:
        yield start
    finally:
        torch.set_num_threads(before)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a net into evaluation mode inside, settled, and then into the mode it was in."""
    training, before = net.training, settled(net)
    net.eval()
    if not before:
        settle(net)
    try:
        yield
    finally:
        if not before:
            stir(net)
        net.train(training)
