"""Which jobs a stored file belongs to: its metadata, and the files that a job names.

A file lives as long as one of its jobs. A result and what a handler saves belong to the job that made them. A
producer's upload belongs to every job whose payload, or a follower's, names it as `file_id`. Several collections of
jobs may share the files of a database, so a file names its collection too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from supervisor.core.job import Job

OWNERS = "metadata.job_ids"
"""The path of the array with the ids of the jobs; without it a file is not ours, and never deleted by us."""
COLLECTION = "metadata.collection"
RESULT, SAVED, UPLOAD = "result", "saved", "upload"
"""What `metadata.kind` says."""


def made_by(job: Job, collection: str, kind: str) -> dict[str, Any]:
    """Return the metadata of a file that an attempt of `job` has made."""
    return {"collection": collection, "job_ids": [job.id], "token": job.token, "kind": kind}


def uploaded_to(collection: str, job_id: Any = None) -> dict[str, Any]:
    """Return the metadata of a file that no job names yet, but the one that is about to be inserted, if any."""
    return {"collection": collection, "job_ids": [] if job_id is None else [job_id], "kind": UPLOAD}


def naming(file_ids: Sequence[Any], collection: str, job_id: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the filter and the update that let these files belong to `job_id` too.

    To be made before the job is inserted: a file that is named and has no job is kept for a while.
    """
    ours = {"$or": [{"_id": {"$eq": file_id}} for file_id in file_ids], COLLECTION: collection}
    owners = {"$setUnion": [f"${OWNERS}", [{"$literal": job_id}]]}
    return ours, [{"$set": {OWNERS: owners, "metadata.named_at": "$$NOW"}}]


def named_in(job: Mapping[str, Any]) -> list[Any]:
    """Return the ids of all files that the payload of a job document names, and those of its followers."""
    found = list(_file_ids(job.get("payload")))
    for follower in job.get("then") or ():
        found += _file_ids(follower.get("payload"))
    return found


def _file_ids(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, Mapping):
            if inner.get("file_id") is not None:
                yield inner["file_id"]
            waiting += inner.values()
        elif isinstance(inner, (list, tuple)):
            waiting += inner
