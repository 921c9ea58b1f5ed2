"""Watching the event loop from a thread: who holds it up, since when, and whether leases will be lost by it.

The thread asks the loop for a sign of life while jobs run. When none comes, it looks at what the loop's thread is doing
at that moment: its current task tells the job, or else its frames tell the handler's module. What holds the interpreter
lock keeps this thread from looking as well; that shows afterwards, in how long a coroutine's step has taken.

While the loop stands still nobody renews leases, and nobody stops the workers whose leases run out. So at that moment
the thread gives up in the loop's place.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping

import structlog

from supervisor.coroutines import stacks
from supervisor.coroutines.runner import LoopRunner
from supervisor.execution import boot_time_s
from supervisor.lease_keeper import LeaseKeeper
from supervisor.registry import HandlerSpec
from supervisor.worker.wire import Call

log = structlog.get_logger("supervisor.loop")

LOOK_EVERY_S = 0.05
HANDLER_LOOKS = 2
"""Looks without a sign of life, after which a handler is told; two, since the process may just have been stopped."""
OTHER_LOOKS = 20
"""The same for what is no handler: our own work, or the application's."""
AGAIN_AFTER_S = 60.0
"""The same place is told again after this time."""


class LoopWatch:
    """Runs the thread. `give_up` is called in it, once, when the first lease can no longer be kept."""

    def __init__(
        self, runner: LoopRunner, leases: LeaseKeeper, handlers: Mapping[str, HandlerSpec], give_up: Callable[[], None]
    ) -> None:
        self._runner = runner
        self._leases = leases
        self._handlers = handlers
        self._give_up = give_up
        self._stopping = threading.Event()
        self._told_at: dict[str, float] = {}
        self._telling = False
        """The block that lasts now has been told."""

    async def run(self) -> None:
        """Watch the running loop until cancelled."""
        self._loop, self._loop_thread = asyncio.get_running_loop(), threading.get_ident()
        self._runner.on_slow_step = self.note_slow_step
        thread = threading.Thread(target=self._watch, name="supervisor-loop-watch", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stopping.set()
            self._runner.busy.set()
            thread.join()  # it looks every few milliseconds, and takes no lock of the loop's

    def note_slow_step(self, call: Call, took_s: float) -> None:
        """Take how long a coroutine has held the loop up; what the thread has told already is told."""
        if not self._telling and self._is_news(call.handler):
            log.warning("loop.blocked", handler=call.handler, job_id=str(call.job_id), blocked_s=round(took_s, 2),
                        hint="it held the interpreter lock, so nobody could look where")  # fmt: skip

    def _watch(self) -> None:
        while not self._stopping.is_set():
            if not self._leases.in_use():
                self._runner.busy.wait(1.0)
                continue
            sign, asked_at = threading.Event(), time.monotonic()
            try:
                self._loop.call_soon_threadsafe(sign.set)
            except RuntimeError:  # the loop is closed: an application that did not wait for our end
                return
            if not sign.wait(LOOK_EVERY_S):
                self._look_until(sign, asked_at)
            self._stopping.wait(LOOK_EVERY_S)

    def _look_until(self, sign: threading.Event, asked_at: float) -> None:
        """Look on until the loop gives the sign that it was asked for."""
        looks, gave_up, told = 1, False, ""
        while not sign.wait(LOOK_EVERY_S) and not self._stopping.is_set():
            looks += 1
            if not told and looks >= HANDLER_LOOKS:
                told = self._tell(time.monotonic() - asked_at, strangers=looks >= OTHER_LOOKS)
            if not gave_up and looks >= OTHER_LOOKS and self._lease_left_s() <= 0:
                gave_up = True
                log.error("loop.given_up", blocked_s=round(time.monotonic() - asked_at, 1), jobs=self._leases.in_use(),
                          hint="leases cannot be renewed; workers are ended before others may take their jobs",
                          )  # fmt: skip
                self._give_up()
        self._telling = False
        if told:
            log.warning("loop.unblocked", where=told, blocked_s=round(time.monotonic() - asked_at, 2))

    def _tell(self, blocked_s: float, *, strangers: bool) -> str:
        """Say who holds the loop up, if it is a handler or `strangers` count; return the place that was told."""
        frames, stack = stacks.of_thread(self._loop_thread)
        if not frames or stacks.is_of_the_loop(frames[0]):  # it waits for events, or for the machine to give it time
            return ""
        call, place = self._runner.running_in(asyncio.current_task(self._loop)), frames[0]
        handler = call.handler if call else None
        for frame in frames:
            if names := self._coroutines_in(stacks.module_of(frame)):
                handler, place = handler or " or ".join(sorted(names)), frame
                break
        if handler is None and not strangers:
            return ""
        where = stacks.place(place)
        if not self._is_news(where):
            return ""
        self._telling = True
        log.warning("loop.blocked", handler=handler, job_id=call and str(call.job_id), blocked_s=round(blocked_s, 2),
                    where=where, lease_left_s=round(self._lease_left_s(), 1), stack=stack)  # fmt: skip
        return where

    def _coroutines_in(self, module: str) -> list[str]:
        return [name for name, spec in self._handlers.items() if spec.is_coroutine and spec.module == module]

    def _is_news(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._told_at.get(what, -AGAIN_AFTER_S) < AGAIN_AFTER_S:
            return False
        self._told_at[what] = now
        return True

    def _lease_left_s(self) -> float:
        return self._leases.first_end() - boot_time_s()
