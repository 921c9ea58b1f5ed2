"""`Queue`: how a program enqueues jobs, looks at them, waits for them, retries and cancels them.

    with Queue.connect("mongodb://…", registry=REGISTRY) as queue:
        job_id = queue.enqueue("ocr", {"source": {"file_id": queue.upload(Path("scan.pdf"))}})
        job = queue.wait(job_id, timeout_s=60)
        text = queue.result(job)["text"]

Besides the errors each method names, all of them raise pymongo's PyMongoError when the database does not answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from bson import ObjectId, json_util
from gridfs import GridFSBucket
from gridfs.errors import NoFile
from pydantic import BaseModel
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from supervisor.client import bulk, documents
from supervisor.client.bulk import Cancelled, Retried
from supervisor.client.controls import Controls
from supervisor.client.documents import JobOptions
from supervisor.client.facts import facts_of, read_job
from supervisor.client.filters import Filters, listing, order
from supervisor.client.reasons import Facts
from supervisor.client.waiting import Waiting
from supervisor.codec import TOLERANT
from supervisor.core import files
from supervisor.core.job import Status
from supervisor.errors import JobNotFoundError, JobStateError
from supervisor.registry import Registry
from supervisor.store.connection import CALL_TIMEOUT_S, MAJORITY, connect_sync
from supervisor.store.files import BUCKET, FILES
from supervisor.store.presence import COLLECTION as SUPERVISORS

Document = dict[str, Any]
Documents = list[Document]
EMBEDDED = "embedded"
_PIECE_BYTES = 1 << 20


class Queue:
    """The jobs of one collection, for producers. Safe to share between threads, as its client is.

    With a `registry`, handlers must be registered and their payloads fit; without one both are taken on trust.
    `payload_kb` is the largest payload, in units of 1,024 bytes.
    """

    def __init__(
        self,
        client: MongoClient[Document],
        database: str = "supervisor",
        collection: str = "jobs",
        registry: Registry | None = None,
        payload_kb: int = 1024,
    ) -> None:
        # only what a majority has is shown, so that no failover takes an answer back
        self._database = client.get_database(
            database, TOLERANT, write_concern=MAJORITY, read_concern=ReadConcern("majority")
        )
        self._jobs = self._database[collection]
        self._files = GridFSBucket(self._database, bucket_name=BUCKET)
        self._registry = registry
        self._payload_kb = payload_kb

    @classmethod
    @contextlib.contextmanager
    def connect(  # noqa: PLR0913 - the constructor's parameters and three of the connection
        cls,
        uri: str,
        database: str = "supervisor",
        collection: str = "jobs",
        registry: Registry | None = None,
        payload_kb: int = 1024,
        *,
        wait_s: float = CALL_TIMEOUT_S,
        data_dir: Path | None = None,
    ) -> Iterator[Queue]:
        """Connect for the length of a `with` block, waiting `wait_s` seconds at most.

        `uri` may be "embedded": the private database in `data_dir` (None: the user's own), shared with a supervisor
        that runs on it. Raises DatabaseRefusedError or DatabaseUnreachableError.
        """
        with (
            reachable(uri, data_dir, wait_s) as real_uri,
            connect_sync(real_uri, wait_s=wait_s) as client,
        ):
            yield cls(client, database, collection, registry, payload_kb)

    def enqueue(
        self, handler: str, payload: Mapping[str, Any] | BaseModel | None = None, **options: Unpack[JobOptions]
    ) -> Any:
        """Insert a job and return its id. `options` are the producer's fields, and `job_id` for an id of your own.

        Raises UsageError, UnknownHandlerError or PayloadError for a job that could not run, JobStateError where its
        `unique_key` or id is taken.
        """
        document = self.check(handler, payload, **options)
        if file_ids := files.named_in(document):
            ours, named = files.naming(file_ids, self._jobs.name, document["_id"])
            self._database[FILES].update_many(ours, named)
        try:
            self._jobs.insert_one(document)
        except DuplicateKeyError as error:
            raise self._taken(error, document) from None
        return document["_id"]

    def check(
        self, handler: str, payload: Mapping[str, Any] | BaseModel | None = None, **options: Unpack[JobOptions]
    ) -> Document:
        """Return the document that `enqueue` would insert; raises as it does, without the database."""
        document = documents.job_document(handler, payload, options, datetime.now(UTC))
        documents.check_job(document, self._registry, self._payload_kb)
        return document

    def find_id(self, text: str) -> Any:
        """Return the id of the job that `text` from a command line means; raises JobNotFoundError."""
        meant = documents.ids_meant_by(text)
        there = [found["_id"] for found in self._jobs.find({"_id": {"$in": meant}}, {"_id": 1})]
        for candidate in meant:
            if candidate in there:
                return candidate
        raise JobNotFoundError(f"no job has the id {text!r}")

    def get(self, job_id: Any, *, small: bool = False) -> Document:
        """Return the document of a job, whole or, if `small`, as a listing has it; raises JobNotFoundError."""
        document = self._jobs.find_one({"_id": {"$eq": job_id}}, documents.LISTED_WITHOUT if small else None)
        if document is None:
            raise JobNotFoundError(f"no job has the id {str(job_id)!r}")
        return document

    def list(
        self,
        status: str | None = None,
        handler: str | None = None,
        limit: int = 50,
        after: Any = None,
        **filters: Unpack[Filters],
    ) -> Documents:
        """Return at most `limit` jobs without payload, result and attempts, the newest id (or the latest end) first.

        `after` is the last id of the page before. Raises ValueError for a status that does not exist, UsageError for
        filters that contradict each other.
        """
        wanted = listing(status, handler, filters, after)
        return list(self._jobs.find(wanted, documents.LISTED_WITHOUT, sort=order(filters), limit=limit))

    def count(self, status: str | None = None, handler: str | None = None, **filters: Unpack[Filters]) -> int:
        """Return how many jobs `list` would return without a limit."""
        return self._jobs.count_documents(listing(status, handler, filters))

    def retry(self, job_id: Any) -> None:
        """Make a failed or cancelled job pending again, with all its attempts before it.

        Raises JobNotFoundError, or JobStateError where the job's status or its `unique_key` does not allow that.
        """
        try:
            done = self._jobs.update_one(documents.retry_filter(job_id), documents.retry_update())
        except DuplicateKeyError as error:
            raise self._taken(error, self.get(job_id)) from None
        if not done.matched_count:
            status = self.get(job_id).get("status")
            raise JobStateError(f"job {job_id} is {status}; only failed and cancelled jobs can be retried")

    def retry_many(self, status: str = "failed", handler: str | None = None, **filters: Unpack[Filters]) -> Retried:
        """Retry all jobs that are `status` (and of `handler`); raises JobStateError for another status than these."""
        return bulk.retry_all(self._jobs, status, handler, filters, self._retried)

    def cancel(self, job_id: Any) -> str:
        """Cancel a job: at once if it is pending, by its supervisor if it is processing.

        Returns the status it has now, `cancelled` or `processing`. Raises JobNotFoundError, or JobStateError if it has
        ended.
        """
        while True:
            of_job = {"_id": {"$eq": job_id}}
            if self._jobs.update_one(
                {**of_job, "status": Status.PENDING.value}, documents.cancel_update()
            ).matched_count:
                return Status.CANCELLED.value
            asked = {"$set": {"cancel_requested": True}}
            if self._jobs.update_one({**of_job, "status": Status.PROCESSING.value}, asked).matched_count:
                return Status.PROCESSING.value
            document = self.get(job_id)
            if document.get("status") not in (Status.PENDING, Status.PROCESSING):  # else it changed in between
                raise JobStateError(f"job {job_id} is {document.get('status')} already and cannot be cancelled")

    def cancel_many(
        self, status: str | None = None, handler: str | None = None, **filters: Unpack[Filters]
    ) -> Cancelled:
        """Cancel all jobs that are `status`: pending, processing, or None for both; as `cancel` does each.

        Raises JobStateError for another status.
        """
        return bulk.cancel_all(self._jobs, status, handler, filters)

    def wait(
        self, job_id: Any, timeout_s: float | None = None, on_change: Callable[[Document], None] | None = None
    ) -> Document:
        """Wait until the job has ended and return its document; `on_change` is called with each state seen before.

        Raises JobNotFoundError (also for a job that is deleted meanwhile), TimeoutError after `timeout_s` seconds.
        A database that does not answer for a while is waited for.
        """
        return Waiting(self._jobs, job_id, self.get).until_ended(timeout_s, on_change or (lambda _document: None))

    def result(self, job: Mapping[str, Any]) -> Document | None:
        """Return the result of a completed job, wherever it is stored; None if its handler returned none.

        Raises JobNotFoundError for a result whose file has been deleted.
        """
        if job.get("result_file") is None:
            return job.get("result")
        try:
            with self._files.open_download_stream(job["result_file"]) as stored:
                text = b"".join(iter(lambda: stored.read(_PIECE_BYTES), b"")).decode("utf-8")
        except NoFile:
            raise JobNotFoundError(f"the result of job {job.get('_id')} has been deleted") from None
        loaded: Document = json_util.loads(text, json_options=documents.JSON)
        return loaded

    def counts(self) -> dict[str, dict[str, int]]:
        """Return how many jobs there are: {handler: {status: jobs}}."""
        return documents.counts_by_handler(list(self._jobs.aggregate(documents.count_pipeline())))

    def supervisors(self) -> Documents:
        """Return the supervisors' heartbeat documents, each with its `heartbeat_age_s` by the database's clock."""
        return list(self._database[SUPERVISORS].aggregate(documents.supervisors_pipeline()))

    def has_supervisor(self) -> bool:
        """Tell whether a supervisor has been heard of lately."""
        return any(documents.is_alive(supervisor) for supervisor in self.supervisors())

    def facts(self, job_id: Any) -> Facts:
        """Return what tells why the job is not running now, for `why.reasons`; raises JobNotFoundError."""
        job = read_job(self._jobs, job_id)
        return facts_of(self._jobs, job, self._payload_kb, self.controls, self.supervisors())

    def now(self) -> datetime:
        """Return the database's own time; ages are counted by it."""
        local: datetime = self._database.client.admin.command("hello")["localTime"]
        return local if local.tzinfo else local.replace(tzinfo=UTC)

    def upload(self, path: Path | str, file_id: Any = None) -> Any:
        """Store the file at `path` in the database, in pieces, and return its id. Raises OSError.

        It stays until it belongs to jobs, by their naming it as `file_id` in the payload, and they are all deleted.
        """
        file_id, metadata = file_id or ObjectId(), files.uploaded_to(self._jobs.name)
        with Path(path).open("rb") as source:
            stored = self._files.open_upload_stream_with_id(file_id, Path(path).name, metadata=metadata)
            # piece by piece: `upload_from_stream` has to end within the deadline of a single call
            with stored:
                while piece := source.read(_PIECE_BYTES):
                    stored.write(piece)
        return file_id

    def discard(self, file_id: Any) -> None:
        """Delete an uploaded file that no job will read; one that is gone already is fine."""
        with contextlib.suppress(NoFile):
            self._files.delete(file_id)

    @property
    def controls(self) -> Controls:
        """Pauses, resizes, drains, and questions about running jobs."""
        return Controls(self._database)

    def running(self, host: str | None = None) -> int:
        """Return how many jobs are being run on `host` (None: anywhere), as far as the leases say."""
        return self._jobs.count_documents(documents.running_on(host))

    def has_jobs_of(self, handler: str) -> bool:
        """Tell whether any job names this handler."""
        return self._jobs.find_one(documents.of_handler(handler), {"_id": 1}) is not None

    def is_empty(self) -> bool:
        """Tell whether there has never been a job."""
        return self._jobs.find_one({}, {"_id": 1}) is None

    def _retried(self, job_id: Any) -> bool:
        try:
            self.retry(job_id)
        except (JobStateError, JobNotFoundError):
            return False
        return True

    def _taken(self, error: DuplicateKeyError, document: Mapping[str, Any]) -> JobStateError:
        """Say which job is in the way."""
        if "unique_key" not in ((error.details or {}).get("keyPattern") or {}):
            return JobStateError(f"a job with the id {str(document['_id'])!r} exists already")
        key = document["unique_key"]
        active = {"unique_key": {"$eq": key}, "status": {"$in": [Status.PENDING.value, Status.PROCESSING.value]}}
        other = self._jobs.find_one(active, {"_id": 1})
        found = f": {other['_id']}" if other else ""
        return JobStateError(f"a job with unique_key {key!r} is already pending or processing{found}")


@contextlib.contextmanager
def reachable(uri: str, data_dir: Path | None, wait_s: float) -> Iterator[str]:
    """Return a connection string for `uri`; for "embedded", the private database's, which runs meanwhile.

    Raises DatabaseUnreachableError where that does not start within `wait_s` seconds.
    """
    if uri != EMBEDDED:
        yield uri
        return
    from supervisor.embedded.mongo import EmbeddedMongo  # noqa: PLC0415 - only a few producers need it

    with EmbeddedMongo(data_dir, wait_s) as mongo:
        yield mongo.uri
