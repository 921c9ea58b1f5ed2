"""How answers look: JSON for programs, aligned text for pipes, tables for terminals, one line for an error.

Job documents hold other people's strings; whatever is printed for people is stripped of terminal control sequences.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.text import Text

from supervisor.client.shown import plain
from supervisor.config.problems import one_line

_GAP = "  "
_NARROW = 26
"""A column of at most so many characters is shown whole, unless it is the last and was longer."""
_COLOURS = {"completed": "green", "failed": "red", "processing": "cyan", "cancelled": "yellow"}


def warn(message: str) -> None:
    """Say something on stderr that is no error."""
    click.echo(f"warning: {clean(message)}", err=True)


def fail(message: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    click.echo(f"error: {clean(message)}", err=True)


def clean(value: Any) -> str:
    """Return `value` on one line and without control characters."""
    return one_line(" ".join(str(value).split()))


def printable(text: str) -> str:
    """Return what a job has printed as it was meant to look, without control characters.

    A carriage return, with which progress bars overwrite themselves, begins a new line.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in lines)


def as_json(value: Any) -> str:
    """Return `value` as JSON that is easy on `jq`: ids are strings, times ISO 8601 in UTC, binary data base64."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def error_in_short(error: Any) -> str:
    """Return `kind: message` of an error document; empty for none."""
    if not isinstance(error, Mapping):
        return ""
    parts = [str(error[key]) for key in ("kind", "code", "message") if error.get(key)]
    return clean(": ".join(parts))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table: fit to the width of a terminal, or aligned and whole for a pipe."""
    cells = [[clean("" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    if sys.stdout.isatty():
        widths = fit(widths, shutil.get_terminal_size().columns)
    for row in [columns, *cells]:
        click.echo(_GAP.join(_cut(row, widths, heading=row is columns)).rstrip())


def fit(widths: Sequence[int], terminal: int) -> list[int]:
    """Return the widths with the wide columns cut down, the widest most, until all fit into `terminal` characters."""
    fitted = list(widths)
    room = terminal - len(_GAP) * (len(widths) - 1)
    while sum(fitted) > room and max(fitted) > _NARROW:
        fitted[fitted.index(max(fitted))] -= 1
    while sum(fitted) > room and fitted[-1] > 1 and widths[-1] > _NARROW:  # the last is the one that can be long
        fitted[-1] -= 1
    return fitted


def _cut(row: Sequence[str], widths: Sequence[int], *, heading: bool) -> Iterator[str]:
    """Yield the cells of a row, each as wide as its column; after the last, nothing has to be aligned."""
    for position, (cell, width) in enumerate(zip(row, widths, strict=True), start=1):
        text = Text(cell)
        text.truncate(width, overflow="ellipsis", pad=position < len(widths))
        colour = _COLOURS.get(cell)
        yield click.style(text.plain, bold=heading or None, fg=colour) if heading or colour else text.plain
