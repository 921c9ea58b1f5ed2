"""`status`: how many jobs there are, which supervisors, and what they run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from supervisor.cli.configurations import print_configurations
from supervisor.cli.in_force import InForce
from supervisor.cli.parsing import command
from supervisor.cli.printing import as_json, clean, print_table
from supervisor.cli.session import Session, pass_session
from supervisor.client.documents import id_text, is_alive
from supervisor.core.durations import duration, seconds_between
from supervisor.core.job import Status
from supervisor.core.pieces import parts

Document = Mapping[str, Any]

MOST_COROUTINES = 20
"""Shown of each supervisor; there may be thousands."""


@command("status", "status\nstatus --json | jq .counts")
@click.option("--json", "json_", is_flag=True, help="{counts, handlers, pauses, controls, supervisors} as JSON.")
@pass_session
def status(session: Session, *, json_: bool) -> None:
    """Show counts, what is paused, resized and drained, supervisors, slots and coroutines.

    `from` is where the number of workers comes from: default, file, environment, flag, control or signal. A supervisor
    without a heartbeat for 15 seconds is probably gone.
    """
    with session.connect() as database:
        handlers, supervisors = database.queue.counts(), database.queue.supervisors()
        in_force = InForce.read(database.queue)
    if json_:
        found = [{**supervisor, "alive": is_alive(supervisor)} for supervisor in supervisors]
        shown = {"counts": _totals(handlers), "handlers": handlers, "pauses": in_force.paused()}
        click.echo(as_json({**shown, "controls": in_force.of_hosts(), "supervisors": found}))
        return
    _print_counts(handlers)
    click.echo()
    if not in_force.is_empty:
        in_force.show()
        click.echo()
    if not supervisors:
        click.echo("no supervisor is running on this database")
        return
    _print_supervisors(supervisors)
    click.echo()
    print_configurations(supervisors)
    _print_slots(supervisors, in_force.now)
    _print_coroutines(supervisors, in_force.now)


def _totals(handlers: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    return {status.value: sum(counts[status] for counts in handlers.values()) for status in Status}


def _print_counts(handlers: Mapping[str, Mapping[str, int]]) -> None:
    rows = [[name, *(counts[status] for status in Status)] for name, counts in handlers.items()]
    totals = _totals(handlers)
    print_table(("handler", *Status), [*rows, ["all", *(totals[status] for status in Status)]])


def _print_supervisors(supervisors: list[dict[str, Any]]) -> None:
    fields = ("_id", "host", "pid", "phase", "workers", "workers_from")
    rows = [[*(each.get(field) for field in fields), _heartbeat(each)] for each in supervisors]
    print_table(("id", *fields[1:-1], "from", "heartbeat"), rows)


def _heartbeat(supervisor: Document) -> str:
    ago = duration(supervisor.get("heartbeat_age_s"))
    said = f"{ago} ago" if ago else "never"
    return said if is_alive(supervisor) else f"{said}, gone?"


def _print_slots(supervisors: list[dict[str, Any]], now: datetime) -> None:
    rows = [
        [supervisor.get("host"), slot.get("slot"), slot.get("state"), slot.get("pid"), slot.get("handler"),
         "" if slot.get("job_id") is None else id_text(slot["job_id"]),
         duration(seconds_between(slot.get("since"), now)),
         "" if slot.get("rss_mb") is None else f"{slot['rss_mb']:.0f} MB"]
        for supervisor in supervisors for slot in _slots(supervisor)
    ]  # fmt: skip
    print_table(("host", "slot", "state", "pid", "handler", "job", "for", "memory"), rows)


def _slots(supervisor: Document) -> list[Document]:
    """Return the slots, and behind them the spare workers, which have no number."""
    return [*parts(supervisor, "slots"), *({**spare, "state": "spare"} for spare in parts(supervisor, "spares"))]


def _print_coroutines(supervisors: list[dict[str, Any]], now: datetime) -> None:
    """Show the jobs that run in event loops, the longest running ones of each; nothing where there are none."""
    found = [(each.get("host"), parts(each, "coroutines"), _coroutines(each)) for each in supervisors]
    rows = [
        [host, job.get("state"), job.get("handler"), id_text(job.get("job_id")),
         duration(seconds_between(job.get("since"), now))]
        for host, jobs, _ in found for job in jobs[:MOST_COROUTINES]
    ]  # fmt: skip
    if not rows:
        return
    click.echo()
    print_table(("host", "coroutine", "handler", "job", "for"), rows)
    for host, jobs, running in found:
        if running > (shown := min(len(jobs), MOST_COROUTINES)):
            click.echo(f"and {running - shown} more on {clean(host)}")


def _coroutines(supervisor: Document) -> int:
    """Return how many coroutine jobs run there."""
    running = [entry.get("running") for entry in parts(supervisor, "handlers") if entry.get("coroutine")]
    return sum(each for each in running if isinstance(each, int))
