"""Candidates: which pending jobs are next, in order, and setting aside those that cannot be jobs.

A missing priority orders as 0, which an index cannot say; so candidates come from three scans (above 0, exactly 0 or
missing, below 0), each a merge of index ranges. A document that breaks the schema is set aside as `failed`, `invalid`;
one that nobody could read is no reason to stop.

Of a handler some of whose groups are full, the others must not wait behind those: the head of its queue is looked
through first, and where full groups have taken all of it, the queues of the open groups one by one.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import bson
import structlog
from bson import ObjectId
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import WriteError

from supervisor.codec import RAW
from supervisor.core.job import CONTROL_FIELDS, Status, find_problem
from supervisor.core.outcome import ErrorInfo, ErrorKind
from supervisor.core.spread import Spread
from supervisor.core.transitions import describe
from supervisor.store import unreadable
from supervisor.store.ending import smaller_and_smaller
from supervisor.store.soundness import problem_of, projection

log = structlog.get_logger("supervisor.store")

_DUE = {"$expr": {"$lte": ["$run_at", "$$NOW"]}}
HEAD = 200
"""How far into the queue of a handler with full groups to look before its groups are looked at one by one."""
STRETCH = 512
"""How far behind the head a claim draws its jobs at most while others claim too."""
MOST_GROUPS = 50
"""Queues of groups that one scan merges: the database merges 200 ranges, and a priority of 0 takes two for each."""
CLEAR_S = 2.0
"""For how long to look again where nothing of the head can be a job: good ones may wait behind thousands of those."""
WALK_EVERY_S = 5.0
"""How often to walk past the jobs of full groups for one without a group, which no index finds: in seconds."""
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_ID_TYPES: tuple[type | tuple[type, ...], ...] = ((int, float), str, (), ObjectId, datetime)
"""Types of ids in the database's own order; the empty one stands for documents, binary data and others."""
_RARE = 2
Document = dict[str, Any]


class Outlook(StrEnum):
    """What there is of pending jobs."""

    NOTHING = "nothing"
    LATER = "later"
    """Some, and none of them is due."""
    DUE = "due"


class Candidates:
    """The queue of one collection, as far as a claim looks into it."""

    def __init__(self, database: AsyncDatabase[Document], collection: str) -> None:
        self._jobs = database[collection]
        self._raw_jobs = self._jobs.with_options(codec_options=RAW)
        self._turns: Counter[str] = Counter()
        self._walked_at: dict[str, float] = {}
        self.spread = Spread()
        """How much of the head to leave to others."""
        self.saw_all = False
        """The latest look has come to the end of the queue."""

    async def find(
        self, handlers: Sequence[str], limit: int, payload_kb: int, full_groups: Mapping[str, Sequence[str]]
    ) -> list[Document]:
        """Return at most `limit` of the next due jobs in order, as far as their CONTROL_FIELDS and `_now`.

        None is of a group in `full_groups[handler]`. What cannot be a job, or was cancelled, ends here. Raises
        PyMongoError.
        """
        until = time.monotonic() + CLEAR_S
        while True:
            self.saw_all = True
            found = await self._heads(handlers, limit, full_groups)
            sound = [document for document in found if not await self._set_aside(document, payload_kb)]
            if sound or not found or time.monotonic() > until:
                return sorted(sound, key=_place)[:limit]

    async def outlook(self, handlers: Sequence[str]) -> Outlook:
        """Tell whether a job of one of `handlers` is due, whatever else may keep it from running. Raises PyMongoError.

        Cheaper than `find` for who looks now and then and nearly always finds nothing.
        """
        if not handlers:
            return Outlook.NOTHING
        waiting = {"status": Status.PENDING.value, **_of(handlers)}
        first = await self._jobs.find_one(waiting, {"_id": 0, "due": _DUE["$expr"]})
        if first is None:
            return Outlook.NOTHING
        if first["due"] or await self._jobs.find_one({**waiting, **_DUE}, {"_id": 1}) is not None:
            return Outlook.DUE
        return Outlook.LATER

    async def _heads(
        self, handlers: Sequence[str], limit: int, full_groups: Mapping[str, Sequence[str]]
    ) -> list[Document]:
        plain = [handler for handler in handlers if not full_groups.get(handler)]
        found = await self._spread(_of(plain), limit)
        for handler in handlers:
            if full := full_groups.get(handler):
                found += await self._beside(handler, full, limit)
        return found

    async def _spread(self, wanted: Mapping[str, Any], limit: int) -> list[Document]:
        """Return the next jobs, or while others take them too, some of those that are equal in priority."""
        if self.spread.width > 1:
            # of these alone, what is lower may be reached only when none is left
            some = await self._next(wanted, limit, _leave_out(self.spread, limit))
            if sum((job.get("priority") or 0) >= self.spread.priority for job in some) >= limit:
                return some
            self.spread.narrow()
        return await self._next(wanted, limit)

    async def _beside(self, handler: str, full: Sequence[str], limit: int) -> list[Document]:
        """Return the next jobs of `handler` that are of no group in `full`."""
        head = await self._next(_of([handler]), HEAD)
        if (found := [job for job in head if job.get("group_key") not in full]) or len(head) < HEAD:
            return found[:limit]
        groups = await self._open_groups(handler, full)
        found = await self._next({**_of([handler]), "group_key": {"$in": groups, "$exists": True}}, limit)
        now = time.monotonic()
        if now - self._walked_at.get(handler, -math.inf) > WALK_EVERY_S:
            found += await self._next({**_of([handler]), "group_key": None}, limit)
            self._walked_at[handler] = now
        return found

    async def _open_groups(self, handler: str, full: Sequence[str]) -> list[str]:
        """Return groups with pending jobs that are not full; where there are too many, others each time."""
        # "at least the empty string" is any string, and unlike $exists it lets the database jump from group to group
        grouped = {"status": Status.PENDING.value, "handler": handler, "group_key": {"$gte": ""}}
        groups = await self._jobs.distinct("group_key", grouped)
        waiting = [group for group in groups if isinstance(group, str) and group not in full]
        turn = self._turns[handler] * MOST_GROUPS % max(1, len(waiting))
        self._turns[handler] += 1
        return [*waiting[turn:], *waiting[:turn]][:MOST_GROUPS]

    async def _next(self, wanted: Mapping[str, Any], limit: int, more: Sequence[Document] = ()) -> list[Document]:
        if not wanted["handler"]["$in"]:
            return []
        scans = [_scan(wanted, priority, limit, more) for priority in ({"$gt": 0}, {"$in": [0, None]}, {"$lt": 0})]
        first, *others = scans
        pipeline = [*first]
        pipeline += [{"$unionWith": {"coll": self._jobs.name, "pipeline": scan}} for scan in others]
        pipeline += [{"$limit": limit}, {"$project": projection()}]
        found: list[Document] = await (await self._jobs.aggregate(pipeline)).to_list()
        self.saw_all = self.saw_all and len(found) < limit
        if any(unreadable.is_suspicious(document["_id"]) for document in found):
            await self._set_aside_unreadable(pipeline)
            found = [document for document in found if not unreadable.is_suspicious(document["_id"])]
        return found

    async def _set_aside_unreadable(self, pipeline: list[dict[str, Any]]) -> None:
        """End those candidates whose `_id` cannot be read, by the bytes it is stored as."""
        cursor = await self._raw_jobs.aggregate([*pipeline, {"$project": {"_id": 1}}])
        for document in await cursor.to_list():
            element = unreadable.stored_id(bytes(document.raw))
            if element is not None:
                error = describe(ErrorKind.INVALID, ErrorInfo("_id: is text that is not UTF-8"))
                log.warning("job.invalid", job_id=repr(element), problem=error["message"])
                pending = unreadable.match(element, {"status": Status.PENDING.value})
                await _end(self._jobs, pending, Status.FAILED, error)

    async def _set_aside(self, document: dict[str, Any], payload_kb: int) -> bool:
        """End a pending document that cannot be a job, or was cancelled; tell whether that was so."""
        if problem := problem_of(document, payload_kb):
            await set_aside(self._jobs, document["_id"], problem)
            return True
        if document.get("cancel_requested"):
            error = describe(ErrorKind.CANCELLED, ErrorInfo("cancelled before it ran"))
            await _end_pending(self._jobs, document["_id"], Status.CANCELLED, error)
            return True
        return False

    async def set_aside_unreachable(self) -> int:
        """End pending documents whose handler, priority or run_at has a type that no claim's scan can meet.

        Returns how many there were. Read through the claim index; the reaper calls this now and then.
        """
        strange = {
            "status": Status.PENDING.value,
            "$or": [
                {"handler": {"$not": {"$type": "string"}}},
                {"priority": {"$not": {"$type": ["number", "null"]}, "$exists": True}},
                {"priority": math.nan},
                {"run_at": {"$not": {"$type": ["date", "null"]}, "$exists": True}},
                # $type looks into arrays
                *({name: {"$type": "array"}} for name in ("handler", "priority", "run_at")),
            ],
        }
        documents = await self._jobs.find(strange, dict.fromkeys(CONTROL_FIELDS, 1), limit=100).to_list()
        for document in documents:
            await set_aside(self._jobs, document["_id"], find_problem(document) or "cannot be a job")
        return len(documents)


def _of(handlers: Sequence[str]) -> Document:
    return {"handler": {"$in": list(handlers)}}


def _place(document: Mapping[str, Any]) -> tuple[float, datetime, int, Any]:
    """Return what a job is ordered by, as the database orders it; ids of rare types are compared by their bytes."""
    run_at, job_id = document.get("run_at"), document["_id"]
    rank = next((rank for rank, types in enumerate(_ID_TYPES) if isinstance(job_id, types)), None)
    due = run_at if isinstance(run_at, datetime) else _EARLIEST
    id_place = (_RARE, bson.encode({"": job_id})) if rank is None else (rank, job_id)
    return -(document.get("priority") or 0), due, *id_place


def _leave_out(spread: Spread, limit: int) -> list[Document]:
    """Return the stages that let through some jobs of a priority only, drawn by the database."""
    other = {"$ne": [{"$ifNull": ["$priority", 0]}, spread.priority]}
    some = {"$expr": {"$or": [other, {"$lt": [{"$rand": {}}, spread.share]}]}}
    return [{"$limit": min(STRETCH, 2 * spread.width * limit)}, {"$match": some}]


def _scan(
    wanted: Mapping[str, Any], priority: dict[str, Any], limit: int, more: Sequence[Document]
) -> list[dict[str, Any]]:
    order: dict[str, int] = {"run_at": 1, "_id": 1}
    if "$in" not in priority:  # there, all priorities are one and the same
        order = {"priority": -1, **order}
    match = {"status": Status.PENDING.value, **wanted, "priority": priority, **_DUE}
    return [{"$match": match}, {"$sort": order}, *more, {"$limit": limit}]


async def set_aside(jobs: Any, job_id: Any, problem: str) -> None:
    """End a pending document that breaks the schema as `failed`, `invalid`, naming the field; it spends no attempt."""
    log.warning("job.invalid", job_id=job_id, problem=problem)
    await _end_pending(jobs, job_id, Status.FAILED, describe(ErrorKind.INVALID, ErrorInfo(problem)))


async def _end_pending(jobs: Any, job_id: Any, status: Status, error: dict[str, Any]) -> None:
    await _end(jobs, {"_id": {"$eq": job_id}, "status": Status.PENDING.value}, status, error)


async def _end(jobs: Any, pending: Mapping[str, Any], status: Status, error: dict[str, Any]) -> None:
    """End the document that `pending` matches, with as much of the reason as it has room for.

    One just under 16 MB cannot grow by the whole error, nor by anything at all; it must leave the queue all the same,
    and what the producer put into it stays.
    """
    for smaller in smaller_and_smaller(status, error):
        try:
            await jobs.update_one(pending, [{"$set": smaller}])
        except WriteError as refused:
            log.debug("job.too_large_to_explain", reason=str(refused)[:200])
        else:
            return
