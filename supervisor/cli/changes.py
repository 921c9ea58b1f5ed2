"""`retry` and `cancel`: what a person does to jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from supervisor.cli.filters import filter_options, read_filters, within_bounds
from supervisor.cli.parsing import command
from supervisor.cli.printing import fail, warn
from supervisor.cli.session import Session, pass_session
from supervisor.client.documents import id_text
from supervisor.client.operator import OperatorQueue
from supervisor.core.job import Status
from supervisor.errors import JobNotFoundError, JobStateError

_CANCELLABLE = (Status.PENDING, Status.PROCESSING)


@command("retry", "retry 65f2a1c0e4b0a1b2c3d4e5f6\nretry --status failed --handler ocr --error timeout --since 2h")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--status", type=click.Choice(["failed", "cancelled"]), help="All jobs of this status, or of them:")
@filter_options("handler", "group", "batch", "error", "since", "until")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@pass_session
def retry(session: Session, /, ids: Sequence[str], *, status: str | None, dry_run: bool, **given: Any) -> int:
    """Make failed or cancelled jobs pending again.

    They are due at once and have all their attempts before them.
    """
    if bool(ids) == bool(status) or (ids and (dry_run or any(given.values()))):
        raise click.UsageError("give either ids, or --status and perhaps --handler, --error and others")
    handler = given["handler"]
    with session.connect() as database, within_bounds():
        queue = database.queue
        if status is None:
            return _each(queue, ids, _retry_one)
        filters = read_filters(queue, given)
        if dry_run:
            click.echo(f"{_jobs(queue.count(status, handler, **filters), status)} would be retried")
            return 0
        retried = queue.retry_many(status, handler, **filters)
    click.echo(f"retried {_jobs(retried.count, status)}")
    if retried.skipped:
        warn(f"{retried.skipped} left as they are: another pending or processing job has their unique_key")
    return 0


@command("cancel", "cancel 65f2a1c0e4b0a1b2c3d4e5f6\ncancel --status pending --handler ocr --group customer-7")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--status", type=click.Choice(["pending", "processing"]), help="Only jobs of this status; else of both.")
@filter_options("handler", "group", "batch")
@click.option("--dry-run", is_flag=True, help="Only count them.")
@pass_session
def cancel(session: Session, /, ids: Sequence[str], *, status: str | None, dry_run: bool, **given: Any) -> int:
    """Cancel pending or processing jobs.

    Pending ones end at once; to stop a processing one is asked of its supervisor.
    """
    is_many = bool(status or any(given.values()))
    if bool(ids) == is_many or (ids and dry_run):
        raise click.UsageError("give either ids, or at least one of --status, --handler, --group and --batch")
    with session.connect() as database, within_bounds():
        queue = database.queue
        if ids:
            return _each(queue, ids, _cancel_one)
        handler, filters = given["handler"], read_filters(queue, given)
        if dry_run:
            counts = [queue.count(each, handler, **filters) if status in (None, each) else 0 for each in _CANCELLABLE]
            click.echo(f"{_jobs(counts[0], 'pending')} and {_jobs(counts[1], 'processing')} would be cancelled")
            return 0
        done = queue.cancel_many(status, handler, **filters)
    if done.count or not done.asked:
        click.echo(f"cancelled {_jobs(done.count, 'pending')}")
    if done.asked:
        click.echo(f"{_jobs(done.asked, 'processing')}: supervisors have been asked to stop them")
    return 0


def _jobs(count: int, status: str) -> str:
    return f"{count} {status} job{'' if count == 1 else 's'}"


def _each(queue: OperatorQueue, ids: Sequence[str], act: Callable[[OperatorQueue, Any], str]) -> int:
    """Act on each job and say what was done; one that cannot be does not keep the others from it."""
    code = 0
    for given in ids:
        try:
            click.echo(act(queue, queue.find_id(given)))
        except (JobNotFoundError, JobStateError) as error:
            fail(str(error))
            code = error.exit_code
    return code


def _retry_one(queue: OperatorQueue, job_id: Any) -> str:
    queue.retry(job_id)
    return f"{id_text(job_id)} is pending again"


def _cancel_one(queue: OperatorQueue, job_id: Any) -> str:
    if queue.cancel(job_id) == Status.CANCELLED:
        return f"{id_text(job_id)} is cancelled"
    return f"{id_text(job_id)} is processing; its supervisor has been asked to stop it"
