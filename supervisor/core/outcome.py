"""How an attempt can end: the seven outcomes, as a worker's slot reports them.

An outcome is plain data. Nothing in it was unpickled, and no exception object of a handler ever gets here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ErrorKind(StrEnum):
    """`error.kind` of the job document."""

    EXCEPTION = "exception"
    PERMANENT = "permanent"
    TIMEOUT = "timeout"
    CRASH = "crash"
    MEMORY = "memory"
    INVALID = "invalid"
    RESULT = "result"
    LOST = "lost"
    POISON = "poison"
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Usage:
    """What an attempt cost, subprocesses included; None where it could not be measured."""

    run_s: float = 0.0
    cpu_s: float | None = None
    peak_rss_mb: float | None = None


@dataclass(frozen=True)
class ErrorInfo:
    """Why an attempt failed, as strings; `type` is the exception's class name."""

    message: str
    type: str | None = None
    traceback: str | None = None
    code: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What could be seen at the end of an attempt that died, or ran into its limits."""

    stack: str | None = None
    """The Python stacks of all its threads, as faulthandler wrote them."""
    oom_killed: bool | None = None
    """Whether the kernel killed it because memory ran out; None if that cannot be told."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    """{load_1m, cores, memory_available_mb, others: [{slot, handler, job_id, rss_mb}]}."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What every outcome carries: the cost, the last lines the attempt printed, and what a bad end left to see."""

    usage: Usage = field(default_factory=Usage)
    logs: str = ""
    evidence: Evidence | None = None


@dataclass(frozen=True, kw_only=True)
class Returned(Outcome):
    """The handler returned. `result` is its document as BSON bytes, or `spool_file` the path of a large one."""

    result: bytes | None = None
    spool_file: str | None = None
    """A file of the supervisor's own spool folder with the result as UTF-8 Extended JSON, bound for GridFS."""


@dataclass(frozen=True, kw_only=True)
class Raised(Outcome):
    """The handler, its payload or its result was refused; the worker is well."""

    kind: ErrorKind
    """EXCEPTION, PERMANENT, INVALID or RESULT."""
    error: ErrorInfo
    retry_in_s: float | None = None
    """Seconds until the next try, when the handler itself asked for one."""


@dataclass(frozen=True, kw_only=True)
class TimedOut(Outcome):
    """The time limit came. `killed` if the handler did not end by itself within the grace.

    A coroutine cannot be killed: `late_s` says how long after the limit it ended, if that was beyond the grace.
    """

    limit_s: float
    killed: bool
    late_s: float = 0.0
    error: ErrorInfo | None = None


@dataclass(frozen=True, kw_only=True)
class Crashed(Outcome):
    """The worker died. `started` tells whether the handler had begun: if not, the job is not to blame."""

    started: bool
    exit_code: int | None = None
    signal: str | None = None
    """The signal's name (`SIGSEGV`)."""


@dataclass(frozen=True, kw_only=True)
class OutOfMemory(Outcome):
    """The worker with its subprocesses crossed `memory_limit_mb` and was killed."""

    limit_mb: int
    used_mb: float


@dataclass(frozen=True, kw_only=True)
class Interrupted(Outcome):
    """We stopped it (drain, shutdown, a lost lease); nobody is to blame and the attempt is given back."""

    reason: str
    begun: bool = True
    """False for a job that was claimed ahead and given back: no attempt was made."""


@dataclass(frozen=True, kw_only=True)
class Cancelled(Outcome):
    """Somebody asked for it to be cancelled, and it was stopped."""


@dataclass(frozen=True, kw_only=True)
class Lost(Outcome):
    """Its supervisor is gone; told by the reaper, never by a slot."""

    supervisor: str
    cause: str
    """`lease expired` or `supervisor died`."""


AnyOutcome = Returned | Raised | TimedOut | Crashed | OutOfMemory | Interrupted | Cancelled | Lost
