"""Ending batches: enqueuing the job that a batch wants at its end, exactly once, whoever dies in between."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from supervisor.core.batch import COLLECTION, follower_of
from supervisor.core.job import ACTIVE

Document = dict[str, Any]
_TO_END = {"on_end": {"$exists": True, "$type": "object"}, "ended_at": None, "open": False}
_MOST = 1000


class BatchStore:
    """The batches of one collection of jobs, as a supervisor sees them."""

    def __init__(self, database: AsyncDatabase[Document], collection: str) -> None:
        self._jobs = database[collection]
        self._batches = database[COLLECTION]

    async def to_end(self, ids: Sequence[Any] | None = None) -> list[Document]:
        """Return batches (of these ids) whose jobs are all enqueued and whose last job is still to come."""
        wanted: Document = {"collection": self._jobs.name, **_TO_END}
        if ids is not None:
            wanted["_id"] = {"$in": ids}
        return await self._batches.find(wanted, limit=_MOST).to_list()

    async def end_if_over(self, batch: Document) -> bool:
        """End a batch of which no job is pending or processing; tell whether that is so. Raises PyMongoError.

        The job at the end has an id of its own since the batch was made, so a second one cannot be inserted.
        """
        active = {"batch_id": {"$eq": batch["_id"]}, "status": {"$in": ACTIVE}}
        if await self._jobs.find_one(active, {"_id": 1}) is not None:
            return False
        with contextlib.suppress(DuplicateKeyError):  # somebody else was faster, or its `unique_key` is taken
            await self._jobs.insert_one(follower_of(batch))
        await self._batches.update_one({"_id": {"$eq": batch["_id"]}}, [{"$set": {"ended_at": "$$NOW"}}])
        return True

    async def forget_empty(self, older_than_days: float) -> int:
        """Delete batches of which no job is left; return how many. Raises PyMongoError."""
        long_ago = {"$subtract": ["$$NOW", int(older_than_days * 86_400_000)]}
        old: Document = {"collection": self._jobs.name, "created_at": {"$type": "date"}}
        old["$expr"] = {"$lt": ["$created_at", long_ago]}
        found = await self._batches.find(old, {"_id": 1}, limit=_MOST).to_list()
        empty = [each["_id"] for each in found if await self._jobs.find_one({"batch_id": {"$eq": each["_id"]}}) is None]
        return (await self._batches.delete_many({"_id": {"$in": empty}})).deleted_count if empty else 0
