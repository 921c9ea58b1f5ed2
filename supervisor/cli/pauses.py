"""`pause` and `resume`: which handlers' jobs are claimed."""

from __future__ import annotations

import difflib
from typing import Any

import click

from supervisor.cli.parsing import command
from supervisor.cli.printing import print_table, warn
from supervisor.cli.session import Database, Session, handlers_of, pass_session
from supervisor.core.durations import duration, seconds_between
from supervisor.errors import UsageError
from supervisor.store.controls import EVERY, Pause


@command("pause", 'pause ocr --reason "the scanner sends empty pages"\npause --all')
@click.argument("handler", required=False)
@click.option("--all", "all_", is_flag=True, help="All handlers.")
@click.option("--reason", default="", metavar="TEXT", help="Shown to everybody who wonders.")
@pass_session
def pause(session: Session, handler: str | None, *, all_: bool, reason: str) -> None:
    """Have no supervisor claim jobs of a handler, until it is resumed.

    Running jobs go on; new ones are accepted and wait. A pause outlives restarts.
    """
    name = _handler(handler, all_=all_)
    with session.connect() as database:
        if name != EVERY:
            _warn_if_unknown(database, name)
        before = database.queue.controls.pause(name, reason)
    if before:
        click.echo(f"{_subject(name)} paused already, by {before.by}{_because(before)}")
    else:
        click.echo(f"{_subject(name)} paused; to go on: python -m supervisor resume {_argument(name)}")


@command("resume", "resume ocr\nresume --all")
@click.argument("handler", required=False)
@click.option("--all", "all_", is_flag=True, help="All handlers, also those that were paused one by one.")
@pass_session
def resume(session: Session, handler: str | None, *, all_: bool) -> None:
    """Have jobs of a paused handler claimed again, within about a second."""
    name = _handler(handler, all_=all_)
    with session.connect() as database:
        controls = database.queue.controls
        resumed = controls.resume_all() if all_ else [name] if controls.resume(name) else []
        left = {pause.handler for pause in controls.pauses()}
    for each in resumed:
        click.echo(f"{_subject(each)} resumed")
    if not resumed:
        click.echo("nothing was paused" if all_ else f"{name} was not paused")
    if EVERY in left:
        warn("all handlers are paused; to go on: python -m supervisor resume --all")


def print_pauses(pauses: list[Pause], now: Any) -> None:
    """Show which handlers are paused, since when and why."""
    rows = [
        [
            "all" if each.handler == EVERY else each.handler,
            each.by,
            duration(seconds_between(each.at, now)),
            each.reason,
        ]
        for each in pauses
    ]
    print_table(("paused", "by", "for", "reason"), rows)


def _handler(handler: str | None, *, all_: bool) -> str:
    if bool(handler) == all_:
        raise click.UsageError("give either the name of a handler, or --all")
    name = handler or EVERY
    if name == EVERY and not all_:
        raise click.UsageError("for all handlers, give --all")
    if any("\ud800" <= char <= "\udfff" for char in name):
        raise UsageError("the name of the handler is not UTF-8")
    return name


def _warn_if_unknown(database: Database, name: str) -> None:
    """A name that nobody here knows may be right, on another machine, or mistyped."""
    registry, failures = handlers_of(database.settings)
    if name not in registry.handlers and not database.queue.has_jobs_of(name):
        close = difflib.get_close_matches(name, registry.handlers, 1)
        hint = [f"did you mean {close[0]}?"] if close else []
        warn("; ".join([f"no handler {name!r} is registered here, and no job names it", *failures, *hint]))


def _subject(name: str) -> str:
    return "all handlers are" if name == EVERY else f"{name} is"


def _argument(name: str) -> str:
    return "--all" if name == EVERY else name


def _because(pause: Pause) -> str:
    return f": {pause.reason}" if pause.reason else ""
