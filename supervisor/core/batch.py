"""A batch: jobs with one `batch_id`, their progress as counts, and the job that is enqueued when all have ended.

    {_id: batch_id, collection: "jobs", total: 500, open: false, begun_at, created_at,
     counted: {until, completed, failed, cancelled}, on_end: {_id, handler, payload, …}, ended_at}

A batch is `open` while its jobs are being inserted; the ids that they get follow from `begun_at`, so that another try
inserts none twice. `counted` is what had ended by `until`, so that progress counts only what has ended since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from supervisor.core.job import ENDED, Status

COLLECTION = "batches"
SETTLED_S = 60.0
"""After so many seconds no write of an earlier end is still on its way; what ended before may be counted for good."""


@dataclass(frozen=True)
class Batch:
    """The progress of a batch: how many of its `total` jobs have which status."""

    id: Any
    total: int
    counts: Mapping[str, int]
    ended_at: datetime | None = None
    """When the last of them had ended, as far as a batch with `on_end` goes."""
    on_end_id: Any = None
    """The id of the job that is enqueued at the end."""

    @property
    def done(self) -> int:
        """How many have ended, in whatever way."""
        return sum(self.counts[status] for status in ENDED)

    @property
    def ended(self) -> bool:
        """Whether all have."""
        return self.done >= self.total

    @property
    def status(self) -> str:
        """`processing`, then `completed`, or `failed` if any of them has not been completed."""
        if not self.ended:
            return Status.PROCESSING.value
        return (Status.COMPLETED if self.counts[Status.COMPLETED] >= self.total else Status.FAILED).value


def progress(document: Mapping[str, Any], newly_ended: Mapping[str, int], processing: int) -> Batch:
    """Return the progress from the batch's document and what has been counted besides."""
    counted = document.get("counted") or {}
    counts = {status.value: int(counted.get(status.value, 0)) + newly_ended.get(status.value, 0) for status in ENDED}
    total = document["total"]
    running = min(processing, max(0, total - sum(counts.values())))
    counts[Status.PROCESSING.value] = running
    counts[Status.PENDING.value] = max(0, total - sum(counts.values()))
    on_end = document.get("on_end") or {}
    return Batch(document["_id"], total, counts, document.get("ended_at"), on_end.get("_id"))


def follower_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job to enqueue at the end; its payload names the batch."""
    on_end = document["on_end"]
    payload = {**(on_end.get("payload") or {}), "batch_id": document["_id"]}
    return {**on_end, "payload": payload, "status": Status.PENDING.value}
