"""What a handler sees of its job: `JobContext`, and `AsyncJobContext` for an `async def`.

A handler runs in a worker, which has no database. What the context cannot answer from the call itself (files,
the parent's result) it asks the supervisor over the worker's control channel. A coroutine runs in the supervisor's own
event loop, which must not wait: there, what takes a while is awaited, and everything else is called as in a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, BinaryIO, Generic, NoReturn, Protocol, TypeVar

import structlog
from pydantic import BaseModel

from supervisor.codec import storable
from supervisor.errors import JobStateError

_BUSY_S = 0.5
"""Between two looks whether another job has left the block of a `once`."""

T = TypeVar("T")
Payload = Mapping[str, Any] | BaseModel | None


class ProgressLink(Protocol):
    """Where progress goes."""

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        """Hand the newest progress to the supervisor; never blocks for the database."""


class SupervisorLink(ProgressLink, Protocol):
    """The worker's side of the control channel; tests of handlers bring their own."""

    def open_file(self, file_id: Any) -> BinaryIO:
        """Open a stored file; raises PermanentError `not_found` if there is none."""

    def save_file(self, name: str, data: bytes) -> Any:
        """Store `data` and return the new file's id."""

    def parent_result(self) -> dict[str, Any]:
        """Return the result of the job named by `payload.parent_job_id`; raises PermanentError `not_found`."""

    def begin_once(self, key: str) -> str:
        """Begin the marker `key`; returns a `supervisor.store.once.Standing`."""

    def end_once(self, key: str, *, happened: bool) -> None:
        """Say whether what the marker stands for has happened."""

    def enqueue(self, fields: dict[str, Any], key: str | None) -> Any:
        """Insert a job and return its id; under a `key`, once for all attempts of this job."""

    def apply_retention(self) -> dict[str, int]:
        """Delete ended jobs past their retention now; return how many of each kind."""


class AsyncSupervisorLink(ProgressLink, Protocol):
    """The same for a coroutine; tests of handlers bring their own."""

    def open_file(self, file_id: Any) -> Awaitable[BinaryIO]:
        """Open a stored file; raises PermanentError `not_found` if there is none."""

    def save_file(self, name: str, data: bytes) -> Awaitable[Any]:
        """Store `data` and return the new file's id."""

    def parent_result(self) -> Awaitable[dict[str, Any]]:
        """Return the result of the job named by `payload.parent_job_id`; raises PermanentError `not_found`."""

    def begin_once(self, key: str) -> Awaitable[str]:
        """Begin the marker `key`; returns a `supervisor.store.once.Standing`."""

    def end_once(self, key: str, *, happened: bool) -> Awaitable[None]:
        """Say whether what the marker stands for has happened."""

    def enqueue(self, fields: dict[str, Any], key: str | None) -> Awaitable[Any]:
        """Insert a job and return its id; under a `key`, once for all attempts of this job."""


LinkT = TypeVar("LinkT", bound=ProgressLink)


@dataclass(frozen=True)
class _Context(Generic[LinkT]):
    """What both kinds of handlers see.

    `id` is the document's `_id`, `attempt` counts from 1, `token` is the fencing token of this claim (an integer that
    grows with every claim of the job), `settings` is the table `[handlers.NAME.settings]` of config.toml, `log` is a
    structlog logger bound to the job.
    """

    id: Any
    attempt: int
    handler: str
    token: int
    link: LinkT = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    log: Any = field(default_factory=structlog.get_logger, repr=False)
    ends_at: float = float("inf")
    """When the time limit comes, on this process's monotonic clock, in seconds."""

    @property
    def deadline(self) -> float:
        """Seconds left before the time limit; not below 0."""
        return max(0.0, self.ends_at - time.monotonic())

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Report how far the job is; cheap enough to be called often (the newest report wins)."""
        self.link.report_progress(done, total, message)


@dataclass(frozen=True)
class JobContext(_Context[SupervisorLink]):
    """The running job as its handler sees it."""

    def open_file(self, file_id: Any) -> BinaryIO:
        """Open the stored file `file_id` for reading; also a context manager.

        Raises PermanentError with code `not_found` if there is no such file.
        """
        return self.link.open_file(file_id)

    def save_file(self, name: str, data: bytes) -> Any:
        """Store `data` under `name` and return the file's id (an ObjectId)."""
        return self.link.save_file(name, data)

    def parent_result(self) -> dict[str, Any]:
        """Return the result of the job whose `then` made this one (`payload.parent_job_id`)."""
        return self.link.parent_result()

    @contextlib.contextmanager
    def once(self, key: str, *, at_most: bool = False) -> Iterator[bool]:
        """Tell whether to do something that should happen once, and remember that it has happened.

            with job.once(f"welcome:{user_id}") as todo:
                if todo:
                    send_mail()

        `key` is the same for all jobs and attempts. It is True for the first that asks, and False once a block under
        it has ended without an exception. After an exception the next one does it. Where an attempt died inside, or
        was stopped, nobody knows whether it happened: then it is True again, or False with `at_most`.

        Waits while another job is inside the block. Raises JobStateError where this attempt has lost its lease.
        """
        while (standing := self.link.begin_once(key)) == "busy":
            time.sleep(_BUSY_S)
        todo = _is_to_do(key, standing, at_most)
        try:
            yield todo
        except Exception:
            if todo:
                self.link.end_once(key, happened=False)
            raise
        if todo:
            self.link.end_once(key, happened=True)

    def enqueue(self, handler: str, payload: Payload = None, *, key: str | None = None, **fields: Any) -> Any:
        """Insert another job and return its id; `fields` are the producer's.

        Without a `key`, each attempt inserts one of its own. Under a `key`, all attempts of this job together insert
        one. Raises UsageError, UnknownHandlerError, PayloadError or JobStateError as a queue does.
        """
        return self.link.enqueue({"handler": handler, "payload": _plain(payload), **fields}, key)


@dataclass(frozen=True)
class AsyncJobContext(_Context[AsyncSupervisorLink]):
    """The running job as a coroutine sees it. `progress` and `log` are called, from any thread; the rest is awaited."""

    unawaited: set[Awaited[Any]] = field(default_factory=set, init=False, repr=False, compare=False)
    """What has been asked for and not awaited yet."""

    def open_file(self, file_id: Any) -> Awaitable[BinaryIO]:
        """Open the stored file `file_id` for reading: `with await job.open_file(id) as file`.

        It is a copy on the local disk. Raises PermanentError with code `not_found` if there is no such file.
        """
        return Awaited("open_file", lambda: self.link.open_file(file_id), self.unawaited)

    def save_file(self, name: str, data: bytes) -> Awaitable[Any]:
        """Store `data` under `name` and return the file's id (an ObjectId)."""
        return Awaited("save_file", lambda: self.link.save_file(name, data), self.unawaited)

    def parent_result(self) -> Awaitable[dict[str, Any]]:
        """Return the result of the job whose `then` made this one (`payload.parent_job_id`)."""
        return Awaited("parent_result", self.link.parent_result, self.unawaited)

    @contextlib.asynccontextmanager
    async def once(self, key: str, *, at_most: bool = False) -> AsyncIterator[bool]:
        """Do as `JobContext.once` does: `async with job.once(key) as todo`."""
        while (standing := await self.link.begin_once(key)) == "busy":  # noqa: ASYNC110 - another process's job
            await asyncio.sleep(_BUSY_S)
        todo = _is_to_do(key, standing, at_most)
        try:
            yield todo
        except Exception:
            if todo:
                await self.link.end_once(key, happened=False)
            raise
        if todo:
            await self.link.end_once(key, happened=True)

    def enqueue(
        self, handler: str, payload: Payload = None, *, key: str | None = None, **fields: Any
    ) -> Awaitable[Any]:
        """Insert another job and return its id, as `JobContext.enqueue` does."""
        job = {"handler": handler, "payload": _plain(payload), **fields}
        return Awaited("enqueue", lambda: self.link.enqueue(job, key), self.unawaited)


def _plain(payload: Payload) -> Any:
    return storable(payload) if isinstance(payload, BaseModel) else dict(payload or {})


def _is_to_do(key: str, standing: str, at_most: bool) -> bool:
    if standing == "lost":
        raise JobStateError(f"this attempt has lost its lease; it must not do {key!r}")
    return standing == "first" or (standing == "unknown" and not at_most)


class Awaited(Awaitable[T]):
    """An answer that is still to come, and says so to whoever takes it for one that has."""

    def __init__(self, method: str, ask: Callable[[], Awaitable[T]], unawaited: set[Awaited[Any]]) -> None:
        self._method = method
        self._ask = ask
        self._unawaited = unawaited
        unawaited.add(self)

    def __await__(self) -> Generator[Any, None, T]:
        self._unawaited.discard(self)
        return self._ask().__await__()

    def hint(self) -> str:
        """Say what is to be written instead."""
        return f"job.{self._method}() was not awaited; in a coroutine it is: await job.{self._method}(…)"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(self.hint())

    def __enter__(self) -> NoReturn:
        raise TypeError(self.hint())

    def __exit__(self, *_: object) -> None:
        """Never reached; without it, `with` would complain of that instead."""

    def __getitem__(self, key: object) -> NoReturn:
        raise TypeError(self.hint())
