"""The limit of the ledger: claim and complete in bulk, with the plain driver and no execution.

The same documents in a collection with the same indexes and validator, majority and journal. What a queue in MongoDB
costs when nothing else does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import AsyncMongoClient, MongoClient, UpdateOne
from pymongo.write_concern import WriteConcern

from supervisor.store import schema

TOGETHER = 1000
LATER = datetime.now(UTC) + timedelta(days=1)
Document = dict[str, Any]


class Ledger:
    """Claims and completes, one group after the other."""

    name = "ledger"

    def __init__(self, client: MongoClient[Document], uri: str, database: str) -> None:
        asyncio.run(_make_collection(uri, database))
        self._jobs = client[database].get_collection("jobs", write_concern=WriteConcern(w="majority", j=True))

    def run(self, job: Callable[[Document], Any], payloads: Sequence[Document]) -> float:
        """Return the seconds from the first claim to the last completion."""
        self._jobs.delete_many({})
        jobs = [{"handler": job.__name__, "status": "pending", "payload": payload} for payload in payloads]
        self._jobs.insert_many(jobs, ordered=False)
        begun, done = time.monotonic(), 0
        while claimed := self._claim(job.__name__):
            done += self._complete(claimed)
        assert done == len(payloads), f"{done} of {len(payloads)}"
        return time.monotonic() - begun

    def _claim(self, handler: str) -> list[Any]:
        order = [("status", 1), ("handler", 1), ("priority", -1), ("run_at", 1), ("_id", 1)]
        due = self._jobs.find({"status": "pending", "handler": handler}, {"_id": 1}).sort(order).limit(TOGETHER)
        ids = [each["_id"] for each in due]
        if not ids:
            return []
        lease = {"token": 1, "supervisor": "limit", "host": "limit", "slot": 0, "pid": 1, "expires_at": LATER}
        taken = {"$set": {"status": "processing", "attempt": 1, "claims": 1, "lease": lease}}
        now = {"$currentDate": {"started_at": True}}
        self._jobs.bulk_write(
            [UpdateOne({"_id": i, "status": "pending"}, {**taken, **now}) for i in ids], ordered=False
        )
        return [each["_id"] for each in self._jobs.find({"_id": {"$in": ids}}, {"payload": 1})]

    def _complete(self, ids: Sequence[Any]) -> int:
        ended = {"$set": {"status": "completed", "result": {}, "usage": {"run_s": 0.0}}, "$unset": {"lease": True}}
        now = {"$currentDate": {"finished_at": True}}
        updates = [UpdateOne({"_id": i, "lease.token": 1}, {**ended, **now}) for i in ids]
        return self._jobs.bulk_write(updates, ordered=False).matched_count


async def _make_collection(uri: str, database: str) -> None:
    async with AsyncMongoClient[Document](uri) as client:
        await schema.ensure(client[database], "jobs")
