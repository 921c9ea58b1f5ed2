"""`retry` and `cancel`: what a person does to jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from supervisor.cli.parsing import command
from supervisor.cli.printing import fail, warn
from supervisor.cli.session import Session, pass_session
from supervisor.client.documents import id_text
from supervisor.client.queue import Queue
from supervisor.core.job import Status
from supervisor.errors import JobNotFoundError, JobStateError


@command("retry", "retry 65f2a1c0e4b0a1b2c3d4e5f6\nretry --status failed --handler ocr")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--status", type=click.Choice(["failed", "cancelled"]), help="All jobs of this status.")
@click.option("--handler", metavar="NAME", help="With --status: only jobs of this handler.")
@pass_session
def retry(session: Session, ids: Sequence[str], status: str | None, handler: str | None) -> int:
    """Make failed or cancelled jobs pending again.

    They are due at once and have all their attempts before them.
    """
    if bool(ids) == bool(status) or (handler and not status):
        raise click.UsageError("give either ids, or --status and perhaps --handler")
    with session.connect() as database:
        if status is None:
            return _each(database.queue, ids, _retry_one)
        retried = database.queue.retry_many(status, handler)
    click.echo(f"retried {retried.count} {status} job{'' if retried.count == 1 else 's'}")
    if retried.skipped:
        warn(f"{retried.skipped} left as they are: another pending or processing job has their unique_key")
    return 0


@command("cancel", "cancel 65f2a1c0e4b0a1b2c3d4e5f6")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@pass_session
def cancel(session: Session, ids: Sequence[str]) -> int:
    """Cancel pending or processing jobs.

    Pending ones end at once; to stop a processing one is asked of its supervisor.
    """
    with session.connect() as database:
        return _each(database.queue, ids, _cancel_one)


def _each(queue: Queue, ids: Sequence[str], act: Callable[[Queue, Any], str]) -> int:
    """Act on each job and say what was done; one that cannot be does not keep the others from it."""
    code = 0
    for given in ids:
        try:
            click.echo(act(queue, queue.find_id(given)))
        except (JobNotFoundError, JobStateError) as error:
            fail(str(error))
            code = error.exit_code
    return code


def _retry_one(queue: Queue, job_id: Any) -> str:
    queue.retry(job_id)
    return f"{id_text(job_id)} is pending again"


def _cancel_one(queue: Queue, job_id: Any) -> str:
    if queue.cancel(job_id) == Status.CANCELLED:
        return f"{id_text(job_id)} is cancelled"
    return f"{id_text(job_id)} is processing; its supervisor has been asked to stop it"
