"""The record of an attempt: what is written to its job when it has ended, and to many jobs at once that ended alike.

An update of one job costs the database three times what it costs in an update of many. So short jobs that completed
with the same counts share one: it finds the values of each by its `_id` in a table that it brings along.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateMany, UpdateOne

from supervisor.core.job import ENDED, MAX_ATTEMPT_ENTRIES, Job, Status
from supervisor.core.outcome import Returned
from supervisor.core.transitions import Transition
from supervisor.store.taking import FEWEST, PLAIN_IDS, Owner, Seat, server_time_in

SMALL_BYTES = 4096
"""The largest output and result together of a job that shares an update: all of them make one document."""

EXPIRED = {"lease.expires_at": {"$type": "date"}, "$expr": {"$lte": ["$lease.expires_at", "$$NOW"]}}
"""A lease whose end has come by the database's clock; the type test keeps missing and wrong values out."""


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


@dataclass(frozen=True)
class Write:
    """One statement of a bulk, and which of the given attempts it records."""

    positions: tuple[int, ...]
    statement: UpdateOne | UpdateMany


def writes(ended: Sequence[Ended]) -> list[Write]:
    """Return the statements that record all of `ended`: those that are alike share one."""
    alike: dict[Hashable, list[int]] = {}
    for position, each in enumerate(ended):
        alike.setdefault(_kind(each) or position, []).append(position)
    return [write for positions in alike.values() for write in _writes_of(ended, positions)]


def write_alone(ended: Ended) -> UpdateOne:
    """Return the statement that records one attempt by itself."""
    return UpdateOne(ended.fence(), update_of(ended))


def _writes_of(ended: Sequence[Ended], positions: Sequence[int]) -> Iterator[Write]:
    if len(positions) < FEWEST:
        yield from (Write((position,), write_alone(ended[position])) for position in positions)
        return
    group = [ended[position] for position in positions]
    job, ids = group[0].transition.job, [each.transition.job.id for each in group]
    filter_ = {**fence(job, group[0].owner.supervisor), "_id": {"$in": ids}}
    update = _pipeline_of_many(group, ids) if group[0].transition.is_attempt else update_of(group[0])
    yield Write(tuple(positions), UpdateMany(filter_, update, hint="_id_"))


def _kind(ended: Ended) -> Hashable:
    """Return what attempts that can share an update have in common; None if this one cannot.

    Ids of other types may not be equal to themselves, or be taken for a pattern.
    """
    change = ended.transition
    job = change.job
    if type(job.id) not in PLAIN_IDS or ended.only_if_expired or ended.bare:
        return None
    counts = (change.is_attempt, ended.owner, job.token, change.attempt)
    if not change.is_attempt:
        return counts
    outcome = change.ended
    if not isinstance(outcome, Returned) or ended.result_file is not None or job.then:
        return None
    small = len(outcome.logs) + len(outcome.result or b"") <= SMALL_BYTES
    return (*counts, change.crashes, ended.progress is None) if small else None


def _pipeline_of_many(group: Sequence[Ended], ids: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the update that completes all of `group`, each with what its own row says."""
    change = group[0].transition
    row = {
        "$arrayElemAt": [{"$literal": [_row(each) for each in group]}, {"$indexOfArray": [{"$literal": ids}, "$_id"]}]
    }
    fields = {
        "status": change.status.value,
        "attempt": change.attempt,
        "crashes": change.crashes,
        "usage": "$$row.entry.usage",
        "result": "$$row.result",
        "attempts": _with_entry("$$row.entry"),
        "finished_at": "$$NOW",
    }
    if group[0].progress is not None:
        fields["progress"] = dated("$$row.progress")
    filled = {"$let": {"vars": {"row": row}, "in": fields}}
    return [{"$replaceWith": {"$mergeObjects": ["$$ROOT", filled]}}, {"$unset": ["lease", "error", "result_file"]}]


def _row(ended: Ended) -> dict[str, Any]:
    outcome = ended.transition.ended
    result = outcome.result if isinstance(outcome, Returned) else None
    return {
        "entry": _entry(ended, _usage(ended.transition)),
        "result": None if result is None else RawBSONDocument(result),
        "progress": ended.progress,
    }


def update_of(ended: Ended, children: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Return the update that records `ended`, with the ids of the jobs that follow it."""
    change = ended.transition
    if change.is_attempt:
        return _pipeline(ended, children)
    return [{"$unset": ["lease"]}, {"$set": {"status": change.status.value, "attempt": change.attempt}}]


def _pipeline(ended: Ended, children: Sequence[Any]) -> list[dict[str, Any]]:
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
        "attempts": _with_entry({"$literal": _entry(ended, usage)}),
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
        fields["progress"] = dated({"$literal": ended.progress})
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


def dated(progress: Any) -> dict[str, Any]:
    """Return the expression for a report of progress, which is an expression itself, with the database's time."""
    return {"$mergeObjects": [progress, {"at": "$$NOW"}]}


def _with_entry(entry: Any) -> dict[str, Any]:
    """Return the expression for `attempts` with an entry appended, the newest 20 kept; `entry` is an expression."""
    timed = {"$mergeObjects": [entry, {"started_at": "$started_at", "ended_at": "$$NOW"}]}
    so_far = {"$cond": [{"$isArray": "$attempts"}, "$attempts", []]}
    return {"$slice": [{"$concatArrays": [so_far, [timed]]}, -MAX_ATTEMPT_ENTRIES]}


def _entry(ended: Ended, usage: dict[str, Any]) -> dict[str, Any]:
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
    return entry
