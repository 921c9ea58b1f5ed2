"""Whether a document can be a job, from small parts of it: what a claim reads before it decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.core.job import CONTROL_FIELDS, find_problem

_TYPE_ALIASES = {"payload": "object", "lease": "object", "progress": "object", "result": "object", "error": "object",
                 "usage": "object", "children": "array", "attempts": "array"}  # fmt: skip
"""Fields too large to read at claim: only their type is asked for."""


def projection() -> dict[str, Any]:
    """Return the projection of an aggregation that reads what `problem_of` looks at, and the database's `_now`."""
    size = {"$cond": [{"$eq": [{"$type": "$payload"}, "object"]}, {"$bsonSize": "$payload"}, 0]}
    types = {name: {"$type": f"${name}"} for name in _TYPE_ALIASES}
    return {**dict.fromkeys(CONTROL_FIELDS, 1), "_types": types, "_payload_bytes": size, "_now": "$$NOW"}


def problem_of(document: Mapping[str, Any], payload_kb: int) -> str | None:
    """Return one line that says why a document of `projection` cannot be a job; None if it can."""
    if problem := find_problem(document):
        return problem
    for name, wanted in _TYPE_ALIASES.items():
        found = document["_types"][name]
        if found not in (wanted, "null", "missing"):
            article = "a document" if wanted == "object" else "an array"
            return f"{name}: is of type {found}, must be {article}"
    if document["_payload_bytes"] > payload_kb * 1024:
        return (
            f"payload: is {document['_payload_bytes'] / 1024:.0f} kB, must be at most {payload_kb} kB "
            "(limits.payload_kb); larger input belongs in a file"
        )
    return None
