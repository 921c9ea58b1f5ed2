"""The options that say which jobs are meant: of listings, and of changes to many jobs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import click
from pymongo.errors import PyMongoError

from supervisor.client.documents import ids_meant_by
from supervisor.client.filters import Filters
from supervisor.client.operator import OperatorQueue
from supervisor.core.outcome import ErrorKind
from supervisor.errors import JobNotFoundError, SupervisorError, UsageError
from supervisor.store.connection import CALL_TIMEOUT_S

Function = Callable[..., Any]

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OPTIONS = {
    "handler": click.option("--handler", metavar="NAME", help="Only jobs of this handler."),
    "group": click.option("--group", "group_key", metavar="KEY", help="Only jobs with this group_key."),
    "batch": click.option("--batch", "batch_id", metavar="ID", help="Only jobs of this batch."),
    "unique": click.option("--unique", "unique_key", metavar="KEY", help="Only jobs with this unique_key."),
    "error": click.option("--error", "error_kind", type=click.Choice([kind.value for kind in ErrorKind]),
                          help="Only jobs whose latest error is of this kind."),
    "since": click.option("--since", metavar="WHEN", help="Only jobs that ended since: ISO 8601, or 2h for 2 h ago."),
    "until": click.option("--until", metavar="WHEN", help="Only jobs that ended before; as --since."),
}  # fmt: skip


class TooManyJobsError(SupervisorError):
    """The database would have had to read more jobs than it can within the deadline of a call."""


def filter_options(*names: str) -> Callable[[Function], Function]:
    """Return a decorator that gives a command these options, in this order."""

    def decorate(function: Function) -> Function:
        for name in reversed(names):
            function = _OPTIONS[name](function)
        return function

    return decorate


def read_filters(queue: OperatorQueue, given: Mapping[str, Any]) -> Filters:
    """Return the filters that options mean.

    Raises UsageError for a time that is none, JobNotFoundError for a batch without jobs.
    """
    return Filters(
        group_key=given.get("group_key"),
        unique_key=given.get("unique_key"),
        error_kind=given.get("error_kind"),
        batch_id=_batch(queue, given.get("batch_id")),
        since=_moment("--since", given.get("since"), queue),
        until=_moment("--until", given.get("until"), queue),
    )


def moment(option: str, text: str) -> datetime:
    """Return the time that `text` says in ISO 8601, UTC unless it says otherwise; raises UsageError."""
    try:
        said = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option}: {text!r} is not a time such as 2026-03-01T18:30 or 2026-03-01T18:30+01:00"
        ) from None
    return said.replace(tzinfo=UTC) if said.tzinfo is None else said


def _moment(option: str, text: str | None, queue: OperatorQueue) -> datetime | None:
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        with contextlib.suppress(OverflowError):
            return queue.now() - timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
    try:
        return moment(option, text)
    except UsageError as error:
        raise UsageError(f"{error}, or so long ago: 90s, 15m, 2h or 7d") from None


def _batch(queue: OperatorQueue, text: str | None) -> Any:
    if text is None:
        return None
    for candidate in ids_meant_by(text):
        if queue.list(limit=1, batch_id=candidate):
            return candidate
    raise JobNotFoundError(f"no job has the batch_id {text!r}")


@contextlib.contextmanager
def within_bounds() -> Iterator[None]:
    """Turn a search that takes too long into a word on how to narrow it."""
    try:
        yield
    except PyMongoError as error:
        if not error.timeout:
            raise
        raise TooManyJobsError(
            f"the database has not found these jobs within the {CALL_TIMEOUT_S:g} s that a call may take; narrow it "
            "with what has an index: --status, --handler, --group, --batch, --since"
        ) from error
