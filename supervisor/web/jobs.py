"""Routes about single jobs: enqueue, look, list, cancel, retry."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from supervisor.client.async_queue import AsyncQueue
from supervisor.client.documents import id_text, ids_meant_by
from supervisor.client.shown import plain
from supervisor.core.job import Status
from supervisor.errors import JobNotFoundError
from supervisor.web.asking import Here, in_time
from supervisor.web.models import Accepted, JobAnswer, JobPage, NewJob, StatusName
from supervisor.web.problems import Json, documented
from supervisor.web.shown import job_shown

NO_SUCH_JOB = "No job has this id."
BAD_BODY = "The body cannot be read."


class Listing(BaseModel):
    """Which jobs, and which page of them; any other parameter is refused."""

    model_config = ConfigDict(extra="forbid")

    status: StatusName | None = Field(default=None, description="Only jobs with this status.")
    handler: str | None = Field(default=None, description="Only jobs of this handler.")
    after: str | None = Field(default=None, description="`next` of the page before.")
    limit: int = Field(default=50, ge=1, le=500, description="Jobs on a page at most.")


async def enqueue(new: NewJob, here: Here) -> Response:
    """Enqueue a job and answer at once; a supervisor runs it.

    Handler and payload are checked before. `GET /jobs/{job_id}` tells how it goes on.
    """
    fields = new.fields()
    handler, payload = fields.pop("handler"), fields.pop("payload", None)
    job_id = await in_time(here.queue.enqueue(handler, payload, **fields))
    return accepted(job_id, location="jobs/")


def accepted(job_id: Any, status: str = Status.PENDING.value, location: str | None = None, **more: str) -> Response:
    """Return 202 with a job; `location` leads from the request's path to those of jobs."""
    text = id_text(job_id)
    headers = {} if location is None else {"Location": location + quote(text, safe="")}
    return Json({"job_id": text, "status": status, **more}, HTTPStatus.ACCEPTED, headers)


async def look(job_id: str, here: Here) -> Response:
    """Tell how a job is: its status, its progress, then its result or why it failed."""
    job = await in_time(_look(here.queue, job_id))
    return Json(job)


async def _look(queue: AsyncQueue, text: str) -> dict[str, Any]:
    job = await queue.get(await queue.find_id(text))
    shown = job_shown(job)
    if job.get("status") == Status.COMPLETED:
        shown["result"] = await _result(queue, job)
    return shown


async def _result(queue: AsyncQueue, job: dict[str, Any]) -> Any:
    """Return the result; None if its file has been deleted, which does not make the job unknown."""
    try:
        return plain(await queue.result(job))
    except JobNotFoundError:
        return None


async def list_jobs(listing: Annotated[Listing, Query()], here: Here) -> Response:
    """List jobs, the newest id first, without their results."""
    after = None if listing.after is None else await in_time(_after(here.queue, listing.after))
    jobs = await in_time(here.queue.list(listing.status, listing.handler, listing.limit + 1, after))
    shown = [job_shown(job) for job in jobs[: listing.limit]]
    return Json({"jobs": shown, "next": shown[-1]["job_id"] if len(jobs) > listing.limit else None})


async def _after(queue: AsyncQueue, text: str) -> Any:
    """Return the id that `text` means, also when its job has been deleted since the page before."""
    try:
        return await queue.find_id(text)
    except JobNotFoundError:
        return next(iter(ids_meant_by(text)), text)


async def cancel(job_id: str, here: Here) -> Response:
    """Cancel a job. One that is `processing` is asked to stop, and ends within seconds."""

    async def cancelled() -> tuple[Any, str]:
        found = await here.queue.find_id(job_id)
        return found, await here.queue.cancel(found)

    return accepted(*await in_time(cancelled()))


async def retry(job_id: str, here: Here) -> Response:
    """Make a failed or cancelled job pending again, with all its attempts before it."""

    async def retried() -> Any:
        found = await here.queue.find_id(job_id)
        await here.queue.retry(found)
        return found

    return accepted(await in_time(retried()))


def add_to(api: APIRouter) -> None:
    """Add these routes."""
    too_large = "The payload is larger than `limits.payload_kb`."
    wrong = "The handler is unknown, or a field is wrong; `errors` names it."
    api.post(
        "/jobs",
        status_code=HTTPStatus.ACCEPTED,
        response_model=Accepted,
        responses=documented(_400=BAD_BODY, _409="`job_id` or `unique_key` is taken.", _413=too_large, _422=wrong),
        tags=["jobs"],
        summary="Enqueue a job",
    )(enqueue)
    api.get(
        "/jobs",
        response_model=JobPage,
        response_model_exclude_unset=True,
        responses=documented(_422="A parameter is wrong."),
        tags=["jobs"],
        summary="List jobs",
    )(list_jobs)
    for path, summary, does, refusals in (
        ("/jobs/{job_id}/cancel", "Cancel a job", cancel, "It has ended."),
        ("/jobs/{job_id}/retry", "Retry a job", retry, "It has not failed and was not cancelled."),
    ):
        api.post(
            path,
            status_code=HTTPStatus.ACCEPTED,
            response_model=Accepted,
            responses=documented(_404=NO_SUCH_JOB, _409=refusals),
            tags=["jobs"],
            summary=summary,
        )(does)
    api.get(
        "/jobs/{job_id}",
        response_model=JobAnswer,
        responses=documented(_404=NO_SUCH_JOB),
        tags=["jobs"],
        summary="Look at a job",
    )(look)
