"""Who is running: one heartbeat document per supervisor, and which of them are dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from bson import Binary
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from supervisor.store.patience import first_line

COLLECTION = "supervisors"


class PresenceStore:
    """The heartbeat document of one supervisor, and a look at the others'."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], supervisor: str) -> None:
        self.supervisor = supervisor
        self._supervisors = database[COLLECTION]

    async def beat(self, report: dict[str, Any]) -> None:
        """Write the heartbeat; `report` holds the fields of the contract except the times. Raises PyMongoError."""
        times = {"heartbeat_at": "$$NOW", "started_at": {"$ifNull": ["$started_at", "$$NOW"]}}
        fields = {key: {"$literal": value} for key, value in report.items()}
        await self._supervisors.update_one({"_id": self.supervisor}, [{"$set": {**fields, **times}}], upsert=True)

    async def leave(self) -> None:
        """Remove the heartbeat document, at a clean exit."""
        await self._supervisors.delete_one({"_id": self.supervisor})

    async def on_host(self, host: str) -> list[dict[str, Any]]:
        """Return the other heartbeat documents of this host."""
        return await self._supervisors.find({"host": host, "_id": {"$ne": self.supervisor}}).to_list()

    async def end_session(self, document: Mapping[str, Any]) -> str | None:
        """End the session of a supervisor that is known to be dead; return why the database refuses, if it does.

        A transaction that it had begun keeps its job from everybody until the server ends it, which takes a minute.
        Raises PyMongoError.
        """
        try:
            session = {"id": Binary.from_uuid(UUID(str(document.get("session"))))}
        except ValueError:  # an older version wrote none
            return None
        try:
            await self._supervisors.database.client.admin.command("killSessions", [session])
        except OperationFailure as error:
            return first_line(error)
        return None

    async def forget(self, supervisor: str) -> None:
        """Remove the heartbeat document of a supervisor that is known to be dead."""
        await self._supervisors.delete_one({"_id": supervisor})

    async def forget_silent(self, silent_s: float) -> int:
        """Remove documents without a heartbeat for `silent_s` seconds; return how many."""
        long_ago = {"$subtract": ["$$NOW", int(silent_s * 1000)]}
        silent = {"heartbeat_at": {"$type": "date"}, "$expr": {"$lt": ["$heartbeat_at", long_ago]}}
        return (await self._supervisors.delete_many(silent)).deleted_count
