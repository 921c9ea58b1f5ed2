"""Which jobs are meant: the filters of listings and of changes to many jobs, as plain values.

`status`, `handler`, `group_key`, `batch_id` and the time of the end are answered by an index. For the others the
database may have to read many jobs; the deadline of a call bounds that.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypedDict

from supervisor.client.documents import before
from supervisor.core.job import ENDED, Status
from supervisor.core.outcome import ErrorKind
from supervisor.errors import UsageError

EVERY_STATUS = [status.value for status in Status]


class Filters(TypedDict, total=False):
    """What a job may be picked by besides its status and handler; None counts as missing.

    `since` and `until` are about when a job ended; `error_kind` is that of its latest failed attempt.
    """

    group_key: str | None
    batch_id: Any
    unique_key: str | None
    error_kind: str | None
    since: datetime | None
    until: datetime | None


def listing(status: str | None, handler: str | None, filters: Filters, after: Any = None) -> dict[str, Any]:
    """Return the filter of a page of jobs; `after` is the last id of the page before, in descending order.

    Raises ValueError for a status that does not exist, UsageError for filters that contradict each other.
    """
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    filter_: dict[str, Any] = {}
    if status is not None:
        filter_["status"] = Status(status).value
    if handler is not None:
        filter_["handler"] = {"$eq": handler}
    filter_ |= {name: {"$eq": given[name]} for name in ("batch_id", "unique_key", "group_key") if name in given}
    if "error_kind" in given:
        filter_["error.kind"] = ErrorKind(given["error_kind"]).value
    if "group_key" in given:  # the index `groups` begins with the status
        filter_.setdefault("status", {"$in": EVERY_STATUS})
    if is_by_end(given):
        filter_ |= _ended(status, given)
    return filter_ if after is None else {**filter_, **before(after)}


def order(filters: Filters) -> list[tuple[str, int]]:
    """Return the order of a listing: the newest id first; with a time of the end, the latest end first."""
    return [("finished_at", -1)] if is_by_end(filters) else [("_id", -1)]


def is_by_end(filters: Any) -> bool:
    """Tell whether jobs are picked by when they ended."""
    return filters.get("since") is not None or filters.get("until") is not None


def _ended(status: str | None, given: Any) -> dict[str, Any]:
    if status is not None and status not in ENDED:
        raise UsageError(f"since and until are about when a job ended, and {status} jobs have not ended")
    between = {"$gte": given.get("since"), "$lt": given.get("until")}
    statuses: Sequence[str] = [status] if status else [ended.value for ended in ENDED]
    return {"status": {"$in": statuses}, "finished_at": {key: at for key, at in between.items() if at is not None}}
