"""`jobs` and `job`: what is in the collection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from supervisor.cli.filters import filter_options, read_filters, within_bounds
from supervisor.cli.parsing import Integer, command
from supervisor.cli.printing import as_json, clean, error_in_short, print_table
from supervisor.cli.session import Session, pass_session
from supervisor.client.documents import id_text
from supervisor.client.operator import OperatorQueue
from supervisor.client.shown import iso, plain
from supervisor.core.durations import duration, seconds_between
from supervisor.core.job import Status

Document = Mapping[str, Any]

COLUMNS = ("id", "handler", "status", "attempt", "age", "run", "error")
LONGEST_LOG_LINES = 20
MOST = 100_000
"""Jobs in one listing."""
_IN_PLACE = ("_id", "payload", "attempts", "result", "error", "progress", "usage", "lease")


@command("jobs", "jobs --status failed --handler ocr --since 2h\njobs --batch 7 --json | jq -r '.[]._id'")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only jobs of this status.")
@filter_options("handler", "group", "batch", "unique", "error", "since", "until")
@click.option("--limit", type=Integer(1, MOST), default=50, show_default=True, help="At most so many.")
@click.option("--after", metavar="ID", help="Go on behind this one, the last of the page before.")
@click.option("--json", "json_", is_flag=True, help="One JSON array: ids as strings, times as ISO 8601.")
@pass_session
def jobs(session: Session, /, *, limit: int, after: str | None, json_: bool, **given: Any) -> None:
    """List jobs, the newest id first; with --since or --until, the latest end first.

    Payloads, results and attempts are left out; `job ID` shows them.
    """
    status, handler, by_end = given["status"], given["handler"], given["since"] or given["until"]
    if after and by_end:
        raise click.UsageError("--after goes on by id, but --since and --until list by end; give an earlier --until")
    with session.connect() as database, within_bounds():
        queue, filters = database.queue, read_filters(database.queue, given)
        found = queue.list(status, handler, limit + 1, queue.find_id(after) if after else None, **filters)
        now, nothing = queue.now(), "" if found else _nothing(queue, handler)
    shown = found[:limit]
    if json_:
        click.echo(as_json(shown))
    elif shown:
        print_table(COLUMNS, [_row(document, now) for document in shown])
    else:
        click.echo(nothing, err=True)
    if len(found) > limit and not json_:
        click.echo(f"-- there are more: {_how_to_go_on(found[-2], found[-1], limit, by_end=bool(by_end))}", err=True)


def _how_to_go_on(last: Document, next_: Document, limit: int, *, by_end: bool) -> str:
    """Say how to see more; of jobs that ended at the same moment, as after a cancel, --until would lose some."""
    more = f"--limit {min(limit * 10, MOST)}"
    if not by_end:
        return f"{more}, or --after {clean(id_text(last['_id']))}"
    return more if last["finished_at"] == next_["finished_at"] else f"{more}, or --until {iso(last['finished_at'])}"


@command("job", "job 65f2a1c0e4b0a1b2c3d4e5f6")
@click.argument("id_", metavar="ID")
@click.option("--json", "json_", is_flag=True, help="The whole document as JSON, a stored result included.")
@pass_session
def job(session: Session, id_: str, *, json_: bool) -> None:
    """Show everything about one job.

    Its fields, attempts with errors and the end of their logs, and its result, wherever that is stored.
    """
    with session.connect() as database:
        document = database.queue.get(database.queue.find_id(id_))
        result = _result(database.queue, document)
    if json_:
        click.echo(as_json({**document, "result": result}))
        return
    for line in _described(document, result):
        click.echo(line)


def _result(queue: OperatorQueue, document: Document) -> Any:
    return queue.result(document) if document.get("status") == Status.COMPLETED else document.get("result")


def _nothing(queue: OperatorQueue, handler: str | None) -> str:
    """Say that there are no jobs, and whether the name of the handler may be mistyped."""
    mistyped = handler is not None and not queue.has_jobs_of(handler)
    return f"no jobs; no job at all names the handler {clean(handler)}" if mistyped else "no jobs"


def _row(document: Document, now: datetime) -> list[Any]:
    return [
        id_text(document["_id"]),
        document.get("handler"),
        document.get("status"),
        document.get("attempt"),
        duration(seconds_between(made_at(document), now)),
        duration(run_time(document, now)),
        error_in_short(document.get("error")),
    ]


def made_at(document: Document) -> Any:
    """Return when the job was made, as far as its document or its id tells."""
    return document.get("created_at") or getattr(document["_id"], "generation_time", None)


def run_time(document: Document, now: datetime) -> float | None:
    """Return the seconds that the running or the latest attempt has taken."""
    if document.get("status") == Status.PROCESSING:
        return seconds_between(document.get("started_at"), now)
    usage = document.get("usage")
    return usage.get("run_s") if isinstance(usage, Mapping) else None


def _described(document: Document, result: Any) -> Iterator[str]:
    yield f"job {clean(id_text(document['_id']))}"
    for name, value in document.items():
        if name not in _IN_PLACE and value is not None:
            yield f"  {clean(name):<18}{_inline(value)}"
    for name in ("progress", "usage", "lease"):
        if isinstance(document.get(name), Mapping):
            yield f"  {name:<18}{_pairs(document[name])}"
    yield from _block("payload", document.get("payload"))
    yield from _error(document.get("error"), "  ")
    for attempt in document.get("attempts") or ():
        yield from _attempt(attempt)
    yield from _block("result", result)


def _attempt(attempt: Any) -> Iterator[str]:
    if not isinstance(attempt, Mapping):
        return
    took = duration(seconds_between(attempt.get("started_at"), attempt.get("ended_at")))
    where = f"on {attempt.get('host')}, slot {attempt.get('slot')}, pid {attempt.get('pid')}"
    yield f"  attempt {attempt.get('n')}: {clean(attempt.get('outcome'))} after {took} {clean(where)}"
    yield from _error(attempt.get("error"), "    ")
    logs = str(attempt.get("logs") or "").splitlines()
    if logs:
        more = f" (the last {LONGEST_LOG_LINES} of {len(logs)} lines)" if len(logs) > LONGEST_LOG_LINES else ""
        yield f"    logs{more}"
        yield from (f"      {clean_line(line)}" for line in logs[-LONGEST_LOG_LINES:])


def _error(error: Any, indent: str) -> Iterator[str]:
    if not isinstance(error, Mapping):
        return
    yield f"{indent}error: {error_in_short(error)}"
    yield from (f"{indent}  {clean_line(line)}" for line in str(error.get("traceback") or "").splitlines())


def clean_line(line: str) -> str:
    """Return a line with its indentation and without control characters."""
    return line[: len(line) - len(line.lstrip(" "))] + clean(line)


def _block(name: str, value: Any) -> Iterator[str]:
    if value is None:
        return
    yield f"  {name}"
    yield from (f"    {clean_line(line)}" for line in as_json(value).splitlines())


def _inline(value: Any) -> str:
    shown = plain(value)
    return clean(shown if isinstance(shown, str) else as_json(value))


def _pairs(values: Document) -> str:
    return clean(", ".join(f"{name} {plain(value)}" for name, value in values.items() if value is not None))
