"""A job that was just inserted while nothing else waited: it can be claimed by what the change stream tells of it.

The look for candidates costs as much as the claim itself, and here its answer is known. Whatever is unusual about the
document is left to that look.
"""

from __future__ import annotations

from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from supervisor.codec import TOLERANT
from supervisor.core.job import CONTROL_FIELDS, FIELDS, Status, find_problem
from supervisor.store import unreadable
from supervisor.store.taking import PLAIN_IDS

SMALL_BYTES = 4096
"""Of larger documents the stream tells no more than that they are there: many may come at once."""
_FULL = "$fullDocument"
MAY_BE_WORK: list[dict[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": ["insert", "replace"]}},
                {"updateDescription.updatedFields.status": Status.PENDING.value},
            ]
        }
    },
    {"$project": {"document": {"$cond": [{"$lte": [{"$bsonSize": _FULL}, SMALL_BYTES]}, _FULL, "$$REMOVE"]}}},
]
"""The change stream's pipeline that lets through what may be a job to claim, and tells the small ones."""

_UNUSUAL = {"run_at", "cancel_requested", *(name for name, field in FIELDS.items() if field.writer == "supervisor")}


def fresh_job(document: RawBSONDocument | None, payload_kb: int) -> dict[str, Any] | None:
    """Return a document of the change stream as a claim reads it, but for `_now`; None if it needs a closer look."""
    if document is None:
        return None
    told = bson.decode(document.raw, TOLERANT)
    payload, job_id = told.get("payload"), told["_id"]
    if (
        told.get("status") != Status.PENDING.value
        or any(told.get(name) is not None for name in _UNUSUAL)
        or not isinstance(payload, dict | None)
        or type(job_id) not in PLAIN_IDS
        or unreadable.is_suspicious(job_id)
    ):
        return None
    found = {name: told[name] for name in ("_id", *CONTROL_FIELDS) if name in told}
    return None if find_problem(found) or len(document.raw) > payload_kb * 1024 else found
