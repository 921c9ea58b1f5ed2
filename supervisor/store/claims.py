"""Claiming: taking the next pending jobs for several free slots, in three round trips; a lone one in two.

1. *Candidates*: one aggregation lists the next due jobs in order (`supervisor.store.candidates`).
2. *Take*: one bulk of conditional updates, each fenced by what was read, so that of two supervisors one wins.
3. *Won*: one read of the taken jobs' payloads, as raw bytes that only a worker decodes.

A lone job is what somebody waits for: it is taken and read at once, by one update that returns the document.

Handlers with limits across machines take a look at their gates before, and reserve there what they take
(`supervisor.store.gates`): three or four round trips more, for claims that meet such a handler only.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import structlog
from bson import BSON, ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import ReturnDocument, UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError, WriteConcernError

from supervisor.codec import RAW
from supervisor.core.gate import FleetLimits
from supervisor.core.job import Job, Status
from supervisor.core.lookahead import Place, deal
from supervisor.store.candidates import Candidates, set_aside
from supervisor.store.gates import Gate, GateStore
from supervisor.store.patience import first_line

log = structlog.get_logger("supervisor.store")

Document = dict[str, Any]
_EMPTY_DOCUMENT = BSON.encode({})
_NO_LIMITS: Mapping[str, FleetLimits] = MappingProxyType({})
_READ = {"lease.token": 1, "payload": 1}
_SPARE = 8
SMALL_PAYLOAD_BYTES = 64 * 1024
"""A job with a larger payload is not claimed before a slot is free for it: many of those would be much to hold."""
_AGAIN_S = 0.02
"""When to look again after somebody else was at a gate at the same time, or had taken the jobs."""
_PASSING = {6, 7, 24, 50, 64, 89, 91, 112, 133, 189, 262, 365, 9001, 10107, 11600, 11602, 13435, 13436}
"""Codes of errors that say nothing of the document: a conflict of writes, a lack of time, a change of the primary."""


def _unknown(_handler: str) -> float:
    return math.inf


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


class ClaimStore:
    """Takes pending jobs for one supervisor."""

    def __init__(self, database: AsyncDatabase[Document], collection: str, owner: Owner) -> None:
        self._jobs = database[collection]
        self._raw_jobs = self._jobs.with_options(codec_options=RAW)
        self._candidates = Candidates(database, collection)
        self._gates = GateStore(database, collection)
        self._owner = owner
        self.opens_in_s: float | None = None
        """In how many seconds after the latest claim another one is worth it: a rate allows the next start then."""
        self.exhausted = False
        """The latest claim has seen all jobs that were due, and lost none: another one at once finds nothing more."""

    async def claim(
        self,
        room: Mapping[str, int],
        places: Sequence[Place],
        *,
        lease_s: float,
        payload_kb: int,
        fleet: Mapping[str, FleetLimits] = _NO_LIMITS,
        expected_s: Callable[[str], float] = _unknown,
    ) -> list[Claim]:
        """Take the next due jobs, as many as find a place and at most `room[handler]` of each handler.

        `fleet` has those of the same handlers with limits across machines. `expected_s` tells how long jobs of a
        handler take: short ones may be put where others still run. Returns the jobs in order, possibly none.
        Raises PyMongoError; a job taken by a claim whose reply was lost is given back by `LeaseStore.strays`.
        """
        self.exhausted = False
        gates = await self._gates.look(fleet)
        waits = [gate.opening.opens_in_s for gate in gates.values()]
        self.opens_in_s = min((wait for wait in waits if wait is not None), default=None)
        may_run = [handler for handler in room if handler not in gates or gates[handler].opening.room > 0]
        full = {handler: gate.opening.full_groups for handler, gate in gates.items()}
        # a few more than wanted, since some may be capped
        spare = _SPARE if self._candidates.spread.width == 1 else 0
        most = sum(place.most for place in places)
        candidates = await self._candidates.find(may_run, most + spare, payload_kb, full)
        within = _within(room, gates, candidates)
        dealt = deal([_takes_s(each, gates, expected_s) for each in within], places)
        admitted = await self._admit(within[: len(dealt)], gates)
        if not admitted:
            return []
        claims = await self._take(admitted, [Seat(place.slot, place.pid) for place in dealt], lease_s)
        lost = len(admitted) - len(claims)
        self._note_lost([document for document, _ in admitted], len(candidates), lost)
        self.exhausted = self._candidates.saw_all and not lost and not gates
        for gate in gates.values():
            if gate.limits.starts:
                with contextlib.suppress(PyMongoError):  # unconfirmed, it counts a few seconds longer
                    await self._gates.confirm(gate)
        return claims

    def _note_lost(self, tried: Sequence[Document], found: int, lost: int) -> None:
        """Note how many of the jobs that were `tried` others had taken before."""
        if found > len(tried) or self._candidates.spread.width > 1:  # else there are no others to go for
            self._candidates.spread.note([document.get("priority") or 0 for document in tried], lost)
            if lost:
                self.opens_in_s = _AGAIN_S

    async def _admit(
        self, chosen: Sequence[Document], gates: Mapping[str, Gate]
    ) -> list[tuple[Document, datetime | None]]:
        """Reserve places at the gates; return what may be taken, with the end of its reservation if it has one."""
        until: dict[str, datetime | None] = {}
        for handler, gate in gates.items():
            wanted = [
                {"id": each["_id"], "token": _to_job(each).token, "group": each.get("group_key")}
                for each in chosen
                if each["handler"] == handler
            ]
            if wanted:
                until[handler] = await self._gates.reserve(gate, wanted)
        refused = {handler for handler, end in until.items() if end is None}
        if refused:
            self.opens_in_s = _AGAIN_S
        return [(each, until.get(each["handler"])) for each in chosen if each["handler"] not in refused]

    async def _take(
        self, admitted: Sequence[tuple[Document, datetime | None]], seats: Sequence[Seat], lease_s: float
    ) -> list[Claim]:
        wanted = [_Take.of(*each, self._owner, lease_s) for each in zip(admitted, seats, strict=False)]
        if len(wanted) == 1:
            (take,) = wanted
            try:
                claim = await self._take_alone(take)
            except WriteConcernError:
                raise  # an election may undo the claim, and the next one would get the same token
            except OperationFailure as error:  # a bulk tells whose fault it is: the document's or the database's
                log.debug("claim.refused", job_id=str(take.job.id), reason=first_line(error))
            else:
                return [claim] if claim else []
        await self._take_together(wanted)
        return [claim for claim in await self._won(wanted) if claim]

    async def _take_alone(self, take: _Take) -> Claim | None:
        document = await self._raw_jobs.find_one_and_update(
            take.free, take.update, _READ, return_document=ReturnDocument.AFTER
        )
        return take.claim(document)

    async def _take_together(self, wanted: Sequence[_Take]) -> None:
        try:
            await self._jobs.bulk_write([UpdateOne(take.free, take.update) for take in wanted], ordered=False)
        except BulkWriteError as error:
            for failed in error.details["writeErrors"]:
                if failed["code"] not in _PASSING:  # else it is just not ours, this time
                    reason = f"cannot be claimed: {failed['errmsg']}"
                    await set_aside(self._jobs, wanted[failed["index"]].job.id, reason)
            if error.details["writeConcernErrors"]:
                raise  # an election may undo the claims, and the next ones would get the same tokens

    async def _won(self, wanted: Sequence[_Take]) -> list[Claim | None]:
        mine = {
            "_id": {"$in": [take.job.id for take in wanted]},
            "status": Status.PROCESSING.value,
            "lease.supervisor": self._owner.supervisor,
        }
        found = await self._raw_jobs.find(mine, _READ).to_list()
        by_id = {_as_stored(document["_id"]): document for document in found}
        return [take.claim(by_id.get(_as_stored(take.job.id))) for take in wanted]


@dataclass(frozen=True)
class _Take:
    """A job to be taken for a seat: by which update, and what it must still look like for that."""

    job: Job
    seat: Seat
    free: Document
    update: list[Document]

    @classmethod
    def of(cls, admitted: tuple[Document, datetime | None], seat: Seat, owner: Owner, lease_s: float) -> _Take:
        """Plan to take an admitted job."""
        document, until = admitted
        job = _to_job(document)
        return cls(job, seat, _still_free(document, until), _take_pipeline(job, seat, owner, lease_s))

    def claim(self, document: RawBSONDocument | None) -> Claim | None:
        """Pair the job with its payload; None where another supervisor was faster."""
        if document is None or document["lease"]["token"] != self.job.token:
            return None
        payload = document.get("payload")
        return Claim(
            self.job, self.seat, bytes(payload.raw) if isinstance(payload, RawBSONDocument) else _EMPTY_DOCUMENT
        )


def _takes_s(document: Document, gates: Mapping[str, Gate], expected_s: Callable[[str], float]) -> float:
    """Return how long a job is expected to take, if it may be claimed ahead: small, and under no fleet's limit."""
    ahead = document["handler"] not in gates and document["_payload_bytes"] <= SMALL_PAYLOAD_BYTES
    return expected_s(document["handler"]) if ahead else math.inf


def _within(room: Mapping[str, int], gates: Mapping[str, Gate], documents: Sequence[Document]) -> list[Document]:
    left = dict(room)
    openings = {handler: gate.opening for handler, gate in gates.items()}
    chosen = []
    for document in documents:
        handler, group = document["handler"], document.get("group_key")
        opening = openings.get(handler)
        if left[handler] > 0 and (opening is None or opening.admits(group)):
            left[handler] -= 1
            if opening is not None:
                openings[handler] = opening.taking(group)
            chosen.append(document)
    return chosen


def _still_free(document: Document, until: datetime | None) -> Document:
    """Return the filter that matches the job as it was read, while its reservation holds, if it has one."""
    free = {"_id": {"$eq": document["_id"]}, "status": Status.PENDING.value, "claims": document.get("claims")}
    return free if until is None else {**free, "$expr": {"$lt": ["$$NOW", until]}}


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


def _as_stored(job_id: Any) -> bytes:
    """Return what ids are compared by: a raw document equals no dict, and NaN not even itself."""
    return BSON.encode({"": job_id})


def server_time_in(seconds: float) -> Document:
    """Return the aggregation expression for the database's own time plus `seconds`."""
    return {"$add": ["$$NOW", int(seconds * 1000)]}
