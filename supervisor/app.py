"""A supervisor as a process: its database, its workspace, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import structlog
from pymongo.errors import PyMongoError

from supervisor import in_step, logs, service_manager
from supervisor.assembly import Database, Outlets, build
from supervisor.cancelling import mend_driver, mend_wait_for
from supervisor.config.checks import redact_uri
from supervisor.config.loading import LoadedConfig, Overrides
from supervisor.config.settings import LogSettings, Settings
from supervisor.config.watcher import ConfigWatcher
from supervisor.embedded.mongo import EmbeddedMongo
from supervisor.engine import Engine
from supervisor.errors import HandlerImportError, SupervisorError
from supervisor.health_file import open_health_file
from supervisor.http_service import listening
from supervisor.http_service.service import Door
from supervisor.limits import without_effect
from supervisor.pool.forkserver import OURS, ForkServer, fork_server
from supervisor.registry import REGISTRY, import_modules
from supervisor.service_manager import ServiceManager
from supervisor.store import schema
from supervisor.store.connection import connect
from supervisor.store.patience import first_line
from supervisor.workspace import open_workspace

log = structlog.get_logger("supervisor")

CLOSE_TIMEOUT_S = 2.0
HTTP_IN_AN_APPLICATION = (
    "[http] enabled = true has no effect in an application, which serves HTTP itself: "
    "app.include_router(supervisor.web.router(queue))"
)
T = TypeVar("T")


def run(loaded: LoadedConfig, environ: Mapping[str, str], overrides: Overrides, *, data_dir: Path | None = None) -> int:
    """Run a supervisor in the foreground until TERM or INT; return the exit code.

    The caller goes on to `leave`. Raises SupervisorError where it cannot start: a database that is not reachable or
    not safe, workers that die.
    """
    settings, environ = loaded.settings, dict(environ)
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]  # else what a coroutine starts would inherit the database's password
    manager = service_manager.take(os.environ)
    _configure_logs(settings.log)
    mend_wait_for()
    in_step.take_driver_along()
    for failure in import_modules(settings.pool.modules):
        log.error("handler.import_failed", module=failure.module, reason=failure.reason)
    _warn(loaded)
    sockets = _listen(settings)
    try:
        with (
            open_workspace() as workspace,
            open_health_file(environ) as health,
            _mongo_uri(settings, data_dir) as uri,
        ):
            workers = fork_server(settings, os.environ, workspace)
            # not asyncio.run: its end waits for tasks of the driver's that may hang while the database is away
            door = Door(sockets, uri) if sockets else None
            outlets = Outlets(manager, health, _configure_logs, give_up=lambda: leave(1), door=door)
            asyncio.Runner().run(_supervise(loaded, environ, overrides, uri, workers, outlets))
    except SupervisorError:
        raise
    except Exception:
        log.exception("supervisor.failed", hint="this is a bug; running jobs are left to their leases")
        return 1
    return 0


def _listen(settings: Settings) -> list[socket.socket]:
    """Take the address before anything is started that would have to be ended again."""
    if not settings.http.enabled:
        return []
    listening.load_server()
    return listening.listen(settings.http)


def _configure_logs(settings: LogSettings) -> None:
    logs.configure(settings.level, settings.format)


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
    workers: ForkServer,
    outlets: Outlets,
) -> None:
    settings = loaded.settings
    outlets.manager.status("waiting for the database")
    async with _database(settings, uri) as database:
        await _prepare_collection(database, settings.mongo.collection)
        engine = await build(loaded, database, workers, outlets)
        engine.watcher = ConfigWatcher(loaded, engine.on_config, environ, overrides)
        _install_signals(engine)
        await engine.run()


@contextlib.asynccontextmanager
async def engine_of_application(
    loaded: LoadedConfig, environ: Mapping[str, str], overrides: Overrides, *, data_dir: Path | None = None
) -> AsyncIterator[tuple[Engine, str]]:
    """Build an engine in a process that belongs to somebody else, with its database's URI; run it within the block.

    No signal handlers, no change of the environment or of logging, no end of the process. Raises SupervisorError.
    """
    settings = loaded.settings
    mend_driver()
    with logs.adopted(), open_workspace() as workspace, open_health_file(environ) as health:
        if failures := import_modules(settings.pool.modules):
            raise HandlerImportError(f"module {failures[0].module} cannot be imported: {failures[0].reason}")
        _warn(loaded)
        if settings.http.enabled:
            log.warning("config.warning", reason=HTTP_IN_AN_APPLICATION)
        async with _in_a_thread(_mongo_uri(settings, data_dir)) as uri, _database(settings, uri) as database:
            await _prepare_collection(database, settings.mongo.collection)
            workers = fork_server(settings, environ, workspace, _modules_of_handlers())
            outlets = Outlets(ServiceManager(), health, lambda _: None, workers.end, gives_up_database=False)
            engine = await build(loaded, database, workers, outlets)
            if loaded.path is not None:
                engine.watcher = ConfigWatcher(loaded, engine.on_config, environ, overrides)
            yield engine, uri


def _modules_of_handlers() -> tuple[str, ...]:
    """Return the modules that workers need for all handlers which the application has imported, wherever they are."""
    of_workers = [spec for spec in REGISTRY.handlers.values() if not spec.is_coroutine]
    for spec in of_workers:
        if spec.module == "__main__":
            raise HandlerImportError(
                f"handler {spec.name!r} is in the program that was started, which workers do not import: "
                "move it to a module, or make it an `async def`"
            )
    return tuple(sorted({spec.module for spec in of_workers}))


def _warn(loaded: LoadedConfig) -> None:
    """Say what is allowed in the configuration and yet likely to hurt, or does nothing."""
    for warning in [*loaded.warnings, *without_effect(REGISTRY.handlers, loaded.settings)]:
        log.warning("config.warning", reason=warning)


@contextlib.asynccontextmanager
async def _in_a_thread(manager: contextlib.AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and leave `manager` without holding up the event loop."""
    entering = asyncio.create_task(asyncio.to_thread(manager.__enter__))
    try:
        yield await asyncio.shield(entering)
    finally:
        await asyncio.wait({entering})  # a thread goes on when who waits for it is cancelled
        if entering.exception() is None:
            await asyncio.to_thread(manager.__exit__, None, None, None)


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


def _install_signals(engine: Engine) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, engine.stop)
    loop.add_signal_handler(signal.SIGINT, engine.stop)
    loop.add_signal_handler(signal.SIGHUP, engine.reload)
    loop.add_signal_handler(signal.SIGTTIN, engine.resize_by, 1)
    loop.add_signal_handler(signal.SIGTTOU, engine.resize_by, -1)
    loop.add_signal_handler(signal.SIGUSR1, engine.log_state)
