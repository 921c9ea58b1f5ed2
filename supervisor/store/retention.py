"""Deleting ended jobs that are past their retention, with their files, and files that belong to nobody."""

from __future__ import annotations

from typing import Any

from bson import ObjectId
from gridfs.asynchronous import AsyncGridFSBucket
from gridfs.errors import NoFile
from pymongo.asynchronous.database import AsyncDatabase

from supervisor.config.settings import RetentionSettings
from supervisor.core.job import Status
from supervisor.core.outcome import ErrorKind
from supervisor.store.batches import BatchStore
from supervisor.store.files import BUCKET
from supervisor.store.once import OnceStore
from supervisor.store.orphans import OrphanStore

_AT_ONCE = 500
_DAY_MS = 86_400_000
_EMPTY_BATCH_DAYS = 1.0
"""Age of a batch without jobs that is deleted; one whose jobs are still being inserted is younger."""


class RetentionStore:
    """Removes what nobody needs any more. Safe to run on every supervisor at any time."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str) -> None:
        self._jobs = database[collection]
        self._files = AsyncGridFSBucket(database, bucket_name=BUCKET)
        self._orphans = OrphanStore(database, collection)
        self._batches = BatchStore(database, collection)
        self._once = OnceStore(database, collection)

    async def apply(self, retention: RetentionSettings) -> dict[str, int]:
        """Delete jobs older than `retention` says; return how many of each kind, how many files were nobody's,
        how many batches had no job left, and how many markers of `job.once` were old.

        Raises PyMongoError.
        """
        return {
            "completed": await self._delete([Status.COMPLETED], retention.completed_days),
            "failed": await self._delete([Status.FAILED, Status.CANCELLED], retention.failed_days),
            "orphaned_files": await self._orphans.sweep(),
            "batches": await self._batches.forget_empty(_EMPTY_BATCH_DAYS),
            "markers": await self._once.forget(retention.once_days) if retention.once_days else 0,
        }

    async def _delete(self, statuses: list[Status], days: float) -> int:
        if not days:
            return 0
        limit = {"$subtract": ["$$NOW", int(days * _DAY_MS)]}
        past = {
            "status": {"$in": [status.value for status in statuses]},
            "finished_at": {"$exists": True},  # else the index is not used
            # never claimed and invalid: a malformed document, which is its producer's to look at and delete
            "$nor": [{"error.kind": ErrorKind.INVALID.value, "claims": {"$in": [0, None]}}],
            # by the expression's type, which is not met by an array that holds a date
            "$expr": {
                "$and": [{"$eq": [{"$type": "$finished_at"}, "date"]}, {"$lt": ["$finished_at", limit]}],
            },
        }
        deleted = 0
        while documents := await self._jobs.find(past, {"result_file": 1}, limit=_AT_ONCE).to_list():
            for document in documents:
                await self._delete_file(document.get("result_file"))
            ids = [document["_id"] for document in documents]
            gone = await self._jobs.delete_many({"_id": {"$in": ids}, "status": past["status"]})
            deleted += gone.deleted_count
            await self._orphans.delete_of(ids)
            if not gone.deleted_count:  # retried meanwhile; the next run looks again
                break
        return deleted

    async def _delete_file(self, file_id: Any) -> None:
        if isinstance(file_id, ObjectId):
            try:
                await self._files.delete(file_id)
            except NoFile:
                return
