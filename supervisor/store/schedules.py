"""The collection `schedules`: how far each schedule has come, so that a run time makes one job whoever makes it.

    {_id: "jobs:nightly-cleanup", cron, timezone, since, tick, job_id, made_at}

`tick` is the run time that made the latest job, `since` when the cron line was first seen; both are in the database's
time. A job is inserted in the same transaction that moves `tick` on, and `tick` is moved only from where it was seen
and only to a time that has come: of many supervisors one makes the job, and one that dies half way has done nothing.
The job's id is that of its run time, which keeps it to one where somebody has deleted the document here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo import timeout
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from supervisor.config.settings import ScheduleSettings
from supervisor.core.job import Status
from supervisor.store.connection import CALL_TIMEOUT_S

COLLECTION = "schedules"
Document = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """A schedule's document as it was at `now`, in the database's time."""

    since: datetime
    tick: Any
    """As it stands there: anybody may write into the collection."""
    now: datetime

    @property
    def done(self) -> datetime:
        """The time up to which there is nothing left to do."""
        return max(self.since, self.tick) if isinstance(self.tick, datetime) else self.since


class ScheduleStore:
    """The schedules of one collection of jobs; a database may hold several. All methods raise PyMongoError."""

    def __init__(self, database: AsyncDatabase[Document], collection: str) -> None:
        # what an election may undo is no tick
        self._schedules = database.get_collection(COLLECTION, read_concern=ReadConcern("majority"))
        self._jobs = database[collection]
        # one for all: a session's next transaction ends one that a lost reply has left open, and that would block
        self._session = database.client.start_session(causal_consistency=False)
        self._transaction = asyncio.Lock()

    async def watch(self, schedule: ScheduleSettings) -> None:
        """Begin with a schedule: where its cron line or its time zone is new, with what comes from now on."""
        clock = {"cron": {"$literal": schedule.cron}, "timezone": {"$literal": schedule.timezone}}
        known = [{"$eq": [f"${key}", value]} for key, value in clock.items()] + [{"$eq": [{"$type": "$since"}, "date"]}]
        since = {"$cond": [{"$and": known}, "$since", "$$NOW"]}
        await self._schedules.update_one(self._is(schedule), [{"$set": {**clock, "since": since}}], upsert=True)

    async def forget(self, schedule: ScheduleSettings) -> None:
        """Note that a schedule has been taken out: when it comes back, it begins anew."""
        clock = {"cron": {"$eq": schedule.cron}, "timezone": {"$eq": schedule.timezone}}
        await self._schedules.update_one({**self._is(schedule), **clock}, {"$unset": {"cron": "", "timezone": ""}})

    async def look(self, schedules: Sequence[ScheduleSettings]) -> dict[str, Seen]:
        """Return the schedules by name, without those that have no document any more."""
        names = {schedule_id(self._jobs.name, schedule.name): schedule.name for schedule in schedules}
        timed: list[Document] = [{"$match": {"_id": {"$in": list(names)}}}, {"$set": {"now": "$$NOW"}}]
        found = await (await self._schedules.aggregate(timed)).to_list()
        return {
            names[each["_id"]]: Seen(each["since"], each.get("tick"), each["now"])
            for each in found
            if isinstance(each.get("since"), datetime)
        }

    async def make(self, schedule: ScheduleSettings, seen: Seen, tick: datetime) -> Any:
        """Insert the job of `tick` if nobody has since `seen`, and return its id; None if somebody has."""
        job = scheduled_job(schedule, tick, seen.now)
        fields = {"cron": schedule.cron, "timezone": schedule.timezone, "tick": tick, "job_id": job["_id"]}
        literals = {key: {"$literal": value} for key, value in fields.items()}
        # what was seen first under a clock that was ahead would keep all later ones from coming due
        moved = [{"$set": {**literals, "made_at": "$$NOW", "since": {"$min": ["$since", tick]}}}]
        filter_ = {**self._is(schedule), "tick": {"$eq": seen.tick}, "$expr": {"$gte": ["$$NOW", tick]}}

        async def both(session: AsyncClientSession) -> bool:
            if not (await self._schedules.update_one(filter_, moved, session=session)).matched_count:
                return False
            if await self._jobs.find_one({"_id": job["_id"]}, {"_id": 1}, session=session) is not None:
                return False
            await self._jobs.insert_one(job, session=session)
            return True

        async with self._transaction:
            with timeout(CALL_TIMEOUT_S):  # the driver would repeat it for two minutes
                return job["_id"] if await self._session.with_transaction(both) else None

    def _is(self, schedule: ScheduleSettings) -> Document:
        return {"_id": schedule_id(self._jobs.name, schedule.name)}


def schedule_id(collection: str, name: str) -> str:
    """Return the id of the document of a schedule of a collection of jobs."""
    return f"{collection}:{name}"


def scheduled_job(schedule: ScheduleSettings, tick: datetime, now: datetime) -> Document:
    """Return the job of one run time."""
    return {
        "_id": f"schedule:{schedule.name}:{tick.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
        "handler": schedule.handler,
        "payload": schedule.payload,
        "status": Status.PENDING.value,
        "run_at": tick,
        "created_at": now,
    }


async def last_runs(database: AsyncDatabase[Document], collection: str, names: Sequence[str]) -> dict[str, Document]:
    """Return {tick, job_id, made_at, status} of the latest job of each schedule that has made one.

    `status` is None where that job has been deleted. Raises PyMongoError.
    """
    ids = {schedule_id(collection, name): name for name in names}
    made = {"_id": {"$in": list(ids)}, "tick": {"$type": "date"}}
    found = {ids[each["_id"]]: each async for each in database[COLLECTION].find(made)}
    job_ids = [str(each.get("job_id")) for each in found.values()]
    jobs = database[collection].find({"_id": {"$in": job_ids}}, {"status": 1})
    statuses = {job["_id"]: job.get("status") async for job in jobs}
    return {
        name: {
            "tick": each["tick"],
            "job_id": each.get("job_id"),
            "made_at": each.get("made_at"),
            "status": statuses.get(str(each.get("job_id"))),
        }
        for name, each in found.items()
    }
