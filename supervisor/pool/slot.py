"""A slot: a stable place for one running job, which outlives its workers.

`run` takes a job to its end and returns an Outcome, whatever happens: a job that returns, raises, hangs, ignores its
time limit, kills its worker or is stopped by us. It never raises one. After a death comes first the killing of the
whole tree, then the wait for it, and only then the outcome: nobody else may get the job while a part of it still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
from dataclasses import replace
from typing import Any

import structlog

from supervisor import process_tree
from supervisor.core.outcome import AnyOutcome, Crashed, Evidence, OutOfMemory, Raised, Returned, TimedOut
from supervisor.errors import JobCancelled, JobInterrupted, JobTimeout
from supervisor.pool.attempt import Attempt, JobListener, StopReason, died, interrupted, reported
from supervisor.pool.files import SlotFiles
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.process import WorkerProcess
from supervisor.pool.ready_worker import ReadyWorker
from supervisor.pool.sampler import Sampler
from supervisor.process_tree import TreeUsage
from supervisor.worker import forensics
from supervisor.worker import main as child
from supervisor.worker.wire import Call, Stopped, decode_outcome, encode_call

log = structlog.get_logger("supervisor.pool.slot")

BEGIN_TIMEOUT_S = 30.0
"""From handing over a job to the worker's word that it begins."""
ANSWER_TIMEOUT_S = 2.0
"""For a worker to write its stacks to whoever asks."""
DUMP_TIMEOUT_S = 0.1
"""The same, when it is about to be killed."""
STACK_BYTES = 16 * 1024

SAID_TIMEOUT_S = 1.0
"""From a worker's outcome to the end of what it had sent before on the other way."""

_SIGNALS = {stop: number for number, stop in child.STOP_SIGNALS.items()}
_ORDERS = {
    StopReason.TIMEOUT: _SIGNALS[JobTimeout],
    StopReason.CANCEL: _SIGNALS[JobCancelled],
    StopReason.DRAIN: _SIGNALS[JobInterrupted],
    StopReason.LEASE_LOST: signal.SIGKILL,
}
_AT_ONCE = (StopReason.LEASE_LOST, StopReason.MEMORY)
"""Reasons that leave no time to obey."""


class WorkerSlot:
    """One place for one worker at a time. Its methods belong to one event loop."""

    def __init__(self, index: int, fork_server: ForkServer, nice: int = 0) -> None:
        self.index = index
        self.nice = nice
        """What its worker should have for niceness."""
        self.kill_grace_s = 2.0
        self.log_kb = 64
        self.jobs_done = 0
        """Jobs that the present worker has run."""
        self.worn: str | None = None
        """Why the present worker should run no more jobs."""
        self._fork_server = fork_server
        self._files = SlotFiles(fork_server.workspace, f"slot-{index}")
        self._asking = asyncio.Lock()
        self._worker: WorkerProcess | None = None
        self._newborn: ReadyWorker | None = None
        self._attempt: Attempt | None = None

    @property
    def pid(self) -> int:
        """The worker's process id; 0 when there is none."""
        return self._worker.pid if self._worker else 0

    @property
    def is_outdated(self) -> bool:
        """Whether the worker was started for other wishes than those of now."""
        return self._worker is not None and self._worker.plan.nice != self.nice

    @property
    def process_ids(self) -> set[int]:
        """The ids of the present worker and of one that is being started."""
        newborn = self._newborn.process_ids if self._newborn else set()
        return newborn | ({self._worker.spawned_pid} if self._worker else set())

    @property
    def alive(self) -> bool:
        """Whether a worker stands ready or is running a job."""
        return self._worker is not None and self._worker.alive

    @property
    def cpu(self) -> float | None:
        """Per cent of one core that the running job uses; None where nobody knows yet."""
        return self._attempt.cpu.percent if self._attempt else None

    async def start(self, spawning: asyncio.Lock) -> dict[str, Any]:
        """Start a worker and return its greeting. Raises WorkerStartError.

        `spawning` is held while there is a process whose id nobody knows yet.
        """
        self._newborn = ReadyWorker(self._fork_server, f"slot-{self.index}", self.nice)
        try:
            greeting = await self._newborn.start(spawning)
            self.take(self._newborn)
        finally:
            self._newborn = None
        return greeting

    def take(self, ready: ReadyWorker) -> None:
        """Have `ready` as the slot's worker from now on, with its files."""
        self._worker, self._files = ready.process, ready.files
        self._worker.on_message = self._on_message
        self.jobs_done, self.worn = 0, None

    async def wait_for_death(self) -> None:
        """Return when the present worker is dead."""
        if self._worker is not None:
            await asyncio.shield(self._worker.died)

    async def end(self) -> None:
        """End the present worker, if there is one, with everything below it."""
        if self._worker is not None:
            await self._worker.close()
            self._worker = None
        self._files.remove()

    async def run(self, call: Call, listener: JobListener) -> AnyOutcome:
        """Run one job on the present worker and return how it ended."""
        assert self._worker is not None, "start() comes first"
        assert self._attempt is None, f"slot {self.index} is running a job already"
        self._files.clear()
        attempt = self._attempt = Attempt(call, listener, time.monotonic())
        self._later(BEGIN_TIMEOUT_S, self._kill_if_not_begun)
        sampler = Sampler(self._worker.pid, call.memory_limit_mb, self._see, self._stop_for_memory)
        sampler.start()
        try:
            result = self._worker.submit(encode_call(call))
            ends: set[asyncio.Future[Any]] = {result, self._worker.died}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            outcome = await self._conclude(self._worker, attempt, result)
        finally:
            sampler.stop()
            for timer in attempt.timers:
                timer.cancel()
            self._attempt = None
        self.jobs_done += 1
        stack = self._files.stacks.head(STACK_BYTES) or None
        evidence = Evidence(stack) if isinstance(outcome, Crashed | TimedOut | OutOfMemory) else None
        return replace(outcome, logs=self._files.output.tail(self.log_kb * 1024), evidence=evidence)

    def stop(self, reason: StopReason, listener: JobListener | None = None) -> None:
        """Order the running job to stop; the worker is killed `kill_grace_s` later. The first order counts.

        With `listener`, only the job that was given with it: by the time of an order the slot may run another one.
        A lost lease gives no grace: somebody else may be running the job already. Nor does memory that runs out.
        """
        attempt = self._attempt
        if attempt is None or self._worker is None or not self._worker.alive:
            return
        if listener is not None and attempt.listener is not listener:
            return
        if attempt.ordered is None or reason is StopReason.LEASE_LOST:
            attempt.ordered = reason
            if reason is StopReason.TIMEOUT:  # where it is now says more than where its tidying up will be
                self._worker.signal(forensics.END_SIGNAL)
            if reason in _ORDERS:
                self._worker.signal(_ORDERS[reason])
        if reason in _AT_ONCE:
            self._kill()
        elif attempt.ordered is reason:
            self._later(self.kill_grace_s, self._kill)

    async def live_stacks(self) -> str | None:
        """Return the Python stacks of the worker's threads while it runs; None if it does not answer."""
        async with self._asking:
            if self._attempt is None or self._worker is None or not self._worker.alive:
                return None
            self._files.live_stacks.clear()
            self._worker.signal(forensics.LIVE_SIGNAL)
            written = await self._files.live_stacks.until_written(ANSWER_TIMEOUT_S)
            return self._files.live_stacks.head(STACK_BYTES) if written and self.alive else None

    def output(self, offset: int, limit: int) -> tuple[str, int] | None:
        """Return what the running job has printed from byte `offset` on, and where to go on; None without a job.

        A negative offset counts from the end.
        """
        return None if self._attempt is None else self._files.output.part(offset, limit)

    def _see(self, used: TreeUsage) -> None:
        """Take in a look at the running job."""
        if self._attempt is not None:
            self._attempt.see(used)
            self._files.output.free_all_but(self.log_kb * 1024)

    def _stop_for_memory(self, used_mb: float) -> None:
        if self._attempt is not None:
            self._attempt.over_mb = used_mb
            self.stop(StopReason.MEMORY)

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
            self._spawn(self._attempt, self._look_and_kill(self._attempt, self._worker))

    async def _look_and_kill(self, attempt: Attempt, worker: WorkerProcess) -> None:
        if attempt.ordered in (StopReason.TIMEOUT, StopReason.MEMORY) and not self._files.stacks.size:
            worker.signal(forensics.END_SIGNAL)
            await self._files.stacks.until_written(DUMP_TIMEOUT_S)
        if used := await asyncio.to_thread(process_tree.measure, worker.pid):
            attempt.see(used)
        await worker.kill()

    def _spawn(self, attempt: Attempt, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"slot {self.index}")
        attempt.tasks.add(task)
        task.add_done_callback(attempt.tasks.discard)

    def _on_message(self, message: dict[str, Any]) -> None:
        attempt = self._attempt
        if "worn" in message:
            self.worn = str(message["worn"])[:200]
        elif attempt is None:
            return
        elif "started" in message:
            attempt.begun_at = time.monotonic()
            attempt.cpu_before_s = _seconds(message.get("cpu_s"))
            self._later(attempt.call.timeout_s, lambda: self.stop(StopReason.TIMEOUT))
        elif "said_all" in message:
            attempt.said_all.set()
        elif "progress" in message:
            attempt.listener.on_progress(message["progress"])
        elif "log" in message:
            attempt.listener.on_log(message["log"])
        elif "request" in message:
            self._spawn(attempt, self._answer(attempt, message))

    async def _answer(self, attempt: Attempt, request: dict[str, Any]) -> None:
        fields = await attempt.listener.answer(request, self._files.spool)
        if self._worker is not None:
            self._worker.channel.reply(request, fields)

    async def _conclude(self, worker: WorkerProcess, attempt: Attempt, result: asyncio.Future[bytes]) -> AnyOutcome:
        if not result.done():  # a death: what the worker had sent before is still to arrive
            await asyncio.wait({result}, timeout=1.0)
        if result.done() and result.exception() is None:
            await _set_within(attempt.said_all, SAID_TIMEOUT_S)  # it belongs to this job, not to the slot's next
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
            return interrupted(attempt, "the fork server died")
        return died(attempt, ended.code, ended.used)

    def _decode(self, attempt: Attempt, data: bytes) -> AnyOutcome | None:
        try:
            return reported(attempt, self._keep_file(decode_outcome(data, self._files.spool)))
        except (ValueError, OSError) as error:
            log.warning("worker.nonsense", slot=self.index, reason=str(error))
            return None

    def _keep_file(self, said: Returned | Raised | Stopped) -> Returned | Raised | Stopped:
        """Move a large result out of the spool folder, which belongs to the slot's next job from now on."""
        if not isinstance(said, Returned) or said.spool_file is None:
            return said
        return replace(said, spool_file=self._files.keep(said.spool_file))


def _seconds(value: object) -> float:
    """Read a number of a worker's, which may say anything."""
    return value if isinstance(value, float) and math.isfinite(value) else 0.0


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for `event`, or no longer than `timeout_s`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()


async def _all_done(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for a kill that is under way, or an answer to the worker: nothing of an attempt outlives it."""
    if tasks:
        await asyncio.wait(set(tasks))
