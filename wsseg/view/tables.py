"""Facts about a run as fragments of HTML: steps, labels spent, scores, costs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wsseg.errors import RecordError, UsageError
from wsseg.io.jsons import parse


def load(file: str | None, rows: str) -> dict[str, Any] | None:
    """Read JSON that a tool wrote, an object with the list of objects ``rows``; None for None.

    Raises UsageError if it is something else.
    """
    if file is None:
        return None
    try:
        with open(file, "rb") as stream:
            value = parse(stream.read())
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except RecordError as error:
        raise UsageError(f"{file}: {error}") from None
    listed = value.get(rows) if isinstance(value, dict) else None
    if not isinstance(listed, list) or not all(isinstance(row, dict) for row in listed):
        raise UsageError(f"{file}: no list {rows!r} in it; the output of --json was expected")
    return value


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of whatever the rows hold; columns in order of first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    number = {c: all(isinstance(row.get(c), (int, float, type(None))) for row in rows)
              for c in columns}
    mark = {c: ' class="number"' if number[c] else "" for c in columns}
    head = "".join(f'<th scope="col"{mark[c]}>{escape(str(c).replace("_", " "))}</th>'
                   for c in columns)
    body = "".join(
        "<tr>" + "".join(
            f'<th scope="row"{mark[c]}>{_text(row.get(c))}</th>' if i == 0
            else f"<td{mark[c]}>{_text(row.get(c))}</td>" for i, c in enumerate(columns)) + "</tr>"
        for row in rows)
    return (f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
            "</table></div>")


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return escape(str(value))


def card(title: str, content: str, *, wide: bool = False) -> str:
    """Return one section of the page's upper part."""
    return (f'<section class="card{" wide" * wide}"><h2>{escape(title)}</h2>{content}</section>'
            if content else "")


def history(places: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the tools that made each place. places: name -> history entries of its header."""
    parts = []
    for name, entries in places.items():
        steps = "".join(f"<li><code>{_command(entry)}</code></li>" for entry in entries)
        if steps:
            parts.append(f'<h3 class="place">{escape(name)}</h3><ol class="steps">{steps}</ol>')
    return "".join(parts)


def _command(entry: Any) -> str:
    """Return one entry as a command line; a header may come from anywhere, so nothing in it is
    trusted to be well formed."""
    entry = entry if isinstance(entry, dict) else {}
    words = entry.get("arguments")
    said = shlex.join(map(str, words)) if isinstance(words, (list, tuple)) else ""
    return f"<b>{escape(str(entry.get('tool', '?')))}</b> {escape(said)}"


def supervision(places: Mapping[str, Mapping[str, Sequence[int]]]) -> str:
    """Return the labels that people gave. places: name -> kind -> (images, classes, objects)."""
    names = ("images", "classes given", "objects marked")
    rows = [{"labels": kind, "behind": name, **dict(zip(names, spent))}
            for name, kinds in places.items() for kind, spent in kinds.items()]
    return table(rows) if rows else ""


def scores(result: Mapping[str, Any]) -> str:
    """Return what ``ws-eval --json`` measured: the mean figures and a bar for each class."""
    figures = "".join(f"<div><dt>{title}</dt><dd>{_share(result[name])}</dd></div>"
                      for name, title in (("miou", "mean IoU"), ("pixel_accuracy",
                                                                 "pixel accuracy"))
                      if name in result)
    figures += "".join(f"<div><dt>{name}</dt><dd>{_text(result[name])}</dd></div>"
                       for name in ("records", "failed") if name in result)
    bars = "".join(
        f"<li><span>{escape(str(c.get('class')))}</span><span class=\"track\">"
        f'<i style="width:{100 * min(1.0, max(0.0, _number(c.get("iou")) or 0.0)):.1f}%"></i>'
        f'</span><span class="number">{_share(c.get("iou"))}</span></li>'
        for c in result.get("classes", ()))
    return f'<dl class="figures">{figures}</dl><ul class="scores">{bars}</ul>'


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) else None


def _share(value: Any) -> str:
    return "–" if _number(value) is None else f"{100 * value:.1f}&thinsp;%"
