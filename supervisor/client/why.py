"""Why a job is not running now: facts in, reasons out, the decisive one first. No I/O and no clock here.

Of a pending job, first comes what holds for the whole fleet: a pause, its time, no supervisor at all. Then each live
supervisor is asked for the first thing that keeps it from claiming the job, and the one that is nearest to it decides.
Heartbeats are up to two seconds old, and so is what they say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from supervisor.client.documents import id_text, is_alive
from supervisor.client.hindrances import by_supervisor
from supervisor.client.reasons import IN_THE_QUEUE, MOST_COUNTED, Code, Document, Facts, Reason, said_by, shortened
from supervisor.core.durations import duration, seconds_between
from supervisor.core.job import Status
from supervisor.core.pieces import part
from supervisor.store.controls import EVERY


def reasons(facts: Facts) -> list[Reason]:
    """Return at least one reason why the job is not running; that it runs or has ended is one too."""
    told = _BY_STATUS.get(str(facts.job.get("status")))
    if told:
        return [told(facts)]
    found = [reason for look in _FLEET for reason in look(facts)]
    nearby, in_front = by_supervisor(facts), list(_behind(facts))
    is_queued = bool(nearby) and nearby[0].code in IN_THE_QUEUE
    return found + (in_front + nearby if is_queued else nearby + in_front)


# A job that is not pending


def _running(facts: Facts) -> Reason:
    job, lease = facts.job, part(facts.job, "lease")
    owner = next((each for each in facts.supervisors if each.get("_id") == lease.get("supervisor")), None)
    if owner is None or not is_alive(owner):
        return _orphaned(facts, lease, owner)
    attempt = f"attempt {job.get('attempt')} on {lease.get('host')}, slot {lease.get('slot')}, pid {lease.get('pid')}"
    since = duration(seconds_between(job.get("started_at"), facts.now))
    asked = ", and has been asked to stop" if job.get("cancel_requested") else ""
    return Reason(Code.RUNNING, f"it is running: {attempt}, for {since}{asked}", _about("stack", job))


def _orphaned(facts: Facts, lease: Document, owner: Document | None) -> Reason:
    silent = f"has been silent for {duration(owner.get('heartbeat_age_s'))}" if owner else "is gone"
    left_s = seconds_between(facts.now, lease.get("expires_at"))
    when = f"ends in {duration(left_s)}" if left_s else "has ended"
    text = f"its supervisor on {lease.get('host')} {silent}; others take the job over when its lease ends ({when})"
    return Reason(Code.ORPHANED, text, "status")


def _completed(facts: Facts) -> Reason:
    return Reason(Code.COMPLETED, f"it completed{_ended_ago(facts)}", _about("job", facts.job))


def _failed(facts: Facts) -> Reason:
    error = part(facts.job, "error")
    told = ": ".join(str(error[key]) for key in ("kind", "message") if error.get(key))
    return Reason(Code.FAILED, f"it failed{_ended_ago(facts)}: {shortened(told)}", _about("autopsy", facts.job))


def _cancelled(facts: Facts) -> Reason:
    return Reason(Code.CANCELLED, f"it was cancelled{_ended_ago(facts)}", _about("retry", facts.job))


def _ended_ago(facts: Facts) -> str:
    ago = duration(seconds_between(facts.job.get("finished_at"), facts.now))
    return f" {ago} ago" if ago else ""


_BY_STATUS: dict[str, Callable[[Facts], Reason]] = {
    Status.PROCESSING: _running,
    Status.COMPLETED: _completed,
    Status.FAILED: _failed,
    Status.CANCELLED: _cancelled,
}


# What holds for the whole fleet, the decisive first


def _invalid(facts: Facts) -> Iterator[Reason]:
    if facts.problem:
        is_seen = facts.job.get("status") == Status.PENDING
        then = "will be failed as invalid" if is_seen else "no supervisor looks at it"
        yield Reason(Code.INVALID, f"its document breaks the schema, and {then}: {facts.problem}")


def _cancelling(facts: Facts) -> Iterator[Reason]:
    if facts.job.get("cancel_requested"):
        yield Reason(Code.CANCELLING, "it is to be cancelled, as soon as a supervisor comes to it")


def _paused(facts: Facts) -> Iterator[Reason]:
    for pause in facts.pauses:
        if pause.handler in (EVERY, facts.handler):
            is_all = pause.handler == EVERY
            by = said_by(pause.by, pause.at, pause.reason, facts.now)
            subject = "all handlers are" if is_all else f"{pause.handler} is"
            yield Reason(Code.PAUSED, f"{subject} paused {by}", f"resume {'--all' if is_all else pause.handler}")


def _not_due(facts: Facts) -> Iterator[Reason]:
    job, run_at = facts.job, facts.job.get("run_at")
    if not isinstance(run_at, datetime) or run_at <= facts.now:
        return
    left = duration(seconds_between(facts.now, run_at))
    if job.get("attempt"):
        kind = part(job, "error").get("kind")
        ended = f" (attempt {job['attempt']} ended: {kind})" if kind else ""
        yield Reason(Code.NOT_DUE, f"its retry is due in {left}{ended}")
    else:
        at = run_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        yield Reason(Code.NOT_DUE, f"it is due in {left}, since its producer wants it not before {at}")


def _no_supervisor(facts: Facts) -> Iterator[Reason]:
    if not facts.alive:
        ages = [each["heartbeat_age_s"] for each in facts.supervisors if each.get("heartbeat_age_s") is not None]
        last = f"; the last one was heard of {duration(min(ages))} ago" if ages else ""
        yield Reason(Code.NO_SUPERVISOR, f"no supervisor is running on this database{last}", "run")


_FLEET = (_invalid, _cancelling, _paused, _not_due, _no_supervisor)


def _behind(facts: Facts) -> Iterator[Reason]:
    if facts.in_front:
        number = f"{facts.in_front:,}" if facts.in_front <= MOST_COUNTED else f"more than {MOST_COUNTED:,}"
        plural = "" if facts.in_front == 1 else "s"
        yield Reason(Code.BEHIND, f"it waits behind {number} job{plural} of higher priority or older")


def _about(command: str, job: Document) -> str:
    return f"{command} {id_text(job['_id'])}"
