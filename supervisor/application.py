"""`Supervisor`: a supervisor inside of an application, in its event loop, for the length of an `async with` block."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import structlog

from supervisor import app
from supervisor.config.loading import Overrides, load
from supervisor.engine import Engine
from supervisor.errors import UsageError

log = structlog.get_logger("supervisor")


class Supervisor:
    """Claims and runs jobs while the block lasts; at its end it drains, as a supervisor does at TERM.

    A TERM or INT that comes while it drains skips the wait, beside whatever the application does then.

        @asynccontextmanager
        async def lifespan(app: FastAPI):
            async with Supervisor(mongo={"uri": MONGO_URI}, pool={"workers": 0}):
                yield

    `config` is a config.toml; without one, `./config.toml` is read if there is one. `tables` are tables of the same
    shape, which win over the file and the environment. `data_dir` is the home of the embedded database.

    Entering raises SupervisorError where it cannot start: ConfigError, HandlerImportError, DatabaseRefusedError,
    DatabaseUnreachableError, WorkersCannotStartError.
    """

    def __init__(
        self, config: Path | str | None = None, *, data_dir: Path | str | None = None, **tables: Mapping[str, Any]
    ) -> None:
        self._path = None if config is None else Path(config)
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._overrides = Overrides(tables=tables)
        self._around = AsyncExitStack()
        self._life: asyncio.Task[None] | None = None
        self._uri: str | None = None

    @property
    def mongo_uri(self) -> str:
        """The connection string of its database, for a client of the application's own; also of the embedded one.

        Within the block; close that client before its end. Raises UsageError before the block.
        """
        if self._uri is None:
            raise UsageError("mongo_uri: this Supervisor has not been entered: async with Supervisor(…) as supervisor")
        return self._uri

    @property
    def is_running(self) -> bool:
        """Whether it claims jobs and runs them."""
        return self._life is not None and not self._life.done()

    @property
    def failure(self) -> BaseException | None:
        """What it has died of, while the application goes on; for a health check."""
        life = self._life
        return life.exception() if life is not None and life.done() and not life.cancelled() else None

    async def __aenter__(self) -> Self:
        if self.is_running:
            raise UsageError("this Supervisor is running already; make another one for another block")
        loaded, environ = load(self._path, os.environ, self._overrides), dict(os.environ)
        async with AsyncExitStack() as around:
            surroundings = app.engine_of_application(loaded, environ, self._overrides, data_dir=self._data_dir)
            engine, self._uri = await around.enter_async_context(surroundings)
            self._life = asyncio.create_task(engine.run(), name="supervisor")
            around.push_async_callback(_end, engine, self._life)
            await _until_running(engine, self._life)
            self._around = around.pop_all()
        self._life.add_done_callback(_say_failed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._around.aclose()
        if error is None and self.failure is not None:
            raise self.failure


async def _until_running(engine: Engine, life: asyncio.Task[None]) -> None:
    """Return when jobs are being claimed; raise what kept that from happening."""
    running = asyncio.create_task(engine.running.wait())
    try:
        await asyncio.wait({running, life}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        running.cancel()
    if life.done():
        life.result()


async def _end(engine: Engine, life: asyncio.Task[None]) -> None:
    """Drain; when we are cancelled meanwhile, without waiting for the running jobs."""
    engine.stop()
    cancelled = False
    with _heard_beside(engine.stop, asyncio.get_running_loop()):
        while not life.done():
            try:
                await asyncio.wait({life})
            except asyncio.CancelledError:
                cancelled = True
                engine.stop()
    if cancelled:
        raise asyncio.CancelledError


@contextlib.contextmanager
def _heard_beside(hurry: Callable[[], None], loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Call `hurry` at each TERM and INT within the block, besides the handlers that the application has for them.

    uvicorn only notes a second Ctrl-C while the lifespan ends, and goes on waiting for it.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    theirs = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def hear(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(hurry)
        handler = theirs[signal.Signals(number)]
        assert callable(handler)
        handler(number, frame)

    heard = [number for number, handler in theirs.items() if callable(handler)]
    for number in heard:
        signal.signal(number, hear)
    try:
        yield
    finally:
        for number in heard:
            if signal.getsignal(number) is hear:  # else somebody has taken it over meanwhile
                signal.signal(number, theirs[number])


def _say_failed(life: asyncio.Task[None]) -> None:
    if not life.cancelled() and (error := life.exception()):
        log.error("supervisor.lost", error=f"{type(error).__name__}: {error}",
                  hint="no more jobs run in this application")  # fmt: skip
