"""A slot: a stable place for running jobs, one at a time, which outlives its workers.

It starts and ends them; what a worker does in between, and how its jobs end, is told by `supervisor.pool.serving`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from supervisor.core.lookahead import Expected
from supervisor.core.outcome import AnyOutcome
from supervisor.pool.attempt import Attempt, JobListener, StopReason, unbegun
from supervisor.pool.files import SlotFiles
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.limits import PoolLimits
from supervisor.pool.queue import Others
from supervisor.pool.ready_worker import ReadyWorker
from supervisor.pool.serving import Serving
from supervisor.pool.traces import STACK_BYTES
from supervisor.worker import forensics
from supervisor.worker.wire import Call

ANSWER_TIMEOUT_S = 2.0
"""For a worker to write its stacks to whoever asks."""
MOST_OUTPUT_BYTES = 16 << 20
"""Of jobs in a row; then the slot gets none ahead, so that it can begin a new file."""


class WorkerSlot:
    """One place for one worker at a time. Its methods belong to one event loop."""

    def __init__(self, index: int, fork_server: ForkServer, others: Others, nice: int = 0) -> None:
        self.index = index
        self._others = others
        self.nice = nice
        """What its worker should have for niceness."""
        self._fork_server = fork_server
        self._files = SlotFiles(fork_server.workspace, f"slot-{index}")
        self._asking = asyncio.Lock()
        self._serving: Serving | None = None
        self._newborn: ReadyWorker | None = None

    @property
    def pid(self) -> int:
        """The worker's process id; 0 when there is none."""
        return self._serving.worker.pid if self._serving else 0

    @property
    def process_ids(self) -> set[int]:
        """The ids of the present worker and of one that is being started."""
        newborn = self._newborn.process_ids if self._newborn else set()
        return newborn | ({self._serving.worker.spawned_pid} if self._serving else set())

    @property
    def is_outdated(self) -> bool:
        """Whether the worker was started for other wishes than those of now."""
        return self._serving is not None and self._serving.worker.plan.nice != self.nice

    @property
    def alive(self) -> bool:
        """Whether a worker stands ready or is running a job."""
        return self._serving is not None and self._serving.worker.alive

    @property
    def jobs_done(self) -> int:
        """Jobs that the present worker has run."""
        return self._serving.jobs_done if self._serving else 0

    @property
    def worn(self) -> str | None:
        """Why the present worker should run no more jobs."""
        return self._serving.worn if self._serving else None

    @property
    def call(self) -> Call | None:
        """The job that runs, or comes next."""
        head = self._serving and self._serving.jobs.head
        return head.call if head else None

    @property
    def busy_since(self) -> float | None:
        """When the job that runs began, or came if it has not yet, on the monotonic clock in seconds."""
        head = self._serving.jobs.head if self._serving else None
        return None if head is None else head.begun_at or head.given_at

    @property
    def cpu(self) -> float | None:
        """Per cent of one core that the running job uses; None where nobody knows yet."""
        head = self._serving and self._serving.jobs.head
        return head.cpu.percent if head else None

    @property
    def takes_more(self) -> bool:
        """Whether jobs that it gets now will run behind those that it has."""
        return self._serving is not None and self._serving.takes_more and self._files.output.size < MOST_OUTPUT_BYTES

    @property
    def waiting(self) -> int:
        """How many jobs wait behind the one that runs."""
        return max(0, len(self._serving.jobs) - 1) if self._serving else 0

    @property
    def waiting_s(self) -> float:
        """What those are expected to take, in seconds."""
        return self._serving.jobs.behind_s() if self._serving else 0.0

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
        self._files = ready.files
        self._serving = Serving(ready.process, ready.files, self._others)

    async def wait_for_death(self) -> None:
        """Return when the present worker is dead."""
        if self._serving is not None:
            await asyncio.shield(self._serving.worker.died)

    async def end(self) -> None:
        """End the present worker, if there is one, with everything below it."""
        if self._serving is not None:
            await self._serving.close()
            self._serving = None
        self._files.remove()

    def run(
        self, call: Call, listener: JobListener, expected: Expected, limits: PoolLimits
    ) -> asyncio.Future[AnyOutcome]:
        """Give the slot a job, behind those that it has; the future tells how it ended, whatever happens."""
        if self._serving is None:
            nowhere: asyncio.Future[AnyOutcome] = asyncio.get_running_loop().create_future()
            nowhere.set_result(unbegun("its worker had gone"))
            return nowhere
        self._serving.limit(limits)
        return self._serving.give(call, listener, expected)

    def take_ahead(self, most: int) -> list[Attempt]:
        """Let go of the last jobs that have not begun, for another slot."""
        return self._serving.jobs.let_go(most) if self._serving else []

    def take_over(self, attempt: Attempt) -> None:
        """Run a job that another slot had, behind those that this one has; it must have a worker."""
        assert self._serving is not None, "it was free, or runs short jobs"
        self._serving.take(attempt)

    def stop(self, reason: StopReason, listener: JobListener) -> None:
        """Order the job that was given with `listener` to stop; by now the slot may run another one."""
        if self._serving is not None:
            self._serving.stop(reason, listener)

    def give_back_ahead(self) -> None:
        """Give back all jobs that have not begun."""
        if self._serving is not None:
            self._serving.give_back_ahead()

    async def live_stacks(self, listener: JobListener) -> str | None:
        """Return the Python stacks of the worker's threads while it runs the job that was given with `listener`.

        None if it does not answer, or does not run that job.
        """
        async with self._asking:
            if not self._runs(listener) or self._serving is None or not self.alive:
                return None
            self._files.live_stacks.clear()
            self._serving.worker.signal(forensics.LIVE_SIGNAL)
            written = await self._files.live_stacks.until_written(ANSWER_TIMEOUT_S)
            return self._files.live_stacks.head(STACK_BYTES) if written and self.alive else None

    def output(self, listener: JobListener, offset: int, limit: int) -> tuple[str, int] | None:
        """Return what the job has printed from byte `offset` on, and where to go on; None if it does not run.

        A negative offset counts from the end.
        """
        if not self._runs(listener) or self._serving is None or self._serving.jobs.head is None:
            return None
        begin, output = self._serving.jobs.head.printed_before, self._files.output
        start = max(begin, output.size + offset) if offset < 0 else begin + offset
        text, end = output.part(start, limit)
        return text, max(0, end - begin)

    def _runs(self, listener: JobListener) -> bool:
        head = self._serving.jobs.head if self._serving else None
        return head is not None and head.listener is listener
