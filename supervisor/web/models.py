"""What the routes take and answer. The models are what OpenAPI tells; fields are those of the job document."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from bson import json_util
from bson.errors import BSONError
from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from supervisor.client.documents import JSON

MOST_LEVELS = 90
"""Documents in documents; the database takes 100, and a payload is already inside of one."""
MOST_ID_CHARS = 200
_WRAPPED = {
    "$oid", "$date", "$uuid", "$binary", "$numberInt", "$numberLong", "$numberDouble", "$numberDecimal",
}  # fmt: skip
"""What Extended JSON writes values with that JSON does not have."""
_SUBTYPED = {"$binary", "$type"}


def read_document(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of a request with the values of Extended JSON in it; raises ValueError for other `$` names.

    Inserted as they are, such names would do nothing; but whoever reads the job should not have to know that.
    """
    read = _read(dict(given), MOST_LEVELS)
    if not isinstance(read, dict):
        raise ValueError("must be a document")  # noqa: TRY004 - what pydantic wants to be raised
    return read


def _read(value: Any, levels: int) -> Any:
    if levels < 0:
        raise ValueError(f"is nested deeper than {MOST_LEVELS} levels")
    if isinstance(value, list):
        return [_read(item, levels - 1) for item in value]
    if not isinstance(value, dict):
        return value
    if value and (set(value) <= _WRAPPED or set(value) == _SUBTYPED) and (len(value) == 1 or "$type" in value):
        return _unwrapped(value)
    for name in value:
        if name.startswith("$") or name == "__proto__":
            raise ValueError(f"a field may not be named {name!r}")
    return {name: _read(item, levels - 1) for name, item in value.items()}


def _unwrapped(value: dict[str, Any]) -> Any:
    try:
        return json_util.object_hook(value, JSON)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, BSONError):
        raise ValueError(f"is no Extended JSON: {str(value)[:80]}") from None


def _text(value: Any) -> Any:
    if value is not None and not isinstance(value, str):
        raise ValueError("must be a time as a string, such as 2026-03-01T18:30:00Z")
    return value


def _id(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not 1 <= len(str(value)) <= MOST_ID_CHARS:
        raise ValueError(f"must be a string of at most {MOST_ID_CHARS} characters or an integer")
    return value


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Payload = Annotated[dict[str, Any], AfterValidator(read_document)]
Moment = Annotated[datetime, BeforeValidator(_text), AfterValidator(_in_utc)]
Text = Annotated[str, Field(strict=True, min_length=1)]
Id = Annotated[str | int, BeforeValidator(_id), Field(examples=["invoice-4711"])]
_INT32 = 2**31


class Given(BaseModel):
    """A part of a request: what is not named here is refused, and null counts as missing."""

    model_config = ConfigDict(extra="forbid")

    def fields(self) -> dict[str, Any]:
        """Return what was given, by the names of the document."""
        return self.model_dump(exclude_none=True)


class JobSpec(Given):
    """A job to enqueue: its handler, its payload and the producer's other fields."""

    handler: Text = Field(description="Name of a registered handler.", examples=["ner"])
    payload: Payload | None = Field(
        default=None,
        description="The handler's input. Extended JSON for what JSON does not have: "
        '`{"$oid": "…"}`, `{"$date": "…"}`, `{"$uuid": "…"}`, `{"$binary": …}`, `{"$numberLong": "…"}`.',
        examples=[{"text": "Due on 4 May 2026: 120.00 EUR"}],
    )
    priority: Annotated[int, Field(strict=True, ge=-_INT32, lt=_INT32)] | None = Field(
        default=None, description="Higher first; default 0."
    )
    run_at: Moment | None = Field(default=None, description="Not before this time; UTC unless it says otherwise.")
    unique_key: Text | None = Field(default=None, description="At most one pending or processing job with this key.")
    group_key: Text | None = Field(default=None, description="The group of `max_running_per_group`.")
    timeout_s: Annotated[float, Field(strict=True, ge=0.001, le=1e9)] | None = Field(
        default=None, description="Time limit of an attempt in seconds, instead of the handler's."
    )
    max_attempts: Annotated[int, Field(strict=True, ge=1, lt=_INT32)] | None = Field(
        default=None, description="Tries at most, instead of the handler's."
    )
    trace: Text | None = Field(default=None, description="W3C traceparent, handed on to logs.")
    status: Literal["pending"] | None = Field(default=None, description="As in a document; it need not be given.")
    then: list[JobSpec] | None = Field(
        default=None, max_length=100, description="Jobs to enqueue, each exactly once, when this one completes."
    )

    def fields(self) -> dict[str, Any]:
        """Return what was given and is told to a queue: that a new job is pending is not."""
        return {name: value for name, value in super().fields().items() if name != "status"}


class NewJob(JobSpec):
    """A job to enqueue by itself."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"handler": "ner", "payload": {"text": "Due on 4 May 2026: 120.00 EUR"}}]}
    )

    job_id: Id | None = Field(
        default=None,
        validation_alias=AliasChoices("job_id", "_id"),
        description="An id of your own: a second request with the same one answers 409 and enqueues nothing.",
    )
    batch_id: Id | None = Field(default=None, description="Groups jobs; `GET /batches/{batch_id}` tells of them.")


class BatchJob(JobSpec):
    """A job of a batch."""

    job_id: Id | None = Field(default=None, validation_alias=AliasChoices("job_id", "_id"))


class NewBatch(Given):
    """Jobs that belong together. Nothing is enqueued unless all are sound and none is there already."""

    jobs: list[BatchJob] = Field(min_length=1, description="The jobs.")
    on_end: JobSpec | None = Field(
        default=None, description="Enqueued exactly once when all have ended; its payload gets the `batch_id`."
    )
    batch_id: Id | None = Field(default=None, description="An id of your own; a second batch with it answers 409.")


StatusName = Literal["pending", "processing", "completed", "failed", "cancelled"]


class Accepted(BaseModel):
    """A job, and its status now."""

    job_id: str = Field(description="Its id, as the paths take it.", examples=["65f2a1c0e4b0a1b2c3d4e5f6"])
    status: StatusName = Field(description="Its status now.", examples=["pending"])


class Uploaded(Accepted):
    """A job that reads an uploaded file."""

    file_id: str = Field(description="Id of the stored file.", examples=["65f2a1c0e4b0a1b2c3d4e5f7"])


class Progress(BaseModel):
    """What the handler last reported."""

    done: float | None = Field(default=None, description="How much is done.")
    total: float | None = Field(default=None, description="Of how much; null if that is not known.")
    message: str | None = Field(default=None, description="What it is at.")
    at: datetime | None = Field(default=None, description="When it reported.")


class Failure(BaseModel):
    """Why the latest attempt failed."""

    kind: str = Field(description="exception, permanent, timeout, crash, memory, invalid, result, lost, poison, …")
    message: str | None = Field(default=None, description="In words.")
    code: str | None = Field(default=None, description="The handler's own machine-readable reason.")
    type: str | None = Field(default=None, description="The exception's type.")


class JobSummary(BaseModel):
    """A job as a listing has it. Fields that have no value are left out."""

    job_id: str = Field(description="Its id, as the paths take it.", examples=["65f2a1c0e4b0a1b2c3d4e5f6"])
    handler: str
    status: StatusName
    priority: int = 0
    created_at: datetime | None = None
    run_at: datetime | None = Field(default=None, description="Not before; of a retry, when it is due.")
    started_at: datetime | None = Field(default=None, description="Start of the latest attempt.")
    finished_at: datetime | None = Field(default=None, description="When it ended.")
    attempt: int = Field(default=0, description="Attempts started.")
    progress: Progress | None = None
    error: Failure | None = Field(default=None, description="Of the latest failed attempt, also before a retry.")
    cancel_requested: bool = Field(default=False, description="It runs, and has been asked to stop.")
    unique_key: str | None = None
    group_key: str | None = None
    batch_id: str | None = None
    children: list[str] = Field(default=[], description="The jobs that `then` has made.")


class JobAnswer(JobSummary):
    """A job with its result."""

    result: dict[str, Any] | None = Field(default=None, description="What the handler returned, when it completed.")


class JobPage(BaseModel):
    """A page of jobs, the newest id first."""

    jobs: list[JobSummary]
    next: str | None = Field(description="What to give as `after` for the next page; null on the last one.")


class BatchMade(BaseModel):
    """A batch that has been enqueued."""

    batch_id: str = Field(examples=["65f2a1c0e4b0a1b2c3d4e5f6"])
    total_items: int


class BatchAnswer(BatchMade):
    """The progress of a batch."""

    status: Literal["processing", "completed", "failed"] = Field(
        description="`completed` when all have completed, `failed` when all have ended and some have not completed."
    )
    processed_items: int = Field(description="How many have ended, in whatever way.")
    counts: dict[StatusName, int] = Field(description="How many jobs have which status.")
    on_end_job_id: str | None = Field(default=None, description="The job at the end, once it is enqueued.")


class Alive(BaseModel):
    """It answers."""

    status: Literal["ok"] = "ok"


class JobsHealth(BaseModel):
    """How much there is to do, and who does it."""

    supervisors: int = Field(description="Supervisors that have been heard of in the last 15 seconds.")
    active_jobs: int = Field(description="Jobs that are `processing`.")
    pending_jobs: int = Field(description="Jobs that are `pending`, due or not.")
    oldest_pending_s: float | None = Field(description="For how long the first of the due ones has been due, in s.")
