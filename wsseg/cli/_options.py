"""Every option that more than one tool has, declared once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import update_wrapper
from typing import Any

import click
from click.core import ParameterSource

from wsseg.errors import UsageError


def default_jobs() -> int:
    """All cores this process may use; ``WSSEG_JOBS`` is read by the option itself."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Shard(click.ParamType):
    """I/N with 1 <= I <= N."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None,
                ctx: click.Context | None) -> tuple[int, int]:
        part, slash, count = str(value).partition("/")
        if not (slash and part.isdecimal() and count.isdecimal()
                and 1 <= int(part) <= int(count)):
            self.fail(f"{value!r} is not I/N with I from 1 to N", param, ctx)
        return int(part), int(count)


INPUT = click.argument("input", default="-", metavar="[INPUT]")
INPUTS = click.argument("inputs", nargs=-1, metavar="[INPUT]...")
OUTPUT = click.option(
    "-o", "--output", default="-", metavar="PLACE", show_default="standard output",
    help="Where records go: a directory, a .h5 or .tar file, or - for a pipe.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an existing output.")
_GO_ON = "Go on where an interrupted run with the same parameters stopped."
RESUME = click.option("--resume", is_flag=True, help=_GO_ON)
RESUME_RECORDS = click.option("--resume", is_flag=True, help=f"{_GO_ON} Records that it finished "
                              "are kept: their inputs are not compared again.")
JOBS = click.option(
    "-j", "--jobs", type=click.IntRange(1), default=default_jobs, envvar="WSSEG_JOBS",
    show_default="all cores", show_envvar=True,
    help="Images worked on at the same time. Never changes the result.")
SHARD = click.option("--shard", type=Shard(), help="Only the I-th of N parts, by hash of key.")
KEYS = click.option("--keys", "key_file", type=click.Path(exists=True, dir_okay=False),
                    metavar="FILE", help="Only the records that FILE lists, one key a line.")
KEEP = click.option("--keep", multiple=True, metavar="KIND",
                    help="Keep an input kind in the output; may be repeated.")
KEEP_GOING = click.option("--keep-going", is_flag=True,
                          help="Report each bad record, leave it out, go on and exit 3.")
CLASSES = click.option("--classes", metavar="NAMES", help="Class names of an input that has "
                       "none: voc, cityscapes, coco or a file with one name a line.")
IMAGES = click.option("--images", metavar="PLACE",
                      help="The photos, if the input does not carry them.")
JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON for programs.")

_READ = (SHARD, KEYS, KEEP_GOING, CLASSES, JOBS)
_WRITE = (OUTPUT, OVERWRITE, RESUME_RECORDS, KEEP)
#: Parameters that a Flow takes over.
FLOW = {"input", "inputs", "output", "overwrite", "resume", "jobs", "shard", "key_file", "keep",
        "keep_going", "classes", "images"}
#: What does not change the result of a tool, and so is never part of the history.
SHARED = FLOW | {"as_json", "engine", "threads", "device", "extra", "weak", "val", "val_images",
                 "tag_place", "saliency", "parts_of", "tensorboard", "max_minutes", "save_minutes",
                 "log_every", "compiled"}


def refuse_given(names: Iterable[str], why: str) -> None:
    """Raise UsageError for an option of the running command that was given, be it as its default,
    and would do nothing."""
    context = click.get_current_context()
    for param in context.command.params:
        if param.name in names and context.get_parameter_source(param.name) not in (
                ParameterSource.DEFAULT, None):
            raise UsageError(f"{max(param.opts, key=len)} {why}")


def flow(*, many: bool = False, writes: bool = True, images: bool = False,
         positional: bool = True) -> Callable:
    """Give a tool the options of one that reads records, and a ``Flow`` made from them.

    many: several inputs; writes: its output is records; images: it needs the photos;
    positional: it declares its own positional arguments otherwise.
    """
    options = (*((INPUTS if many else INPUT,) if positional else ()),
               *(_WRITE if writes else ()), *_READ, *((IMAGES,) if images else ()))

    def wrap(function: Callable) -> Callable:
        @click.pass_context
        def call(context: click.Context, **values: Any) -> Any:
            from wsseg.cli._flow import Flow

            shared = {k: values.pop(k) for k in list(values) if k in FLOW}
            return function(Flow.of(context, shared, values), **values)

        call = update_wrapper(call, function)
        for option in reversed(options):
            call = option(call)
        return call
    return wrap
