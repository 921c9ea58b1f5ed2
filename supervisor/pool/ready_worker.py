"""A worker with files of its own: from its start until it is given to a slot, or ended unused."""

from __future__ import annotations

import asyncio
from typing import Any

from supervisor.pool.files import SlotFiles
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.process import WorkerProcess, WorkerStartError
from supervisor.worker.main import WorkerPlan


class ReadyWorker:
    """`name` is that of its files; nobody else may have it while they are there."""

    def __init__(self, fork_server: ForkServer, name: str, nice: int) -> None:
        self.files = SlotFiles(fork_server.workspace, name)
        self.nice = nice
        plan = WorkerPlan(
            spool=str(self.files.spool),
            output=str(self.files.output.path),
            stacks=str(self.files.stacks.path),
            live_stacks=str(self.files.live_stacks.path),
            orders=str(self.files.orders.path),
            modules=fork_server.modules,
            nice=nice,
        )
        self.process = WorkerProcess(plan, fork_server)

    @property
    def process_ids(self) -> set[int]:
        """Its process id, as soon as there is one."""
        return {self.process.spawned_pid} - {0}

    async def start(self, spawning: asyncio.Lock) -> dict[str, Any]:
        """Start it and return its greeting. Raises WorkerStartError.

        `spawning` is held while there is a process whose id nobody knows yet.
        """
        try:
            self.files.make()
            await self.process.start(spawning)
        except BaseException as error:
            self.files.remove()
            if isinstance(error, OSError):  # no room, no descriptor left
                raise WorkerStartError(f"{type(error).__name__}: {error}") from error
            raise
        return self.process.greeting

    async def end(self) -> None:
        """End it with everything below it."""
        await self.process.close()
        self.files.remove()
