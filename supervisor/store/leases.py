"""Leases: renewing ours, finding those of supervisors that are gone, and jobs that were left half claimed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import bson
from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase

from supervisor.core.job import Job, Status
from supervisor.core.outcome import ErrorInfo, ErrorKind
from supervisor.core.transitions import describe
from supervisor.store.ending import end_all
from supervisor.store.records import EXPIRED, fence
from supervisor.store.taking import Claim, Owner, Seat, server_time_in

_ORPHAN_FIELDS = ("handler", "attempt", "claims", "crashes", "max_attempts", "lease", "started_at", "cancel_requested")

_MALFORMED: dict[str, Any] = {
    "status": Status.PROCESSING.value,
    "$or": [
        {"lease": {"$type": "array"}},  # the tests below would be met by an element of it
        {"lease.expires_at": {"$not": {"$type": "date"}}},
        {"lease.token": {"$not": {"$type": ["int", "long"]}}},
        {"lease.supervisor": {"$not": {"$type": "string"}}},
    ],
}
_EXPIRED: dict[str, Any] = {"status": Status.PROCESSING.value, **EXPIRED}
_CANCELLED: dict[str, Any] = {"status": Status.PENDING.value, "cancel_requested": True}


class LeaseStore:
    """Renews and looks up leases, for one supervisor."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str, owner: Owner) -> None:
        self._jobs = database[collection]
        self._owner = owner

    async def renew(self, claims: Sequence[Claim], lease_s: float) -> list[Job]:
        """Extend the leases of `claims` by `lease_s` seconds of the database's time, in one round trip; they also say
        again where each job is.

        Returns the jobs whose lease is no longer ours. A lease that ran out but was taken by nobody is renewed all
        the same: the token decides, not the clock. Raises PyMongoError.
        """
        if not claims:
            return []
        ends = {"lease.expires_at": server_time_in(lease_s)}
        updates = [
            UpdateOne(
                fence(claim.job, self._owner.supervisor),
                [{"$set": {**ends, "lease.slot": claim.seat.slot, "lease.pid": claim.seat.pid}}],
            )
            for claim in claims
        ]
        done = await self._jobs.bulk_write(updates, ordered=False)
        if done.matched_count == len(claims):
            return []
        held = await self._mine({"lease.token": 1})
        keys = {claim_key(document["_id"], document["lease"]["token"]) for document in held}
        return [claim.job for claim in claims if claim_key(claim.job.id, claim.job.token) not in keys]

    async def cancel_requests(self) -> set[tuple[bytes, int]]:
        """Return the claims (`claim_key`) of our running jobs that somebody asked to cancel."""
        asked = await self._mine({"lease.token": 1}, {"cancel_requested": True})
        return {claim_key(document["_id"], document["lease"]["token"]) for document in asked}

    async def strays(self, known: Sequence[Job]) -> list[tuple[Job, Seat]]:
        """Return jobs claimed in our name that we know nothing of: the reply to that claim was lost."""
        claims = {claim_key(job.id, job.token) for job in known}
        mine = await self._mine(dict.fromkeys(_ORPHAN_FIELDS, 1))
        found = [to_orphan(document) for document in mine]
        return [(job, seat) for job, seat, _ in filter(None, found) if claim_key(job.id, job.token) not in claims]

    async def ask_primary(self) -> tuple[Any, float]:
        """Return the id of the election that made the primary, and its clock in seconds since 1970."""
        hello = await self._jobs.database.client.admin.command("hello")
        return hello.get("electionId"), hello["localTime"].timestamp()

    async def anything_amiss(self) -> bool:
        """Tell in one round trip whether there is anything to do for `set_aside_malformed`, `end_cancelled`, `expired`.

        Raises PyMongoError.
        """
        return await self._jobs.find_one({"$or": [_MALFORMED, _EXPIRED, _CANCELLED]}, {"_id": 1}) is not None

    async def expired(self, limit: int = 100) -> list[tuple[Job, Seat, Owner]]:
        """Return jobs whose lease has run out, whoever held it."""
        documents = await self._processing(EXPIRED, limit)
        return list(filter(None, map(to_orphan, documents)))

    async def of_supervisor(self, supervisor: str) -> list[tuple[Job, Seat, Owner]]:
        """Return the jobs held by `supervisor`, for a successor that knows that it is dead."""
        documents = await self._processing({"lease.supervisor": supervisor}, 1000)
        return list(filter(None, map(to_orphan, documents)))

    async def set_aside_malformed(self) -> int:
        """End `processing` documents without a usable lease as `failed`, `invalid`; return how many there were.

        No supervisor wrote them, so none will ever end them.
        """
        message = "lease: missing or malformed on a job that is `processing`; producers insert jobs as `pending`"
        error = describe(ErrorKind.INVALID, ErrorInfo(message))
        return await end_all(self._jobs, _MALFORMED, Status.FAILED, error, ["lease"])

    async def end_cancelled(self) -> int:
        """End pending jobs that somebody asked to cancel as `cancelled`; return how many there were.

        A claim does that too, one by one, and only with a free slot and when they are due.
        """
        error = describe(ErrorKind.CANCELLED, ErrorInfo("cancelled before it ran"))
        return await end_all(self._jobs, _CANCELLED, Status.CANCELLED, error)

    async def _mine(self, fields: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        filter_ = {"status": Status.PROCESSING.value, "lease.supervisor": self._owner.supervisor, **(more or {})}
        return await self._jobs.find(filter_, fields).to_list()

    async def _processing(self, filter_: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        fields = dict.fromkeys(_ORPHAN_FIELDS, 1)
        return await self._jobs.find({"status": Status.PROCESSING.value, **filter_}, fields, limit=limit).to_list()


def claim_key(job_id: Any, token: int) -> tuple[bytes, int]:
    """Return what tells a claim from all others: by the id as it is stored, since 1 equals True, and NaN nothing."""
    return bson.encode({"": job_id}), token


def to_orphan(document: Mapping[str, Any]) -> tuple[Job, Seat, Owner] | None:
    """Read a claimed job back from its document, with where it ran and who held it; None if its lease is malformed."""
    lease = document.get("lease")
    if not isinstance(lease, Mapping) or not isinstance(lease.get("token"), int):
        return None
    job = Job(
        id=document["_id"],
        handler=str(document.get("handler")),
        attempt=_count(document, "attempt", 1),
        token=lease["token"],
        crashes=_count(document, "crashes", 0),
        max_attempts=_count(document, "max_attempts", 0) or None,
        cancel_requested=document.get("cancel_requested") is True,
    )
    seat = Seat(_count(lease, "slot", -1), _count(lease, "pid", 0))
    return job, seat, Owner(str(lease.get("supervisor")), str(lease.get("host")))


def _count(document: Mapping[str, Any], name: str, default: int) -> int:
    value = document.get(name)
    return int(value) if isinstance(value, (int, float)) and abs(value) < 2**31 else default
