"""Batches, as operations: making one, and asking how far it is without counting all of its jobs each time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from supervisor.client import inserting
from supervisor.client.calls import Breath, Steps, call
from supervisor.client.inserting import Made
from supervisor.client.new_jobs import check_storable
from supervisor.client.operations import AT_A_BREATH, Operations
from supervisor.core import files
from supervisor.core.batch import COLLECTION, SETTLED_S, Batch, progress
from supervisor.core.job import ACTIVE, ENDED, Status
from supervisor.errors import JobNotFoundError, JobStateError, PayloadError, UnknownHandlerError, UsageError

Document = dict[str, Any]
_ENDED = [status.value for status in ENDED]


def make(
    operations: Operations,
    batch_id: Any,
    jobs: Iterable[Mapping[str, Any]],
    on_end: Mapping[str, Any] | None,
    session: Any = None,
) -> Steps[Batch]:
    """Check and insert the jobs of a batch (None: of a new id); raises as `enqueue_batch` does.

    If the producer dies in between, or the database falls silent, the batch stays open. With an id of the producer's
    own, the same request goes on with it: the ids of its jobs follow from that, so none is inserted twice.
    """
    check_storable({"batch_id": batch_id})
    begun = None if batch_id is None else (yield from _begun(operations, batch_id, session))
    begun_at = datetime.now(UTC) if begun is None else begun["begun_at"]
    numbering = None if batch_id is None else _Numbering.of(batch_id, begun_at)
    batch_id = ObjectId() if batch_id is None else batch_id
    checked = yield from _checked(operations, batch_id, jobs, numbering)
    made = checked.made
    end = None if on_end is None else _checked_end(operations, batch_id, on_end)
    if found := (yield from checked.find_taken(operations, batch_id, session)):
        raise JobStateError(f"{len(found)} of {len(made)} jobs are there already, so none was enqueued: {found[0]}")
    if begun is None:
        fields: Document = {"collection": operations.jobs, "total": len(made), "open": True, "begun_at": begun_at}
        begun = {**fields, "_id": batch_id, **({} if end is None else {"on_end": end})}
        yield from _begin(begun, session)
    elif (begun.get("total"), "on_end" in begun) != (len(made), on_end is not None):
        raise _exists(batch_id)
    if end := begun.get("on_end"):
        yield from operations.name_files([(end["_id"], files.named_in(end))], session)
    yield from _insert(operations, batch_id, made, session)
    return progress(begun, {}, 0)


def _begun(operations: Operations, batch_id: Any, session: Any) -> Steps[Document | None]:
    """Return a batch that somebody has begun to insert; raises JobStateError for one that is whole, or of others."""
    found: Document | None = yield call(COLLECTION, "find_one", {"_id": {"$eq": batch_id}}, session=session)
    if found is None:
        return None
    is_ours = found.get("open") is True and found.get("collection") == operations.jobs
    if not is_ours or not isinstance(found.get("begun_at"), datetime):
        raise _exists(batch_id)
    return found


def _begin(batch: Document, session: Any) -> Steps[None]:
    dated = {**{name: {"$literal": value} for name, value in batch.items()}, "created_at": "$$NOW"}
    del dated["_id"]
    new = {"_id": {"$eq": batch["_id"]}, "created_at": {"$exists": False}}  # else the upsert would find one
    try:
        yield call(COLLECTION, "update_one", new, [{"$set": dated}], upsert=True, session=session)
    except DuplicateKeyError:
        raise _exists(batch["_id"]) from None


def _insert(operations: Operations, batch_id: Any, made: list[Made], session: Any) -> Steps[None]:
    """Insert the jobs that are not there yet, and close the batch; raises JobStateError where others have some."""
    _, refused = yield from operations.insert_many(made, session)
    this, there = {"_id": {"$eq": batch_id}}, len(made)
    if refused:  # by an earlier try, or by somebody who was faster since we looked
        there = yield call(operations.jobs, "count_documents", {"batch_id": {"$eq": batch_id}}, session=session)
    if not there:
        yield call(COLLECTION, "delete_one", this, session=session)
    else:
        yield call(COLLECTION, "update_one", this, {"$set": {"open": False, "total": there}}, session=session)
    if there < len(made):
        raise inserting.taken(refused, len(made))


def _exists(batch_id: Any) -> JobStateError:
    return JobStateError(f"a batch with the id {str(batch_id)!r} exists already")


@dataclass(frozen=True)
class _Numbering:
    """The ids of the jobs of a batch: ObjectIds of its time, in order, which another try gives them too."""

    head: bytes

    @classmethod
    def of(cls, batch_id: Any, begun_at: datetime) -> _Numbering:
        """Return those of a batch that was begun at this time."""
        own = hashlib.sha256(bson.encode({"": batch_id})).digest()
        return cls(int(begun_at.timestamp()).to_bytes(4, "big") + own[:5])

    def __getitem__(self, number: int) -> ObjectId:
        return ObjectId(self.head + number.to_bytes(3, "big"))


@dataclass
class _Checked:
    """The jobs of a batch, and what of theirs may be taken: ids of the producer's own and `unique_key`s."""

    made: list[Made] = field(default_factory=list)
    own_ids: list[Any] = field(default_factory=list)
    unique_keys: list[str] = field(default_factory=list)
    seen: dict[bytes, int] = field(default_factory=dict)

    def add(self, made: Made, number: int, *, own_id: bool) -> None:
        """Take in a job; raises UsageError for what another one of the batch has already."""
        self.made.append(made)
        if own_id:
            self.own_ids.append(made.job_id)
            self._note("_id", made.job_id, number)
        if made.unique_key is not None:
            self.unique_keys.append(made.unique_key)
            self._note("unique_key", made.unique_key, number)

    def find_taken(self, operations: Operations, batch_id: Any, session: Any) -> Steps[list[Any]]:
        """Return which of the ids and keys are those of jobs that are not of this batch."""
        others = {"batch_id": {"$ne": batch_id}}
        return (yield from inserting.find_taken(operations.jobs, self.own_ids, self.unique_keys, others, session))

    def _note(self, name: str, value: Any, number: int) -> None:
        before = self.seen.setdefault(bson.encode({name: value}), number)
        if before != number:
            raise UsageError(f"{name}: {value!r} is that of jobs[{before}] too")


def _checked(
    operations: Operations, batch_id: Any, jobs: Iterable[Mapping[str, Any]], numbering: _Numbering | None
) -> Steps[_Checked]:
    now, checked = datetime.now(UTC), _Checked()
    for number, job in enumerate(jobs):
        if number % AT_A_BREATH == 0:
            yield Breath()
        own_id = job.get("job_id") is not None or job.get("_id") is not None
        fields = {**job, "batch_id": batch_id}
        if numbering is not None and not own_id:
            fields["job_id"] = numbering[number]
        try:
            made = Made.of(*operations.checked_fields(fields, now))
            checked.add(made, number, own_id=own_id)
        except (UsageError, PayloadError, UnknownHandlerError) as error:
            raise type(error)(f"jobs[{number}]: {error}") from None
    if not checked.made:
        raise UsageError("jobs: a batch needs at least one")
    return checked


def _checked_end(operations: Operations, batch_id: Any, on_end: Mapping[str, Any]) -> Document:
    """Return the job at the end, checked as it will be, with what it is enqueued with then left out."""
    payload = {**(on_end.get("payload") or {}), "batch_id": batch_id}
    try:
        made, _ = operations.checked_fields({**on_end, "payload": payload}, datetime.now(UTC))
    except (UsageError, PayloadError, UnknownHandlerError) as error:
        raise type(error)(f"on_end: {error}") from None
    return {name: value for name, value in made.items() if name not in ("status", "created_at")}


def look(operations: Operations, batch_id: Any) -> Steps[Batch]:
    """Return the progress of a batch; raises JobNotFoundError where no job has this `batch_id`.

    What has ended is counted once: the document keeps the counts up to a moment that is settled. Only jobs that have
    ended since then are counted, and those that run. When none is active any more, all are counted once again: another
    program may have ended some without a `finished_at`, or retried some.
    """
    found = yield call(COLLECTION, "aggregate", [{"$match": {"_id": {"$eq": batch_id}}}, {"$set": {"now": "$$NOW"}}])
    if not found:
        return (yield from _without_document(operations, batch_id))
    document: Document = found[0]
    is_over = not document.get("open") and not (yield from _any_active(operations, batch_id))
    counted = document.get("counted") or {}
    until = counted.get("until")
    since = {"finished_at": {"$gt": until}} if until is not None else {}
    newly = yield from _count(operations, {"batch_id": {"$eq": batch_id}, "status": {"$in": _ENDED}, **since})
    if is_over and counted.get("all") and not newly:
        return progress(document, {}, 0)
    running = {"batch_id": {"$eq": batch_id}, "status": Status.PROCESSING.value}
    batch = progress(document, newly, (yield call(operations.jobs, "count_documents", running)))
    if is_over:
        return (yield from _finish(operations, document, batch))
    yield from _settle(operations, document, until)
    return batch


def _settle(operations: Operations, document: Document, until: datetime | None) -> Steps[None]:
    """Move the moment up to which all is counted, when it has become old."""
    settled = document["now"] - timedelta(seconds=SETTLED_S)
    if (until or document["created_at"]) > settled - timedelta(seconds=SETTLED_S):
        return
    after = {"$gt": until, "$lte": settled} if until is not None else {"$lte": settled}
    of_batch = {"batch_id": {"$eq": document["_id"]}, "status": {"$in": _ENDED}, "finished_at": after}
    more = yield from _count(operations, of_batch)
    counted = document.get("counted") or {}
    total = {status: counted.get(status, 0) + more.get(status, 0) for status in _ENDED}
    unmoved = {"_id": {"$eq": document["_id"]}, "counted.until": until}
    yield call(COLLECTION, "update_one", unmoved, {"$set": {"counted": {"until": settled, **total}}})


def _finish(operations: Operations, document: Document, so_far: Batch) -> Steps[Batch]:
    """Count all jobs of a batch that has ended, and keep that, unless retention has taken some of them already."""
    found = yield from _count(operations, {"batch_id": {"$eq": document["_id"]}, "status": {"$in": _ENDED}})
    counts = found if sum(found.values()) >= so_far.done else so_far.counts
    counted = {"all": True, "until": document["now"], **{status: counts.get(status, 0) for status in _ENDED}}
    yield call(COLLECTION, "update_one", {"_id": {"$eq": document["_id"]}}, {"$set": {"counted": counted}})
    return progress({**document, "counted": counted}, {}, 0)


def _without_document(operations: Operations, batch_id: Any) -> Steps[Batch]:
    """Count all jobs of a batch that a program has made by inserting jobs and nothing else."""
    counts = yield from _count(operations, {"batch_id": {"$eq": batch_id}, "status": {"$in": [*ACTIVE, *_ENDED]}})
    if not counts:
        raise JobNotFoundError(f"no job has the batch_id {str(batch_id)!r}")
    return Batch(batch_id, sum(counts.values()), {status.value: counts.get(status.value, 0) for status in Status})


def _any_active(operations: Operations, batch_id: Any) -> Steps[bool]:
    active = {"batch_id": {"$eq": batch_id}, "status": {"$in": ACTIVE}}
    return (yield call(operations.jobs, "find_one", active, {"_id": 1})) is not None


def _count(operations: Operations, filter_: Mapping[str, Any]) -> Steps[dict[str, int]]:
    groups = yield call(
        operations.jobs, "aggregate", [{"$match": filter_}, {"$group": {"_id": "$status", "jobs": {"$sum": 1}}}]
    )
    return {group["_id"]: group["jobs"] for group in groups}
