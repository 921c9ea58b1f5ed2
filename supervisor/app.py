"""The composition root: builds the real store, pool and watcher, runs them, and decides nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from supervisor import __version__, host, logs, service_manager
from supervisor.batches import Batches
from supervisor.cancelling import mend_wait_for
from supervisor.config.checks import redact_uri
from supervisor.config.loading import LoadedConfig, Overrides
from supervisor.config.not_in_force import keys_not_in_force
from supervisor.config.settings import Settings
from supervisor.config.watcher import ConfigWatcher
from supervisor.controls import POLL_S as CONTROLS_POLL_S
from supervisor.controls import Controls, Heeders
from supervisor.core.transitions import Transition
from supervisor.dispatcher import Dispatcher
from supervisor.draining import Draining
from supervisor.embedded.mongo import EmbeddedMongo
from supervisor.errors import SupervisorError
from supervisor.execution import Services
from supervisor.health_file import HealthFile, open_health_file
from supervisor.heartbeat import Heartbeat
from supervisor.lease_keeper import LeaseKeeper
from supervisor.live import Live
from supervisor.pool import forkserver
from supervisor.pool.limits import PoolLimits
from supervisor.pool.pool import WorkerPool
from supervisor.pulse import Pulse
from supervisor.reaper import Reaper, Retention
from supervisor.recorder import Recorder
from supervisor.registry import REGISTRY, import_modules
from supervisor.scheduler import Scheduler
from supervisor.service_manager import ServiceManager
from supervisor.side_effects import SideEffects
from supervisor.sizing import Sizing
from supervisor.status_line import StatusLine
from supervisor.store import schema
from supervisor.store.batches import BatchStore
from supervisor.store.candidates import Candidates
from supervisor.store.claims import ClaimStore, Owner
from supervisor.store.connection import connect
from supervisor.store.controls import COLLECTION as CONTROLS
from supervisor.store.controls import ControlStore
from supervisor.store.counts import CountStore
from supervisor.store.files import FileStore
from supervisor.store.leases import LeaseStore
from supervisor.store.patience import first_line
from supervisor.store.presence import PresenceStore
from supervisor.store.results import ResultStore
from supervisor.store.retention import RetentionStore
from supervisor.store.schedules import ScheduleStore
from supervisor.supervisor import Parts, Supervisor
from supervisor.wakeup import Wakeup
from supervisor.workspace import open_workspace

log = structlog.get_logger("supervisor")

CLOSE_TIMEOUT_S = 2.0
Database = AsyncDatabase[dict[str, Any]]


@dataclass(frozen=True)
class Surroundings:
    """What a supervisor has around it before its database."""

    workspace: Path
    manager: ServiceManager
    health: HealthFile

    def pulse(self, heartbeat: Heartbeat) -> Pulse:
        """Return the claim loop's pulse, told on to the service manager and to `health`."""
        return Pulse(self.manager.beat, lambda: self.health.beat(heartbeat.shown_phase.value))


def run(loaded: LoadedConfig, environ: Mapping[str, str], overrides: Overrides, *, data_dir: Path | None = None) -> int:
    """Run a supervisor in the foreground until TERM or INT; return the exit code.

    The caller goes on to `leave`. Raises SupervisorError where it cannot start: a database that is not reachable or
    not safe, workers that die.
    """
    settings, environ = loaded.settings, dict(environ)  # `prepare` takes our variables out of the real one
    manager = service_manager.take(os.environ)
    logs.configure(settings.log.level, settings.log.format)
    mend_wait_for()
    for warning in loaded.warnings:
        log.warning("config.warning", reason=warning)
    if keys := keys_not_in_force(settings):
        log.warning("config.not_in_force", keys=keys)
    for failure in import_modules(settings.pool.modules):
        log.error("handler.import_failed", module=failure.module, reason=failure.reason)
    try:
        with (
            open_workspace() as workspace,
            open_health_file(environ) as health,
            _mongo_uri(settings, data_dir) as uri,
        ):
            forkserver.prepare(settings, environ, workspace)
            # not asyncio.run: its end waits for tasks of the driver's that may hang while the database is away
            asyncio.Runner().run(_supervise(loaded, environ, overrides, uri, Surroundings(workspace, manager, health)))
    except SupervisorError:
        raise
    except Exception:
        log.exception("supervisor.failed", hint="this is a bug; running jobs are left to their leases")
        return 1
    return 0


def leave(code: int) -> None:
    """End this process now. A hung worker's executor would make the interpreter's own exit wait for it for ever."""
    gc.collect()  # lets go of the last executors' semaphores, which nobody would unlink otherwise
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def _mongo_uri(settings: Settings, data_dir: Path | None) -> Iterator[str]:
    if not settings.mongo.embedded:
        yield settings.mongo.uri
        return
    with EmbeddedMongo(data_dir, settings.mongo.wait_s) as mongo:
        yield mongo.uri


async def _supervise(
    loaded: LoadedConfig,
    environ: Mapping[str, str],
    overrides: Overrides,
    uri: str,
    around: Surroundings,
) -> None:
    settings = loaded.settings
    around.manager.status("waiting for the database")
    async with _database(settings, uri) as database:
        await _prepare_collection(database, settings.mongo.collection)
        supervisor = await _build(loaded, database, around)
        supervisor.watcher = ConfigWatcher(loaded, supervisor.on_config, environ, overrides)
        _install_signals(supervisor)
        await supervisor.run()


@contextlib.asynccontextmanager
async def _database(settings: Settings, uri: str) -> AsyncIterator[Database]:
    database = await connect(uri, settings.mongo.database, wait_s=settings.mongo.wait_s)
    log.info("database.connected", uri=redact_uri(uri), database=settings.mongo.database)
    try:
        yield database
    finally:
        # with the database away, the driver's own close may wait for it for ever
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await database.client.close()


async def _prepare_collection(database: Database, collection: str) -> None:
    """Create what an empty collection lacks; of one with jobs in it, only say what is missing."""
    try:
        if await schema.is_empty(database, collection):
            for step in await schema.ensure(database, collection):
                log.info("database.prepared", step=step)
            return
        for index in await schema.missing_indexes(database, collection):
            log.warning("database.index_missing", index=index.name, without_it_suffers=index.purpose,
                        hint="run: python -m supervisor init")  # fmt: skip
    except PyMongoError as error:  # a member may be down; that is no reason not to work
        log.warning("database.not_prepared", reason=first_line(error), hint="run: python -m supervisor init")


async def _build(loaded: LoadedConfig, database: Database, around: Surroundings) -> Supervisor:
    """Put the parts together. Randomness and wall-clock time enter here."""
    settings, collection = loaded.settings, loaded.settings.mongo.collection
    rng = random.SystemRandom().random
    me = host.identity()
    owner = Owner(f"{me['host']}-{os.getpid()}-{uuid.uuid4().hex[:8]}", me["host"])
    live = Live(settings, REGISTRY.handlers)
    pool = WorkerPool(around.workspace, settings.pool.modules, PoolLimits(), rng)
    leases, results = LeaseStore(database, collection, owner), ResultStore(database, collection)
    claims, presence = ClaimStore(database, collection, owner), PresenceStore(database, owner.supervisor)
    recorder, wakeup = Recorder(results), Wakeup(database, collection, rng)
    retention, control_store = RetentionStore(database, collection), ControlStore(database, owner)
    controls_alarm = Wakeup(database, CONTROLS, rng, control_store.changes(), CONTROLS_POLL_S)
    heartbeat = Heartbeat(live, pool, presence, {**me, "version": __version__})
    sizing, draining = Sizing(live, pool, heartbeat.soon), Draining(live, heartbeat.soon)
    controls = Controls(live, pool, control_store, controls_alarm, Heeders(sizing, draining, wakeup.ring))
    batches = Batches(BatchStore(database, collection))
    on_recorded = _tellers(live, controls, batches, wakeup)
    side_effects = SideEffects(database, collection, owner, REGISTRY, lambda: datetime.now(UTC))
    files = FileStore(database, collection)
    services = Services(owner, pool, recorder, results, files, retention, side_effects, rng, on_recorded)
    reaper = Reaper(live, leases, results, Candidates(database, collection), presence, rng)
    log.info("supervisor.starting", id=owner.supervisor, version=__version__, pid=os.getpid())
    await _take_over(reaper, me["host"])
    parts = Parts(
        live=live,
        pool=pool,
        dispatcher=Dispatcher(live, claims, wakeup, services, around.pulse(heartbeat)),
        recorder=recorder,
        lease_keeper=LeaseKeeper(live, leases, recorder, owner),
        controls=controls,
        sizing=sizing,
        draining=draining,
        reaper=reaper,
        batches=batches,
        retention=Retention(live, retention),
        scheduler=Scheduler(live, ScheduleStore(database, collection), rng),
        wakeup=wakeup,
        heartbeat=heartbeat,
        presence=presence,
        manager=around.manager,
        health=around.health,
        status_line=StatusLine(live, pool, heartbeat, CountStore(database, collection), around.manager),
    )
    return Supervisor(parts, loaded)


async def _take_over(reaper: Reaper, our_host: str) -> None:
    """Give back what supervisors that died on this host have left."""
    with contextlib.suppress(PyMongoError):  # their leases expire in any case
        await reaper.believe_clock()
        await reaper.release_dead_predecessors(our_host)


def _tellers(live: Live, controls: Controls, batches: Batches, wakeup: Wakeup) -> Callable[[Transition], None]:
    """Return what to do with every recorded attempt."""

    def tell(change: Transition) -> None:
        live.count(change)
        controls.note(change)
        batches.note(change)
        if change.run_in_s is not None:
            wakeup.ring_in(change.run_in_s)

    return tell


def _install_signals(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, supervisor.stop)
    loop.add_signal_handler(signal.SIGINT, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    loop.add_signal_handler(signal.SIGTTIN, supervisor.resize_by, 1)
    loop.add_signal_handler(signal.SIGTTOU, supervisor.resize_by, -1)
    loop.add_signal_handler(signal.SIGUSR1, supervisor.log_state)
