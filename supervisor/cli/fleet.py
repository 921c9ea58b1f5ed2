"""`resize`, `drain` and `undrain`: what is decided for the supervisors of one host, or of all."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from supervisor.cli.parsing import PROGRAM, Integer, command
from supervisor.cli.printing import clean, warn
from supervisor.cli.session import Session, pass_session
from supervisor.client.documents import is_alive
from supervisor.client.operator import OperatorQueue
from supervisor.core.durations import duration
from supervisor.core.fleet import AUTO, EVERYWHERE, MOST_WORKERS, drain_of
from supervisor.errors import SupervisorError, UsageError

CONFIGURED = "configured"
_LOOK_EVERY_S = 0.25
_LONGEST_S = 366 * 86_400


def _host(_ctx: click.Context, _param: click.Parameter, host: str) -> str:
    if not host or any("\ud800" <= char <= "\udfff" for char in host):
        raise UsageError(f'--host {clean(host)!r}: must be the name of a host, or "{EVERYWHERE}" for all')
    return host


_HOST = "Only supervisors on this host, named as in `status`."
_on_host: Callable[[Any], Any] = click.option(
    "--host", metavar="HOST", default=EVERYWHERE, callback=_host, help=f"{_HOST} Without it, all."
)


@command("resize", "resize 8\nresize 2 --host box1\nresize configured --host box1")
@click.argument("size", metavar="N|auto|configured")
@_on_host
@pass_session
def resize(session: Session, size: str, host: str) -> None:
    """Have each supervisor keep N worker processes, within a second and through restarts.

    `auto` is the cores it may use, `configured` what its own configuration says. No running job is cut short; 0 ends
    all workers. Whoever spoke last wins: a later resize, or a later edit of `workers` in a host's config.toml.
    """
    workers = _workers(size)
    with session.connect() as database:
        _warn_if_nobody(database.queue, host)
        database.queue.controls.resize(workers, host)
    if workers is None:
        click.echo(f"{_subject(host)} as many workers as configured")
    else:
        many = "as many workers as usable cores" if workers == AUTO else f"{workers} workers"
        click.echo(f"{_subject(host)} {many}; to undo: {PROGRAM} resize {CONFIGURED}{_option(host)}")


@command("drain", 'drain --host box1 --reason "new kernel" --wait\ndrain --for 600\ndrain')
@_on_host
@click.option("--reason", default="", metavar="TEXT", help="Shown to everybody who wonders.")
@click.option("--for", "for_s", type=Integer(1, _LONGEST_S), metavar="SECONDS", help="It ends by itself.")
@click.option("--wait", is_flag=True, help="Return when no job runs there any more. Ctrl-C only stops waiting.")
@pass_session
def drain(session: Session, host: str, reason: str, for_s: int | None, *, wait: bool) -> None:
    """Have supervisors claim nothing and give back what they cannot finish, until `undrain`.

    Running jobs may finish within `shutdown.drain_s`; the others are interrupted and pending again, no attempt spent.
    The processes stay, and a drain outlives restarts.
    """
    with session.connect() as database:
        _warn_if_nobody(database.queue, host)
        before = database.queue.controls.drain(host, reason, for_s)
        if before:
            because = f": {before.reason}" if before.reason else ""
            click.echo(f"{_place(host)} drained already, by {before.by}{because}")
        else:
            period = "" if for_s is None else f" for {duration(for_s)}"
            click.echo(f"{_place(host)} drained{period}; to go on: {PROGRAM} undrain{_option(host)}")
        if wait:
            _wait(database.queue, host)
            click.echo("no job runs there" if host != EVERYWHERE else "no job runs anywhere")


@command("undrain", "undrain --host box1\nundrain")
@click.option("--host", metavar="HOST", callback=lambda c, p, host: host and _host(c, p, host), help=_HOST)
@pass_session
def undrain(session: Session, host: str | None) -> None:
    """End the drain of a host or, without --host, all drains: jobs are claimed again within a second."""
    with session.connect() as database:
        controls = database.queue.controls
        ended, left = controls.undrain(host), controls.drains()
    for each in ended:
        click.echo(f"{_place(each)} drained no more")
    if not ended:
        click.echo("nothing was drained" if host is None else f"{clean(host)} was not drained by itself")
    if host is not None and drain_of(host, left):
        warn(f"all hosts are drained; to go on: {PROGRAM} undrain")


def _workers(size: str) -> int | str | None:
    if size in (AUTO, CONFIGURED):
        return AUTO if size == AUTO else None
    if re.fullmatch(r"\d{1,4}", size, re.ASCII) and int(size) <= MOST_WORKERS:
        return int(size)
    raise UsageError(f'{size!r}: must be an integer from 0 to {MOST_WORKERS}, "{AUTO}" or "{CONFIGURED}"')


def _warn_if_nobody(queue: OperatorQueue, host: str) -> None:
    """A host without a supervisor may be right, as one may start there, or mistyped."""
    hosts = sorted({str(each.get("host")) for each in queue.supervisors() if is_alive(each)})
    if not hosts:
        warn("no supervisor is running on this database; this is for those that start later")
    elif host not in (EVERYWHERE, *hosts):
        close = difflib.get_close_matches(host, hosts, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(hosts)}"
        warn(f"no supervisor is running on host {host!r}; this is for those that start there later; {hint}")


def _wait(queue: OperatorQueue, host: str) -> None:
    """Wait until nobody claims there and no job runs there. Raises SupervisorError if the drain is ended meanwhile."""
    said = -1
    while True:
        # in this order: who says to be drained will claim no more
        claiming = [each for each in queue.supervisors() if is_alive(each) and _may_claim(host, each)]
        jobs = queue.running(None if host == EVERYWHERE else host)
        if not jobs and not claiming:
            return
        if not drain_of(host, queue.controls.drains()):
            raise SupervisorError("the drain was ended by somebody else")
        if jobs != said:
            click.echo(f"waiting for {jobs} running job{'' if jobs == 1 else 's'}", err=True)
            said = jobs
        time.sleep(_LOOK_EVERY_S)


def _may_claim(host: str, supervisor: Mapping[str, Any]) -> bool:
    return host in (EVERYWHERE, supervisor.get("host")) and supervisor.get("drained") is not True


def _subject(host: str) -> str:
    return "every supervisor is to keep" if host == EVERYWHERE else f"{clean(host)} is to keep"


def _place(host: str) -> str:
    return "all hosts are" if host == EVERYWHERE else f"{clean(host)} is"


def _option(host: str) -> str:
    return "" if host == EVERYWHERE else f" --host {clean(host)}"
