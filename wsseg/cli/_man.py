"""Manual pages and launchers, made from the tools themselves: ``python -m wsseg.cli._man``.

The tools are the console_scripts of setup.cfg. Every page is the same on every machine: no
dates, and nothing that a version of click words in its own way.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

import click

from wsseg import __version__
from wsseg.cli._command import tool
from wsseg.errors import ExitStatus, WssegError

ROOT = Path(__file__).resolve().parents[2]

STATUS = {
    ExitStatus.OK: "Everything was done.",
    ExitStatus.FAILED: "Something failed; the last line on standard error says what.",
    ExitStatus.USAGE: "The command line asks for something that cannot be done.",
    ExitStatus.SOME_FAILED: "Some records failed and were left out (--keep-going).",
    ExitStatus.INCOMPLETE: "An input is incomplete: what wrote it was cut off or failed.",
    ExitStatus.UNSAFE: "An unsafe input or output was refused.",
    ExitStatus.INTERRUPTED: "Interrupted (Ctrl-C).",
    ExitStatus.READER_GONE: "The reader of standard output went away, as in | head.",
    ExitStatus.TERMINATED: "Terminated by a signal.",
}
VARIABLES = {"WSSEG_JOBS": "Default of --jobs."}

LAUNCHER = """#!/bin/sh
# Runs {name} from this checkout. Made by python -m wsseg.cli._man; do not edit.
[ -L "$0" ] && self=$(readlink -f "$0") || self=$0
case $self in */*) bin=${{self%/*}} ;; *) bin=. ;; esac
root=$(cd "$bin/.." && pwd)
[ -x "$root/.venv/bin/python" ] && python=$root/.venv/bin/python || python=python3
exec "$python" -c 'import sys; sys.path[0] = sys.argv.pop(1)
from {module} import {attribute}; {attribute}()' "$root" "$@"
"""


def scripts(root: Path = ROOT) -> dict[str, tuple[str, str]]:
    """Return tool -> (module, attribute), sorted, from setup.cfg."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    lines = config["options.entry_points"]["console_scripts"].split("\n")
    pairs = sorted(line.replace(" ", "").split("=") for line in lines if line.strip())
    return {name: tuple(target.split(":")) for name, target in pairs}


def launcher(name: str, module: str, attribute: str) -> str:
    """Return the script that runs a tool from a checkout.

    ``python -m`` would put the folder where the user stands before the checkout, so that a
    stray json.py there would be imported: hence ``-c``, with that place given to the checkout.
    """
    return LAUNCHER.format(name=name, module=module, attribute=attribute)


def roff(text: str) -> str:
    """Return text with everything escaped that groff would not print as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    text = text.replace("`", "\\(ga").replace("^", "\\(ha").replace("~", "\\(ti")
    return re.sub(r"^(?=\.)", r"\\&", text, flags=re.MULTILINE)


def page(name: str, command: click.Command, tools: Sequence[str]) -> str:
    """Return the manual page of a tool. tools: those to see also."""
    title, subs = name.upper(), getattr(command, "commands", {})
    summary, about, examples = _sections(command)
    lines = [f'.TH {roff(title)} 1 "" "wsseg {__version__}" "wsseg manual"',
             ".SH NAME", f"{roff(name)} \\- {roff(summary[0].lower() + summary[1:])}",
             ".SH SYNOPSIS", *_synopsis(name, command)]
    for sub in subs.values():
        lines += [".br", *_synopsis(f"{name} {sub.name}", sub)]
    lines += [".SH DESCRIPTION", *_paragraphs([f"{summary}.", *about]), ".SH OPTIONS",
              *_options(command)]
    for sub in subs.values():
        first, rest, more = _sections(sub)
        lines += [f".SH COMMAND {roff(sub.name.upper())}", *_paragraphs([f"{first}.", *rest]),
                  *_options(sub)]
        examples += more
    lines += [".SH EXAMPLES", *_paragraphs(examples)] if examples else []
    lines.append(".SH EXIT STATUS")
    for status, text in sorted(STATUS.items()):
        lines += [".TP", f"\\fB{int(status)}\\fP", roff(text)]
    lines += [".SH ENVIRONMENT", *_environment(name, [command, *subs.values()]), ".SH SEE ALSO"]
    also = [f"\\fB{roff(other)}\\fP(1)" for other in tools if other != name]
    return "\n".join([*lines, ",\n".join([*also, "\\fBwsseg\\-formats\\fP(5)"])]) + "\n"


def _sections(command: click.Command) -> tuple[str, list[str], list[str]]:
    """Split a docstring into its first sentence, paragraphs and examples.

    A paragraph that begins with ``\\b`` keeps its lines, and that mark here.
    """
    text = cleandoc(command.help or "").split("\f")[0].strip()
    if not text:
        raise WssegError(f"{command.name} has no docstring to make a manual page from")
    first, *rest = re.split(r"\n\s*\n", text)
    summary, _, more = re.sub(r"\s+", " ", first).partition(". ")
    about, examples = [more] if more else [], []
    target = about
    for paragraph in rest:
        plain = paragraph.removeprefix("\b\n")
        if plain.split("\n")[0].strip() == "Examples:":
            target, plain = examples, "\n".join(plain.split("\n")[1:])
            paragraph = f"\b\n{plain}"
        if plain.strip():
            target.append(paragraph)
    return summary.rstrip("."), about, examples


def _paragraphs(texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        yield ".PP"
        if text.startswith("\b\n"):
            lines = text[2:].split("\n")
            indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
            yield from (".nf", ".RS 4", *(roff(line[indent:]) for line in lines), ".RE", ".fi")
        else:
            yield roff(re.sub(r"\s+", " ", text))


def _synopsis(name: str, command: click.Command) -> Iterator[str]:
    rest = " ".join(param.metavar or param.name.upper() for param in command.params
                    if isinstance(param, click.Argument))
    if hasattr(command, "commands"):
        rest = "COMMAND [ARGUMENT]..."
    yield f"\\fB{roff(name)}\\fP [\\fIOPTION\\fP]... {roff(rest)}".rstrip()


def _options(command: click.Command) -> Iterator[str]:
    for param in command.get_params(click.Context(command, help_option_names=["-h", "--help"])):
        if not isinstance(param, click.Option) or param.hidden:
            continue
        flags = ", ".join(f"\\fB{roff(flag)}\\fP" for flag in
                          (*param.opts, *param.secondary_opts))
        value = param.metavar or "|".join(getattr(param.type, "choices", ())) \
            or _TYPES.get(param.type.name, param.type.name.upper())
        notes = [f"default: {default}" for default in [_default(param)] if default]
        notes += [f"environment: {param.envvar}"] if param.show_envvar else []
        notes += ["required"] if param.required else []
        yield from (".TP", flags if param.is_flag or param.count
                    else f"{flags} \\fI{roff(value)}\\fP",
                    roff((param.help or "") + (f" [{'; '.join(notes)}]" if notes else "")))


_TYPES = {"integer range": "N", "integer": "N", "float range": "X", "float": "X"}


def _default(param: click.Option) -> str:
    if isinstance(param.show_default, str):
        return param.show_default
    return str(param.default) if param.show_default and not param.is_flag else ""


def _environment(name: str, commands: Sequence[click.Command]) -> Iterator[str]:
    used = {param.envvar for command in commands for param in command.params
            if getattr(param, "envvar", None)}
    for variable in sorted(used):
        yield from (".TP", f"\\fB{variable}\\fP", roff(VARIABLES[variable]))
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    yield from (".TP", f"\\fB{variable}\\fP", roff(
        f"Set to bash_source, zsh_source or fish_source, prints completion for that shell: "
        f'eval "$({variable}=bash_source {name})"'))


def files(names: Sequence[str] = (), root: Path = ROOT) -> dict[Path, str]:
    """Return path -> content of the pages and launchers of some tools (default: all).

    Raises WssegError for a name that is no tool and for a tool that cannot be imported.
    """
    tools = scripts(root)
    made: dict[Path, str] = {}
    for name in names or tools:
        if name not in tools:
            raise WssegError(f"{name} is not in setup.cfg, which has {', '.join(tools)}")
        module, attribute = tools[name]
        try:
            command = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise WssegError(f"{name} cannot be imported: {error}") from None
        made[root / "man" / f"{name}.1"] = page(name, command, list(tools))
        made[root / "bin" / name] = launcher(name, module, attribute)
    return made


def stale(made: dict[Path, str], root: Path = ROOT, *, every: bool = True) -> list[str]:
    """Return what is wrong with the files on disk. every: ``made`` is all that there may be."""
    wrong = [f"{path.relative_to(root)} is out of date" for path, text in made.items()
             if not path.is_file() or path.read_text("utf-8") != text
             or path.parent.name == "bin" and not path.stat().st_mode & 0o111]
    there = [*root.glob("man/ws-*.1"), *root.glob("bin/ws-*")] if every else []
    return wrong + [f"{path.relative_to(root)} belongs to no tool: remove it"
                    for path in sorted(there) if path not in made]


@tool("wsseg.cli._man")
@click.argument("tools", nargs=-1, metavar="[TOOL]...")
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if files are out of date.")
def main(tools: tuple[str, ...], check: bool) -> ExitStatus:
    """Write man/ws-*.1 and bin/ws-* for every tool in setup.cfg.

    \b
    Examples:
      python -m wsseg.cli._man
      python -m wsseg.cli._man --check ws-info
    """
    env = click.get_current_context().obj
    made = files(tools)
    for path, text in made.items() if not check else ():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        path.chmod(0o755 if path.parent.name == "bin" else 0o644)
    for line in (wrong := stale(made, every=not tools)):
        env.say(line)
    return ExitStatus.FAILED if wrong else ExitStatus.OK


if __name__ == "__main__":
    main()
