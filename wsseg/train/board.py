"""TensorBoard's log, an extra."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wsseg.errors import WssegError


def board(folder: str | None) -> Callable[[Mapping[str, Any]], None]:
    """Return what writes an entry of the log to a folder; None writes nothing.

    Raises WssegError when TensorBoard is not installed.
    """
    if folder is None:
        return lambda entry: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise WssegError("--tensorboard needs it: pip install 'wsseg[tensorboard]'") from None
    writer = SummaryWriter(folder)

    def write(entry: Mapping[str, Any]) -> None:
        for name, value in entry.items():
            if name != "step":
                writer.add_scalar(name, value, entry["step"])
        writer.flush()

    return write
