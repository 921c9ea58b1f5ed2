"""The story of how a job died, from its document: what `autopsy` shows, as plain lines.

A document holds other people's strings and may have been edited by hand, so everything is looked at before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from supervisor.cli.parsing import PROGRAM
from supervisor.cli.printing import clean, printable
from supervisor.cli.stacks import frames, traceback_lines
from supervisor.client.documents import id_text
from supervisor.client.reasons import Reason
from supervisor.client.shown import plain
from supervisor.core.durations import duration, seconds_between
from supervisor.core.job import Status
from supervisor.core.outcome import ErrorKind
from supervisor.core.pieces import part, parts

Document = Mapping[str, Any]

COLUMNS = ("n", "started (UTC)", "run", "cpu", "peak", "where", "outcome", "how")
MOST_ROWS = 8
MOST_OTHERS = 3
LONGEST_PAYLOAD = 200
_NOT_BAD = ["completed", "interrupted", ErrorKind.CANCELLED.value]

SIGNALS = {
    "SIGSEGV": "an invalid memory access in native code",
    "SIGBUS": "an impossible memory access, such as a mapped file that was cut short",
    "SIGABRT": "native code gave up (abort)",
    "SIGFPE": "an arithmetic fault in native code, such as a division by zero",
    "SIGILL": "an instruction that this processor does not have",
    "SIGSYS": "a system call that a sandbox forbids",
    "SIGTERM": "sent from outside",
    "SIGHUP": "sent from outside",
}
_KILLED_BY = {
    "True": ": the kernel's OOM killer did it, since memory ran out",
    "False": ", not by the kernel's OOM killer: somebody sent it, or the job itself",
    "None": "; whether the kernel's OOM killer did it is not known",
}
VERBS = {
    "crash": "killed its worker",
    "poison": "killed its worker",
    "timeout": "ran out of time",
    "memory": "used too much memory",
    "lost": "was lost with its supervisor",
    "exception": "raised",
    "permanent": "raised a permanent error",
    "invalid": "was refused",
    "result": "returned what cannot be stored",
}
NEVER_AGAIN = {
    "poison": "nothing by itself: it is quarantined, since it killed too many workers",
    "permanent": "nothing by itself: its handler says that trying again is of no use",
    "invalid": "nothing by itself: the document or its payload is wrong",
    "result": "nothing by itself: its result cannot be stored",
}


@dataclass(frozen=True)
class Section:
    """A title and what stands below it."""

    title: str
    lines: Sequence[str]


def headline(job: Document, now: datetime) -> list[str]:
    """Say in two or three lines what the job is and how it stands."""
    status, crashes = clean(job.get("status")), job.get("crashes")
    error = part(job, "error")
    if status == Status.FAILED:
        poison = error.get("kind") == ErrorKind.POISON
        status += f", quarantined after {crashes} crashes" if poison else f" ({clean(error.get('kind'))})"
    made = job.get("created_at") or getattr(job["_id"], "generation_time", None)
    ages = {"made": made, "ended": job.get("finished_at")}
    told = [f"{what} {duration(age)} ago" for what, at in ages.items() if (age := seconds_between(at, now)) is not None]
    told += [f"{name} {job[name]}" for name in ("unique_key", "group_key", "batch_id") if job.get(name) is not None]
    payload = json.dumps(plain(job.get("payload") or {}), ensure_ascii=False)
    short = payload if len(payload) <= LONGEST_PAYLOAD else payload[:LONGEST_PAYLOAD] + "…"
    lines = [f"{clean(job.get('handler'))} job {clean(id_text(job['_id']))}: {status}"]
    return [*lines, *([clean(", ".join(told))] if told else []), f"payload {clean(short)}"]


def records_of(job: Document) -> list[Document]:
    """Return the entries of `attempts`, as far as they are any."""
    return parts(job, "attempts")


def last_bad(job: Document) -> Document | None:
    """Return the record of the last attempt that did not end well."""
    bad = [record for record in records_of(job) if record.get("outcome") not in _NOT_BAD]
    return bad[-1] if bad else None


def rows(job: Document) -> list[list[Any]]:
    """Return a row of COLUMNS for each of the last attempts."""
    return [_row(record) for record in records_of(job)[-MOST_ROWS:]]


def _row(record: Document) -> list[Any]:
    usage, error = part(record, "usage"), part(record, "error")
    started = record.get("started_at")
    exit_code = error.get("exit_code")
    how = error.get("signal") or (f"exit {exit_code}" if exit_code is not None else error.get("type"))
    return [
        record.get("n"),
        started.astimezone(UTC).strftime("%m-%d %H:%M:%S") if isinstance(started, datetime) else "",
        duration(_run_s(record)),
        duration(usage.get("cpu_s")),
        _megabytes(usage.get("peak_rss_mb")),
        f"{record.get('host')} slot {record.get('slot')} pid {record.get('pid')}",
        record.get("outcome"),
        how,
    ]


def death(record: Document, limit_mb: int) -> Section:
    """Tell how an attempt ended badly and what the machine looked like; `limit_mb` is the memory limit, 0 for none."""
    outcome = clean(record.get("outcome"))
    lines = [_sentence(record), *_memory(record, limit_mb), *_machine(record)]
    return Section(f"attempt {clean(record.get('n'))} {VERBS.get(outcome, outcome)}", lines)


def _sentence(record: Document) -> str:
    error, evidence = part(record, "error"), part(record, "evidence")
    signal, exit_code = error.get("signal"), error.get("exit_code")
    if signal == "SIGKILL":
        return f"killed by SIGKILL{_KILLED_BY.get(str(evidence.get('oom_killed')), _KILLED_BY['None'])}"
    if signal:
        return f"killed by {clean(signal)}: {SIGNALS.get(str(signal), 'a signal from outside or from native code')}"
    if exit_code is not None:
        return f"exit code {clean(exit_code)}: the process ended itself (os._exit, or exit() in native code)"
    parts = [str(error[key]) for key in ("type", "code", "message") if error.get(key)]
    return clean(": ".join(parts)) or "nothing is known of it"


def _run_s(record: Document) -> Any:
    """Return for how many seconds an attempt ran; None for one that was lost, of which nobody could tell."""
    return None if record.get("outcome") == ErrorKind.LOST else part(record, "usage").get("run_s")


def _memory(record: Document, limit_mb: int) -> Iterator[str]:
    usage = part(record, "usage")
    told = [f"it ran {duration(run_s)}"] if (run_s := _run_s(record)) is not None else []
    if usage.get("cpu_s") is not None:
        told.append(f"{duration(usage.get('cpu_s'))} of it on a CPU")
    if peak := _megabytes(usage.get("peak_rss_mb")):
        told.append(f"peak memory {peak}" + (f", limit {limit_mb} MB" if limit_mb else ""))
    if told:
        yield ", ".join(told)


def _machine(record: Document) -> Iterator[str]:
    machine = part(part(record, "evidence"), "machine")
    if machine:
        load, cores = machine.get("load_1m"), machine.get("cores")
        shown = f"{load:.1f}" if isinstance(load, float) else clean(load)
        free = _megabytes(machine.get("memory_available_mb"))
        yield f"the machine then: load {shown} on {clean(cores)} cores, {free} of memory free"
        others = parts(machine, "others")
        told = [
            f"{clean(each.get('handler'))} {clean(id_text(each.get('job_id')))} ({_megabytes(each.get('rss_mb'))})"
            for each in others[:MOST_OTHERS]
        ]
        more = [f"{len(others) - MOST_OTHERS} more"] if len(others) > MOST_OTHERS else []
        yield f"beside it ran {', '.join([*told, *more])}" if others else "no other job ran beside it"


def stack_section(record: Document, most: int) -> Section | None:
    """Return where the attempt was at its end: its Python stack, or the traceback of what it raised."""
    if calls := frames(str(part(record, "evidence").get("stack") or "")):
        return Section(f"python stack, latest call first{_of(most, len(calls))}", _indented(calls[:most]))
    lines = traceback_lines(str(part(record, "error").get("traceback") or ""))
    if not lines:
        return None
    return Section(f"traceback, latest call last{_of(most, len(lines))}", _indented(lines[-most:]))


def output_section(record: Document, most: int) -> Section | None:
    """Return the last lines that the attempt has printed."""
    lines = printable(str(record.get("logs") or "")).rstrip().splitlines()
    return Section(f"last output{_of(most, len(lines))}", _indented(lines[-most:])) if lines else None


def what_next(job: Document, now: datetime, waits_for: Reason | None) -> Document:
    """Return {next, command}: what becomes of the job, and what to type about it (None: nothing).

    `waits_for` is what keeps a pending job from being claimed, besides its time.
    """
    status, job_id = job.get("status"), clean(id_text(job["_id"]))
    if status == Status.PROCESSING:
        return _next(f"attempt {clean(job.get('attempt'))} is running", f"stack {job_id}")
    if status == Status.PENDING:
        attempt, run_at = job.get("attempt"), job.get("run_at")
        due = f"attempt {attempt + 1 if isinstance(attempt, int) else 1} is due"
        if isinstance(run_at, datetime) and run_at > now:
            due += f" in {duration(seconds_between(now, run_at))}"
        elif not waits_for:
            due += " and waits for its turn"
        return _next(f"{due}, but {clean(waits_for.text)}", waits_for.command) if waits_for else _next(due)
    if status == Status.FAILED:
        kind = str(part(job, "error").get("kind"))
        return _next(NEVER_AGAIN.get(kind, "nothing by itself: its attempts are used up"), f"retry {job_id}")
    if status == Status.CANCELLED:
        return _next("nothing by itself: it was cancelled", f"retry {job_id}")
    return _next(f"nothing: it is {clean(status)}")


def _next(text: str, command: str | None = None) -> Document:
    return {"next": text, "command": command and f"{PROGRAM} {command}"}


def _megabytes(value: Any) -> str:
    return f"{value:.0f} MB" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""


def _of(most: int, count: int) -> str:
    return f" ({most} of {count} lines)" if count > most else ""


def _indented(lines: Sequence[str]) -> list[str]:
    return [printable(line) for line in lines]
