"""The queue by handler, as `top` shows it: how many jobs wait, run and have failed, and how long the oldest waits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from supervisor.core.job import Status

_COUNTED = [Status.PENDING.value, Status.PROCESSING.value, Status.FAILED.value]


@dataclass(frozen=True)
class Backlog:
    """The jobs of one handler: due ones, those with a `run_at` to come, running and failed ones."""

    handler: str
    due: int = 0
    later: int = 0
    running: int = 0
    failed: int = 0
    oldest: datetime | None = None
    """Since when the due job waits that waits longest; None where nothing tells."""


def backlog_pipeline() -> list[dict[str, Any]]:
    """Return the aggregation for `to_backlogs`; the index `claim` alone answers it."""
    is_pending, is_due = {"$eq": ["$status", Status.PENDING.value]}, {"$lte": ["$run_at", "$$NOW"]}
    made = {"$cond": [{"$eq": [{"$type": "$_id"}, "objectId"]}, {"$toDate": "$_id"}, None]}
    waits_since = {"$cond": [{"$and": [is_pending, is_due]}, {"$max": ["$run_at", made]}, None]}
    is_later = {"$and": [is_pending, {"$not": [is_due]}]}
    return [
        {"$match": {"status": {"$in": _COUNTED}}},
        {
            "$group": {
                "_id": {"handler": "$handler", "status": "$status"},
                "jobs": {"$sum": 1},
                "later": {"$sum": {"$cond": [is_later, 1, 0]}},
                "oldest": {"$min": waits_since},
            }
        },
    ]


def to_backlogs(groups: Iterable[Mapping[str, Any]]) -> dict[str, Backlog]:
    """Read the answer to `backlog_pipeline`: a backlog for each handler."""
    found: dict[str, dict[str, Any]] = {}
    for group in groups:
        handler, status = str(group["_id"].get("handler")), group["_id"].get("status")
        counts = found.setdefault(handler, {})
        if status == Status.PENDING:
            oldest = group.get("oldest")
            counts |= {"due": group["jobs"] - group["later"], "later": group["later"]}
            counts["oldest"] = oldest if isinstance(oldest, datetime) else None
        else:
            counts["running" if status == Status.PROCESSING else "failed"] = group["jobs"]
    return {handler: Backlog(handler, **counts) for handler, counts in found.items()}
