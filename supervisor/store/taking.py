"""Taking a job: what of its document a supervisor works with, and the update that makes it ours.

Jobs that are alike share an update: one by itself costs the database some five times as much.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bson import BSON, ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateMany, UpdateOne

from supervisor.core.job import Job, Status

Document = dict[str, Any]
_EMPTY_DOCUMENT = BSON.encode({})
FEWEST = 4
"""So many jobs share an update at least; for fewer the database plans as long as it saves."""
PLAIN_IDS = (ObjectId, str, int)


@dataclass(frozen=True)
class Seat:
    """A free place that a job is claimed for, and the process that it will run in.

    Slots of workers count up from 0, places of coroutines down from -1.
    """

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


@dataclass(frozen=True)
class Take:
    """A job to be taken for a seat: by which update, and what it must still look like for that."""

    job: Job
    seat: Seat
    free: Document
    update: list[Document]
    reserved: bool
    due: datetime | None

    @property
    def kind(self) -> Hashable:
        """What jobs that can be taken by one update have in common; None if this one cannot.

        Ids of other types may not be equal to themselves, or be taken for a pattern.
        """
        if self.reserved or type(self.job.id) not in PLAIN_IDS:
            return None
        return self.seat, self.job.attempt, self.job.token, self.free["claims"] is None

    @classmethod
    def of(cls, admitted: tuple[Document, datetime | None], seat: Seat, owner: Owner, lease_s: float) -> Take:
        """Plan to take an admitted job."""
        document, until = admitted
        job = to_job(document)
        update = _take_pipeline(job, seat, owner, lease_s)
        return cls(job, seat, _still_free(document, until), update, until is not None, _due(document))

    def claim(self, document: RawBSONDocument | None) -> Claim | None:
        """Pair the job with its payload; None where another supervisor was faster."""
        if document is None or document["lease"]["token"] != self.job.token:
            return None
        payload, started_at = document.get("payload"), document.get("started_at")
        job = replace(self.job, wait_s=_waited(self.due, started_at)) if started_at else self.job
        return Claim(job, self.seat, bytes(payload.raw) if isinstance(payload, RawBSONDocument) else _EMPTY_DOCUMENT)


def statements(wanted: Sequence[Take]) -> list[tuple[list[Take], UpdateOne | UpdateMany]]:
    """Return the updates that take all of `wanted`: jobs for one slot that are alike share one."""
    alike: dict[Hashable, list[Take]] = {}
    for position, take in enumerate(wanted):
        alike.setdefault(take.kind or position, []).append(take)
    return [pair for takes in alike.values() for pair in _statements_of(takes)]


def _statements_of(takes: list[Take]) -> Iterator[tuple[list[Take], UpdateOne | UpdateMany]]:
    if len(takes) < FEWEST:
        yield from (([take], UpdateOne(take.free, take.update)) for take in takes)
    else:
        filter_ = {**takes[0].free, "_id": {"$in": [take.job.id for take in takes]}}
        yield takes, UpdateMany(filter_, takes[0].update, hint="_id_")


def _still_free(document: Document, until: datetime | None) -> Document:
    """Return the filter that matches the job as it was read, while its reservation holds, if it has one."""
    free = {"_id": {"$eq": document["_id"]}, "status": Status.PENDING.value, "claims": document.get("claims")}
    return free if until is None else {**free, "$expr": {"$lt": ["$$NOW", until]}}


def to_job(document: Mapping[str, Any]) -> Job:
    """Return what a supervisor works with of a document as a claim reads it, counting this attempt and this claim."""
    return Job(
        id=document["_id"],
        handler=document["handler"],
        attempt=int(document.get("attempt") or 0) + 1,
        token=int(document.get("claims") or 0) + 1,
        crashes=int(document.get("crashes") or 0),
        timeout_s=document.get("timeout_s"),
        max_attempts=None if document.get("max_attempts") is None else int(document["max_attempts"]),
        wait_s=_waited(_due(document), document.get("_now")),
        then=tuple(document.get("then") or ()),
        batch_id=document.get("batch_id"),
        group_key=document.get("group_key"),
        trace=document.get("trace"),
    )


def _due(document: Mapping[str, Any]) -> datetime | None:
    """When the job was due; None where nothing on it tells."""
    made = [document.get("run_at"), document.get("created_at")]
    if isinstance(document["_id"], ObjectId):
        made.append(document["_id"].generation_time)
    return max((date for date in made if isinstance(date, datetime)), default=None)


def _waited(due: datetime | None, now: datetime | None) -> float:
    """Seconds since the job was due, by the database's clock; 0 where that is not known."""
    return max(0.0, (now - due).total_seconds()) if due and now else 0.0


def _take_pipeline(job: Job, seat: Seat, owner: Owner, lease_s: float) -> list[Document]:
    fixed = {
        "token": job.token,
        "supervisor": owner.supervisor,
        "host": owner.host,
        "slot": seat.slot,
        "pid": seat.pid,
    }
    fields = {
        "status": Status.PROCESSING.value,
        "attempt": job.attempt,
        "claims": job.token,
        # an expression: a plain document would be merged into an old `lease`
        "lease": {"$mergeObjects": [{"$literal": fixed}, {"expires_at": server_time_in(lease_s)}]},
        "progress": "$$REMOVE",
        "started_at": "$$NOW",
        "created_at": {"$ifNull": ["$created_at", "$$NOW"]},
    }
    return [{"$set": fields}]


def as_stored(job_id: Any) -> bytes:
    """Return what ids are compared by: a raw document equals no dict, and NaN not even itself."""
    return BSON.encode({"": job_id})


def server_time_in(seconds: float) -> Document:
    """Return the aggregation expression for the database's own time plus `seconds`."""
    return {"$add": ["$$NOW", int(seconds * 1000)]}
