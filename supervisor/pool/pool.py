"""The pool: a table of slots, and the tasks that keep it at the desired size.

`resize` sets a number; a reconcile step opens and retires slots until the table agrees. Each slot has one task that
tends it: start a worker, wait until it is spent, end it, start the next. Only that task and `run` change a slot's
entry. A slot whose worker fails to start backs off; if no worker ever starts, the pool gives up and says why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from supervisor import process_tree
from supervisor.core.lookahead import Pace, Place
from supervisor.core.outcome import AnyOutcome, Raised, Returned
from supervisor.core.slots import SlotState, plan_slots, start_delay
from supervisor.errors import WorkersCannotStartError
from supervisor.pool.attempt import JobListener, StopReason
from supervisor.pool.descriptors import Descriptors
from supervisor.pool.entry import Entry
from supervisor.pool.evidence import Witness
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.lifetime import Lifetime
from supervisor.pool.limits import PoolLimits
from supervisor.pool.placement import Placement
from supervisor.pool.process import WorkerStartError
from supervisor.pool.ready_worker import ReadyWorker
from supervisor.pool.report import SlotReport
from supervisor.pool.sharing import Sharing
from supervisor.pool.slot import WorkerSlot
from supervisor.pool.spares import Helpers, Spares
from supervisor.pool.welcome import Welcome
from supervisor.registry import HandlerSpec
from supervisor.store.taking import Seat
from supervisor.worker.wire import Call

log = structlog.get_logger("supervisor.pool.pool")

HOPELESS_STARTS = 5
"""Failed starts, with none that ever worked, after which the pool gives up."""
PROVEN_S = 5.0
"""A worker that lives so long, or has run a job, did not fail at its start."""
STARTS_AT_ONCE = 2
"""Workers started at the same time: growing from 1 to 64 must not take the machine away from running jobs."""


class WorkerPool:
    """Owns the slot table. `run` is its life; the other methods may be called while it runs."""

    def __init__(self, fork_server: ForkServer, limits: PoolLimits, random: Callable[[], float]) -> None:
        self.limits = limits
        self.pace = Pace()
        """How long the jobs of each handler take."""
        self.changed = asyncio.Event()
        """Set when a slot becomes free; who waits clears it."""
        self.first_worker_ready = asyncio.Event()
        self._fork_server = fork_server
        self._random = random
        self._desired = 0
        self._winding_down = False
        self._slots: dict[int, Entry] = {}
        self._sharing = Sharing(self._slots, self.pace)
        self._resized = asyncio.Event()
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)
        self._spawning = asyncio.Lock()
        self._failed_starts = 0
        self._descriptors = Descriptors()
        self._witness = Witness(self.report)
        self._welcome = Welcome()
        self._placement = Placement()
        self._spares = Spares(fork_server, Helpers(self._start_spare, self._sweep, self._may_start_spare))

    @property
    def desired(self) -> int:
        """The wanted number of slots."""
        return self._desired

    def resize(self, workers: int) -> None:
        """Set the wanted number of slots; running jobs are never cut short by it."""
        self._desired = max(0, workers)
        self._resized.set()

    def limit(self, limits: PoolLimits) -> None:
        """Apply other limits; a worker that has served long enough by them is replaced now, or after its job."""
        self.limits = limits
        for entry in self._slots.values():
            entry.lifetime.limit(limits.max_jobs_per_worker, limits.max_growth_mb)
            entry.slot.nice = limits.nice
            self._look_at(entry)
        self._resized.set()  # for the spares
        if self._placement.pin(wanted=limits.pin):
            for entry in self._slots.values():
                self._placement.place(entry.slot.index, entry.slot.pid)

    def wind_down(self) -> None:
        """Start no more workers and end those that have no job, whatever is wanted."""
        self._winding_down = True
        self._resized.set()

    def report(self) -> list[SlotReport]:
        """Return the slots as they are."""
        return [entry.report() for _, entry in sorted(self._slots.items())]

    def spares(self) -> list[tuple[int, float | None]]:
        """Return the process ids of the spare workers that stand ready, and their memory in megabytes."""
        return [(pid, process_tree.rss_mb(pid)) for pid in self._spares.pids]

    def runs(self, spec: HandlerSpec) -> bool:
        """Tell whether jobs of this handler run here."""
        return not spec.is_coroutine

    def has_free(self) -> bool:
        """Tell whether a slot could take a job now, or runs short ones and will soon have none left."""
        return any(map(self._sharing.has_room, self._slots.values()))

    def reserve(self) -> list[Place]:
        """Promise all places to the caller, who must `run_job` on some and then `release` all of them."""
        places = self._sharing.places()
        for place in places:
            self._slots[place.slot].promised = True
        return places

    def release(self, place: Place) -> None:
        """Give back a reserved place; what it was given stays."""
        entry = self._slots[place.slot]
        entry.promised = False
        self._look_at(entry)

    def run_job(self, seat: Seat, call: Call, listener: JobListener) -> Awaitable[AnyOutcome]:
        """Run a job on a reserved place; what is returned waits for its outcome, and must be awaited.

        The job has its place at once: jobs that are given in one go travel together.
        """
        entry = self._slots[seat.slot]
        self._sharing.add(listener, entry)
        ended = entry.slot.run(call, listener, self.pace.expected(call.handler), self.limits)
        return self._finish(call, listener, ended)

    async def _finish(self, call: Call, listener: JobListener, ended: Awaitable[AnyOutcome]) -> AnyOutcome:
        try:
            outcome = await ended
            entry = self._sharing.where(listener)
            outcome = self._witness.complete(outcome, entry.slot.index)
            if isinstance(outcome, Returned | Raised):
                self.pace.note(call.handler, outcome.usage.run_s)
            if not entry.slot.alive:
                await self._end_leftovers(entry.slot)
            entry.judge()
            return outcome
        finally:
            self._look_at(self._sharing.remove(listener))

    def stop_job(self, slot: int, listener: JobListener, reason: StopReason) -> None:
        """Order the job on `slot` that was given with `listener` to stop; another one is none of the caller's."""
        if entry := self._slots.get(slot):
            entry.slot.stop(reason, listener)

    async def stack_of(self, slot: int, listener: JobListener) -> str | None:
        """Return the Python stacks of the job that was given with `listener`, without stopping it; None if there is no
        answer.
        """
        entry = self._slots.get(slot)
        return await entry.slot.live_stacks(listener) if entry else None

    def output_of(self, slot: int, listener: JobListener, offset: int, limit: int) -> tuple[str, int] | None:
        """Return a part of what that job has printed, as `WorkerSlot.output` does; None if it does not run."""
        entry = self._slots.get(slot)
        return entry.slot.output(listener, offset, limit) if entry else None

    async def run(self) -> None:
        """Keep the table at the wanted size, until cancelled; then end all workers.

        Raises WorkersCannotStartError if no worker ever starts.
        """
        try:
            async with asyncio.TaskGroup() as tending:
                tending.create_task(self._spares.run(), name="spares")
                while True:
                    self._reconcile(tending)
                    await self._descriptors.until_worth_a_look(self._resized)
        finally:
            await asyncio.gather(*(entry.slot.end() for entry in self._slots.values()))
            self._slots.clear()
            await asyncio.to_thread(self._fork_server.end)

    def _reconcile(self, tending: asyncio.TaskGroup) -> None:
        table = {index: (entry.state, entry.retiring) for index, entry in self._slots.items()}
        has_worker = [entry.slot.alive for entry in self._slots.values() if not entry.retiring]
        wanted = 0 if self._winding_down else self._descriptors.allow(self._desired, has_worker)
        plan = plan_slots(wanted, table)
        for index in plan.retire:
            self._slots[index].retiring = True
        for index in plan.retire:  # only now: none is to take over what another has
            self._slots[index].slot.give_back_ahead()
            self._look_at(self._slots[index])
        for index in plan.keep:
            self._slots[index].retiring = False
            self._look_at(self._slots[index])
        spares = 0 if self._winding_down or not self._desired else self.limits.spares
        self._spares.want(spares, self.limits.nice)
        for index in plan.open:
            entry = Entry(WorkerSlot(index, self._fork_server, self._sharing, self.limits.nice))
            self._slots[index] = entry
            tending.create_task(self._tend(entry), name=f"slot {index}")

    async def _tend(self, entry: Entry) -> None:
        """Keep one slot supplied with a worker until it is retired."""
        while not (entry.retiring and not entry.taken):
            if not await self._start(entry):
                continue
            await self._until_spent(entry)
            entry.enter(SlotState.STOPPING)
            await self._end_leftovers(entry.slot)
            await entry.slot.end()
        await entry.slot.end()
        del self._slots[entry.slot.index]
        self._resized.set()  # a place is free; the table may have to grow again

    async def _start(self, entry: Entry) -> bool:
        entry.enter(SlotState.STARTING)
        try:
            await self._man(entry.slot)
        except (WorkerStartError, OSError, RuntimeError) as error:  # no process, thread or descriptor to be had
            await self._back_off(entry, str(error))
            return False
        self._placement.place(entry.slot.index, entry.slot.pid)
        jitter = 0.9 + 0.2 * self._random()
        entry.worn = None
        entry.lifetime = Lifetime(self.limits.max_jobs_per_worker, self.limits.max_growth_mb, jitter)
        entry.enter(SlotState.IDLE)
        self.first_worker_ready.set()
        self._look_at(entry)
        self._spares.look()
        return True

    async def _man(self, slot: WorkerSlot) -> None:
        """Give the slot a worker: a spare one, or else a new one."""
        if spare := self._spares.take():
            slot.take(spare)
            log.debug("spare.taken", slot=slot.index, pid=slot.pid)
            return
        async with self._starting:
            await asyncio.to_thread(self._fork_server.ensure_running)
            self._welcome.read(await slot.start(self._spawning), slot.index, self.limits.spares)

    async def _back_off(self, entry: Entry, reason: str) -> None:
        entry.failures += 1
        self._failed_starts += 1
        if self._hopeless and self._failed_starts > HOPELESS_STARTS:
            return  # another slot has given up for all; ours is about to be cancelled
        delay = start_delay(entry.failures)
        entry.enter(SlotState.BACKOFF)
        log.error(
            "worker.start_failed", slot=entry.slot.index, failures=entry.failures, retry_in_s=delay, reason=reason
        )
        if self._hopeless:
            last = reason.strip().splitlines()[-1]
            raise WorkersCannotStartError(f"no worker could be started in {HOPELESS_STARTS} tries; the last: {last}")
        entry.looked_at.clear()
        try:
            async with asyncio.timeout(delay):
                while not entry.retiring:
                    await entry.looked_at.wait()
                    entry.looked_at.clear()
        except TimeoutError:
            return

    @property
    def _hopeless(self) -> bool:
        return self._failed_starts >= HOPELESS_STARTS and not self.first_worker_ready.is_set()

    async def _until_spent(self, entry: Entry) -> None:
        """Return when the worker is dead, due for recycling or no longer wanted, and runs no job."""
        started = time.monotonic()
        death = asyncio.create_task(entry.slot.wait_for_death())
        death.add_done_callback(lambda _: entry.looked_at.set())
        try:
            while entry.taken or not entry.is_spent:
                entry.looked_at.clear()
                await entry.looked_at.wait()
        finally:
            death.cancel()
        lived_s = time.monotonic() - started
        if entry.slot.alive or entry.slot.jobs_done or lived_s > PROVEN_S or entry.retiring:
            entry.failures = 0
        else:
            log.warning("worker.died_idle", slot=entry.slot.index)
            await self._back_off(entry, "the worker died before its first job")

    def _look_at(self, entry: Entry) -> None:
        """Wake who tends a slot, and who fills it, where there is something to do for them: jobs end all the time."""
        if entry.is_spent and not entry.taken:
            entry.looked_at.set()
            return
        self._sharing.relieve(entry)
        if self._sharing.has_room(entry):
            self.changed.set()

    async def _end_leftovers(self, slot: WorkerSlot) -> None:
        """After a worker's death: kill what it had started and what the fork server has adopted since."""
        if not slot.alive:
            await self._sweep()

    async def _sweep(self) -> None:
        async with self._spawning:  # a newborn worker must not be taken for an orphan
            ours = self._spares.process_ids.union(*(entry.slot.process_ids for entry in self._slots.values()))
            await asyncio.to_thread(process_tree.kill_orphans, self._fork_server.pid, ours)

    async def _start_spare(self, spare: ReadyWorker) -> None:
        await asyncio.to_thread(self._fork_server.ensure_running)
        self._welcome.read(await spare.start(self._spawning), None, self.limits.spares)

    def _may_start_spare(self) -> bool:
        """Slots come first."""
        waiting = (SlotState.STARTING, SlotState.STOPPING, SlotState.BACKOFF)
        served = all(entry.state not in waiting for entry in self._slots.values())
        return served and len(self._slots) >= self._desired and self._descriptors.has_room
