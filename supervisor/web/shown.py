"""A job as it is shown: what its producer may know of it.

What stays inside: the payload (it can be large, and can hold a password), who runs it and by which claim (`lease`,
`claims`), and how single attempts went on which machine (`attempts`, `usage`, `crashes`, tracebacks, exit codes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.client.documents import id_text
from supervisor.client.shown import plain
from supervisor.core.batch import Batch

_SHOWN = (
    "handler", "status", "priority", "created_at", "run_at", "started_at", "finished_at", "attempt", "progress",
    "cancel_requested", "unique_key", "group_key",
)  # fmt: skip
_ERROR = ("kind", "message", "code", "type")


def job_shown(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a job that are shown, those without a value left out."""
    shown: dict[str, Any] = {"job_id": id_text(job["_id"])}
    shown |= {name: plain(job[name]) for name in _SHOWN if job.get(name) is not None}
    if isinstance(error := job.get("error"), Mapping):
        shown["error"] = {name: plain(error[name]) for name in _ERROR if error.get(name) is not None}
    if job.get("batch_id") is not None:
        shown["batch_id"] = id_text(job["batch_id"])
    if isinstance(children := job.get("children"), list) and children:
        shown["children"] = [id_text(child) for child in children]
    return shown


def batch_shown(batch: Batch) -> dict[str, Any]:
    """Return the progress of a batch."""
    shown: dict[str, Any] = {
        "batch_id": id_text(batch.id),
        "status": batch.status,
        "total_items": batch.total,
        "processed_items": batch.done,
        "counts": dict(batch.counts),
    }
    return shown if batch.ended_at is None else {**shown, "on_end_job_id": id_text(batch.on_end_id)}
