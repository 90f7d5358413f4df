"""What every tool that reads records does: open places, choose records, work, write, report."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import click

from wsseg import __version__
from wsseg.cli import _options
from wsseg.cli._env import Env
from wsseg.cli._join import Join
from wsseg.cli._parallel import FORKS, Failure, Ready, ordered_map
from wsseg.cli._supervision import carried, spent
from wsseg.errors import (ExitStatus, IncompleteError, RecordError, UsageError,
                          WssegError)
from wsseg.io.folder import FolderSource
from wsseg.io.header import Header, Total, history_entry
from wsseg.io.kinds import KINDS
from wsseg.io.places import Sink, open_sink, open_source, refuse_input
from wsseg.io.record import Packed, Record
from wsseg.io.source import Source
from wsseg.io.supervision import covered, together, union


#: Step and items -> results in the order of the items, a Failure for a bad one.
Through = Callable[[Callable[[Record], Any], Iterable[Any]], Iterator[Any]]


@dataclass
class Flow:
    """One run of a tool over records. Made from the shared options by ``_options.flow``.

    failed, failed_keys: records left out so far; cut: why an input is incomplete; only: chooses
    records by key; lenient: listed keys that are not there are only noted; wrap: turns each
    record into what the step is given, in a worker if it is portable; spent: labels, as in a
    header's supervision, that went into something else that the tool uses, such as fitted
    parameters; made_of: role -> header of such things as have one.
    """

    env: Env
    tool: str
    arguments: list[str]
    parameters: dict[str, Any]
    inputs: tuple[str, ...] = ("-",)
    output: str = "-"
    mode: str = "new"
    jobs: int = 1
    shard: tuple[int, int] | None = None
    key_file: str | None = None
    keep: tuple[str, ...] = ()
    keep_going: bool = False
    classes_spec: str | None = None
    images: str | None = None
    failed: int = 0
    failed_keys: set[str] = field(default_factory=set)
    cut: str | None = None
    only: Callable[[str], bool] | None = None
    lenient: bool = False
    wrap: Callable[[Record], Any] | None = None
    portable: bool = False
    spent: dict[str, tuple[int, ...]] = field(default_factory=dict)
    made_of: dict[str, Header] = field(default_factory=dict)
    _joined: list[Join] = field(default_factory=list)
    _folders: list[str] = field(default_factory=list)

    @staticmethod
    def of(context: click.Context, shared: dict[str, Any], rest: dict[str, Any]) -> Flow:
        """Build from click's context. Raises UsageError for options that contradict."""
        if shared.get("overwrite") and shared.get("resume"):
            raise UsageError("--overwrite and --resume exclude each other")
        mode = "overwrite" if shared.get("overwrite") else "new"
        inputs = shared.get("inputs") or (shared.get("input", "-"),)
        if inputs.count("-") + (shared.get("images") == "-") > 1:
            raise UsageError("only one input can be standard input")
        for kind in shared.get("keep", ()):
            if kind not in KINDS:
                raise UsageError(f"--keep {kind}: no such kind; there are {', '.join(KINDS)}")
        flow = Flow(context.obj, context.command_path.replace(" ", "-"),
                    _arguments(context, rest), _plain(rest), inputs,
                    shared.get("output", "-"), "resume" if shared.get("resume") else mode,
                    shared.get("jobs", 1), shared.get("shard"), shared.get("key_file"),
                    tuple(shared.get("keep", ())), shared.get("keep_going", False),
                    shared.get("classes"), shared.get("images"))
        flow.env.say(f"parameters {flow.parameters}", 1)
        return flow

    # -- reading ---------------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """Class names given on the command line."""
        if self.classes_spec is None:
            return None
        from wsseg.data.names import load_names

        return load_names(self.classes_spec)

    @cached_property
    def wanted(self) -> dict[str, None] | None:
        """Keys listed with --keys."""
        if self.key_file is None:
            return None
        from wsseg.data.lists import read_list

        return dict.fromkeys(read_list(self.key_file))

    def open(self, place: str | None = None, *, as_kind: str | None = None) -> Source:
        """Open a place (default: the first input), or say why there is nothing to read."""
        place = self.inputs[0] if place is None else place
        if place == "-":
            if 0 in self.env.closed:
                raise UsageError("standard input is closed and no input is named")
            if os.isatty(0):
                raise UsageError("no input: name a directory or file, or pipe records in "
                                 f"(see {self.tool} --help)")
        source = open_source(place, as_kind=as_kind, classes=self.classes)
        if isinstance(source, FolderSource):
            self._folders.append(place)
            if source.passed:
                more = f" and {n} more" if (n := len(source.passed) - 1) else ""
                hint = "" if as_kind == "image" else " (ws-cat --as image reads TIFF, WebP and BMP)"
                self.env.say(f"{place}: not read: {min(source.passed)}{more}{hint}")
        return source

    def join(self, place: str | None, role: str, kinds: set[str] | None = None,
             as_kind: str | None = None, view: Callable[[Source], Source] | None = None
             ) -> Source | None:
        """Add the kinds of another place to every record, looked up by key or in lock-step.

        view: what is made of the place before.
        """
        if place is None:
            return None
        source = self.open(place, as_kind=as_kind)
        source = source if view is None else view(source)
        self._joined.append(Join(source, role, kinds))
        return source

    def join_images(self) -> Source | None:
        """Add the photos of --images, if given."""
        return self.join(self.images, "images", {"image"}, "image")

    def _chosen(self, key: str) -> bool:
        if self.shard is not None:
            part, count = self.shard
            if int(hashlib.sha256(key.encode()).hexdigest()[:15], 16) % count != part - 1:
                return False
        return self.only is None or self.only(key)

    def selected(self, source: Source, *, sharded: bool = True) -> list[str] | None:
        """Return the keys to be read, None for a stream. Raises UsageError for listed keys
        that are not there, unless --keep-going."""
        if not hasattr(source, "get"):
            return None
        keys = source.keys()
        if self.wanted is not None:
            self._complain_missing(self.wanted, set(keys), f"listed in {self.key_file} but not in "
                                                           f"{source.where}")
            keys = [k for k in keys if k in self.wanted]
        return [k for k in keys if self._chosen(k)] if sharded else list(keys)

    def _complain_missing(self, keys: Iterable[str], there: set[str], what: str) -> None:
        missing = [k for k in keys if k not in there]
        if missing:
            text = (f"{len(missing)} records are {what}: {', '.join(missing[:5])}"
                    f"{' ...' if len(missing) > 5 else ''}")
            if not (self.keep_going or self.lenient):
                raise UsageError(f"{text} (--keep-going leaves them out)")
            self.env.say(text)

    def records(self, source: Source) -> Iterator[Any]:
        """Yield the chosen records with what is joined to them; a bad one as Ready(Failure).

        A source that turns out incomplete is remembered in ``cut`` and reported at the end.
        """
        keys = self.selected(source)
        try:
            for item in self._stream(source) if keys is None else self._keyed(source, keys):
                try:
                    yield self._full(item if keys is None else source.get(item))
                except RecordError as error:
                    yield Ready(Failure(item if keys is not None else item.key, str(error)))
            if keys is None:
                self._finish()
        except IncompleteError as error:
            self.cut = str(error)

    def _full(self, record: Record) -> Any:
        """Return what the step is given: the record with what is joined to it, wrapped."""
        for joined in self._joined:
            joined.add(record)
        return record if self.wrap is None else self.wrap(record)

    def _keyed(self, source: Source, keys: list[str]) -> Iterator[str]:
        """Yield the keys of records that are looked up; the end is as ``records`` has it."""
        for joined in self._joined:
            if hasattr(joined.source, "get") and joined.role != "extra":
                self._complain_missing(keys, set(joined.source.keys()),
                                       f"without counterpart in {joined.source.where}")
        try:
            yield from keys
            source.check_complete()
            self._finish()
        except IncompleteError as error:
            self.cut = str(error)

    def _finish(self) -> None:
        for joined in self._joined:
            joined.finish()

    def _in_workers(self, source: Source) -> bool:
        """Whether workers can look records up themselves, given their keys."""
        sources = [source, *(joined.source for joined in self._joined)]
        if (not FORKS or self.wrap is not None and not self.portable
                or not all(isinstance(s, FolderSource) for s in sources)):
            return False
        for one in sources:
            one.recorded  # read, or refused as damaged, once and here
        return True

    def _stream(self, source: Source) -> Iterator[Record]:
        seen = set()
        for record in source:
            if self.wanted is not None:
                if record.key not in self.wanted:
                    continue
                seen.add(record.key)
            if self._chosen(record.key):
                yield record
        if self.wanted is not None:
            self._complain_missing(self.wanted, seen, f"listed in {self.key_file} but not in "
                                                      f"{source.where}")

    # -- working ---------------------------------------------------------------------------

    def map(self, step: Callable[[Record], Any], source: Source, *, batch: int = 1,
            again: Callable[[str], Packed | None] | None = None,
            through: Through | None = None) -> Iterator[Any]:
        """Yield step(record) of every good record, in order, with a progress bar.

        The first failure ends the run with its message, or, with --keep-going, is reported
        and counted. again: gives the finished record of an earlier run, if there is one.
        through: takes step and items and yields results as ``ordered_map`` does, in its stead.
        """
        keys = self.selected(source)
        by_key = through is None and keys is not None and self._in_workers(source)
        work = (lambda key: step(self._full(source.get(key)))) if by_key else step

        def items() -> Iterator[Any]:
            for item in self._keyed(source, keys) if by_key else self.records(source):
                key = item if by_key else getattr(item, "key", None)
                done = again(key) if again and key is not None else None
                yield item if done is None else Ready((done, done.digest, True))

        with self.env.bar(source.header.count if keys is None else len(keys)) as bar:
            jobs = self.jobs if keys is None else max(1, min(self.jobs, len(keys)))
            for result in (ordered_map(work, items(), jobs=jobs, batch=batch) if through is None
                           else through(work, items())):
                bar.update()
                self.env.stop_if_signalled()  # what the signal raised may have been lost
                if not isinstance(result, Failure):
                    yield result
                    continue
                if not self.keep_going:
                    if self.env.verbosity >= 2 and result.trace:
                        self.env.say(result.trace)
                    raise RecordError(f"{result.key}: {result.message}")
                bar.clear()
                self.env.say(f"{result.key}: {result.message}")
                self.failed += 1
                self.failed_keys.add(result.key)

    def status(self) -> ExitStatus:
        """Report a cut input or left-out records, and return the exit status they mean."""
        if self.cut is not None:
            raise IncompleteError(self.cut)
        if self.failed:
            self.env.say(f"{self.failed} records failed and were left out")
            return ExitStatus.SOME_FAILED
        return ExitStatus.OK

    def run(self, step: Callable[[Record], Record], source: Source, *, reads: Sequence[str] = (),
            writes: Sequence[str] = (), classes: Sequence[str] | None = None,
            history: bool = True, only: bool = False,
            through: Through | None = None) -> ExitStatus:
        """Pass every record through ``step`` and write it to the output.

        reads: kinds that the step uses up, dropped unless kept; writes: kinds that it makes;
        only: drop everything else as well; classes: new class names; history: False for a
        tool that changes no record; through: as for ``map``.
        """
        if self.output == "-" and (1 in self.env.closed or os.isatty(1)):
            raise UsageError("standard output is a terminal, and records are binary: add -o "
                             "DIRECTORY, -o FILE.h5 or pipe into another tool"
                             if 1 not in self.env.closed else "standard output is closed")
        refuse_input(self.output, (*self.inputs, *(j.source.where for j in self._joined)),
                     self._folders)
        header = self._header(source, reads, writes, classes, history, only)
        make = partial(_make, step, frozenset(reads) - {*writes, *self.keep},
                       frozenset({*writes, *self.keep}) if only else None,
                       self._covered(source, header))
        sink = open_sink(self.output, header, mode=self.mode)
        total = Total()
        try:
            resumed = sink.take if self.mode == "resume" else None
            for packed, digest, taken in self.map(make, source, again=resumed,
                                                  through=through):
                sink.write(packed, digest, taken=taken)
                total.add(packed.key, digest, packed.supervision)
            total.failed = self.failed + (source.end.failed if source.end else 0)
            return self._close(sink, total, header)
        except BaseException as error:
            sink.abort(str(error) if isinstance(error, WssegError) else None)
            raise

    def _covered(self, source: Source, header: Header) -> frozenset[str]:
        """The kinds whose labels, of all records that these may be some of, the header has."""
        places = (source, *(j.source for j in self._joined if j.labels))
        return covered(header.supervision, (carried(part) for place in places
                                            for part in getattr(place, "parts", (place,))))

    def _close(self, sink: Sink, total: Total, header: Header) -> ExitStatus:
        if self.cut is not None:
            raise IncompleteError(self.cut)
        sink.finish(total.end(header))
        self.env.say(f"{total.records} records written to {self.output}", 1)
        return self.status()

    def _header(self, source: Source, reads: Sequence[str], writes: Sequence[str],
                classes: Sequence[str] | None, history: bool, only: bool) -> Header:
        base = source.header
        keys = self.selected(source)
        gone = set(reads) - set(self.keep)
        kinds = {*(() if only else set(base.kinds) - gone), *writes,
                 *(k for k in self.keep if k in base.kinds or k == "image")}
        names = tuple(classes) if classes is not None else base.classes or self.classes
        before = together(base.supervision, self.spent)
        inputs = {"input": base, **self.made_of}
        for joined in self._joined:
            inputs[joined.role] = joined.source.header
            if joined.labels:
                before = union(before, joined.source.header.supervision)
        some = self.wanted is not None or self.shard or self.only or self.keep_going
        if some or source.end is None and keys is not None:
            count = len(keys) if keys is not None and not self.keep_going else None
        else:  # all of one of our places: its header is copied as it is
            count = base.count
        entry = history_entry(self.tool, __version__, self.arguments, self.parameters,
                              {role: h for role, h in inputs.items() if h.history})
        return replace(base, kinds=tuple(sorted(kinds)), classes=names, count=count,
                       history=base.history + ((entry,) if history else ()), supervision=before)


def _make(step: Callable[[Record], Record], drop: frozenset[str], only: frozenset[str] | None,
          counted: frozenset[str], record: Record) -> tuple[Packed, str, bool]:
    """Work on one record and encode it, in a worker. counted: labels that the header has."""
    if not record.canonical:
        record.supervision = {**spent(record), **record.supervision}
    for kind in counted:
        record.supervision.pop(kind, None)
    result = step(record)
    for kind in drop:
        result.drop(kind)
    if only is not None:
        result.keep(set(only) | {k for k in result.kinds() if k not in KINDS})
    packed = result.pack()
    return packed, packed.digest, False


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters as JSON holds them, without those that do not change the result."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in sorted(parameters.items())
            if k not in _options.SHARED and v is not None}


def _arguments(context: click.Context, values: dict[str, Any]) -> list[str]:
    """The command line again, from the parameters that differ from their defaults."""
    result = []
    for param in context.command.params:
        value = values.get(param.name)
        if (param.name in _options.SHARED or not isinstance(param, click.Option)
                or value is None or value is False or value == ()
                or value == param.get_default(context)):
            continue
        flag = max(param.opts, key=len)
        for one in value if isinstance(value, tuple) else (value,):
            result += [flag] if param.is_flag else [flag, str(one)]
    return result
