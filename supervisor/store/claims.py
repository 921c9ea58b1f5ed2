"""Claiming: taking the next pending jobs for several free slots, in three round trips; a lone one in two.

1. *Candidates*: one aggregation lists the next due jobs in order (`supervisor.store.candidates`).
2. *Take*: one bulk of conditional updates, each fenced by what was read, so that of two supervisors one wins.
3. *Won*: one read of the taken jobs' payloads, as raw bytes that only a worker decodes.

A lone job is what somebody waits for: it is taken and read at once, by one update that returns the document. And one
that is inserted while no other waits needs no candidates: the change stream has told what there is to know of it.

Handlers with limits across machines take a look at their gates before, and reserve there what they take
(`supervisor.store.gates`): three or four round trips more, for claims that meet such a handler only.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import structlog
from pymongo import ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError, WriteConcernError

from supervisor.codec import RAW
from supervisor.core.gate import FleetLimits
from supervisor.core.job import Status
from supervisor.core.lookahead import UNKNOWN, Expected, Place, deal
from supervisor.store.candidates import Candidates, set_aside
from supervisor.store.gates import Gate, GateStore
from supervisor.store.patience import first_line
from supervisor.store.taking import Claim, Owner, Seat, Take, as_stored, statements, to_job

log = structlog.get_logger("supervisor.store")

Document = dict[str, Any]
_NO_LIMITS: Mapping[str, FleetLimits] = MappingProxyType({})
_READ = {"lease.token": 1, "payload": 1}
_READ_ALONE = {**_READ, "started_at": 1}
_SPARE = 8
SMALL_PAYLOAD_BYTES = 64 * 1024
"""A job with a larger payload is not claimed before a slot is free for it: many of those would be much to hold."""
_AGAIN_S = 0.02
"""When to look again after somebody else was at a gate at the same time, or had taken the jobs."""
_PASSING = {6, 7, 24, 50, 64, 89, 91, 112, 133, 189, 262, 365, 388, 9001, 10107, 11600, 11602, 13435, 13436}
"""Codes of errors that say nothing of the document: a conflict of writes, a lack of time or cache, another primary."""


def _unknown(_handler: str) -> Expected:
    return UNKNOWN


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
        """The latest claim has seen all jobs that were due and left none behind: at that moment no job waited."""

    async def claim(
        self,
        room: Mapping[str, int],
        places: Sequence[Place],
        *,
        lease_s: float,
        payload_kb: int,
        fleet: Mapping[str, FleetLimits] = _NO_LIMITS,
        expected: Callable[[str], Expected] = _unknown,
    ) -> list[Claim]:
        """Take the next due jobs, as many as find a place and at most `room[handler]` of each handler.

        `fleet` has those of the same handlers with limits across machines. `expected` tells how long jobs of a
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
        dealt = deal([_takes_s(each, gates, expected) for each in within], places)
        admitted = await self._admit(within[: len(dealt)], gates)
        if not admitted:
            self.exhausted = self._candidates.saw_all and not candidates and not gates
            return []
        claims = await self._take(admitted, [Seat(place.slot, place.pid) for place in dealt], lease_s)
        lost = len(admitted) - len(claims)
        self._note_lost([document for document, _ in admitted], len(candidates), lost)
        self.exhausted = self._candidates.saw_all and len(claims) == len(candidates) and not gates
        for gate in gates.values():
            if gate.limits.starts:
                with contextlib.suppress(PyMongoError):  # unconfirmed, it counts a few seconds longer
                    await self._gates.confirm(gate)
        return claims

    async def claim_fresh(self, document: Document, place: Place, *, lease_s: float) -> list[Claim] | None:
        """Take the one job that was inserted since the latest claim, for a free place.

        Returns nothing where others were faster, and None where other jobs may wait: those are to be looked at.
        Raises PyMongoError.
        """
        if not self.exhausted:
            return None
        self.exhausted = False
        claims = await self._take([(document, None)], [Seat(place.slot, place.pid)], lease_s)
        self.exhausted = True
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
                {"id": each["_id"], "token": to_job(each).token, "group": each.get("group_key")}
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
        wanted = [Take.of(*each, self._owner, lease_s) for each in zip(admitted, seats, strict=False)]
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

    async def _take_alone(self, take: Take) -> Claim | None:
        document = await self._raw_jobs.find_one_and_update(
            take.free, take.update, _READ_ALONE, return_document=ReturnDocument.AFTER
        )
        return take.claim(document)

    async def _take_together(self, wanted: Sequence[Take]) -> None:
        bulk = statements(wanted)
        try:
            await self._jobs.bulk_write([statement for _, statement in bulk], ordered=False)
        except BulkWriteError as error:
            if error.details["writeConcernErrors"]:
                raise  # an election may undo the claims, and the next ones would get the same tokens
            for failed in error.details["writeErrors"]:
                takes, _ = bulk[failed["index"]]
                if len(takes) > 1:  # one of them is to blame, or none
                    await self._take_singly(takes)
                elif failed["code"] not in _PASSING:  # else it is just not ours, this time
                    await set_aside(self._jobs, takes[0].job.id, f"cannot be claimed: {failed['errmsg']}")

    async def _take_singly(self, takes: Sequence[Take]) -> None:
        for take in takes:
            await self._take_together([take])

    async def _won(self, wanted: Sequence[Take]) -> list[Claim | None]:
        mine = {
            "_id": {"$in": [take.job.id for take in wanted]},
            "status": Status.PROCESSING.value,
            "lease.supervisor": self._owner.supervisor,
        }
        found = await self._raw_jobs.find(mine, _READ).to_list()
        by_id = {as_stored(document["_id"]): document for document in found}
        return [take.claim(by_id.get(as_stored(take.job.id))) for take in wanted]


def _takes_s(document: Document, gates: Mapping[str, Gate], expected: Callable[[str], Expected]) -> float:
    """Return how long a job is expected to take, if it may be claimed ahead: small, and under no fleet's limit."""
    ahead = document["handler"] not in gates and document["_payload_bytes"] <= SMALL_PAYLOAD_BYTES
    return expected(document["handler"]).seconds if ahead else math.inf


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
