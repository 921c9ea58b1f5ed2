"""Markers of side effects that should happen once: was this notification sent already?

    {_id: "jobs:welcome:42", job_id, token, state: "begun" | "done", at}

A marker is begun before the side effect and done after it. Who finds one that was begun by an attempt which is no more
knows that the side effect may have happened or not; nobody can know more than that.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError

from supervisor.core.job import Job
from supervisor.store.records import fence
from supervisor.store.taking import Owner

COLLECTION = "once"
Document = dict[str, Any]


class Standing(StrEnum):
    """How a marker stands for who wants to begin it."""

    FIRST = "first"
    """Nobody has begun it: it is ours now."""
    DONE = "done"
    """It has happened."""
    UNKNOWN = "unknown"
    """An attempt that is no more had begun it: it is ours now."""
    BUSY = "busy"
    """An attempt that is alive is at it."""
    LOST = "lost"
    """Our own lease is lost: somebody else may be running the job."""


class OnceStore:
    """The markers of one collection of jobs."""

    def __init__(self, database: AsyncDatabase[Document], collection: str) -> None:
        self._jobs = database[collection]
        self._markers = database[COLLECTION]

    async def begin(self, key: str, job: Job, owner: Owner) -> Standing:
        """Begin a marker for a running attempt, if it can be. Raises PyMongoError."""
        if not await self.holds_lease(job, owner):
            return Standing.LOST
        ours = {"job_id": {"$literal": job.id}, "token": job.token, "state": "begun", "at": "$$NOW"}
        try:
            new = {"_id": self._id(key), "state": {"$exists": False}}
            await self._markers.update_one(new, [{"$set": ours}], upsert=True)
        except DuplicateKeyError:
            return await self._take_over(key, job, ours)
        return Standing.FIRST

    async def holds_lease(self, job: Job, owner: Owner) -> bool:
        """Tell whether the claim of this attempt still holds. Raises PyMongoError."""
        return await self._jobs.find_one(fence(job, owner.supervisor), {"_id": 1}) is not None

    async def _take_over(self, key: str, job: Job, ours: Document) -> Standing:
        """Look at a marker that is there; begin it again if whoever began it is gone."""
        marker = await self._markers.find_one({"_id": self._id(key)})
        if marker is None:  # undone at this moment
            return Standing.BUSY
        if marker.get("state") == "done":
            return Standing.DONE
        if await self._is_alive(marker, job):
            return Standing.BUSY
        same = {"_id": self._id(key), "state": marker.get("state"), "token": marker.get("token")}
        taken = await self._markers.update_one({**same, "job_id": {"$eq": marker.get("job_id")}}, [{"$set": ours}])
        return Standing.UNKNOWN if taken.matched_count else Standing.BUSY

    async def _is_alive(self, marker: Document, job: Job) -> bool:
        """Tell whether the attempt that began `marker` still runs; our own, which begins it twice, does not count."""
        claim = {"_id": {"$eq": marker.get("job_id")}, "status": "processing", "lease.token": marker.get("token")}
        found = await self._jobs.find_one(claim, {"_id": 1, "lease.token": 1})
        return found is not None and (found["_id"], found["lease"]["token"]) != (job.id, job.token)

    async def end(self, key: str, job: Job, *, happened: bool) -> bool:
        """Say whether the side effect has happened; False if the marker is not ours any more. Raises PyMongoError."""
        ours = {"_id": self._id(key), "job_id": {"$eq": job.id}, "token": job.token}
        if not happened:
            return bool((await self._markers.delete_one({**ours, "state": "begun"})).deleted_count)
        done = await self._markers.update_one(ours, [{"$set": {"state": "done", "at": "$$NOW"}}])
        return bool(done.matched_count)

    async def forget(self, older_than_days: float) -> int:
        """Delete markers that are older; return how many. Raises PyMongoError."""
        long_ago = {"$subtract": ["$$NOW", int(older_than_days * 86_400_000)]}
        old = {"at": {"$type": "date"}, "$expr": {"$lt": ["$at", long_ago]}}
        return (await self._markers.delete_many(old)).deleted_count

    def _id(self, key: str) -> str:
        return f"{self._jobs.name}:{key}"
