"""Gathering the facts for `why`: the job, pauses, heartbeats, and how many jobs are in front, within a bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo.collection import Collection

from supervisor.client.controls import Controls
from supervisor.client.documents import before
from supervisor.client.gate_usage import Usage
from supervisor.client.hindrances import rivals
from supervisor.client.reasons import MOST_COUNTED, Facts
from supervisor.core.job import Status
from supervisor.errors import JobNotFoundError
from supervisor.store.gates import COLLECTION as GATES
from supervisor.store.gates import gate_id, started_in
from supervisor.store.soundness import problem_of, projection

Document = dict[str, Any]

_ALSO_READ = ("lease", "error", "finished_at")


def read_job(jobs: Collection[Document], job_id: Any) -> Document:
    """Return what `why` looks at of a job, without what can be large, and the database's `_now`.

    Raises JobNotFoundError.
    """
    pipeline = [{"$match": {"_id": {"$eq": job_id}}}, {"$project": {**projection(), **dict.fromkeys(_ALSO_READ, 1)}}]
    for document in jobs.aggregate(pipeline):
        return document
    raise JobNotFoundError(f"no job has the id {str(job_id)!r}")


def facts_of(
    jobs: Collection[Document], job: Document, payload_kb: int, controls: Controls, supervisors: Sequence[Document]
) -> Facts:
    """Put together what is known of a job of `read_job`; asks for the jobs in front of it only if it is waiting."""
    facts = Facts(job, job["_now"], problem_of(job, payload_kb), controls.pauses(), controls.drains(), supervisors)
    if job.get("status") != Status.PENDING or facts.problem:
        return facts
    facts = replace(facts, usage=_usage(jobs, job))
    return replace(facts, in_front=_count_in_front(jobs, job, rivals(facts)))


def _usage(jobs: Collection[Document], job: Mapping[str, Any]) -> Usage:
    """Count what is held against limits across machines: few jobs run, and the index `claim` finds them."""
    handler, group = job["handler"], job.get("group_key")
    running = {"status": Status.PROCESSING.value, "handler": handler}
    in_group = 0 if group is None else jobs.count_documents({**running, "group_key": group})
    gate = jobs.database[GATES].find_one({"_id": gate_id(jobs.name, handler)}) or {}
    return Usage(jobs.count_documents(running), group, in_group, started_in(gate))


def _count_in_front(jobs: Collection[Document], job: Mapping[str, Any], handlers: list[str]) -> int:
    """Count the due jobs of `handlers` that come before `job`, by the index `claim`; what is not due is not read.

    The order is that of a claim: priority high to low, a missing one as 0; then run_at, a missing one first; then _id.
    """
    due = {"status": Status.PENDING.value, "handler": {"$in": handlers}, "$expr": {"$lte": ["$run_at", "$$NOW"]}}
    priority, run_at = int(job.get("priority") or 0), job.get("run_at")
    same = {"$in": [0, None]} if priority == 0 else priority
    older: list[Document] = [{"run_at": run_at, **before(job["_id"])}]
    if isinstance(run_at, datetime):
        older += [{"run_at": {"$lt": run_at}}, {"run_at": None}]
    places = [*_higher(priority), *({"priority": same, **place} for place in older)]
    count = 0
    for place in places:  # one after another, so that each is a range of the index
        left = MOST_COUNTED + 1 - count
        if left > 0:
            pipeline: list[Document] = [{"$match": {"$and": [due, place]}}, {"$limit": left}, {"$count": "jobs"}]
            count += next((found["jobs"] for found in jobs.aggregate(pipeline)), 0)
    return count


def _higher(priority: int) -> list[Document]:
    """Return the filters of priorities above this one; a missing one is 0."""
    above: list[Document] = [{"priority": {"$gt": priority}}]
    return above if priority >= 0 else [*above, {"priority": None}]
