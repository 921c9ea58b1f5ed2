"""`OperatorQueue`: a queue with what the command line asks besides: about supervisors, and for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Unpack

from supervisor.client import documents
from supervisor.client.backlog import Backlog, backlog_pipeline, to_backlogs
from supervisor.client.controls import Controls
from supervisor.client.facts import facts_of, read_job
from supervisor.client.filters import Filters, listing
from supervisor.client.queue import Queue
from supervisor.client.reasons import Facts
from supervisor.errors import JobNotFoundError


class OperatorQueue(Queue):
    """The jobs of one collection, for who looks after them."""

    def find_id(self, text: str) -> Any:
        """Return the id of the job that `text` means; raises JobNotFoundError, which says what to type instead."""
        try:
            return super().find_id(text)
        except JobNotFoundError as error:
            raise JobNotFoundError(f"{error} (to list jobs: python -m supervisor jobs)") from None

    def count(self, status: str | None = None, handler: str | None = None, **filters: Unpack[Filters]) -> int:
        """Return how many jobs `list` would return without a limit."""
        return self._jobs.count_documents(listing(status, handler, filters))

    def has_supervisor(self) -> bool:
        """Tell whether a supervisor has been heard of lately."""
        return any(documents.is_alive(supervisor) for supervisor in self.supervisors())

    def facts(self, job_id: Any) -> Facts:
        """Return what tells why the job is not running now, for `why.reasons`; raises JobNotFoundError."""
        job = read_job(self._jobs, job_id)
        return facts_of(self._jobs, job, self._operations.payload_kb, self.controls, self.supervisors())

    def now(self) -> datetime:
        """Return the database's own time; ages are counted by it."""
        local: datetime = self._database.client.admin.command("hello")["localTime"]
        return local if local.tzinfo else local.replace(tzinfo=UTC)

    def backlogs(self) -> dict[str, Backlog]:
        """Return for each handler how many jobs wait, run and have failed, and how long the oldest waits."""
        return to_backlogs(self._jobs.aggregate(backlog_pipeline()))

    def progress(self, job_ids: Sequence[Any]) -> list[dict[str, Any]]:
        """Return `{_id, attempt, progress}` of jobs."""
        return list(self._jobs.find({"_id": {"$in": list(job_ids)}}, {"attempt": 1, "progress": 1}))

    @property
    def controls(self) -> Controls:
        """Pauses, resizes, drains, and questions about running jobs."""
        return Controls(self._database)

    def running(self, host: str | None = None) -> int:
        """Return how many jobs are being run on `host` (None: anywhere), as far as the leases say."""
        return self._jobs.count_documents(documents.running_on(host))

    def has_jobs_of(self, handler: str) -> bool:
        """Tell whether any job names this handler."""
        return self._jobs.find_one(documents.of_handler(handler), {"_id": 1}) is not None

    def is_empty(self) -> bool:
        """Tell whether there has never been a job."""
        return self._jobs.find_one({}, {"_id": 1}) is None
