"""A supervisor's life: STARTING → RUNNING → DRAINING → stopped. The engine owns the phase and the tasks.

Stopping has an order: no more claims; wait for the running jobs; interrupt the rest and give them back; record all of
it; end the workers; and only then stop renewing leases and take the heartbeat away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import structlog
from pymongo.errors import PyMongoError

from supervisor.batches import Batches
from supervisor.config.diff import diff, merge_live
from supervisor.config.loading import LoadedConfig
from supervisor.config.provenance import origins_in_force, set_keys
from supervisor.config.settings import LogSettings, Settings
from supervisor.config.watcher import ConfigWatcher
from supervisor.controls import Controls
from supervisor.coroutines.runner import LoopRunner
from supervisor.coroutines.watch import LoopWatch
from supervisor.dispatcher import Dispatcher
from supervisor.draining import Draining
from supervisor.errors import DatabaseUnreachableError
from supervisor.health_file import HealthFile
from supervisor.heartbeat import Heartbeat, Phase
from supervisor.http_service.service import HttpService
from supervisor.lease_keeper import LeaseKeeper
from supervisor.live import Live
from supervisor.pool.attempt import StopReason
from supervisor.pool.limits import PoolLimits
from supervisor.pool.pool import WorkerPool
from supervisor.reaper import Reaper, Retention
from supervisor.recorder import Recorder
from supervisor.scheduler import Scheduler
from supervisor.service_manager import ServiceManager
from supervisor.sizing import Sizing
from supervisor.status_line import StatusLine
from supervisor.store.presence import PresenceStore
from supervisor.wakeup import Wakeup

log = structlog.get_logger("supervisor")

RECORD_TIMEOUT_S = 5.0
"""How long a stopping supervisor tries to record what it interrupted, before it leaves that to the leases' end."""

LEAVE_TIMEOUT_S = 2.0
END_TIMEOUT_S = 10.0
"""For a part that is cancelled; longer than one call to the database, so that only a hang is cut short."""


def stop_limit_s(settings: Settings) -> float:
    """Return how long a stop takes at most: the drain, killing and recording the rest, and the end of all parts."""
    rest_s = settings.pool.kill_grace_s + RECORD_TIMEOUT_S
    return settings.shutdown.drain_s + rest_s + 3 * END_TIMEOUT_S + 2 * LEAVE_TIMEOUT_S


@dataclass(frozen=True)
class Parts:
    """Everything the supervisor runs; built by `app`."""

    live: Live
    pool: WorkerPool
    coroutines: LoopRunner
    loop_watch: LoopWatch
    dispatchers: tuple[Dispatcher, ...]
    """One for each executor."""
    recorder: Recorder
    lease_keeper: LeaseKeeper
    controls: Controls
    sizing: Sizing
    draining: Draining
    reaper: Reaper
    batches: Batches
    retention: Retention
    scheduler: Scheduler
    wakeup: Wakeup
    heartbeat: Heartbeat
    presence: PresenceStore
    manager: ServiceManager
    health: HealthFile
    status_line: StatusLine
    http: HttpService | None
    """None where `[http]` is not enabled, and in an application."""
    configure_logs: Callable[[LogSettings], None]
    """Does nothing in an application, whose logs are its own."""


class Engine:
    """Runs the parts until it is told to stop. Its methods belong to one event loop."""

    def __init__(self, parts: Parts, loaded: LoadedConfig) -> None:
        self._parts = parts
        self._loaded = loaded
        self._origins = loaded.origins
        self._drain = asyncio.Event()
        self._hurry = asyncio.Event()
        self._services: dict[asyncio.Task[None], str] = {}
        self.running = asyncio.Event()
        """Set when jobs are being claimed."""
        self.watcher: ConfigWatcher | None = None

    def stop(self) -> None:
        """Drain; called a second time, without waiting for the running jobs."""
        (self._hurry if self._drain.is_set() else self._drain).set()

    def reload(self) -> None:
        """Read the configuration again now."""
        with self._parts.manager.reloading():  # a mistake in the file ends the reload too; it is in the log
            if self.watcher is not None:
                self.watcher.reload_now()

    def resize_by(self, step: int) -> None:
        """Change the number of workers until the configuration or a control changes it again."""
        self._parts.sizing.step(step)

    def log_state(self) -> None:
        """Log the slots and what they run."""
        report = self._parts.heartbeat.report()
        slots = [{key: str(slot[key]) for key in ("slot", "state", "pid", "job_id")} for slot in report["slots"]]
        log.info("supervisor.state", phase=report["phase"], workers=report["workers"], slots=slots,
                 counts=report["counts"])  # fmt: skip

    async def run(self) -> None:
        """Run until stopped and drained. Raises what a part died of; a part that ends by itself is a bug."""
        parts = self._parts
        self._apply(parts.live.settings)
        self._size(edited=False)
        pool = self._serve_all()
        try:
            await self._until(_first_of(self._able_to_work(), self._drain.wait()))
            self._enter(Phase.RUNNING)
            parts.manager.ready()
            log.info("supervisor.ready", workers=parts.pool.desired, handlers=sorted(parts.live.handlers))
            self.running.set()
            await self._until(self._drain.wait())
            await self._drain_jobs()
        except DatabaseUnreachableError:
            self._name_unrecorded()
            raise
        finally:
            await _end(pool)
            await self._end_services()
        with contextlib.suppress(PyMongoError, TimeoutError):  # else it goes silent, and a reaper removes it
            async with asyncio.timeout(LEAVE_TIMEOUT_S):
                await parts.presence.leave()
        log.info("supervisor.stopped", counts=dict(parts.live.counts))

    def _serve_all(self) -> asyncio.Task[None]:
        """Start all parts; return the pool, which is the first to end."""
        parts = self._parts
        self._serve(parts.recorder.run(), "recorder")
        self._serve(parts.lease_keeper.run(), "lease keeper")
        self._serve(parts.heartbeat.run(), "heartbeat")
        self._serve(parts.live.outage.run(), "outage")
        pool = self._serve(parts.pool.run(), "pool")
        self._serve(parts.coroutines.run(), "coroutines")
        self._serve(parts.loop_watch.run(), "loop watch")
        self._serve(parts.wakeup.run(), "wakeup")
        self._serve(parts.controls.run(), "controls")
        self._serve(parts.draining.run(), "draining")
        self._serve(parts.reaper.run(), "reaper")
        self._serve(parts.batches.run(), "batches")
        self._serve(parts.retention.run(), "retention")
        self._serve(parts.scheduler.run(), "scheduler")
        if self.watcher is not None:
            self._serve(self.watcher.run(), "configuration watcher")
        if parts.http is not None:
            self._serve(parts.http.run(), "HTTP service")
        if parts.manager.listens:
            self._serve(parts.status_line.run(), "status line")
        for dispatcher in parts.dispatchers:
            self._serve(dispatcher.run(), "dispatcher")
        return pool

    def on_config(self, loaded: LoadedConfig) -> None:
        """Apply a changed configuration: what can change while running, changes; the rest is named."""
        with self._parts.manager.reloading():
            self._change(loaded)

    def _change(self, loaded: LoadedConfig) -> None:
        old = self._parts.live.settings
        changes = diff(self._loaded.settings, loaded.settings)
        edited = loaded.workers_without_flag != self._loaded.workers_without_flag
        self._loaded = loaded
        for change in changes:
            event = "config.changed" if change.live else "config.needs_restart"
            log.info(event, key=change.key, change=str(change))
        self._parts.live.settings = merge_live(old, loaded.settings)
        self._origins = origins_in_force(self._origins, loaded.origins)
        self._parts.configure_logs(loaded.settings.log)
        self._apply(self._parts.live.settings)
        self._size(edited=edited)

    def _apply(self, settings: Settings) -> None:
        self._parts.live.config = [each.document() for each in set_keys(settings, self._origins)]
        pool = settings.pool
        limits = PoolLimits(
            max_jobs_per_worker=pool.max_jobs_per_worker,
            max_growth_mb=pool.max_growth_mb,
            kill_grace_s=pool.kill_grace_s,
            log_kb=settings.limits.log_kb,
            pin=pool.pin,
            nice=pool.nice,
            spares=pool.spares,
        )
        self._parts.pool.limit(limits)
        self._parts.coroutines.limits = limits
        self._parts.wakeup.ring()  # a cap or a claim list may have opened
        self._parts.heartbeat.soon()  # it says what is in force
        self._parts.scheduler.soon()

    def _size(self, *, edited: bool) -> None:
        origin = self._loaded.origins["pool.workers"].kind
        self._parts.sizing.configure(self._parts.live.settings.pool.workers, origin, edited=edited)
        if edited:
            self._parts.controls.soon()  # a resize that is overruled is to be told so

    def _enter(self, phase: Phase) -> None:
        self._parts.heartbeat.phase = phase
        self._parts.health.enter(self._parts.heartbeat.shown_phase.value)
        self._parts.heartbeat.soon()

    async def _able_to_work(self) -> None:
        """Wait until the controls are known, setup hooks have run, and a worker, if any is wanted, has shaken hands."""
        await self._parts.sizing.known.wait()
        await self._parts.coroutines.ready.wait()
        if self._parts.pool.desired:
            await self._parts.pool.first_worker_ready.wait()

    async def _drain_jobs(self) -> None:
        """No more claims; wait for the running jobs; interrupt the rest and see that it is recorded."""
        self._enter(Phase.DRAINING)
        self._parts.manager.stopping()
        drain_s = self._parts.live.settings.shutdown.drain_s
        log.info("supervisor.draining", jobs=len(self._parts.live.executions), drain_s=drain_s)
        await asyncio.gather(*(dispatcher.close(END_TIMEOUT_S) for dispatcher in self._parts.dispatchers))
        self._parts.pool.wind_down()
        await self._until(_first_of(self._jobs_ended(), self._hurry.wait(), asyncio.sleep(drain_s)))
        for execution in list(self._parts.live.executions):
            execution.stop(StopReason.DRAIN)
        grace_s = self._parts.pool.limits.kill_grace_s + RECORD_TIMEOUT_S
        await self._until(_first_of(self._jobs_ended(), asyncio.sleep(grace_s)))
        self._name_unrecorded()

    def _name_unrecorded(self) -> None:
        for execution in self._parts.live.executions:
            log.error("job.unrecorded", job_id=str(execution.claim.job.id), finished=execution.finished,
                      hint="its lease is left to expire")  # fmt: skip

    async def _jobs_ended(self) -> None:
        if tasks := {task for dispatcher in self._parts.dispatchers for task in dispatcher.tasks}:
            await asyncio.wait(tasks)

    def _serve(self, part: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(part, name=name)
        self._services[task] = name
        return task

    async def _until(self, condition: Coroutine[Any, Any, Any]) -> None:
        """Wait for `condition`; raise if a part ends meanwhile, since without it nothing else can be trusted."""
        waiting = asyncio.create_task(condition)
        alive = {task for task in self._services if not task.cancelled()}
        try:
            await asyncio.wait({waiting, *alive}, return_when=asyncio.FIRST_COMPLETED)
            for task in alive:
                if task.done() and not task.cancelled():
                    raise _cause(task) or RuntimeError(f"the {self._services[task]} has ended by itself")
        finally:
            waiting.cancel()
            await asyncio.wait({waiting})

    async def _end_services(self) -> None:
        """All at once: with the database away, each change stream takes seconds to let go of it.

        Executions whose end could not be recorded too: in an application they would go on for ever.
        """
        await _end(*self._services, *(task for dispatcher in self._parts.dispatchers for task in dispatcher.tasks))


def _cause(task: asyncio.Task[None]) -> BaseException | None:
    """Return what a part died of; of several errors at once, the first."""
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _first_of(*conditions: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.create_task(condition) for condition in conditions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _end(*tasks: asyncio.Task[None]) -> None:
    """Cancel parts and wait for them, within bounds; what they died of has been raised elsewhere."""
    for task in tasks:
        task.cancel()
    _, hung = await asyncio.wait(tasks, timeout=END_TIMEOUT_S)
    if hung:
        log.error("supervisor.part_hangs", parts=[task.get_name() for task in hung], hint="left as it is")
