"""Handlers called directly, without database and processes: for tests of what they do, as fast as a function call."""

from __future__ import annotations

import asyncio
import inspect
import io
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, BinaryIO

import bson
from pydantic import BaseModel

from supervisor.codec import storable
from supervisor.context import AsyncJobContext, JobContext
from supervisor.errors import PermanentError
from supervisor.registry import HandlerSpec, Registry

Document = dict[str, Any]


@dataclass
class InlineLink:
    """The supervisor as an inline handler sees it: everything is in memory."""

    files: dict[Any, bytes] = field(default_factory=dict)
    """What `open_file` opens, by id; what the handler saves is added."""
    parent: Document | None = None
    """What `parent_result` returns."""
    progress: list[tuple[float, float | None, str | None]] = field(default_factory=list)
    """What the handler has reported."""

    done: set[str] = field(default_factory=set)
    """The keys of `job.once` under which something has happened."""
    enqueued: list[Document] = field(default_factory=list)
    """The jobs that the handler has enqueued, as it gave them."""

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        """Keep a report."""
        self.progress.append((done, total, message))

    def open_file(self, file_id: Any) -> BinaryIO:
        """Open one of `files`."""
        if file_id not in self.files:
            raise PermanentError(f"no stored file has the id {file_id!r}", code="not_found")
        return io.BytesIO(self.files[file_id])

    def save_file(self, name: str, data: bytes) -> Any:
        """Add to `files`, under the name and a number."""
        file_id = f"{len(self.files) + 1}-{name}"
        self.files[file_id] = bytes(data)
        return file_id

    def parent_result(self) -> Document:
        """Return `parent`."""
        if self.parent is None:
            raise PermanentError("the payload names no parent_job_id", code="not_found")
        return self.parent

    def begin_once(self, key: str) -> str:
        """Begin a marker in `done`."""
        return "done" if key in self.done else "first"

    def end_once(self, key: str, *, happened: bool) -> None:
        """Keep what has happened."""
        if happened:
            self.done.add(key)

    def enqueue(self, fields: Document, key: str | None) -> Any:
        """Add to `enqueued`, under a key once."""
        known = [number for number, each in enumerate(self.enqueued) if key is not None and each.get("key") == key]
        if not known:
            self.enqueued.append({**fields, "key": key} if key is not None else fields)
        return f"inline-{known[0] + 1 if known else len(self.enqueued)}"

    def apply_retention(self) -> dict[str, int]:
        """Delete nothing: there is no database."""
        return {}


class AsyncInlineLink:
    """The same for a coroutine."""

    def __init__(self, link: InlineLink) -> None:
        self._link = link

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        """Keep a report."""
        self._link.report_progress(done, total, message)

    async def open_file(self, file_id: Any) -> BinaryIO:
        """Open one of `files`."""
        return self._link.open_file(file_id)

    async def save_file(self, name: str, data: bytes) -> Any:
        """Add to `files`, under the name and a number."""
        return self._link.save_file(name, data)

    async def parent_result(self) -> Document:
        """Return `parent`."""
        return self._link.parent_result()

    async def begin_once(self, key: str) -> str:
        """Begin a marker in `done`."""
        return self._link.begin_once(key)

    async def end_once(self, key: str, *, happened: bool) -> None:
        """Keep what has happened."""
        self._link.end_once(key, happened=happened)

    async def enqueue(self, fields: Document, key: str | None) -> Any:
        """Add to `enqueued`, under a key once."""
        return self._link.enqueue(fields, key)


@dataclass(frozen=True)
class Call:
    """A handler with what it is called with."""

    spec: HandlerSpec
    payload: Any
    link: InlineLink
    facts: Mapping[str, Any]
    """The fields of the context that both kinds of handlers have."""


class InlineJobs:
    """Calls the handlers of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._set_up: set[Callable[..., Any]] = set()

    def run(
        self,
        handler: str | Callable[..., Any],
        payload: Mapping[str, Any] | BaseModel | None = None,
        *,
        link: InlineLink | None = None,
        settings: Mapping[str, Any] | None = None,
        attempt: int = 1,
    ) -> Document | None:
        """Validate `payload`, call the handler and return its result as it would be stored.

        Setup hooks of its module run before its first call. What the handler raises comes out as it is; a payload that
        does not fit raises PayloadError, an unknown handler UnknownHandlerError, a result that cannot be stored
        TypeError.
        """
        name = handler if isinstance(handler, str) else self._name_of(handler)
        spec = self._registry.get(name)
        raw = storable(payload) if isinstance(payload, BaseModel) else dict(payload or {})
        facts = {
            "id": "inline",
            "attempt": attempt,
            "handler": name,
            "token": attempt,
            "settings": MappingProxyType(dict(settings or {})),
            "ends_at": time.monotonic() + spec.timeout_s,
        }
        call = Call(spec, spec.parse_payload(raw), link or InlineLink(), facts)
        if spec.is_coroutine:
            return _stored(name, asyncio.run(self._run_coroutine(call)))
        self._set_up_once(spec.module)
        context = JobContext(link=call.link, **call.facts)
        value = spec.function(*((call.payload, context) if spec.takes_context else (call.payload,)))
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
        return _stored(name, value)

    async def _run_coroutine(self, call: Call) -> Any:
        """Call a coroutine handler in an event loop of its own, in which the hooks that need one run first."""
        self._set_up_once(call.spec.module)
        for setup in self._registry.setups:
            if setup.module == call.spec.module and setup.is_coroutine:
                await setup.function()
        context = AsyncJobContext(link=AsyncInlineLink(call.link), **call.facts)
        value = await call.spec.function(*((call.payload, context) if call.spec.takes_context else (call.payload,)))
        for forgotten in context.unawaited:
            raise TypeError(forgotten.hint())
        return value

    def _set_up_once(self, module: str) -> None:
        for setup in self._registry.setups:
            if setup.module == module and not setup.is_coroutine and setup.function not in self._set_up:
                self._set_up.add(setup.function)
                setup.function()

    def _name_of(self, function: Callable[..., Any]) -> str:
        for spec in self._registry.handlers.values():
            if spec.function is function:
                return spec.name
        raise TypeError(f"{function!r} is no registered handler")


def _stored(handler: str, value: Any) -> Document | None:
    """Return a result as it comes back from the database."""
    if isinstance(value, BaseModel):
        value = storable(value)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"{handler!r} returned {type(value).__name__}; a handler returns a dict, a model or None")
    try:
        found: Document = bson.decode(bson.encode(value))
    except (bson.errors.BSONError, OverflowError, UnicodeError, RecursionError, ValueError) as error:
        raise TypeError(f"what {handler!r} returned cannot be stored: {error}") from None
    return found
