"""`logs`: what a job has printed, from its running worker or from the record of an ended attempt."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import click

from supervisor.cli.parsing import PROGRAM, Integer, command
from supervisor.cli.printing import as_json, clean, error_in_short, printable
from supervisor.cli.running import NoAnswerError, ask_about, lease_of
from supervisor.cli.session import Session, pass_session
from supervisor.client.documents import has_ended, id_text
from supervisor.client.operator import OperatorQueue
from supervisor.core.job import Status
from supervisor.errors import JobStateError
from supervisor.store.controls import LOGS

Document = Mapping[str, Any]

FOLLOW_EVERY_S = 0.5
MOST_PIECES = 64
"""Of a job that prints faster than we ask, no more than about 16 MB at once."""
_COMPARED = 4096
"""Characters by which what has been printed is found again in a record."""
_REMEMBERED = 64 * 1024 * 1024


@command("logs", "logs 65f2a1c0e4b0a1b2c3d4e5f6 --follow\nlogs 65f2a1c0e4b0a1b2c3d4e5f6 --attempt 1")
@click.argument("id_", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on until the job ends, through all its attempts.")
@click.option("--attempt", type=Integer(1), metavar="N", help="This attempt, instead of the latest.")
@click.option("--json", "json_", is_flag=True, help="{job_id, attempt, outcome, logs} as JSON.")
@pass_session
def logs(session: Session, id_: str, *, follow: bool, attempt: int | None, json_: bool) -> None:
    """Print what a job has printed: its stdout, its stderr, its log entries, its subprocesses.

    Of a running attempt and of an ended one, the last `limits.log_kb` kilobytes.
    """
    if follow and (attempt or json_):
        raise click.UsageError("--follow goes neither with --attempt nor with --json")
    with session.connect() as database:
        queue, tail_bytes = database.queue, database.settings.limits.log_kb * 1024
        job_id = queue.find_id(id_)
        if follow:
            Follower(queue, job_id, tail_bytes).run()
            return
        job = queue.get(job_id)
        running = lease_of(job) is not None and attempt in (None, job.get("attempt"))
        n, outcome, text = _live(queue, job, tail_bytes) if running else _recorded(job, attempt)
    if json_:
        click.echo(as_json({"job_id": id_text(job_id), "attempt": n, "outcome": outcome, "logs": text}))
    elif text:
        click.echo(printable(text), nl=not text.endswith(("\n", "\r")))
    else:
        click.echo(f"attempt {clean(n)} has printed nothing", err=True)


def _live(queue: OperatorQueue, job: Document, tail_bytes: int) -> tuple[Any, None, str]:
    return job.get("attempt"), None, "".join(text for text, _ in islice(pieces(queue, job, -tail_bytes), MOST_PIECES))


def pieces(queue: OperatorQueue, job: Document, offset: int) -> Iterator[tuple[str, int]]:
    """Yield what the running attempt of `job` has printed from `offset` on, each piece with the next offset."""
    while True:
        answer = ask_about(queue, job, LOGS, offset)
        text, next_offset = str(answer.get("logs") or ""), answer.get("next")
        if not isinstance(next_offset, int) or not text:
            return
        yield text, next_offset
        offset = next_offset


def _recorded(job: Document, attempt: int | None) -> tuple[Any, Any, str]:
    """Return number, outcome and output of the last record, or of the last one with this number."""
    records = _records(job)
    found = [record for record in records if attempt in (None, record.get("n"))]
    if found:
        return found[-1].get("n"), found[-1].get("outcome"), str(found[-1].get("logs") or "")
    text = id_text(job["_id"])
    if not records:
        why = f"; why: {PROGRAM} why {text}" if job.get("status") == Status.PENDING else ""
        raise JobStateError(f"job {text} is {clean(job.get('status'))} and no attempt of it has ended yet{why}")
    numbers = ", ".join(dict.fromkeys(clean(record.get("n")) for record in records))
    raise JobStateError(f"job {text} has no record of an attempt {attempt}; there are: {numbers}")


def _records(job: Document) -> list[Document]:
    attempts = job.get("attempts")
    return [each for each in attempts if isinstance(each, Mapping)] if isinstance(attempts, list) else []


def rest_of(logs: str, printed: str) -> str:
    """Return what of `logs`, the end of an attempt's output, does not stand in `printed`, what came before.

    All of it if nothing of `printed` is found there: more came in between than is kept.
    """
    if logs.startswith(printed):
        return logs[len(printed) :]
    known = printed[-_COMPARED:]
    position = logs.rfind(known)
    return logs if position < 0 else logs[position + len(known) :]


class Follower:
    """Prints the output of a job's attempts from the latest on, each part once, until the job ends.

    What it says itself goes to stderr. An attempt is known by the token of its claim.
    """

    def __init__(self, queue: OperatorQueue, job_id: Any, tail_bytes: int) -> None:
        self._queue = queue
        self._job_id = job_id
        self._tail_bytes = tail_bytes
        self._token = 0
        self._offset = 0
        self._printed = ""
        self._said = ""

    def run(self) -> None:
        """Follow until the end. Raises JobNotFoundError for a job that is deleted meanwhile."""
        ended = None
        while True:
            job = self._queue.get(self._job_id, small=True)
            lease, claims = lease_of(job), _integer(job.get("claims"))
            over = claims if lease is None else claims - 1
            if ended is None:
                ended = max(0, claims - 1)  # earlier attempts are no news
            if over > ended:
                self._print_ended(ended, over)
                ended = over
            if has_ended(job):
                return
            if lease is None:
                self._say("waiting for the job to start" if claims == 0 else "waiting for the next attempt")
            else:
                self._print_more(job)
            time.sleep(FOLLOW_EVERY_S)

    def _print_ended(self, after: int, upto: int) -> None:
        """Print what is left of the attempts that have ended, and how they did."""
        for record in _records(self._queue.get(self._job_id)):
            token = _integer(record.get("token"))
            if after < token <= upto:
                self._begin(token, record.get("n"))
                self._print(rest_of(str(record.get("logs") or ""), self._printed))
                self._say(f"attempt {record.get('n')} ended: {_ending(record)}")

    def _print_more(self, job: Document) -> None:
        self._begin(_integer(job["lease"].get("token")), job.get("attempt"))
        try:
            for text, next_offset in pieces(self._queue, job, self._offset):
                self._print(text)
                self._offset = next_offset
        except JobStateError:
            return  # it has ended; its record has the rest
        except NoAnswerError as error:
            self._say(str(error))

    def _begin(self, token: int, n: Any) -> None:
        if token != self._token:
            self._token, self._offset, self._printed = token, -self._tail_bytes, ""
            self._say(f"attempt {n}:")

    def _print(self, text: str) -> None:
        if text:
            self._printed = (self._printed + text)[-_REMEMBERED:]
            click.echo(printable(text), nl=False)

    def _say(self, line: str) -> None:
        """Say something that is not the job's own, once."""
        if line != self._said:
            self._said = line
            if self._printed and not self._printed.endswith("\n"):
                click.echo()
            click.echo(f"-- {clean(line)}", err=True)


def _ending(record: Document) -> str:
    return error_in_short(record.get("error")) or clean(record.get("outcome"))


def _integer(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
