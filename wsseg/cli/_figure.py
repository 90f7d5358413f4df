"""Figures in files, by matplotlib, which is optional and imported only when one is drawn."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wsseg.errors import UsageError, WssegError, printable

_ENDINGS = (".png", ".svg", ".pdf")


def check_picture(path: str) -> None:
    """Raise UsageError for a file whose ending is none of a picture."""
    if os.path.splitext(path)[1].lower() not in _ENDINGS:
        raise UsageError(f"--plot {path}: the file's ending must be {', '.join(_ENDINGS[:-1])} or "
                         f"{_ENDINGS[-1]}")


@contextmanager
def figure_in(path: str, *, width: float, height: float) -> Iterator[Any]:
    """Give a figure of so many inches, and save it in the end. Equal drawings are equal bytes.

    Raises WssegError when matplotlib is missing or the file cannot be written.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise WssegError("--plot needs matplotlib: pip install 'wsseg[plot]'") from None
    with matplotlib.rc_context({"svg.hashsalt": "wsseg", "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        dated = {".svg": "Date", ".pdf": "CreationDate"}.get(path[-4:].lower())
        try:
            figure.savefig(path, dpi=130, metadata={dated: None} if dated else None)
        except (OSError, ValueError) as error:
            raise WssegError(f"cannot write {path}: {error}") from None


def label(text: str) -> str:
    """Return a name as matplotlib shows it as it is."""
    return printable(text).replace("$", r"\$")
