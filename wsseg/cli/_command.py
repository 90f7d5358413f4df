"""The click command that every tool is: one place for errors, signals and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import click

from wsseg import __version__
from wsseg.cli._env import ERROR, Env, Terminated, die_by
from wsseg.errors import ExitStatus, WssegError


class Tool(click.Command):
    """A command whose every failure is one line and an exit status."""

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None,
             **_: Any) -> None:
        sys.exit(run(self, args))


class Sub(click.Command):
    """A subcommand: it takes -q and -v as its tool does."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        self.params += _spoken()


class Group(click.Group):
    """A tool with subcommands, under the same rules."""

    command_class = Sub

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None,
             **_: Any) -> None:
        sys.exit(run(self, args))


def tool(name: str, cls: type[click.Command] = Tool) -> Callable:
    """Make a function the tool ``name``, with the options that all tools have."""
    def wrap(function: Callable) -> click.Command:
        command = click.command(name, cls=cls, context_settings={
            "help_option_names": ["-h", "--help"], "max_content_width": 100})(function)
        command.params += _spoken()
        click.version_option(__version__, prog_name=name)(command)
        return command
    return wrap


def _spoken() -> list[click.Option]:
    return [click.Option(["-q", "--quiet"], count=True, expose_value=False, callback=_quieter,
                         help="Say less: no progress, then no notes."),
            click.Option(["-v", "--verbose"], count=True, expose_value=False, callback=_louder,
                         help="Say more: -v parameters and notes, -vv tracebacks.")]


def _quieter(context: click.Context, _: click.Parameter, count: int) -> None:
    context.find_root().obj.verbosity -= count


def _louder(context: click.Context, _: click.Parameter, count: int) -> None:
    context.find_root().obj.verbosity += count


def run(command: click.Command, args: Sequence[str] | None) -> int:
    """Run a command and return its exit status; never raises."""
    name = command.name
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    if variable in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(command, {}, name, variable, os.environ[variable])
    env = Env.take(name)
    if not sys.warnoptions:  # a library's warning is no message of ours
        warnings.simplefilter("ignore")
    try:
        with command.make_context(name, list(sys.argv[1:] if args is None else args),
                                  obj=env) as context:
            status = command.invoke(context)
        if sys.stdout is not None and 1 not in env.closed:
            sys.stdout.flush()
        return int(status or ExitStatus.OK)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
            print(error.ctx.get_help(), file=sys.stderr)
            return ExitStatus.USAGE
        where = error.ctx.command_path if getattr(error, "ctx", None) else name
        message = " ".join(error.format_message().split())
        env.say(f"{message} (see {where} --help)", ERROR)
        return ExitStatus.USAGE
    except (KeyboardInterrupt, click.Abort):
        env.say("interrupted", ERROR)
        die_by(signal.SIGINT)
    except Terminated as error:
        env.say("terminated", ERROR)
        die_by(error.number)
    except BrokenPipeError:
        _drop_stdout()
        return ExitStatus.READER_GONE
    except WssegError as error:
        env.say(str(error), ERROR)
        return error.status
    except MemoryError:
        env.say("out of memory: use fewer --jobs or smaller images", ERROR)
    except Exception as error:
        if env.verbosity >= 2:
            import traceback

            traceback.print_exc()
        env.say(f"unexpected {type(error).__name__}: {error} (-vv shows where; please report it)",
                ERROR)
    return ExitStatus.FAILED


def _drop_stdout() -> None:
    """Keep the interpreter from flushing into the broken pipe once more as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
