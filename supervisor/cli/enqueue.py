"""`enqueue`: insert a job, and wait for it if asked to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from bson import ObjectId

from supervisor.cli.batch import described, insert, read_jobs, wait_for, warn_if_nobody_runs
from supervisor.cli.filters import moment
from supervisor.cli.parsing import PROGRAM, command
from supervisor.cli.printing import as_json, error_in_short, warn
from supervisor.cli.progress import Bars
from supervisor.cli.reading import read_object, read_text
from supervisor.cli.session import Database, Session, handlers_of, pass_session
from supervisor.client.documents import id_text
from supervisor.client.new_jobs import JobOptions, with_file
from supervisor.client.operator import OperatorQueue
from supervisor.config.settings import Settings
from supervisor.core.job import Status
from supervisor.errors import SupervisorError, UnknownHandlerError, UsageError
from supervisor.registry import Registry

Document = dict[str, Any]

NO_SUPERVISOR = "no supervisor is running on this database; start one with: python -m supervisor"


class JobFailedError(SupervisorError):
    """The job that was waited for did not complete."""


EXAMPLE = """enqueue ocr --file scan.pdf --then ner --wait
enqueue ner --payload '{"text": "Due 4 May"}'
enqueue ner --batch letters.jsonl --wait"""


@command("enqueue", EXAMPLE)
@click.argument("handler", required=False)
@click.option("--payload", metavar="JSON|@FILE", help="The handler's input, Extended JSON; @- reads standard input.")
@click.option("--file", "path", type=click.Path(path_type=Path), metavar="PATH", help="Upload it as the job's input.")
@click.option("--priority", type=int, metavar="N", help="Higher first; default 0.")
@click.option("--run-at", metavar="ISO", help="Not before this time; UTC unless it says otherwise.")
@click.option("--unique", "unique_key", metavar="KEY", help="Refuse it while a job with this key waits or runs.")
@click.option("--group", "group_key", metavar="KEY", help="Group of max_running_per_group.")
@click.option("--timeout-s", type=float, metavar="S", help="Time limit of an attempt, instead of the handler's.")
@click.option("--max-attempts", type=int, metavar="N", help="Tries at most, instead of the handler's.")
@click.option("--then", multiple=True, metavar="HANDLER", help="Enqueue this one when the job completes; repeatable.")
@click.option("--batch", metavar="FILE", help="Enqueue a job for each line, {payload, …} as JSON; - for stdin.")
@click.option("--on-end", metavar="HANDLER", help="With --batch: enqueue this one when all have ended.")
@click.option("--wait", is_flag=True, help="Wait for the end and print the result; exit 0 only when completed.")
@click.option("--json", "json_", is_flag=True, help="Print the job as JSON instead of its id or result.")
@pass_session
def enqueue(session: Session, /, handler: str | None, *, wait: bool, json_: bool, **fields: Any) -> None:
    """Insert a job, or a batch of them, and print its id.

    Handler and payload are checked before anything is sent. --file goes into the database (GridFS), so that workers
    on any machine can read it; its id becomes `source.file_id` of the payload, or `file_id` where the handler has no
    `source`.

    --batch reads jobs from a file, with the producer's fields on each line, as Extended JSON or `run_at` in ISO 8601;
    HANDLER is that of lines which name none. Nothing is enqueued unless all are sound.
    """
    batch, on_end = fields.pop("batch"), fields.pop("on_end")
    if batch is not None:
        _refuse_beside_a_batch(fields)
        _enqueue_batch(session, read_jobs(batch, handler), on_end, wait=wait, json_=json_)
        return
    if handler is None or on_end is not None:
        raise click.UsageError("--on-end goes with --batch" if handler else "Missing argument 'HANDLER'")
    settings = session.load().settings
    registry = _registry_with(handler, settings)
    payload, path = read_payload(fields.pop("payload")), fields.pop("path")
    file_id = None if path is None else ObjectId()
    if path is not None:
        _check_file(path)
        payload = _payload_with_file(payload, file_id, registry, handler)
    options = _options(fields)
    with session.connect(settings, registry) as database:
        database.queue.check(handler, payload, **options)  # before anything is uploaded
        _prepare_if_empty(database)
        job_id = _insert(database.queue, handler, payload, options, path)
        if wait:
            _wait(database.queue, job_id, json_=json_)
        else:
            click.echo(as_json({"id": id_text(job_id)}) if json_ else id_text(job_id))


def _refuse_beside_a_batch(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if value not in (None, ()):
            option = {"path": "file", "unique_key": "unique", "group_key": "group"}.get(name, name.replace("_", "-"))
            raise UsageError(f"--{option}: not with --batch; put it into each line")


def _enqueue_batch(session: Session, jobs: dict[int, Document], on_end: str | None, *, wait: bool, json_: bool) -> None:
    settings = session.load().settings
    registry, failures = handlers_of(settings)
    for failure in failures:
        warn(failure)
    with session.connect(settings, registry) as database:
        _prepare_if_empty(database)
        made = insert(database.queue, jobs, on_end)
        if wait:
            warn_if_nobody_runs(database.queue, NO_SUPERVISOR)
            wait_for(database.queue, made, json_=json_)
        else:
            click.echo(as_json(described(made)) if json_ else id_text(made.id))


def _registry_with(name: str, settings: Settings) -> Registry:
    """Import the handlers; modules that fail matter only if the handler is not found because of that, perhaps."""
    registry, failures = handlers_of(settings)
    try:
        registry.get(name)
    except UnknownHandlerError as error:
        raise UnknownHandlerError("; ".join([str(error), *failures])) from None
    for failure in failures:
        warn(failure)
    return registry


def read_payload(text: str | None) -> Document:
    """Return the payload that `--payload` says; raises UsageError that names the position of a mistake."""
    if text is None:
        return {}
    if text.startswith("@"):
        text = read_text("--payload", text[1:])
    return read_object("--payload:", text)


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise UsageError(f"--file: {path} is a directory")
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"--file: {path} cannot be read: {error.strerror}") from None


def _payload_with_file(payload: Document, file_id: Any, registry: Registry, handler: str) -> Document:
    try:
        return with_file(payload, file_id, registry, handler)
    except UsageError as error:
        raise UsageError(f"--{error}") from None


def _options(fields: Mapping[str, Any]) -> JobOptions:
    given = JobOptions(run_at=moment("--run-at", fields["run_at"]) if fields["run_at"] else None)
    given["then"] = [{"handler": name, "payload": {}} for name in fields["then"]]
    for name in ("priority", "unique_key", "group_key", "timeout_s", "max_attempts"):
        given[name] = fields[name]
    return given


def _prepare_if_empty(database: Database) -> None:
    """The first job must not create a bare collection: without its index, a unique_key would mean nothing."""
    if database.queue.is_empty():
        database.prepare()


def _insert(queue: OperatorQueue, handler: str, payload: Document, options: JobOptions, path: Path | None) -> Any:
    if path is None:
        return queue.enqueue(handler, payload, **options)
    file_id = payload["source"]["file_id"] if "source" in payload else payload["file_id"]
    queue.upload(path, file_id)
    try:
        return queue.enqueue(handler, payload, **options)
    except SupervisorError:
        queue.discard(file_id)
        raise


def _wait(queue: OperatorQueue, job_id: Any, *, json_: bool) -> None:
    warn_if_nobody_runs(queue, NO_SUPERVISOR)
    with Bars.on_stderr() as bars:
        job = queue.wait(job_id, on_change=bars.show)
        bars.show(job)
    result = queue.result(job) if job["status"] == Status.COMPLETED else None
    if json_:
        click.echo(as_json({**job, "result": result}))
    refuse_unless_completed(job, f"; how it died: {PROGRAM} autopsy {id_text(job_id)}")
    if not json_:
        click.echo(as_json(result))


def refuse_unless_completed(job: Mapping[str, Any], hint: str = "") -> None:
    """Raise JobFailedError, which says why, for a job that has ended otherwise; `hint` is for one that has failed."""
    if job["status"] == Status.CANCELLED:
        raise JobFailedError(f"job {id_text(job['_id'])} was cancelled")
    if job["status"] != Status.COMPLETED:
        raise JobFailedError(f"job {id_text(job['_id'])} {job['status']}: {error_in_short(job.get('error'))}{hint}")
