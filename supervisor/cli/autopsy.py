"""`autopsy`: everything known about how a job died, on one screen."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Any

import click

from supervisor.cli.autopsy_report import (
    COLUMNS,
    Document,
    Section,
    death,
    headline,
    last_bad,
    output_section,
    records_of,
    rows,
    stack_section,
    what_next,
)
from supervisor.cli.parsing import command
from supervisor.cli.printing import as_json, print_table
from supervisor.cli.session import Database, Session, pass_session
from supervisor.client.reasons import Code, Reason
from supervisor.client.why import reasons
from supervisor.core.job import Status

WIDTH = 100
SCREEN = 30
"""Lines of a screen that the report is made for; a higher one gets more of the stack and the output."""
STACK_LINES, OUTPUT_LINES = 7, 4


@command("autopsy", "autopsy 65f2a1c0e4b0a1b2c3d4e5f6")
@click.argument("id_", metavar="ID")
@click.option("--json", "json_", is_flag=True, help="{job, last_bad_attempt, next, command} as JSON, nothing cut.")
@pass_session
def autopsy(session: Session, id_: str, *, json_: bool) -> None:
    """Tell how a job died, on one screen.

    Its attempts, and of the last one that ended badly: what killed it, memory, what else ran on the machine, its
    Python stack, its last words, and what happens next.
    """
    with session.connect() as database:
        job = database.queue.get(database.queue.find_id(id_))
        now = database.queue.now()
        waits_for = _waits_for(database, job) if job.get("status") == Status.PENDING else None
    bad, after = last_bad(job), what_next(job, now, waits_for)
    if json_:
        click.echo(as_json({"job": job, "last_bad_attempt": bad, **after}))
        return
    first, *others = headline(job, now)
    click.secho(first, bold=True)
    _echo(others, "")
    click.echo()
    _print_attempts(job)
    for section in _sections(bad, database, job):
        _print(section)
    click.echo()
    _echo([f"next: {after['next']}"], "")
    if after["command"]:
        click.echo(f"  {after['command']}")  # whole, to be copied


def _sections(bad: Document | None, database: Database, job: Document) -> list[Section]:
    if bad is None:
        return []
    stack_lines, output_lines = _room()
    found = [
        death(bad, _memory_limit_mb(database, job)),
        stack_section(bad, stack_lines),
        output_section(bad, output_lines),
    ]
    return [section for section in found if section]


def _room() -> tuple[int, int]:
    """Return how many lines of stack and of output there is room for; a file has room for much."""
    more = max(0, shutil.get_terminal_size().lines - SCREEN) if sys.stdout.isatty() else 30
    return STACK_LINES + more // 2, OUTPUT_LINES + more // 2


def _memory_limit_mb(database: Database, job: Document) -> int:
    """As configured here; the supervisor that ran it may have had another."""
    own = database.settings.handler(str(job.get("handler"))).memory_limit_mb
    return database.settings.pool.memory_limit_mb if own is None else own


def _waits_for(database: Database, job: Document) -> Reason | None:
    """Return what keeps a pending job from being claimed, besides its time."""
    facts = database.queue.facts(job["_id"])
    return next((reason for reason in reasons(facts) if reason.code not in (Code.NOT_DUE, Code.FREE)), None)


def _print_attempts(job: Document) -> None:
    count, shown = len(records_of(job)), rows(job)
    if not shown:
        click.echo("no attempt has ended yet")
        return
    print_table(COLUMNS, shown)
    if count > len(shown):
        click.echo(f"and {count - len(shown)} earlier ones: --json")


def _print(section: Section) -> None:
    click.echo()
    click.secho(section.title, bold=True)
    _echo(section.lines, "  ")


def _echo(lines: Any, indent: str) -> None:
    # a file has no width: COLUMNS, which a shell or a CI may set, is about a terminal
    terminal = shutil.get_terminal_size((WIDTH, SCREEN)).columns if sys.stdout.isatty() else WIDTH
    width = min(WIDTH, terminal) - len(indent)
    for line in lines:
        hanging = " " * (len(line) - len(line.lstrip()) + 2)
        for part in textwrap.wrap(line, width, subsequent_indent=hanging, break_on_hyphens=False) or [""]:
            click.echo(indent + part)
