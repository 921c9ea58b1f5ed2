"""Server-sent events of a job: its status and its progress, until the end.

    event: status    {"job_id", "status", "attempt", "error"?}      at first, and whenever it changes
    event: progress  {"done", "total", "message", "at"}             whenever the handler reports
    event: end       {"job_id", "status", …}                        the job as a listing has it; nothing follows
    event: deleted   {"job_id"}                                     it has been deleted; nothing follows

A browser's EventSource connects again when a stream ends. Its request then names the last event, and what has ended is
answered with 204, which tells it to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.responses import StreamingResponse
from pymongo.errors import PyMongoError
from starlette.types import Send

from supervisor.client.async_queue import AsyncQueue
from supervisor.client.documents import has_ended, id_text
from supervisor.errors import JobNotFoundError
from supervisor.web.asking import Here, in_time
from supervisor.web.jobs import NO_SUCH_JOB
from supervisor.web.problems import documented
from supervisor.web.shown import job_shown

MEDIA_TYPE = "text/event-stream"
COMMENT_EVERY_S = 15.0
"""Proxies close a connection on which nothing comes for a minute or less."""
RECONNECT_MS = 2000
LAST = "end"
"""The id of the last event of a stream."""
_STATUS = ("job_id", "status", "attempt", "error")
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""No proxy may keep events back to send several at once."""


async def events(job_id: str, here: Here, last_event_id: Annotated[str | None, Header()] = None) -> Response:
    """Follow a job by server-sent events: `status` and `progress`, then `end`.

    A comment comes every 15 seconds in which nothing else does. A client that leaves ends the stream.
    """
    found = await in_time(here.queue.find_id(job_id))
    if last_event_id == LAST:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return EventStream(follow(here.queue, found), media_type=MEDIA_TYPE, headers=_HEADERS)


class EventStream(StreamingResponse):
    """A stream whose source is closed with it, and not when it is collected one day."""

    async def stream_response(self, send: Send) -> None:
        """Send it."""
        source: Any = self.body_iterator
        async with contextlib.aclosing(source):
            await super().stream_response(send)


async def follow(queue: AsyncQueue, job_id: Any, comment_every_s: float = COMMENT_EVERY_S) -> AsyncGenerator[str]:
    """Yield the events of a job as text."""
    yield f"retry: {RECONNECT_MS}\n\n"
    states = queue.follow(job_id, small=True)
    before: dict[str, Any] = {}
    upcoming = _next_of(states)
    try:
        while True:
            await asyncio.wait({upcoming}, timeout=comment_every_s)
            if not upcoming.done():
                yield ": nothing new\n\n"
                continue
            try:
                job = upcoming.result()
            except JobNotFoundError:
                yield event("deleted", {"job_id": id_text(job_id)}, LAST)
                return
            except PyMongoError:
                return  # whoever listens connects again
            shown = job_shown(job)
            for each in changes(before, shown):
                yield each
            if has_ended(job):
                yield event("end", shown, LAST)
                return
            before, upcoming = shown, _next_of(states)
    finally:
        # in its own task, which ends the change stream: in this one, every wait is cancelled when a client has left
        upcoming.cancel()


def _next_of(states: AsyncIterator[dict[str, Any]]) -> asyncio.Future[dict[str, Any]]:
    upcoming = asyncio.ensure_future(anext(states))
    upcoming.add_done_callback(lambda done: done.cancelled() or done.exception())  # which is looked at with that
    return upcoming


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the events of what has changed."""
    status = {name: now[name] for name in _STATUS if name in now}
    found = [event("status", status)] if status != {name: before[name] for name in _STATUS if name in before} else []
    if now.get("progress") is not None and now["progress"] != before.get("progress"):
        found.append(event("progress", now["progress"]))
    return found


def event(name: str, data: Any, id_: str | None = None) -> str:
    """Return one event as it goes over the line; JSON in ASCII holds no line break."""
    head = f"event: {name}\n" if id_ is None else f"event: {name}\nid: {id_}\n"
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n"


def add_to(api: APIRouter) -> None:
    """Add this route."""
    stream = {"description": "The events.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
    ended: dict[str, Any] = {"description": "The stream has ended before: do not connect again."}
    api.get(
        "/jobs/{job_id}/events",
        response_class=EventStream,
        responses={200: stream, 204: ended, **documented(_404=NO_SUCH_JOB)},
        tags=["jobs"],
        summary="Follow a job",
    )(events)
