"""How many jobs wait, asked every few seconds: from indexes alone, and never to the end of a long queue."""

from __future__ import annotations

from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from supervisor.core.job import Status
from supervisor.core.outcome import ErrorKind

INDEX = "quarantined"
"""Without it, all that ever failed would have to be read."""
MOST = 10_000
"""Nothing is counted beyond; a count of one more says that there are more."""
QUARANTINED = {"status": Status.FAILED.value, "error.kind": ErrorKind.POISON.value}


class CountStore:
    """Counts the jobs of one collection."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str) -> None:
        self._jobs = database[collection]

    async def pending(self) -> int:
        """Return how many jobs are pending, `MOST` + 1 at most. Raises PyMongoError."""
        return await self._jobs.count_documents({"status": Status.PENDING.value}, limit=MOST + 1)

    async def quarantined(self) -> int | None:
        """Return how many jobs are quarantined, `MOST` + 1 at most; None without the index, which `init` makes.

        Raises PyMongoError.
        """
        try:
            return await self._jobs.count_documents(QUARANTINED, limit=MOST + 1, hint=INDEX)
        except OperationFailure:
            return None
