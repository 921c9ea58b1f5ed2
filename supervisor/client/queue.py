"""`Queue`: how a program enqueues jobs, looks at them, waits for them, retries and cancels them.

    with Queue.connect("mongodb://…", registry=REGISTRY) as queue:
        job_id = queue.enqueue("ocr", {"source": {"file_id": queue.upload(Path("scan.pdf"))}})
        job = queue.wait(job_id, timeout_s=60)
        text = queue.result(job)["text"]

Besides the errors each method names, all of them raise pymongo's PyMongoError when the database does not answer.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack, overload

from bson import ObjectId, json_util
from gridfs import GridFSBucket
from gridfs.errors import NoFile
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.read_concern import ReadConcern

from supervisor.client import batches, bulk, documents
from supervisor.client.bulk import Cancelled, Retried
from supervisor.client.calls import Steps, carry_out
from supervisor.client.filters import Filters
from supervisor.client.new_jobs import JobOptions
from supervisor.client.operations import Handler, Operations, Payload
from supervisor.client.waiting import Alarm, places_for_streams, until_ended
from supervisor.codec import TOLERANT
from supervisor.core import files
from supervisor.core.batch import Batch
from supervisor.errors import JobNotFoundError, JobStateError
from supervisor.registry import Registry
from supervisor.store.connection import CALL_TIMEOUT_S, MAJORITY, connect_sync
from supervisor.store.files import BUCKET

Document = dict[str, Any]
Documents = list[Document]
Answer = TypeVar("Answer")
Model = TypeVar("Model")
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
        self._operations = Operations(collection, registry, payload_kb)
        self._streams = places_for_streams(client)

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
    ) -> Iterator[Self]:
        """Connect for the length of a `with` block, waiting `wait_s` seconds at most.

        `uri` may be "embedded": the private database in `data_dir` (None: the user's own), shared with a supervisor
        that runs on it. Raises DatabaseRefusedError or DatabaseUnreachableError.
        """
        with (
            reachable(uri, data_dir, wait_s) as real_uri,
            connect_sync(real_uri, wait_s=wait_s) as client,
        ):
            yield cls(client, database, collection, registry, payload_kb)

    @overload
    def enqueue(
        self,
        handler: Handler[Model],
        payload: Model,
        *,
        session: ClientSession | None = None,
        **options: Unpack[JobOptions],
    ) -> Any: ...

    @overload
    def enqueue(
        self,
        handler: str,
        payload: Payload = None,
        *,
        session: ClientSession | None = None,
        **options: Unpack[JobOptions],
    ) -> Any: ...

    def enqueue(
        self, handler: Any, payload: Any = None, *, session: ClientSession | None = None, **options: Unpack[JobOptions]
    ) -> Any:
        """Insert a job and return its id. `handler` is a name, or the handler itself, whose payload type then counts.

        `options` are the producer's fields, and `job_id` for an id of your own. With `session`, the job is a part of
        its transaction: no job without the rest. Raises UsageError, UnknownHandlerError or PayloadError for a job that
        could not run, JobStateError where its `unique_key` or id is taken.
        """
        return self._do(self._operations.enqueue(self.check(handler, payload, **options), session))

    def enqueue_many(
        self,
        handler: str | Callable[..., Any],
        payloads: Iterable[Payload],
        *,
        session: ClientSession | None = None,
        **options: Unpack[JobOptions],
    ) -> builtins.list[Any]:
        """Insert a job for each payload, all checked before the first is inserted, and return the ids in order.

        Raises as `enqueue` does, with the number of the payload.
        """
        return self._do(self._operations.enqueue_alike(handler, payloads, options, datetime.now(UTC), session))

    def enqueue_batch(
        self,
        jobs: Iterable[Mapping[str, Any]],
        *,
        on_end: Mapping[str, Any] | None = None,
        batch_id: Any = None,
        session: ClientSession | None = None,
    ) -> Batch:
        """Insert jobs that belong together; each is `{handler, payload, …}` with the producer's fields.

        `on_end` is a job of the same form, enqueued exactly once when all have ended, in whatever way; its payload gets
        the `batch_id`. Nothing is inserted unless all are sound and none is there already. Raises as `enqueue` does,
        with the number of the job, and JobStateError where there is a batch with this id. One that was begun with this
        id and is not whole, since the producer died or the database fell silent, is gone on with.
        """
        return self._do(batches.make(self._operations, batch_id, jobs, on_end, session))

    def batch(self, batch_id: Any) -> Batch:
        """Return the progress of a batch; raises JobNotFoundError where no job has this `batch_id`."""
        return self._do(batches.look(self._operations, batch_id))

    def check(
        self, handler: str | Callable[..., Any], payload: Payload = None, **options: Unpack[JobOptions]
    ) -> Document:
        """Return the document that `enqueue` would insert; raises as it does, without the database."""
        document: Document = self._operations.checked(handler, payload, options, datetime.now(UTC))
        return document

    def get(self, job_id: Any, *, small: bool = False) -> Document:
        """Return the document of a job, whole or, if `small`, as a listing has it; raises JobNotFoundError."""
        return self._do(self._operations.get(job_id, small=small))

    def find_id(self, text: str) -> Any:
        """Return the id of the job that `text` means, as on the command line; raises JobNotFoundError."""
        return self._do(self._operations.find_id(text))

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
        return self._do(self._operations.list(status, handler, limit, after, filters))

    def retry(self, job_id: Any) -> None:
        """Make a failed or cancelled job pending again, with all its attempts before it.

        Raises JobNotFoundError, or JobStateError where the job's status or its `unique_key` does not allow that.
        """
        self._do(self._operations.retry(job_id))

    def retry_many(self, status: str = "failed", handler: str | None = None, **filters: Unpack[Filters]) -> Retried:
        """Retry all jobs that are `status` (and of `handler`); raises JobStateError for another status than these."""
        forget = self._operations.forget_counts
        return bulk.retry_all(self._jobs, status, handler, filters, self._retried, lambda page: self._do(forget(page)))

    def cancel(self, job_id: Any) -> str:
        """Cancel a job: at once if it is pending, by its supervisor if it is processing.

        Returns the status it has now, `cancelled` or `processing`. Raises JobNotFoundError, or JobStateError if it has
        ended.
        """
        return self._do(self._operations.cancel(job_id))

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
        steps = until_ended(job_id, lambda: self._operations.get(job_id), timeout_s)
        with Alarm(self._jobs, job_id, self._streams) as alarm:
            return carry_out(self._database, steps, alarm.wait, on_change or (lambda _document: None))

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
        return self._do(self._operations.counts())

    def activity(self) -> Document:
        """Return `{active_jobs, pending_jobs, oldest_pending_s}`: how long the first of the due ones has been due."""
        return self._do(self._operations.activity())

    def supervisors(self) -> Documents:
        """Return the supervisors' heartbeat documents, each with its `heartbeat_age_s` by the database's clock."""
        return self._do(self._operations.supervisors())

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

    def _retried(self, job_id: Any) -> bool:
        try:
            self.retry(job_id)
        except (JobStateError, JobNotFoundError):
            return False
        return True

    def _do(self, steps: Steps[Answer]) -> Answer:
        return carry_out(self._database, steps)


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
