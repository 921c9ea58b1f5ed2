"""Routes for who watches: is it alive, can it work, how much is there to do."""

from __future__ import annotations

from fastapi import APIRouter, Response

from supervisor.client.documents import is_alive
from supervisor.web.asking import Here, in_time
from supervisor.web.models import Alive, JobsHealth
from supervisor.web.problems import Json, documented

PROBE_S = 2.0
"""A probe has a time limit of its own; the answer should come before."""


async def live() -> Alive:
    """Answer, without asking anybody: this process serves requests."""
    return Alive()


async def ready(here: Here) -> Alive:
    """Answer if the database does: jobs can be enqueued."""
    await in_time(here.queue.ping(), PROBE_S)
    return Alive()


async def jobs(here: Here) -> Response:
    """Tell how much there is to do, and how many supervisors do it."""
    activity = await in_time(here.queue.activity())
    supervisors = await in_time(here.queue.supervisors())
    return Json({"supervisors": sum(map(is_alive, supervisors)), **activity})


def add_probes_to(api: APIRouter) -> None:
    """Add what load balancers ask, who have no token."""
    api.get("/health/live", response_model=Alive, tags=["health"], summary="Is this process alive?")(live)
    api.get(
        "/health/ready",
        response_model=Alive,
        responses=documented(_503="The database does not answer."),
        tags=["health"],
        summary="Can jobs be enqueued?",
    )(ready)


def add_to(api: APIRouter) -> None:
    """Add the rest."""
    api.get("/health/jobs", response_model=JobsHealth, tags=["health"], summary="How much is there to do?")(jobs)
