"""The job document: its fields, what is wrong with one, and the part of it that the supervisor works with.

The table `FIELDS` is the single source for three things: the `$jsonSchema` validator that `init` installs, the check
of every document at claim (for collections without the validator), and the reference page of the document.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where a job is in its life: pending → processing → completed | failed | cancelled."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
ACTIVE = [Status.PENDING.value, Status.PROCESSING.value]
"""Of jobs that have not ended, as the database has them."""
MAX_ATTEMPT_ENTRIES = 20
_INT64 = 2**63


@dataclass(frozen=True)
class Field:
    """One field of the job document: the kind of value it takes and what it is for."""

    kind: str
    """A key of `_KINDS`."""
    writer: str
    meaning: str
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None


FIELDS: dict[str, Field] = {
    "handler": Field("string", "producer", "registered handler name; also the queue", required=True),
    "payload": Field("document", "producer", "the handler's input, validated by its pydantic model"),
    "status": Field("status", "both", "where the job is in its life", required=True),
    "priority": Field("integer", "producer", "higher first; default 0", minimum=-(2**31), maximum=2**31 - 1),
    "run_at": Field("date", "producer, retry", "not before this time (UTC); missing = now"),
    "created_at": Field("date", "producer or first claim", "when the job was made"),
    "timeout_s": Field(
        "number", "producer", "time limit in seconds; overrides the handler's own", minimum=0.001, maximum=1e9
    ),
    "max_attempts": Field(
        "integer", "producer", "tries at most; overrides the handler's own", minimum=1, maximum=2**31 - 1
    ),
    "unique_key": Field("string", "producer", "at most one pending or processing job with this key"),
    "group_key": Field("string", "producer", "at most `max_running_per_group` jobs of a handler run with this key"),
    "batch_id": Field("any", "producer", "groups jobs"),
    "then": Field("followers", "producer", "jobs to enqueue, each exactly once, when this one completes"),
    "children": Field("array", "supervisor", "ids of the jobs made by `then`"),
    "attempt": Field("integer", "supervisor", "attempts started", minimum=0, maximum=2**31 - 1),
    "crashes": Field("integer", "supervisor", "attempts that killed their worker", minimum=0, maximum=2**31 - 1),
    "claims": Field("integer", "supervisor", "claims made; the next one's token is one more", minimum=0, maximum=2**53),
    "lease": Field("document", "supervisor", "{token, supervisor, host, slot, pid, expires_at} while processing"),
    "started_at": Field("date", "supervisor", "start of the latest attempt"),
    "finished_at": Field("date", "supervisor", "when the job ended"),
    "progress": Field("document", "supervisor", "{done, total, message, at}: what the handler last reported"),
    "result": Field("document", "supervisor", "what the handler returned"),
    "result_file": Field("any", "supervisor", "GridFS id of a result above `limits.result_inline_kb`"),
    "error": Field("document", "supervisor", "{kind, code, type, message, …} of the latest failed attempt"),
    "attempts": Field("array", "supervisor", "one entry per ended attempt, newest last, at most 20"),
    "usage": Field("document", "supervisor", "{wait_s, run_s, cpu_s, peak_rss_mb} of the latest attempt"),
    "cancel_requested": Field("boolean", "any", "ends a pending job, and asks the owner of a running one to stop it"),
    "trace": Field("string", "producer", "W3C traceparent, handed on to logs"),
}

CONTROL_FIELDS = (
    "handler", "status", "priority", "run_at", "created_at", "timeout_s", "max_attempts", "unique_key", "group_key",
    "batch_id", "then", "attempt", "crashes", "claims", "started_at", "cancel_requested", "trace",
)  # fmt: skip
"""What a claim reads before it decides; everything that can be large or undecodable is left out."""

_STATUSES = frozenset(Status)
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "a string"),
    "status": ((str,), "one of pending, processing, completed, failed, cancelled"),
    "document": ((Mapping,), "a document"),
    "array": ((list,), "an array"),
    "followers": ((list,), "an array of {handler, payload?, …}"),
    "boolean": ((bool,), "true or false"),
    "date": ((datetime,), "a date"),
    "integer": ((int, float), "an integer"),
    "number": ((int, float), "a number"),
}


def find_problem(document: Mapping[str, Any]) -> str | None:
    """Return one line naming the first field that breaks the schema, its value and what is allowed; None if sound.

    A value that is `None` counts as missing. Fields that are not in `FIELDS` are the producer's own business.
    """
    for name, field in FIELDS.items():
        value = document.get(name)
        if value is None:
            if field.required:
                return f"{name}: missing, must be {_KINDS[field.kind][1]}"
        elif reason := _refuse(field, value):
            return f"{name}: is {_shown(value)}, {reason}"
    return None


def allowed(field: Field) -> str:
    """Say in words what `field` takes, as `find_problem` and the reference page put it."""
    words = "any value" if field.kind == "any" else _KINDS[field.kind][1]
    if field.minimum is not None and field.maximum is not None:
        return f"{words} from {field.minimum} to {field.maximum}"
    return words if field.minimum is None else f"{words} of at least {field.minimum}"


def _refuse(field: Field, value: Any) -> str | None:
    if field.kind == "any":
        return None
    types, _ = _KINDS[field.kind]
    sound = isinstance(value, types) and (field.kind == "boolean" or not isinstance(value, bool))
    if sound and field.kind in ("integer", "number"):
        sound = _in_range(field, value)
    elif sound and field.kind == "status":
        sound = value in _STATUSES
    elif sound and field.kind == "followers":
        return _refuse_followers(value)
    return None if sound else f"must be {allowed(field)}"


def _in_range(field: Field, value: float) -> bool:
    if not math.isfinite(value) or (field.kind == "integer" and value != int(value)):
        return False
    low = -_INT64 if field.minimum is None else field.minimum
    high = _INT64 if field.maximum is None else field.maximum
    return low <= value <= high


def _refuse_followers(value: list[Any]) -> str | None:
    for position, follower in enumerate(value):
        if not isinstance(follower, Mapping):
            return f"entry {position} must be a document with `handler`"
        if problem := find_problem({**follower, "status": follower.get("status") or Status.PENDING.value}):
            return f"entry {position} is no job: {problem}"
    return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True)
class Job:
    """A claimed job: what the supervisor needs to run it and to say what became of it.

    `attempt` counts this attempt; `crashes` counts the earlier ones that killed their worker; `token` is the fencing
    token of this claim.
    """

    id: Any
    handler: str
    attempt: int
    token: int
    crashes: int = 0
    timeout_s: float | None = None
    max_attempts: int | None = None
    wait_s: float = 0.0
    """Seconds it had been due when it was claimed, by the database's clock."""
    then: tuple[Mapping[str, Any], ...] = ()
    batch_id: Any = None
    group_key: str | None = None
    trace: str | None = None
    cancel_requested: bool = False
