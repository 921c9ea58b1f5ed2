"""A slot: a stable place for one running job, which outlives its workers.

`run` takes a job to its end and returns an Outcome, whatever happens: a job that returns, raises, hangs, ignores its
time limit, kills its worker or is stopped by us. It never raises one. After a death comes first the killing of the
whole tree, then the wait for it, and only then the outcome: nobody else may get the job while a part of it still runs.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from supervisor import process_tree
from supervisor.core.outcome import AnyOutcome, Interrupted, Raised, Returned
from supervisor.errors import JobCancelled, JobInterrupted, JobTimeout
from supervisor.pool.attempt import Attempt, JobListener, StopReason, died, reported, usage_of
from supervisor.pool.process import WorkerProcess, WorkerStartError, output_file
from supervisor.worker import main as child
from supervisor.worker.wire import Call, Stopped, decode_outcome, encode_call

log = structlog.get_logger("supervisor.pool.slot")

BEGIN_TIMEOUT_S = 30.0
"""From handing over a job to the worker's word that it begins."""


_SIGNALS = {stop: number for number, stop in child.STOP_SIGNALS.items()}
_ORDERS = {
    StopReason.TIMEOUT: _SIGNALS[JobTimeout],
    StopReason.CANCEL: _SIGNALS[JobCancelled],
    StopReason.DRAIN: _SIGNALS[JobInterrupted],
    StopReason.LEASE_LOST: signal.SIGKILL,
}


class WorkerSlot:
    """One place for one worker at a time. Its methods belong to one event loop."""

    def __init__(self, index: int, workspace: Path, modules: tuple[str, ...]) -> None:
        self.index = index
        self.kill_grace_s = 2.0
        self.log_kb = 64
        self.jobs_done = 0
        """Jobs that the present worker has run."""
        self._modules = modules
        self._spool = workspace / f"slot-{index}"
        self._output = output_file(workspace, index)
        self._output_fd = -1
        self._worker: WorkerProcess | None = None
        self._newborn: WorkerProcess | None = None
        self._attempt: Attempt | None = None

    @property
    def pid(self) -> int:
        """The worker's process id; 0 when there is none."""
        return self._worker.pid if self._worker else 0

    @property
    def process_ids(self) -> set[int]:
        """The ids of the present worker and of one that is being started."""
        return {worker.spawned_pid for worker in (self._worker, self._newborn) if worker and worker.spawned_pid}

    @property
    def alive(self) -> bool:
        """Whether a worker stands ready or is running a job."""
        return self._worker is not None and self._worker.alive

    async def start(self, spawning: asyncio.Lock, spawn_limit_s: float) -> dict[str, Any]:
        """Start a worker and return its greeting. Raises WorkerStartError.

        `spawning` is held while there is a process whose id nobody knows yet.
        """
        try:
            self._make_folder()
        except OSError as error:
            raise WorkerStartError(f"{type(error).__name__}: {error}") from error
        plan = child.WorkerPlan(self.index, str(self._spool), str(self._output), self._modules)
        self._newborn = WorkerProcess(plan, self._on_message)
        try:
            await self._newborn.start(spawning, spawn_limit_s)
            self._worker, self.jobs_done = self._newborn, 0
        finally:
            self._newborn = None
        return self._worker.greeting

    async def wait_for_death(self) -> None:
        """Return when the present worker is dead."""
        if self._worker is not None:
            await asyncio.shield(self._worker.died)

    async def end(self) -> None:
        """End the present worker, if there is one, with everything below it."""
        if self._worker is not None:
            await self._worker.close()
            self._worker = None
        self._close_output()
        shutil.rmtree(self._spool, ignore_errors=True)

    def _make_folder(self) -> None:
        shutil.rmtree(self._spool, ignore_errors=True)
        self._spool.mkdir(mode=0o700, parents=True)
        self._close_output()
        # held open from before the worker is there: a handler may remove or replace what stands at the path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        self._output_fd = os.open(self._output, flags, 0o600)

    def _close_output(self) -> None:
        if self._output_fd >= 0:
            os.close(self._output_fd)
            self._output_fd = -1
        self._output.unlink(missing_ok=True)

    async def run(self, call: Call, listener: JobListener) -> AnyOutcome:
        """Run one job on the present worker and return how it ended."""
        assert self._worker is not None, "start() comes first"
        assert self._attempt is None, f"slot {self.index} is running a job already"
        os.ftruncate(self._output_fd, 0)
        attempt = self._attempt = Attempt(call, listener, time.monotonic())
        self._later(BEGIN_TIMEOUT_S, self._kill_if_not_begun)
        try:
            result = self._worker.submit(encode_call(call))
            ends: set[asyncio.Future[Any]] = {result, self._worker.died}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            outcome = await self._conclude(self._worker, attempt, result)
        finally:
            for timer in attempt.timers:
                timer.cancel()
            self._attempt = None
        self.jobs_done += 1
        return replace(outcome, logs=self._read_output())

    def stop(self, reason: StopReason) -> None:
        """Order the running job to stop; the worker is killed `kill_grace_s` later. The first order counts.

        A lost lease gives no grace: somebody else may be running the job already.
        """
        attempt = self._attempt
        if attempt is None or self._worker is None or not self._worker.alive:
            return
        if attempt.ordered is None:
            attempt.ordered = reason
            self._worker.signal(_ORDERS[reason])
            self._later(0 if reason is StopReason.LEASE_LOST else self.kill_grace_s, self._kill)
        elif reason is StopReason.LEASE_LOST:
            attempt.ordered = reason
            self._kill()

    def _later(self, delay_s: float, action: Any) -> None:
        assert self._attempt is not None
        self._attempt.timers.append(asyncio.get_running_loop().call_later(delay_s, action))

    def _kill_if_not_begun(self) -> None:
        if self._attempt and self._attempt.begun_at is None:
            self._kill()

    def _kill(self) -> None:
        """Kill the worker with its tree; its death then ends the wait in `run`."""
        if self._attempt is not None and not self._attempt.killed:
            self._attempt.killed = True
            assert self._worker is not None, "a job runs on a worker"
            self._spawn(self._attempt, _measure_and_kill(self._attempt, self._worker))

    def _spawn(self, attempt: Attempt, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"slot {self.index}")
        attempt.tasks.add(task)
        task.add_done_callback(attempt.tasks.discard)

    def _on_message(self, message: dict[str, Any]) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        if "started" in message:
            attempt.begun_at = time.monotonic()
            self._later(attempt.call.timeout_s, lambda: self.stop(StopReason.TIMEOUT))
        elif "progress" in message:
            attempt.listener.on_progress(message["progress"])
        elif "log" in message:
            attempt.listener.on_log(message["log"])
        elif "request" in message:
            self._spawn(attempt, self._answer(attempt, message))

    async def _answer(self, attempt: Attempt, request: dict[str, Any]) -> None:
        fields = await attempt.listener.answer(request, self._spool)
        if self._worker is not None:
            self._worker.channel.reply(request, fields)

    async def _conclude(self, worker: WorkerProcess, attempt: Attempt, result: asyncio.Future[bytes]) -> AnyOutcome:
        if not result.done():  # a death: what the worker had sent before is still to arrive
            await asyncio.wait({result}, timeout=1.0)
        if result.done() and result.exception() is None:
            outcome = self._decode(attempt, result.result())
            if outcome is not None and attempt.ordered is not None:
                # torn out of its work at any point, it may hold locks and have children: never run a job on it
                await worker.close()
            if outcome is not None:
                await _all_done(attempt.tasks)
                return outcome
        result.add_done_callback(lambda late: late.cancelled() or late.exception())
        ended = await worker.close()
        await _all_done(attempt.tasks)
        if ended.untold and not attempt.killed:
            return Interrupted(reason="the fork server died", usage=usage_of(attempt))
        return died(attempt, ended.code)

    def _decode(self, attempt: Attempt, data: bytes) -> AnyOutcome | None:
        try:
            return reported(attempt, self._keep_file(decode_outcome(data, self._spool)))
        except (ValueError, OSError) as error:
            log.warning("worker.nonsense", slot=self.index, reason=str(error))
            return None

    def _keep_file(self, said: Returned | Raised | Stopped) -> Returned | Raised | Stopped:
        """Move a large result out of the spool folder, which belongs to the slot's next job from now on."""
        if not isinstance(said, Returned) or said.spool_file is None:
            return said
        kept = self._spool.parent / f"result-{uuid.uuid4().hex}.json"
        Path(said.spool_file).replace(kept)
        return replace(said, spool_file=str(kept))

    def _read_output(self) -> str:
        """Return the last `log_kb` kilobytes of what the attempt printed."""
        size = os.fstat(self._output_fd).st_size
        kept = self.log_kb * 1024
        data = os.pread(self._output_fd, kept, max(0, size - kept))
        return data.decode("utf-8", "replace").replace("\0", "�")


async def _measure_and_kill(attempt: Attempt, worker: WorkerProcess) -> None:
    attempt.used = await asyncio.to_thread(process_tree.measure, worker.pid)
    await worker.kill()


async def _all_done(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for a kill that is under way, or an answer to the worker: nothing of an attempt outlives it."""
    if tasks:
        await asyncio.wait(set(tasks))
