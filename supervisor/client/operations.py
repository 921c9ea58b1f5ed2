"""What a queue does, as operations (`supervisor.client.calls`): `Queue` and `AsyncQueue` carry them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any, Protocol, TypeVar, cast

from pydantic import BaseModel
from pymongo import UpdateMany
from pymongo.errors import DuplicateKeyError

from supervisor.client import documents, inserting, new_jobs
from supervisor.client.calls import Breath, Steps, call
from supervisor.client.filters import Filters, listing, order
from supervisor.client.inserting import Alike, Made
from supervisor.client.new_jobs import JobOptions
from supervisor.core import files
from supervisor.core.batch import COLLECTION as BATCHES
from supervisor.core.job import Status
from supervisor.errors import JobNotFoundError, JobStateError, PayloadError, UsageError
from supervisor.registry import Registry
from supervisor.store.files import FILES
from supervisor.store.presence import COLLECTION as SUPERVISORS

Document = dict[str, Any]
Documents = list[Document]
Payload = Mapping[str, Any] | BaseModel | None
Model_contra = TypeVar("Model_contra", contravariant=True)


class Handler(Protocol[Model_contra]):
    """A function that `@handler` has registered, by the type of its payload."""

    def __call__(self, payload: Model_contra, /, *context: Any) -> Any:
        """Run the job."""


_OPTIONS = ", ".join(sorted(JobOptions.__annotations__))
AT_A_BREATH = 200
"""Jobs that are checked without letting others have their turn: some milliseconds of work."""


class Operations:
    """The operations on one collection of jobs.

    With a `registry`, handlers must be registered and their payloads fit; without one both are taken on trust.
    `payload_kb` is the largest payload, in units of 1,024 bytes.
    """

    def __init__(self, jobs: str, registry: Registry | None, payload_kb: int) -> None:
        self.jobs = jobs
        self.registry = registry
        self.payload_kb = payload_kb

    def name_of(self, handler: str | Callable[..., Any]) -> str:
        """Return the name under which a handler is registered; a string is one. Raises UsageError."""
        if isinstance(handler, str):
            return handler
        known = self.registry.handlers.values() if self.registry is not None else ()
        for spec in known:
            if spec.function is handler:
                return spec.name
        raise UsageError(f"{getattr(handler, '__qualname__', handler)!r} is no handler of this queue's registry")

    def checked(self, handler: str | Callable[..., Any], payload: Payload, options: JobOptions, now: datetime) -> Any:
        """Return the document of a new job; raises UsageError, UnknownHandlerError or PayloadError."""
        return self._made(self.name_of(handler), payload, options, now)[0]

    def _made(self, handler: str, payload: Payload, options: JobOptions, now: datetime) -> tuple[Document, bytes]:
        document = new_jobs.job_document(handler, payload, options, now)
        return document, new_jobs.check_job(document, self.registry, self.payload_kb)

    def checked_fields(self, fields: Mapping[str, Any], now: datetime) -> tuple[Document, bytes]:
        """Return the document of a job given as `{handler, payload, …}` with the producer's fields, and its BSON.

        Raises the same.
        """
        options = {("job_id" if name == "_id" else name): value for name, value in fields.items()}
        handler, payload = options.pop("handler", None), options.pop("payload", None)
        if options.get("status") == Status.PENDING:
            del options["status"]  # what every new job is; documents say so
        if not isinstance(handler, str):
            raise UsageError(f"handler: {'missing' if handler is None else f'is {handler!r}'}, must be a string")
        if not isinstance(payload, (Mapping, BaseModel, NoneType)):
            raise UsageError(f"payload: is {payload!r:.80}, must be a document")
        if unknown := sorted(set(options) - set(JobOptions.__annotations__)):
            raise UsageError(f"{unknown[0]}: no such field; allowed are handler, payload, {_OPTIONS}")
        return self._made(handler, payload, cast(JobOptions, options), now)

    def checked_many(
        self, handler: str | Callable[..., Any], payloads: Iterable[Payload], options: JobOptions, now: datetime
    ) -> Steps[Iterable[Made]]:
        """Return jobs that differ in their payload only; a PayloadError names which is wrong."""
        for single in ("job_id", "unique_key"):
            if options.get(single) is not None:
                raise UsageError(f"{single}: many jobs cannot have the same one")
        name, checked = self.name_of(handler), list[bytes]()
        rest: Document = {}
        for number, payload in enumerate(payloads):
            if number % AT_A_BREATH == 0:
                yield Breath()
            try:
                if not rest:  # what all have in common is checked once
                    document, _ = self._made(name, payload, options, now)
                    rest = {field: value for field, value in document.items() if field not in ("_id", "payload")}
                plain = new_jobs.plain_payload(payload)
                new_jobs.check_payload(name, plain, self.registry)
                checked.append(new_jobs.encoded_payload(plain, self.payload_kb))
            except PayloadError as error:
                raise type(error)(f"payloads[{number}]: {error}") from None
        alike = Alike(rest, checked)
        return alike.naming_files() or alike

    def enqueue(self, document: Document, session: Any = None) -> Steps[Any]:
        """Insert a job and return its id; raises JobStateError where its `unique_key` or id is taken."""
        yield from self.name_files([(document["_id"], files.named_in(document))], session)
        try:
            yield call(self.jobs, "insert_one", document, session=session)
        except DuplicateKeyError as error:
            raise (yield from self.taken(error, document)) from None
        return document["_id"]

    def enqueue_alike(
        self,
        handler: str | Callable[..., Any],
        payloads: Iterable[Payload],
        options: JobOptions,
        now: datetime,
        session: Any = None,
    ) -> Steps[list[Any]]:
        """Check jobs that differ in their payload only, then insert them; raises as `enqueue_many` of a queue does."""
        jobs = yield from self.checked_many(handler, payloads, options, now)
        return (yield from self.enqueue_many(jobs, session))

    def enqueue_many(self, jobs: Iterable[Made], session: Any = None) -> Steps[list[Any]]:
        """Insert jobs, in as few calls as the deadline of a call allows, and return their ids in order.

        Raises JobStateError where the id or the `unique_key` of some is taken; all others are inserted then.
        """
        ids, refused = yield from self.insert_many(jobs, session)
        if refused:
            raise inserting.taken(refused, len(ids))
        return ids

    def insert_many(self, jobs: Iterable[Made], session: Any = None) -> Steps[tuple[list[Any], list[Made]]]:
        """Do the same; return the ids, and the jobs whose id or `unique_key` is taken instead of raising that."""
        if isinstance(jobs, list):  # else they name no files
            yield from self.name_files([(job.job_id, job.file_ids) for job in jobs], session)
        return (yield from inserting.insert_many(self.jobs, jobs, session))

    def name_files(self, jobs: Sequence[tuple[Any, Sequence[Any]]], session: Any = None) -> Steps[None]:
        """Let files belong to jobs that name them, given as (id of the job, ids of the files).

        Before the jobs are there, so that no file is ever without one.
        """
        naming = [UpdateMany(*files.naming(file_ids, self.jobs, job_id)) for job_id, file_ids in jobs if file_ids]
        for start in range(0, len(naming), inserting.CHUNK_JOBS):
            part = naming[start : start + inserting.CHUNK_JOBS]
            yield call(FILES, "bulk_write", part, ordered=False, session=session)

    def get(self, job_id: Any, *, small: bool = False) -> Steps[Document]:
        """Return the document of a job, whole or, if `small`, as a listing has it; raises JobNotFoundError."""
        fields = documents.LISTED_WITHOUT if small else None
        document: Document | None = yield call(self.jobs, "find_one", {"_id": {"$eq": job_id}}, fields)
        if document is None:
            raise JobNotFoundError(f"no job has the id {str(job_id)!r}")
        return document

    def find_id(self, text: str) -> Steps[Any]:
        """Return the id of the job that `text` means, as `documents.ids_meant_by` has it; raises JobNotFoundError."""
        meant = documents.ids_meant_by(text)
        found = yield call(self.jobs, "find", {"_id": {"$in": meant}}, {"_id": 1})
        there = [job["_id"] for job in found]
        for candidate in meant:
            if candidate in there:
                return candidate
        raise JobNotFoundError(f"no job has the id {text!r}")

    def list(
        self, status: str | None, handler: str | None, limit: int, after: Any, filters: Filters
    ) -> Steps[Documents]:
        """Return a page of jobs without what can be large in them."""
        wanted = listing(status, handler, filters, after)
        found: Documents = yield call(
            self.jobs, "find", wanted, documents.LISTED_WITHOUT, sort=order(filters), limit=limit
        )
        return found

    def retry(self, job_id: Any) -> Steps[None]:
        """Make a failed or cancelled job pending again; raises JobNotFoundError or JobStateError."""
        allowed, fields = documents.retry_filter(job_id), {"batch_id": 1}
        try:
            before = yield call(self.jobs, "find_one_and_update", allowed, documents.retry_update(), fields)
        except DuplicateKeyError as error:
            document = yield from self.get(job_id)
            raise (yield from self.taken(error, document)) from None
        if before is None:
            status = (yield from self.get(job_id)).get("status")
            raise JobStateError(f"job {job_id} is {status}; only failed and cancelled jobs can be retried")
        yield from self.forget_counts([before])

    def forget_counts(self, retried: Iterable[Document]) -> Steps[None]:
        """Have the batches of these jobs counted anew: what had ended is pending again."""
        if batch_ids := [job["batch_id"] for job in retried if job.get("batch_id") is not None]:
            yield call(BATCHES, "update_many", {"_id": {"$in": batch_ids}}, {"$unset": {"counted": ""}})

    def cancel(self, job_id: Any) -> Steps[str]:
        """Cancel a job; return the status it has now. Raises JobNotFoundError or JobStateError."""
        of_job = {"_id": {"$eq": job_id}}
        pending, processing = Status.PENDING.value, Status.PROCESSING.value
        while True:
            done = yield call(self.jobs, "update_one", {**of_job, "status": pending}, documents.cancel_update())
            if done.matched_count:
                return Status.CANCELLED.value
            asked = {"$set": {"cancel_requested": True}}
            done = yield call(self.jobs, "update_one", {**of_job, "status": processing}, asked)
            if done.matched_count:
                return processing
            status = (yield from self.get(job_id)).get("status")
            if status not in (Status.PENDING, Status.PROCESSING):  # else it changed in between
                raise JobStateError(f"job {job_id} is {status} already and cannot be cancelled")

    def counts(self) -> Steps[dict[str, dict[str, int]]]:
        """Return how many jobs there are: {handler: {status: jobs}}."""
        groups = yield call(self.jobs, "aggregate", documents.count_pipeline())
        return documents.counts_by_handler(groups)

    def ping(self) -> Steps[None]:
        """Read from the jobs."""
        yield call(self.jobs, "find_one", {}, {"_id": 1})

    def activity(self) -> Steps[Document]:
        """Return `{active_jobs, pending_jobs, oldest_pending_s}`."""
        active = yield call(self.jobs, "count_documents", {"status": Status.PROCESSING.value})
        pending = yield call(self.jobs, "count_documents", {"status": Status.PENDING.value})
        ages: list[float | None] = []
        for pipeline in documents.oldest_due_pipelines():
            ages += [found["age_s"] for found in (yield call(self.jobs, "aggregate", pipeline))]
        known = [age for age in ages if age is not None]
        oldest_s = round(max(known), 3) if known else None
        return {"active_jobs": active, "pending_jobs": pending, "oldest_pending_s": oldest_s}

    def supervisors(self) -> Steps[Documents]:
        """Return the heartbeat documents, each with its age."""
        found: Documents = yield call(SUPERVISORS, "aggregate", documents.supervisors_pipeline())
        return found

    def taken(self, error: DuplicateKeyError, document: Mapping[str, Any]) -> Steps[JobStateError]:
        """Return the error that says which job is in the way."""
        if "unique_key" not in ((error.details or {}).get("keyPattern") or {}):
            return JobStateError(f"a job with the id {str(document['_id'])!r} exists already")
        key = document["unique_key"]
        active = {"unique_key": {"$eq": key}, "status": {"$in": [Status.PENDING.value, Status.PROCESSING.value]}}
        other = yield call(self.jobs, "find_one", active, {"_id": 1})
        found = f": {other['_id']}" if other else ""
        return JobStateError(f"a job with unique_key {key!r} is already pending or processing{found}")
