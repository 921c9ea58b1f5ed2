"""Putting the parts of one supervisor together: real stores, real workers, the event loop. It decides nothing.

Randomness and wall-clock time enter here.
"""

from __future__ import annotations

import contextlib
import os
import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from supervisor import __version__, host
from supervisor.batches import Batches
from supervisor.config.loading import LoadedConfig
from supervisor.config.settings import LogSettings, Settings
from supervisor.controls import PACE, Controls, Heeders
from supervisor.core.transitions import Transition
from supervisor.coroutines.runner import LoopRunner
from supervisor.coroutines.watch import LoopWatch
from supervisor.dispatcher import Dispatcher
from supervisor.draining import Draining
from supervisor.engine import Engine, Parts
from supervisor.execution import Services
from supervisor.health_file import HealthFile
from supervisor.heartbeat import Heartbeat
from supervisor.http_service.service import Door, HttpService
from supervisor.lease_keeper import LeaseKeeper
from supervisor.live import Live
from supervisor.outage import Outage
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.limits import PoolLimits
from supervisor.pool.pool import WorkerPool
from supervisor.pulse import Pulse
from supervisor.reaper import Reaper, Retention
from supervisor.recorder import Recorder
from supervisor.registry import REGISTRY
from supervisor.scheduler import Scheduler
from supervisor.service_manager import ServiceManager
from supervisor.side_effects import SideEffects
from supervisor.sizing import Sizing
from supervisor.status_line import StatusLine
from supervisor.store.batches import BatchStore
from supervisor.store.candidates import Candidates, Outlook
from supervisor.store.claims import ClaimStore
from supervisor.store.controls import COLLECTION as CONTROLS
from supervisor.store.controls import ControlStore
from supervisor.store.counts import CountStore
from supervisor.store.files import FileStore
from supervisor.store.leases import LeaseStore
from supervisor.store.presence import PresenceStore
from supervisor.store.results import ResultStore
from supervisor.store.retention import RetentionStore
from supervisor.store.schedules import ScheduleStore
from supervisor.store.taking import Owner
from supervisor.wakeup import Wakeup

log = structlog.get_logger("supervisor")

Database = AsyncDatabase[dict[str, Any]]


@dataclass(frozen=True)
class Outlets:
    """Whom a supervisor tells how it is, and what becomes of its process where it cannot go on."""

    manager: ServiceManager
    health: HealthFile
    configure_logs: Callable[[LogSettings], None]
    give_up: Callable[[], None]
    """Called in a thread when the event loop stands still and leases can no longer be kept."""
    door: Door | None = None
    """Where HTTP is served, if it is."""
    gives_up_database: bool = True
    """Whether to end after `mongo.give_up_s`; not where nobody would start it again."""


async def build(loaded: LoadedConfig, database: Database, fork_server: ForkServer, outlets: Outlets) -> Engine:
    """Return an engine that is ready to run; what its dead predecessors on this host have left is given back."""
    parts = _Assembly(loaded.settings, database, fork_server, outlets).parts()
    log.info("supervisor.starting", id=parts.presence.supervisor, version=__version__, pid=os.getpid())
    with contextlib.suppress(PyMongoError):  # their leases expire in any case
        await parts.reaper.believe_clock()
        await parts.reaper.release_dead_predecessors(host.identity()["host"])
    return Engine(parts, loaded)


class _Assembly:
    """The parts that other parts need, and how those are made of them."""

    def __init__(self, settings: Settings, database: Database, fork_server: ForkServer, outlets: Outlets) -> None:
        self.database = database
        self.outlets = outlets
        self.collection = settings.mongo.collection
        self.random = random.SystemRandom().random
        me = host.identity()
        self.owner = Owner(f"{me['host']}-{os.getpid()}-{uuid.uuid4().hex[:8]}", me["host"])
        self.results = ResultStore(database, self.collection)
        self.leases = LeaseStore(database, self.collection, self.owner)
        self.presence = PresenceStore(database, self.owner.supervisor)
        self.retention = RetentionStore(database, self.collection)
        self.live = Live(settings, REGISTRY.handlers)
        if not outlets.gives_up_database:
            self.live.outage = Outage(settings.mongo.model_copy(update={"give_up_s": 0.0}))
        self.pool = WorkerPool(fork_server, PoolLimits(), self.random)
        self.coroutines = LoopRunner(fork_server.workspace, REGISTRY.handlers, REGISTRY.setups)
        self.recorder = Recorder(self.results, lambda: len(self.live.executions))
        self.lease_keeper = LeaseKeeper(self.live, self.leases, self.recorder, self.owner)
        self.candidates = Candidates(database, self.collection)
        self.wakeup = Wakeup(database, self.collection, self.random, look=self._look)
        identity = {**me, "version": __version__, "session": self.results.session}
        self.heartbeat = Heartbeat(self.live, self.pool, self.coroutines, self.presence, identity)
        self.sizing = Sizing(self.live, self.pool, self.heartbeat.soon)
        self.draining = Draining(self.live, self.heartbeat.soon)
        self.controls = self._controls()
        self.batches = Batches(BatchStore(database, self.collection))

    def parts(self) -> Parts:
        database, manager = self.database, self.outlets.manager
        counts = CountStore(database, self.collection)
        return Parts(
            live=self.live,
            pool=self.pool,
            coroutines=self.coroutines,
            loop_watch=LoopWatch(self.coroutines, self.lease_keeper, REGISTRY.handlers, self.outlets.give_up),
            dispatchers=self._dispatchers(),
            recorder=self.recorder,
            lease_keeper=self.lease_keeper,
            controls=self.controls,
            sizing=self.sizing,
            draining=self.draining,
            reaper=Reaper(self.live, self.leases, self.results, self.candidates, self.presence, self.random),
            batches=self.batches,
            retention=Retention(self.live, self.retention),
            scheduler=Scheduler(self.live, ScheduleStore(database, self.collection), self.random),
            wakeup=self.wakeup,
            heartbeat=self.heartbeat,
            presence=self.presence,
            manager=manager,
            health=self.outlets.health,
            configure_logs=self.outlets.configure_logs,
            status_line=StatusLine(self.live, self.pool, self.heartbeat, counts, manager),
            http=self._http(),
        )

    def _http(self) -> HttpService | None:
        if self.outlets.door is None:
            return None
        return HttpService(self.outlets.door, lambda: self.live.settings, self.outlets.health.now, REGISTRY)

    def _controls(self) -> Controls:
        store = ControlStore(self.database, self.owner)
        alarm = Wakeup(self.database, CONTROLS, self.random, store.changes(), PACE)
        return Controls(self.live, store, alarm, Heeders(self.sizing, self.draining, self.wakeup.ring))

    def _dispatchers(self) -> tuple[Dispatcher, ...]:
        """One for each executor. What is told of a supervisor's pulse is that of the workers' one."""
        database = self.database
        services = Services(
            owner=self.owner,
            recorder=self.recorder,
            results=self.results,
            files=FileStore(database, self.collection),
            retention=self.retention,
            side_effects=SideEffects(database, self.collection, self.owner, REGISTRY, lambda: datetime.now(UTC)),
            random=self.random,
            on_ended=self.controls.note,
            on_recorded=self._on_recorded,
        )
        pulse = Pulse(self.outlets.manager.beat, lambda: self.outlets.health.beat(self.heartbeat.shown_phase.value))
        return tuple(
            Dispatcher(
                self.live, executor, ClaimStore(database, self.collection, self.owner), self.wakeup, services, pulse
            )
            for executor, pulse in ((self.pool, pulse), (self.coroutines, Pulse()))
        )

    async def _look(self) -> Outlook:
        return await self.candidates.outlook(self.live.claimable())

    def _on_recorded(self, change: Transition) -> None:
        self.live.count(change)
        self.batches.note(change)
        if change.run_in_s is not None:
            self.wakeup.ring_in(change.run_in_s)
