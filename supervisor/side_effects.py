"""What a running job does in the database besides its own record: markers of what should happen once, and other jobs.

Both are refused to an attempt that has lost its lease. Between that look and the write a lease can still be lost; a
marker names the claim that began it, and a job that is enqueued under a key is enqueued once whoever asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

import bson
from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from supervisor.client.calls import carry_out_async
from supervisor.client.operations import Operations
from supervisor.core.job import Job
from supervisor.errors import JobNotFoundError, JobStateError, SupervisorError
from supervisor.registry import Registry
from supervisor.store.once import OnceStore, Standing
from supervisor.store.taking import Owner

Document = dict[str, Any]


class SideEffects:
    """Serves requests of running jobs, for one supervisor."""

    def __init__(
        self,
        database: AsyncDatabase[Document],
        collection: str,
        owner: Owner,
        registry: Registry,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._collection = collection
        self._owner = owner
        self._registry = registry
        self._now = now
        self._once = OnceStore(database, collection)

    async def serve(self, request: Document, job: Job, payload_kb: int) -> Document:
        """Return the fields of the reply to `request` of `job`; `refused` is an error of ours for the handler.

        Raises PyMongoError, and KeyError or TypeError for nonsense.
        """
        try:
            match request["call"]:
                case "begin_once":
                    return {"standing": (await self._once.begin(str(request["key"]), job, self._owner)).value}
                case "end_once":
                    key, happened = str(request["key"]), bool(request["happened"])
                    return {"ours": await self._once.end(key, job, happened=happened)}
                case _:
                    return {"job_id": await self._enqueue(request, job, payload_kb)}
        except SupervisorError as error:
            return {"refused": {"type": type(error).__name__, "message": str(error)}}

    async def _enqueue(self, request: Document, job: Job, payload_kb: int) -> Any:
        if not await self._once.holds_lease(job, self._owner):
            raise JobStateError(f"{Standing.LOST.value}: somebody else may be running job {job.id}")
        fields = dict(request["fields"])
        inherited: Document = {"trace": job.trace}
        if request.get("key") is not None:
            inherited["_id"] = id_under(job.id, str(request["key"]))
        operations = Operations(self._collection, self._registry, payload_kb)
        wanted = {name: value for name, value in inherited.items() if value is not None}
        document, _ = operations.checked_fields({**wanted, **fields}, self._now())
        if request.get("key") is not None and await self._is_there(operations, document["_id"]):
            return document["_id"]  # an earlier attempt has done it
        return await carry_out_async(self._database, operations.enqueue(document))

    async def _is_there(self, operations: Operations, job_id: Any) -> bool:
        try:
            await carry_out_async(self._database, operations.get(job_id, small=True))
        except JobNotFoundError:
            return False
        return True


def id_under(job_id: Any, key: str) -> ObjectId:
    """Return the id of what a job enqueues under `key`: the same for each of its attempts."""
    return ObjectId(hashlib.sha256(bson.encode({"job": job_id, "key": key})).digest()[:12])
