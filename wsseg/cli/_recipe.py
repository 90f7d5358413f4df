"""--recipe: options from a file, which those on the command line override."""

from __future__ import annotations

import json
from typing import Any

import click

_REFUSED = {"recipe", "overwrite", "resume", "output", "help", "version", "quiet", "verbose"}


def _load(context: click.Context, _: click.Parameter, path: str | None) -> str | None:
    """Make the file's values the defaults of this command."""
    if path is None or context.resilient_parsing:
        return path
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise click.BadParameter(f"{path} cannot be read as JSON ({error})") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f"{path} must be an object of option names and values")
    known: dict[str, click.Parameter] = {}
    for param in context.command.params:
        if isinstance(param, click.Option) and param.name not in _REFUSED:
            known |= {flag.lstrip("-"): param for flag in param.opts if flag.startswith("--")}
    defaults: dict[str, Any] = {}
    for name, value in found.items():
        if name.startswith("_"):
            continue  # a remark
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            raise click.BadParameter(f"{path}: no option {name!r}"
                                     + (f" (did you mean {near[0]}?)" if near else ""))
        defaults[known[name].name] = _as_given(known[name], value, f"{path}: {name}")
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _as_given(option: click.Option, value: Any, where: str) -> Any:
    """A value as click would have it from the command line, which it then checks."""
    several = option.multiple or option.nargs != 1
    parts = value if isinstance(value, list) and several else [value]
    if value is None or any(isinstance(part, (list, dict)) for part in parts):
        raise click.BadParameter(f"{where} cannot be {json.dumps(value)[:60]}")
    given = [part if isinstance(part, bool) else str(part) for part in parts]
    return given if several else given[0]


RECIPE = click.option(
    "--recipe", type=click.Path(exists=True, dir_okay=False), is_eager=True, expose_value=False,
    callback=_load, metavar="FILE", help="Options as a JSON object, {\"lr\": 0.001}; those of the "
    "command line win.")
