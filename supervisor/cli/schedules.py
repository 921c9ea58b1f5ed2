"""`schedules`: what the clock enqueues, when next, and what became of it the last time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import click

from supervisor.cli.parsing import command
from supervisor.cli.printing import as_json, print_table, warn
from supervisor.cli.session import Session, pass_session
from supervisor.config import cron
from supervisor.config.settings import ScheduleSettings

NEXT = 3
_COLUMNS = ("schedule", "handler", "cron", "time zone", "catch-up", "last run", "status", "next runs")


@command("schedules", "schedules\nschedules --json | jq '.[0].next'")
@click.option("--json", "json_", is_flag=True, help="[{name, handler, cron, timezone, catch_up, next, last}] as JSON.")
@pass_session
def schedules(session: Session, *, json_: bool) -> None:
    """Show the schedules of config.toml: next run times, and the last job of each.

    Times are in the schedule's own time zone, with --json in UTC. The status is "deleted" where the last job is past
    its retention.
    """
    settings = session.load().settings
    with session.connect(settings) as database:
        now, supervised = database.queue.now(), database.queue.has_supervisor()
        last = database.last_runs([schedule.name for schedule in settings.schedules])
    if json_:
        click.echo(as_json([_as_document(each, now, last.get(each.name)) for each in settings.schedules]))
        return
    if not settings.schedules:
        click.echo("no schedules: the configuration has no [[schedules]]")
        return
    print_table(_COLUMNS, [_row(each, now, last.get(each.name)) for each in settings.schedules])
    if not supervised:
        warn("no supervisor is running on this database, so nothing is enqueued")


def _as_document(schedule: ScheduleSettings, now: datetime, last: Mapping[str, Any] | None) -> dict[str, Any]:
    shown = {**last, "status": last["status"] or "deleted"} if last else None
    return {**schedule.model_dump(), "next": list(_next_runs(schedule, now)), "last": shown}


def _row(schedule: ScheduleSettings, now: datetime, last: Mapping[str, Any] | None) -> tuple[str, ...]:
    ran, status = (_local(schedule, last["tick"]), last["status"] or "deleted") if last else ("never", "")
    following = ", ".join(_local(schedule, tick) for tick in _next_runs(schedule, now))
    own = (schedule.name, schedule.handler, schedule.cron, schedule.timezone, schedule.catch_up)
    return (*own, ran, status, following)


def _next_runs(schedule: ScheduleSettings, now: datetime) -> Iterator[datetime]:
    return islice(cron.ticks(schedule.cron, schedule.timezone, now), NEXT)


def _local(schedule: ScheduleSettings, moment: datetime) -> str:
    return f"{moment.astimezone(ZoneInfo(schedule.timezone)):%Y-%m-%d %H:%M}"
