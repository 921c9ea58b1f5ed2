"""`AsyncQueue`: what `Queue` does, for an event loop.

queue = AsyncQueue(AsyncMongoClient("mongodb://…"), registry=REGISTRY)
job_id = await queue.enqueue("ocr", {"source": {"file_id": await queue.upload(stream, "scan.pdf")}})
async for job in queue.follow(job_id):
    print(job["status"], job.get("progress"))
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, Unpack, overload

from bson import ObjectId, json_util
from gridfs import NoFile
from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.read_concern import ReadConcern

from supervisor.client import batches, documents, storing
from supervisor.client.calls import Call, Carrier, InTurn, Seen, Sleep, Steps, answer_async, carry_out_async
from supervisor.client.filters import Filters
from supervisor.client.new_jobs import JobOptions
from supervisor.client.operations import Handler, Operations, Payload
from supervisor.client.waiting import AsyncAlarm, places_for_streams, until_ended
from supervisor.codec import TOLERANT
from supervisor.core import files
from supervisor.core.batch import Batch
from supervisor.errors import JobNotFoundError
from supervisor.registry import Registry
from supervisor.store.connection import MAJORITY
from supervisor.store.files import BUCKET

Document = dict[str, Any]
Documents = list[Document]
Answer = TypeVar("Answer")
Model = TypeVar("Model")


class AsyncQueue:
    """The jobs of one collection, for producers in an event loop. Safe to share between tasks, as its client is.

    `client` is the application's own. With a `registry`, handlers must be registered and their payloads fit; without
    one both are taken on trust. `payload_kb` is the largest payload, in units of 1,024 bytes. All methods raise
    pymongo's PyMongoError when the database does not answer; besides, as those of `Queue` do.
    """

    def __init__(
        self,
        client: AsyncMongoClient[Document],
        database: str = "supervisor",
        collection: str = "jobs",
        registry: Registry | None = None,
        payload_kb: int = 1024,
    ) -> None:
        # only what a majority has is shown, so that no failover takes an answer back
        self._database = client.get_database(
            database, TOLERANT, write_concern=MAJORITY, read_concern=ReadConcern("majority")
        )
        self._files = AsyncGridFSBucket(self._database, bucket_name=BUCKET)
        self._operations = Operations(collection, registry, payload_kb)
        self._streams = places_for_streams(client)

    @property
    def registry(self) -> Registry | None:
        """The handlers that jobs are checked against."""
        return self._operations.registry

    @overload
    async def enqueue(
        self,
        handler: Handler[Model],
        payload: Model,
        *,
        session: AsyncClientSession | None = None,
        **options: Unpack[JobOptions],
    ) -> Any: ...

    @overload
    async def enqueue(
        self,
        handler: str,
        payload: Payload = None,
        *,
        session: AsyncClientSession | None = None,
        **options: Unpack[JobOptions],
    ) -> Any: ...

    async def enqueue(
        self,
        handler: Any,
        payload: Any = None,
        *,
        session: AsyncClientSession | None = None,
        **options: Unpack[JobOptions],
    ) -> Any:
        """Insert a job and return its id. `handler` is a name, or the handler itself, whose payload type then counts.

        `options` are the producer's fields, and `job_id` for an id of your own. With `session`, the job is a part of
        its transaction: no job without the rest. Raises UsageError, UnknownHandlerError or PayloadError for a job that
        could not run, JobStateError where its `unique_key` or id is taken.
        """
        document = self._operations.checked(handler, payload, options, datetime.now(UTC))
        return await self._do(self._operations.enqueue(document, session))

    def check(
        self, handler: str | Callable[..., Any], payload: Payload = None, **options: Unpack[JobOptions]
    ) -> Document:
        """Return the document that `enqueue` would insert; raises as it does, without the database."""
        document: Document = self._operations.checked(handler, payload, options, datetime.now(UTC))
        return document

    async def enqueue_many(
        self,
        handler: str | Callable[..., Any],
        payloads: Iterable[Payload],
        *,
        session: AsyncClientSession | None = None,
        **options: Unpack[JobOptions],
    ) -> list[Any]:
        """Insert a job for each payload, all checked before the first is inserted, and return the ids in order."""
        return await self._do(self._operations.enqueue_alike(handler, payloads, options, datetime.now(UTC), session))

    async def enqueue_batch(
        self,
        jobs: Iterable[Mapping[str, Any]],
        *,
        on_end: Mapping[str, Any] | None = None,
        batch_id: Any = None,
        session: AsyncClientSession | None = None,
    ) -> Batch:
        """Insert jobs that belong together; each is `{handler, payload, …}` with the producer's fields.

        `on_end` is a job of the same form, enqueued exactly once when all have ended, in whatever way; its payload gets
        the `batch_id`. Nothing is inserted unless all are sound and none is there already. With a `batch_id` of your
        own, a call that failed half way may be repeated. Raises as `Queue.enqueue_batch` does.
        """
        return await self._do(batches.make(self._operations, batch_id, jobs, on_end, session))

    async def batch(self, batch_id: Any) -> Batch:
        """Return the progress of a batch; raises JobNotFoundError where no job has this `batch_id`."""
        return await self._do(batches.look(self._operations, batch_id))

    async def get(self, job_id: Any, *, small: bool = False) -> Document:
        """Return the document of a job, whole or, if `small`, as a listing has it; raises JobNotFoundError."""
        return await self._do(self._operations.get(job_id, small=small))

    async def find_id(self, text: str) -> Any:
        """Return the id of the job that `text` means, as on the command line; raises JobNotFoundError."""
        return await self._do(self._operations.find_id(text))

    async def list(
        self,
        status: str | None = None,
        handler: str | None = None,
        limit: int = 50,
        after: Any = None,
        **filters: Unpack[Filters],
    ) -> Documents:
        """Return at most `limit` jobs without payload, result and attempts, the newest id first.

        `after` is the last id of the page before. Raises ValueError for a status that does not exist.
        """
        return await self._do(self._operations.list(status, handler, limit, after, filters))

    async def retry(self, job_id: Any) -> None:
        """Make a failed or cancelled job pending again; raises JobNotFoundError or JobStateError."""
        await self._do(self._operations.retry(job_id))

    async def cancel(self, job_id: Any) -> str:
        """Cancel a job and return the status it has now; raises JobNotFoundError or JobStateError."""
        return await self._do(self._operations.cancel(job_id))

    async def counts(self) -> dict[str, dict[str, int]]:
        """Return how many jobs there are: {handler: {status: jobs}}."""
        return await self._do(self._operations.counts())

    async def activity(self) -> Document:
        """Return `{active_jobs, pending_jobs, oldest_pending_s}`: how long the first of the due ones has been due."""
        return await self._do(self._operations.activity())

    async def ping(self) -> None:
        """Raise PyMongoError unless the jobs can be read."""
        await self._do(self._operations.ping())

    async def supervisors(self) -> Documents:
        """Return the supervisors' heartbeat documents, each with its `heartbeat_age_s` by the database's clock."""
        return await self._do(self._operations.supervisors())

    async def wait(self, job_id: Any, timeout_s: float | None = None) -> Document:
        """Wait until the job has ended and return its document; raises as `Queue.wait` does."""
        states = [document async for document in self.follow(job_id, timeout_s) if documents.has_ended(document)]
        return states[-1]

    async def follow(
        self, job_id: Any, timeout_s: float | None = None, *, small: bool = False
    ) -> AsyncIterator[Document]:
        """Yield the document of the job now, at each change that is seen, and last of all when it has ended.

        If `small`, it is as a listing has it. Raises JobNotFoundError (also for a job that is deleted meanwhile),
        TimeoutError after `timeout_s` seconds. A database that does not answer for a while is waited for.
        """
        async with AsyncAlarm(self._database[self._operations.jobs], job_id, self._streams) as alarm:
            carrier = Carrier(until_ended(job_id, lambda: self._operations.get(job_id, small=small), timeout_s))
            while (wanted := carrier.wanted) is not None:
                match wanted:
                    case Call() | InTurn():
                        await answer_async(self._database, carrier, wanted)
                    case Seen():
                        yield wanted.document
                        carrier.answer()
                    case Sleep():
                        await alarm.wait(wanted.seconds)
                        carrier.answer()
        yield carrier.result

    async def result(self, job: Mapping[str, Any]) -> Document | None:
        """Return the result of a completed job, also one that is stored in a file. Raises JobNotFoundError."""
        if job.get("result_file") is None:
            inline: Document | None = job.get("result")
            return inline
        try:
            async with await self._files.open_download_stream(job["result_file"]) as stored:
                text = (await stored.read()).decode("utf-8")
        except NoFile:
            raise JobNotFoundError(f"the result of job {job.get('_id')} has been deleted") from None
        loaded: Document = json_util.loads(text, json_options=documents.JSON)
        return loaded

    async def upload(self, pieces: AsyncIterable[bytes], name: str, file_id: Any = None, *, job_id: Any = None) -> Any:
        """Store what `pieces` yields as a file, piece by piece, and return its id.

        It stays until it belongs to jobs, by their naming it as `file_id` in the payload, and they are all deleted.
        With `job_id` it belongs to that job from the start: if the job never comes, the file goes after an hour.
        What `pieces` raises comes out, and nothing is stored then.
        """
        file_id, metadata = file_id or ObjectId(), files.uploaded_to(self._operations.jobs, job_id)
        await storing.store(self._database, pieces, file_id, name, metadata)
        return file_id

    async def discard(self, file_id: Any) -> None:
        """Delete an uploaded file that no job will read; one that is gone already is fine."""
        try:
            await self._files.delete(file_id)
        except NoFile:
            return

    async def _do(self, steps: Steps[Answer]) -> Answer:
        return await carry_out_async(self._database, steps)
