"""What the options in front of or behind a command say, and the configuration and database they lead to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from supervisor import logs
from supervisor.cli.printing import warn
from supervisor.client.operator import OperatorQueue
from supervisor.client.queue import reachable
from supervisor.config.loading import LoadedConfig, Overrides, load
from supervisor.config.settings import Settings
from supervisor.registry import REGISTRY, Registry, import_modules
from supervisor.store import schema
from supervisor.store.connection import connect, explain_connection_error
from supervisor.store.schedules import last_runs

WAIT_S = 5.0
"""How long every command but `run` waits for the database, in seconds."""


@dataclass
class Session:
    """The global options; None is "not given"."""

    config: Path | None = None
    workers: int | None = None
    mongo: str | None = None
    data_dir: Path | None = None
    debug: bool = False

    def overrides(self) -> Overrides:
        """Return what the options set in the configuration."""
        return Overrides(self.workers, self.mongo)

    def load(self) -> LoadedConfig:
        """Load the configuration; raises ConfigError with a line per problem."""
        return load(self.config, os.environ, self.overrides())

    @contextlib.contextmanager
    def connect(self, settings: Settings | None = None, registry: Registry | None = None) -> Iterator[Database]:
        """Connect to the configured database. Raises SupervisorError for whatever goes wrong with it."""
        settings = self.load().settings if settings is None else settings
        logs.configure("warning", "auto")
        mongo = settings.mongo
        try:
            with (
                reachable(mongo.uri, self.data_dir, WAIT_S) as uri,
                OperatorQueue.connect(
                    uri, mongo.database, mongo.collection, registry, settings.limits.payload_kb, wait_s=WAIT_S
                ) as queue,
            ):
                yield Database(uri, settings, queue)
        except PyMongoError as error:
            raise explain_connection_error(error, mongo.uri, WAIT_S) from error


@dataclass(frozen=True)
class Database:
    """The jobs that a command works on, and the preparation of their collection."""

    uri: str
    settings: Settings
    queue: OperatorQueue

    def prepare(self) -> list[str]:
        """Create indexes and validator where they are missing; return what was done, in words."""
        done: list[str] = self._ask(schema.ensure)
        return done

    def missing_indexes(self) -> list[schema.Index]:
        """Return those of our indexes that the collection lacks."""
        missing: list[schema.Index] = self._ask(schema.missing_indexes)
        return missing

    def last_runs(self, schedules: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return {tick, job_id, made_at, status} of the latest job of each named schedule that has made one."""

        async def ask(database: AsyncDatabase[dict[str, Any]], collection: str) -> dict[str, dict[str, Any]]:
            return await last_runs(database, collection, schedules)

        runs: dict[str, dict[str, Any]] = self._ask(ask)
        return runs

    def _ask(self, question: Callable[[AsyncDatabase[dict[str, Any]], str], Awaitable[Any]]) -> Any:
        mongo = self.settings.mongo

        async def ask() -> Any:
            database = await connect(self.uri, mongo.database, wait_s=WAIT_S)
            try:
                return await question(database, mongo.collection)
            finally:
                await database.client.close()

        return asyncio.run(ask())


def handlers_of(settings: Settings) -> tuple[Registry, list[str]]:
    """Import the configured modules; return their handlers, and a line for each module that cannot be imported."""
    logs.configure("warning", "auto")
    failures = import_modules(settings.pool.modules)
    return REGISTRY, [f"module {failure.module} cannot be imported: {failure.reason}" for failure in failures]


def warn_of_loading(loaded: LoadedConfig) -> None:
    """Say on stderr what is allowed in the configuration and yet likely to hurt."""
    for line in loaded.warnings:
        warn(line)


pass_session = click.make_pass_decorator(Session, ensure=True)
