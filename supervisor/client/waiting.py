"""Waiting for a job to end: the change stream for speed, a poll every second for certainty.

A stream falls silent without an error when replication stalls, and a client may lack the right to open one; so it only
tells when to look, and what is looked at is the job.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any, Self

from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from supervisor.client.documents import has_ended

Document = dict[str, Any]

POLL_S = 1.0
OUTAGE_S = 30.0
"""How long a wait puts up with a database that does not answer: elections and restarts are over by then."""


class Waiting:
    """One wait for one job; `look` returns its document."""

    def __init__(self, jobs: Collection[Document], job_id: Any, look: Callable[[Any], Document]) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._look = look
        self._answered_at = time.monotonic()

    def until_ended(self, timeout_s: float | None, on_change: Callable[[Document], None]) -> Document:
        """Return the ended job. Raises as `Queue.wait` does."""
        give_up_at = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        seen: Document | None = None
        with _Alarm(self._jobs, self._job_id) as alarm:
            while True:
                document = self._answer()
                if document is not None and document != seen:
                    seen = document
                    if has_ended(document):
                        return document
                    on_change(document)
                left_s = give_up_at - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError(f"job {self._job_id} has not ended within {timeout_s:g} s")
                alarm.wait(min(POLL_S, left_s))

    def _answer(self) -> Document | None:
        """Look at the job; None while the database does not answer, which is an error after OUTAGE_S."""
        try:
            document = self._look(self._job_id)
        except PyMongoError:
            if time.monotonic() - self._answered_at > OUTAGE_S:
                raise
            return None
        self._answered_at = time.monotonic()
        return document


class _Alarm:
    """Rings when the job changes, or when the time is up."""

    def __init__(self, jobs: Collection[Document], job_id: Any) -> None:
        self._stack = contextlib.ExitStack()
        self._stream: Any = None
        with contextlib.suppress(PyMongoError):  # without a stream, the poll does it alone
            ours: list[Document] = [{"$match": {"documentKey._id": {"$eq": job_id}}}, {"$project": {"_id": 1}}]
            stream = jobs.watch(ours, max_await_time_ms=int(POLL_S * 1000))
            self._stream = self._stack.enter_context(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        with contextlib.suppress(PyMongoError):
            self._stack.close()

    def wait(self, seconds: float) -> None:
        """Return at a change, or after `seconds` (rounded up to POLL_S while the stream is open)."""
        if self._stream is None or seconds < POLL_S:
            time.sleep(seconds)
            return
        try:
            self._stream.try_next()
        except PyMongoError:
            self._stream = None
