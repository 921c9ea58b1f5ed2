"""What the demonstration has read and found, in a form that a person likes."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from supervisor.cli.jobs import clean_line
from supervisor.cli.printing import clean, print_table
from supervisor.core.durations import duration

LONGEST_TEXT_LINES = 60
MOST_ENTITIES = 100


def print_text(result: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """Print how the document was read, and its text."""
    lines = [clean_line(line) for line in str(result.get("text", "")).splitlines()]
    shown = lines[:LONGEST_TEXT_LINES]
    if len(lines) > len(shown):
        shown.append(f"… and {len(lines) - len(shown)} more lines")
    heading = _how_it_was_read(result, job)
    if sys.stdout.isatty():
        Console().print(Panel(Text("\n".join(shown)), title=Text(heading), title_align="left"))
        return
    click.echo(f"\n{heading}\n")
    for line in shown:
        click.echo(f"    {line}".rstrip())
    click.echo()


def _how_it_was_read(result: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    engine, pages = result.get("engine") or {}, result.get("pages") or ()
    confidence = result.get("mean_confidence")
    seconds = (job.get("usage") or {}).get("run_s")
    parts = [
        f"read by {clean(engine.get('name'))} {clean(engine.get('version') or '')}".rstrip(),
        f"{len(pages)} page{'' if len(pages) == 1 else 's'}",
        f"{result.get('chars', 0):,} characters",
        "" if confidence is None else f"mean confidence {confidence:.0%}",
        duration(seconds),
    ]
    return ", ".join(part for part in parts if part)


def print_entities(result: Mapping[str, Any]) -> None:
    """Print what was found, as a table."""
    entities = result.get("entities") or ()
    click.echo(f"Found {len(entities)} entities in {duration(result.get('seconds'))}")
    rows = [
        [each.get("label"), each.get("text"), _value(each.get("norm")), each.get("page")]
        for each in entities[:MOST_ENTITIES]
    ]
    print_table(("label", "text", "value", "page"), rows)
    if len(entities) > MOST_ENTITIES:
        click.echo(f"… and {len(entities) - MOST_ENTITIES} more")


def _value(norm: Any) -> str:
    """Return a normalised value in short: its parts, without their names and without what is unknown."""
    if isinstance(norm, Mapping):
        return ", ".join(_value(item) for item in norm.values() if item is not None)
    return "" if norm is None else str(norm)


def print_warnings(warnings: Sequence[Any]) -> None:
    """Print what the reader of the results must know; their first word is a code for programs."""
    for warning in warnings:
        click.echo(f"\nNote: {clean(warning)}")


def word_accuracy(known: str, read: str) -> float:
    """Return the part of the known words, 0 to 1, that were read right and in their order."""
    expected, found = known.split(), read.split()
    blocks = difflib.SequenceMatcher(None, expected, found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(1, len(expected))
