"""How answers look: JSON for programs, aligned text for pipes, tables for terminals, one line for an error.

Job documents hold other people's strings; whatever is printed for people is stripped of terminal control sequences.
"""

from __future__ import annotations

import base64
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from bson import Decimal128, ObjectId, json_util
from rich.console import Console
from rich.table import Table
from rich.text import Text

from supervisor.config_problems import one_line

_STYLES = {"completed": "green", "failed": "red", "processing": "cyan", "cancelled": "yellow"}


def warn(message: str) -> None:
    """Say something on stderr that is no error."""
    click.echo(f"warning: {clean(message)}", err=True)


def fail(message: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    click.echo(f"error: {clean(message)}", err=True)


def clean(value: Any) -> str:
    """Return `value` on one line and without control characters."""
    return one_line(" ".join(str(value).split()))


def id_text(job_id: Any) -> str:
    """Return an id so that it can be given to a command again."""
    if isinstance(job_id, (ObjectId, str, int)) and not isinstance(job_id, bool):
        return str(job_id)
    return json_util.dumps(job_id)


def as_json(value: Any) -> str:
    """Return `value` as JSON that is easy on `jq`: ids are strings, times ISO 8601 in UTC, binary data base64."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False)


def plain(value: Any) -> Any:  # noqa: PLR0911 - a table of types
    """Return a BSON value as JSON's own types."""
    match value:
        case Mapping():
            return {str(key): id_text(item) if key == "_id" else plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case None | bool() | str():
            return value
        case datetime():
            return iso(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case int():
            return int(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case ObjectId() | Decimal128():
            return str(value)
    return json.loads(json_util.dumps(value, json_options=json_util.RELAXED_JSON_OPTIONS))


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 in UTC, to the millisecond."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(start: Any, end: Any) -> float | None:
    """Return the seconds from `start` to `end`, None where one of them is no time."""
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        return None
    return max(0.0, (end - start).total_seconds())


def duration(seconds: Any) -> str:
    """Return seconds in the two units that matter; empty for None."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def error_in_short(error: Any) -> str:
    """Return `kind: message` of an error document; empty for none."""
    if not isinstance(error, Mapping):
        return ""
    parts = [str(error[key]) for key in ("kind", "code", "message") if error.get(key)]
    return clean(": ".join(parts))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table: fit to the width of a terminal, or aligned and whole for a pipe."""
    cells = [[clean("" if cell is None else cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_for_people(columns, cells)
        return
    widths = [max(len(row[index]) for row in [columns, *cells]) for index in range(len(columns))]
    for row in [columns, *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_for_people(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # ids have to stay whole to be of use; the last column is the one that can be long
        table.add_column(column, no_wrap=True, overflow="fold" if column == "id" else "ellipsis",
                         min_width=24 if column == "id" else None)  # fmt: skip
    for row in cells:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(table)
