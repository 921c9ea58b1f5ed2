"""Routes about batches."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from fastapi import APIRouter, Response

from supervisor.client.documents import id_text, ids_meant_by
from supervisor.core.batch import Batch
from supervisor.errors import JobNotFoundError
from supervisor.web.asking import PATIENCE_S, Here, in_time
from supervisor.web.jobs import BAD_BODY
from supervisor.web.models import BatchAnswer, BatchMade, NewBatch
from supervisor.web.problems import Json, documented
from supervisor.web.shown import batch_shown

JOBS_A_SECOND = 2000
"""A large batch may take longer than other requests: so many jobs are enqueued in a second by a busy machine."""


async def make(new: NewBatch, here: Here) -> Response:
    """Enqueue jobs that belong together. All are checked before the first is enqueued.

    Give a `batch_id` of your own where a request may be repeated: after a 503 it goes on where it was, and nothing is
    enqueued twice.
    """
    on_end = None if new.on_end is None else new.on_end.fields()
    jobs = (job.fields() for job in new.jobs)  # each in its turn: all at once would hold up other requests
    enqueued = here.queue.enqueue_batch(jobs, on_end=on_end, batch_id=new.batch_id)
    made = await in_time(enqueued, PATIENCE_S + len(new.jobs) / JOBS_A_SECOND)
    text = id_text(made.id)
    headers = {"Location": f"batches/{quote(text, safe='')}"}
    return Json({"batch_id": text, "total_items": made.total}, HTTPStatus.ACCEPTED, headers)


async def look(batch_id: str, here: Here) -> Response:
    """Tell how far a batch is. Asking costs little, however many jobs it has."""

    async def found() -> Batch:
        for meant in ids_meant_by(batch_id):
            try:
                return await here.queue.batch(meant)
            except JobNotFoundError:
                continue
        raise JobNotFoundError(f"no batch has the id {batch_id!r}")

    return Json(batch_shown(await in_time(found())))


def add_to(api: APIRouter) -> None:
    """Add these routes."""
    api.post(
        "/batches",
        status_code=HTTPStatus.ACCEPTED,
        response_model=BatchMade,
        responses=documented(
            _400=BAD_BODY,
            _409="`batch_id`, or a `job_id` or `unique_key` of a job, is taken.",
            _413="A payload, or the whole request, is too large.",
            _422="A job is wrong; `errors` names it by its number.",
        ),
        tags=["batches"],
        summary="Enqueue a batch",
    )(make)
    api.get(
        "/batches/{batch_id}",
        response_model=BatchAnswer,
        responses=documented(_404="No batch and no job has this batch id."),
        tags=["batches"],
        summary="Look at a batch",
    )(look)
