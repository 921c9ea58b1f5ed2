"""Changing many jobs: by page, since one update of a million documents would not end within the deadline of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pymongo.collection import Collection

from supervisor.client.documents import before, cancel_update, cancellable, retry_update, retryable
from supervisor.client.filters import Filters, listing
from supervisor.core.job import Status

Document = dict[str, Any]

AT_ONCE = 500


@dataclass(frozen=True)
class Retried:
    """What `retry_many` did; `skipped` jobs have a `unique_key` that another pending or processing job has."""

    count: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Cancelled:
    """What `cancel_many` did; of `asked` jobs, which are processing, the supervisors have been asked to stop them."""

    count: int = 0
    asked: int = 0


def retry_all(
    jobs: Collection[Document],
    status: str,
    handler: str | None,
    filters: Filters,
    retry_one: Callable[[Any], bool],
    retried_page: Callable[[list[Document]], object],
) -> Retried:
    """Retry the jobs that are meant, each once; `retry_one` tells whether a job with a `unique_key` could be.

    `retried_page` is called with {_id, batch_id} of jobs that have been retried.

    Raises JobStateError for a status whose jobs cannot be retried.
    """
    count = skipped = 0
    for page in _pages(jobs, listing(retryable(status), handler, filters)):
        plain = [job["_id"] for job in page if job.get("unique_key") is None]
        allowed = {"_id": {"$in": plain}, "status": status}
        count += jobs.update_many(allowed, retry_update()).matched_count
        for job in page:
            if job.get("unique_key") is not None:
                retried = retry_one(job["_id"])
                count, skipped = count + retried, skipped + (not retried)
        retried_page(page)
    return Retried(count, skipped)


def cancel_all(jobs: Collection[Document], status: str | None, handler: str | None, filters: Filters) -> Cancelled:
    """Cancel the jobs that are meant; without a status, those that are pending and those that are processing.

    Raises JobStateError for a status whose jobs cannot be cancelled.
    """
    if cancellable(status) is None:
        return Cancelled(
            cancel_all(jobs, Status.PENDING, handler, filters).count,
            cancel_all(jobs, Status.PROCESSING, handler, filters).asked,
        )
    change: Any = cancel_update() if status == Status.PENDING else {"$set": {"cancel_requested": True}}
    count = 0
    for page in _pages(jobs, listing(status, handler, filters)):
        allowed = {"_id": {"$in": [job["_id"] for job in page]}, "status": status}
        count += jobs.update_many(allowed, change).matched_count
    return Cancelled(count=count) if status == Status.PENDING else Cancelled(asked=count)


def _pages(jobs: Collection[Document], wanted: Mapping[str, Any]) -> Iterator[list[Document]]:
    """Yield the ids and unique keys of the matching jobs, each job once, whatever becomes of it meanwhile."""
    after: list[Mapping[str, Any]] = []
    fields = {"unique_key": 1, "batch_id": 1}
    while page := list(jobs.find({"$and": [wanted, *after]}, fields, sort=[("_id", -1)], limit=AT_ONCE)):
        yield page
        after = [before(page[-1]["_id"])]
