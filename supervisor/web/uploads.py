"""Upload a file and enqueue the job that reads it, in one request. The file is stored as it comes, never held whole.

Nothing is left of a request that is refused or breaks off: what has been stored is deleted again. Should this process
die in between, the file names a job that never came, and goes with those that belong to nobody.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any

from bson import ObjectId
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from supervisor.client.documents import id_text
from supervisor.client.new_jobs import with_file
from supervisor.errors import SupervisorError, UsageError
from supervisor.web.asking import Here, Interface, Uploads, in_time
from supervisor.web.jobs import accepted
from supervisor.web.models import NewJob, Uploaded
from supervisor.web.multipart import File, Form
from supervisor.web.problems import documented, refuse_large, too_large

_AS_JSON = {"payload", "then", "priority", "timeout_s", "max_attempts"}
"""Fields that are no text: they come as JSON."""
Job = tuple[str, dict[str, Any], dict[str, Any]]
"""Handler, payload, the producer's other fields."""


async def upload(request: Request, here: Here) -> Response:
    """Upload a file and enqueue the job that reads it.

    The payload gets the file's id: as `source.file_id` where the handler's model has a `source`, else as `file_id`.
    Fields in front of the file are checked before it is read.
    """
    most_bytes = here.uploads.most_bytes
    refuse_large(request, most_bytes + here.most_body_bytes, too_large(most_bytes, "the file"))
    form = Form(request, here.most_body_bytes)
    file = await form.next_file()
    if file is None:
        raise UsageError("file: missing, must be a file in the field `file`")
    _check_type(file, here.uploads)
    file_id, job_id = ObjectId(), ObjectId()
    if "handler" in form.fields:
        _check(here, _job(form.fields, file_id, here), job_id)
    await here.queue.upload(_within(form.pieces(), here.uploads.most_bytes), file.name, file_id, job_id=job_id)
    try:
        if await form.next_file() is not None:
            raise UsageError("file: one only")
        handler, payload, options = _job(form.fields, file_id, here)
        options.setdefault("job_id", job_id)
        made = await in_time(here.queue.enqueue(handler, payload, **options))
    except (SupervisorError, RequestValidationError, HTTPException):
        # not so for an error of the database: the job may be there all the same, and then it needs its file
        await in_time(here.queue.discard(file_id))
        raise
    return accepted(made, location="./", file_id=id_text(file_id))


def _check(here: Interface, job: Job, job_id: Any) -> None:
    handler, payload, options = job
    here.queue.check(handler, payload, **{"job_id": job_id, **options})


def _check_type(file: File, uploads: Uploads) -> None:
    if uploads.types is None or file.media_type in uploads.types:
        return
    allowed = ", ".join(sorted(uploads.types))
    raise HTTPException(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"file: is {file.media_type!r:.100}, must be one of {allowed}"
    )


async def _within(pieces: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[bytes]:
    seen = 0
    async for piece in pieces:
        seen += len(piece)
        if seen > most_bytes:
            raise too_large(most_bytes, "the file")
        yield piece


def _job(fields: Mapping[str, str], file_id: Any, here: Interface) -> Job:
    """Return the job that the fields of the form describe. Raises as the route of a job without a file does."""
    given = {name: _value(name, text) for name, text in fields.items()}
    try:
        found = NewJob.model_validate(given).fields()
    except ValidationError as error:
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from None
    handler, payload = found.pop("handler"), found.pop("payload", {})
    return handler, with_file(payload, file_id, here.queue.registry, handler), found


def _value(name: str, text: str) -> Any:
    if name not in _AS_JSON:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{name}: is not JSON: {text[:80]!r}") from None


def _form_schema() -> dict[str, Any]:
    """Return what OpenAPI is told of the form, from the model of a job."""
    job = NewJob.model_json_schema()["properties"]
    described = {name: {"type": "string", "description": each.get("description", "")} for name, each in job.items()}
    for name in _AS_JSON:
        described[name]["description"] += " As JSON."
    file = {"type": "string", "contentMediaType": "application/octet-stream", "description": "The file."}
    schema = {"type": "object", "required": ["handler", "file"], "properties": {**described, "file": file}}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def add_to(api: APIRouter) -> None:
    """Add this route."""
    api.post(
        "/jobs/upload",
        status_code=HTTPStatus.ACCEPTED,
        response_model=Uploaded,
        openapi_extra={"requestBody": _form_schema()},
        responses=documented(
            _409="`job_id` or `unique_key` is taken.",
            _413="The file is larger than `max_upload_mb`, or the payload than `limits.payload_kb`.",
            _415="It is no multipart form, or the file's type is not allowed.",
        ),
        tags=["jobs"],
        summary="Upload a file and enqueue its job",
    )(upload)
