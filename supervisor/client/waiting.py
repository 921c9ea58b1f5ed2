"""Waiting for a job to end: the change stream for speed, a poll every second for certainty.

A stream falls silent without an error when replication stalls, and a client may lack the right to open one; so it only
tells when to look, and what is looked at is the job. An open one keeps a connection of the client's busy, and the
server reads every change for each: of many who wait, some have one, and the others go by the poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from threading import Semaphore
from typing import Any, Self

from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from supervisor.client.calls import Seen, Sleep, Steps
from supervisor.client.documents import has_ended

Document = dict[str, Any]

POLL_S = 1.0
MOST_STREAMS = 20
"""Change streams of one queue at a time."""
OUTAGE_S = 30.0
"""How long a wait puts up with a database that does not answer: elections and restarts are over by then."""


class Patience:
    """Puts up with a database that does not answer, for OUTAGE_S after its last answer."""

    def __init__(self) -> None:
        self._answered_at = time.monotonic()

    def answered(self) -> None:
        """Note an answer."""
        self._answered_at = time.monotonic()

    def failed(self, error: PyMongoError) -> None:
        """Note that a question was not answered; raises `error` when that has lasted too long."""
        if time.monotonic() - self._answered_at > OUTAGE_S:
            raise error


def until_ended(job_id: Any, look: Callable[[], Steps[Document]], timeout_s: float | None) -> Steps[Document]:
    """Return the ended job, having told of each state before. Raises as `Queue.wait` does."""
    give_up_at = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    patience, seen = Patience(), None
    while True:
        try:
            document = yield from look()
        except PyMongoError as error:
            patience.failed(error)
        else:
            patience.answered()
            if document != seen:
                seen = document
                if has_ended(document):
                    return document
                yield Seen(document)
        left_s = give_up_at - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"job {job_id} has not ended within {timeout_s:g} s")
        yield Sleep(min(POLL_S, left_s))


def places_for_streams(client: MongoClient[Document] | AsyncMongoClient[Document]) -> Semaphore:
    """Return the places for change streams of one queue: half of the connections are for everything else."""
    connections = client.options.pool_options.max_pool_size
    return Semaphore(MOST_STREAMS if connections is None else int(min(MOST_STREAMS, connections / 2)))


class Alarm:
    """Rings when the job changes, or when the time is up."""

    def __init__(self, jobs: Collection[Document], job_id: Any, places: Semaphore) -> None:
        self._stack = contextlib.ExitStack()
        self._stream: Any = None
        if not places.acquire(blocking=False):
            return
        self._stack.callback(places.release)
        with contextlib.suppress(PyMongoError):  # without a stream, the poll does it alone
            self._stream = self._stack.enter_context(jobs.watch(_changes(job_id), max_await_time_ms=_AWAIT_MS))

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


class AsyncAlarm:
    """The same for an event loop."""

    def __init__(self, jobs: AsyncCollection[Document], job_id: Any, places: Semaphore) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._places = places
        self._stack = contextlib.AsyncExitStack()
        self._stream: Any = None

    async def __aenter__(self) -> Self:
        if not self._places.acquire(blocking=False):
            return self
        self._stack.callback(self._places.release)
        try:
            with contextlib.suppress(PyMongoError):  # without a stream, the poll does it alone
                stream = await self._jobs.watch(_changes(self._job_id), max_await_time_ms=_AWAIT_MS)
                self._stream = await self._stack.enter_async_context(stream)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_raised: object) -> None:
        with contextlib.suppress(PyMongoError):
            await self._stack.aclose()

    async def wait(self, seconds: float) -> None:
        """Return at a change, or after `seconds` (rounded up to POLL_S while the stream is open)."""
        if self._stream is None or seconds < POLL_S:
            await asyncio.sleep(seconds)
            return
        try:
            await self._stream.try_next()
        except PyMongoError:
            self._stream = None


_AWAIT_MS = int(POLL_S * 1000)


def _changes(job_id: Any) -> list[Document]:
    """Return the change stream's pipeline that lets through what happens to one job."""
    return [{"$match": {"documentKey._id": {"$eq": job_id}}}, {"$project": {"_id": 1}}]
