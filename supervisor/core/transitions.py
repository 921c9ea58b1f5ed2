"""What an outcome does to its job: one table, no I/O, no clock.

outcome                      attempts left          none left          counts
Returned                     completed              completed          attempt
Raised exception             pending, backoff       failed             attempt
Raised exception, Retry      pending, in_s          failed             attempt
Raised permanent|result      failed                 failed             attempt
Raised invalid               failed                 failed             nothing
TimedOut                     pending, backoff       failed, timeout    attempt
OutOfMemory                  pending, backoff       failed, memory     attempt
Crashed after the start      pending, backoff       failed, crash      attempt and crash; max_crashes → poison
Crashed before the start     pending, now           pending, now       nothing
Interrupted                  pending, now           pending, now       nothing; not begun: no entry either
Cancelled                    cancelled              cancelled          attempt
Lost                         pending, now           failed, lost       attempt
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from supervisor.core.job import Job, Status
from supervisor.core.outcome import (
    AnyOutcome,
    Cancelled,
    Crashed,
    ErrorInfo,
    ErrorKind,
    Interrupted,
    Lost,
    OutOfMemory,
    Raised,
    Returned,
    TimedOut,
)
from supervisor.core.retry import RetryPolicy, backoff

_LONGEST_RETRY_S = 1e9  # some 30 years; a handler may ask for `inf`, which no date can hold
_NEVER_RETRIED = {ErrorKind.PERMANENT, ErrorKind.INVALID, ErrorKind.RESULT}


@dataclass(frozen=True, kw_only=True)
class Transition:
    """The change that an outcome makes to its job; `store.apply` carries it out, fenced by the claim's token.

    `outcome` is the word kept in `attempts[]` and in the log: `completed`, an error kind, `interrupted`, `lost`.
    `attempt` and `crashes` are the new counts. `run_in_s` is set where a retry is due only later.
    """

    job: Job
    ended: AnyOutcome
    status: Status
    outcome: str
    attempt: int
    crashes: int
    run_in_s: float | None = None
    error: dict[str, Any] | None = None

    @property
    def is_attempt(self) -> bool:
        """Whether it ends an attempt: a job that was claimed ahead and not begun is just given back."""
        return not (isinstance(self.ended, Interrupted) and not self.ended.begun)


def decide(job: Job, ended: AnyOutcome, policy: RetryPolicy, random: Callable[[], float]) -> Transition:
    """Return what `ended` does to `job`. `random` returns a float in [0, 1) and jitters the backoff."""
    match ended:
        case Returned():
            return _change(job, ended, Status.COMPLETED, "completed")
        case Interrupted() | Crashed(started=False):
            given_back = _change(job, ended, Status.PENDING, "interrupted")
            # a worker that dies before it begins may do so again at once
            delay = policy.backoff_s if isinstance(ended, Crashed) else None
            return replace(given_back, attempt=job.attempt - 1, run_in_s=delay)
        case Cancelled():
            error = describe(ErrorKind.CANCELLED, ErrorInfo("cancelled while running"))
            return _change(job, ended, Status.CANCELLED, ErrorKind.CANCELLED, error)
        case Raised(kind=ErrorKind.INVALID):
            refused = _change(job, ended, Status.FAILED, ErrorKind.INVALID, describe(ErrorKind.INVALID, ended.error))
            return replace(refused, attempt=job.attempt - 1)
        case Crashed():
            return _after_crash(job, ended, policy, random)
    return _after_failure(job, ended, policy, random)


def _change(
    job: Job, ended: AnyOutcome, status: Status, outcome: str, error: dict[str, Any] | None = None
) -> Transition:
    return Transition(
        job=job, ended=ended, status=status, outcome=outcome, error=error, attempt=job.attempt, crashes=job.crashes
    )


def _after_failure(
    job: Job, ended: Raised | TimedOut | OutOfMemory | Lost, policy: RetryPolicy, random: Callable[[], float]
) -> Transition:
    kind, error = _explain(ended)
    failed = _change(job, ended, Status.FAILED, kind, error)
    if kind in _NEVER_RETRIED or job.attempt >= policy.attempts_of(job):
        return failed
    if isinstance(ended, Lost):  # its lease was the wait
        return replace(failed, status=Status.PENDING)
    asked = ended.retry_in_s if isinstance(ended, Raised) else None
    delay = backoff(job.attempt, policy, random) if asked is None else min(max(0.0, asked), _LONGEST_RETRY_S)
    return replace(failed, status=Status.PENDING, run_in_s=delay)


def _after_crash(job: Job, ended: Crashed, policy: RetryPolicy, random: Callable[[], float]) -> Transition:
    crashes = job.crashes + 1
    kind, message = ErrorKind.CRASH, describe_death(ended.exit_code, ended.signal)
    if crashes >= policy.max_crashes:
        kind, message = ErrorKind.POISON, f"quarantined after {crashes} crashes; the last: {message}"
    error = describe(kind, ErrorInfo(message), exit_code=ended.exit_code, signal=ended.signal)
    failed = replace(_change(job, ended, Status.FAILED, kind, error), crashes=crashes)
    if kind is ErrorKind.POISON or job.attempt >= policy.attempts_of(job):
        return failed
    return replace(failed, status=Status.PENDING, run_in_s=backoff(job.attempt, policy, random))


def _explain(ended: Raised | TimedOut | OutOfMemory | Lost) -> tuple[ErrorKind, dict[str, Any]]:
    match ended:
        case Raised():
            return ended.kind, describe(ended.kind, ended.error)
        case TimedOut():
            how = "and was killed" if ended.killed else "and stopped"
            if ended.late_s:
                how = f"and ended only {ended.late_s:.1f} s after that"
            said = ended.error or ErrorInfo("")
            info = ErrorInfo(f"ran longer than {ended.limit_s:g} s {how}", said.type, said.traceback)
            return ErrorKind.TIMEOUT, describe(ErrorKind.TIMEOUT, info)
        case OutOfMemory():
            text = f"used {ended.used_mb:.0f} MB with its subprocesses, the limit is {ended.limit_mb} MB"
            return ErrorKind.MEMORY, describe(ErrorKind.MEMORY, ErrorInfo(text))
        case Lost():
            return ErrorKind.LOST, describe(ErrorKind.LOST, ErrorInfo(f"{ended.cause}: {ended.supervisor}"))


def describe(
    kind: ErrorKind, info: ErrorInfo, *, exit_code: int | None = None, signal: str | None = None
) -> dict[str, Any]:
    """Return the `error` document."""
    return {
        "kind": kind.value,
        "code": info.code,
        "type": info.type,
        "message": info.message,
        "traceback": info.traceback,
        "exit_code": exit_code,
        "signal": signal,
    }


def describe_death(exit_code: int | None, signal: str | None) -> str:
    """Say in words how a worker died."""
    if signal:
        return f"the worker was killed by {signal}"
    return "the worker died" if exit_code is None else f"the worker exited with code {exit_code}"
