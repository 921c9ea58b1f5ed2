"""The words of `why`: the reasons there are, one reason, and the facts that they are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from supervisor.client.documents import is_alive
from supervisor.client.gate_usage import Usage
from supervisor.core.durations import duration, seconds_between
from supervisor.core.fleet import Drain
from supervisor.store.controls import Pause

Document = Mapping[str, Any]

MOST_COUNTED = 10_000
"""Jobs in front of this one, beyond which they are no longer counted."""
_LONGEST = 120
"""Characters of other people's words in a reason."""


class Code(StrEnum):
    """Why a job is not running; those from FREE on are about single supervisors, the nearest to a claim first."""

    RUNNING = "running"
    ORPHANED = "orphaned"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INVALID = "invalid"
    CANCELLING = "cancelling"
    PAUSED = "paused"
    NOT_DUE = "not_due"
    NO_SUPERVISOR = "no_supervisor"
    BEHIND = "behind"
    FREE = "free"
    BUSY = "busy"
    NO_WORKER_READY = "no_worker_ready"
    CAPPED = "capped"
    LIMITED = "limited"
    STARTING = "starting"
    NO_WORKERS = "no_workers"
    DRAINING = "draining"
    DRAINED = "drained"
    UNCLAIMED = "unclaimed"
    UNREGISTERED = "unregistered"


NEAREST_FIRST = tuple(Code)[list(Code).index(Code.FREE) :]
IN_THE_QUEUE = (Code.FREE, Code.BUSY, Code.NO_WORKER_READY)
"""Where the nearest supervisor is so near, the jobs in front of this one are what it waits for."""


@dataclass(frozen=True)
class Reason:
    """One reason, in words, and what to type about it after the program's name (None: nothing).

    The words may hold other people's strings.
    """

    code: Code
    text: str
    command: str | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a job and of whoever might run it, at one time of the database's own clock."""

    job: Document
    now: datetime
    problem: str | None = None
    """What is wrong with the job's document."""
    pauses: Sequence[Pause] = ()
    drains: Sequence[Drain] = ()
    supervisors: Sequence[Document] = ()
    """Heartbeat documents with `heartbeat_age_s`, those of silent ones too."""
    usage: Usage = field(default_factory=Usage)
    """What is held against the handler's limits across machines."""
    in_front: int = 0
    """Due jobs that the same supervisors would claim before this one, counted up to MOST_COUNTED + 1."""

    @property
    def handler(self) -> str:
        """The job's handler, whatever stands there."""
        return str(self.job.get("handler"))

    @property
    def alive(self) -> list[Document]:
        """The supervisors that have been heard of lately."""
        return [each for each in self.supervisors if is_alive(each)]


def said_by(by: str, at: Any, reason: str, now: datetime) -> str:
    """Say who decided something, how long ago and why: `by operator 5m ago: empty pages`."""
    ago = duration(seconds_between(at, now))
    return f"by {by}{f' {ago} ago' if ago else ''}{f': {shortened(reason)}' if reason else ''}"


def shortened(text: str) -> str:
    """Return other people's words, cut to what a line has room for."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
