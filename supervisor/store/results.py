"""Recording what became of claimed jobs: fenced, in groups, exactly once.

Every write filters on the job's `_id`, the token of the claim and the supervisor that holds it. What matches nothing
has lost its lease, unless an earlier try of the same write got through and only its reply was lost: then the newest
entry of `attempts` carries our token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bson import ObjectId
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne, timeout
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, OperationFailure

from supervisor.core import files
from supervisor.core.job import ENDED, MAX_ATTEMPT_ENTRIES, Job, Status
from supervisor.core.outcome import Returned
from supervisor.core.transitions import Transition
from supervisor.store.claims import Owner, Seat, server_time_in
from supervisor.store.connection import CALL_TIMEOUT_S
from supervisor.store.files import FILES
from supervisor.store.schema import ACTIVE

EXPIRED = {"lease.expires_at": {"$type": "date"}, "$expr": {"$lte": ["$lease.expires_at", "$$NOW"]}}
"""A lease whose end has come by the database's clock; the type test keeps missing and wrong values out."""


_TOO_DEEP, _TOO_LARGE, _BREAKS_VALIDATOR, _DUPLICATE_KEY = 15, {10334, 17419}, 121, 11000
_REFUSED = {_TOO_DEEP, *_TOO_LARGE, _BREAKS_VALIDATOR, _DUPLICATE_KEY}
"""Codes by which the server refuses this very document for good; any other error may be gone the next time."""


class ResultRefusedError(Exception):
    """The database cannot store this result (too deep, too large); the message is the server's reason."""


class ResultStore:
    """Applies transitions of claimed jobs."""

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collection: str) -> None:
        self._session = database.client.start_session(causal_consistency=False)
        self._transaction = asyncio.Lock()
        self._jobs, self._files = database[collection], database[FILES]

    @property
    def session(self) -> str:
        """The id of the session that all transactions of this store share, as a UUID in text."""
        return str(self._session.session_id["id"].as_uuid())

    async def apply(self, ended: Sequence[Ended]) -> list[bool | ResultRefusedError]:
        """Write the transitions in one round trip; those with followers in a transaction each.

        Returns for each whether it is recorded: True, False where the lease was lost (the result is void), or the
        error of a result that cannot be stored. Raises PyMongoError where the outcome is unknown: call again with the
        same transitions until it answers.
        """
        answers: dict[int, bool | ResultRefusedError] = {}
        alone = [position for position, each in enumerate(ended) if _has_followers(each)]
        for position in alone:
            answers[position] = await self._apply_with_followers(ended[position])
        together = [position for position in range(len(ended)) if position not in answers]
        if together:
            found = await self._apply_together([ended[position] for position in together])
            answers.update(zip(together, found, strict=True))
        return [answers[position] for position in range(len(ended))]

    async def _apply_together(self, ended: Sequence[Ended]) -> list[bool | ResultRefusedError]:
        updates = [UpdateOne(each.fence(), _update(each)) for each in ended]
        refused: dict[int, ResultRefusedError] = {}
        matched = 0
        try:
            matched = (await self._jobs.bulk_write(updates, ordered=False)).matched_count
        except BulkWriteError as error:
            failures = error.details["writeErrors"]
            if error.details["writeConcernErrors"] or any(each["code"] not in _REFUSED for each in failures):
                raise  # not yet durable, or a trouble of the moment: written again, which changes nothing twice
            refused = {failed["index"]: ResultRefusedError(str(failed["errmsg"])) for failed in failures}
        except (InvalidDocument, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code not in _REFUSED:
                raise
            if len(ended) == 1:
                return [ResultRefusedError(str(error)[:500])]
            return [answer for each in ended for answer in await self._apply_together([each])]
        if matched == len(ended):
            return [True] * len(ended)
        return [
            refused[position] if position in refused else await self._is_recorded(each)
            for position, each in enumerate(ended)
        ]

    async def _apply_with_followers(self, ended: Ended) -> bool | ResultRefusedError:
        """Complete a job and enqueue its followers in one transaction: all of it happens, or nothing."""

        async def both(session: AsyncClientSession) -> bool:
            followers = [follower_document(ended.transition.job, each) for each in ended.transition.job.then]
            wanted = await self._not_yet_enqueued(followers, ended.transition.job, session)
            children = [follower["_id"] for follower in wanted]
            update = await self._jobs.update_one(ended.fence(), _pipeline(ended, children), session=session)
            if update.matched_count and wanted:
                await self._name_files(wanted, session)
                await self._jobs.insert_many(wanted, session=session)
            return bool(update.matched_count)

        try:
            if await self._in_transaction(both):
                return True
        except (InvalidDocument, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code not in _REFUSED:
                raise
            return ResultRefusedError(str(error)[:500])
        return await self._is_recorded(ended)

    async def _in_transaction(self, steps: Callable[[AsyncClientSession], Awaitable[bool]]) -> bool:
        """Do `steps` in a transaction, within the deadline of a call: the driver would repeat it for two minutes.

        All share a session, since a session's next transaction ends one that a lost reply has left open. In another
        session it would block the job, and renewals of its lease, for the minute until the server ends it.
        """
        async with self._transaction:
            with timeout(CALL_TIMEOUT_S):
                return await self._session.with_transaction(steps)

    async def _not_yet_enqueued(
        self, followers: Sequence[dict[str, Any]], parent: Job, session: AsyncClientSession
    ) -> list[dict[str, Any]]:
        """Leave out followers whose `unique_key` is taken, or whose `_id` exists: that work is enqueued already.

        The parent's own key is free, since it completes in the same transaction.
        """
        wanted: list[dict[str, Any]] = []
        for follower in followers:
            same: list[dict[str, Any]] = [{"_id": {"$eq": follower["_id"]}}]
            key = follower.get("unique_key")
            if key is not None:
                others = {"unique_key": key, "status": {"$in": ACTIVE}, "_id": {"$ne": parent.id}}
                same.append(others)
            siblings = [each for each in wanted if each["_id"] == follower["_id"] or key == each.get("unique_key", ...)]
            if not siblings and await self._jobs.find_one({"$or": same}, {"_id": 1}, session=session) is None:
                wanted.append(follower)
        return wanted

    async def _name_files(self, followers: Sequence[dict[str, Any]], session: AsyncClientSession) -> None:
        """Let the files that followers name belong to them: they may outlive their parent."""
        for follower in followers:
            if file_ids := files.named_in(follower):
                ours, named = files.naming(file_ids, self._jobs.name, follower["_id"])
                await self._files.update_many(ours, named, session=session)

    async def _is_recorded(self, ended: Ended) -> bool:
        """Tell whether this very claim has already been ended by an earlier try of this write.

        By its outcome too: a reaper that found the claim expired has ended it in our name, as `lost`.
        """
        change = ended.transition
        if not change.is_attempt:
            return True  # given back already, or lost: it is not ours in any case
        mine = {"token": change.job.token, "supervisor": ended.owner.supervisor, "outcome": str(change.outcome)}
        filter_ = {"_id": {"$eq": change.job.id}, "attempts": {"$elemMatch": mine}}
        return await self._jobs.find_one(filter_, {"_id": 1}) is not None

    async def report_progress(self, job: Job, owner: Owner, progress: dict[str, Any]) -> bool:
        """Store the handler's newest progress; False where the lease was lost. Raises PyMongoError."""
        now = {"$mergeObjects": [{"$literal": progress}, {"at": "$$NOW"}]}
        done = await self._jobs.update_one(fence(job, owner.supervisor), [{"$set": {"progress": now}}])
        return bool(done.matched_count)


@dataclass(frozen=True)
class Ended:
    """A transition with what its record needs besides: who held the claim, where it ran, where its result lies."""

    transition: Transition
    seat: Seat
    owner: Owner
    result_file: ObjectId | None = None
    progress: dict[str, Any] | None = None
    """The handler's last report, if it has not been written yet."""
    bare: bool = False
    """Write no more than the status and a short reason: nothing else fits into the document."""
    only_if_expired: bool = False
    """Set by the reaper: the owner may have renewed the lease since it was seen expired."""

    def fence(self) -> dict[str, Any]:
        """Return the filter that matches the job only while this claim holds."""
        filter_ = fence(self.transition.job, self.owner.supervisor)
        return {**filter_, **EXPIRED} if self.only_if_expired else filter_


def fence(job: Job, supervisor: str) -> dict[str, Any]:
    """Return the filter that matches `job` only while the claim `job.token` of `supervisor` holds."""
    return {
        "_id": {"$eq": job.id},
        "status": Status.PROCESSING.value,
        "lease.token": job.token,
        "lease.supervisor": supervisor,
    }


def follower_document(job: Job, follower: Any) -> dict[str, Any]:
    """Return the job that `then` asks for; its payload names its parent."""
    made = {key: value for key, value in follower.items() if value is not None}
    payload = {**made.get("payload", {}), "parent_job_id": job.id}
    inherited = {"batch_id": job.batch_id, "trace": job.trace}
    return {
        **{key: value for key, value in inherited.items() if value is not None},
        **made,
        "_id": made.get("_id", ObjectId()),
        "payload": payload,
        "status": Status.PENDING.value,
    }


def _has_followers(ended: Ended) -> bool:
    return ended.transition.status is Status.COMPLETED and bool(ended.transition.job.then)


def _update(ended: Ended) -> list[dict[str, Any]]:
    change = ended.transition
    if change.is_attempt:
        return _pipeline(ended)
    return [{"$unset": ["lease"]}, {"$set": {"status": change.status.value, "attempt": change.attempt}}]


def _pipeline(ended: Ended, children: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Return the update as a pipeline. Values that come from outside are literals: a result may contain `$` strings."""
    change = ended.transition
    if ended.bare:
        return _bare_pipeline(change)
    usage = _usage(change)
    fields: dict[str, Any] = {
        "status": change.status.value,
        "attempt": change.attempt,
        "crashes": change.crashes,
        "usage": {"$literal": usage},
        "attempts": _with_entry(ended, usage),
        "lease": "$$REMOVE",
    }
    if change.status is Status.COMPLETED:
        fields |= {"error": "$$REMOVE", "result": "$$REMOVE", "result_file": "$$REMOVE"}
    if change.status in ENDED:
        fields["finished_at"] = "$$NOW"
    if change.run_in_s is not None:
        fields["run_at"] = server_time_in(change.run_in_s)
    if change.error is not None:
        fields["error"] = {"$literal": change.error}
    if children:
        fields["children"] = {"$literal": list(children)}
    if ended.result_file is not None:
        fields["result_file"] = ended.result_file
    elif isinstance(change.ended, Returned):
        result = change.ended.result
        fields["result"] = None if result is None else {"$literal": RawBSONDocument(result)}
    if ended.progress is not None:
        fields["progress"] = {"$mergeObjects": [{"$literal": ended.progress}, {"at": "$$NOW"}]}
    # every value is computed from the document as it was, so that the entry may read what is replaced beside it
    return [{"$set": fields}]


def _bare_pipeline(change: Transition) -> list[dict[str, Any]]:
    error = change.error or {}
    short = {"kind": error.get("kind"), "message": str(error.get("message"))[:60]}
    fields = {"status": change.status.value, "error": {"$literal": short}}
    return [{"$unset": ["lease", "progress", "usage"]}, {"$set": fields}]


def _usage(change: Transition) -> dict[str, Any]:
    used = change.ended.usage
    return {
        "wait_s": round(change.job.wait_s, 3),
        "run_s": round(used.run_s, 4),
        "cpu_s": None if used.cpu_s is None else round(used.cpu_s, 4),
        "peak_rss_mb": None if used.peak_rss_mb is None else round(used.peak_rss_mb, 1),
    }


def _with_entry(ended: Ended, usage: dict[str, Any]) -> dict[str, Any]:
    """Return the expression for `attempts` with this attempt's entry appended, the newest 20 kept."""
    change = ended.transition
    entry = {
        "n": change.job.attempt,
        "token": change.job.token,
        "supervisor": ended.owner.supervisor,
        "host": ended.owner.host,
        "slot": ended.seat.slot,
        "pid": ended.seat.pid,
        "outcome": str(change.outcome),
        "error": change.error,
        "usage": usage,
        "logs": change.ended.logs,
    }
    if change.ended.evidence is not None:
        entry["evidence"] = asdict(change.ended.evidence)
    dated = {"$mergeObjects": [{"$literal": entry}, {"started_at": "$started_at", "ended_at": "$$NOW"}]}
    so_far = {"$cond": [{"$isArray": "$attempts"}, "$attempts", []]}
    return {"$slice": [{"$concatArrays": [so_far, [dated]]}, -MAX_ATTEMPT_ENTRIES]}
