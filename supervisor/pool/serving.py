"""What a worker does from its start to its end: the jobs it was given, one after another, and how each of them ended.

Short jobs travel several at a time and the next ones wait in the worker, but each is an attempt of its own: its limits
and its end concern no other. What has not begun can be taken back at any moment (`supervisor.worker.tickets`).

After a death comes first the killing of the whole tree, then the wait for it, and only then the outcome: nobody else
may get the job while a part of it still runs.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Coroutine
from typing import Any

import bson
import structlog

from supervisor import process_tree
from supervisor.codec import TOLERANT
from supervisor.core.lookahead import Expected
from supervisor.core.outcome import AnyOutcome
from supervisor.pool import orders
from supervisor.pool.alarm import Alarm
from supervisor.pool.attempt import Attempt, JobListener, StopReason, died, interrupted, reported, unbegun
from supervisor.pool.files import SlotFiles
from supervisor.pool.limits import PoolLimits
from supervisor.pool.process import Exit, WorkerProcess
from supervisor.pool.queue import JobQueue, Notices, Others
from supervisor.pool.sampler import Sampler
from supervisor.pool.traces import Traces
from supervisor.process_tree import TreeUsage
from supervisor.worker.wire import LENGTH_BYTES, Call, decode_outcome

log = structlog.get_logger("supervisor.pool.slot")

BEGIN_TIMEOUT_S = 30.0
"""From handing over a job to the worker's word that it begins."""
KEEP_S = 0.5
"""While others are in line, what waits behind a job that has turned slow is kept for so long from its beginning: a slot
that becomes free takes it over at once.
"""


class Serving:
    """The jobs of one worker. Its methods belong to one event loop."""

    def __init__(self, worker: WorkerProcess, files: SlotFiles, others: Others) -> None:
        self.worker = worker
        self._others = others
        self._alarm = Alarm(self._due_at, self._on_due)
        notices = Notices(self._alarm.set, self._on_unsent, self._distrust, lambda: self._spawn(self._bury()))
        self.jobs = JobQueue(worker, notices)
        """The jobs that it has been given and that have not ended; the first one runs."""
        self.kill_grace_s = 2.0
        self.jobs_done = 0
        self.worn: str | None = None
        """Why the worker should run no more jobs."""
        self._files = files
        self._numbers = itertools.count(1)
        self._traces = Traces(files)
        self._sampler = Sampler(self._memory_limit_mb, self._see, self._stop_for_memory)
        self._killed_for: Attempt | None = None
        self._unsent: dict[str, Any] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        worker.on_message = self.on_message
        worker.died.add_done_callback(lambda _: self._spawn(self._bury()))

    def limit(self, limits: PoolLimits) -> None:
        """Apply limits to the jobs from now on."""
        self.kill_grace_s, self._traces.log_kb = limits.kill_grace_s, limits.log_kb

    @property
    def takes_more(self) -> bool:
        """Whether short jobs that it gets now will soon run, behind those that it has."""
        if self.jobs.closed or self.jobs.held or not self.worker.alive:
            return False
        head = self.jobs.head
        ran_s = time.monotonic() - head.begun_at if head and head.begun_at else 0.0
        return head is None or (head.expected.is_short and ran_s < head.expected.slow_s / 2)

    def give(self, call: Call, listener: JobListener, expected: Expected) -> asyncio.Future[AnyOutcome]:
        """Give the worker a job, behind those that it has; the future tells how it ended, and never raises."""
        attempt = Attempt(call, listener, expected)
        self.take(attempt)
        return attempt.ended

    def take(self, attempt: Attempt) -> None:
        """The same with a job that another worker had and has not begun."""
        attempt.given_at, attempt.number = time.monotonic(), next(self._numbers)
        if not self.jobs:
            self._traces.clear()
            self._sampler.start(self.worker.pid)
        self.jobs.add(attempt)

    async def close(self) -> None:
        """End the worker, and return when all that concerns its jobs is done."""
        await self.worker.close()
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def stop(self, reason: StopReason, listener: JobListener) -> None:
        """Order the job that was given with `listener` to stop; the worker is killed `kill_grace_s` later.

        The first order counts. A lost lease gives no grace: somebody else may be running the job already. Nor does
        memory that runs out. A job that has ended is none to stop.
        """
        attempt = self.jobs.of(listener)
        if attempt is None or not self.worker.alive:
            return
        self.jobs.hold_back()
        if self.jobs.take_out(attempt):
            self._resolve(attempt, unbegun(reason))
            return
        self._give_back()  # the worker ends with this job, or at least with its order
        if attempt.ordered is None or reason is StopReason.LEASE_LOST:
            orders.send(reason, attempt, self.worker, self._files)
        if reason in orders.AT_ONCE:
            self._kill(attempt)
        elif attempt.ordered is reason:
            attempt.timers.append(asyncio.get_running_loop().call_later(self.kill_grace_s, self._kill, attempt))

    def give_back_ahead(self) -> None:
        """Give back all jobs that have not begun."""
        if len(self.jobs) > 1:
            self.jobs.hold_back()
            self._give_back()

    def _give_back(self) -> None:
        for attempt in self._others.take(self.jobs.take_waiting()):
            self._resolve(attempt, unbegun(StopReason.AHEAD))

    def _wear(self, reason: str) -> None:
        """Give the worker no more jobs, not even those of a claim that is under way; it begins none by itself."""
        self.worn = reason
        self.give_back_ahead()
        self.jobs.closed = True

    def _on_unsent(self, said: bytes) -> None:
        """Take an end that came back with its group; what was sent before it may still be on the way."""
        self._wear("a job has closed its channel to the supervisor")
        try:
            self._unsent = bson.decode(said[LENGTH_BYTES:], TOLERANT)
        except bson.errors.BSONError as error:
            self._distrust(str(error))
        self._take_unsent()

    def _take_unsent(self) -> None:
        if self._unsent is not None and self.jobs.head and self._unsent.get("ended") == self.jobs.head.number:
            message, self._unsent = self._unsent, None
            self._on_ended(message)

    # What the worker says.

    def on_message(self, message: dict[str, Any]) -> None:
        """Take a message of the worker's, which may say anything."""
        attempt = self.jobs.head
        if "worn" in message:
            self._wear(str(message["worn"])[:200])
        elif attempt is None:
            return
        elif "ended" in message:
            self._on_ended(message)
        elif "started" in message:
            if message["started"] == attempt.number:
                self._begin(attempt, message)
        elif "progress" in message:
            attempt.listener.on_progress(message["progress"])
        elif "log" in message:
            attempt.listener.on_log(message["log"])
        elif "request" in message:
            self._spawn(self._answer(attempt, message), attempt)

    def _begin(self, attempt: Attempt, message: dict[str, Any]) -> None:
        attempt.begin(message.get("cpu_s"), self._traces.printed)
        self._alarm.set()

    def _on_ended(self, message: dict[str, Any]) -> None:
        attempt = self.jobs.head
        if attempt is None or not self.jobs.sent or message["ended"] != attempt.number:
            self._distrust(f"it tells the end of job {message['ended']!r}, which it does not run")
            return
        try:
            outcome = reported(attempt, self._traces.keep_file(decode_outcome(message["outcome"], self._files.spool)))
        except (ValueError, KeyError, OSError) as error:
            self._distrust(str(error))
            return
        self.jobs.take_first()
        self.jobs_done += 1
        outcome = self._traces.of(outcome, message.get("printed"))
        if attempt.ordered is not None and not self.jobs.sent:
            # torn out of its work at any point, it may hold locks and have children: never run a job on it; but if it
            # has begun another job by now, its tickets tell that the order came too late to reach this one
            self.jobs.closed = True
            self._spawn(self._resolve_after_end(attempt, outcome))
        else:
            self._resolve(attempt, outcome)
        if self.jobs.sent and self.jobs.head:
            self._begin(self.jobs.head, message)
        self._take_unsent()

    def _distrust(self, reason: str) -> None:
        """End a worker that says what cannot be; its job ends as one that crashed."""
        log.warning("worker.nonsense", reason=reason[:500])
        self.jobs.closed = True
        self._spawn(self.worker.kill())

    async def _answer(self, attempt: Attempt, request: dict[str, Any]) -> None:
        fields = await attempt.listener.answer(request, self._files.spool)
        self.worker.channel.reply(request, fields)

    # Ends.

    def _resolve(self, attempt: Attempt, outcome: AnyOutcome) -> None:
        for timer in attempt.timers:
            timer.cancel()
        if not self.jobs:
            self._sampler.stop()
        if attempt.tasks:  # a kill that is under way, or an answer to the worker: nothing of an attempt outlives it
            self._spawn(self._resolve_after(set(attempt.tasks), attempt, outcome))
        else:
            attempt.end(outcome)

    async def _resolve_after(self, tasks: set[asyncio.Task[None]], attempt: Attempt, outcome: AnyOutcome) -> None:
        await asyncio.wait(tasks)
        attempt.end(outcome)

    async def _resolve_after_end(self, attempt: Attempt, outcome: AnyOutcome) -> None:
        await self.worker.close()
        self._resolve(attempt, outcome)

    async def _bury(self) -> None:
        """After the worker's death: tell how its job ended, and give back the others."""
        self.jobs.closed = True
        end = await self.worker.close()  # takes in what it had still sent
        sent = self.jobs.sent
        self.jobs.count_as_waiting(end.unbegun)
        if self.jobs.head and sent:
            if not self.jobs.sent:
                self.jobs.head.begun_at = None  # it was next, but its ticket is still there
            attempt = self.jobs.take_first()
            self.jobs_done += 1
            outcome = self._outcome_of_dead(attempt, end)
            self._resolve(attempt, self._traces.of(outcome))
        self.jobs.count_as_waiting(self.jobs.sent)
        self._give_back()

    def _outcome_of_dead(self, attempt: Attempt, end: Exit) -> AnyOutcome:
        """Return how the job ended that the worker ran when it died, or would have begun next."""
        if not attempt.killed and self._killed_for is not None:
            return interrupted(attempt, "its worker was stopped for the sake of the job before it")
        if end.untold and not attempt.killed:
            return interrupted(attempt, "the fork server died")
        return died(attempt, end.code, end.used)

    def _kill(self, attempt: Attempt) -> None:
        """Kill the worker with its tree for the sake of a job; its death then tells how that ended."""
        if self._killed_for is None:
            self._killed_for, attempt.killed = attempt, True
            self._spawn(self._look_and_kill(attempt), attempt)

    async def _look_and_kill(self, attempt: Attempt) -> None:
        await orders.last_words(attempt, self.worker, self._files)
        if used := await asyncio.to_thread(process_tree.measure, self.worker.pid):
            attempt.see(used)
        await self.worker.kill()

    def _spawn(self, work: Coroutine[Any, Any, None], attempt: Attempt | None = None) -> None:
        tasks = self._tasks if attempt is None else attempt.tasks
        task = asyncio.get_running_loop().create_task(work, name="a worker's jobs")
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # What is due for the first job: its word that it begins, its time limit, or giving back those behind it.

    def _due_at(self) -> float:
        head = self.jobs.head
        if head is None or head.sent_at is None or head.killed:
            return math.inf
        if head.begun_at is None:
            return head.sent_at + BEGIN_TIMEOUT_S
        slow_s = KEEP_S if head.kept else head.expected.slow_s
        slow_at = head.begun_at + slow_s if len(self.jobs) > 1 else math.inf
        return slow_at if head.ordered else min(slow_at, head.begun_at + head.call.timeout_s)

    def _on_due(self) -> None:
        head = self.jobs.head
        assert head is not None, "something is due for it"
        if head.begun_at is None:
            self._kill(head)
        elif head.ordered is None and time.monotonic() >= head.begun_at + head.call.timeout_s:
            self.stop(StopReason.TIMEOUT, head.listener)
        elif self._others.in_line and not head.kept:
            head.kept = True
            self.jobs.hold_back()
            self.jobs.put_back(self._others.take(self.jobs.take_waiting()))
            self._alarm.set()
        else:
            self.give_back_ahead()

    def _memory_limit_mb(self) -> int:
        return self.jobs.head.call.memory_limit_mb if self.jobs.head else 0

    def _see(self, used: TreeUsage) -> None:
        if self.jobs.head is not None:
            self.jobs.head.see(used)
            self._files.output.free_all_but(self._traces.log_kb * 1024)

    def _stop_for_memory(self, used_mb: float) -> None:
        if head := self.jobs.head:
            head.over_mb = used_mb
            self.stop(StopReason.MEMORY, head.listener)
