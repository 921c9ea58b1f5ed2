"""One worker process behind one single-worker executor: its start, its death, its end.

One executor per worker, because in a shared one a killed worker fails the futures of all. At most one future at a
time, and never a cancelled one. Deaths are seen through a pidfd of our own, whatever the executor's thread is doing.
Once the worker has shaken hands we close our copy of the result pipe's writing end: as long as we hold it, a worker
killed in the middle of a result leaves the executor's thread waiting for the rest for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import bson
import structlog

from supervisor import process_tree
from supervisor.pool.channel import SlotChannel
from supervisor.pool.context import SafeContext
from supervisor.pool.forkserver import ForkServer
from supervisor.proc import start_ticks
from supervisor.process_tree import TreeUsage
from supervisor.worker import main as child
from supervisor.worker.obituaries import take
from supervisor.worker.tickets import Tickets

log = structlog.get_logger("supervisor.pool.slot")

_WAKE_TIMEOUT_S = 5.0
_JOIN_TIMEOUT_S = 2.0
_DRAIN_TIMEOUT_S = 1.0


class WorkerStartError(Exception):
    """A worker died or stayed silent before it could take a job; the message says why."""


@dataclass(frozen=True)
class Exit:
    """How a worker ended."""

    code: int | None
    """Its exit code, negative for a signal, None if unknown."""
    untold: bool
    """The fork server ended before it could tell. Then it was that death which ended the worker, since every executor
    ends its worker when it can no longer hear of it."""
    used: TreeUsage | None
    """What it had used in all its life."""
    unbegun: int
    """How many of the jobs that it was given it had not begun."""


class WorkerProcess:
    """A worker from its start to its end; a new one is made for every new process."""

    def __init__(self, plan: child.WorkerPlan, fork_server: ForkServer) -> None:
        self.plan = plan
        self.on_message: Callable[[dict[str, Any]], None] = lambda _message: None
        """Hears what the worker says from its handshake on."""
        self.pid = 0
        """The process id, from the handshake on."""
        self.spawned_pid = 0
        """The process id, from the fork on."""
        self.greeting: dict[str, Any] = {}
        self.died: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.channel = SlotChannel(self._take, self._silence)
        self._tickets: Tickets | None = None
        self._unbegun = 0
        self._fork_server = fork_server
        self._broken: str | None = None
        self._hook: str | None = None
        self._executor: ProcessPoolExecutor | None = None
        self._process: Any = None
        self._manager: threading.Thread | None = None
        self._exit: Exit | None = None
        self._pidfd = -1
        self._ending: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it has shaken hands and not died since."""
        return self.pid > 0 and not self.died.done()

    async def start(self, spawning: asyncio.Lock) -> None:
        """Start the process and wait for its handshake. Raises WorkerStartError.

        `spawning` is held until the process id is known. A fork server that does not make the process in time is
        killed, and replaced at the next start.
        """
        try:
            self._tickets = Tickets()
            ours, theirs = socket.socketpair()
        except OSError as error:  # no file descriptor left
            await self._discard()
            raise WorkerStartError(f"{type(error).__name__}: {error}") from error
        try:
            await self.channel.open(ours)
            self._executor = ProcessPoolExecutor(
                max_workers=1,
                mp_context=SafeContext(self._fork_server),
                initializer=child.initialize,
                initargs=(self.plan, theirs, self._tickets),
            )
            self.greeting = bson.decode(await self._shake_hands(self._executor, spawning))
            self._process = next(iter(self._executor._processes.values()))  # noqa: SLF001 - the executor names no pid
            self._watch_death(int(self._process.pid), self.greeting)
            _result_writer(self._executor).close()
        except (BrokenProcessPool, OSError, EOFError, RuntimeError, StopIteration) as error:
            await self.channel.drain(_DRAIN_TIMEOUT_S)
            await self._discard()
            raise WorkerStartError(self._broken or f"{type(error).__name__}: {error}{self._where()}") from error
        except asyncio.CancelledError:
            await self._discard()
            raise
        finally:
            theirs.close()

    def submit(self, calls: Sequence[bytes]) -> asyncio.Future[bytes]:
        """Hand encoded calls to the worker, with a ticket for each; the future fails when it dies."""
        assert self._executor is not None, "start() comes first"
        assert self._tickets is not None, "as above"
        self._tickets.issue(len(calls))  # first: a worker that finds none goes on to the next group
        try:
            future = asyncio.wrap_future(self._executor.submit(child.run_handlers, b"".join(calls)))
        except BrokenProcessPool as error:  # it died while it was idle
            future = asyncio.get_running_loop().create_future()
            future.set_exception(error)
        _expect_failure(future)
        return future

    def withdraw(self) -> int:
        """Take back the tickets that the worker has not taken; as many of the last calls will not begin."""
        return 0 if self._tickets is None else self._tickets.withdraw()

    def signal(self, number: int) -> None:
        """Send a signal to the worker itself; by its pidfd, so that it cannot reach a process with a recycled id."""
        with contextlib.suppress(ProcessLookupError):
            if self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)

    async def kill(self) -> None:
        """SIGKILL the worker and everything below it, and wait until it is gone."""
        if self.alive:
            await asyncio.to_thread(process_tree.kill_tree, self.pid, self.greeting["started"])
            await asyncio.shield(self.died)

    async def close(self) -> Exit:
        """End what is left of it after its death, and return what is known of that."""
        await self.kill()
        await self.channel.drain(_DRAIN_TIMEOUT_S)
        self._unbegun += self.withdraw()
        await self._discard()
        if self._exit is not None:  # another close() was faster
            return self._exit
        popen = None if self._process is None else self._process._popen  # noqa: SLF001 - .exitcode hides what is untold
        code = None if popen is None else popen.poll()
        untold = popen is not None and popen.untold
        used = take(self._fork_server.obituaries, self.pid)
        if code is not None and self._manager is None:
            self._process.close()  # its pipes; left to the garbage collector, they pile up
        self._exit = Exit(None if untold else code, untold, used and TreeUsage(*used), self._unbegun)
        return self._exit

    def _where(self) -> str:
        """Say at what a start has failed, if anybody knows."""
        if self._hook is not None:
            return f" (in the setup hook {self._hook})"
        at = self._fork_server.notes.at
        return f" (the fork server was loading {at})" if at else ""

    async def _shake_hands(self, executor: ProcessPoolExecutor, spawning: asyncio.Lock) -> bytes:
        async with spawning:
            future = await self._spawn(executor, self._fork_server.answer_timeout_s)
            self.spawned_pid = next(iter(executor._processes), 0)  # noqa: SLF001 - the executor names no pid
        answer = asyncio.wrap_future(future)
        _expect_failure(answer)
        await asyncio.wait({answer}, timeout=self._fork_server.load_timeout_s)
        if not answer.done():
            raise TimeoutError(f"no handshake within {self._fork_server.load_timeout_s:g} s")
        return answer.result()

    async def _spawn(self, executor: ProcessPoolExecutor, limit_s: float) -> Future[bytes]:
        """Submit the handshake, which starts the process, in a thread: it waits for a fork server that may hang."""
        submitted = asyncio.create_task(asyncio.to_thread(executor.submit, child.hello))
        _expect_failure(submitted)
        try:
            await asyncio.wait({submitted}, timeout=limit_s)
        except asyncio.CancelledError:  # we are being stopped
            self._fork_server.kill()
            await asyncio.wait({submitted}, timeout=_WAKE_TIMEOUT_S)
            raise
        if not submitted.done():
            self._fork_server.kill()
            await asyncio.wait({submitted}, timeout=_WAKE_TIMEOUT_S)
            raise TimeoutError(f"the fork server made no process within {limit_s:g} s")
        return submitted.result()

    def _silence(self) -> None:
        """End a worker that sends nonsense: nothing more that it says could be believed."""
        self._ending = asyncio.create_task(self.kill(), name="end a worker")

    def _take(self, message: dict[str, Any]) -> None:
        if "broken" in message:
            self._broken = str(message["broken"])
        elif "setup" in message:
            self._hook = message["setup"] and str(message["setup"])[:200]
        else:
            self.on_message(message)

    def _watch_death(self, pid: int, greeting: dict[str, Any]) -> None:
        """Hold the process by a descriptor. Raises ProcessLookupError where its id is no longer its own."""
        pidfd = os.pidfd_open(pid)
        if (pid, start_ticks(pid)) != (greeting["pid"], greeting["started"]):
            os.close(pidfd)
            raise ProcessLookupError(f"the worker that said hello is gone, and process {pid} is another one")
        self._pidfd, self.pid = pidfd, pid
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_death)

    def _on_death(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        if not self.died.done():
            self.died.set_result(None)

    async def _discard(self) -> None:
        """Let go of the executor without ever waiting for a thread of it that hangs."""
        if self._executor is not None:
            # kept: another close() of the same worker may be under way, and the executor forgets its thread at once
            manager = self._manager = self._manager or _manager_thread(self._executor)
            ends = _pipe_ends(self._executor)
            self._kill_unwatched(self._executor)
            # in a thread: it takes a lock that a submit() to a hung fork server holds
            letting_go = asyncio.create_task(asyncio.to_thread(self._executor.shutdown, wait=False))
            await asyncio.wait({letting_go}, timeout=_JOIN_TIMEOUT_S)
            if manager is not None:
                await asyncio.to_thread(manager.join, _JOIN_TIMEOUT_S)
                if not manager.is_alive():
                    self._manager = None  # it holds the executor's semaphores
                    for end in ends:
                        end.close()
        await self.channel.close()
        if self._tickets is not None:
            self._tickets.close()
            self._tickets = None
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _kill_unwatched(self, executor: ProcessPoolExecutor) -> None:
        """Kill a process that never shook hands, and so never got a pidfd."""
        if self._pidfd < 0:
            for pid in list(executor._processes or {}):  # noqa: SLF001 - as above
                process_tree.kill_tree(pid, self.greeting.get("started"))


def _expect_failure(future: asyncio.Future[Any]) -> None:
    """Have an error that comes when nobody waits any more pass in silence; asyncio would print a traceback of it."""
    future.add_done_callback(lambda late: late.cancelled() or late.exception())


def _result_writer(executor: Any) -> Any:
    return executor._result_queue._writer  # noqa: SLF001 - see the module's docstring


def _pipe_ends(executor: Any) -> list[Any]:
    """Return our ends of the executor's pipes; it leaves some of them to the garbage collector. None after its end."""
    queues = (executor._call_queue, executor._result_queue)  # noqa: SLF001 - as above
    return [end for queue in filter(None, queues) for end in (queue._reader, queue._writer)]  # noqa: SLF001


def _manager_thread(executor: Any) -> threading.Thread | None:
    thread: threading.Thread | None = executor._executor_manager_thread  # noqa: SLF001 - it is what must have ended
    return thread
