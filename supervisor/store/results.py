"""Recording what became of claimed jobs: fenced, in groups, exactly once.

Every write filters on the job's `_id`, the token of the claim and the supervisor that holds it. What matches nothing
has lost its lease, unless an earlier try of the same write got through and only its reply was lost: then the newest
entry of `attempts` carries our token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bson import ObjectId
from bson.errors import InvalidDocument
from pymongo import timeout
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import BulkWriteError, OperationFailure

from supervisor.core import files
from supervisor.core.job import ACTIVE, Job, Status
from supervisor.store.connection import CALL_TIMEOUT_S
from supervisor.store.files import FILES
from supervisor.store.records import Ended, Write, dated, fence, update_of, write_alone, writes
from supervisor.store.taking import Owner

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
            group = [ended[position] for position in together]
            found = await self._write(group, writes(group))
            answers.update(zip(together, found, strict=True))
        return [answers[position] for position in range(len(ended))]

    async def _apply_alone(self, ended: Ended) -> bool | ResultRefusedError:
        (answer,) = await self._write([ended], [Write((0,), write_alone(ended))])
        return answer

    async def _write(self, ended: Sequence[Ended], writes_: Sequence[Write]) -> list[bool | ResultRefusedError]:
        answers: dict[int, bool | ResultRefusedError] = {}
        matched = 0
        try:
            matched = (await self._jobs.bulk_write([each.statement for each in writes_], ordered=False)).matched_count
        except BulkWriteError as error:
            failures = error.details["writeErrors"]
            if error.details["writeConcernErrors"] or any(each["code"] not in _REFUSED for each in failures):
                raise  # not yet durable, or a trouble of the moment: written again, which changes nothing twice
            for failed in failures:
                answers |= await self._after_refusal(ended, writes_[failed["index"]], str(failed["errmsg"]))
        except (InvalidDocument, OperationFailure) as error:
            if isinstance(error, OperationFailure) and error.code not in _REFUSED:
                raise
            if len(ended) == 1:
                return [ResultRefusedError(str(error)[:500])]
            return [await self._apply_alone(each) for each in ended]
        if matched == len(ended):
            return [True] * len(ended)
        return [
            answers[position] if position in answers else await self._is_recorded(each)
            for position, each in enumerate(ended)
        ]

    async def _after_refusal(
        self, ended: Sequence[Ended], refused: Write, reason: str
    ) -> dict[int, bool | ResultRefusedError]:
        """Find out whom the database refuses of those who shared a statement."""
        if len(refused.positions) == 1:
            return {refused.positions[0]: ResultRefusedError(reason)}
        return {position: await self._apply_alone(ended[position]) for position in refused.positions}

    async def _apply_with_followers(self, ended: Ended) -> bool | ResultRefusedError:
        """Complete a job and enqueue its followers in one transaction: all of it happens, or nothing."""

        async def both(session: AsyncClientSession) -> bool:
            followers = [follower_document(ended.transition.job, each) for each in ended.transition.job.then]
            wanted = await self._not_yet_enqueued(followers, ended.transition.job, session)
            children = [follower["_id"] for follower in wanted]
            update = await self._jobs.update_one(ended.fence(), update_of(ended, children), session=session)
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
        now = dated({"$literal": progress})
        done = await self._jobs.update_one(fence(job, owner.supervisor), [{"$set": {"progress": now}}])
        return bool(done.matched_count)


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
