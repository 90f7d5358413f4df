"""What a net is made of: dataclasses that a model's card holds as JSON. Without torch."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from wsseg.errors import WssegError

_Spec = TypeVar("_Spec", bound="Spec")


class Spec:
    """Base of the specs, which are frozen dataclasses that check their fields themselves."""

    def as_json(self) -> dict[str, Any]:
        """Every field, for a card."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value.as_json() if isinstance(value, Spec) else
                list(value) if isinstance(value, tuple) else value
                for name, value in values.items()}

    @classmethod
    def from_json(cls: type[_Spec], data: Mapping[str, Any]) -> _Spec:
        """Return the spec of ``as_json``. Raises WssegError for what is missing or wrong."""
        if not isinstance(data, Mapping):
            raise WssegError(f"a net is described by an object, not by {short(data)}")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in data:
            if name not in fields:
                raise WssegError(f"net: no setting {short(name)}{near(name, fields)}")
        for name, field in fields.items():
            if name not in data and field.default is dataclasses.MISSING:
                raise WssegError(f"net: {name} is missing")
        return cls(**data)


def check_name(what: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise WssegError, with the nearest name, for one that is not known."""
    if not isinstance(value, str) or value not in known:
        hint = near(value, known) or f": one of {', '.join(known)}"
        raise WssegError(f"net: no {what} {short(value)}{hint}")


def check_int(name: str, value: Any, low: int, high: int) -> None:
    """Raise WssegError for what is no integer from low to high."""
    if not is_int(value) or not low <= value <= high:
        raise wrong(name, value, f"an integer from {low} to {high}")


def is_int(value: Any) -> bool:
    """Whether a value is an integer, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def wrong(name: str, value: Any, want: str) -> WssegError:
    """Return what to raise for a field that is not as it must be."""
    return WssegError(f"net: {name} is {short(value)}, it must be {want}")


def near(value: Any, known: Collection[str]) -> str:
    """Return a hint at the nearest of the known names, or nothing."""
    text = str(value)[:99].lower().replace("+", "plus")
    found = difflib.get_close_matches(text, sorted(known), 1, 0.5)
    return f" (did you mean {found[0]}?)" if found else ""


def short(value: Any) -> str:
    """Return a value as it is shown in a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
