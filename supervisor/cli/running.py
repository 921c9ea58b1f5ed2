"""`stack`, and how commands ask the supervisor that runs a job: through the database, from any machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from supervisor.cli.parsing import PROGRAM, command
from supervisor.cli.printing import as_json, clean, printable
from supervisor.cli.session import Session, pass_session
from supervisor.cli.stacks import of_the_handler
from supervisor.client.controls import ANSWER_S
from supervisor.client.documents import id_text, is_alive
from supervisor.client.operator import OperatorQueue
from supervisor.core.durations import duration
from supervisor.core.job import Status
from supervisor.errors import JobStateError, SupervisorError
from supervisor.store.controls import STACK

Document = Mapping[str, Any]


class NoAnswerError(SupervisorError):
    """The supervisor or the worker that would know does not say."""


@command("stack", "stack 65f2a1c0e4b0a1b2c3d4e5f6")
@click.argument("id_", metavar="ID")
@click.option("--json", "json_", is_flag=True, help="{job_id, handler, attempt, lease, stack} as JSON.")
@pass_session
def stack(session: Session, id_: str, *, json_: bool) -> None:
    """Print the Python stack of a running job, which goes on meanwhile.

    From any machine that reaches the database. Of a job in C code it shows from where that was called. The calls that
    lead into every handler are left out; --json has them.
    """
    with session.connect() as database:
        job = database.queue.get(database.queue.find_id(id_), small=True)
        found = ask_about(database.queue, job, STACK).get("stack")
    if not found:
        raise NoAnswerError(f"the worker of job {id_text(job['_id'])} does not answer; it may be ending just now")
    if json_:
        lease = {key: value for key, value in job["lease"].items() if key != "expires_at"}
        fields = {"job_id": id_text(job["_id"]), "handler": job.get("handler"), "attempt": job.get("attempt")}
        click.echo(as_json({**fields, "lease": lease, "stack": found}))
        return
    click.echo(f"{_whose(job)}\n\n{printable(of_the_handler(found)).strip()}")


def ask_about(queue: OperatorQueue, job: Document, ask: str, offset: int = 0) -> Document:
    """Ask the supervisor that runs `job` and return its answer.

    Raises JobStateError where the job does not run, NoAnswerError where its supervisor is silent.
    """
    lease = lease_of(job)
    if lease is None:
        raise _not_running(job)
    _refuse_silent(queue, job, lease)
    question = {"ask": ask, "job_id": job["_id"], "offset": offset}
    answer = queue.controls.ask({**question, "supervisor": lease.get("supervisor"), "token": lease.get("token")})
    if answer is None:
        raise NoAnswerError(f"supervisor {clean(lease.get('supervisor'))} did not answer within {ANSWER_S:g} s")
    if not answer.get("running"):
        now = queue.get(job["_id"], small=True)
        if lease_of(now) is None:
            raise _not_running(now)
        attempt = f"attempt {clean(job.get('attempt'))} of job {id_text(job['_id'])}"
        raise JobStateError(f"{attempt} has just ended; ask again")
    return answer


def lease_of(job: Document) -> Document | None:
    """Return the lease of a running job; None for any other."""
    lease = job.get("lease")
    return lease if job.get("status") == Status.PROCESSING and isinstance(lease, Mapping) else None


def _not_running(job: Document) -> JobStateError:
    text, status = id_text(job["_id"]), clean(job.get("status"))
    hint = f"; why: {PROGRAM} why {text}" if status == Status.PENDING else ""
    if job.get("error"):
        hint = f"; how it ended: {PROGRAM} autopsy {text}"
    return JobStateError(f"job {text} is {status}, not running{hint}")


def _refuse_silent(queue: OperatorQueue, job: Document, lease: Document) -> None:
    """Raise NoAnswerError where nobody is there to answer: sooner than by waiting for it."""
    known = {each["_id"]: each for each in queue.supervisors()}
    owner = known.get(lease.get("supervisor"))
    if owner is None or not is_alive(owner):
        silent = f"has been silent for {duration(owner.get('heartbeat_age_s'))}" if owner else "is gone"
        raise NoAnswerError(
            f"supervisor {clean(lease.get('supervisor'))}, which holds job {id_text(job['_id'])}, {silent}; "
            "others take the job over when its lease ends"
        )


def _whose(job: Document) -> str:
    where = ", ".join(f"{name} {job['lease'].get(name)}" for name in ("host", "slot", "pid"))
    return clean(f"job {id_text(job['_id'])} ({job.get('handler')}), attempt {job.get('attempt')}, on {where}")
