"""`enqueue --batch`: a file with a job on each line, and the progress of all of them."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click
from pymongo.errors import PyMongoError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from supervisor.cli.filters import moment
from supervisor.cli.parsing import PROGRAM
from supervisor.cli.printing import as_json, warn
from supervisor.cli.reading import read_object, read_text
from supervisor.client.documents import id_text
from supervisor.client.operator import OperatorQueue
from supervisor.client.waiting import Patience
from supervisor.core.batch import Batch
from supervisor.core.job import Status
from supervisor.errors import PayloadError, SupervisorError, UnknownHandlerError, UsageError

Document = dict[str, Any]
LOOK_EVERY_S = 0.5


class BatchFailedError(SupervisorError):
    """Not all jobs of the batch that was waited for have completed."""


def read_jobs(name: str, handler: str | None) -> dict[int, Document]:
    """Return the jobs in a file of JSON lines, by their line; `-` is standard input.

    `handler` is that of lines which name none. Raises UsageError that names the line of a mistake.
    """
    jobs: dict[int, Document] = {}
    # not splitlines(): a string in JSON may hold what is a line's end to Unicode
    for number, line in enumerate(read_text("--batch", name).split("\n"), 1):
        if not line.strip():
            continue
        job = read_object(f"--batch: line {number}", line, is_one_line=True)
        if isinstance(job.get("run_at"), str):
            job["run_at"] = moment(f"--batch: line {number}: run_at", job["run_at"])
        jobs[number] = job if "handler" in job or handler is None else {"handler": handler, **job}
    if not jobs:
        raise UsageError(f"--batch: {name} has no line with a job")
    return jobs


def insert(queue: OperatorQueue, jobs: Mapping[int, Document], on_end: str | None) -> Batch:
    """Enqueue the jobs of a file; raises as `enqueue_batch` does, with the line of the job at fault."""
    try:
        return queue.enqueue_batch(jobs.values(), on_end={"handler": on_end} if on_end else None)
    except (UsageError, PayloadError, UnknownHandlerError) as error:
        raise type(error)(_by_its_line(str(error), list(jobs))) from None


def _by_its_line(message: str, lines: Sequence[int]) -> str:
    at_fault = re.match(r"jobs\[(\d+)\]", message)
    return message if at_fault is None else f"--batch: line {lines[int(at_fault[1])]}{message[at_fault.end() :]}"


def wait_for(queue: OperatorQueue, batch: Batch, *, json_: bool) -> None:
    """Show the progress of a batch until its end. Raises BatchFailedError unless all its jobs have completed.

    A database that does not answer for a while is waited for.
    """
    patience = Patience()
    with _bar() as bar:
        task = bar.add_task("", total=batch.total, counts="")
        while not (batch := _look(queue, batch, patience)).ended:
            bar.update(task, completed=batch.done, counts=_counts(batch))
            time.sleep(LOOK_EVERY_S)
        bar.update(task, completed=batch.done, counts=_counts(batch))
    if json_:
        click.echo(as_json(described(batch)))
    if batch.status != Status.COMPLETED:
        ids = id_text(batch.id)
        raise BatchFailedError(
            f"of {batch.total} jobs of batch {ids}, {_counts(batch)}; see: {PROGRAM} jobs --batch {ids} --status failed"
        )
    if not json_:
        click.echo(f"all {batch.total} jobs completed")


def _look(queue: OperatorQueue, batch: Batch, patience: Patience) -> Batch:
    """Return how far the batch is now, or was when the database answered last."""
    try:
        now = queue.batch(batch.id)
    except PyMongoError as error:
        patience.failed(error)
        return batch
    patience.answered()
    return now


def described(batch: Batch) -> Mapping[str, Any]:
    """Return what `--json` prints of a batch."""
    return {
        "batch_id": batch.id,
        "status": batch.status,
        "total_items": batch.total,
        "processed_items": batch.done,
        "counts": dict(batch.counts),
    }


def warn_if_nobody_runs(queue: OperatorQueue, hint: str) -> None:
    """Say that a wait may be long; nothing while the database does not answer, which a wait sits out."""
    with contextlib.suppress(PyMongoError):
        if not queue.has_supervisor():
            warn(hint)


def _counts(batch: Batch) -> str:
    told = [(Status.COMPLETED, "completed"), (Status.FAILED, "failed"), (Status.CANCELLED, "cancelled")]
    return ", ".join(f"{batch.counts[status]} {word}" for status, word in told if batch.counts[status])


def _bar() -> Progress:
    """Return a bar on stderr if that is a terminal; a log needs no progress."""
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}", markup=False),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


class _Rate(TextColumn):
    """How many jobs end in a second, lately."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Any) -> Any:
        """Return it as text."""
        self.text_format = f"{task.speed:.1f}/s" if task.speed else ""
        return super().render(task)
