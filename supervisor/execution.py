"""One attempt of one job, from its claim to its record, as a recipe of named steps."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from supervisor.config.settings import Settings
from supervisor.core.files import RESULT
from supervisor.core.job import ENDED, Status
from supervisor.core.outcome import AnyOutcome, ErrorInfo, ErrorKind, Interrupted, Raised, Returned
from supervisor.core.transitions import Transition, decide
from supervisor.executor import Executor
from supervisor.limits import HandlerLimits, timeout_of
from supervisor.pool.attempt import StopReason
from supervisor.progress import ProgressWriter
from supervisor.recorder import Recorder
from supervisor.side_effects import SideEffects
from supervisor.store.files import FileStore
from supervisor.store.patience import first_line, until_answered
from supervisor.store.records import Ended
from supervisor.store.results import ResultRefusedError, ResultStore
from supervisor.store.retention import RetentionStore
from supervisor.store.taking import Claim, Owner, Seat
from supervisor.worker.wire import Call, open_regular, spool_file

log = structlog.get_logger("supervisor.job")


@dataclass(frozen=True)
class Services:
    """What every execution works with."""

    owner: Owner
    recorder: Recorder
    results: ResultStore
    files: FileStore
    retention: RetentionStore
    side_effects: SideEffects
    random: Callable[[], float]
    on_ended: Callable[[Transition], None]
    """Called before the end is recorded: what it means for the handler is not to wait for the database."""
    on_recorded: Callable[[Transition], None]


@dataclass(eq=False)
class Execution:
    """Takes one claimed job to its end. `trusted_until` is kept by the lease keeper (seconds, boot-time clock)."""

    claim: Claim
    limits: HandlerLimits
    settings: Settings
    services: Services
    executor: Executor
    trusted_until: float
    finished: bool = False
    """The attempt is over and its place may be running another job; only the record is still to be written."""
    lease_lost: bool = False
    """It was told to stop because somebody else may have the job; a coroutine may go on for a while all the same."""
    moved_at: float | None = None
    """When it was given another place, by the boot-time clock, as long as its lease still names the one before."""
    _progress: ProgressWriter | None = None
    """None before the first report."""
    _ending: Awaitable[AnyOutcome] = field(init=False)
    _log: Any = field(init=False)

    def __post_init__(self) -> None:
        job = self.claim.job
        self._log = log.bind(job_id=str(job.id), handler=job.handler, attempt=job.attempt)
        if job.trace:
            self._log = self._log.bind(trace=job.trace)

    def start(self) -> None:
        """Give the job to its executor."""
        self._log.debug("job.started", slot=self.claim.seat.slot)
        self._ending = self.executor.run_job(self.claim.seat, self._call(), self)

    async def ended(self) -> AnyOutcome:
        """Wait for the end of the job: its place is free again."""
        outcome = await self._ending
        self.finished = True
        return outcome

    async def conclude(self, outcome: AnyOutcome) -> bool:
        """Decide what its outcome means, record that, and say so in one line.

        Returns whether the job may be claimed again.
        """
        change = decide(self.claim.job, outcome, self.limits.policy, self.services.random)
        if change.is_attempt:
            self.services.on_ended(change)
        recorded = await self._record(change)
        self._say(recorded or change, recorded is not None)
        if recorded is not None and recorded.is_attempt:
            self.services.on_recorded(recorded)
        return recorded is None or recorded.status is Status.PENDING

    @property
    def holds_lease(self) -> bool:
        """Whether it runs, and as far as is known under a lease of ours."""
        return not self.finished and not self.lease_lost

    def stop(self, reason: StopReason) -> None:
        """Order the job to stop, if it still runs."""
        if not self.finished:
            self.lease_lost = self.lease_lost or reason is StopReason.LEASE_LOST
            self.executor.stop_job(self.claim.seat.slot, self, reason)

    async def stack(self) -> str | None:
        """Return where the job is in its code; None if there is no answer."""
        return await self.executor.stack_of(self.claim.seat.slot, self)

    def output(self, offset: int, limit: int) -> tuple[str, int] | None:
        """Return a part of what the job has printed so far, and where to go on; None if it has ended."""
        return self.executor.output_of(self.claim.seat.slot, self, offset, limit)

    def _call(self) -> Call:
        job = self.claim.job
        return Call(
            handler=job.handler,
            job_id=job.id,
            attempt=job.attempt,
            token=job.token,
            timeout_s=timeout_of(job, self.limits),
            settings=dict(self.limits.settings),
            payload=self.claim.payload,
            result_inline_bytes=self.settings.limits.result_inline_kb * 1024,
            memory_limit_mb=self.limits.memory_limit_mb,
            trace=job.trace,
        )

    async def _record(self, change: Transition) -> Transition | None:
        """Write the transition; return it as it was written, None where the lease was lost and nothing was."""
        progress = None if self._progress is None else await self._progress.close()
        change, file_id = await self._store_large_result(change)
        full = Ended(change, self.claim.seat, self.services.owner, file_id, progress)
        answer = await self.services.recorder.record(full)
        if answer is not True and file_id is not None:
            await self.services.files.discard(file_id)
        if isinstance(answer, ResultRefusedError):
            return await self._record_refusal(change, answer)
        return change if answer else None

    async def _record_refusal(self, change: Transition, refused: ResultRefusedError) -> Transition | None:
        """Say that the result cannot be stored, and if even that is refused, no more than that the job failed.

        A document may be so near to 16 MB that nothing fits; it must leave the slot and the queue all the same.
        """
        error = ErrorInfo(f"the database refuses the result: {refused}", "NotStorableError")
        said = Raised(kind=ErrorKind.RESULT, error=error, usage=change.ended.usage)
        failed = decide(change.job, said, self.limits.policy, self.services.random)
        for bare in (False, True):
            ended = Ended(failed, self.claim.seat, self.services.owner, bare=bare)
            answer = await self.services.recorder.record(ended)
            if not isinstance(answer, ResultRefusedError):
                return failed if answer else None
        self._log.error("job.unrecorded", hint="the database refuses every word about it; its lease is left to expire")
        return None

    async def _store_large_result(self, change: Transition) -> tuple[Transition, Any]:
        """Put a result that came as a file into GridFS; return the transition and the file's id, None without one."""
        if not isinstance(change.ended, Returned) or change.ended.spool_file is None:
            return change, None
        path, job = Path(change.ended.spool_file), self.claim.job
        try:
            with open_regular(path) as source:
                store = self.services.files.store
                name = f"result-{job.id}.json"
                file_id = await until_answered(lambda: store(name, source, job, RESULT), "storing a large result")
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            info = ErrorInfo(f"the file with the result is gone: {error}", type(error).__name__)
            lost = Raised(kind=ErrorKind.EXCEPTION, error=info, usage=change.ended.usage, logs=change.ended.logs)
            return decide(job, lost, self.limits.policy, self.services.random), None
        return change, file_id

    def _say(self, change: Transition, recorded: bool) -> None:
        """Write the canonical line of this attempt."""
        if isinstance(change.ended, Interrupted) and not change.is_attempt:
            self._log.debug("job.given_back", reason=change.ended.reason)
            return
        fields = _canonical(self.claim, change)
        if not recorded:
            self._log.warning("job.lease_lost", hint="the job was taken over; this outcome is dropped", **fields)
        elif change.status is Status.FAILED:
            self._log.error("attempt.ended", **fields)
        elif change.error is not None and change.status not in ENDED:
            self._log.warning("attempt.ended", **fields)
        else:
            self._log.info("attempt.ended", **fields)

    # What the worker says and asks while the job runs: the slot's JobListener.

    def on_progress(self, report: dict[str, Any]) -> None:
        """Keep the newest report, and have it written soon; the last one goes out with the result in any case."""
        if self._progress is None:
            self._progress = ProgressWriter(self._write_progress)
        self._progress.take(report)

    def on_moved(self, seat: Seat) -> None:
        """Go on from another place."""
        self.claim, self.moved_at = replace(self.claim, seat=seat), boot_time_s()

    def on_log(self, entry: dict[str, Any]) -> None:
        """Put an entry of the handler's log into ours, under a name that cannot be taken for one of our events."""
        level, message = str(entry.pop("level", "info")), str(entry.pop("event", ""))
        write = getattr(self._log, level if level in {"debug", "info", "warning", "error"} else "info")
        write("job.log", message=message, fields=entry)

    async def answer(self, request: dict[str, Any], spool: Path) -> dict[str, Any]:
        """Serve a worker's request for a file; a failure becomes an OSError in the handler."""
        try:
            return await self._serve(request, spool, spool / f"fetched-{uuid.uuid4().hex}")
        except (PyMongoError, BSONError, ValueError, KeyError, TypeError, OSError) as error:
            reason = first_line(error) if isinstance(error, PyMongoError) else str(error)
            self._log.warning("job.request_failed", request=str(request.get("call")), reason=reason)
            return {"error": reason}

    async def _serve(self, request: dict[str, Any], spool: Path, target: Path) -> dict[str, Any]:
        files = self.services.files
        match request["call"]:
            case "open_file":
                found = await files.fetch(request["file_id"], target)
                return {"file": target.name if found else None}
            case "save_file":
                with open_regular(spool_file(spool, request["file"])) as source:
                    return {"file_id": await files.store(str(request["name"]), source, self.claim.job)}
            case "parent_result":
                found = await files.parent_result(request["job_id"], target)
                return {"file": target.name if found else None}
            case "begin_once" | "end_once" | "enqueue":
                payload_kb = self.settings.limits.payload_kb
                return await self.services.side_effects.serve(request, self.claim.job, payload_kb)
            case "apply_retention":
                return {"deleted": await self.services.retention.apply(self.settings.retention)}
            case other:
                raise ValueError(f"unknown request {other!r}")

    async def _write_progress(self, report: dict[str, Any]) -> None:
        try:
            await self.services.results.report_progress(self.claim.job, self.services.owner, report)
        except PyMongoError as error:
            self._log.debug("job.progress_unwritten", reason=first_line(error))


def _canonical(claim: Claim, change: Transition) -> dict[str, Any]:
    used, error = change.ended.usage, change.error or {}
    fields = {
        "outcome": str(change.outcome),
        "status": change.status.value,
        "run_s": round(used.run_s, 3),
        "wait_s": round(claim.job.wait_s, 3),
        "cpu_s": None if used.cpu_s is None else round(used.cpu_s, 3),
        "peak_rss_mb": None if used.peak_rss_mb is None else round(used.peak_rss_mb),
        "slot": claim.seat.slot,
        "pid": claim.seat.pid,
        "retry_in_s": None if change.run_in_s is None else round(change.run_in_s, 1),
        "error": error.get("message"),
        "error_type": error.get("type"),
        "exit_code": error.get("exit_code"),
        "signal": error.get("signal"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def boot_time_s() -> float:
    """Return seconds on the boot-time clock, which goes on while the machine is suspended, unlike the monotonic one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
