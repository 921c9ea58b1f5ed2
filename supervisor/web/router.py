"""`router(queue)`: all routes, for an application to include."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request, params

from supervisor.client.async_queue import AsyncQueue
from supervisor.web import batches, events, health, jobs, metrics, uploads
from supervisor.web.access import token_required
from supervisor.web.asking import Interface, Uploads
from supervisor.web.problems import documented, problem_route

QueueSource = AsyncQueue | Callable[..., AsyncQueue] | Callable[..., Awaitable[AsyncQueue]]


def router(  # noqa: PLR0913 - all but the first by name
    queue: QueueSource,
    *,
    token: str | None = None,
    dependencies: Sequence[params.Depends] = (),
    prefix: str = "",
    max_upload_mb: float = 100,
    upload_types: Iterable[str] | None = None,
    max_body_mb: float = 8,
) -> APIRouter:
    """Return a router with the routes of the HTTP interface, to be included in a FastAPI application.

    `queue` is an AsyncQueue, or a dependency that returns one (for a client that is made in the lifespan). With a
    registry in it, handlers and payloads are checked before a job is enqueued.

    `token` is the bearer token of every request; `dependencies` are the application's own, such as its login. Without
    either, everybody who reaches the application may use it. Neither guards `/health/live` and `/health/ready`.

    `max_upload_mb` and `upload_types` (media types; None: any) bound what may be uploaded, `max_body_mb` every other
    request. All three are in units of 1,048,576 bytes.
    """
    most_body_bytes = _mb("max_body_mb", max_body_mb)
    allowed = Uploads(
        _mb("max_upload_mb", max_upload_mb),
        None if upload_types is None else frozenset(each.lower() for each in upload_types),
    )
    handed_in = Depends(_hand_in(queue, allowed, most_body_bytes))
    route_class = problem_route(most_body_bytes)
    guards = [*([] if token is None else [Depends(token_required(token))]), *dependencies]
    refusals = documented(_422="The request is wrong; `errors` names the fields.", _503="The database does not answer.")
    if token is not None:
        refusals |= documented(_401="There is no token.", _403="The token does not give access.")
    guarded = APIRouter(route_class=route_class, dependencies=[*guards, handed_in], responses=refusals)
    for part in (jobs, uploads, events, batches, health, metrics):
        part.add_to(guarded)
    probes = APIRouter(route_class=route_class, dependencies=[handed_in])
    health.add_probes_to(probes)
    made = APIRouter(prefix=prefix)
    made.include_router(guarded)
    made.include_router(probes)
    return made


def _hand_in(queue: QueueSource, allowed: Uploads, most_body_bytes: int) -> Callable[..., Awaitable[None]]:
    """Return the dependency that lets routes find what they work with."""

    async def given() -> Any:
        return queue

    source: Any = queue if callable(queue) else given

    async def hand_in(request: Request, found: Any = Depends(source)) -> None:  # noqa: B008 - how FastAPI wants it
        request.state.supervisor = Interface(found, allowed, most_body_bytes)

    return hand_in


def _mb(name: str, value: float) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise ValueError(f"{name}: is {value!r}, must be a number above 0")
    return int(value * 2**20)
