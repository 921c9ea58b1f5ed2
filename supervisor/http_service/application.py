"""The application that the supervisor serves: the routes of `supervisor.web`, with probes that tell of the supervisor.

In somebody's application, `/health/live` says that the application answers. Here it is asked about the supervisor, and
so it says what `python -m supervisor health` says.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from supervisor.client.async_queue import AsyncQueue
from supervisor.config.settings import HttpSettings
from supervisor.health import Health
from supervisor.web import router
from supervisor.web.asking import in_time
from supervisor.web.health import PROBE_S
from supervisor.web.models import Alive
from supervisor.web.problems import Json, problem, problem_route


def application(settings: HttpSettings, queue: Callable[[], AsyncQueue], health: Callable[[], Health]) -> FastAPI:
    """Return it; `queue` and `health` are asked at each request."""

    async def queue_now() -> AsyncQueue:
        return queue()

    made = FastAPI(openapi_url=None)  # and no pages about it, which would come from elsewhere and without a token
    made.include_router(_probes(queue, health))
    made.include_router(
        router(queue_now, token=settings.token.get_secret_value() or None, max_upload_mb=settings.max_upload_mb)
    )
    made.add_exception_handler(HTTPException, _no_such_route)
    made.add_exception_handler(Exception, _failed)
    return made


def _probes(queue: Callable[[], AsyncQueue], health: Callable[[], Health]) -> APIRouter:
    """Return the routes that come before the router's own of the same names."""
    probes = APIRouter(route_class=problem_route(1))

    async def live() -> Response:
        return _answer(health().problem(live=True))

    async def ready() -> Response:
        if wrong := health().problem(live=False):
            return _answer(wrong)
        await in_time(queue().ping(), PROBE_S)
        return _answer("")

    for path, probe in (("/health/live", live), ("/health/ready", ready)):
        probes.api_route(path, methods=["GET", "HEAD"])(probe)
    return probes


def _answer(wrong: str) -> Response:
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, wrong) if wrong else Json(Alive().model_dump())


async def _failed(_request: Request, _error: Exception) -> Response:
    """Answer where there is a bug; the error goes on to who logs it."""
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "this failed; the supervisor's log says why")


async def _no_such_route(request: Request, error: Any) -> Response:
    """Answer what no route has answered: a path or a method that none of them has."""
    detail = f"nothing is at {request.url.path!r:.200}" if error.status_code == HTTPStatus.NOT_FOUND else error.detail
    return problem(error.status_code, detail, headers=error.headers)
