"""Claiming: which pending jobs are next, and taking them, for several free slots in three round trips.

1. *Candidates*: one aggregation lists the next due jobs in order, reading only small fields.
2. *Take*: one bulk of conditional updates, each fenced by what was read, so that of two supervisors one wins.
3. *Won*: one read of the taken jobs' payloads, as raw bytes that only a worker decodes.

A missing priority orders as 0, which an index cannot say; so candidates come from three scans (above 0, exactly 0 or
missing, below 0), each a merge of index ranges. A document that breaks the schema is set aside as `failed`, `invalid`;
one that nobody could read is no reason to stop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from bson import BSON, ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, WriteError

from supervisor.codec import RAW
from supervisor.core.job import CONTROL_FIELDS, Job, Status, find_problem
from supervisor.core.outcome import ErrorInfo, ErrorKind
from supervisor.core.transitions import describe
from supervisor.store import unreadable
from supervisor.store.soundness import problem_of, projection

log = structlog.get_logger("supervisor.store")

_DUE = {"$expr": {"$lte": ["$run_at", "$$NOW"]}}
_EMPTY_DOCUMENT = BSON.encode({})
_PASSING = {6, 7, 24, 50, 64, 89, 91, 112, 133, 189, 262, 365, 9001, 10107, 11600, 11602, 13435, 13436}
"""Codes of errors that say nothing of the document: a conflict of writes, a lack of time, a change of the primary."""


@dataclass(frozen=True)
class Seat:
    """A free slot that a job is claimed for, and the process id of its worker."""

    slot: int
    pid: int


@dataclass(frozen=True)
class Claim:
    """A job that is ours until its lease ends, with its payload as BSON bytes."""

    job: Job
    seat: Seat
    payload: bytes


@dataclass(frozen=True)
class Owner:
    """Who claims: the supervisor's id and host, as they stand in the lease."""

    supervisor: str
    host: str


class ClaimStore:
    """Takes pending jobs for one supervisor."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str, owner: Owner) -> None:
        self._jobs = database[collection]
        self._raw_jobs = self._jobs.with_options(codec_options=RAW)
        self._owner = owner

    async def claim(
        self, room: Mapping[str, int], seats: Sequence[Seat], *, lease_s: float, payload_kb: int
    ) -> list[Claim]:
        """Take the next due jobs, at most one per seat and at most `room[handler]` of each handler.

        Returns them in order, possibly none. Raises PyMongoError; a job taken by a claim whose reply was lost is
        given back by `LeaseStore.strays`.
        """
        # a few more than wanted, since some may be malformed, capped or taken by somebody else meanwhile
        candidates = await self._candidates(list(room), len(seats) + 8)
        sound = [document for document in candidates if not await self._set_aside(document, payload_kb)]
        chosen = _within(room, sound)[: len(seats)]
        if not chosen:
            return []
        taken = await self._take(chosen, seats, lease_s)
        return [claim for claim in await self._won(taken) if claim]

    async def _candidates(self, handlers: list[str], limit: int) -> list[dict[str, Any]]:
        if not handlers:
            return []
        scans = [_scan(handlers, priority, limit) for priority in ({"$gt": 0}, {"$in": [0, None]}, {"$lt": 0})]
        first, *others = scans
        pipeline = [*first]
        pipeline += [{"$unionWith": {"coll": self._jobs.name, "pipeline": scan}} for scan in others]
        pipeline += [{"$limit": limit}, {"$project": projection()}]
        found: list[dict[str, Any]] = await (await self._jobs.aggregate(pipeline)).to_list()
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

    async def _take(
        self, chosen: Sequence[dict[str, Any]], seats: Sequence[Seat], lease_s: float
    ) -> list[tuple[Job, Seat]]:
        taken = [(_to_job(document), seat) for document, seat in zip(chosen, seats, strict=False)]
        updates = [
            UpdateOne(
                {"_id": {"$eq": document["_id"]}, "status": Status.PENDING.value, "claims": document.get("claims")},
                _take_pipeline(job, seat, self._owner, lease_s),
            )
            for document, (job, seat) in zip(chosen, taken, strict=True)
        ]
        try:
            await self._jobs.bulk_write(updates, ordered=False)
        except BulkWriteError as error:
            for failed in error.details["writeErrors"]:
                if failed["code"] not in _PASSING:  # else it is just not ours, this time
                    job_id, reason = chosen[failed["index"]]["_id"], f"cannot be claimed: {failed['errmsg']}"
                    await set_aside(self._jobs, job_id, reason)
            if error.details["writeConcernErrors"]:
                raise  # an election may undo the claims, and the next ones would get the same tokens
        return taken

    async def _won(self, taken: Sequence[tuple[Job, Seat]]) -> list[Claim | None]:
        mine = {
            "_id": {"$in": [job.id for job, _ in taken]},
            "status": Status.PROCESSING.value,
            "lease.supervisor": self._owner.supervisor,
        }
        found = await self._raw_jobs.find(mine, {"lease.token": 1, "lease.slot": 1, "payload": 1}).to_list()
        by_slot = {document["lease"]["slot"]: document for document in found}
        return [_to_claim(job, seat, by_slot.get(seat.slot)) for job, seat in taken]

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


def _scan(handlers: list[str], priority: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    order: dict[str, int] = {"run_at": 1, "_id": 1}
    if "$in" not in priority:  # there, all priorities are one and the same
        order = {"priority": -1, **order}
    match = {"status": Status.PENDING.value, "handler": {"$in": handlers}, "priority": priority, **_DUE}
    return [{"$match": match}, {"$sort": order}, {"$limit": limit}]


def _within(room: Mapping[str, int], documents: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    left = dict(room)
    chosen = []
    for document in documents:
        if left[document["handler"]] > 0:
            left[document["handler"]] -= 1
            chosen.append(document)
    return chosen


def _to_job(document: Mapping[str, Any]) -> Job:
    return Job(
        id=document["_id"],
        handler=document["handler"],
        attempt=int(document.get("attempt") or 0) + 1,
        token=int(document.get("claims") or 0) + 1,
        crashes=int(document.get("crashes") or 0),
        timeout_s=document.get("timeout_s"),
        max_attempts=None if document.get("max_attempts") is None else int(document["max_attempts"]),
        wait_s=_waited(document),
        then=tuple(document.get("then") or ()),
        batch_id=document.get("batch_id"),
        group_key=document.get("group_key"),
        trace=document.get("trace"),
    )


def _waited(document: Mapping[str, Any]) -> float:
    """Seconds since the job was due, by the database's clock; 0 where nothing on it tells."""
    made = [document.get("run_at"), document.get("created_at")]
    if isinstance(document["_id"], ObjectId):
        made.append(document["_id"].generation_time)
    due = [date for date in made if isinstance(date, datetime)]
    return max(0.0, (document["_now"] - max(due)).total_seconds()) if due else 0.0


def _take_pipeline(job: Job, seat: Seat, owner: Owner, lease_s: float) -> list[dict[str, Any]]:
    lease = {
        "token": job.token,
        "supervisor": {"$literal": owner.supervisor},
        "host": {"$literal": owner.host},
        "slot": seat.slot,
        "pid": seat.pid,
        "expires_at": server_time_in(lease_s),
    }
    fields = {
        "status": Status.PROCESSING.value,
        "attempt": job.attempt,
        "claims": job.token,
        "lease": lease,
        "started_at": "$$NOW",
        "created_at": {"$ifNull": ["$created_at", "$$NOW"]},
    }
    # a plain $set would merge into an old `lease`; removed first, it is replaced
    return [{"$unset": ["lease", "progress"]}, {"$set": fields}]


def _to_claim(job: Job, seat: Seat, document: RawBSONDocument | None) -> Claim | None:
    """Pair a job with its payload; None where another supervisor was faster."""
    if document is None or document["lease"]["token"] != job.token or not _is_same_id(document["_id"], job.id):
        return None
    payload = document.get("payload")
    return Claim(job, seat, bytes(payload.raw) if isinstance(payload, RawBSONDocument) else _EMPTY_DOCUMENT)


def _is_same_id(found: Any, wanted: Any) -> bool:
    """Compare as stored: a raw document equals no dict, and NaN not even itself."""
    return BSON.encode({"": found}) == BSON.encode({"": wanted})


def server_time_in(seconds: float) -> dict[str, Any]:
    """Return the aggregation expression for the database's own time plus `seconds`."""
    return {"$add": ["$$NOW", int(seconds * 1000)]}


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
    short = {"kind": error["kind"], "message": error["message"][:60]}
    fields = {"status": status.value, "error": {"$literal": error}, "finished_at": "$$NOW"}
    for smaller in (fields, {"status": status.value, "error": {"$literal": short}}, {"status": status.value}):
        try:
            await jobs.update_one(pending, [{"$set": smaller}])
        except WriteError as refused:
            log.debug("job.too_large_to_explain", reason=str(refused)[:200])
        else:
            return
