"""ws-info: what a place holds, and whether it is complete and sound."""

from __future__ import annotations

from typing import Any

import click

from wsseg.cli import _options
from wsseg.cli._command import tool
from wsseg.errors import ExitStatus, IncompleteError, UsageError, printable


@tool("ws-info")
@click.option("--check", is_flag=True, help="Decode every record and prove the place complete "
              "and sound.")
@click.option("--history", is_flag=True, help="Print which tools made the place, oldest first.")
@click.option("--list", "listing", is_flag=True, help="Print the keys, one a line.")
@_options.JSON
@_options.flow(many=True, writes=False)
def main(flow, check: bool, history: bool, listing: bool, as_json: bool) -> Any:
    """Say what each INPUT holds.

    Tells form, completeness, number of records, kinds, image sizes, class names, and the labels
    that people gave for it: whether a strong label went into it, be it through a trained
    model. A directory or HDF5 file is not read through for this: sizes come from a sample of
    at most 100 records.

    With --check every record is decoded: the sizes of its maps must agree with each other and
    with the photo, its classes must have names, its bytes must be those that were written.
    Each fault is named. Exit status 0 means sound, 1 damaged (3 with --keep-going) and 4
    incomplete.

    \b
    Examples:
      ws-info --check boxed/ && ws-eval boxed/ truth.h5
      ws-info --list boxed/ | head -n 100 > keys.txt
      ws-weaken masks/ --boxes | ws-info --history
    """
    import json

    if check + history + listing > 1 or listing and as_json:
        raise UsageError("--check, --history and --list exclude each other, and --list --json")
    if listing:
        return _list(flow)
    found, worst = [], ExitStatus.OK
    for place in flow.inputs:
        facts, status = _look(flow, place, check)
        found.append(facts)
        worst = status if worst in (ExitStatus.OK, ExitStatus.INCOMPLETE) and status else worst
        if not as_json:
            flow.env.out(printable(facts["place"]))
            flow.env.out("\n".join(map(printable, (_chain if history else _text)(facts))))
    if as_json:
        flow.env.out(json.dumps({"places": found}, indent=1))
    return worst


def _list(flow) -> ExitStatus:
    for place in flow.inputs:
        source = flow.open(place)
        keys = flow.selected(source)
        for key in (record.key for record in flow.records(source)) if keys is None else keys:
            flow.env.out(key)
        if keys is not None:
            source.check_complete()
    return flow.status()


def _look(flow, place: str, check: bool) -> tuple[dict[str, Any], ExitStatus]:
    """Return the facts about a place, and the exit status they mean."""
    from wsseg.io.inspect import Audit, Survey

    source = flow.open(place)
    flow.cut, keys = None, flow.selected(source)
    survey, audit = Survey(source, keys), None
    try:
        if check:
            audit = Audit(source, whole=flow.shard is None and flow.wanted is None)
            _check(flow, source, survey, audit)
        elif keys is None:
            for record in flow.records(source):
                survey.glance(record)
        else:
            source.check_complete()
    except IncompleteError as error:
        flow.cut = str(error)
    facts, status = survey.facts(flow.cut), ExitStatus.OK
    if flow.cut is not None:
        flow.env.say(flow.cut)
        status = ExitStatus.INCOMPLETE
    if audit is not None:
        facts |= {"sound": status == ExitStatus.OK and not audit.faults, "faults": audit.faults}
        if audit.faults:
            status = ExitStatus.SOME_FAILED if flow.keep_going else ExitStatus.FAILED
            flow.env.say(f"{len(audit.faults)} records or parts of {source.where} are bad",
                         0 if flow.keep_going else 1)
    return facts, status


def _check(flow, source, survey, audit) -> None:
    """Decode all records in workers; name each fault as it is found."""
    from functools import partial

    from wsseg.cli._parallel import Failure, ordered_map
    from wsseg.io.inspect import check_record

    step = partial(check_record, ignore=source.header.ignore)
    count = source.header.count if survey.keys is None else len(survey.keys)
    jobs = flow.jobs if count is None else min(flow.jobs, count // 4 + 1)
    for fault in audit.faults:
        flow.env.say(fault)
    with flow.env.bar(count) as bar:
        for seen in ordered_map(step, flow.records(source), jobs=jobs, batch=4):
            bar.update()
            fault = audit.fail(seen.key, seen.message) if isinstance(seen, Failure) \
                else audit.take(seen)
            survey.passed(seen)
            if fault:
                bar.clear()
                flow.env.say(fault)
    for fault in audit.close():
        flow.env.say(fault)


def _text(facts: dict[str, Any]) -> list[str]:
    """Return the facts for people, one a line."""
    from textwrap import fill

    sizes, classes = facts["sizes"], facts["classes"]
    failed = f" ({facts['failed']:,} more failed and were left out)" if facts["failed"] else ""
    odd = f"; could not read {facts['unreadable']} of them" if facts["unreadable"] else ""
    lines = {
        "form": facts["form"],
        "complete": {None: "cannot be told: not written by wsseg", True: "yes",
                     False: f"NO: {facts['why']}"}[facts["complete"]],
        "sound": {None: "", True: "yes", False: "NO"}[facts.get("sound")],
        "records": f"{facts['records']:,}{failed}",
        "kinds": ", ".join(f"{k} {n:,}" for k, n in facts["kinds"].items()) or "none",
        "size": ("{1} to {3} high, {2} to {4} wide ({0:,} records seen)".format(
            sizes["of"], *sizes["low"], *sizes["high"]) if sizes else "not known") + odd,
        "classes": "not known" if classes is None else f"{len(classes)}: {', '.join(classes)}",
        "ignore": f"{facts['ignore']}",
        "labels": facts["labels"],
        "made by": " | ".join(facts["tools"]),
    }
    return [line for name, text in lines.items() if text
            for line in fill(printable(text), 100, initial_indent=f"  {name:12}",
                             subsequent_indent=" " * 14).split("\n")]


def _chain(facts: dict[str, Any]) -> list[str]:
    """Return the tools that made a place, one a line."""
    from shlex import join

    return [f"  {i}. {e.get('tool')} {e.get('version')} {join(map(str, e['arguments']))}".rstrip()
            for i, e in enumerate(facts["history"], 1)] + [f"  labels: {facts['labels']}"]


if __name__ == "__main__":
    main()
